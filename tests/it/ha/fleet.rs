//! Several replicas on one database: real programs, each with its own way to the database, and receivers that all
//! of them share.
//!
//! Promises: each replica reaches the database by a proxy of its own, which a test may break; so does each
//! replica each other one, where the plan asks for peers. Replica `a` is started first and coordinates when
//! [`Fleet::start`] returns; every write of the lease from then on is on record ([`super::audit`]).
//! Does not promise: that a replica listens on the same port in its next life; [`Fleet::doors`] follows it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::audit;
use crate::util::chaos::ChaosProxy;
use crate::util::db::TestDb;
use crate::util::load::{Doors, Load, Manners};
use crate::util::node::Node;
use crate::util::process::Gotel;
use crate::util::receiver::Receiver;
use crate::util::wait::{eventually, now};

/// The replicas' names, in the order of their ranks.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// 32 characters, as PagerDuty's keys have.
const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";

/// What replicas sign their heartbeats with.
const PEER_SECRET: &str = "fleet-secret-of-a-test-0123456789";

/// How long a candidate waits for a sign of life.
pub const LEASE: Duration = Duration::from_secs(15);

/// From the death of the coordinator to the first work of the next (reliability, 2e): P+T + L + P + T.
pub const TAKE_OVER: Duration = Duration::from_secs(21);

/// How long a verdict on a peer must stand before somebody is paged, of replicas that watch each other.
pub const PAGE: Duration = Duration::from_secs(12);

/// What a busy machine may add to any of these.
pub const SLACK: Duration = Duration::from_secs(20);

/// Long enough that only a fault exceeds it, where no bound is asked for.
pub const SOON: Duration = Duration::from_secs(60);

/// How a fleet is set up.
#[derive(Clone, Default)]
pub struct Plan {
    /// How many replicas, up to three.
    pub replicas: usize,
    /// Further variables in the environment of all.
    pub env: Vec<(String, String)>,
    /// Whether they know and watch each other.
    pub peers: bool,
    /// The `coordination` block: how often, how long, in seconds (period, opLimit, valid, lease).
    pub coordination: Option<[u32; 4]>,
    /// Further lines in the configuration of all.
    pub yaml: String,
    /// The one that has no pager.
    pub without_pager: Option<usize>,
}

impl Plan {
    /// Two replicas.
    pub fn pair() -> Self {
        Self { replicas: 2, ..Self::default() }
    }

    /// Three.
    pub fn trio() -> Self {
        Self { replicas: 3, ..Self::default() }
    }

    /// The same, and they know and watch each other.
    pub fn peers(self) -> Self {
        Self { peers: true, ..self }
    }

    /// The same with a further variable in the environment of all.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// One replica. The process is dropped before its ways.
pub struct Member {
    pub name: &'static str,
    pub node: Node,
    /// Its way to the database.
    pub link: ChaosProxy,
    /// Its ways to the others, in the order of their names; its own is missing.
    pub ways: Vec<(&'static str, ChaosProxy)>,
    /// Nobody sends check-ins to it any more.
    shut: bool,
    /// The test broke something of it: what it takes may be stored at any later time, or never.
    ails: bool,
}

/// All of them. Replicas are dropped first, then the database.
pub struct Fleet {
    pub members: Vec<Member>,
    /// The webhook `hook`, which hears of everything.
    pub hook: Receiver,
    /// PagerDuty, which hears of everything too.
    pub pager: Receiver,
    /// Where check-ins may be sent: every replica that was not stopped by the test.
    pub doors: Doors,
    /// The plan's further variables.
    env: Vec<(String, String)>,
    pub db: TestDb,
}

impl Fleet {
    /// Starts it on `db`, a server's.
    pub async fn start(db: TestDb, plan: &Plan) -> Self {
        let hook = Receiver::webhook().await;
        let pager = Receiver::pagerduty().await;
        let server = db.server_addr().expect("several replicas need a server");
        let names = &NAMES[..plan.replicas];
        let addresses = if plan.peers { own_addresses(names.len()) } else { Vec::new() };
        let mut fleet = Self {
            members: Vec::new(),
            hook,
            pager,
            doors: Doors::new(Vec::new()),
            env: plan.env.clone(),
            db,
        };
        for (index, name) in names.iter().enumerate() {
            let link = ChaosProxy::start(server).await;
            let mut ways = Vec::new();
            for (other, address) in names.iter().zip(&addresses).filter(|(other, _)| *other != name) {
                ways.push((*other, ChaosProxy::start(*address).await));
            }
            let mut yaml = fleet.alerters_yaml(plan.without_pager != Some(index));
            if let Some(own) = addresses.get(index) {
                yaml.push_str(&peers_yaml(name, *own, &ways));
            }
            if let Some([period, op, valid, lease]) = plan.coordination {
                yaml.push_str(&format!(
                    "coordination: {{period: {period}s, opLimit: {op}s, valid: {valid}s, lease: {lease}s}}\n"
                ));
            }
            yaml.push_str(&plan.yaml);
            let env = fleet.env_of(name, &[]);
            let env: Vec<_> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let node = Node::start(fleet.db.url_through(link.addr()), &yaml, &env).await;
            fleet.members.push(Member { name, node, link, ways, shut: false, ails: false });
            if index == 0 {
                fleet.coordinates(0, SLACK).await;
                audit::begin(&fleet.db).await;
            }
        }
        fleet.open_doors();
        fleet
    }

    fn alerters_yaml(&self, with_pager: bool) -> String {
        let hook =
            format!("alerters:\n  - {{name: hook, type: webhook, url: \"{}\"}}\n", self.hook.url("/hook"));
        let url = self.pager.url("/v2/enqueue");
        let pager =
            format!("  - {{name: pager, type: pagerduty, url: \"{url}\", routingKey: \"${{PD}}\"}}\n");
        hook + if with_pager { &pager } else { "" }
    }

    fn env_of(&self, name: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = [("GOTEL_REPLICA", name), ("PD", ROUTING_KEY), ("PEER_SECRET", PEER_SECRET)];
        let own = own.iter().chain(more).map(|(name, value)| (name.to_string(), value.to_string()));
        own.chain(self.env.iter().cloned()).collect()
    }

    /// Check-ins are sent to every replica that was not stopped by the test.
    fn open_doors(&self) {
        self.doors.set(self.members.iter().filter(|m| !m.shut).map(|m| m.node.url.clone()).collect());
    }

    /// No more check-ins to this one; those on their way go on.
    pub fn shut_door(&mut self, index: usize) {
        self.members[index].shut = true;
        self.open_doors();
    }

    /// The only one of the members whose process runs and whose name is in the lease.
    pub async fn holder(&self) -> Option<usize> {
        let holder = audit::holder(&mut self.db.connect().await).await;
        self.members.iter().position(|member| member.name == holder)
    }

    /// Waits until this replica holds the lease, and says so itself; returns how long that took.
    #[track_caller]
    pub fn coordinates(&self, index: usize, within: Duration) -> impl Future<Output = Duration> {
        let (member, since) = (&self.members[index], now());
        let what = format!("{} to coordinate", member.name);
        let mut connection = None;
        let waiting = eventually(within, what, async move || {
            if connection.is_none() {
                connection = Some(self.db.connect().await);
            }
            let holder = audit::holder(connection.as_mut().expect("it was made")).await;
            if holder != member.name {
                return Err(format!("{holder:?} holds the lease"));
            }
            match member.node.ask(reqwest::Method::GET, "/is-coordinator", None).await {
                Ok((200, text)) if text == "true" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        async move {
            waiting.await;
            since.elapsed()
        }
    }

    /// SIGKILL.
    pub fn kill9(&mut self, index: usize) {
        self.shut_door(index);
        self.members[index].node.kill9();
    }

    /// Whether a test's own calls, which must be stored now or not at all, had better go elsewhere.
    pub fn set_ails(&mut self, index: usize, ails: bool) {
        self.members[index].ails = ails;
    }

    /// SIGSTOP. Check-ins go on being sent to it, as nobody tells its clients.
    pub async fn stop(&mut self, index: usize) {
        self.members[index].ails = true;
        self.members[index].node.gotel.sigstop().await;
    }

    /// SIGCONT.
    pub fn cont(&mut self, index: usize) {
        self.members[index].ails = false;
        self.members[index].node.gotel.sigcont();
    }

    /// SIGTERM, its door shut as soon as it says that it is not ready, and its end awaited.
    pub async fn term(&mut self, index: usize) {
        self.members[index].node.gotel.sigterm();
        let ready =
            async |node: &Node| matches!(node.ask(reqwest::Method::GET, "/readyz", None).await, Ok((200, _)));
        eventually(SOON, "readiness to be false", async || !ready(&self.members[index].node).await).await;
        self.shut_door(index);
        self.ended(index).await;
    }

    /// Waits for the end of a replica that was asked to end.
    pub async fn ended(&mut self, index: usize) {
        let member = &mut self.members[index];
        let status = member.node.gotel.wait_exit(Duration::from_secs(30)).await;
        assert!(status.success(), "{} ended with {status}:\n{}", member.name, member.node.output());
    }

    /// The next life of a replica, with these further variables in its environment.
    pub async fn restart_with(&mut self, index: usize, more: &[(&str, &str)]) {
        let env = self.env_of(self.members[index].name, more);
        let env: Vec<_> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let member = &mut self.members[index];
        member.node.set_env(&env);
        member.node.start_again().await;
        member.shut = false;
        self.open_doors();
    }

    /// The next life of a replica.
    pub async fn restart(&mut self, index: usize) {
        self.restart_with(index, &[]).await;
    }

    /// A next life that is refused; what it says.
    pub async fn refused(&mut self, index: usize) -> String {
        let member = &mut self.members[index];
        let mut gotel = member.node.try_again();
        let status = gotel.wait_exit(SLACK).await;
        assert!(!status.success(), "{} starts", member.name);
        gotel.output()
    }

    /// Whether its process runs, stopped or not.
    pub fn runs(&mut self, index: usize) -> bool {
        self.members[index].node.gotel.running()
    }

    /// Nothing gets from one replica to another any more.
    pub fn cut_from_each_other(&self) {
        for (_, way) in self.members.iter().flat_map(|member| &member.ways) {
            way.freeze_all();
        }
    }

    /// Waits until each replica says this of all others.
    #[track_caller]
    pub fn see_each_other(&self, verdict: &str) -> impl Future<Output = ()> {
        let state = format!("state=\"{verdict}\"}} 1");
        eventually(SOON, format!("each to see the others as {verdict}"), async move || {
            for member in &self.members {
                let page = member.node.get("/metrics").await.1;
                let is_seen = |line: &&str| line.starts_with("gotel_peer_state{") && line.ends_with(&state);
                if page.lines().filter(is_seen).count() != self.members.len() - 1 {
                    return Err(format!("{}:\n{page}", member.name));
                }
            }
            Ok(())
        })
    }

    /// Clients that check in for these reservations at whatever replica is open.
    pub fn load(&self, keys: &[(String, String)], clients: usize) -> Load {
        Load::among(&self.doors, keys, clients, &[], Manners::CIVIL)
    }

    /// A POST to whatever replica takes it, of those that are well.
    pub async fn post(&self, path: &str, body: Option<Value>) {
        eventually(SOON, format!("POST {path}"), async || {
            let mut why = String::new();
            for member in self.members.iter().filter(|member| !member.shut && !member.ails) {
                match member.node.ask(reqwest::Method::POST, path, body.clone()).await {
                    Ok((200, _)) => return Ok(()),
                    other => why = format!("{other:?}"),
                }
            }
            Err(why)
        })
        .await;
    }

    /// A reservation of `every` seconds without grace.
    pub async fn reserve(&self, app: &str, component: &str, every: u64) {
        let wish = json!({
            "app": app, "component": component, "frequency": every, "time_units": "seconds",
            "owner": "ops", "notify": "ops@example.org",
        });
        self.post("/reservation", Some(wish)).await;
    }

    /// One check-in at whatever replica takes it; when it was sent.
    pub async fn check_in(&self, app: &str, component: &str) -> Instant {
        let sent = now();
        self.post(&format!("/checkin/{app}/{component}"), None).await;
        sent
    }
}

impl std::ops::Index<usize> for Fleet {
    type Output = Member;

    fn index(&self, index: usize) -> &Member {
        &self.members[index]
    }
}

impl Member {
    /// All its ways are good again.
    pub fn heal(&self) {
        self.link.heal();
        for (_, way) in &self.ways {
            way.heal();
        }
    }

    /// Its process, for signals and figures.
    pub fn gotel(&self) -> &Gotel {
        &self.node.gotel
    }
}

/// Addresses of a part of the loopback network that nobody else uses, for listeners whose addresses the others must know
/// beforehand. (A port of 127.0.0.1 that was free a moment ago is taken by the next connection.)
fn own_addresses(count: usize) -> Vec<SocketAddr> {
    let (a, b, c) = (fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..250));
    (c..).take(count).map(|c| SocketAddr::from(([127, a, b, c], 8081))).collect()
}

fn peers_yaml(own_name: &str, own: SocketAddr, ways: &[(&'static str, ChaosProxy)]) -> String {
    let mut replicas = format!("    - {{id: {own_name}, url: \"http://{own}\"}}\n");
    for (name, way) in ways {
        replicas.push_str(&format!("    - {{id: {name}, url: \"http://{}\"}}\n", way.addr()));
    }
    let page = PAGE.as_secs();
    format!(
        "peers:\n  listen: {own}\n  secret: \"${{PEER_SECRET}}\"\n  confirm: 3s\n  page: {page}s\n  \
         replicas:\n{replicas}"
    )
}
