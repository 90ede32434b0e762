//! The `peers:` part of the configuration file.
//!
//! Promises: what [`parse`] returns can be run: this replica is on the list, ids differ, every URL leads to
//! one place, the secret is long enough and stands in no configuration file, and the database is one that
//! several processes can share. A mistake names its field and what would be right.

use crate::reservation::{Invalid, duration};
use crate::secret::{Lookup, Secret, SecretSource, env_name};
use crate::store::dialect::Dialect;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use url::Url;

/// Where heartbeats are taken unless told otherwise: the other replicas are elsewhere.
pub const LISTEN: &str = "0.0.0.0:8081";

/// A secret shorter than this could be guessed.
const MIN_SECRET: usize = 16;

/// How long a verdict must stand before it is believed, and before somebody is paged.
const CONFIRM_MS: i64 = 30_000;
const PAGE_MS: i64 = 60_000;

/// Shorter than the rhythm of heartbeats would be luck.
const MIN_MS: i64 = 2_000;

/// The block as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Written {
    listen: Option<String>,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    replicas: Vec<WrittenReplica>,
    confirm: Option<String>,
    page: Option<String>,
}

impl std::fmt::Debug for Written {
    // A secret may stand here by mistake.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("replicas", &self.replicas).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct WrittenReplica {
    id: String,
    url: String,
}

/// The block, parsed.
#[derive(Debug, Clone)]
pub struct PeersConfig {
    /// Where this replica takes heartbeats.
    pub listen: SocketAddr,
    /// What all replicas sign with.
    pub secret: Secret,
    /// The others, ordered by id.
    pub others: Vec<Peer>,
    /// This replica's place among all, ordered by id.
    pub rank: usize,
    /// How long a verdict must stand before it is believed.
    pub confirm_ms: i64,
    /// How long before somebody is paged.
    pub page_ms: i64,
}

/// Another replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: String,
    /// Its place among all, ordered by id.
    pub rank: usize,
    /// Where it takes heartbeats: without a path.
    pub url: Url,
}

/// What `written` means for the replica `own` on a database of `dialect`.
///
/// # Errors
/// The first mistake.
pub fn parse(
    written: Written,
    own: &str,
    dialect: Option<Dialect>,
    env: Lookup<'_>,
) -> Result<PeersConfig, Invalid> {
    if dialect == Some(Dialect::Sqlite) {
        return Err(Invalid::new(
            "peers",
            "need a database that several processes can share, and SQLite serves one: give databaseUrlFile or \
             GOTEL_DATABASE_URL a mysql:// URL, or remove peers",
        ));
    }
    let listen = written.listen.unwrap_or_else(|| LISTEN.to_owned());
    let listen = listen.parse().map_err(|_| {
        Invalid::new(
            "peers.listen",
            format!("{listen:?} is not an address with a port: write 0.0.0.0:8081 or 10.0.0.7:8081"),
        )
    })?;
    let secret = secret(written.secret, written.secret_file, env)?;
    let all = replicas(written.replicas, own)?;
    let rank = all.iter().position(|peer| peer.id == own).unwrap_or(0);
    let confirm_ms = length("peers.confirm", written.confirm, CONFIRM_MS)?;
    let page_ms = length("peers.page", written.page, PAGE_MS.max(confirm_ms))?;
    if page_ms < confirm_ms {
        return Err(Invalid::new(
            "peers.page",
            format!(
                "is shorter than peers.confirm ({}), and nobody is paged about what is not believed: write {} or more",
                duration::human(confirm_ms),
                duration::human(confirm_ms)
            ),
        ));
    }
    let others = all.into_iter().filter(|peer| peer.id != own).collect();
    Ok(PeersConfig { listen, secret, others, rank, confirm_ms, page_ms })
}

fn secret(text: Option<String>, file: Option<PathBuf>, env: Lookup<'_>) -> Result<Secret, Invalid> {
    let (field, source) = match (text, file) {
        (Some(_), Some(_)) => {
            return Err(Invalid::new("peers.secret", "stands beside secretFile: keep one of them"));
        }
        (None, None) => {
            return Err(Invalid::new(
                "peers.secretFile",
                "is missing: write secretFile: PATH or secret: ${GOTEL_PEER_SECRET}, the same secret for all replicas \
                 (openssl rand -hex 32)",
            ));
        }
        (None, Some(path)) => ("peers.secretFile", SecretSource::File(path)),
        (Some(text), None) => match env_name(&text) {
            Some(name) => ("peers.secret", SecretSource::Env(name.to_owned())),
            None => {
                return Err(Invalid::new(
                    "peers.secret",
                    "a secret does not stand in this file: write secretFile: PATH, or secret: ${GOTEL_PEER_SECRET} \
                     and set that environment variable",
                ));
            }
        },
    };
    Secret::read(field, source, long_enough, env)
}

fn long_enough(text: &str) -> Result<(), String> {
    match text.chars().count() {
        length if length < MIN_SECRET => Err(format!(
            "holds {length} characters and could be guessed: make one with `openssl rand -hex 32`"
        )),
        _ => Ok(()),
    }
}

/// All replicas, ordered by id, this one among them.
fn replicas(written: Vec<WrittenReplica>, own: &str) -> Result<Vec<Peer>, Invalid> {
    let mut all: Vec<Peer> = Vec::with_capacity(written.len());
    for (n, replica) in written.into_iter().enumerate() {
        let field = |name: &str| format!("peers.replicas[{n}].{name}");
        let id = replica.id;
        if !is_id(&id) {
            return Err(Invalid::new(
                field("id"),
                "must be 1 to 64 characters without spaces, such as eu-1, and the same as `replica` there",
            ));
        }
        if all.iter().any(|other| other.id == id) {
            return Err(Invalid::new(
                field("id"),
                format!("{id} stands here twice: each replica has an id of its own"),
            ));
        }
        let url = url(&replica.url).map_err(|why| Invalid::new(field("url"), why))?;
        if let Some(other) = all.iter().find(|other| other.url == url) {
            return Err(Invalid::new(
                field("url"),
                format!("is that of {} too: each replica is reached at an address of its own", other.id),
            ));
        }
        all.push(Peer { id, rank: 0, url });
    }
    if all.len() < 2 {
        return Err(Invalid::new(
            "peers.replicas",
            "must list every replica, this one included, and so at least two: write \
             `- {id: eu-1, url: \"http://gotel.eu.example.org:8081\"}` for each",
        ));
    }
    if !all.iter().any(|peer| peer.id == own) {
        let ids: Vec<_> = all.iter().map(|peer| peer.id.as_str()).collect();
        return Err(Invalid::new(
            "peers.replicas",
            format!(
                "does not list this replica, {own:?}, but {}: add it, or correct `replica` (--replica, GOTEL_REPLICA)",
                ids.join(", ")
            ),
        ));
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    for (rank, peer) in all.iter_mut().enumerate() {
        peer.rank = rank;
    }
    Ok(all)
}

/// As `replica` itself is checked.
fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.chars().count()) && !id.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Where a replica takes heartbeats.
fn url(text: &str) -> Result<Url, String> {
    const RIGHT: &str = "write http://gotel.eu.example.org:8081";
    let url = Url::parse(text).map_err(|e| format!("is not a URL ({e}): {RIGHT}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(format!("is neither http:// nor https://: {RIGHT}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("holds a user name or password, and heartbeats are signed instead: {RIGHT}"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("has more than a host and a port: {RIGHT}"));
    }
    Ok(url)
}

fn length(field: &'static str, text: Option<String>, default_ms: i64) -> Result<i64, Invalid> {
    let Some(text) = text else { return Ok(default_ms) };
    let ms = duration::parse_ms(field, &text)?;
    if ms < MIN_MS {
        return Err(Invalid::new(
            field,
            format!("{text} is shorter than the 2 s between two heartbeats: write 2s or more"),
        ));
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(yaml: &str) -> Result<PeersConfig, String> {
        let env = |name: &str| match name {
            "PEERS" => Some("0123456789abcdef".to_owned()),
            "SHORT" => Some("hush".to_owned()),
            _ => None,
        };
        let written = serde_yaml::from_str(yaml).map_err(|e: serde_yaml::Error| e.to_string())?;
        parse(written, "us-1", Some(Dialect::MySql), &env).map_err(|e| e.to_string())
    }

    const TWO: &str = "replicas: [{id: us-1, url: 'http://b:8081'}, {id: eu-1, url: 'https://a'}]\n";

    #[test]
    fn a_pair_is_read_and_ordered_by_id() {
        let config = read(&format!("secret: ${{PEERS}}\n{TWO}")).unwrap();
        assert_eq!(config.listen.to_string(), LISTEN);
        assert_eq!((config.rank, config.confirm_ms, config.page_ms), (1, 30_000, 60_000));
        let eu = Peer { id: "eu-1".into(), rank: 0, url: "https://a/".parse().unwrap() };
        assert_eq!(config.others, [eu]);
        assert!(!format!("{config:?}").contains("0123456789"));
        let slow = read(&format!("secret: ${{PEERS}}\nconfirm: 2m\n{TWO}")).unwrap();
        assert_eq!((slow.confirm_ms, slow.page_ms), (120_000, 120_000));
    }

    #[rstest]
    #[case::no_secret("", "peers.secretFile: is missing: write secretFile: PATH")]
    #[case::two_secrets("secret: ${PEERS}\nsecretFile: x\n", "peers.secret: stands beside secretFile")]
    #[case::written_secret(
        "secret: hush-hush-hush-hush\n",
        "peers.secret: a secret does not stand in this file"
    )]
    #[case::unset("secret: ${NONE}\n", "peers.secret: the environment variable NONE is not set")]
    #[case::short("secret: ${SHORT}\n", "peers.secret: holds 4 characters and could be guessed")]
    #[case::no_file("secretFile: /nonexistent\n", "peers.secretFile: cannot read the file /nonexistent")]
    #[case::listen("listen: ':1'\n", "peers.listen: \":1\" is not an address with a port")]
    #[case::fast("secret: ${PEERS}\nconfirm: 1s\n", "peers.confirm: 1s is shorter than the 2 s")]
    #[case::no_length("secret: ${PEERS}\npage: 1\n", "peers.page: `1` has no unit")]
    #[case::page_first("secret: ${PEERS}\npage: 20s\n", "peers.page: is shorter than peers.confirm (30s)")]
    #[case::unknown("secrets: x\n", "unknown field `secrets`")]
    fn a_mistake_in_the_block_is_explained(#[case] yaml: &str, #[case] error: &str) {
        let told = read(&format!("{yaml}{TWO}")).unwrap_err();
        assert!(told.contains(error), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }

    #[rstest]
    #[case::none("[]", "peers.replicas: must list every replica")]
    #[case::one("[{id: us-1, url: 'http://a'}]", "peers.replicas: must list every replica")]
    #[case::without_self(
        "[{id: eu-1, url: 'http://a'}, {id: eu-2, url: 'http://b'}]",
        "peers.replicas: does not list this replica, \"us-1\", but eu-1, eu-2: add it"
    )]
    #[case::twice(
        "[{id: us-1, url: 'http://a'}, {id: us-1, url: 'http://b'}]",
        "peers.replicas[1].id: us-1 stands here twice"
    )]
    #[case::no_id("[{url: 'http://a'}]", "peers.replicas[0].id: must be 1 to 64 characters")]
    #[case::spaced_id("[{id: 'a b', url: 'http://a'}]", "peers.replicas[0].id: must be 1 to 64 characters")]
    #[case::same_url(
        "[{id: us-1, url: 'http://a:80/'}, {id: eu-1, url: 'http://a'}]",
        "peers.replicas[1].url: is that of us-1 too"
    )]
    #[case::no_url("[{id: us-1}]", "peers.replicas[0].url: is not a URL")]
    #[case::scheme("[{id: us-1, url: 'ftp://a'}]", "peers.replicas[0].url: is neither http:// nor https://")]
    #[case::userinfo("[{id: us-1, url: 'http://me:hush@a'}]", "peers.replicas[0].url: holds a user name")]
    #[case::path(
        "[{id: us-1, url: 'http://a/gotel'}]",
        "peers.replicas[0].url: has more than a host and a port"
    )]
    #[case::query(
        "[{id: us-1, url: 'http://a?x'}]",
        "peers.replicas[0].url: has more than a host and a port"
    )]
    fn a_mistake_in_the_list_is_explained(#[case] list: &str, #[case] error: &str) {
        let told = read(&format!("secret: ${{PEERS}}\nreplicas: {list}\n")).unwrap_err();
        assert!(told.starts_with(error), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }

    #[test]
    fn sqlite_has_no_peers() {
        let told = parse(Written::default(), "us-1", Some(Dialect::Sqlite), &|_| None).unwrap_err();
        assert!(told.to_string().starts_with("peers: need a database that several processes can share"));
    }
}
