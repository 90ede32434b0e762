use super::*;
use crate::secret::Secret;
use proptest::prelude::*;
use rstest::rstest;

fn secret(text: &str) -> Value {
    Secret::written(text.to_owned()).value()
}

fn ours() -> Value {
    secret("0123456789abcdef")
}

fn said() -> Said {
    Said {
        heard_boot_ms: 0,
        incarnation: "i-1".into(),
        db_ok: true,
        db_lost_age_ms: None,
        seq: 7,
        install_id: "house".into(),
        leads_term: Some(3),
        eval_age_ms: Some(900),
        watch_age_ms: None,
        outbox_oldest_ms: None,
        told: Vec::new(),
    }
}

fn heartbeat(nonce: &str) -> Heartbeat {
    Heartbeat { from: "us-1".into(), to: "eu-1".into(), nonce: nonce.into(), said: said() }
}

fn gate() -> Gate {
    Gate::new("eu-1".into(), vec!["us-1".into()], [7; 32])
}

#[test]
fn a_heartbeat_with_a_fresh_nonce_is_let_in_once() {
    let mut gate = gate();
    let signed = request(&ours(), &heartbeat(&gate.nonce(1_000, [1; 16])));
    assert_eq!(gate.accept(&ours(), &signed, 2_000).unwrap().said, said());
    assert_eq!(gate.accept(&ours(), &signed, 2_000), Err(Rejected::Replayed));
    assert_eq!(gate.accept(&ours(), &signed, 61_000), Err(Rejected::Replayed));
    assert_eq!(gate.accept(&ours(), &signed, 61_001), Err(Rejected::Nonce));
}

#[rstest]
#[case::first("", 0)]
#[case::garbage("AAAA", 0)]
#[case::too_old("good", 61_001)]
#[case::of_the_future("good", 999)]
fn a_nonce_that_is_not_ours_or_not_of_now_is_refused(#[case] nonce: &str, #[case] boot_ms: i64) {
    let mut gate = gate();
    let nonce = if nonce == "good" { gate.nonce(1_000, [1; 16]) } else { nonce.to_owned() };
    let signed = request(&ours(), &heartbeat(&nonce));
    assert_eq!(gate.accept(&ours(), &signed, boot_ms), Err(Rejected::Nonce));
    assert!(gate.used.is_empty());
}

#[test]
fn a_nonce_of_an_earlier_process_is_refused() {
    let earlier = Gate::new("eu-1".into(), vec!["us-1".into()], [8; 32]);
    let signed = request(&ours(), &heartbeat(&earlier.nonce(1_000, [1; 16])));
    assert_eq!(gate().accept(&ours(), &signed, 1_000), Err(Rejected::Nonce));
}

#[test]
fn another_secret_another_receiver_and_a_stranger_are_refused() {
    let mut gate = gate();
    let good = heartbeat(&gate.nonce(0, [1; 16]));
    let mut ask = |secret: &Value, heartbeat: &Heartbeat| {
        gate.accept(&ours(), &request(secret, heartbeat), 0).map(|_| ())
    };
    assert_eq!(ask(&secret("another secret, as long"), &good), Err(Rejected::Signature));
    assert_eq!(ask(&ours(), &Heartbeat { to: "us-1".into(), ..good.clone() }), Err(Rejected::Receiver));
    assert_eq!(ask(&ours(), &Heartbeat { from: "eu-1".into(), ..good.clone() }), Err(Rejected::Sender));
    assert_eq!(ask(&ours(), &good), Ok(()), "refusals spend nothing");
}

#[test]
fn a_reply_is_good_for_its_own_request_only() {
    let back = Heartbeat { from: "eu-1".into(), to: "us-1".into(), nonce: "n".into(), said: said() };
    let one = reply(&ours(), &back, "aa");
    assert_eq!(accept_reply(&ours(), "us-1", "eu-1", "aa", &one), Ok(back));
    assert_eq!(accept_reply(&ours(), "us-1", "eu-1", "bb", &one), Err(Rejected::Signature));
    assert_eq!(accept_reply(&ours(), "us-1", "eu-2", "aa", &one), Err(Rejected::Sender));
    assert_eq!(accept_reply(&ours(), "us-2", "eu-1", "aa", &one), Err(Rejected::Receiver));
}

#[test]
fn a_request_is_never_taken_for_a_reply() {
    let signed = request(&ours(), &heartbeat("n"));
    assert_eq!(accept_reply(&ours(), "eu-1", "us-1", "", &signed), Err(Rejected::Signature));
    let back = reply(&ours(), &heartbeat("n"), "");
    assert_eq!(gate().accept(&ours(), &back, 0), Err(Rejected::Signature));
}

#[test]
fn what_is_remembered_is_bounded_and_forgotten_when_it_is_old() {
    let mut gate = gate();
    let mut ask = |n: usize, boot_ms: i64| {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let nonce = gate.nonce(boot_ms, random);
        (gate.accept(&ours(), &request(&ours(), &heartbeat(&nonce)), boot_ms).map(|_| ()), gate.used.len())
    };
    for n in 0..MAX_USED {
        assert_eq!(ask(n, 0), (Ok(()), n + 1));
    }
    assert_eq!(ask(MAX_USED, 60_000), (Err(Rejected::Nonce), MAX_USED));
    assert_eq!(ask(MAX_USED, 60_001), (Ok(()), 1));
}

#[test]
fn a_newer_replica_may_say_more_and_an_older_one_less() {
    let mut body = serde_json::to_value(heartbeat("n")).unwrap();
    body["said"]["mood"] = "good".into();
    body["said"].as_object_mut().unwrap().remove("told");
    let read: Heartbeat = serde_json::from_value(body).unwrap();
    assert_eq!(read, heartbeat("n"));
}

proptest! {
    #[test]
    fn no_changed_byte_is_let_in(at in 0usize..10_000, flip in 1u8..=255) {
        let mut gate = gate();
        let good = request(&ours(), &heartbeat(&gate.nonce(0, [1; 16])));
        let mut body = good.body.clone();
        let n = at % body.len();
        body[n] ^= flip;
        prop_assert_eq!(gate.accept(&ours(), &Signed { body, ..good.clone() }, 0), Err(Rejected::Signature));
        let mut signature = good.signature.clone().into_bytes();
        let n = at % signature.len();
        signature[n] = if signature[n] == b'0' { b'1' } else { b'0' };
        let signature = String::from_utf8(signature).unwrap();
        prop_assert_eq!(gate.accept(&ours(), &Signed { signature, ..good.clone() }, 0), Err(Rejected::Signature));
        prop_assert!(gate.accept(&ours(), &good, 0).is_ok());
    }

    #[test]
    fn no_garbage_is_let_in_and_none_panics(body: Vec<u8>, signature: String, nonce: String, boot_ms: i64) {
        let mut gate = gate();
        let garbage = Signed { body, signature };
        prop_assert!(gate.accept(&ours(), &garbage, boot_ms).is_err());
        prop_assert!(accept_reply(&ours(), "a", "b", "c", &garbage).is_err());
        prop_assert_eq!(
            gate.accept(&ours(), &request(&ours(), &heartbeat(&nonce)), boot_ms),
            Err(Rejected::Nonce)
        );
    }

    #[test]
    fn each_nonce_is_good_once_and_for_sixty_seconds(issued in 0i64..1_000_000, wait in 0i64..120_000) {
        let mut gate = gate();
        let signed = request(&ours(), &heartbeat(&gate.nonce(issued, [3; 16])));
        let first = gate.accept(&ours(), &signed, issued + wait);
        prop_assert_eq!(first.is_ok(), wait <= NONCE_MS);
        prop_assert!(gate.accept(&ours(), &signed, issued + wait).is_err());
    }
}
