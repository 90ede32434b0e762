//! One long run in which anything may happen to three replicas and their database while jobs check in, miss and
//! come back; then everything is healed, and the checker has the last word.
//!
//! `GOTEL_CHAOS_S` says how long, `GOTEL_CHAOS_SEED` repeats the choices of an earlier run (not its timing).
//! `make chaos` is ten minutes of it.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::audit;
use super::checker::{Allowed, Cast};
use super::fleet::{Fleet, Plan, TAKE_OVER};
use crate::util::chaos::{Cut, Way};
use crate::util::db::Backend;
use crate::util::server::PrivateServer;
use crate::util::wait::{now, slowness};

/// How long it lasts as one test among many.
const SHORT_S: u64 = 60;

/// Between two decisions.
const STEP: Duration = Duration::from_millis(500);

/// Jobs that miss: fewer in half a minute than would be told as one digest.
const SILENT_EVERY: Duration = Duration::from_secs(5);

/// How many may be silent at once.
const SILENT: usize = 6;

/// What may happen to one replica.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Ended,
    Stopped,
    Cut,
    FrozenExisting,
    FrozenAll,
    FrozenWay(Way),
    Slow(u64),
    Refused,
    CutInCommit(Cut),
}

impl Fault {
    fn any(random: &mut Rng) -> Self {
        match random.u32(..10) {
            0 => Self::Killed,
            1 => Self::Ended,
            2 => Self::Stopped,
            3 => Self::Cut,
            4 => Self::FrozenExisting,
            5 => Self::FrozenAll,
            6 => Self::FrozenWay(if random.bool() { Way::Requests } else { Way::Replies }),
            7 => Self::Slow(random.u64(10..1500)),
            8 => Self::Refused,
            _ => Self::CutInCommit(if random.bool() { Cut::BeforeReply } else { Cut::BeforeRequest }),
        }
    }
}

/// What may happen to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    Stopped,
    Killed,
}

/// The run.
struct Chaos {
    fleet: Fleet,
    cast: Cast,
    server: PrivateServer,
    random: Rng,
    /// By member: what ails it, and until when.
    faults: Vec<Option<(Fault, Instant)>>,
    outage: Option<(Outage, Instant)>,
    silent_at: Instant,
}

impl Chaos {
    async fn step(&mut self) {
        self.heal_what_is_over(now()).await;
        let well = self.faults.iter().filter(|fault| fault.is_none()).count();
        if self.outage.is_none() {
            // One replica stays well, for those who are to be silent afterwards.
            if well > 1 && self.random.u32(..3) == 0 {
                self.strike().await;
            } else if well > 1 && self.random.u32(..8) == 0 {
                self.strike_the_database().await;
            }
        }
        if self.outage.is_none() && now() >= self.silent_at {
            self.silent_at = now() + SILENT_EVERY;
            if self.cast.silent() < SILENT {
                self.cast.goes_silent(&self.fleet).await;
            } else {
                self.cast.one_comes_back(&self.fleet).await;
            }
        }
    }

    async fn strike(&mut self) {
        let fault = Fault::any(&mut self.random);
        // Whoever leads is the better aim.
        let leads = self.fleet.holder().await.filter(|_| self.random.bool());
        let index = leads.unwrap_or_else(|| self.random.usize(..self.faults.len()));
        if self.faults[index].is_some() {
            return;
        }
        let lasts = Duration::from_millis(self.random.u64(500..25_000));
        eprintln!("{}: {fault:?} for {lasts:?}", self.fleet[index].name);
        self.fleet.set_ails(index, true);
        match fault {
            Fault::Killed => self.fleet.kill9(index),
            Fault::Ended => {
                self.fleet.shut_door(index);
                self.fleet[index].gotel().sigterm();
            }
            Fault::Stopped => self.fleet.stop(index).await,
            Fault::Cut => self.fleet[index].link.cut(),
            Fault::FrozenExisting => self.fleet[index].link.freeze_existing(),
            Fault::FrozenAll => self.fleet[index].link.freeze_all(),
            Fault::FrozenWay(way) => self.fleet[index].link.freeze_way(way),
            Fault::Slow(ms) => self.fleet[index].link.delay(Duration::from_millis(ms)),
            Fault::Refused => {
                self.fleet[index].link.refuse();
                self.fleet[index].link.cut();
            }
            Fault::CutInCommit(cut) => self.fleet[index].link.cut_on(b"COMMIT", cut),
        }
        self.faults[index] = Some((fault, now() + lasts));
    }

    async fn strike_the_database(&mut self) {
        let outage = if self.random.bool() { Outage::Stopped } else { Outage::Killed };
        let lasts = Duration::from_millis(self.random.u64(500..12_000));
        eprintln!("the database: {outage:?} for {lasts:?}");
        match outage {
            Outage::Stopped => self.server.sigstop().await,
            Outage::Killed => self.server.kill9(),
        }
        self.outage = Some((outage, now() + lasts));
    }

    async fn heal_what_is_over(&mut self, at: Instant) {
        if let Some((outage, _)) = self.outage.take_if(|(_, until)| *until <= at) {
            match outage {
                Outage::Stopped => self.server.sigcont(),
                Outage::Killed => self.server.restart(),
            }
        }
        // Nobody starts without a database.
        if self.outage.is_some() {
            return;
        }
        for index in 0..self.faults.len() {
            let Some((fault, _)) = self.faults[index].take_if(|(_, until)| *until <= at) else { continue };
            self.fleet[index].heal();
            match fault {
                Fault::Killed => self.fleet.restart(index).await,
                Fault::Ended => {
                    self.fleet.ended(index).await;
                    self.fleet.restart(index).await;
                }
                Fault::Stopped => self.fleet.cont(index),
                _ => {}
            }
            self.fleet.set_ails(index, false);
        }
    }

    async fn heal_everything(&mut self) {
        let later = now() + Duration::from_secs(3600);
        self.heal_what_is_over(later).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_nothing_is_lost_and_nobody_is_told_twice() {
    let Some(server) = PrivateServer::start(Backend::MariaDb) else { return };
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("it is a number"));
    let length = Duration::from_secs(number("GOTEL_CHAOS_S").unwrap_or(SHORT_S));
    let seed = number("GOTEL_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("GOTEL_CHAOS_SEED={seed} GOTEL_CHAOS_S={}", length.as_secs());
    let fleet = Fleet::start(server.database().await, &Plan::trio()).await;
    let mut cast = Cast::of(&fleet).await;
    cast.work(&fleet, 12).await;
    let mut chaos = Chaos {
        faults: vec![None; fleet.members.len()],
        fleet,
        cast,
        server,
        random: Rng::with_seed(seed),
        outage: None,
        silent_at: now(),
    };
    let until = now() + length;
    while now() < until {
        chaos.step().await;
        slowness(STEP).await;
    }
    chaos.heal_everything().await;
    let Chaos { mut fleet, cast, server, .. } = chaos;
    let allowed = Allowed::within(length + 3 * TAKE_OVER).repeats();
    cast.end(&mut fleet, allowed.troubles(&["outage", "coordinator-stalled", "delivery-failing"])).await;
    eprintln!("who led: {:?}", audit::reigns(&fleet.db).await);
    // The replicas end before their database.
    drop(fleet);
    drop(server);
}
