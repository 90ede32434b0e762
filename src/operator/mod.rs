//! Reservations as Kubernetes objects.

pub mod brake;
pub mod bucket;
pub mod crd;
pub mod diff;
pub mod spec;
pub mod words;
