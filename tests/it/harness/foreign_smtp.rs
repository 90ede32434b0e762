//! The foreign mail server keeps what it is sent where the tests can read it.

use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::SOON;
use crate::util::foreign_smtp::ForeignSmtp;

#[tokio::test]
async fn a_mail_sent_to_a_foreign_server_can_be_read_back() {
    let Some(server) = ForeignSmtp::find() else { return };
    let mark = format!("late-{}", uuid::Uuid::new_v4().simple());
    let message = Message::builder()
        .from("gotel@example.org".parse().unwrap())
        .to("ops@example.org".parse().unwrap())
        .subject(mark.clone())
        .body(String::from("Grüße"))
        .unwrap();
    let addr = server.addr();
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(addr.ip().to_string())
        .port(addr.port())
        .build();
    transport.send(message).await.unwrap();
    let mail = server.received(&mark, SOON).await;
    let mail = mail_parser::MessageParser::default().parse(&mail).unwrap();
    assert_eq!(mail.subject(), Some(mark.as_str()));
    assert_eq!(mail.body_text(0).as_deref().map(str::trim_end), Some("Grüße"));
}
