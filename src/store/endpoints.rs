//! The servers that hold the one database, and which of them is talked to.
//!
//! Promises:
//! - A connection is made to the first endpoint, beginning with the one that served last, that answers in
//!   time, takes writes, and holds this installation. One that stays silent costs a share of the time, and an
//!   operation that was cut short meanwhile begins behind it when it is tried again.
//! - A server that turns out to be read-only is left by every connection of this process: each carries the
//!   epoch in which it was made, and is closed at its next use when another has begun. So it is when another
//!   endpoint has become the one that serves.
//! - With a single endpoint the same happens, and its name is looked up anew at each connect (the driver keeps
//!   no addresses): a name that was pointed at another server is followed.
//! - User, password and parameters of the URLs may change while the process runs: connections that are made from
//!   then on use them. Servers and database may not: that would be another place, and a matter for a restart.
//!
//! Does not promise: to go back to an earlier endpoint by itself, or to find out whether two servers that hold
//! the same installation replicate to each other.

use super::error::{Result, StoreError};
use super::session::{CONNECT_LIMIT, sql};
use super::{Inner, pool};
use crate::clock;
use secrecy::{ExposeSecret, SecretString};
use sqlx::any::AnyConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// How long one of several endpoints may take, at first and at most. At first shorter than any operation's limit, so
/// that the next one is found within it; doubled after each round in which no endpoint answered, as all of them may be
/// far away.
const EACH_FIRST: Duration = Duration::from_millis(1500);
const EACH_MOST: Duration = Duration::from_millis(6000);

/// A connection that is known to be clean, and what it was made under.
pub(super) struct Link {
    pub(super) conn: AnyConnection,
    endpoint: usize,
    epoch: u64,
}

/// All of them.
pub(super) struct Endpoints {
    list: Vec<Endpoint>,
    place: Mutex<Place>,
    /// How many looks in a row met silence.
    silent: AtomicUsize,
}

struct Endpoint {
    way: RwLock<Way>,
    /// Host and port: what may be shown of it.
    shown: String,
    /// Whether it was seen to hold this installation.
    known: AtomicBool,
    /// Whether it was told that it does not.
    told: AtomicBool,
}

/// How one of them is connected to.
struct Way {
    url: SecretString,
    options: AnyConnectOptions,
}

impl Way {
    fn parse(url: &str) -> Result<Self> {
        // The URL may hold a password: the driver's message is not passed on.
        let options = AnyConnectOptions::from_str(url)
            .map_err(|_| StoreError::Schema("database-url is not a valid URL".into()))?;
        Ok(Self { url: url.into(), options })
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Where the next connection begins to look.
    start: usize,
    /// Which one served last.
    serving: Option<usize>,
    epoch: u64,
}

impl Place {
    /// `at` has failed.
    fn pass_over(&mut self, at: usize, count: usize) {
        if self.start == at {
            self.start = (at + 1) % count;
        }
    }

    /// `at` has taken a connection. True: another one served before.
    fn serve(&mut self, at: usize) -> bool {
        self.start = at;
        let moved = self.serving.is_some_and(|before| before != at);
        self.serving = Some(at);
        self.epoch += u64::from(moved);
        moved
    }

    /// The server behind a connection of `epoch` takes no writes. True: nobody has noticed before.
    fn leave(&mut self, at: usize, epoch: u64, count: usize) -> bool {
        if self.epoch != epoch {
            return false;
        }
        self.pass_over(at, count);
        self.epoch += 1;
        true
    }
}

/// A look at one endpoint: if it ends in any other way than well, the next look begins elsewhere.
struct Look<'e> {
    endpoints: &'e Endpoints,
    at: usize,
    since_us: i64,
    answered: bool,
    well: bool,
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let Endpoints { list, silent, .. } = self.endpoints;
        if !self.well {
            self.endpoints.place().pass_over(self.at, list.len());
        }
        if !self.answered {
            silent.fetch_add(1, Ordering::Relaxed);
        } else if self.well && clock::since_us(self.since_us) < EACH_FIRST / 2 {
            silent.store(0, Ordering::Relaxed);
        }
    }
}

impl Endpoints {
    /// Those of `urls`, which are of one dialect.
    pub(super) fn new(urls: &[String]) -> Result<Self> {
        let list = urls.iter().map(|url| {
            Ok(Endpoint {
                way: RwLock::new(Way::parse(url)?),
                shown: shown(url),
                known: AtomicBool::new(false),
                told: AtomicBool::new(false),
            })
        });
        Ok(Self { list: list.collect::<Result<_>>()?, place: Mutex::default(), silent: AtomicUsize::new(0) })
    }

    /// Other users and passwords for the same servers. Ok(false): nothing is new.
    pub(super) fn renew(&self, urls: &[String]) -> std::result::Result<bool, String> {
        const WRONG: &str = "is not a valid URL: write mysql://user:password@host/database, special characters of \
                             the password percent-encoded";
        let same = |(endpoint, url): (&Endpoint, &String)| {
            let way = endpoint.way.read().unwrap_or_else(PoisonError::into_inner);
            where_to(way.url.expose_secret()) == where_to(url)
        };
        if urls.len() != self.list.len() || !self.list.iter().zip(urls).all(same) {
            return Err("names another server or database than at the start: put the old one back with a new user or \
                        password, or restart GoTel to move"
                .into());
        }
        // The driver looks at the rest of a URL only when it connects.
        let parse = |url: &String| match MySqlConnectOptions::from_str(url) {
            Ok(_) => Way::parse(url).map_err(|_| WRONG),
            Err(_) => Err(WRONG),
        };
        let ways = urls.iter().map(parse);
        let ways: Vec<Way> = ways.collect::<std::result::Result<_, _>>()?;
        let mut new = false;
        for (endpoint, way) in self.list.iter().zip(ways) {
            let mut now = endpoint.way.write().unwrap_or_else(PoisonError::into_inner);
            new |= now.url.expose_secret() != way.url.expose_secret();
            *now = way;
        }
        Ok(new)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is another one to go to.
    pub(super) fn are_several(&self) -> bool {
        self.list.len() > 1
    }

    /// How long each of several may take now.
    fn each(&self) -> Duration {
        let rounds = self.silent.load(Ordering::Relaxed) / self.list.len();
        EACH_MOST.min(EACH_FIRST * (1 << rounds.min(4)))
    }

    /// Whether a connection may still be used.
    pub(super) fn is_current(&self, link: &Link) -> bool {
        self.place().epoch == link.epoch
    }

    /// The server behind `link` takes no writes: no connection to it is used again.
    pub(super) fn leave(&self, link: &Link) {
        if self.place().leave(link.endpoint, link.epoch, self.list.len()) {
            let endpoint = &self.list[link.endpoint].shown;
            tracing::warn!(endpoint, "the database server takes no writes: every connection to it is closed");
        }
    }
}

impl pool::Permit<'_> {
    /// An idle connection that may still be used, if one is left over.
    pub(super) fn current(&self, endpoints: &Endpoints) -> Option<Link> {
        while let Some(link) = self.idle() {
            if endpoints.is_current(&link) {
                return Some(link);
            }
        }
        None
    }
}

impl Inner {
    /// A fresh connection, set up, to a server that takes writes.
    pub(super) async fn connect(&self) -> Result<Link> {
        match tokio::time::timeout(CONNECT_LIMIT, self.look_around()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Timeout(CONNECT_LIMIT, "connect")),
        }
    }

    async fn look_around(&self) -> Result<Link> {
        let endpoints = &self.endpoints;
        let (count, start) = (endpoints.list.len(), endpoints.place().start);
        let limit = if endpoints.are_several() { endpoints.each() } else { CONNECT_LIMIT };
        let mut failures = Vec::new();
        for at in (0..count).map(|n| (start + n) % count) {
            let mut look = Look { endpoints, at, since_us: clock::boot_us(), answered: false, well: false };
            let outcome = match tokio::time::timeout(limit, self.connect_to(at)).await {
                Ok(outcome) => {
                    look.answered = true;
                    outcome
                }
                Err(_) => Err(StoreError::Timeout(limit, "connect")),
            };
            match outcome {
                Ok(conn) => {
                    look.well = true;
                    let mut place = endpoints.place();
                    if place.serve(at) {
                        let endpoint = &endpoints.list[at].shown;
                        tracing::warn!(endpoint, "another endpoint serves the database now");
                    }
                    return Ok(Link { conn, endpoint: at, epoch: place.epoch });
                }
                Err(e) if count == 1 => return Err(e),
                Err(e) => failures.push(format!("{}: {e}", endpoints.list[at].shown)),
            }
        }
        Err(StoreError::Unavailable(format!("no endpoint serves ({})", failures.join("; "))))
    }

    async fn connect_to(&self, at: usize) -> Result<AnyConnection> {
        let endpoint = &self.endpoints.list[at];
        let options = endpoint.way.read().unwrap_or_else(PoisonError::into_inner).options.clone();
        let mut conn = AnyConnection::connect_with(&options).await?;
        for statement in self.dialect.session_setup() {
            (&mut conn).execute(AssertSqlSafe(statement)).await?;
        }
        if let Some(question) = self.dialect.read_only() {
            // Not prepared: that would be one more trip.
            let row = (&mut conn).fetch_one(AssertSqlSafe(format!("SELECT {question}"))).await?;
            if row.try_get::<i64, _>(0)? != 0 {
                return Err(StoreError::ReadOnly("read_only is set".into()));
            }
        }
        self.recognise(endpoint, &mut conn).await?;
        Ok(conn)
    }

    /// Refuses one of several endpoints that holds another installation, or none.
    async fn recognise(&self, endpoint: &Endpoint, conn: &mut AnyConnection) -> Result<()> {
        let Some(ours) = self.install_id.get() else { return Ok(()) };
        if self.endpoints.list.len() == 1 || endpoint.known.load(Ordering::Relaxed) {
            return Ok(());
        }
        let found = sql("SELECT install_id FROM meta WHERE id = 1").fetch_optional(conn).await;
        let found = match found.map_err(StoreError::from) {
            Ok(row) => row.map(|row| row.try_get::<String, _>(0)).transpose()?,
            // No such table, or no right to read it: not ours either.
            Err(StoreError::Other(_)) => None,
            Err(e) => return Err(e),
        };
        if found.as_deref() == Some(ours) {
            endpoint.known.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if !endpoint.told.swap(true, Ordering::Relaxed) {
            tracing::error!(
                endpoint = endpoint.shown,
                found = found.as_deref().unwrap_or("none"),
                ours,
                "this endpoint holds another installation of GoTel than the first one: it is not used; endpoints of \
                 one list must be servers of one replicated database"
            );
        }
        Err(StoreError::Unavailable("it holds another installation".into()))
    }
}

/// The part of a URL that says which database it is; None: it is none.
fn where_to(url: &str) -> Option<(String, Option<u16>, String)> {
    let url = url::Url::parse(url).ok()?;
    Some((url.host_str()?.to_owned(), url.port().or(Some(3306)), url.path().to_owned()))
}

/// Host and port of a URL: nothing else of it may be shown.
fn shown(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(url) => match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => url.scheme().to_owned(),
        },
        Err(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_are_all_silent_are_given_more_time_and_those_that_answer_soon_less() {
        let urls = ["mysql://a/x", "mysql://b/x"].map(str::to_owned);
        sqlx::any::install_default_drivers();
        let endpoints = Endpoints::new(&urls).unwrap();
        let look = |answered: bool, well: bool| {
            let since_us = clock::boot_us();
            drop(Look { endpoints: &endpoints, at: 0, since_us, answered, well });
            endpoints.each().as_millis()
        };
        assert_eq!([(); 6].map(|()| look(false, false)), [1500, 3000, 3000, 6000, 6000, 6000]);
        assert_eq!(look(true, false), 6000, "a refusal says nothing of the way there");
        assert_eq!(look(true, true), 1500);
    }

    #[test]
    fn the_next_look_begins_behind_the_endpoint_that_failed_and_comes_round() {
        let mut place = Place::default();
        place.pass_over(0, 3);
        place.pass_over(0, 3);
        assert_eq!(place.start, 1, "two that failed at once count once");
        place.pass_over(1, 3);
        place.pass_over(2, 3);
        assert_eq!(place.start, 0);
        let mut alone = Place::default();
        alone.pass_over(0, 1);
        assert_eq!(alone, Place::default());
    }

    #[test]
    fn connections_are_left_when_another_endpoint_serves_and_only_then() {
        let mut place = Place::default();
        assert!(!place.serve(0));
        place.pass_over(0, 2);
        assert_eq!(place.epoch, 0, "a connect that failed closes nothing that works");
        assert!(!place.serve(0));
        assert!(place.serve(1));
        assert_eq!((place.start, place.epoch), (1, 1));
    }

    #[test]
    fn a_demoted_server_is_left_once_however_many_notice() {
        let mut place = Place::default();
        place.serve(0);
        assert!(place.leave(0, 0, 2));
        assert!(!place.leave(0, 0, 2), "a connection of the old epoch says nothing new");
        assert_eq!((place.start, place.epoch), (1, 1));
        let mut alone = Place::default();
        alone.serve(0);
        assert!(alone.leave(0, 0, 1));
        assert_eq!((alone.start, alone.epoch), (0, 1), "its name is looked up again");
    }

    #[test]
    fn user_password_and_parameters_may_change_and_the_place_may_not() {
        sqlx::any::install_default_drivers();
        let urls = |all: &[&str]| all.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        let endpoints = Endpoints::new(&urls(&["mysql://a:hush@db-1/gotel", "mysql://db-2/gotel"])).unwrap();
        let renew = |all: &[&str]| endpoints.renew(&urls(all));
        assert_eq!(renew(&["mysql://a:hush@db-1/gotel", "mysql://db-2/gotel"]), Ok(false));
        assert_eq!(renew(&["mysql://b:new@db-1/gotel", "mysql://db-2/gotel?ssl-mode=REQUIRED"]), Ok(true));
        let now = endpoints.list[0].way.read().unwrap().url.clone();
        for other in [
            &["mysql://b:hush@db-1/gotel"][..],
            &["mysql://b:hush@db-3/gotel", "mysql://db-2/gotel"],
            &["mysql://b:hush@db-1:3307/gotel", "mysql://db-2/gotel"],
            &["mysql://b:hush@db-1/other", "mysql://db-2/gotel"],
            &["hush", "mysql://db-2/gotel"],
            &["mysql://b:hush@db-1/gotel?ssl-mode=hush", "mysql://db-2/gotel"],
        ] {
            let why = renew(other).unwrap_err();
            assert!(!why.contains("hush"), "{why}");
        }
        assert_eq!(endpoints.list[0].way.read().unwrap().url.expose_secret(), now.expose_secret());
    }

    #[test]
    fn nothing_but_host_and_port_is_shown() {
        assert_eq!(
            shown("mysql://gotel:hush@db-1.example:3307/gotel?ssl-mode=REQUIRED"),
            "db-1.example:3307"
        );
        assert_eq!(shown("mysql://gotel:hush@db/gotel"), "db");
        assert_eq!(shown("sqlite:///data/gotel.db"), "sqlite");
    }
}
