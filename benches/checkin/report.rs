//! Markdown tables on standard output, and in docs/benchmarks.md.

use super::Depth;
use gotel::clock;

/// Where the last run's tables stand.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");
const BEGIN: &str = "<!-- last run: written by `make bench` -->\n";
const END: &str = "<!-- end of the last run -->";

/// What was measured so far.
pub struct Report {
    text: String,
    started_us: i64,
}

impl Report {
    pub fn new(depth: Depth) -> Self {
        let mut report = Self { text: String::new(), started_us: clock::boot_us() };
        let quick = if depth == Depth::Quick { ", quick: the figures say little" } else { "" };
        report.say(&format!(
            "{} vCPU, shared{quick}\n",
            std::thread::available_parallelism().map_or(0, usize::from)
        ));
        report
    }

    /// One topic: its name, its columns, its rows.
    pub fn table(&mut self, title: &str, columns: &[&str], rows: &[Vec<String>]) {
        let mut text = format!("\n### {title}\n\n");
        let mut line = |cells: &[String]| {
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        };
        line(&columns.iter().map(ToString::to_string).collect::<Vec<_>>());
        line(&vec!["---".to_owned(); columns.len()]);
        rows.iter().for_each(|row| line(row));
        self.say(&text);
    }

    fn say(&mut self, text: &str) {
        println!("{text}");
        self.text.push_str(text);
    }

    /// Puts everything into the document.
    pub fn write(&self) {
        let minutes = clock::since_us(self.started_us).as_secs_f64() / 60.0;
        println!("{minutes:.1} minutes");
        let Ok(document) = std::fs::read_to_string(DOCUMENT) else {
            return eprintln!("{DOCUMENT} is not there: nothing written");
        };
        let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
            let (last, after) = rest.split_once(END)?;
            Some((before, last, after))
        });
        let Some((before, last, after)) = parts else {
            return eprintln!("{DOCUMENT} has no markers: nothing written");
        };
        // What was not measured this time stays as it was.
        let (mut tables, old) = (self.text.trim_end().to_owned(), sections(last));
        let new: Vec<&str> = sections(&self.text).into_iter().map(|(title, _)| title).collect();
        for (_, table) in old.into_iter().filter(|(title, _)| !new.contains(title)) {
            tables.push_str(&format!("\n\n{}", table.trim_end()));
        }
        let text = format!("{before}{BEGIN}\n{tables}\n\n{END}{after}");
        if let Err(e) = std::fs::write(DOCUMENT, text) {
            eprintln!("{DOCUMENT}: {e}");
        }
    }
}

/// Tables with their titles. (The part before the first says how the machine is.)
fn sections(text: &str) -> Vec<(&str, &str)> {
    const HEAD: &str = "### ";
    let starts: Vec<usize> =
        text.match_indices(HEAD).map(|(at, _)| at).chain(std::iter::once(text.len())).collect();
    let parts = starts.windows(2).map(|w| &text[w[0]..w[1]]);
    parts.map(|part| (part.lines().next().unwrap_or_default(), part)).collect()
}

/// Standard error: where we are.
pub fn progress(text: &str) {
    eprintln!("  {text}");
}

/// 12,345.
pub fn count(n: f64) -> String {
    let digits = format!("{n:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds as milliseconds.
pub fn ms(us: f64) -> String {
    format!("{:.2}", us / 1000.0)
}

/// A ratio beside its goal.
pub fn at_least(ratio: f64, goal: f64) -> String {
    format!("{ratio:.2} ({}, goal ≥ {goal})", if ratio >= goal { "met" } else { "missed" })
}

/// A ratio beside its goal.
pub fn at_most(ratio: f64, goal: f64) -> String {
    format!("{ratio:.2} ({}, goal ≤ {goal})", if ratio <= goal { "met" } else { "missed" })
}
