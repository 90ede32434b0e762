use super::*;
use std::fmt::Write as _;

fn env(name: &str) -> Option<String> {
    match name {
        "SMTP_PASSWORD" | "PD_KEY" | "HOOK_SECRET" | "HOOK_TOKEN" => Some("s3cret".into()),
        "HOOK_URL" => Some("https://hooks.example.org/s3cret".into()),
        "BAD_URL" => Some("https://user:s3cret@example.org/".into()),
        _ => None,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    alerters: Vec<Written>,
}

fn load(yaml: &str) -> Result<Vec<AlerterConfig>, String> {
    let file: File = serde_yaml::from_str(yaml).map_err(|e| e.to_string())?;
    parse(file.alerters, &env).map_err(|e| e.to_string())
}

/// One entry, named `a`, with these further lines.
fn one(lines: &str) -> Result<Vec<AlerterConfig>, String> {
    let mut yaml = "alerters:\n  - name: a\n".to_owned();
    for line in lines.split("; ") {
        let _ = writeln!(yaml, "    {line}");
    }
    load(&yaml)
}

#[test]
fn every_key_of_every_type_is_understood() {
    let yaml = r#"
alerters:
  - name: ops-mail
    type: smtp
    default: false
    host: smtp.example.org
    port: 2525
    tls: starttls
    username: gotel
    password: ${SMTP_PASSWORD}
    auth: login
    from: GoTel <gotel@example.org>
    to: [ops@example.org, "Ada <ada@example.org>"]
    ehlo: gotel.example.org
  - name: pager
    type: pagerduty
    routingKey: ${PD_KEY}
    region: eu
    severity: critical
  - name: hook
    type: webhook
    url: ${HOOK_URL}
    format: alertmanager
    secret: ${HOOK_SECRET}
    headers: {Authorization: "Bearer ${HOOK_TOKEN}", X-Team: money}
  - name: term
    type: console
"#;
    let alerters = load(yaml).unwrap();
    let cards: Vec<_> = alerters.iter().map(AlerterConfig::card).collect();
    assert_eq!(
        cards[0],
        Card {
            name: "ops-mail".into(),
            default: false,
            per_address: true,
            folds: false,
            fallback: vec!["ops@example.org".into(), "ada@example.org".into()],
        }
    );
    assert!(cards[1].folds && cards[1].default && !cards[2].folds && !cards[3].per_address);
    let Channel::Webhook(hook) = &alerters[2].channel else { panic!("{alerters:?}") };
    assert_eq!(hook.headers[0].1.value().expose(), "Bearer s3cret");
    // Nothing secret is printed, by whatever way.
    assert!(!format!("{alerters:?}").contains("s3cret"), "{alerters:?}");
    for config in &alerters {
        assert_eq!(
            super::super::build(config, &super::super::Context::default()).unwrap().name(),
            config.name
        );
    }
}

#[test]
fn ports_follow_from_tls_and_regions_from_the_key() {
    let smtp = |tls: &str| {
        let lines =
            format!("type: smtp; host: h.example.org; tls: {tls}; from: a@example.org; to: [b@example.org]");
        match &one(&lines).unwrap()[0].channel {
            Channel::Smtp(smtp) => smtp.port,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((smtp("none"), smtp("starttls"), smtp("tls")), (25, 587, 465));
    let url = |region: &str| match &one(&format!("type: pagerduty; routingKey: ${{PD_KEY}}{region}")).unwrap()
        [0]
    .channel
    {
        Channel::PagerDuty(pagerduty) => pagerduty.url.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(url(""), PAGERDUTY_US);
    assert_eq!(url("; region: us"), PAGERDUTY_US);
    assert_eq!(url("; region: eu"), PAGERDUTY_EU);
}

#[test]
fn without_alerters_the_terminal_is_used() {
    let alerters = or_console(load("alerters: []").unwrap());
    assert_eq!(alerters.len(), 1);
    assert_eq!((alerters[0].name.as_str(), alerters[0].default), ("console", true));
    let configured = one("type: console").unwrap();
    assert_eq!(or_console(configured)[0].name, "a");
}

#[test]
fn secrets_are_read_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("pd");
    std::fs::write(&key, "s3cret\n").unwrap();
    let alerters = one(&format!("type: pagerduty; routingKeyFile: {}", key.display())).unwrap();
    let Channel::PagerDuty(pagerduty) = &alerters[0].channel else { panic!("{alerters:?}") };
    assert_eq!(pagerduty.routing_key.value().expose(), "s3cret");
    assert_eq!(*pagerduty.routing_key.source(), SecretSource::File(key.clone()));
    std::fs::write(&key, "\n").unwrap();
    let error = one(&format!("type: pagerduty; routingKeyFile: {}", key.display())).unwrap_err();
    assert_eq!(
        error,
        format!("alerters[0].routingKeyFile: the file {} is empty: write the secret there", key.display())
    );
}

#[test]
fn each_mistake_names_the_field_and_the_remedy() {
    const SMTP: &str = "type: smtp; host: h.example.org; from: a@example.org; to: [b@example.org]";
    const PD: &str = "type: pagerduty; routingKey: ${PD_KEY}";
    let entries = [
        "default: true".to_owned(),
        "type: console; port: 25".into(),
        "type: smtp; routingKey: ${PD_KEY}".into(),
        "type: smtp".into(),
        "type: smtp; host: h.example.org; to: [b@example.org]".into(),
        "type: smtp; host: h.example.org; from: a@example.org".into(),
        "type: smtp; host: h.example.org; from: a@example.org; to: []".into(),
        "type: smtp; host: h.example.org; from: nobody; to: [b@example.org]".into(),
        "type: smtp; host: h.example.org; from: a@example.org; to: [b@example.org, ada]".into(),
        r#"type: smtp; host: h.example.org; from: "a@example.org\r\nBcc: x@example.org"; to: [b@example.org]"#.into(),
        "type: smtp; host: h.example.org:25; from: a@example.org; to: [b@example.org]".into(),
        format!("{SMTP}; port: 0"),
        format!("{SMTP}; ehlo: not a host"),
        format!("{SMTP}; auth: login"),
        format!("{SMTP}; username: gotel"),
        format!("{SMTP}; password: ${{SMTP_PASSWORD}}"),
        format!("{SMTP}; username: gotel; password: hunter2"),
        format!("{SMTP}; username: gotel; password: ${{UNSET}}"),
        format!("{SMTP}; username: gotel; password: ${{SMTP_PASSWORD}}; passwordFile: /x"),
        format!("{SMTP}; username: gotel; passwordFile: /nonexistent/password"),
        format!("{SMTP}; tls: none; caFile: /nonexistent/ca.pem"),
        format!("{SMTP}; caFile: /nonexistent/ca.pem"),
        format!("{SMTP}; caFile: /etc/hostname"),
        "type: pagerduty".into(),
        "type: pagerduty; routingKey: 0123456789abcdef0123456789abcdef".into(),
        format!("{PD}; region: us; url: http://127.0.0.1/"),
        format!("{PD}; url: gopher://example.org/"),
        "type: webhook".into(),
        "type: webhook; url: https://example.org; urlFile: /x".into(),
        "type: webhook; url: ftp://example.org/".into(),
        "type: webhook; url: ${BAD_URL}".into(),
        "type: webhook; url: http://169.254.169.254/latest/meta-data".into(),
        "type: webhook; url: http://x; secret: hunter2".into(),
        "type: webhook; url: http://x; headers: {Authorization: Bearer hunter2}".into(),
        "type: webhook; url: http://x; headers: {X-Token: '${UNSET}'}".into(),
        "type: webhook; url: http://x; headers: {Content-Type: text/plain}".into(),
        "type: webhook; url: http://x; headers: {'X Y': z}".into(),
        r#"type: webhook; url: http://x; headers: {X-Y: "a\nb"}"#.into(),
        format!("{SMTP}; username: gotel; usernameFile: /x"),
        "type: webhook; url: http://x; headerFiles: {X-Key: /nonexistent/key}".into(),
        "type: webhook; url: http://x; headerFiles: {Host: /x}".into(),
        "type: webhook; url: http://x; headerFiles: {'X Y': /x}".into(),
        "type: webhook; url: http://x; headers: {x-key: '${HOOK_TOKEN}'}; headerFiles: {X-Key: /x}".into(),
    ];
    let mut errors = String::new();
    for entry in entries {
        let error = one(&entry).expect_err(&entry);
        assert!(!error.contains("hunter2") && !error.contains("s3cret"), "{error}");
        let _ = writeln!(errors, "{error}");
    }
    insta::assert_snapshot!(errors, @r#"
    alerters[0].type: is missing: write type: smtp (or pagerduty, webhook, console)
    alerters[0].port: is not known to the type console, which needs only a name: remove it
    alerters[0].routingKey: is not known to the type smtp, which has host, port, tls, caFile, username, usernameFile, password, passwordFile, auth, from, to, ehlo
    alerters[0].host: is missing: write host: smtp.example.org
    alerters[0].from: is missing: write from: GoTel <gotel@example.org>
    alerters[0].to: is missing: write to: [ops@example.org]
    alerters[0].to: is empty: write at least one address, for reservations that name none (to: [ops@example.org])
    alerters[0].from: "nobody" is not a mail address: write GoTel <gotel@example.org>
    alerters[0].to[1]: "ada" is not a mail address: write ops@example.org
    alerters[0].from: "a@example.org\r\nBcc: x@example.org" is not a mail address: write GoTel <gotel@example.org>
    alerters[0].host: "h.example.org:25" is not a host name: write only the name, the port goes into port:
    alerters[0].port: 0 is not a port: write a number from 1 to 65535
    alerters[0].ehlo: "not a host" is not a host name: write gotel.example.org
    alerters[0].auth: is of no use without username and password: write both, or remove it
    alerters[0].passwordFile: is missing, as there is a username: write passwordFile: PATH or password: ${SMTP_PASSWORD}
    alerters[0].username: is missing, as there is a password: write username: gotel
    alerters[0].password: a secret does not stand in this file: write passwordFile: PATH, or password: ${SMTP_PASSWORD} and set that environment variable
    alerters[0].password: the environment variable UNSET is not set
    alerters[0].password: stands beside passwordFile: keep one of them
    alerters[0].passwordFile: cannot read the file /nonexistent/password: No such file or directory (os error 2)
    alerters[0].caFile: is of no use with tls: none: write tls: starttls, or remove it
    alerters[0].caFile: cannot read the file /nonexistent/ca.pem: No such file or directory (os error 2)
    alerters[0].caFile: the file /etc/hostname holds no certificate: write the path of a PEM file
    alerters[0].routingKeyFile: is missing: write routingKeyFile: PATH or routingKey: ${PD_KEY} (the integration key of the service)
    alerters[0].routingKey: a secret does not stand in this file: write routingKeyFile: PATH, or routingKey: ${PD_KEY} and set that environment variable
    alerters[0].url: cannot stand beside region, which says where to: keep one of them
    alerters[0].url: is neither http:// nor https://: write https://example.org/hook
    alerters[0].url: is missing: write urlFile: PATH, url: ${HOOK_URL} or url: https://example.org/hook
    alerters[0].url: stands beside urlFile: keep one of them
    alerters[0].url: is neither http:// nor https://: write https://example.org/hook
    alerters[0].url: holds a user name or password: put it into a header (headers: {Authorization: "Bearer ${HOOK_TOKEN}"})
    alerters[0].url: leads to 169.254.169.254, a link-local or metadata address: GoTel sends nothing there
    alerters[0].secret: a secret does not stand in this file: write secretFile: PATH, or secret: ${HOOK_SECRET} and set that environment variable
    alerters[0].headers.Authorization: looks like a secret, and secrets do not stand in this file: write "Bearer ${HOOK_TOKEN}" and set the environment variable, or name a file under headerFiles
    alerters[0].headers.X-Token: the environment variable UNSET is not set
    alerters[0].headers.Content-Type: is set by GoTel itself: remove it
    alerters[0].headers: "X Y" is not the name of an HTTP header
    alerters[0].headers.X-Y: cannot be the value of an HTTP header: it must be one line
    alerters[0].username: stands beside usernameFile: keep one of them
    alerters[0].headerFiles.X-Key: cannot read the file /nonexistent/key: No such file or directory (os error 2)
    alerters[0].headerFiles.Host: is set by GoTel itself: remove it
    alerters[0].headerFiles: "X Y" is not the name of an HTTP header
    alerters[0].headerFiles.X-Key: is given twice, here or under headers: keep one of them
    "#);
}

#[test]
fn names_are_short_plain_and_unique() {
    let mut errors = String::new();
    for name in ["", "Ops", "-a", "a_b", "a b", &"x".repeat(64)] {
        let error = load(&format!("alerters:\n  - name: {name:?}\n    type: console\n")).unwrap_err();
        let _ = writeln!(errors, "{error}");
    }
    let twice = "alerters:\n  - {name: a, type: console}\n  - {name: b, type: console}\n  - {name: a, type: console}\n";
    let _ = writeln!(errors, "{}", load(twice).unwrap_err());
    insta::assert_snapshot!(errors, @r#"
    alerters[0].name: is missing: write name: ops-mail
    alerters[0].name: "Ops" is not a name for an alerter: use a-z, 0-9 and -, beginning with a letter or digit, at most 63 characters
    alerters[0].name: "-a" is not a name for an alerter: use a-z, 0-9 and -, beginning with a letter or digit, at most 63 characters
    alerters[0].name: "a_b" is not a name for an alerter: use a-z, 0-9 and -, beginning with a letter or digit, at most 63 characters
    alerters[0].name: "a b" is not a name for an alerter: use a-z, 0-9 and -, beginning with a letter or digit, at most 63 characters
    alerters[0].name: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" is not a name for an alerter: use a-z, 0-9 and -, beginning with a letter or digit, at most 63 characters
    alerters[2].name: the name "a" is taken by an alerter above: give each its own
    "#);
    assert!(load(&format!("alerters: [{{name: {}, type: console}}]", "x".repeat(63))).is_ok());
}

#[test]
fn unknown_keys_and_types_are_refused_with_their_line() {
    let key = one("type: smtp; prot: 25").unwrap_err();
    assert!(key.contains("prot") && key.contains("line 4"), "{key}");
    let kind = one("type: telegram").unwrap_err();
    assert!(kind.contains("telegram") && kind.contains("webhook"), "{kind}");
    let written: File = serde_yaml::from_str("alerters: [{name: a, password: hunter2}]").unwrap();
    assert!(!format!("{written:?}").contains("hunter2"));
}
