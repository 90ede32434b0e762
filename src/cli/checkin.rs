//! `gotel checkin`: a check-in from a script, for machines without curl.

use anyhow::{Context as _, bail};
use std::io::Read as _;
use std::time::Duration;

/// One try, connecting included.
const TRY_LIMIT: Duration = Duration::from_secs(10);

/// A job must not wait for its monitor for ever: 5 tries over about half a minute.
const TRIES: u32 = 5;

/// Check in for a job; exits with 0 only if GoTel has stored it
///
/// Example:
///   gotel checkin billing nightly --note "42 invoices"
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Checkin {
    /// The application of the reservation
    app: String,
    /// The component of the reservation
    component: String,
    /// GoTel's address
    #[arg(long, env = "GOTEL_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: url::Url,
    /// What to say
    #[arg(long, value_name = "KIND", default_value = "ok")]
    kind: Kind,
    /// The job's exit code (0 is ok, anything else is fail)
    #[arg(long, value_name = "0..255", conflicts_with = "kind")]
    exit_code: Option<u8>,
    /// Run id, where several runs may overlap
    #[arg(long, value_name = "ID")]
    rid: Option<String>,
    /// A note or the job's output; `-` reads standard input; the last 10 kB are kept
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// File that holds a token
    #[arg(long, env = "GOTEL_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A run began
    Start,
    /// A run went well
    Ok,
    /// A run went wrong
    Fail,
    /// A note only
    Log,
}

impl Checkin {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let token = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the token file {}", path.display()))?;
                Some(text.trim().to_owned())
            }
            None => None,
        };
        let note = match self.note.as_deref() {
            Some("-") => {
                let mut bytes = Vec::new();
                std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
                bytes
            }
            Some(text) => text.as_bytes().to_vec(),
            None => Vec::new(),
        };
        // The server keeps the last 10 kB; sending more would only take longer.
        let note = note[note.len().saturating_sub(10_000)..].to_vec();
        super::runtime()?.block_on(self.send(self.address()?, token.as_deref(), note))
    }

    fn address(&self) -> anyhow::Result<url::Url> {
        let mut url = self.url.clone();
        {
            let mut segments =
                url.path_segments_mut().ok().context("--url must be an http:// or https:// address")?;
            segments.pop_if_empty().extend(["checkin", &self.app, &self.component]);
            match (self.exit_code, self.kind) {
                (Some(code), _) => _ = segments.push(&code.to_string()),
                (None, Kind::Ok) => {}
                (None, Kind::Start) => _ = segments.push("start"),
                (None, Kind::Fail) => _ = segments.push("fail"),
                (None, Kind::Log) => _ = segments.push("log"),
            }
        }
        if let Some(rid) = &self.rid {
            url.query_pairs_mut().append_pair("rid", rid);
        }
        Ok(url)
    }

    async fn send(&self, url: url::Url, token: Option<&str>, note: Vec<u8>) -> anyhow::Result<()> {
        let client = crate::alert::client(None).map_err(anyhow::Error::msg)?;
        let mut pause = Duration::from_secs(1);
        for left in (0..TRIES).rev() {
            let mut request = client.post(url.clone()).timeout(TRY_LIMIT).body(note.clone());
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let why = match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => {
                    let status = answer.status();
                    let text = answer.text().await.unwrap_or_default();
                    let why = format!("GoTel answered {status}: {}", text.trim());
                    if status.is_client_error() && status.as_u16() != 429 {
                        bail!("{why}");
                    }
                    why
                }
                Err(e) => format!("GoTel was not reached at {url}: {e}"),
            };
            if left == 0 {
                bail!("{why} (after {TRIES} tries)");
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }
}
