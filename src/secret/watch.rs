//! Reads the files of secrets again while the process runs.
//!
//! Promises:
//! - What a file holds is compared, not its time or its name, so that it does not matter how it was replaced: a
//!   mounted Kubernetes Secret (the `..data` link is exchanged), a rename, a write in place. A new value is in use
//!   two looks after it was complete ([`EVERY`] apart).
//! - The files of one [`Group`] are replaced together or not at all. If one of them is away, empty, half written,
//!   huge, a pipe, a folder, or holds what does not serve, all keep the values they had; the log says so once,
//!   `/nodes` and `gotel_secret_stale` for as long as it lasts.
//! - A file system that does not answer holds one thread and delays no other group.
//!
//! Does not promise: that a value which looks right is right (a password is tried by the next send), or to notice
//! a value that stood for less than two looks.
//!
//! Races: the file is replaced while it is read: half of a value is never seen twice. Two files of a group are
//! replaced one after the other, and looked at in between: neither is this.

use super::rule::{Digest, Move, Seen, Standing};
use super::{Secret, SecretSource, TOGETHER, file};
use crate::clock;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::reservation::Invalid;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Between two looks. A kubelet takes up to a minute to bring a new value here.
pub const EVERY: Duration = Duration::from_secs(2);

/// How long reading may take before it is said.
const LIMIT: Duration = Duration::from_secs(5);

/// Takes what the files of a group hold, in their order, at a boot time. Ok(true): something is new; Ok(false): it
/// is what was in use. Err names the field and what would be right; then nothing has changed.
pub type Accept = Box<dyn Fn(&[SecretString], i64) -> Result<bool, Invalid> + Send + Sync>;

/// The files of one alerter, one token or one other thing.
pub struct Group {
    name: String,
    files: Vec<(String, PathBuf)>,
    accept: Accept,
    standing: Standing,
    reading: Option<JoinHandle<Look>>,
}

/// What the files hold, or what is wrong with one of them.
type Look = Result<(Vec<SecretString>, Digest), String>;

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.name).field("files", &self.files).finish_non_exhaustive()
    }
}

impl Group {
    /// `files`: the fields of the configuration that name them, and the files.
    pub fn new(name: impl Into<String>, files: Vec<(String, PathBuf)>, accept: Accept) -> Self {
        Self { name: name.into(), files, accept, standing: Standing::default(), reading: None }
    }

    /// Those of `secrets` that come from files; None: none does.
    pub fn of<'s>(name: impl Into<String>, secrets: impl IntoIterator<Item = &'s Secret>) -> Option<Self> {
        let mut files = Vec::new();
        let mut kept = Vec::new();
        for secret in secrets {
            if let SecretSource::File(path) = secret.source() {
                files.push((secret.field.to_string(), path.clone()));
                kept.push((secret.clone(), file::called(path)));
            }
        }
        if kept.is_empty() {
            return None;
        }
        let accept = move |texts: &[SecretString], boot_ms: i64| {
            let fit = |((secret, what), text): (&(Secret, String), &SecretString)| {
                secret.fitting(what, text.expose_secret())
            };
            let values: Vec<String> = kept.iter().zip(texts).map(fit).collect::<Result<_, _>>()?;
            let _turn = TOGETHER.write().unwrap_or_else(PoisonError::into_inner);
            let mut new = false;
            for ((secret, _), value) in kept.iter().zip(values) {
                new |= secret.put(value, boot_ms);
            }
            Ok(new)
        };
        Some(Self::new(name, files, Box::new(accept)))
    }

    /// Reads the files. A read that has not come back is waited for, not begun again.
    async fn look(&mut self) -> Look {
        let files = &self.files;
        let reading = self.reading.get_or_insert_with(|| {
            let files = files.clone();
            tokio::task::spawn_blocking(move || read(&files))
        });
        match tokio::time::timeout(LIMIT, reading).await {
            Ok(ended) => {
                self.reading = None;
                ended.unwrap_or_else(|_| Err("reading it failed: this is a bug in GoTel".into()))
            }
            Err(_) => {
                let (field, path) = &self.files[0];
                let limit = LIMIT.as_secs();
                Err(format!("{field}: reading {} takes longer than {limit} s", file::called(path)))
            }
        }
    }

    /// One look, and what follows from it.
    async fn step(&mut self, boot_ms: i64, metrics: &Metrics) {
        let look = self.look().await;
        let seen = match &look {
            Ok((_, digest)) => Seen::Content(*digest),
            Err(why) => Seen::Unreadable(why.clone()),
        };
        let mut step = self.standing.see(seen);
        if let (Move::Try, Ok((texts, digest))) = (step, &look) {
            step = match (self.accept)(texts, boot_ms) {
                Ok(new) => {
                    if new {
                        metrics.secret_reload(&self.name, "replaced");
                        tracing::info!(secret = self.name, "read again: the new value is in use");
                    }
                    self.standing.taken(*digest)
                }
                Err(invalid) => self.standing.refused(&invalid.to_string()),
            };
        }
        match (step, self.standing.trouble()) {
            (Move::Complain, Some(why)) => {
                metrics.secret_reload(&self.name, if look.is_ok() { "refused" } else { "unreadable" });
                tracing::warn!(
                    secret = self.name,
                    why,
                    "a secret cannot be read again: what was read before stays in use; correct the file, and it is \
                     looked at again within seconds"
                );
            }
            (Move::Heal, _) => {
                tracing::info!(secret = self.name, "what its files hold is in use again");
            }
            _ => {}
        }
        metrics.secret_stale(&self.name, self.standing.trouble().is_some());
    }

    fn card(&self) -> Card {
        Card {
            name: self.name.clone(),
            files: self.files.iter().map(|(_, path)| path.display().to_string()).collect(),
            trouble: self.standing.trouble().map(str::to_owned),
        }
    }
}

fn read(files: &[(String, PathBuf)]) -> Look {
    let mut hash = Sha256::new();
    let mut texts = Vec::with_capacity(files.len());
    for (field, path) in files {
        let text = file::read(path).map_err(|why| format!("{field}: {why}"))?;
        hash.update((text.expose_secret().len() as u64).to_be_bytes());
        hash.update(text.expose_secret());
        texts.push(text);
    }
    Ok((texts, hash.finalize().into()))
}

/// Whose secrets are read again, and whether what their files hold is in use: for the pages.
#[derive(Debug, Clone, Default)]
pub struct Rack(Arc<RwLock<Vec<Card>>>);

/// One group on the rack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Whose it is: `alerter/ops-mail`, `token/jobs`, `peers`, `database` …
    pub name: String,
    /// Its files.
    pub files: Vec<String>,
    /// Why what was read before is still in use; None: what the files hold is.
    pub trouble: Option<String>,
}

impl Rack {
    /// Replaces what hangs there.
    pub fn hang(&self, cards: Vec<Card>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = cards;
    }

    /// A copy of what hangs there.
    pub fn read(&self) -> Vec<Card> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks at all groups, again and again.
#[derive(Debug)]
pub struct Watch {
    groups: Vec<Group>,
    rack: Rack,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
}

impl Watch {
    /// One that has looked at nothing yet.
    pub fn new(groups: Vec<Group>, rack: Rack, metrics: Arc<Metrics>, pulse: Arc<Pulse>) -> Self {
        let watch = Self { groups, rack, metrics, pulse };
        watch.show();
        watch
    }

    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.step(clock::boot_ms()) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One look at all of them.
    pub async fn step(&mut self, boot_ms: i64) {
        let metrics = &self.metrics;
        futures::future::join_all(self.groups.iter_mut().map(|group| group.step(boot_ms, metrics))).await;
        self.show();
        match self.groups.iter().filter(|group| group.standing.trouble().is_some()).count() {
            0 => self.pulse.beat_with("all in use"),
            stale => self.pulse.beat_with(format!("{stale} of {} cannot be read again", self.groups.len())),
        }
    }

    fn show(&self) {
        self.rack.hang(self.groups.iter().map(Group::card).collect());
    }
}

#[cfg(test)]
mod tests;
