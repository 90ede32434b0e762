//! The documentation, run: every command in it is typed into a real shell, against a real server, and what it
//! is said to answer is compared with what it answers.
//!
//! A document is a script. Its fenced blocks say by their words what they are:
//!
//! - `sh`: run it, in order; it must succeed. A block that starts a server (`make run`, `gotel serve …`) is a
//!   terminal of its own that stays open.
//! - `text answer`, `json answer`: what the block before printed.
//! - `text terminal`: lines that the server's terminal shows by now, or within half a minute.
//! - anything else is only read.
//!
//! Moments, ids and the like differ from run to run and are not compared; `…` stands for anything.

mod commands;
mod compare;
mod examples;
mod kubernetes;
mod links;
mod markdown;
mod payloads;
mod scripts;
mod story;
pub mod workshop;
