//! The other replicas: who they are, how they are, and what is said about it.
//!
//! Promises: each replica watches all others by two ways that fail apart, the row that each writes into the
//! database each second and a signed heartbeat over HTTP; a pure `verdict` tells what the two together
//! mean; what a person has to know becomes a system incident with one open row, however many replicas see it.
//! When the database itself is gone, alerters are told without it (`direct`).
//!
//! Does not promise: anything about safety. Who may coordinate is the lease's matter (`store::lease`).
//!
//! The parts, each a `step()` and a loop or pure:
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | the `peers:` block of the configuration |
//! | [`beat`] | this replica's row, each second; the rows of all |
//! | [`frame`] | heartbeats as bytes: signed, and good for one use; pure |
//! | `listener` | takes heartbeats, on an address of its own |
//! | `caller` | sends one to each peer each 2 s |
//! | [`sight`] | what all of them came to: the types; pure |
//! | [`verdict`] | what that means; pure |
//! | `watch` | gathers the evidence, shows it on the board, says what is to be told |
//! | `words` | verdicts and evidence for a tired person; pure |
//! | `tell` | opens and closes the incidents |
//! | [`solo`] | the sight of a replica without peers |
//! | [`direct`] | alerts that need no database |
//! | [`external`] | the heartbeat to whoever monitors GoTel |

pub mod beat;
mod caller;
pub mod config;
pub mod direct;
mod ear;
pub mod external;
pub mod frame;
mod listener;
pub mod sight;
pub mod solo;
mod speaker;
mod tell;
pub mod verdict;
mod watch;
mod words;

use crate::board::Board;
use crate::lifecycle::{Bar, Loops, Tasks};
use crate::metrics::Metrics;
use crate::reservation::routing::Routes;
use crate::store::{Leading, Store};
use beat::{Beat, BeatParts, Seen, Watched};
use caller::Caller;
use config::PeersConfig;
use direct::Unwritten;
use ear::Ear;
use frame::Gate;
use listener::Listener;
use sight::{Sight, Told};
use speaker::Speaker;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tell::{Reported, Teller};
use tokio::sync::{Notify, watch as channel};
use watch::{WatchParts, Watcher};

/// What was told without the database and is open, as of now.
pub type Telling = Arc<dyn Fn() -> Vec<Told> + Send + Sync>;

/// Longer without a step is stuck.
const PULSE: Duration = Duration::from_secs(30);

/// What the loops need.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The block of the configuration.
    pub config: PeersConfig,
    /// This replica's id.
    pub replica: String,
    /// The alerters.
    pub routes: Routes,
    /// Whether this replica leads.
    pub leads: channel::Receiver<Option<Leading>>,
    /// An HTTP client that follows no redirects.
    pub client: reqwest::Client,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Ages of the loops.
    pub loops: Arc<Loops>,
    /// Where the others are shown.
    pub board: Board,
    /// What keeps a second process of one id from leading.
    pub bar: Arc<Bar>,
    /// What is seen by the mark that is moved while check-ins can be stored ([`solo`]).
    pub mark: channel::Receiver<Sight>,
    /// Rung when there is something in the outbox.
    pub wake: Arc<Notify>,
    /// What was told without the database.
    pub told: Telling,
    /// What cannot be written into the database, for those who tell without it.
    pub unwritten: Unwritten,
}

/// What others need of them.
#[derive(Debug)]
pub struct Peers {
    /// What this replica sees, each second.
    pub sight: channel::Receiver<Sight>,
    /// What takes heartbeats; to be served at `peers.listen`.
    pub router: axum::Router,
}

/// Starts the loops. They are to end last: the row goes when nothing else is left of this replica.
pub fn start(parts: Parts, tasks: &mut Tasks) -> Peers {
    let (config, own) = (parts.config, parts.replica);
    let incarnation = uuid::Uuid::new_v4().to_string();
    let (publish, seen) = channel::channel(Seen::default());
    let (ear, watched, reported) = (Ear::default(), Watched::default(), Reported::default());
    let pulse = |name: &str| parts.loops.register(name, PULSE);
    let beat = Beat::new(BeatParts {
        session: parts.store.session(),
        id: own.clone(),
        incarnation: incarnation.clone(),
        alerters: parts.routes.cards().to_vec(),
        watched: watched.clone(),
        bar: parts.bar,
        mark: parts.mark,
        pulse: pulse("beat"),
        publish,
    });
    let speaker = Speaker {
        incarnation,
        store: parts.store.clone(),
        seen: seen.clone(),
        watched: watched.clone(),
        leads: parts.leads,
        told: parts.told,
        reported: reported.clone(),
    };
    let callers = config.others.iter().map(|peer| Caller {
        peer: peer.clone(),
        own: own.clone(),
        secret: config.secret.clone(),
        client: parts.client.clone(),
        speaker: speaker.clone(),
        ear: ear.clone(),
        metrics: Arc::clone(&parts.metrics),
        pulse: pulse(&format!("call/{}", peer.id)),
        nonce: String::new(),
    });
    let callers: Vec<Caller> = callers.collect();
    let (one, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let mut key = [0; 32];
    key[..16].copy_from_slice(one.as_bytes());
    key[16..].copy_from_slice(other.as_bytes());
    let names = config.others.iter().map(|peer| peer.id.clone()).collect();
    let router = listener::router(Arc::new(Listener {
        own: own.clone(),
        secret: config.secret.clone(),
        gate: Mutex::new(Gate::new(own.clone(), names, key)),
        speaker: speaker.clone(),
        ear: ear.clone(),
        metrics: Arc::clone(&parts.metrics),
        logged_boot_ms: Default::default(),
    }));
    let (sight_sender, sight) = channel::channel(Sight::nothing(own.clone(), config.rank));
    let (wanted_sender, wanted) = channel::channel(Vec::new());
    let watcher = Watcher::new(WatchParts {
        own: own.clone(),
        config,
        seen,
        ear,
        speaker,
        watched,
        board: parts.board,
        sight: sight_sender,
        wanted: wanted_sender,
        metrics: parts.metrics,
        pulse: pulse("watch"),
    });
    let teller = Teller {
        store: parts.store,
        routes: parts.routes,
        srv: own,
        wanted,
        wake: parts.wake,
        pulse: pulse("tell"),
        told: HashMap::new(),
        reported,
        unwritten: parts.unwritten,
        failing: false,
    };
    let stop = tasks.stop();
    // A thread of their own, so that a flood of requests does not make this replica look dead to the others.
    tasks.spawn_apart("peers", async move {
        let calls = futures::future::join_all(callers.into_iter().map(|caller| caller.run(stop.clone())));
        futures::join!(beat.run(stop.clone()), watcher.run(stop.clone()), calls);
    });
    tasks.spawn("tell", teller.run(tasks.stop()));
    Peers { sight, router }
}
