//! Tests of [`crate::util::chaos`], against a server that sends every byte back and keeps what it got.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Connection, Executor, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{A_WHILE, SOON};
use crate::util::chaos::{ChaosProxy, Cut, Way};
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::wait::now;

#[tokio::test]
async fn without_a_command_it_forwards_faithfully() {
    let (proxy, _) = before_an_echo().await;
    let mut client = Client::connect(proxy.addr()).await;
    let long = vec![7; 300_000];
    let (mut read, mut write) = client.0.split();
    let mut back = vec![0; long.len()];
    let both = async { tokio::try_join!(write.write_all(&long), read.read_exact(&mut back)) };
    timeout(SOON, both).await.unwrap().unwrap();
    assert!(back == long);
    write.shutdown().await.unwrap();
    assert_eq!(timeout(SOON, read.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_delay_is_added_each_way() {
    let (proxy, _) = before_an_echo().await;
    let mut client = Client::connect(proxy.addr()).await;
    proxy.delay(Duration::from_millis(60));
    let start = now();
    client.echoes(b"slow").await;
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
}

#[tokio::test]
async fn frozen_connections_stay_frozen_while_new_ones_work() {
    let (proxy, _) = before_an_echo().await;
    let mut old = Client::connect(proxy.addr()).await;
    old.echoes(b"before").await;
    proxy.freeze_existing();
    let mut new = Client::connect(proxy.addr()).await;
    new.echoes(b"new").await;
    old.is_silent_after(b"lost").await;
    proxy.heal();
    old.is_silent_after(b"lost too").await;
    new.echoes(b"still there").await;
}

#[tokio::test]
async fn a_frozen_network_accepts_and_says_nothing_and_loses_nothing_when_it_heals() {
    let (proxy, _) = before_an_echo().await;
    let mut old = Client::connect(proxy.addr()).await;
    old.echoes(b"before").await;
    proxy.freeze_all();
    let mut new = Client::connect(proxy.addr()).await;
    old.is_silent_after(b"late").await;
    new.is_silent_after(b"later").await;
    proxy.heal();
    assert_eq!(old.reads(4).await, b"late");
    assert_eq!(new.reads(5).await, b"later");
}

#[tokio::test]
async fn one_way_is_silent_while_the_other_carries_and_loses_nothing_when_it_heals() {
    let (proxy, got) = before_an_echo().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.echoes(b"before").await;
    proxy.freeze_way(Way::Replies);
    client.is_silent_after(b"heard").await;
    let heard = async || got.lock().unwrap().ends_with(b"heard");
    crate::util::wait::eventually(SOON, "the request to arrive", heard).await;
    proxy.heal();
    assert_eq!(client.reads(5).await, b"heard");

    proxy.freeze_way(Way::Requests);
    client.is_silent_after(b"unheard").await;
    assert!(heard().await, "a frozen request arrived");
    proxy.heal();
    assert_eq!(client.reads(7).await, b"unheard");
}

#[tokio::test]
async fn a_redirected_proxy_sends_new_connections_to_the_other_server_also_after_it_heals() {
    let (proxy, first) = before_an_echo().await;
    let (other, second) = before_an_echo().await;
    let mut old = Client::connect(proxy.addr()).await;
    old.echoes(b"old").await;
    proxy.redirect(other.addr());
    proxy.heal();
    Client::connect(proxy.addr()).await.echoes(b"new").await;
    old.echoes(b" still").await;
    assert_eq!((&**first.lock().unwrap(), &**second.lock().unwrap()), (&b"old still"[..], &b"new"[..]));
}

#[tokio::test]
async fn a_refusing_proxy_refuses_new_connections_and_keeps_its_port() {
    let (proxy, _) = before_an_echo().await;
    let mut old = Client::connect(proxy.addr()).await;
    old.echoes(b"before").await;
    for _ in 0..3 {
        proxy.refuse();
        crate::util::wait::eventually(SOON, "a refusal", async || {
            TcpStream::connect(proxy.addr())
                .await
                .is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
        })
        .await;
        old.echoes(b"meanwhile").await;
        proxy.heal();
        let connected = async || TcpStream::connect(proxy.addr()).await;
        let stream = crate::util::wait::eventually(SOON, "the port to open again", connected).await;
        Client(stream).echoes(b"again").await;
    }
}

#[tokio::test]
async fn a_cut_resets_what_is_there_and_nothing_later() {
    let (proxy, _) = before_an_echo().await;
    let mut old = Client::connect(proxy.addr()).await;
    old.echoes(b"before").await;
    proxy.cut();
    old.is_reset().await;
    Client::connect(proxy.addr()).await.echoes(b"after").await;
}

#[tokio::test]
async fn a_request_cut_before_it_is_forwarded_never_reaches_the_server() {
    let (proxy, got) = before_an_echo().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.echoes(b"BEGIN").await;
    proxy.cut_on(b"COMMIT", Cut::BeforeRequest);
    client.0.write_all(b"..COMMIT").await.unwrap();
    client.is_reset().await;
    assert_eq!(proxy.cut_by_pattern(), 1);
    assert_eq!(*got.lock().unwrap(), b"BEGIN");
}

#[tokio::test]
async fn a_request_cut_before_its_reply_has_reached_the_server() {
    let (proxy, got) = before_an_echo().await;
    let mut client = Client::connect(proxy.addr()).await;
    client.echoes(b"BEGIN").await;
    proxy.cut_on(b"COMMIT", Cut::BeforeReply);
    client.0.write_all(b"COMMIT").await.unwrap();
    client.is_reset().await;
    assert_eq!(*got.lock().unwrap(), b"BEGINCOMMIT");
    proxy.heal();
    Client::connect(proxy.addr()).await.echoes(b"COMMIT").await;
}

on_every_database!(a_commit_whose_reply_is_lost_is_stored_and_one_cut_off_is_not);
async fn a_commit_whose_reply_is_lost_is_stored_and_one_cut_off_is_not(db: TestDb) {
    if db.backend() == Backend::Sqlite {
        return;
    }
    let mut direct = db.connect().await;
    direct.execute("CREATE TABLE guest (name VARCHAR(20) NOT NULL)").await.unwrap();
    let proxy = ChaosProxy::start(db.server_addr().unwrap()).await;
    let url = db.url_through(proxy.addr());
    for (cut, guest) in [(Cut::BeforeRequest, "unheard"), (Cut::BeforeReply, "unanswered")] {
        let mut through = sqlx::AnyConnection::connect(&url).await.unwrap();
        let mut transaction = through.begin().await.unwrap();
        sqlx::query("INSERT INTO guest VALUES (?)").bind(guest).execute(&mut *transaction).await.unwrap();
        proxy.cut_on(b"COMMIT", cut);
        transaction.commit().await.unwrap_err();
        proxy.heal();
    }
    let stored = direct.fetch_all("SELECT name FROM guest").await.unwrap();
    let stored: Vec<String> = stored.iter().map(|row| row.get(0)).collect();
    assert_eq!(stored, ["unanswered"]);
}

async fn before_an_echo() -> (ChaosProxy, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let got = Arc::new(Mutex::new(Vec::new()));
    let kept = got.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    kept.lock().unwrap().extend_from_slice(&buffer[..read]);
                    if stream.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (ChaosProxy::start(addr).await, got)
}

struct Client(TcpStream);

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    async fn reads(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        timeout(SOON, self.0.read_exact(&mut bytes)).await.expect("bytes arrive").unwrap();
        bytes
    }

    async fn echoes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        assert_eq!(self.reads(bytes.len()).await, bytes);
    }

    async fn is_silent_after(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        let heard = timeout(A_WHILE, self.0.read(&mut [0; 1])).await;
        assert!(heard.is_err(), "a frozen connection was heard: {heard:?}");
    }

    async fn is_reset(&mut self) {
        let heard = timeout(SOON, self.0.read(&mut [0; 64])).await.expect("a reset arrives");
        assert_eq!(heard.expect_err("it is reset").kind(), std::io::ErrorKind::ConnectionReset);
    }
}
