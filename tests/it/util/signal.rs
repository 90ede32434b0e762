//! Signals to a process that a test started, by its id.
//!
//! Promises: when [`stop`] returns, every thread of the process stands still.
//! Does not promise: that the id is still that process's; who calls has not waited for it yet, or asks anew.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::eventually;

/// How long the kernel may take to bring every thread of a busy process to a halt.
const HALT: Duration = Duration::from_secs(10);

/// SIGSTOP, and waits until it took effect: the kernel stops a process thread by thread.
pub async fn stop(pid: i32) {
    send(pid, Signal::STOP);
    eventually(HALT, format!("process {pid} to stop"), async || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
        threads.flatten().all(|thread| {
            // A thread that ended meanwhile stands still too.
            let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            status.is_empty() || status.contains("\nState:\tT")
        })
    })
    .await;
}

/// SIGCONT.
pub fn cont(pid: i32) {
    send(pid, Signal::CONT);
}

/// SIGTERM.
pub fn term(pid: i32) {
    send(pid, Signal::TERM);
}

fn send(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process id is not zero");
    kill_process(pid, signal).expect("the process is this user's to signal");
}
