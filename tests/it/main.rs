//! The integration tests: GoTel as its users meet it, on every database, in good weather and bad.

mod alert;
mod api;
mod chart;
mod coordinator;
mod docs;
mod faults;
mod ha;
mod harness;
mod operator;
mod pages;
mod peers;
mod store;
mod util;
