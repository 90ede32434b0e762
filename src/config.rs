//! The configuration: scalars by flag, environment or file (in this order), structure in one YAML file.
//!
//! Promises: what [`Config::load`] returns can be run; a mistake names the file, the line, the field and
//! what would be right; an unknown key is refused, since a misspelt `alerters` must not be silence.
//!
//! Does not promise: that a database or a mail server answers. `gotel alerter test` and the start tell.

pub mod database;
mod heartbeat;
mod locate;

use crate::alert::config::{AlerterConfig, Written, or_console, parse};
use crate::coordinator::timers::{self, Timers};
use crate::http::auth::{AuthConfig, Mode};
use crate::operator::config::{self as operator, OperatorConfig};
use crate::peers::config::{self as peers, PeersConfig};
use crate::reservation::{Invalid, duration};
use crate::secret::{Lookup, Secret, process_env};
use crate::store::Retention;
use crate::store::dialect::Dialect;
use database::UrlsFile;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where GoTel listens unless told otherwise: only this machine can reach it, so it may be open.
pub const LISTEN: &str = "127.0.0.1:8080";

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct File {
    listen: Option<String>,
    database_url: Option<String>,
    database_url_file: Option<PathBuf>,
    database: Option<database::Written>,
    data_dir: Option<PathBuf>,
    external_url: Option<String>,
    replica: Option<String>,
    auth: AuthConfig,
    alerters: Vec<Written>,
    heartbeat_url: Option<String>,
    heartbeat_url_file: Option<PathBuf>,
    replica_heartbeat_url: Option<String>,
    replica_heartbeat_url_file: Option<PathBuf>,
    coordination: timers::Written,
    retention: WrittenRetention,
    peers: Option<peers::Written>,
    kubernetes: operator::Written,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct WrittenRetention {
    history: Option<String>,
    incidents: Option<String>,
}

/// Scalars that a flag or the environment may set, each outranking the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Scalars {
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "GOTEL_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<String>,

    /// Where reservations are kept: sqlite:///path/gotel.db or mysql://user:password@host/database
    /// [default: gotel.db in the data folder]
    #[arg(long, env = "GOTEL_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Folder of the embedded database, and of what a replica keeps beside any other
    /// [default: data]
    #[arg(long, env = "GOTEL_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Address at which people reach the pages, for links in alerts
    #[arg(long, env = "GOTEL_EXTERNAL_URL", value_name = "URL")]
    pub external_url: Option<String>,

    /// This replica's name [default: the host's name]
    #[arg(long, env = "GOTEL_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,

    /// Who may call: `tokens`, or `none` to be open to everybody who can reach the address
    /// [default: open on loopback, tokens elsewhere]
    #[arg(long, env = "GOTEL_AUTH", value_name = "MODE")]
    pub auth: Option<Mode>,

    #[command(flatten)]
    kubernetes: operator::Flags,
}

/// A configuration that can be run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The endpoints of the one database, at least one; may hold passwords.
    pub database_urls: Vec<SecretString>,
    /// The file they stand in; None: they stand elsewhere.
    pub database_file: Option<UrlsFile>,
    /// Address of the pages for links, without a slash at the end.
    pub external_url: Option<String>,
    /// This replica's name.
    pub replica: String,
    /// What the command line said of authentication.
    pub auth_mode: Option<Mode>,
    /// The tokens.
    pub auth: AuthConfig,
    /// The alerters; the terminal when none is configured.
    pub alerters: Vec<AlerterConfig>,
    /// Called while all is well with the installation.
    pub heartbeat: Option<Secret>,
    /// Called while all is well with this replica.
    pub replica_heartbeat: Option<Secret>,
    /// Where this replica keeps what it must know while the database is away.
    pub state_dir: PathBuf,
    /// Timing of the election between replicas that share a database.
    pub coordination: Timers,
    /// How long things are kept.
    pub retention: Retention,
    /// The other replicas; None: this one is alone.
    pub peers: Option<PeersConfig>,
    /// The Kubernetes controller.
    pub kubernetes: OperatorConfig,
}

/// A configuration that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// It is not YAML, or not of this shape.
    #[error("{path}:{line}: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line of the mistake.
        line: u64,
        /// What and what would be right.
        message: String,
    },
    /// A value in the file is wrong.
    #[error("{path}:{line}: {invalid}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line of the field, or of what should hold it.
        line: u64,
        /// The field and what would be right.
        invalid: Invalid,
    },
    /// A flag or variable is wrong.
    #[error("{0}")]
    Flag(Invalid),
}

impl Config {
    /// Loads `file` (if any) under `scalars`.
    ///
    /// # Errors
    /// The first mistake.
    pub fn load(file: Option<&Path>, scalars: &Scalars) -> Result<Self, ConfigError> {
        Self::load_with(file, scalars, &process_env)
    }

    fn load_with(path: Option<&Path>, scalars: &Scalars, env: Lookup<'_>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return build(File::default(), scalars, env).map_err(ConfigError::Flag);
        };
        let text = std::fs::read_to_string(path)
            .map_err(|why| ConfigError::Unreadable { path: path.to_owned(), why })?;
        let file = match text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            true => File::default(),
            false => serde_yaml::from_str(&text).map_err(|e| locate::malformed(path, &text, &e))?,
        };
        build(file, scalars, env).map_err(|invalid| match locate::line_of(&text, &invalid.field) {
            Some(line) => ConfigError::Wrong { path: path.to_owned(), line, invalid },
            None => ConfigError::Flag(invalid),
        })
    }
}

fn build(file: File, scalars: &Scalars, env: Lookup<'_>) -> Result<Config, Invalid> {
    let listen = scalars.listen.clone().or(file.listen).unwrap_or_else(|| LISTEN.into());
    let data_dir = scalars.data_dir.clone().or(file.data_dir).unwrap_or_else(|| PathBuf::from("data"));
    let external_url = scalars.external_url.clone().or(file.external_url);
    let replica = replica(scalars.replica.clone().or(file.replica))?;
    let (database_urls, database_file) = database::endpoints(
        scalars.database_url.as_deref(),
        file.database_url,
        file.database_url_file,
        file.database,
        &data_dir,
        env,
    )?;
    let first_url = database_urls.first().map_or("", |url| url.expose_secret());
    let dialect = Dialect::of_url(first_url);
    let (url, url_file) = (file.heartbeat_url, file.heartbeat_url_file);
    let (replica_url, replica_file) = (file.replica_heartbeat_url, file.replica_heartbeat_url_file);
    Ok(Config {
        listen: listen.parse().map_err(|_| {
            Invalid::new(
                "listen",
                format!("{listen:?} is not an address with a port: write 127.0.0.1:8080 or 0.0.0.0:8080"),
            )
        })?,
        peers: file.peers.map(|written| peers::parse(written, &replica, dialect, env)).transpose()?,
        kubernetes: file.kubernetes.parse(&scalars.kubernetes)?,
        state_dir: state_dir(first_url, data_dir),
        database_urls,
        database_file,
        external_url: external_url.map(|url| external(&url)).transpose()?,
        replica,
        auth_mode: scalars.auth,
        auth: file.auth,
        alerters: or_console(parse(file.alerters, env)?),
        heartbeat: heartbeat::parse("heartbeatUrl", url, url_file, env)?,
        replica_heartbeat: heartbeat::parse("replicaHeartbeatUrl", replica_url, replica_file, env)?,
        coordination: file.coordination.parse()?,
        retention: Retention {
            history_ms: retention(
                "retention.history",
                file.retention.history,
                crate::coordinator::KEEP.history_ms,
            )?,
            incidents_ms: retention(
                "retention.incidents",
                file.retention.incidents,
                crate::coordinator::KEEP.incidents_ms,
            )?,
        },
    })
}

/// Beside an embedded database, wherever that is; else the data folder.
fn state_dir(database_url: &str, data_dir: PathBuf) -> PathBuf {
    let Some(rest) = database_url.strip_prefix("sqlite:") else { return data_dir };
    let path = rest.trim_start_matches("//").split('?').next().unwrap_or_default();
    // `sqlite:///var/lib/gotel.db` is absolute, `sqlite://gotel.db` is not.
    let path = if rest.starts_with("///") {
        PathBuf::from(format!("/{}", path.trim_start_matches('/')))
    } else {
        path.into()
    };
    path.parent().map_or(data_dir, Path::to_path_buf)
}

fn external(text: &str) -> Result<String, Invalid> {
    let right = "write the address people open in a browser, such as https://gotel.example.org";
    match url::Url::parse(text) {
        Ok(url)
            if matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.query().is_none() =>
        {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(Invalid::new("externalUrl", format!("{text:?} is not such an address: {right}"))),
    }
}

fn replica(name: Option<String>) -> Result<String, Invalid> {
    let name = name.unwrap_or_else(|| {
        rustix::system::uname().nodename().to_str().unwrap_or("gotel").chars().take(64).collect()
    });
    let fits = (1..=64).contains(&name.chars().count())
        && !name.chars().any(|c| c.is_control() || c.is_whitespace());
    if fits {
        return Ok(name);
    }
    Err(Invalid::new("replica", "must be 1 to 64 characters without spaces, such as eu-1"))
}

/// Shorter than a day would forget what an incident rests on.
fn retention(field: &'static str, text: Option<String>, default_ms: i64) -> Result<i64, Invalid> {
    let Some(text) = text else { return Ok(default_ms) };
    let ms = duration::parse_ms(field, &text)?;
    if ms < 86_400_000 {
        return Err(Invalid::new(
            field,
            format!("{text} is less than a day: write 1 day or more, such as 30d"),
        ));
    }
    Ok(ms)
}

impl Config {
    /// The database's endpoints in the clear, for the driver.
    pub fn database_urls(&self) -> Vec<&str> {
        self.database_urls.iter().map(ExposeSecret::expose_secret).collect()
    }
}

#[cfg(test)]
mod tests;
