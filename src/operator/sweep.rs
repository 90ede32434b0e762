//! Objects that are gone: those whose deletion was seen, and those that are merely missing.
//!
//! Promises: a deletion that was seen lets its reservation go at once, if the definition still stands: one that is
//! deleted takes its objects along, and nobody meant that. What is merely missing stays watched for the grace of an
//! hour; and if too much is missing at once, or the definition is not the one that it was made under ([`brake`]),
//! nothing is let go, and people are told. Before one is marked as missing, and again before it is let go, the API is
//! asked for it by name: one that is there, or that nobody answers for, is kept. What belongs to namespaces that are not
//! watched, or could not be listed yet, is left alone.

use super::brake::{self, Why};
use super::context::{Context, locked};
use super::definition::{self, Definition};
use crate::clock;
use crate::store::{ObjectId, OwnedRow, StoreError, SystemKind};
use futures::future::join_all;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The definition is looked at this often while something is missing, and now and then otherwise.
const LOOK_EVERY_MS: i64 = 15_000;
const IDLE_LOOK_EVERY_MS: i64 = 600_000;
/// Objects that are asked for in one step, and at a time: however slow the answers, a step ends.
const ASKED: usize = 64;
const AT_A_TIME: usize = 16;
/// One that is there and not watched is asked for again after this.
const ASK_AGAIN_MS: i64 = 60_000;

pub(super) struct Sweep {
    ctx: Arc<Context>,
    /// None: not known yet whether people were told.
    braked: Option<bool>,
    definition: Option<(Definition, i64)>,
    /// Uids of objects that are there and not watched, and when that was seen.
    there: HashMap<String, i64>,
    /// Since when questions go without an answer.
    unanswered_ms: Option<i64>,
}

impl Sweep {
    pub(super) fn new(ctx: &Arc<Context>) -> Self {
        Self {
            ctx: Arc::clone(ctx),
            braked: None,
            definition: None,
            there: HashMap::new(),
            unanswered_ms: None,
        }
    }

    /// One look at what is owned where objects were listed; `complete`: they were everywhere. True: something was let
    /// go.
    pub(super) async fn step(
        &mut self,
        watched: &[&OwnedRow],
        live: &HashSet<String>,
        complete: bool,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let deleted = std::mem::take(&mut *locked(&self.ctx.deleted));
        let held: HashSet<&str> = watched.iter().map(|row| &*row.held.object.uid).collect();
        let deleted: Vec<_> =
            deleted.into_iter().filter(|o| held.contains(&*o.uid) && !live.contains(&o.uid)).collect();
        let mut freed = HashSet::new();
        if !deleted.is_empty() {
            self.definition = None;
            if let Err(e) = self.deletions(&deleted, watched.len(), &mut freed).await {
                locked(&self.ctx.deleted).extend(deleted.into_iter().filter(|o| !freed.contains(&o.uid)));
                return Err(e);
            }
        }
        let is_missing =
            |row: &&&OwnedRow| !live.contains(&row.held.object.uid) && !freed.contains(&row.held.object.uid);
        let missing: Vec<&OwnedRow> = watched.iter().filter(is_missing).copied().collect();
        let swept = self.missing(watched, &missing, live, complete, now_ms).await?;
        Ok(swept || !freed.is_empty())
    }

    /// Lets go what was seen to be deleted.
    async fn deletions(
        &mut self,
        deleted: &[ObjectId],
        owned: usize,
        freed: &mut HashSet<String>,
    ) -> Result<(), StoreError> {
        let ctx = Arc::clone(&self.ctx);
        let believed = match self.look(0).await {
            Some(Definition::Stands) => true,
            Some(Definition::Hidden) => !brake::pulled(deleted.len(), owned),
            // They are missing now, and found by the sweep.
            Some(Definition::Gone | Definition::Replaced(_)) => false,
            None => {
                locked(&ctx.deleted).extend_from_slice(deleted);
                return Ok(());
            }
        };
        if !believed {
            return Ok(());
        }
        for (n, object) in deleted.iter().enumerate() {
            // With a selector an object also leaves the watch when it loses a label.
            if ctx.shared.config.selector.is_some() {
                match ctx.is_there(object).await {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(_) => {
                        locked(&ctx.deleted).extend_from_slice(&deleted[n..]);
                        return Ok(());
                    }
                }
            }
            let reclaim = ctx.shared.store.release_object(object).await?;
            freed.insert(object.uid.clone());
            if let Some(reclaim) = reclaim {
                let name = format!("{}/{}", object.namespace, object.name);
                tracing::info!(
                    object = name,
                    ?reclaim,
                    "a Reservation was deleted: its reservation is let go"
                );
            }
        }
        Ok(())
    }

    async fn missing(
        &mut self,
        watched: &[&OwnedRow],
        missing: &[&OwnedRow],
        live: &HashSet<String>,
        complete: bool,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let ctx = Arc::clone(&self.ctx);
        let shared = &ctx.shared;
        let boot_ms = clock::boot_ms();
        let missed: HashSet<&str> = missing.iter().map(|row| &*row.held.object.uid).collect();
        self.there.retain(|uid, since_ms| missed.contains(&**uid) && *since_ms + ASK_AGAIN_MS > boot_ms);
        let back: Vec<i64> = watched
            .iter()
            .filter(|row| row.held.orphaned_ms.is_some() && live.contains(&row.held.object.uid))
            .map(|row| row.id)
            .collect();
        if !back.is_empty() {
            shared.store.mark_orphans(&ctx.leading, &back, false).await?;
        }
        let settled = matches!(self.definition, Some((Definition::Stands | Definition::Hidden, _)));
        let every = match (missing.is_empty(), settled) {
            (true, true) => IDLE_LOOK_EVERY_MS,
            // Everything is back: the sooner the new definition is noted, the sooner a deletion is one again.
            (true, false) if complete => 0,
            _ => LOOK_EVERY_MS,
        };
        let definition = self.look(every).await;
        if missing.is_empty() {
            shared.metrics.operator.missing(0, 0);
            // What was not listed may be missing, too.
            if complete {
                if let Some(Definition::Replaced(uid)) = definition {
                    shared.store.set_definition(&shared.cluster, &uid).await?;
                    self.definition = None;
                }
                self.release_brake().await?;
            }
            return Ok(false);
        }
        let replaced = matches!(definition, Some(Definition::Gone | Definition::Replaced(_)));
        let identified = shared.identified.load(Ordering::Relaxed);
        if let Some(why) = Why::all(missing.len(), watched.len(), replaced, identified) {
            shared.metrics.operator.missing(missing.len(), missing.len());
            self.pull_brake(missing, watched.len(), why).await?;
            return Ok(false);
        }
        let before_ms = now_ms - shared.config.orphan_grace_ms;
        let is_due = |row: &OwnedRow| row.held.orphaned_ms.is_some_and(|since| since <= before_ms);
        let asked: Vec<&OwnedRow> = missing
            .iter()
            .copied()
            .filter(|row| row.held.orphaned_ms.is_none() || is_due(row))
            .filter(|row| !self.is_there(row))
            .take(ASKED)
            .collect();
        // Not on the word of a look that could not be had.
        let gone = if definition.is_some() { self.gone(&asked).await } else { None };
        match &gone {
            Some(_) => self.unanswered_ms = None,
            None => {
                self.unanswered_ms.get_or_insert(boot_ms);
            }
        }
        let gone = gone.unwrap_or_default();
        let new: Vec<i64> =
            gone.iter().filter(|row| row.held.orphaned_ms.is_none()).map(|row| row.id).collect();
        if !new.is_empty() {
            tracing::warn!(missing = new.len(), "Reservations are missing in the cluster: watched for now");
            shared.store.mark_orphans(&ctx.leading, &new, true).await?;
        }
        let mut freed = false;
        for row in gone.into_iter().filter(|row| is_due(row)) {
            if let Some(reclaim) = shared.store.release_orphan(&ctx.leading, row, before_ms).await? {
                let object = &row.held.object;
                let name = format!("{}/{}", object.namespace, object.name);
                tracing::warn!(
                    object = name,
                    ?reclaim,
                    "a Reservation stayed missing: its reservation is let go"
                );
                freed = true;
            }
        }
        let there: Vec<&OwnedRow> = missing.iter().copied().filter(|row| self.is_there(row)).collect();
        let patience_ms = shared.config.unanswered_ms;
        let unanswered = self.unanswered_ms.is_some_and(|since| since + patience_ms <= boot_ms);
        let kept = if self.unanswered_ms.is_some() { missing.len() } else { there.len() };
        shared.metrics.operator.missing(missing.len(), kept);
        if !there.is_empty() {
            self.pull_brake(&there, watched.len(), Why::Unselected).await?;
        } else if unanswered {
            self.pull_brake(missing, watched.len(), Why::Unanswered).await?;
        } else if complete && self.unanswered_ms.is_none() {
            self.release_brake().await?;
        }
        Ok(freed)
    }

    /// Whether the row's object was there when it was last asked for, not long ago.
    fn is_there(&self, row: &OwnedRow) -> bool {
        self.there.contains_key(&row.held.object.uid)
    }

    /// Those whose object is not there; None: nobody answers for some of them.
    async fn gone<'a>(&mut self, rows: &[&'a OwnedRow]) -> Option<Vec<&'a OwnedRow>> {
        let ctx = Arc::clone(&self.ctx);
        let mut gone = Vec::new();
        for some in rows.chunks(AT_A_TIME) {
            let answers = join_all(some.iter().map(|row| ctx.is_there(&row.held.object))).await;
            for (row, answer) in some.iter().zip(answers) {
                match answer {
                    Ok(true) => {
                        self.there.insert(row.held.object.uid.clone(), clock::boot_ms());
                    }
                    Ok(false) => gone.push(*row),
                    Err(e) => {
                        let object = format!("{}/{}", row.held.object.namespace, row.held.object.name);
                        tracing::debug!(object, error = %e, "whether a Reservation is gone is not answered");
                        return None;
                    }
                }
            }
        }
        Some(gone)
    }

    /// How the definition stands, as of at most `max_age_ms` ago; None: it cannot be told just now.
    async fn look(&mut self, max_age_ms: i64) -> Option<Definition> {
        let boot_ms = clock::boot_ms();
        if let Some((known, since_ms)) = &self.definition
            && boot_ms - since_ms < max_age_ms
        {
            return Some(known.clone());
        }
        match definition::look(&self.ctx).await {
            Ok(found) => {
                if found == Definition::Hidden && self.definition.is_none() {
                    tracing::debug!(
                        "the definition may not be looked at: deletions are believed by their number"
                    );
                }
                self.definition = Some((found.clone(), boot_ms));
                Some(found)
            }
            Err(e) => {
                tracing::debug!(error = %e, "the definition cannot be looked at");
                None
            }
        }
    }

    async fn pull_brake(&mut self, missing: &[&OwnedRow], owned: usize, why: Why) -> Result<(), StoreError> {
        if self.braked == Some(true) {
            return Ok(());
        }
        let cluster = &self.ctx.shared.cluster;
        let first = missing.first().map_or_else(String::new, |row| {
            format!("{}/{}", row.held.object.namespace, row.held.object.name)
        });
        let text = format!(
            "{} of {owned} Reservations are no longer seen in the cluster {cluster}, {first} among them, and {}. GoTel does not \
             believe that they were meant to go: their jobs stay watched. {}; or, if they are to go, \
             run `gotel cluster release {cluster}` and check the reservations out.",
            missing.len(),
            why.says(),
            why.remedy()
        );
        tracing::error!(missing = missing.len(), owned, "nothing is let go: {}", why.says());
        self.ctx.shared.alarm(SystemKind::SweepBraked, text.clone()).await?;
        self.ctx.event_here("SweepBraked", &text).await;
        self.braked = Some(true);
        Ok(())
    }

    async fn release_brake(&mut self) -> Result<(), StoreError> {
        if self.braked == Some(false) {
            return Ok(());
        }
        let shared = &self.ctx.shared;
        if shared.store.withdraw_system(SystemKind::SweepBraked, &shared.cluster, &shared.replica).await? {
            tracing::info!("the objects are there again: deletions are believed again");
        }
        self.braked = Some(false);
        Ok(())
    }
}
