//! Tests of [`crate::util::smtp`], with a real mail client.

use std::time::Duration;

use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{AsyncSmtpTransport, Error};
use lettre::{AsyncTransport, Tokio1Executor};
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{A_WHILE, SOON};
use crate::util::smtp::{Encryption, Fault, SmtpSink};
use crate::util::wait::{eventually, now};

#[rstest]
#[tokio::test]
async fn a_mail_arrives_as_it_was_sent(
    #[values(Encryption::None, Encryption::StartTls, Encryption::Implicit)] tls: Encryption,
    #[values(None, Some(Mechanism::Plain), Some(Mechanism::Login))] mechanism: Option<Mechanism>,
) {
    let before = now();
    let login = mechanism.map(|_| ("gotel", "s3cret"));
    let sink = SmtpSink::start(tls, login).await;
    send(&sink, tls, mechanism.map(|mechanism| (mechanism, "s3cret"))).await.unwrap();
    let mails = sink.received(1, SOON).await;
    let mail = &mails[0];
    assert_eq!(
        (mail.from.as_str(), &mail.to[..]),
        ("gotel@example.org", &["ops@example.org".to_owned()][..])
    );
    assert_eq!(
        (mail.encrypted, mail.login.as_deref()),
        (tls != Encryption::None, login.map(|(user, _)| user))
    );
    assert!(mail.accepted && before <= mail.at && mail.at <= now());
    let parsed = mail_parser::MessageParser::default().parse(&mail.data).unwrap();
    assert_eq!(parsed.subject(), Some("late"));
    assert_eq!(parsed.body_text(0).as_deref(), Some("first\r\n.dotted\r\n..\r\n"));
}

#[tokio::test]
async fn a_wrong_password_or_a_missing_login_is_refused() {
    let sink = SmtpSink::start(Encryption::StartTls, Some(("gotel", "s3cret"))).await;
    let wrong = send(&sink, Encryption::StartTls, Some((Mechanism::Plain, "guess"))).await.unwrap_err();
    assert_eq!(wrong.status().unwrap().to_string(), "535");
    let none = send(&sink, Encryption::StartTls, None).await.unwrap_err();
    assert_eq!(none.status().unwrap().to_string(), "530");
    let plain = send(&sink, Encryption::None, None).await.unwrap_err();
    assert_eq!(plain.status().unwrap().to_string(), "530");
    assert!(sink.mails().is_empty());
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_not_trusted() {
    let (sink, other) = (
        SmtpSink::start(Encryption::Implicit, None).await,
        SmtpSink::start(Encryption::Implicit, None).await,
    );
    let error = send_with_ca(&sink, other.ca_file(), Encryption::Implicit, None).await.unwrap_err();
    assert!(error.is_tls() || error.to_string().contains("onnection"), "{error}");
    assert!(sink.mails().is_empty());
}

#[rstest]
#[case::busy(Fault::Busy, "421")]
#[case::login(Fault::RefuseLogin, "535")]
#[case::later(Fault::Recipient("ops@example.org".into(), "451 4.3.0 try later".into()), "451")]
#[case::never(Fault::Recipient("ops@example.org".into(), "550 5.1.1 no such user".into()), "550")]
#[case::refused_mail(Fault::AnswerFinalDot("554 5.6.0 no".into()), "554")]
#[tokio::test]
async fn a_fault_with_a_reply_happens_as_often_as_was_asked(#[case] fault: Fault, #[case] status: &str) {
    let sink = SmtpSink::start(Encryption::None, Some(("gotel", "s3cret"))).await;
    sink.fault_times(fault, 2);
    for _ in 0..2 {
        let error = send(&sink, Encryption::None, Some((Mechanism::Plain, "s3cret"))).await.unwrap_err();
        assert_eq!(error.status().map(|code| code.to_string()).as_deref(), Some(status), "{error}");
    }
    send(&sink, Encryption::None, Some((Mechanism::Plain, "s3cret"))).await.unwrap();
    assert_eq!(sink.mails().iter().filter(|mail| mail.accepted).count(), 1);
}

#[rstest]
#[case::accept(Fault::HangAfterAccept, 0)]
#[case::ehlo(Fault::HangAfterEhlo, 0)]
#[case::data(Fault::HangAfterData, 0)]
#[case::final_dot(Fault::HangAfterFinalDot, 1)]
#[tokio::test]
async fn a_hanging_server_is_silent_until_it_is_healed(#[case] fault: Fault, #[case] recorded: usize) {
    let sink = SmtpSink::start(Encryption::None, None).await;
    sink.fault(fault);
    {
        let mut sending = std::pin::pin!(send(&sink, Encryption::None, None));
        let there = eventually(SOON, "the fault to happen", async || {
            sink.connections() == 1 && sink.mails().len() == recorded
        });
        tokio::select! {
            _ = &mut sending => panic!("a hanging server answered"),
            () = there => {}
        }
        assert!(tokio::time::timeout(A_WHILE, sending).await.is_err(), "a hanging server answered");
        assert_eq!(sink.mails().len(), recorded);
    }
    sink.heal();
    send(&sink, Encryption::None, None).await.unwrap();
    assert_eq!((sink.mails().len(), sink.connections()), (recorded + 1, 2));
}

#[tokio::test]
async fn a_connection_dropped_after_the_final_dot_leaves_the_mail_with_the_server() {
    let sink = SmtpSink::start(Encryption::None, None).await;
    sink.fault_times(Fault::DropAfterFinalDot, 1);
    send(&sink, Encryption::None, None).await.unwrap_err();
    assert!(!sink.received(1, SOON).await[0].accepted);
}

#[tokio::test]
async fn a_line_that_does_not_end_with_crlf_ends_the_dialogue() {
    let sink = SmtpSink::start(Encryption::None, None).await;
    let mut client = TcpStream::connect(sink.addr()).await.unwrap();
    client.write_all(b"EHLO me\nQUIT\r\n").await.unwrap();
    let mut heard = String::new();
    tokio::time::timeout(SOON, client.read_to_string(&mut heard)).await.unwrap().unwrap();
    assert!(heard.ends_with("500 5.5.2 a line ends with CRLF, and only there\r\n"), "{heard}");
}

async fn send(sink: &SmtpSink, tls: Encryption, login: Option<(Mechanism, &str)>) -> Result<(), Error> {
    send_with_ca(sink, sink.ca_file(), tls, login).await
}

async fn send_with_ca(
    sink: &SmtpSink,
    ca: &std::path::Path,
    tls: Encryption,
    login: Option<(Mechanism, &str)>,
) -> Result<(), Error> {
    let ca = Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap();
    let parameters =
        TlsParameters::builder("127.0.0.1".into()).add_root_certificate(ca).build_rustls().unwrap();
    let tls = match tls {
        Encryption::None => Tls::None,
        Encryption::StartTls => Tls::Required(parameters),
        Encryption::Implicit => Tls::Wrapper(parameters),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(sink.addr().port())
        .timeout(Some(Duration::from_secs(20)))
        .tls(tls);
    if let Some((mechanism, password)) = login {
        let credentials = Credentials::new("gotel".into(), password.into());
        builder = builder.credentials(credentials).authentication(vec![mechanism]);
    }
    builder.build().send(message()).await.map(drop)
}

fn message() -> Message {
    let mailbox = |address: &str| address.parse::<Mailbox>().unwrap();
    let message = Message::builder().from(mailbox("gotel@example.org")).to(mailbox("ops@example.org"));
    message.subject("late").body("first\r\n.dotted\r\n..".to_owned()).unwrap()
}
