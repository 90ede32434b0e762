//! A TCP proxy that misbehaves on command, between GoTel and a server.
//!
//! Promises: without a command it forwards faithfully; a command holds from the moment it returns, for bytes
//! not yet forwarded, and lasts until [`ChaosProxy::heal`] ([`ChaosProxy::redirect`]: until the next); the port is the proxy's as long as it lives, also
//! while it refuses. Connections that were cut, or frozen by [`ChaosProxy::freeze_existing`], do not come
//! back; those frozen by [`ChaosProxy::freeze_all`] or one way only go on after `heal` with nothing lost, as after
//! a network partition.
//! Does not promise: to see a pattern that a TLS session hides, or one split over two packets of the client.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::wait::slowness;

/// How many clients may queue to be accepted.
const BACKLOG: u32 = 1024;

/// When to cut a connection whose client sends the pattern of [`ChaosProxy::cut_on`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never sees the request.
    BeforeRequest,
    /// The server does what was asked, and its reply is lost: the client cannot know.
    BeforeReply,
}

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What clients send.
    Requests,
    /// What the server sends.
    Replies,
}

/// The misbehaving proxy. Dropping it cuts every connection.
pub struct ChaosProxy {
    addr: SocketAddr,
    rules: watch::Sender<Rules>,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

/// What holds at the moment. Connections are numbered from 1 in the order of their arrival.
#[derive(Clone)]
struct Rules {
    upstream: SocketAddr,
    delay: Duration,
    refuse: bool,
    freeze_all: bool,
    freeze_way: Option<Way>,
    frozen_up_to: usize,
    cut_up_to: usize,
    cut_on: Option<(Arc<[u8]>, Cut)>,
}

impl Rules {
    fn faithful(upstream: SocketAddr) -> Self {
        Self {
            upstream,
            delay: Duration::ZERO,
            refuse: false,
            freeze_all: false,
            freeze_way: None,
            frozen_up_to: 0,
            cut_up_to: 0,
            cut_on: None,
        }
    }

    fn frozen(&self, id: usize) -> bool {
        self.freeze_all || id <= self.frozen_up_to
    }

    fn cuts(&self, bytes: &[u8]) -> Option<Cut> {
        let (pattern, cut) = self.cut_on.as_ref()?;
        bytes.windows(pattern.len()).any(|window| window == &pattern[..]).then_some(*cut)
    }
}

#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    cut_by_pattern: AtomicUsize,
}

impl ChaosProxy {
    /// Listens on a port of its own and forwards to `upstream`.
    pub async fn start(upstream: SocketAddr) -> Self {
        // Keeps the port while nobody listens: a port that is free for a moment is taken by the next connection.
        let keeper = bound("127.0.0.1:0".parse().unwrap()).expect("a loopback port is free");
        let addr = keeper.local_addr().unwrap();
        let listener = listen(addr);
        let (rules, seen) = watch::channel(Rules::faithful(upstream));
        let counts = Arc::new(Counts::default());
        let accepting = tokio::spawn(accept(keeper, listener, seen, counts.clone()));
        Self { addr, rules, counts, accepting }
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// How many connections [`ChaosProxy::cut_on`] has cut so far.
    pub fn cut_by_pattern(&self) -> usize {
        self.counts.cut_by_pattern.load(Ordering::SeqCst)
    }

    /// Adds this much to every packet, each way.
    pub fn delay(&self, delay: Duration) {
        self.rules.send_modify(|rules| rules.delay = delay);
    }

    /// Black-holes the connections there are, for good; new ones work.
    pub fn freeze_existing(&self) {
        let newest = self.connections();
        self.rules.send_modify(|rules| rules.frozen_up_to = newest);
    }

    /// Black-holes everything: new connections are accepted and hear nothing.
    pub fn freeze_all(&self) {
        self.rules.send_modify(|rules| rules.freeze_all = true);
    }

    /// Black-holes one direction, as a one-way loss does: bytes of the other still arrive.
    pub fn freeze_way(&self, way: Way) {
        self.rules.send_modify(|rules| rules.freeze_way = Some(way));
    }

    /// New connections go to this server; those there are stay where they are until they are cut.
    pub fn redirect(&self, upstream: SocketAddr) {
        self.rules.send_modify(|rules| rules.upstream = upstream);
    }

    /// Refuses new connections; those there are go on.
    pub fn refuse(&self) {
        self.rules.send_modify(|rules| rules.refuse = true);
    }

    /// Resets every connection there is; new ones work.
    pub fn cut(&self) {
        let newest = self.connections();
        self.rules.send_modify(|rules| rules.cut_up_to = newest);
    }

    /// Resets each connection whose client sends a packet that contains `pattern`.
    pub fn cut_on(&self, pattern: &[u8], cut: Cut) {
        assert!(!pattern.is_empty(), "an empty pattern is in every packet");
        self.rules.send_modify(|rules| rules.cut_on = Some((pattern.into(), cut)));
    }

    /// Forwards faithfully again.
    pub fn heal(&self) {
        self.rules.send_modify(|rules| {
            let Rules { upstream, frozen_up_to, cut_up_to, .. } = *rules;
            *rules = Rules { frozen_up_to, cut_up_to, ..Rules::faithful(upstream) };
        });
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(
    keeper: TcpSocket,
    mut listener: TcpListener,
    mut rules: watch::Receiver<Rules>,
    counts: Arc<Counts>,
) {
    loop {
        if rules.borrow_and_update().refuse {
            // Bound without listening: the kernel refuses.
            drop(listener);
            if rules.wait_for(|rules| !rules.refuse).await.is_err() {
                return;
            }
            listener = listen(keeper.local_addr().expect("it is bound"));
        }
        tokio::select! {
            changed = rules.changed() => if changed.is_err() { return },
            client = listener.accept() => {
                let Ok((client, _)) = client else { continue };
                let id = counts.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                let connection = Connection { id, rules: rules.clone(), counts: counts.clone() };
                tokio::spawn(connection.carry(client));
            }
        }
    }
}

fn listen(addr: SocketAddr) -> TcpListener {
    let socket = bound(addr).expect("the proxy's own port can be shared");
    socket.listen(BACKLOG).expect("nobody else listens there")
}

/// Shared by none but those who say so too.
fn bound(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

#[derive(Clone)]
struct Connection {
    id: usize,
    rules: watch::Receiver<Rules>,
    counts: Arc<Counts>,
}

/// Why a connection ended: by either side closing it, or by a cut.
enum End {
    Closed,
    Cut,
}

impl Connection {
    async fn carry(self, mut client: TcpStream) {
        let mut rules = self.rules.clone();
        let told_to_cut = rules.wait_for(|rules| self.id <= rules.cut_up_to);
        let end = tokio::select! {
            _ = told_to_cut => End::Cut,
            end = self.forward(&mut client) => end,
        };
        if let End::Cut = end {
            client.set_zero_linger().ok();
        }
    }

    async fn forward(&self, client: &mut TcpStream) -> End {
        if self.thawed(None).await.is_err() {
            return End::Cut;
        }
        let upstream = self.rules.borrow().upstream;
        let Ok(mut server) = TcpStream::connect(upstream).await else { return End::Cut };
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        let reply_is_lost = AtomicBool::new(false);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = tokio::try_join!(
            self.pump(Way::Requests, from_client, to_server, |bytes| {
                match self.rules.borrow().cuts(bytes) {
                    Some(Cut::BeforeRequest) => return Err(self.cut_by_pattern()),
                    Some(Cut::BeforeReply) => reply_is_lost.store(true, Ordering::SeqCst),
                    None => {}
                }
                Ok(())
            }),
            self.pump(Way::Replies, from_server, to_client, |_| {
                if reply_is_lost.load(Ordering::SeqCst) { Err(self.cut_by_pattern()) } else { Ok(()) }
            }),
        );
        match both {
            Ok(_) => End::Closed,
            Err(end) => end,
        }
    }

    /// Forwards one way until the sender closes, asking `inspect` about every packet first.
    async fn pump(
        &self,
        way: Way,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        inspect: impl Fn(&[u8]) -> Result<(), End>,
    ) -> Result<(), End> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await.map_err(|_| End::Closed)?;
            let delay = self.rules.borrow().delay;
            slowness(delay).await;
            self.thawed(Some(way)).await?;
            // A cut holds from the moment it was ordered: nothing may slip through before it is carried out.
            if self.id <= self.rules.borrow().cut_up_to {
                return Err(End::Cut);
            }
            if read == 0 {
                return to.shutdown().await.map_err(|_| End::Closed);
            }
            inspect(&buffer[..read])?;
            to.write_all(&buffer[..read]).await.map_err(|_| End::Closed)?;
        }
    }

    async fn thawed(&self, way: Option<Way>) -> Result<(), End> {
        let mut rules = self.rules.clone();
        let frozen = |rules: &Rules| rules.frozen(self.id) || (way.is_some() && rules.freeze_way == way);
        let thawed = rules.wait_for(|rules| !frozen(rules)).await;
        thawed.map(drop).map_err(|_| End::Cut)
    }

    fn cut_by_pattern(&self) -> End {
        self.counts.cut_by_pattern.fetch_add(1, Ordering::SeqCst);
        End::Cut
    }
}
