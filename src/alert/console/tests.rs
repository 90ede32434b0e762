use super::*;
use crate::alert::fixtures::{digest, failed, hostile, late, recovered, to};
use std::sync::Mutex as StdMutex;

#[test]
fn a_late_job_is_one_block_of_lines() {
    insta::assert_snapshot!(block(&late()), @"
    ┌─ LATE ─
    │ LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)
    │ App: [billing] Component: [nightly] failed checkin on IP [a-1]. Contact owner [ada]
    │ Deadline: 2026-01-02 02:00:00 UTC
    │ Noticed: 2026-01-02 02:02:05 UTC
    │ Last good check-in: 2026-01-01 02:00:00 UTC
    │ Schedule: every day at 01:00 UTC
    │ Owner: ada
    │ Labels: 9-x=y, team=money
    │ Noticed by: a-1
    │ Noticed 2 min late.
    │ https://gotel.example.org/status/billing/nightly
    └─
    ");
}

#[test]
fn a_recovery_says_how_long_it_lasted() {
    insta::assert_snapshot!(block(&recovered()), @"
    ┌─ RECOVERED ─
    │ RECOVERED billing/nightly after 1h 30m
    │ The job ran well again. It was down for 1h 30m.
    │ Deadline: 2026-01-02 02:00:00 UTC
    │ Noticed: 2026-01-02 02:02:05 UTC
    │ Lasted: 1h 30m
    │ Last good check-in: 2026-01-02 03:30:00 UTC
    │ Schedule: every day at 01:00 UTC
    │ Owner: ada
    │ Labels: 9-x=y, team=money
    │ Noticed by: a-1
    │ https://gotel.example.org/status/billing/nightly
    └─
    ");
}

#[test]
fn a_failure_shows_its_output() {
    insta::assert_snapshot!(block(&failed()), @"
    ┌─ FAILED ─
    │ FAILED billing/nightly: exit code 3 at 02:00:00 UTC (2026-01-02)
    │ App: [billing] Component: [nightly] failed checkin on IP [a-1]. Contact owner [ada]
    │ Failed: 2026-01-02 02:00:00 UTC
    │ Last good check-in: 2026-01-01 02:00:00 UTC
    │ Schedule: every day at 01:00 UTC
    │ Exit code: 3
    │ Run: run-7
    │ Owner: ada
    │ Labels: 9-x=y, team=money
    │ Noticed by: a-1
    │ Output:
    │   line 1
    │   line 2
    │ https://gotel.example.org/status/billing/nightly
    └─
    ");
}

#[test]
fn a_digest_lists_its_members() {
    insta::assert_snapshot!(block(&digest()), @"
    ┌─ MANY ALERTS ─
    │ 12 alerts: billing/nightly, billing/hourly, …
    │ Made by: a-1
    │ LATE billing/nightly (2026-01-02 02:00:00 UTC, ada)
    │ RECOVERED billing/hourly (2026-01-02 02:00:00 UTC, ada)
    │ … and 10 more
    │ https://gotel.example.org/badguests
    └─
    ");
}

#[test]
fn nothing_in_a_notice_acts_on_the_terminal() {
    let text = block(&hostile());
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(!text.contains('\u{202e}'));
    assert!(!text.contains("javascript:"));
    let rows: Vec<_> = text.lines().collect();
    assert!(rows[1..rows.len() - 1].iter().all(|row| row.starts_with("│ ")), "{text}");
}

#[derive(Clone, Default)]
struct Shared(Arc<StdMutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn blocks_sent_at_once_do_not_mix() {
    let out = Shared::default();
    let console = Console::to("term".into(), out.clone());
    let deliveries: Vec<_> = (0..20).map(|_| to("", late())).collect();
    let outcomes = futures::future::join_all(deliveries.iter().map(|d| console.send(d))).await;
    assert!(outcomes.iter().all(|o| *o == Outcome::Accepted));
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text, block(&late()).repeat(20));
}

#[tokio::test]
async fn a_closed_terminal_is_tried_again() {
    let console = Console::to("term".into(), Closed);
    let outcome = console.send(&to("", late())).await;
    assert_eq!(outcome, Outcome::retry("the terminal takes no output: broken pipe"));
}
