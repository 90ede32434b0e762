//! The loop that tells: the ledger's decisions carried out.

use super::ledger::{At, Ledger, Message};
use super::state::{Kept, StateFile};
use super::{Direct, Standing, Unwritten};
use crate::clock;
use crate::lifecycle::Pulse;
use crate::peers::sight::Sight;
use crate::store::Store;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// No send may take longer; as [`crate::peers::direct`] promises, whatever an alerter does.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// How long sends on their way may take to end when the process does.
const DRAIN: Duration = Duration::from_secs(8);

/// A send that ended, or whose task did.
type Ended = Result<(Id, Result<(), String>), JoinError>;

/// What a teller is given.
pub struct Parts {
    /// For the installation's identity only; nothing is asked of the database.
    pub store: Store,
    /// What this replica sees.
    pub sight: watch::Receiver<Sight>,
    /// What could not be written down.
    pub unwritten: Unwritten,
    /// How to tell.
    pub direct: Arc<dyn Direct>,
    /// Folder of the state file.
    pub folder: PathBuf,
    /// This replica.
    pub replica: String,
    /// What the installation is called in keys while its name is not known.
    pub unnamed: String,
    /// The loop's pulse.
    pub pulse: Arc<Pulse>,
    /// Where others look up what stands told.
    pub standing: Standing,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("replica", &self.replica).finish_non_exhaustive()
    }
}

/// Tells without the database.
pub struct Teller {
    parts: Parts,
    ledger: Ledger,
    file: StateFile,
    /// The installation as an earlier process knew it.
    install_id: String,
    sends: JoinSet<Result<(), String>>,
    on_the_way: Vec<(Id, Message)>,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl Teller {
    /// Reads what an earlier process has told; tells nothing yet.
    pub fn new(parts: Parts) -> Self {
        let mut file = StateFile::of(&parts.folder, &parts.replica);
        let kept = file.read();
        let ledger = Ledger::new(&parts.replica, &parts.unnamed, parts.direct.targets(), kept.troubles);
        parts.standing.show(ledger.troubles());
        let (sends, on_the_way) = (JoinSet::new(), Vec::new());
        Self { parts, ledger, file, install_id: kept.install_id, sends, on_the_way }
    }

    /// Runs until `stop`, then waits a little for sends on their way.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.step(now()).await;
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                Some(ended) = self.sends.join_next_with_id() => self.count(ended, now()),
                () = stop.cancelled() => {}
            }
        }
        let end = async {
            while let Some(ended) = self.sends.join_next_with_id().await {
                self.count(ended, now());
            }
        };
        let in_time = tokio::time::timeout(DRAIN, end).await.is_ok();
        self.keep(now()).await;
        if !in_time {
            tracing::warn!("ends with an alert on its way: the next start sends it again if need be");
        }
    }

    /// Looks at what is seen, notes what follows, and begins to tell it.
    pub async fn step(&mut self, at: At) {
        self.know_the_installation();
        let sight = self.parts.sight.borrow().clone();
        let known = self.ledger.troubles().len();
        let findings = self.parts.unwritten.read();
        self.ledger.step(&sight, &findings, &self.install_id, at, || uuid::Uuid::new_v4().to_string());
        for trouble in self.ledger.troubles().iter().skip(known) {
            let what = trouble.text.lines().next().unwrap_or_default();
            tracing::error!(
                kind = trouble.kind,
                subject = trouble.subject,
                "{what}: told without the database"
            );
        }
        // Noted first: should this process die in the middle of a send, the next one sends it under the same name.
        self.keep(at).await;
        for message in self.ledger.sends(at.boot_ms) {
            self.send(message);
        }
        self.parts.pulse.beat_with(match self.ledger.troubles().len() {
            0 => "nothing to tell".to_owned(),
            open => format!("{open} told or to be told without the database"),
        });
    }

    /// A database that turned out to be another installation's has nothing to do with what was told.
    fn know_the_installation(&mut self) {
        let known = self.parts.store.install_id();
        if known.is_empty() || known == self.install_id {
            return;
        }
        if !self.install_id.is_empty() {
            tracing::warn!(
                "the database is another installation's than before: what was told earlier is dropped"
            );
            self.ledger.clear();
        }
        known.clone_into(&mut self.install_id);
    }

    async fn keep(&mut self, at: At) {
        let troubles = self.ledger.troubles().to_vec();
        self.parts.standing.show(&troubles);
        let kept = Kept { version: 1, install_id: self.install_id.clone(), troubles };
        self.file.write(&kept, at.boot_ms).await;
    }

    fn send(&mut self, message: Message) {
        let (direct, sent) = (Arc::clone(&self.parts.direct), message.clone());
        let sending = self.sends.spawn(async move {
            let key = idem_key(&sent);
            match tokio::time::timeout(SEND_LIMIT, direct.tell(&sent.target, &key, &sent.notice)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no answer within {} s", SEND_LIMIT.as_secs())),
            }
        });
        self.on_the_way.push((sending.id(), message));
    }

    /// Takes in how a send ended.
    fn count(&mut self, ended: Ended, at: At) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(e) => (e.id(), Err("the alerter panicked: this is a bug in GoTel".to_owned())),
        };
        let Some(index) = self.on_the_way.iter().position(|(sending, _)| *sending == id) else { return };
        let (_, message) = self.on_the_way.swap_remove(index);
        let (alerter, recipient) = (&message.target.alerter, &message.target.recipient);
        let (event, component) = (message.notice.event.as_str(), &message.notice.component);
        match &outcome {
            Ok(()) => tracing::info!(alerter, recipient, component, event, "told without the database"),
            Err(why) => {
                tracing::warn!(alerter, recipient, component, event, why, "not told without the database")
            }
        }
        self.ledger.ended(&message, outcome.is_ok(), at, fastrand::f64());
    }
}

fn now() -> At {
    At { boot_ms: clock::boot_ms(), wall_ms: clock::wall_ms() }
}

/// Names the delivery for ever: the same on each try, in each process.
fn idem_key(message: &Message) -> String {
    let mut hash = Sha256::new();
    let event_no = message.notice.event_no.to_string();
    let parts = [&message.notice.incident, &event_no, &message.target.alerter, &message.target.recipient];
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..16])
}
