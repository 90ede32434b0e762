//! The check-in path: from an HTTP request to a committed row.
//!
//! Promises: `Ok` from [`Queue::submit`] means committed. The queue is bounded, in places and in time: what does not
//! fit, or would wait too long at the pace of the last batch, is refused at once rather than answered late. Whatever arrives during one commit
//! forms the next batch (natural group commit): one client pays one transaction, 256 clients share one.
//! An item that cannot be stored fails alone.
//!
//! Races: a batch that fails with a timeout may have been committed; its clients hear 503 and try again,
//! and a check-in stored twice does no harm. A caller that goes away meanwhile does not stop the write.

mod queue;
mod writer;

pub use queue::{Queue, Refusal};
pub use writer::{sink, start};
