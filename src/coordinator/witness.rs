//! What the loops find, for those who must know it without asking the database.

use crate::reservation::routing::Target;
use crate::store::SystemKind;

/// Hears what the loops find. Nothing here may wait.
pub trait Witness: std::fmt::Debug + Send + Sync {
    /// The mark that says when a check-in could last be accepted was written, or could not be.
    fn database(&self, takes_writes: bool);

    /// This replica leads and has completed an evaluation: everything due was examined and committed.
    fn evaluated(&self);

    /// Whether `target` hears in another way of the outage that has just ended.
    fn hears_of_outage(&self, target: &Target) -> bool;

    /// A finding cannot be written down; said again with each try, until it is [`Witness::settled`].
    fn unwritten(&self, kind: SystemKind, subject: &str, text: &str);

    /// It was written down, or is no longer so.
    fn settled(&self, kind: SystemKind, subject: &str);
}

/// Nobody.
impl Witness for () {
    fn database(&self, _: bool) {}
    fn evaluated(&self) {}
    fn hears_of_outage(&self, _: &Target) -> bool {
        false
    }
    fn unwritten(&self, _: SystemKind, _: &str, _: &str) {}
    fn settled(&self, _: SystemKind, _: &str) {}
}
