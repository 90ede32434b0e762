//! Row 54: what a foreign server received, read by a strict parser, holds our headers and no others.

use super::{SOON, alerter, notice, to};
use crate::util::foreign_smtp::ForeignSmtp;
use crate::util::smtp::{Encryption, SmtpSink};
use gotel::alert::Outcome;
use gotel::reservation::{Event, Notice};
use mail_parser::{MessageParser, MimeHeaders, PartType};

/// What the foreign server adds.
const ITS_OWN: [&str; 3] = ["X-Peer", "X-MailFrom", "X-RcptTo"];

const OURS: [&str; 11] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "References",
    "In-Reply-To",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "MIME-Version",
    "Content-Type",
];

/// A notice whose every text tries to end the header, the part or the mail; `mark` finds it again.
fn hostile(mark: &str) -> Notice {
    let nasty = |name: &str| {
        format!(
            "{name}\r\nBcc: evil@example.org\nX-Evil: 1\r\r\n\r\n.\r\nQUIT\r\n--=_\r\n=?utf-8?q?=0D=0AX-Evil:_2?=\u{0}\u{2028}<b>ü日本</b>{{{{1}}}}"
        )
    };
    Notice {
        app: nasty("app"),
        component: nasty("component"),
        owner: nasty("owner"),
        schedule: nasty("schedule"),
        message: nasty(mark),
        output: Some(nasty("output")),
        srv: nasty("srv"),
        dedup_key: nasty("dedup"),
        remarks: vec![nasty("remark")],
        ..notice(Event::Remind, 1)
    }
}

fn check(mail: &[u8], mark: &str) {
    let parsed = MessageParser::default().parse(mail).expect("it is a mail");
    let mut names: Vec<_> = parsed.headers().iter().map(|header| header.name.as_str().to_owned()).collect();
    names.retain(|name| !ITS_OWN.contains(&name.as_str()));
    names.sort_unstable();
    let mut expected = OURS;
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(parsed.from().unwrap().first().unwrap().address().unwrap(), "gotel@example.org");
    assert_eq!(parsed.to().unwrap().as_list().unwrap().len(), 1);
    assert_eq!(parsed.to().unwrap().first().unwrap().address().unwrap(), "ada@example.org");
    assert!(!parsed.subject().unwrap().chars().any(char::is_control), "{:?}", parsed.subject());
    assert_eq!(parsed.message_id(), Some("feed0001@example.org"));
    assert_eq!(parsed.in_reply_to().as_text(), parsed.references().as_text());
    // multipart/alternative with a text and an HTML part, nothing more.
    assert_eq!(parsed.parts.len(), 3);
    assert_eq!(parsed.content_type().unwrap().subtype(), Some("alternative"));
    assert!(
        matches!(parsed.parts[1].body, PartType::Text(_))
            && matches!(parsed.parts[2].body, PartType::Html(_))
    );
    let text = parsed.body_text(0).unwrap();
    assert!(text.contains(mark) && text.contains("ü日本"), "{text}");
    let html = parsed.body_html(0).unwrap();
    assert!(!html.contains("<b>") && html.contains("&#60;b&#62;ü日本"), "{html}");
    assert!(html.contains("{{1}}"), "{html}");
}

fn lines(port: u16) -> String {
    format!(
        "type: smtp\nhost: 127.0.0.1\nport: {port}\ntls: none\nfrom: Gö Tel <gotel@example.org>\nto: [ops@example.org]"
    )
}

#[tokio::test]
async fn no_text_becomes_a_header_at_our_own_sink() {
    let sink = SmtpSink::start(Encryption::None, None).await;
    let delivery = to("ada@example.org", hostile("mark"));
    assert_eq!(alerter(&lines(sink.addr().port())).send(&delivery).await, Outcome::Accepted);
    let mails = sink.received(1, SOON).await;
    assert_eq!((mails.len(), mails[0].to.len()), (1, 1));
    check(&mails[0].data, "mark");
}

#[tokio::test]
async fn no_text_becomes_a_header_at_a_foreign_server() {
    let Some(server) = ForeignSmtp::find() else { return };
    let mark = format!("mark-{}", uuid::Uuid::new_v4().simple());
    let delivery = to("ada@example.org", hostile(&mark));
    assert_eq!(alerter(&lines(server.addr().port())).send(&delivery).await, Outcome::Accepted);
    check(&server.received(&mark, SOON).await, &mark);
}
