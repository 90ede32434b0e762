//! The `gotel` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    gotel::cli::run()
}
