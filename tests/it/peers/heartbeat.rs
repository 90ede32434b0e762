//! Row 58: heartbeats that are forged, replayed, or signed with another secret.

use gotel::peers::frame::{self, Heartbeat, PATH, Refusal, SIGNATURE, Signed};
use gotel::peers::sight::Said;
use gotel::secret::Secret;

use super::SOON;
use super::fleet::{Fleet, SECRET};
use crate::util::db::{Backend, TestDb};
use crate::util::wait::eventually;

fn said() -> Said {
    Said {
        heard_boot_ms: 0,
        incarnation: "forged".into(),
        db_ok: true,
        db_lost_age_ms: None,
        seq: 0,
        install_id: String::new(),
        leads_term: None,
        eval_age_ms: None,
        watch_age_ms: None,
        outbox_oldest_ms: None,
        told: Vec::new(),
    }
}

fn signed(secret: &str, from: &str, to: &str, nonce: &str) -> Signed {
    let heartbeat = Heartbeat { from: from.into(), to: to.into(), nonce: nonce.into(), said: said() };
    frame::request(&Secret::written(secret.into()).value(), &heartbeat)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_58_a_heartbeat_that_is_forged_or_replayed_is_401_counted_and_changes_nothing() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    // Alone: whatever is heard of us-1 comes from this test.
    let replica = fleet.start(0, 0).await;
    let url = format!("http://{}{PATH}", fleet.address(0));
    let post = async |signed: &Signed| {
        let request = fleet.http.post(&url).header(SIGNATURE, &signed.signature).body(signed.body.clone());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().clone(), answer.bytes().await.unwrap().to_vec())
    };
    let refused = async |signed: &Signed, why: &str| {
        let (status, _, body) = post(signed).await;
        let refusal: Refusal = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, refusal.why.as_str()), (401, why));
        refusal.nonce
    };
    let count = async |reason: &str| {
        let page = replica.get("/metrics").await.1;
        let line = format!(r#"gotel_peer_rejected_total{{reason="{reason}"}} "#);
        page.lines().find_map(|l| l.strip_prefix(&line)?.parse::<u64>().ok()).unwrap_or(0)
    };

    let garbage = Signed { body: b"{}".to_vec(), signature: "00".into() };
    let nonce = refused(&garbage, "signature").await;
    refused(&signed("another-secret-as-long", "us-1", "eu-1", &nonce), "signature").await;
    let mut forged = signed(SECRET, "us-1", "eu-1", &nonce);
    let at = forged.body.iter().position(|byte| *byte == b'0').unwrap();
    forged.body[at] = b'9';
    refused(&forged, "signature").await;
    refused(&signed(SECRET, "us-1", "us-1", &nonce), "receiver").await;
    refused(&signed(SECRET, "eu-1", "eu-1", &nonce), "sender").await;
    refused(&signed(SECRET, "us-1", "eu-1", ""), "nonce").await;
    refused(&signed(SECRET, "us-1", "eu-1", "bm9uc2Vuc2U"), "nonce").await;
    for (reason, expected) in [("signature", 3), ("receiver", 1), ("sender", 1), ("nonce", 2)] {
        assert_eq!(count(reason).await, expected, "{reason}");
    }
    replica.shows("it to be never heard", |page| page.contains("never heard")).await;
    // It takes heartbeats before it has written its first row, and then says so: what is asked for below comes later.
    replica.shows("a row of its own", |page| page.contains("The database takes its writes.")).await;

    // None of these has spent the nonce.
    let good = signed(SECRET, "us-1", "eu-1", &nonce);
    let (status, headers, body) = post(&good).await;
    assert_eq!(status, 200);
    let signature = headers[SIGNATURE].to_str().unwrap().to_owned();
    let secret = Secret::written(SECRET.into()).value();
    let answer = Signed { body, signature };
    let reply = frame::accept_reply(&secret, "us-1", "eu-1", &good.signature, &answer).unwrap();
    assert!(reply.said.db_ok && reply.said.seq > 0, "{:?}", reply.said);
    replica.shows("it to be heard", |page| !page.contains("never heard")).await;

    refused(&good, "replayed").await;
    assert_eq!(count("replayed").await, 1);
    assert_eq!(post(&signed(SECRET, "us-1", "eu-1", &reply.nonce)).await.0, 200, "the next nonce is good");
    fleet.holds(&[&replica]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_takes_heartbeats_and_nothing_else() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    let replica = fleet.start(0, 0).await;
    let base = format!("http://{}", fleet.address(0));
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    for path in ["/", "/status", "/nodes", "/metrics", "/checkin/a/b"] {
        assert_eq!(status(fleet.http.get(format!("{base}{path}"))).await, 404, "{path}");
    }
    assert_eq!(status(fleet.http.get(format!("{base}{PATH}"))).await, 405);
    let large = vec![b'x'; 20_000];
    assert_eq!(status(fleet.http.post(format!("{base}{PATH}")).body(large)).await, 413);
    // The service's own port takes none.
    let own = replica.url.join(PATH).unwrap();
    assert_eq!(status(fleet.http.post(own).body("{}")).await, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_another_secret_is_shown_with_what_is_wrong() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    let one = fleet.start(0, 0).await;
    fleet.change_secret("another-secret-as-long");
    let other = fleet.start(1, 1).await;
    for replica in [&one, &other] {
        replica
            .shows("the secrets to differ", |page| {
                page.contains("is peers.secret the same on both?")
                    && page.contains("</svg>unreachable from here")
            })
            .await;
    }
    eventually(SOON, "the refusals to be counted", async || {
        one.get("/metrics").await.1.contains(r#"gotel_peer_rejected_total{reason="signature"}"#)
    })
    .await;
    assert!(fleet.told().is_empty(), "the database proves that both live: {:?}", fleet.told());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_changed_on_one_replica_after_the_other_and_both_are_heard_all_the_time() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    let pair = fleet.pair().await;
    let until = async |place: usize, line: &str| {
        eventually(SOON, format!("{line} at {place}"), async || {
            let page = pair[place].get("/metrics").await.1;
            if page.lines().any(|l| l.starts_with(line)) { Ok(()) } else { Err(page) }
        })
        .await;
    };
    let replaced = r#"gotel_secret_reload_total{secret="peers",result="replaced"} 1"#;
    fleet.renew_secret(0, "a-new-secret-for-all-replicas");
    until(0, replaced).await;
    // The other one does not know the new secret yet; it is heard by its own calls.
    until(1, r#"gotel_peer_rejected_total{reason="signature"} 2"#).await;
    for replica in &pair {
        replica.shows("both to be healthy", |page| page.matches("</svg>healthy").count() == 2).await;
    }
    fleet.renew_secret(1, "a-new-secret-for-all-replicas");
    until(1, replaced).await;
    for replica in &pair {
        replica
            .shows("both to answer each other", |page| {
                page.matches("</svg>healthy").count() == 2 && !page.contains("refuses our signature")
            })
            .await;
    }
    assert!(fleet.told().is_empty(), "{:?}", fleet.told());
}
