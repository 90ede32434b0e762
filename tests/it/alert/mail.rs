//! The `smtp` alerter against the sink, with each kind of TLS, login and fault.

use super::{SOON, alerter, notice, send_until_limit, to};
use crate::util::smtp::{Encryption, Fault, SmtpSink};
use gotel::alert::{Alerter, Outcome};
use gotel::reservation::Event;
use rstest::rstest;
use std::fmt::Write as _;

const LOGIN: Option<(&str, &str)> = Some(("gotel", "s3cret"));

/// An alerter for `sink`, with further lines.
fn mail(sink: &SmtpSink, tls: &str, more: &str) -> Box<dyn Alerter> {
    let mut lines = format!("type: smtp\nhost: 127.0.0.1\nport: {}\ntls: {tls}\n", sink.addr().port());
    if tls != "none" {
        let _ = writeln!(lines, "caFile: {}", sink.ca_file().display());
    }
    let _ = writeln!(lines, "from: GoTel <gotel@example.org>\nto: [ops@example.org]\n{more}");
    alerter(&lines)
}

#[rstest]
#[case(Encryption::None, "none")]
#[case(Encryption::StartTls, "starttls")]
#[case(Encryption::Implicit, "tls")]
#[tokio::test]
async fn mail_arrives_with_each_kind_of_tls_and_login(
    #[case] tls: Encryption,
    #[case] word: &str,
    #[values("", "plain", "login")] auth: &str,
) {
    let sink = SmtpSink::start(tls, LOGIN.filter(|_| !auth.is_empty())).await;
    let more = match auth {
        "" => String::new(),
        auth => format!("auth: {auth}\nusername: gotel\npassword: ${{SECRET}}"),
    };
    let outcome = mail(&sink, word, &more).send(&to("ada@example.org", notice(Event::Trigger, 0))).await;
    assert_eq!(outcome, Outcome::Accepted);
    let mails = sink.received(1, SOON).await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].from, "gotel@example.org");
    assert_eq!(mails[0].to, ["ada@example.org"]);
    assert_eq!(mails[0].encrypted, tls != Encryption::None);
    assert_eq!(mails[0].login.as_deref(), (!auth.is_empty()).then_some("gotel"));
}

#[tokio::test]
async fn a_wrong_password_means_that_the_alerter_is_broken_and_is_not_repeated_in_the_error() {
    let sink = SmtpSink::start(Encryption::StartTls, Some(("gotel", "another"))).await;
    let alerter = mail(&sink, "starttls", "username: gotel\npassword: ${SECRET}");
    let outcome = alerter.send(&to("ada@example.org", notice(Event::Trigger, 0))).await;
    let why = outcome.why().unwrap_or_default().to_owned();
    assert_eq!(outcome.as_str(), "broken", "{why}");
    assert!(why.contains("535") && !why.contains("s3cret"), "{why}");
    assert!(sink.mails().is_empty());
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_without_the_configured_tls() {
    let sink = SmtpSink::start(Encryption::None, None).await;
    let alerter = mail(&sink, "starttls", "");
    let outcome = alerter.send(&to("ada@example.org", notice(Event::Trigger, 0))).await;
    assert_eq!(outcome.as_str(), "broken", "{outcome:?}");
    assert!(outcome.why().unwrap().contains("STARTTLS"), "{outcome:?}");
    assert!(sink.mails().is_empty());
}

#[rstest]
#[case(Encryption::StartTls, "starttls")]
#[case(Encryption::Implicit, "tls")]
#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused(#[case] tls: Encryption, #[case] word: &str) {
    let (sink, stranger) = (SmtpSink::start(tls, None).await, SmtpSink::start(tls, None).await);
    let lines = format!(
        "type: smtp\nhost: 127.0.0.1\nport: {}\ntls: {word}\ncaFile: {}\nfrom: gotel@example.org\nto: [a@example.org]",
        sink.addr().port(),
        stranger.ca_file().display()
    );
    let outcome = alerter(&lines).send(&to("ada@example.org", notice(Event::Trigger, 0))).await;
    assert_eq!(outcome.as_str(), "broken", "{outcome:?}");
    assert!(outcome.why().unwrap().contains("certificate"), "{outcome:?}");
    assert!(sink.mails().is_empty());
}

/// Row 37.
#[tokio::test]
async fn each_recipient_has_an_outcome_of_its_own() {
    let sink = SmtpSink::start(Encryption::None, None).await;
    sink.fault(Fault::Recipient("late@example.org".into(), "451 4.3.0 try later".into()));
    sink.fault(Fault::Recipient("gone@example.org".into(), "550 5.1.1 no such user".into()));
    let alerter = mail(&sink, "none", "");
    let mut outcomes = Vec::new();
    for recipient in ["late@example.org", "gone@example.org", "ada@example.org"] {
        outcomes.push(alerter.send(&to(recipient, notice(Event::Trigger, 0))).await);
    }
    let kinds: Vec<_> = outcomes.iter().map(Outcome::as_str).collect();
    assert_eq!(kinds, ["retry", "refused", "accepted"], "{outcomes:?}");
    assert!(outcomes[1].why().unwrap().contains("no such user"), "{outcomes:?}");
    let mails = sink.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["ada@example.org"]);
}

/// Row 38.
#[tokio::test]
async fn a_mail_whose_answer_was_lost_is_sent_again_as_the_same_mail() {
    let sink = SmtpSink::start(Encryption::None, None).await;
    sink.fault_times(Fault::DropAfterFinalDot, 1);
    let alerter = mail(&sink, "none", "");
    let delivery = to("ada@example.org", notice(Event::Trigger, 0));
    assert_eq!(alerter.send(&delivery).await.as_str(), "retry");
    assert_eq!(alerter.send(&delivery).await, Outcome::Accepted);
    let mails = sink.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].data, mails[1].data);
    assert!(String::from_utf8_lossy(&mails[0].data).contains("Message-ID: <feed0000@example.org>\r\n"));
}

#[rstest]
#[case("421 4.3.2 busy", "retry")]
#[case("452 4.2.2 mailbox full", "retry")]
#[case("552 5.3.4 too big", "refused")]
#[tokio::test]
async fn the_answer_to_the_text_decides(#[case] answer: &str, #[case] expected: &str) {
    let sink = SmtpSink::start(Encryption::None, None).await;
    sink.fault(Fault::AnswerFinalDot(answer.into()));
    let outcome = mail(&sink, "none", "").send(&to("ada@example.org", notice(Event::Trigger, 0))).await;
    assert_eq!(outcome.as_str(), expected, "{outcome:?}");
}

#[tokio::test]
async fn a_busy_server_and_a_closed_port_are_tried_again() {
    let sink = SmtpSink::start(Encryption::None, None).await;
    let alerter = mail(&sink, "none", "");
    let delivery = to("ada@example.org", notice(Event::Trigger, 0));
    sink.fault_times(Fault::Busy, 1);
    assert_eq!(alerter.send(&delivery).await.as_str(), "retry");
    assert_eq!(alerter.send(&delivery).await, Outcome::Accepted);
    drop(sink);
    assert_eq!(alerter.send(&delivery).await.as_str(), "retry");
}

/// Row 36.
#[rstest]
#[case::accept(Fault::HangAfterAccept, "no connection within 10 s")]
#[case::ehlo(Fault::HangAfterEhlo, "no connection within 10 s")]
#[case::final_dot(Fault::HangAfterFinalDot, "did not answer within 29 s")]
#[tokio::test]
async fn a_server_that_hangs_is_given_up_after_the_limit(#[case] fault: Fault, #[case] why: &str) {
    let sink = SmtpSink::start(Encryption::None, None).await;
    sink.fault_times(fault.clone(), 1);
    let alerter = mail(&sink, "none", "");
    let delivery = to("ada@example.org", notice(Event::Trigger, 0));
    let outcome = send_until_limit(alerter, delivery, "the server hangs", || match fault {
        Fault::HangAfterFinalDot => sink.mails().len() == 1,
        _ => sink.connections() == 1,
    })
    .await;
    assert_eq!(outcome.as_str(), "retry");
    assert!(outcome.why().unwrap().contains(why), "{outcome:?}");
}

#[tokio::test]
async fn an_address_beyond_ascii_is_refused_by_a_server_that_cannot_take_it() {
    let sink = SmtpSink::start(Encryption::None, None).await;
    let outcome = mail(&sink, "none", "").send(&to("jörg@example.org", notice(Event::Trigger, 0))).await;
    assert_eq!(outcome.as_str(), "refused", "{outcome:?}");
    assert!(outcome.why().unwrap().contains("SMTPUTF8"), "{outcome:?}");
}

#[tokio::test]
async fn what_is_no_address_is_refused_without_connecting() {
    let sink = SmtpSink::start(Encryption::None, None).await;
    let alerter = mail(&sink, "none", "");
    for recipient in
        ["", "ada", "ada@example.org\r\nRCPT TO:<evil@example.org>", "a@b@c", "<ada@example.org>"]
    {
        let outcome = alerter.send(&to(recipient, notice(Event::Trigger, 0))).await;
        assert_eq!(outcome.as_str(), "refused", "{recipient:?}: {outcome:?}");
    }
    assert_eq!(sink.connections(), 0);
}
