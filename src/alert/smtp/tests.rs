use super::*;
use crate::alert::fixtures::{digest, failed, hostile, late, recovered, to};
use std::collections::BTreeMap;

fn smtp() -> Smtp {
    let config = SmtpConfig {
        host: "smtp.example.org".into(),
        port: 25,
        tls: Tls::None,
        ca_file: None,
        login: None,
        auth: Auth::Plain,
        from: "GoTel <gotel@example.org>".parse().unwrap(),
        to: vec!["ops@example.org".into()],
        ehlo: Some("gotel.example.org".into()),
    };
    Smtp::new("mail".into(), &config).unwrap()
}

fn mail(notice: Notice) -> String {
    let delivery = to("ada@example.org", notice);
    let text = smtp().message(&delivery, &"ada@example.org".parse().unwrap()).unwrap().formatted();
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_late_job_as_a_whole_mail() {
    insta::assert_snapshot!(mail(late()), @r#"
    From: GoTel <gotel@example.org>
    To: ada@example.org
    Subject: LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)
    Date: Fri, 02 Jan 2026 02:02:05 +0000
    Message-ID: <9f86d081884c7d65@example.org>
    References: <668bc323720ef37cd38628eb5c03c083@example.org>
    Auto-Submitted: auto-generated
    X-Auto-Response-Suppress: All
    MIME-Version: 1.0
    Content-Type: multipart/alternative;
     boundary="=_a8279d5a1fafa1cc88642ee0b3aac119"

    --=_a8279d5a1fafa1cc88642ee0b3aac119
    Content-Type: text/plain; charset=utf-8
    Content-Transfer-Encoding: quoted-printable

    LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)

    App: [billing] Component: [nightly] failed checkin on IP [a-1]. Contact own=
    er [ada]

    Noticed 2 min late.

    Deadline: 2026-01-02 02:00:00 UTC
    Noticed: 2026-01-02 02:02:05 UTC
    Last good check-in: 2026-01-01 02:00:00 UTC
    Schedule: every day at 01:00 UTC
    Owner: ada
    Labels: 9-x=3Dy, team=3Dmoney
    Noticed by: a-1

    https://gotel.example.org/status/billing/nightly

    --=20
    GoTel, a dead-man's switch for scheduled jobs
    --=_a8279d5a1fafa1cc88642ee0b3aac119
    Content-Type: text/html; charset=utf-8
    Content-Transfer-Encoding: quoted-printable

    <!doctype html>
    <html lang=3D"en">
    <head>
    <meta charset=3D"utf-8">
    <meta name=3D"viewport" content=3D"width=3Ddevice-width">
    <meta name=3D"color-scheme" content=3D"light dark">
    <meta name=3D"supported-color-schemes" content=3D"light dark">
    <title>LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)</titl=
    e>
    </head>
    <body style=3D"margin:0;padding:16px;font-family:system-ui,-apple-system,'S=
    egoe UI',sans-serif;font-size:15px;line-height:1.5">
    <div style=3D"max-width:640px;margin:0 auto;border-left:4px solid #d1453b;p=
    adding:4px 0 4px 16px">
    <h1 style=3D"margin:0 0 12px;font-size:20px;line-height:1.3;color:#d1453b">=
    LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)</h1>
    <p style=3D"margin:0 0 12px;white-space:pre-line">App: [billing] Component:=
     [nightly] failed checkin on IP [a-1]. Contact owner [ada]</p>
    <p style=3D"margin:0 0 12px;font-style:italic">Noticed 2 min late.</p>
    <table role=3D"presentation" style=3D"border-collapse:collapse;font-size:14=
    px">
    <tr><td style=3D"padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white=
    -space:nowrap">Deadline</td><td style=3D"padding:2px 0">2026-01-02 02:00:00=
     UTC</td></tr>
    <tr><td style=3D"padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white=
    -space:nowrap">Noticed</td><td style=3D"padding:2px 0">2026-01-02 02:02:05 =
    UTC</td></tr>
    <tr><td style=3D"padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white=
    -space:nowrap">Last good check-in</td><td style=3D"padding:2px 0">2026-01-0=
    1 02:00:00 UTC</td></tr>
    <tr><td style=3D"padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white=
    -space:nowrap">Schedule</td><td style=3D"padding:2px 0">every day at 01:00 =
    UTC</td></tr>
    <tr><td style=3D"padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white=
    -space:nowrap">Owner</td><td style=3D"padding:2px 0">ada</td></tr>
    <tr><td style=3D"padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white=
    -space:nowrap">Labels</td><td style=3D"padding:2px 0">9-x=3Dy, team=3Dmoney=
    </td></tr>
    <tr><td style=3D"padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white=
    -space:nowrap">Noticed by</td><td style=3D"padding:2px 0">a-1</td></tr>
    </table>
    <p style=3D"margin:16px 0"><a href=3D"https://gotel.example.org/status/bill=
    ing/nightly" style=3D"display:inline-block;padding:8px 16px;background:#1f5=
    fbf;color:#ffffff;text-decoration:none;border-radius:4px">Open the reservat=
    ion</a></p>
    <p style=3D"margin:16px 0 0;font-size:12px;opacity:.6">GoTel, a dead-man's =
    switch for scheduled jobs</p>
    </div>
    </body>
    </html>
    --=_a8279d5a1fafa1cc88642ee0b3aac119--
    "#);
}

#[test]
fn a_failure_as_plain_text() {
    insta::assert_snapshot!(bodies(&failed()).0, @"
    FAILED billing/nightly: exit code 3 at 02:00:00 UTC (2026-01-02)

    App: [billing] Component: [nightly] failed checkin on IP [a-1]. Contact owner [ada]

    Failed: 2026-01-02 02:00:00 UTC
    Last good check-in: 2026-01-01 02:00:00 UTC
    Schedule: every day at 01:00 UTC
    Exit code: 3
    Run: run-7
    Owner: ada
    Labels: 9-x=y, team=money
    Noticed by: a-1

    Output of the run (its end):
    line 1
    line 2

    https://gotel.example.org/status/billing/nightly

    -- 
    GoTel, a dead-man's switch for scheduled jobs
    ");
}

#[test]
fn a_digest_as_plain_text() {
    insta::assert_snapshot!(bodies(&digest()).0, @"
    12 alerts: billing/nightly, billing/hourly, …

    - LATE billing/nightly (2026-01-02 02:00:00 UTC, ada)
    - RECOVERED billing/hourly (2026-01-02 02:00:00 UTC, ada)

    … and 10 more

    Made by: a-1

    https://gotel.example.org/badguests

    -- 
    GoTel, a dead-man's switch for scheduled jobs
    ");
}

#[test]
fn a_recovery_as_html() {
    insta::assert_snapshot!(bodies(&recovered()).1, @r#"
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <meta name="color-scheme" content="light dark">
    <meta name="supported-color-schemes" content="light dark">
    <title>RECOVERED billing/nightly after 1h 30m</title>
    </head>
    <body style="margin:0;padding:16px;font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:15px;line-height:1.5">
    <div style="max-width:640px;margin:0 auto;border-left:4px solid #2e8b57;padding:4px 0 4px 16px">
    <h1 style="margin:0 0 12px;font-size:20px;line-height:1.3;color:#2e8b57">RECOVERED billing/nightly after 1h 30m</h1>
    <p style="margin:0 0 12px;white-space:pre-line">The job ran well again. It was down for 1h 30m.</p>
    <table role="presentation" style="border-collapse:collapse;font-size:14px">
    <tr><td style="padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white-space:nowrap">Deadline</td><td style="padding:2px 0">2026-01-02 02:00:00 UTC</td></tr>
    <tr><td style="padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white-space:nowrap">Noticed</td><td style="padding:2px 0">2026-01-02 02:02:05 UTC</td></tr>
    <tr><td style="padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white-space:nowrap">Lasted</td><td style="padding:2px 0">1h 30m</td></tr>
    <tr><td style="padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white-space:nowrap">Last good check-in</td><td style="padding:2px 0">2026-01-02 03:30:00 UTC</td></tr>
    <tr><td style="padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white-space:nowrap">Schedule</td><td style="padding:2px 0">every day at 01:00 UTC</td></tr>
    <tr><td style="padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white-space:nowrap">Owner</td><td style="padding:2px 0">ada</td></tr>
    <tr><td style="padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white-space:nowrap">Labels</td><td style="padding:2px 0">9-x=y, team=money</td></tr>
    <tr><td style="padding:2px 16px 2px 0;opacity:.7;vertical-align:top;white-space:nowrap">Noticed by</td><td style="padding:2px 0">a-1</td></tr>
    </table>
    <p style="margin:16px 0"><a href="https://gotel.example.org/status/billing/nightly" style="display:inline-block;padding:8px 16px;background:#1f5fbf;color:#ffffff;text-decoration:none;border-radius:4px">Open the reservation</a></p>
    <p style="margin:16px 0 0;font-size:12px;opacity:.6">GoTel, a dead-man's switch for scheduled jobs</p>
    </div>
    </body>
    </html>
    "#);
}

#[test]
fn each_try_is_the_same_text() {
    assert_eq!(mail(late()), mail(late()));
}

#[test]
fn the_mails_of_an_incident_refer_to_one_id_and_only_later_ones_reply() {
    let header = |text: &str, name: &str| {
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
    };
    let (first, last) = (mail(late()), mail(recovered()));
    assert_eq!(header(&first, "References"), header(&last, "References"));
    assert_eq!(header(&first, "In-Reply-To"), None);
    assert_eq!(header(&last, "In-Reply-To"), header(&last, "References"));
}

/// Row 54: no text of a reservation becomes a header.
#[test]
fn line_breaks_in_any_field_add_no_header() {
    let names = |text: &str| {
        let parsed = mail_parser::MessageParser::default().parse(text.as_bytes()).unwrap();
        parsed.headers().iter().map(|header| header.name.as_str().to_owned()).collect::<Vec<_>>()
    };
    let expected = [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "References",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
        "MIME-Version",
        "Content-Type",
    ];
    for text in [mail(late()), mail(hostile())] {
        assert_eq!(names(&text), expected, "{text}");
    }
    let text = mail(hostile());
    let parsed = mail_parser::MessageParser::default().parse(text.as_bytes()).unwrap();
    assert!(!parsed.subject().unwrap().contains(['\r', '\n']));
    assert_eq!(parsed.parts.len(), 3, "multipart, text, HTML");
    assert!(parsed.bcc().is_none());
}

/// Row 55: markup and braces in any field are shown, not obeyed.
#[test]
fn markup_in_any_field_is_inert_in_html() {
    let html = bodies(&hostile()).1;
    assert!(!html.contains("<script"), "{html}");
    assert!(html.contains("&#60;script&#62;"), "{html}");
    assert!(html.contains("{{7*7}}{app}"), "{html}");
    assert!(!html.contains("javascript:"), "{html}");
    let tags: BTreeMap<_, usize> = html.split('<').skip(1).fold(BTreeMap::new(), |mut tags, rest| {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '/').collect();
        *tags.entry(name).or_default() += 1;
        tags
    });
    assert!(!tags.contains_key("script"), "{tags:?}");
}

#[test]
fn colours_tell_alarm_from_good_news_and_the_title_tells_it_too() {
    assert_ne!(colour(Event::Trigger), colour(Event::Resolve));
    assert!(title(&recovered()).starts_with("RECOVERED"));
}
