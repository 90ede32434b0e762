//! The samples on the page on alerters are what receivers really get.

use std::time::Duration;

use mail_parser::MessageParser;

use super::compare;
use super::markdown::{Block, blocks};
use super::workshop::{Workshop, file};
use crate::util::receiver::Receiver;
use crate::util::smtp::{Encryption, SmtpSink};

const PAGE: &str = "docs/alerters.md";

/// Ten seconds until the job is late, and a busy machine.
const LATE: Duration = Duration::from_secs(40);

/// The blocks of the page with these words, in order.
fn samples(words: &str) -> Vec<Block> {
    blocks(&file(PAGE)).into_iter().filter(|block| block.words == words).collect()
}

fn sample(words: &str, n: usize) -> String {
    samples(words).into_iter().nth(n).unwrap_or_else(|| panic!("{PAGE} has no {words:?} number {n}")).text
}

fn check(words: &str, n: usize, real: &str) {
    let shown = sample(words, n);
    let compared =
        if words.starts_with("json") { compare::json(&shown, real) } else { compare::text(&shown, real) };
    compared.unwrap_or_else(|why| panic!("{PAGE}, {words} number {n}: {why}"));
}

fn config(
    workshop: &Workshop,
    own: &Receiver,
    prometheus: &Receiver,
    pager: &Receiver,
    mail: &SmtpSink,
) -> String {
    let secret = |name: &str, text: &str| workshop.write(name, text).display().to_string();
    let (hmac, key) =
        (secret("hmac", "a-secret-for-signatures\n"), secret("key", "0123456789abcdef0123456789abcdef\n"));
    format!(
        "externalUrl: https://gotel.example.org\nalerters:\n\
         - {{name: chat, type: webhook, url: '{}', secretFile: {hmac}}}\n\
         - {{name: prometheus, type: webhook, url: '{}', format: alertmanager}}\n\
         - {{name: pager, type: pagerduty, url: '{}', routingKeyFile: {key}, severity: critical}}\n\
         - {{name: ops-mail, type: smtp, host: localhost, port: {}, tls: none, \
            from: GoTel <gotel@example.org>, to: [ops@example.org]}}\n\
         - {{name: terminal, type: console}}\n",
        own.url("/hook"),
        prometheus.url("/hook"),
        pager.url("/v2/enqueue"),
        mail.addr().port(),
    )
}

#[tokio::test]
async fn the_samples_on_the_page_on_alerters_are_what_is_sent() {
    let mut workshop = Workshop::new();
    let (own, prometheus) = (Receiver::webhook().await, Receiver::webhook().await);
    let (pager, mail) = (Receiver::pagerduty().await, SmtpSink::start(Encryption::None, None).await);
    let text = config(&workshop, &own, &prometheus, &pager, &mail);
    workshop.write("gotel.yaml", &text);
    let (gotel, base) = workshop.serve("gotel serve --config gotel.yaml").await;
    let reservation = sample("sh of the samples", 0).replace("http://127.0.0.1:8080", &base);
    let ran = workshop.run(&reservation).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");

    own.received(1, LATE).await;
    prometheus.received(1, LATE).await;
    pager.received(1, LATE).await;
    mail.received(1, LATE).await;
    gotel.printed("└─", LATE).await;
    let checkin = sample("sh of the samples", 1).replace("http://127.0.0.1:8080", &base);
    let ran = workshop.run(&checkin).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let own = own.received(2, LATE).await;
    let pager = pager.received(2, LATE).await;
    mail.received(2, LATE).await;

    check("json webhook", 0, &String::from_utf8_lossy(&own[0].body));
    check("json alertmanager", 0, &String::from_utf8_lossy(&prometheus.requests()[0].body));
    check("json pagerduty", 0, &String::from_utf8_lossy(&pager[0].body));
    check("json pagerduty", 1, &String::from_utf8_lossy(&pager[1].body));
    let mails = mail.mails();
    let parsed = MessageParser::default().parse(&mails[0].data).expect("the mail is one");
    check(
        "text mail",
        0,
        &format!("Subject: {}\n\n{}", parsed.subject().unwrap(), parsed.body_text(0).unwrap()),
    );
    let output = gotel.output();
    let block = output.split_once("┌─").map(|(_, rest)| rest.split_once("└─").unwrap_or_default().0);
    check("text console", 0, &format!("┌─{}└─", block.expect("the terminal shows the alert")));

    // The check of a signature, as the page shows it.
    let headers = samples("text webhook headers").remove(0);
    for line in headers.text.lines() {
        let (name, shown) = line.split_once(": ").expect("a header");
        compare::text(shown, own[0].header(name)).unwrap_or_else(|why| panic!("{PAGE}: {name}: {why}"));
    }
    workshop.write("body.json", &String::from_utf8_lossy(&own[0].body));
    workshop.env.push(("SIGNATURE".into(), own[0].header("x-gotel-signature").into()));
    workshop.env.push(("SECRET_FILE".into(), workshop.path().join("hmac").display().to_string()));
    let verify = sample("sh verify", 0);
    let ran = workshop.run(&verify).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "genuine\n"), "{ran:#?}");
    workshop.change("body.json", "firing", "resolved");
    assert_ne!(workshop.run(&verify).await.code, Some(0), "a forged body is noticed");
}
