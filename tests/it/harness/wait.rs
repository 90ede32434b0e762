//! Tests of [`crate::util::wait`].

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

use super::{A_WHILE, SOON};
use crate::util::wait::eventually;

#[tokio::test]
async fn waiting_ends_as_soon_as_the_condition_holds() {
    let mut looks = 0;
    let value = eventually(SOON, "the third look", async || {
        looks += 1;
        (looks == 3).then_some("there")
    })
    .await;
    assert_eq!((value, looks), ("there", 3));
}

#[tokio::test]
async fn waiting_in_vain_says_for_what_and_what_was_seen_last() {
    let waiting = eventually(A_WHILE, "godot", async || Err::<(), _>("a boy with a message"));
    let message = panic_of(waiting).await;
    assert!(message.contains("in vain for godot; last seen: a boy with a message"), "{message}");
    assert!(message.contains("wait.rs:"), "{message}");
}

#[tokio::test]
async fn a_look_that_hangs_does_not_outlast_the_deadline() {
    let hanging = eventually(A_WHILE, "an answer", async || std::future::pending::<bool>().await);
    let message = panic_of(hanging).await;
    assert!(message.contains("the first look did not return"), "{message}");
}

async fn panic_of(waiting: impl Future<Output: std::fmt::Debug>) -> String {
    let caught =
        tokio::time::timeout(Duration::from_secs(60), AssertUnwindSafe(waiting).catch_unwind()).await;
    let panic = caught.expect("the deadline ends it").expect_err("it was in vain");
    *panic.downcast::<String>().expect("a formatted message")
}
