//! GoTel, a dead-man's switch for scheduled jobs.

pub mod reservation;
