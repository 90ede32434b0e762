//! What the coordinator makes of reservations and time, on every database.

mod bound;
mod clock_jump;
mod evaluate;
mod fence;
mod loops;
mod outage;
