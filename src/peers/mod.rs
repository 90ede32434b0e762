//! The other replicas: who they are, how they are, and what is said about it.
//!
//! Promises: each replica watches all others by two ways that fail apart, the row that each writes into the
//! database each second and a signed heartbeat over HTTP; a pure `verdict` tells what the two together
//! mean; what a person has to know becomes a system incident with one open row, however many replicas see it.
//! When the database itself is gone, alerters are told without it (`direct`).
//!
//! Does not promise: anything about safety. Who may coordinate is the lease's matter (`store::lease`).
//!
//! The parts, each a `step()` and a loop or pure:
//!
//! | module | what it is |
//! |---|---|
//! | `beat` | this replica's row, each second; the rows of all |
//! | `frame` | heartbeats as bytes: signed, and good for one use; pure |
//! | `listener` | takes heartbeats, on an address of its own |
//! | `caller` | sends one to each peer each 2 s |
//! | [`sight`] | what all of them came to: the types; pure |
//! | `verdict` | what that means; pure |
//! | `watch` | gathers the evidence, tells findings, shows them on the board |
//! | [`solo`] | the sight of a replica without peers |
//! | [`direct`] | alerts that need no database |
//! | [`external`] | the heartbeat to whoever monitors GoTel |

pub mod direct;
pub mod external;
pub mod sight;
pub mod solo;
