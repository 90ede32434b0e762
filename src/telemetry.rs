//! Logs: for a person at a terminal, or as JSON for a collector.

use tracing_subscriber::EnvFilter;

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Libraries speak up only when something is wrong: at `trace` they print statements, dialogues and headers.
const QUIET: &str = "sqlx=error,hyper=error,hyper_util=error,h2=error,reqwest=error,rustls=error,lettre=error,\
                     kube_runtime=error";

/// Starts logging to standard error. `GOTEL_LOG` takes a filter (`info`, `debug`, `gotel=trace`).
pub fn start(format: LogFormat) {
    let filter = std::env::var("GOTEL_LOG").unwrap_or_else(|_| "info".into());
    let filter = format!("{QUIET},{filter}");
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text => builder.with_ansi(is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only a second call fails, and then logging runs already.
    drop(started);
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}
