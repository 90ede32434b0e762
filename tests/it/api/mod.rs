//! The HTTP API and the pages, as a client and a browser meet them.

mod auth;
mod bad_input;
mod checkin;
mod health;
mod original;
mod pages;
mod reservation;
mod snooze;
