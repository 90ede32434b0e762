//! `make bench`: what the check-in path, the evaluator, a pair and the controller can do, as ratios within one run.
//!
//! Prints one Markdown table a topic and puts them between the markers of docs/benchmarks.md, which
//! explains each figure; tables that this run has not measured stay there as they were. `cargo bench --bench checkin --
//! --quick` is the same in three minutes, with figures that say little; it leaves the document alone. A word (`rates`,
//! `overload`, `evaluate`, `memory`, `failover`, `objects`) runs that topic only.
//!
//! The program starts itself again for what must be a process of its own: the load (`load`) and the server
//! that stores nothing (`sink`).

mod baseline;
mod db;
mod evaluate;
mod failover;
mod load;
mod memory;
mod operator;
mod overload;
mod process;
mod proxy;
mod rates;
mod report;
mod timing;

use report::Report;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Half an hour.
    Full,
    /// Three minutes.
    Quick,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("load") => return load::child(&arguments[1..]),
        Some("sink") => return baseline::child(),
        _ => {}
    }
    let depth = if arguments.iter().any(|a| a == "--quick") { Depth::Quick } else { Depth::Full };
    let topics: Vec<&str> = arguments.iter().map(String::as_str).filter(|a| !a.starts_with("--")).collect();
    let wanted = |topic: &str| topics.is_empty() || topics.contains(&topic);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut report = Report::new(depth);
    runtime.block_on(async {
        let databases = db::Backend::at_hand();
        if wanted("rates") {
            rates::run(&databases, depth, &mut report).await;
        }
        if wanted("overload") {
            overload::run(&databases, depth, &mut report).await;
        }
        if wanted("evaluate") {
            evaluate::run(&databases, depth, &mut report).await;
        }
        if wanted("memory") {
            memory::run(&databases, depth, &mut report).await;
        }
        if wanted("failover") {
            failover::run(&databases, depth, &mut report).await;
        }
        if wanted("objects") {
            operator::run(&databases, depth, &mut report).await;
        }
    });
    if depth == Depth::Full {
        report.write();
    }
}
