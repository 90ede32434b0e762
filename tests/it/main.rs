//! The integration tests: GoTel as its users meet it, on every database, in good weather and bad.

mod alert;
mod api;
mod coordinator;
mod harness;
mod store;
mod util;
