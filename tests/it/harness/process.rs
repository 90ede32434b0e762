//! Tests of [`crate::util::process`], with a shell in GoTel's place.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use super::SOON;
use crate::util::process::Gotel;

fn shell(script: &str) -> Gotel {
    Gotel::spawn_program(Path::new("/bin/sh"), &["-c", script], &[("GOTEL_GIVEN", "by the test")])
}

#[tokio::test]
async fn the_real_program_can_be_started() {
    assert!(Gotel::spawn(&["version"], &[]).wait_exit(SOON).await.success());
}

#[tokio::test]
async fn the_address_is_found_in_what_is_printed() {
    let mut program = shell("echo starting; echo 'status: http://127.0.0.1:8123/status.'; exec sleep 60");
    assert_eq!(program.url().await.as_str(), "http://127.0.0.1:8123/");
}

#[tokio::test]
async fn both_streams_and_the_exit_code_are_kept_and_the_environment_is_the_tests() {
    let mut program = shell("env | grep '^GOTEL_'; printf 'no newline, \\377' >&2; exit 3");
    assert_eq!(program.wait_exit(SOON).await.code(), Some(3));
    program.printed("no newline, \u{fffd}", SOON).await;
    program.printed("GOTEL_GIVEN=by the test", SOON).await;
    assert_eq!(program.output().matches("GOTEL_").count(), 1, "{}", program.output());
}

#[tokio::test]
async fn signals_arrive_and_a_stopped_process_stands_still() {
    let mut program = shell("sleep 60 & trap 'kill $!; echo asked to end; exit 0' TERM; echo ready; wait");
    program.printed("ready", SOON).await;
    assert!(program.resident_bytes() > 100_000);
    program.sigstop().await;
    program.sigterm();
    assert!(program.running());
    program.sigcont();
    assert_eq!(program.wait_exit(SOON).await.code(), Some(0));
    program.printed("asked to end", SOON).await;
}

#[tokio::test]
async fn a_process_is_dead_when_it_was_killed_or_dropped_even_stopped() {
    let mut killed = shell("exec sleep 60");
    killed.kill9();
    assert_eq!(killed.wait_exit(SOON).await.signal(), Some(9));

    let stopped = shell("exec sleep 60");
    stopped.sigstop().await;
    let process = format!("/proc/{}", stopped.pid());
    drop(stopped);
    assert!(!Path::new(&process).exists());
}
