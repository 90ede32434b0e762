//! What a test needs and this machine may lack: an address in an environment variable that `make test` sets.
//!
//! Promises: with `GOTEL_TEST_REQUIRE=1` a missing variable is a failure; without it the caller is told to
//! leave its test out, and standard error says so once for each thing, whether or not output is captured.
//! Does not promise: that anything answers at the address.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

/// The address of `what`, or `None` when the tests of it are to be left out.
pub fn address_of(what: &'static str, variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(address) if !address.is_empty() => return Some(address),
        _ if required() => {
            panic!("{what} is required here (GOTEL_TEST_REQUIRE=1), but {variable} is not set")
        }
        _ => {}
    }
    static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap().insert(what) {
        // Written to the stream itself: `eprintln!` would be captured with the output of a passing test.
        let line = format!("left out: what needs {what} ({variable} is not set; `make test` sets it)\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    None
}

fn required() -> bool {
    std::env::var_os("GOTEL_TEST_REQUIRE").is_some_and(|value| value == "1")
}
