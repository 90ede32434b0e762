//! `gotel serve`: the service itself.

use super::Source;
use crate::alert::config::Channel;
use crate::config::Config;
use crate::http;
use crate::replica::Replica;
use crate::telemetry::{self, LogFormat};
use anyhow::Context as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Watch jobs: take check-ins, tell when one is missing, show the pages
///
/// Examples:
///   gotel serve
///   gotel serve --config gotel.yaml --database-url "$DATABASE_URL"
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Serve {
    #[command(flatten)]
    source: Source,

    /// Form of the log
    #[arg(long, env = "GOTEL_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,

    /// Seconds between saying "not ready" and closing, after SIGTERM, so that nobody is sent here any more
    /// [default: 0 on loopback, 5 elsewhere]
    #[arg(long, env = "GOTEL_DRAIN_S", value_name = "SECONDS")]
    drain_s: Option<u64>,
}

impl Serve {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        telemetry::start(self.log_format);
        let config = self.source.load()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let outcome = runtime.block_on(self.serve(&config));
        // What is still running was given its time already.
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    }

    async fn serve(&self, config: &Config) -> anyhow::Result<()> {
        let listener = http::listen(config.listen)
            .with_context(|| format!("cannot listen on {}: is another program using it?", config.listen))?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut replica = tokio::select! {
            replica = Replica::start(config, listener) => replica?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        println!("{}", banner(config, replica.addr));
        let mut at_a_terminal = false;
        let asked = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => at_a_terminal = true,
            }
        };
        let ended = replica.until(asked).await;
        let linger = match (self.drain_s, at_a_terminal || config.listen.ip().is_loopback()) {
            (Some(s), _) => Duration::from_secs(s),
            (None, true) => Duration::ZERO,
            (None, false) => Duration::from_secs(5),
        };
        tracing::info!("ending");
        let in_time = tokio::select! {
            in_time = replica.stop(linger) => in_time,
            // Asked twice: now.
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
        };
        if !in_time {
            tracing::warn!("not everything ended in time: notices on their way are sent again later");
        }
        ended.map_err(|why| anyhow::anyhow!("{why}: a monitor that is half alive is worse than none"))
    }
}

/// What a newcomer reads first.
fn banner(config: &Config, addr: SocketAddr) -> String {
    let host = match addr.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    let base = format!("http://{}", SocketAddr::new(host, addr.port()));
    let names: Vec<_> = config.alerters.iter().map(|a| a.name.as_str()).collect();
    let alerts = match config.alerters.as_slice() {
        [only] if only.name == "console" && matches!(only.channel, Channel::Console) => {
            "to this terminal. Mail, PagerDuty and webhooks: docs/alerters.md".to_owned()
        }
        _ => format!("to {}", names.join(", ")),
    };
    let auth = if config.auth.tokens.is_empty() { "" } else { " -H \"Authorization: Bearer $TOKEN\"" };
    format!(
        "\n  GoTel is watching.  Status page: {base}/status\n\n  \
         Make a reservation: this job promises to check in at least every 10 seconds\n    \
         curl -fsS{auth} {base}/reservation -d '{{\"app\":\"demo\",\"component\":\"hello\",\"frequency\":10,\
         \"time_units\":\"seconds\",\"owner\":\"me\",\"notify\":\"me@example.org\"}}'\n\n  \
         Check in, as the last line of the job\n    \
         curl -fsS{auth} -m 10 --retry 5 {base}/checkin/demo/hello\n\n  \
         Alerts go {alerts}\n"
    )
}
