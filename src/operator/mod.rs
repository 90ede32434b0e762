//! Reservations as Kubernetes objects.

pub mod crd;
