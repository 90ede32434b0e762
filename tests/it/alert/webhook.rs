//! The `webhook` alerter against receivers that misbehave.

use super::{SOON, alerter, notice, send_until_limit, to};
use crate::util::chaos::{ChaosProxy, Cut};
use crate::util::receiver::{Answer, Receiver};
use crate::util::wait::eventually;
use gotel::alert::{Alerter, Outcome};
use gotel::reservation::Event;
use hmac::{Hmac, KeyInit, Mac};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rstest::rstest;
use sha2::Sha256;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

fn hook(receiver: &Receiver, more: &str) -> Box<dyn Alerter> {
    alerter(&format!("type: webhook\nurl: {}\n{more}", receiver.url("/s3cret-path")))
}

#[tokio::test]
async fn a_notice_arrives_signed_and_named() {
    let receiver = Receiver::webhook().await;
    let hook = hook(&receiver, "secret: ${SECRET}\nheaders: {Authorization: 'Bearer ${KEY}', X-Team: money}");
    let delivery = to("", notice(Event::Remind, 1));
    assert_eq!(hook.send(&delivery).await, Outcome::Accepted);
    let requests = receiver.requests();
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/s3cret-path"));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("idempotency-key"), "feed0001");
    assert_eq!(request.header("x-gotel-event-no"), "1");
    assert_eq!(request.header("x-team"), "money");
    assert_eq!(request.header("authorization"), "Bearer 0123456789abcdef0123456789abcdef");
    assert_eq!(request.header("user-agent"), concat!("gotel/", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.json()["event"], "remind");
    let (time, signature) = request.header("x-gotel-signature").split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cret").unwrap();
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(&request.body);
    mac.verify_slice(&hex::decode(signature).unwrap()).unwrap();
}

#[tokio::test]
async fn an_alertmanager_receiver_understands_it() {
    let receiver = Receiver::webhook().await;
    let hook = hook(&receiver, "format: alertmanager");
    assert_eq!(hook.send(&to("", notice(Event::Resolve, 1))).await, Outcome::Accepted);
    let json = receiver.requests()[0].json();
    assert_eq!((json["version"].as_str(), json["status"].as_str()), (Some("4"), Some("resolved")));
    assert_eq!(json["receiver"], "a");
    assert_eq!(json["alerts"][0]["labels"]["alertname"], "GotelReservationLate");
}

#[rstest]
#[case(Answer::RetryAfter(503, "9"), "retry")]
#[case(Answer::Status(408), "retry")]
#[case(Answer::Status(429), "retry")]
#[case(Answer::Status(500), "retry")]
#[case(Answer::Status(502), "retry")]
#[case(Answer::Status(401), "broken")]
#[case(Answer::Status(404), "broken")]
#[case(Answer::Status(410), "refused")]
#[case(Answer::Status(422), "refused")]
#[case(Answer::CutMidBody, "accepted")]
#[tokio::test]
async fn each_answer_means_something_and_none_shows_the_url(#[case] answer: Answer, #[case] expected: &str) {
    let receiver = Receiver::webhook().await;
    receiver.next([answer]);
    let hook = hook(&receiver, "");
    let delivery = to("", notice(Event::Trigger, 0));
    let outcome = hook.send(&delivery).await;
    assert_eq!(outcome.as_str(), expected, "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("s3cret-path"), "{outcome:?}");
    // The same again, as far as a receiver can tell.
    assert_eq!(hook.send(&delivery).await, Outcome::Accepted);
    let requests = receiver.requests();
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[0].header("idempotency-key"), requests[1].header("idempotency-key"));
}

/// Row 40.
#[tokio::test]
async fn a_huge_answer_is_not_read_to_its_end() {
    let receiver = Receiver::webhook().await;
    // Far more than could pass within the test's time and memory.
    receiver.next([Answer::Huge(1 << 40)]);
    assert_eq!(hook(&receiver, "").send(&to("", notice(Event::Trigger, 0))).await, Outcome::Accepted);
}

/// Row 40.
#[tokio::test]
async fn redirects_are_refused_and_never_followed() {
    let (receiver, elsewhere) = (Receiver::webhook().await, Receiver::webhook().await);
    let hook = hook(&receiver, "secret: ${SECRET}");
    for target in
        [elsewhere.url("/"), "http://169.254.169.254/latest/meta-data".into(), receiver.url("/again")]
    {
        receiver.next([Answer::Redirect(target)]);
        let outcome = hook.send(&to("", notice(Event::Trigger, 0))).await;
        assert_eq!(outcome.as_str(), "refused", "{outcome:?}");
        assert!(outcome.why().unwrap().contains("redirects are not followed"), "{outcome:?}");
    }
    assert_eq!(receiver.requests().len(), 3);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn silence_is_given_up_after_the_limit() {
    let receiver = Receiver::webhook().await;
    receiver.next([Answer::Hang]);
    let outcome = send_until_limit(
        hook(&receiver, ""),
        to("", notice(Event::Trigger, 0)),
        "the request to arrive",
        || receiver.requests().len() == 1,
    )
    .await;
    assert_eq!(
        outcome,
        Outcome::Retry { why: "127.0.0.1 did not answer within 20 s".into(), after_ms: None }
    );
}

/// Row 40.
#[rstest]
#[case::good(2020, 2090, "127.0.0.1", "accepted", "")]
#[case::expired(2020, 2021, "127.0.0.1", "broken", "certificate")]
#[case::of_another(2020, 2090, "other.example.org", "broken", "certificate")]
#[tokio::test]
async fn only_a_good_certificate_is_spoken_to(
    #[case] from: i32,
    #[case] until: i32,
    #[case] name: &str,
    #[case] expected: &str,
    #[case] why: &str,
) {
    let (addr, ca) = https(from, until, name).await;
    let lines = format!("type: webhook\nurl: https://{addr}/s3cret-path\ncaFile: {}", ca.path().display());
    let outcome = alerter(&lines).send(&to("", notice(Event::Trigger, 0))).await;
    assert_eq!(outcome.as_str(), expected, "{outcome:?}");
    assert!(outcome.why().unwrap_or_default().contains(why), "{outcome:?}");
    let unknown = alerter(&format!("type: webhook\nurl: https://{addr}/"))
        .send(&to("", notice(Event::Trigger, 0)))
        .await;
    assert_eq!(unknown.as_str(), "broken", "{unknown:?}");
}

/// A receiver that answers 200 under TLS, with a certificate for `name`, and its authority as a file.
async fn https(from: i32, until: i32, name: &str) -> (std::net::SocketAddr, tempfile::NamedTempFile) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let certificate = params.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that refuses the certificate ends it here.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut seen = [0; 4096];
                let _ = stream.read(&mut seen).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (addr, file)
}

#[tokio::test]
async fn a_cut_before_the_answer_and_a_refused_connection_are_tried_again_as_the_same() {
    let receiver = Receiver::webhook().await;
    let proxy = ChaosProxy::start(receiver.addr()).await;
    let hook = alerter(&format!("type: webhook\nurl: http://{}/s3cret-path", proxy.addr()));
    let delivery = to("", notice(Event::Trigger, 0));
    // It has the notice, and we cannot know.
    proxy.cut_on(b"POST", Cut::BeforeReply);
    assert_eq!(hook.send(&delivery).await.as_str(), "retry");
    proxy.heal();
    proxy.refuse();
    proxy.cut();
    assert_eq!(hook.send(&delivery).await.as_str(), "retry");
    proxy.heal();
    // The port is listened on again a moment later.
    eventually(SOON, "it to be accepted", async || match hook.send(&delivery).await {
        Outcome::Accepted => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let bodies: Vec<_> = receiver.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
}
