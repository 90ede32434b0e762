//! Alerts on the terminal: the alerter of a first start, and of `gotel serve` under a process manager that
//! keeps what is printed.
//!
//! Promises: one block per notice, written whole; nothing in it acts on the terminal, whatever a job's name
//! or message holds. A terminal that takes no output blocks nobody else: the write happens on a thread for
//! such waits, one at a time, and further notices wait for it as long as any send may last.
//!
//! Does not promise that anybody looks.

use super::render::{body, digest_lines, facts, lines, link, one_line, title, word};
use super::{Alerter, Delivery, Outcome};
use crate::reservation::Notice;
use futures::future::BoxFuture;
use std::io::Write;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The alerter of type `console`.
pub struct Console {
    name: String,
    out: Arc<Mutex<dyn Write + Send>>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Console {
    /// Writes to standard output.
    pub fn stdout(name: String) -> Self {
        Self::to(name, std::io::stdout())
    }

    /// Writes to `out`.
    pub fn to(name: String, out: impl Write + Send + 'static) -> Self {
        Self { name, out: Arc::new(Mutex::new(out)) }
    }
}

impl Alerter for Console {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "console"
    }

    fn send<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Outcome> {
        let text = block(&delivery.notice);
        let out = Arc::clone(&self.out);
        Box::pin(async move {
            let mut out = out.lock_owned().await;
            let written = tokio::task::spawn_blocking(move || {
                out.write_all(text.as_bytes())?;
                out.flush()
            });
            match written.await {
                Ok(Ok(())) => Outcome::Accepted,
                Ok(Err(e)) => Outcome::retry(format!("the terminal takes no output: {e}")),
                Err(_) => Outcome::retry("writing to the terminal failed"),
            }
        })
    }
}

/// The block that is printed.
fn block(notice: &Notice) -> String {
    let mut rows = vec![title(notice)];
    rows.extend(body(notice).lines().map(str::to_owned));
    rows.extend(facts(notice).into_iter().map(|(label, value)| format!("{label}: {value}")));
    rows.extend(digest_lines(notice));
    rows.extend(notice.remarks.iter().map(|remark| one_line(remark)));
    if let Some(output) = &notice.output {
        rows.push("Output:".into());
        rows.extend(lines(output).lines().map(|line| format!("  {line}")));
    }
    rows.extend(link(notice).map(str::to_owned));
    let mut out = format!("┌─ {} ─\n", word(notice.event, notice.reason));
    for row in rows.iter().filter(|row| !row.is_empty()) {
        out.push_str("│ ");
        out.push_str(row);
        out.push('\n');
    }
    out.push_str("└─\n");
    out
}

#[cfg(test)]
mod tests;
