//! The dispatcher with a real store (SQLite) and alerters that do as they are told.

use super::{SOON, alerter};
use crate::util::receiver::Receiver;
use crate::util::smtp::{Encryption, Fault, SmtpSink};
use crate::util::wait::eventually;
use futures::FutureExt;
use futures::future::BoxFuture;
use gotel::alert::breaker::{BROKEN_MS, OPEN_MS};
use gotel::alert::dispatch::{Dispatcher, Parts, Step};
use gotel::alert::{Alerter, Context, Delivery, Outcome, Reporter, orphans};
use gotel::clock;
use gotel::metrics::Metrics;
use gotel::reservation::Event;
use gotel::reservation::routing::{Card, Routes, Target};
use gotel::store::{
    self, CLAIM_MS, Life, ORPHAN_AFTER_MS, OutboxState, Store, StoreError, SystemKind, SystemReport,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What an alerter is told to do once.
enum Do {
    Say(Outcome),
    Panic,
    /// Until the token is cancelled; then it accepts.
    Wait(CancellationToken),
}

/// An alerter that keeps what it is given. It accepts once it has nothing else to do.
struct Puppet {
    name: String,
    plan: Mutex<VecDeque<Do>>,
    seen: Mutex<Vec<Delivery>>,
}

impl Alerter for Puppet {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "console"
    }

    fn send<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Outcome> {
        self.seen.lock().unwrap().push(delivery.clone());
        let next = self.plan.lock().unwrap().pop_front();
        async move {
            match next {
                None => Outcome::Accepted,
                Some(Do::Say(outcome)) => outcome,
                Some(Do::Panic) => panic!("as told"),
                Some(Do::Wait(go)) => {
                    go.cancelled().await;
                    Outcome::Accepted
                }
            }
        }
        .boxed()
    }
}

/// Keeps what it is told, unless it is down.
#[derive(Default)]
struct Ledger {
    lines: Mutex<Vec<String>>,
    down: AtomicBool,
}

impl Ledger {
    fn note(&self, line: String) -> BoxFuture<'_, store::Result<()>> {
        if self.down.load(Ordering::Relaxed) {
            return async { Err(StoreError::Unavailable("as told".into())) }.boxed();
        }
        self.lines.lock().unwrap().push(line);
        async { Ok(()) }.boxed()
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Reporter for Ledger {
    fn failing<'a>(&'a self, alerter: &'a str, why: &'a str) -> BoxFuture<'a, store::Result<()>> {
        self.note(format!("{alerter} fails: {why}"))
    }

    fn dead_letter<'a>(
        &'a self,
        alerter: &'a str,
        recipient: &'a str,
        _title: &'a str,
        why: &'a str,
    ) -> BoxFuture<'a, store::Result<()>> {
        self.note(format!("{alerter} gave up on {recipient:?}: {why}"))
    }

    fn works<'a>(&'a self, alerter: &'a str) -> BoxFuture<'a, store::Result<()>> {
        self.note(format!("{alerter} works"))
    }
}

struct World {
    store: Store,
    metrics: Arc<Metrics>,
    ledger: Arc<Ledger>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let url = format!("sqlite://{}", dir.path().join("gotel.db").display());
        let store = Store::open(&url, Arc::clone(&metrics)).unwrap();
        store.migrate().await.unwrap();
        Self { store, metrics, ledger: Arc::default(), _dir: dir }
    }

    /// Queues the trigger of an incident of its own for each of these.
    async fn queue(&self, subject: &str, targets: &[(&str, &str)]) {
        self.queue_of(SystemKind::Undecidable, subject, targets).await;
    }

    async fn queue_of(&self, kind: SystemKind, subject: &str, targets: &[(&str, &str)]) {
        let target = |(alerter, recipient): &(&str, &str)| Target {
            alerter: (*alerter).to_owned(),
            recipient: (*recipient).to_owned(),
        };
        let report = SystemReport {
            kind,
            subject: subject.into(),
            text: format!("trouble with {subject}"),
            since_ms: 1,
            targets: targets.iter().map(target).collect(),
            srv: "a-1".into(),
            life: Life::UntilWithdrawn,
        };
        assert!(self.store.report_system(&report).await.unwrap());
    }

    /// State, tries and recipient of each row, oldest incident first.
    async fn rows(&self) -> Vec<(OutboxState, i64, String)> {
        let mut incidents = self.store.system_incidents().await.unwrap();
        incidents.sort_by(|a, b| a.id.cmp(&b.id));
        let rows = incidents.into_iter().flat_map(|incident| incident.deliveries);
        rows.map(|row| (row.state, row.attempts, row.recipient)).collect()
    }

    async fn states(&self) -> Vec<OutboxState> {
        self.rows().await.into_iter().map(|row| row.0).collect()
    }

    fn dispatcher(&self, alerter: Arc<dyn Alerter>) -> Dispatcher {
        Dispatcher::new(Parts {
            alerter,
            session: self.store.session(),
            metrics: Arc::clone(&self.metrics),
            reporter: Arc::clone(&self.ledger) as Arc<dyn Reporter>,
            wake: Arc::new(Notify::new()),
            beat: Arc::new(|| ()),
            srv: "a-1".into(),
            context: Context { external_url: Some("https://gotel.example.org".into()) },
        })
    }
}

fn puppet(plan: impl IntoIterator<Item = Do>) -> Arc<Puppet> {
    named("hook", plan)
}

fn named(name: &str, plan: impl IntoIterator<Item = Do>) -> Arc<Puppet> {
    Arc::new(Puppet {
        name: name.into(),
        plan: Mutex::new(plan.into_iter().collect()),
        seen: Mutex::default(),
    })
}

impl Puppet {
    fn seen(&self) -> Vec<Delivery> {
        self.seen.lock().unwrap().clone()
    }
}

/// Steps at `now_ms` until there is nothing left to do.
async fn settle(dispatcher: &mut Dispatcher, now_ms: i64) {
    loop {
        let step = dispatcher.step(now_ms).await.unwrap();
        while dispatcher.in_flight() > 0 {
            dispatcher.collect().await;
        }
        if step == Step::default() {
            return;
        }
    }
}

#[tokio::test]
async fn each_notice_is_sent_once_to_each_recipient() {
    let world = World::new().await;
    world.queue("one", &[("hook", "a"), ("hook", "b"), ("other", "")]).await;
    let hook = puppet([]);
    settle(&mut world.dispatcher(hook.clone()), clock::boot_ms()).await;
    let mut to: Vec<_> = hook.seen().into_iter().map(|d| d.recipient).collect();
    to.sort_unstable();
    assert_eq!(to, ["a", "b"]);
    let rows = world.rows().await;
    assert_eq!(rows.iter().filter(|row| row.0 == OutboxState::Done && row.1 == 1).count(), 2, "{rows:?}");
    assert_eq!(rows.iter().filter(|row| row.0 == OutboxState::Pending).count(), 1, "{rows:?}");
    assert_eq!(world.ledger.lines(), ["hook works"]);
}

#[tokio::test]
async fn a_notice_about_gotel_itself_leads_to_the_page_of_its_replicas() {
    let world = World::new().await;
    world.queue("one", &[("hook", "")]).await;
    let hook = puppet([]);
    settle(&mut world.dispatcher(hook.clone()), clock::boot_ms()).await;
    assert_eq!(hook.seen()[0].notice.url.as_deref(), Some("https://gotel.example.org/nodes"));
}

/// Row 13.
#[tokio::test]
async fn a_crash_between_send_and_finish_sends_the_same_again_once_the_claim_ran_out() {
    let world = World::new().await;
    world.queue("one", &[("hook", "")]).await;
    let never = CancellationToken::new();
    let hook = puppet([Do::Wait(never)]);
    let mut crashing = world.dispatcher(hook.clone());
    assert_eq!(crashing.step(clock::boot_ms()).await.unwrap().begun, 1);
    eventually(SOON, "the first try", async || hook.seen().len() == 1).await;
    drop(crashing);
    let mut next = world.dispatcher(hook.clone());
    settle(&mut next, clock::boot_ms()).await;
    assert_eq!((hook.seen().len(), world.states().await), (1, vec![OutboxState::Inflight]));
    world.store.shift_clock(CLAIM_MS + 1_000);
    settle(&mut next, clock::boot_ms()).await;
    let seen = hook.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
    assert_eq!(world.rows().await, [(OutboxState::Done, 2, String::new())]);
}

/// Row 8.
#[tokio::test]
async fn a_panicking_alerter_is_a_failed_try() {
    let world = World::new().await;
    world.queue("one", &[("hook", "")]).await;
    let hook = puppet([Do::Panic]);
    let mut dispatcher = world.dispatcher(hook.clone());
    settle(&mut dispatcher, clock::boot_ms()).await;
    assert_eq!(world.states().await, [OutboxState::Pending]);
    assert!(world.metrics.render().contains(r#"gotel_panics_total{reason="alerter"} 1"#));
    world.store.shift_clock(10_000);
    settle(&mut dispatcher, clock::boot_ms()).await;
    assert_eq!(world.states().await, [OutboxState::Done]);
}

#[tokio::test]
async fn what_is_refused_is_a_dead_letter_that_somebody_hears_of() {
    let world = World::new().await;
    world.queue("one", &[("hook", "gone")]).await;
    let hook = puppet([Do::Say(Outcome::Refused { why: "no such user".into() })]);
    settle(&mut world.dispatcher(hook.clone()), clock::boot_ms()).await;
    assert_eq!(world.states().await, [OutboxState::Dead]);
    assert_eq!(world.ledger.lines(), [r#"hook gave up on "gone": no such user"#]);
    assert_eq!(world.store.counts().await.unwrap().dead, 1);
}

#[tokio::test]
async fn a_dead_letter_is_written_only_once_somebody_was_told() {
    let world = World::new().await;
    world.queue("one", &[("hook", "gone")]).await;
    let hook = puppet([Do::Say(Outcome::Refused { why: "no such user".into() })]);
    let mut dispatcher = world.dispatcher(hook.clone());
    let now = clock::boot_ms();
    world.ledger.down.store(true, Ordering::Relaxed);
    assert_eq!(dispatcher.step(now).await.unwrap().begun, 1);
    dispatcher.collect().await;
    dispatcher.step(now).await.unwrap_err();
    dispatcher.step(now).await.unwrap_err();
    assert_eq!(world.states().await, [OutboxState::Inflight]);
    world.ledger.down.store(false, Ordering::Relaxed);
    settle(&mut dispatcher, now).await;
    assert_eq!((world.states().await, hook.seen().len()), (vec![OutboxState::Dead], 1));
    assert_eq!(world.ledger.lines().len(), 1);
}

#[tokio::test]
async fn the_death_of_a_report_of_a_death_is_not_reported_again() {
    let world = World::new().await;
    for kind in [SystemKind::DeadLetter, SystemKind::DeliveryFailing] {
        world.queue_of(kind, "other", &[("hook", "gone")]).await;
    }
    let refuse = || Do::Say(Outcome::Refused { why: "no such user".into() });
    let hook = puppet([refuse(), refuse()]);
    settle(&mut world.dispatcher(hook), clock::boot_ms()).await;
    assert_eq!(world.states().await, [OutboxState::Dead, OutboxState::Dead]);
    assert!(world.ledger.lines().is_empty(), "{:?}", world.ledger.lines());
}

#[tokio::test]
async fn an_alerter_set_up_wrongly_is_reported_at_once_left_alone_and_withdrawn_when_repaired() {
    let world = World::new().await;
    world.queue("one", &[("hook", "")]).await;
    let hook = puppet([Do::Say(Outcome::Broken { why: "535".into() })]);
    let mut dispatcher = world.dispatcher(hook.clone());
    let now = clock::boot_ms();
    settle(&mut dispatcher, now).await;
    assert_eq!(world.ledger.lines(), ["hook fails: 535"]);
    world.store.shift_clock(3_600_000);
    settle(&mut dispatcher, now + BROKEN_MS - 1).await;
    assert_eq!(hook.seen().len(), 1);
    settle(&mut dispatcher, now + BROKEN_MS).await;
    assert_eq!(world.states().await, [OutboxState::Done]);
    assert_eq!(world.ledger.lines(), ["hook fails: 535", "hook works"]);
}

#[tokio::test]
async fn after_five_failures_nothing_is_claimed_until_one_try_succeeds() {
    let world = World::new().await;
    for subject in ["a", "b", "c", "d", "e", "f", "g"] {
        world.queue(subject, &[("hook", subject)]).await;
    }
    let down = |_| Do::Say(Outcome::Retry { why: "down".into(), after_ms: None });
    let hook = puppet((0..7).map(down));
    let mut dispatcher = world.dispatcher(hook.clone());
    let now = clock::boot_ms();
    // Four at once, then the other three: they were under way when the fifth failure opened it.
    settle(&mut dispatcher, now).await;
    let tried = hook.seen().len();
    assert_eq!(tried, 7);
    assert!(world.metrics.render().contains(r#"gotel_breaker_open{channel="hook"} 1"#));
    world.store.shift_clock(3_600_000);
    settle(&mut dispatcher, now + OPEN_MS / 2).await;
    assert_eq!(hook.seen().len(), tried);
    // Half open: exactly one, then the rest.
    assert_eq!(dispatcher.step(now + OPEN_MS + 1_000).await.unwrap().begun, 1);
    dispatcher.collect().await;
    settle(&mut dispatcher, now + OPEN_MS + 1_000).await;
    assert!(world.states().await.iter().all(|state| *state == OutboxState::Done), "{:?}", world.rows().await);
}

/// Row 41, 3f: nothing is dropped, and nobody gets a hundred mails.
#[tokio::test]
async fn a_storm_becomes_one_digest() {
    let world = World::new().await;
    for n in 0..60 {
        world.queue(&format!("job-{n:02}"), &[("hook", "")]).await;
    }
    let hook = puppet([]);
    settle(&mut world.dispatcher(hook.clone()), clock::boot_ms()).await;
    let seen = hook.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].notice.event, Event::Digest);
    let digest = seen[0].notice.digest.as_ref().unwrap();
    assert_eq!((digest.count, digest.lines.len()), (60, 50));
    assert!(world.states().await.iter().all(|state| *state == OutboxState::Digested));
}

/// An end that disappeared in a digest would leave its alert open at the receiver for ever.
#[tokio::test]
async fn where_the_receiver_closes_by_key_ends_stay_out_of_a_digest() {
    let world = World::new().await;
    for n in 0..12 {
        world.queue(&format!("job-{n:02}"), &[("a", "")]).await;
    }
    let receiver = Receiver::pagerduty().await;
    let lines = format!("type: pagerduty\nroutingKey: ${{KEY}}\nurl: {}", receiver.url("/v2/enqueue"));
    // Told before, so that their ends are due.
    let mut hook = world.dispatcher(named("a", []));
    while hook.step(clock::boot_ms()).await.unwrap() != Step::default() {
        hook.collect().await;
    }
    for n in 0..12 {
        let subject = format!("job-{n:02}");
        world.store.withdraw_system(SystemKind::Undecidable, &subject, "a-1").await.unwrap();
    }
    let mut pager = world.dispatcher(Arc::from(alerter(&lines)));
    settle(&mut pager, clock::boot_ms()).await;
    let actions: Vec<_> = receiver.requests().iter().map(|r| r.json()["event_action"].clone()).collect();
    assert_eq!(actions, vec!["resolve"; 12]);
}

/// Row 42.
#[tokio::test]
async fn a_notice_that_could_not_be_told_for_a_day_is_given_up_aloud() {
    let world = World::new().await;
    world.queue("one", &[("hook", "")]).await;
    let down = || Do::Say(Outcome::Retry { why: "down".into(), after_ms: None });
    let hook = puppet([down(), down(), down()]);
    let mut dispatcher = world.dispatcher(hook.clone());
    let now = clock::boot_ms();
    settle(&mut dispatcher, now).await;
    assert!(world.ledger.lines().is_empty(), "one failure is not worth a word");
    world.store.shift_clock(6 * 60_000);
    settle(&mut dispatcher, now).await;
    assert_eq!(world.ledger.lines(), ["hook fails: down"]);
    world.store.shift_clock(25 * 3_600_000);
    settle(&mut dispatcher, now).await;
    assert_eq!(world.states().await, [OutboxState::Dead]);
    assert_eq!(world.ledger.lines()[1], r#"hook gave up on "": given up after 3 tries: down"#);
}

/// Row 36.
#[tokio::test]
async fn an_alerter_that_hangs_delays_no_other() {
    let world = World::new().await;
    world.queue("one", &[("stuck", ""), ("hook", "")]).await;
    let (go, stop) = (CancellationToken::new(), CancellationToken::new());
    let (stuck, hook) = (named("stuck", [Do::Wait(go.clone())]), puppet([]));
    let tasks = [stuck.clone(), hook.clone()]
        .map(|alerter| tokio::spawn(world.dispatcher(alerter).run(stop.clone())));
    eventually(SOON, "the notice over the other alerter", async || {
        stuck.seen().len() == 1 && world.states().await.contains(&OutboxState::Done)
    })
    .await;
    let states = world.states().await;
    assert!(states.contains(&OutboxState::Inflight), "{states:?}");
    // The end of the process waits for what is in flight, and writes it down.
    stop.cancel();
    go.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.states().await, [OutboxState::Done, OutboxState::Done]);
}

#[tokio::test]
async fn a_loop_beats_and_wakes_when_told() {
    let world = World::new().await;
    let hook = puppet([]);
    let beats = Arc::new(Mutex::new(0));
    let wake = Arc::new(Notify::new());
    let counted = Arc::clone(&beats);
    let dispatcher = Dispatcher::new(Parts {
        alerter: hook.clone(),
        session: world.store.session(),
        metrics: Arc::clone(&world.metrics),
        reporter: Arc::clone(&world.ledger) as Arc<dyn Reporter>,
        wake: Arc::clone(&wake),
        beat: Arc::new(move || *counted.lock().unwrap() += 1),
        srv: "a-1".into(),
        context: Context::default(),
    });
    let stop = CancellationToken::new();
    let task = tokio::spawn(dispatcher.run(stop.clone()));
    eventually(SOON, "a first beat", async || *beats.lock().unwrap() > 0).await;
    world.queue("one", &[("hook", "")]).await;
    wake.notify_waiters();
    eventually(SOON, "the notice", async || hook.seen().len() == 1).await;
    eventually(SOON, "its result", async || world.states().await == [OutboxState::Done]).await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn what_is_for_nobody_goes_to_the_default_alerters_and_says_why() {
    let world = World::new().await;
    world.queue("one", &[("gone", "")]).await;
    let card =
        Card { name: "hook".into(), default: true, per_address: false, folds: false, fallback: Vec::new() };
    let routes = Routes::new(vec![card]);
    let mut session = world.store.session();
    assert!(orphans::step(&mut session, &routes, &[]).await.unwrap().is_empty(), "somebody may have it yet");
    world.store.shift_clock(ORPHAN_AFTER_MS + 1_000);
    let elsewhere = ["gone".to_owned()];
    assert!(
        orphans::step(&mut session, &routes, &elsewhere).await.unwrap().is_empty(),
        "another replica has it"
    );
    assert_eq!(orphans::step(&mut session, &routes, &[]).await.unwrap(), ["gone"]);
    assert!(orphans::step(&mut session, &routes, &[]).await.unwrap().is_empty());
    let hook = puppet([]);
    settle(&mut world.dispatcher(hook.clone()), clock::boot_ms()).await;
    let seen = hook.seen();
    assert_eq!(seen.len(), 1);
    assert!(
        seen[0].notice.remarks[0].contains("no replica has the alerter gone"),
        "{:?}",
        seen[0].notice.remarks
    );
}

/// Rows 37 and 38, through the outbox.
#[tokio::test]
async fn one_bad_recipient_costs_the_others_nothing() {
    let world = World::new().await;
    let sink = SmtpSink::start(Encryption::None, None).await;
    sink.fault_times(Fault::Recipient("late@example.org".into(), "451 4.3.0 try later".into()), 1);
    sink.fault(Fault::Recipient("gone@example.org".into(), "550 5.1.1 no such user".into()));
    let lines = format!(
        "type: smtp\nhost: 127.0.0.1\nport: {}\ntls: none\nfrom: gotel@example.org\nto: [ops@example.org]",
        sink.addr().port()
    );
    let mail: Arc<dyn Alerter> = Arc::from(alerter(&lines));
    world
        .queue("one", &[("a", "late@example.org"), ("a", "gone@example.org"), ("a", "ada@example.org")])
        .await;
    let mut dispatcher = world.dispatcher(mail);
    settle(&mut dispatcher, clock::boot_ms()).await;
    let to = |mails: &[crate::util::smtp::Mail]| mails.iter().flat_map(|m| m.to.clone()).collect::<Vec<_>>();
    assert_eq!(to(&sink.mails()), ["ada@example.org"]);
    world.store.shift_clock(10_000);
    settle(&mut dispatcher, clock::boot_ms()).await;
    assert_eq!(to(&sink.mails()), ["ada@example.org", "late@example.org"]);
    let mut rows = world.rows().await;
    rows.sort_by(|a, b| a.2.cmp(&b.2));
    let expected = [
        (OutboxState::Done, 1, "ada@example.org".to_owned()),
        (OutboxState::Dead, 1, "gone@example.org".to_owned()),
        (OutboxState::Done, 2, "late@example.org".to_owned()),
    ];
    assert_eq!(rows, expected);
    assert!(
        world.ledger.lines().iter().any(|line| line.contains("gone@example.org")),
        "{:?}",
        world.ledger.lines()
    );
}
