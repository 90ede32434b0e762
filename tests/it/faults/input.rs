//! Input that is wrong or means harm, against the real program: rows 53, 54 and 56.

use reqwest::Method;
use serde_json::{Value, json};

use super::SOON;
use super::invariants::{Known, hold};
use super::world::{World, hook_yaml};
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::foreign_smtp::ForeignSmtp;
use crate::util::receiver::Receiver;

/// A refusal that says so, in the form that is promised.
fn is_refused(answer: &(u16, String), status: u16, says: &str) {
    assert_eq!(answer.0, status, "{}", answer.1);
    let body: Value = serde_json::from_str(&answer.1).expect("a refusal is JSON");
    assert_eq!(body["success"], false, "{body}");
    assert!(body["message"].as_str().unwrap().contains(says), "{says:?} is not in {body}");
}

async fn post_raw(world: &World, path: &str, body: Vec<u8>) -> (u16, String) {
    let request = world.http.post(world.url.join(path).unwrap()).body(body);
    let answer = request.send().await.expect("GoTel answers");
    (answer.status().as_u16(), answer.text().await.expect("GoTel answers whole"))
}

on_every_database!(row_53_bad_bodies_are_refused_and_leave_nothing_behind);
async fn row_53_bad_bodies_are_refused_and_leave_nothing_behind(db: TestDb) {
    let hook = Receiver::webhook().await;
    let world = World::start(db, &hook_yaml(&hook)).await;
    let wish = |field: &str, value: Value| {
        let mut wish = json!({ "app": "a", "component": "b", "frequency": 5, "time_units": "minutes" });
        wish[field] = value;
        wish.to_string().into_bytes()
    };
    let bodies = [
        (b"null".to_vec(), 400, "null"),
        (b"{}".to_vec(), 400, "app"),
        (b"[]".to_vec(), 400, "list"),
        ("[".repeat(60_000).into_bytes(), 400, ""),
        (vec![b' '; 10_000_000], 413, "64"),
        (wish("app", json!("a\0b")), 400, "app"),
        (br#"{"app":"\ud800","component":"b"}"#.to_vec(), 400, "JSON"),
        (b"{\"app\":\"\xff\"}".to_vec(), 400, "UTF-8"),
        (wish("app", json!("x".repeat(151))), 400, "app"),
        (wish("frequency", json!(-1)), 400, "frequency"),
        (wish("frequency", json!(1_000_000_000_000_000_000_i64)), 400, "frequency"),
        (wish("time_units", json!("fortnights")), 400, "time_units"),
        (wish("alerters", json!(["nobody"])), 400, "alerters"),
    ];
    for (body, status, says) in bodies {
        is_refused(&post_raw(&world, "/reservation", body).await, status, says);
    }
    is_refused(&post_raw(&world, "/checkin", b"{".to_vec()).await, 400, "");
    is_refused(&world.post("/checkin/a/b/256", Value::Null).await, 400, "256");
    is_refused(&world.get("/nowhere").await, 404, "");
    assert_eq!(world.ask(Method::DELETE, "/checkin", None).await.unwrap().0, 405);
    assert_eq!(world.number("SELECT COUNT(*) FROM reservation").await, 0, "nothing is half-written");
    // What curl sends by default is taken.
    let form = world.http.post(world.url.join("/reservation").unwrap());
    let form =
        form.header("content-type", "application/x-www-form-urlencoded").body(wish("owner", json!("o")));
    assert_eq!(form.send().await.unwrap().status(), 200);
    hold(&world, &Known::default()).await;
}

on_every_database!(row_54_what_could_forge_mail_is_refused_at_the_reservation);
async fn row_54_what_could_forge_mail_is_refused_at_the_reservation(db: TestDb) {
    let hook = Receiver::webhook().await;
    let world = World::start(db, &hook_yaml(&hook)).await;
    let many: Vec<_> = (0..1000).map(|n| format!("p{n}@example.org")).collect();
    let wishes = [
        ("notify", json!("a@example.org\r\nBcc: all@example.org")),
        ("notify", json!("a@example.org\nb@example.org")),
        ("notify", json!(["a@example.org\u{0}"])),
        ("notify", json!("\"a b\r\n\"@example.org")),
        ("notify", json!(many.join(","))),
        ("notify", json!(many)),
        ("owner", json!("ops\r\nSubject: you have won")),
        ("owner", json!("ops\u{0}")),
        ("owner", json!("x".repeat(10_000))),
        ("app", json!("billing\r\nBcc: all@example.org")),
        ("labels", json!({"team": "money\r\nBcc: all@example.org"})),
        ("alerters", json!(["hook\r\nBcc: all@example.org"])),
    ];
    for (field, value) in wishes {
        let mut wish = json!({ "app": "a", "component": "b", "frequency": 5, "time_units": "minutes" });
        wish[field] = value;
        is_refused(&world.post("/reservation", wish).await, 400, field);
    }
    assert_eq!(world.number("SELECT COUNT(*) FROM reservation").await, 0);
    world.reserve("a", "b", Value::Null).await;
    for field in ["by", "reason"] {
        let mut wish = json!({"app": "a", "component": "b", "duration": 1, "time_units": "hours"});
        wish[field] = json!("ops\r\nBcc: all@example.org");
        is_refused(&world.post("/snooze", wish).await, 400, field);
    }
    let snoozed = "SELECT COUNT(*) FROM reservation WHERE snooze_until_ms IS NOT NULL";
    assert_eq!(world.number(snoozed).await, 0);
    hold(&world, &Known::default()).await;
}

/// Reads a mail as strictly as Python can: any defect of a header or a part is an error. Prints what it holds.
const STRICT: &str = r#"
import email, email.policy, json, sys
mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.strict)
parts = list(mail.walk())
defects = [str(d) for part in parts for d in part.defects]
defects += [str(d) for part in parts for name in part.keys() for d in part[name].defects]
print(json.dumps({
    "headers": sorted(set(mail.keys()) - {"X-Peer", "X-MailFrom", "X-RcptTo"}), "defects": defects,
    "to": [a.addr_spec for a in mail["To"].addresses], "subject": str(mail["Subject"]),
    "types": [part.get_content_type() for part in parts],
    "text": mail.get_body(("plain",)).get_content(), "html": mail.get_body(("html",)).get_content(),
}))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_54_a_strict_reader_finds_no_fault_in_a_mail_about_hostile_names() {
    let Some(server) = ForeignSmtp::find() else { return };
    let yaml = format!(
        "alerters:\n  - {{name: mail, type: smtp, host: 127.0.0.1, port: {}, tls: none, \
         from: 'Gö \"Tel\" <gotel@example.org>', to: [ops@example.org]}}\n",
        server.addr().port()
    );
    let db = TestDb::new(Backend::Sqlite).await.unwrap();
    let world = World::start(db, &yaml).await;
    let mark = format!("mark-{}", uuid::Uuid::new_v4().simple());
    // All of it is allowed in a name, and none of it may mean anything in a mail.
    let nasty = "=?utf-8?q?=0D=0AX-Evil:_2?= \"<b>ü日本</b>\" {{1}} --=_ ,;:@ Bcc: evil@example.org";
    let wish = json!({
        "app": format!("app {nasty}"), "component": mark, "owner": nasty, "notify": ["ada@example.org"],
        "frequency": 1, "time_units": "hours", "alert_msg": format!("{nasty} {{app}}\r\n.\r\nQUIT\r\n--=_"),
        "labels": {"team": nasty},
    });
    let answer = world.post("/reservation", wish).await;
    assert_eq!(answer.0, 200, "{}", answer.1);
    let fail = json!({"app": format!("app {nasty}"), "component": mark, "kind": "fail",
                      "notes": format!("{nasty}\r\n.\r\nDATA\r\n\u{1b}[31m")});
    let answer = world.post("/checkin", fail).await;
    assert_eq!(answer.0, 200, "{}", answer.1);
    let mail = server.received(&mark, SOON).await;

    let mut python = std::process::Command::new("/usr/bin/python3");
    python.args(["-c", STRICT]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut python = python.spawn().expect("the foreign mail server's python runs");
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), &mail).unwrap();
    let read = python.wait_with_output().unwrap();
    let raw = String::from_utf8_lossy(&mail);
    let read: Value = serde_json::from_slice(&read.stdout).unwrap_or_else(|_| panic!("not strict:\n{raw}"));
    assert_eq!(read["defects"], json!([]), "{raw}");
    assert_eq!(read["to"], json!(["ada@example.org"]), "{raw}");
    assert_eq!(read["types"], json!(["multipart/alternative", "text/plain", "text/html"]), "{raw}");
    let headers = [
        "Auto-Submitted",
        "Content-Type",
        "Date",
        "From",
        "MIME-Version",
        "Message-ID",
        "References",
        "Subject",
        "To",
        "X-Auto-Response-Suppress",
    ];
    assert_eq!(read["headers"], json!(headers), "{raw}");
    assert!(read["subject"].as_str().unwrap().contains("ü日本"), "{read}");
    assert!(read["text"].as_str().unwrap().contains(&mark), "{read}");
    assert!(!read["html"].as_str().unwrap().contains("<b>"), "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_56_nobody_learns_from_an_answer_what_others_have_reserved() {
    let hook = Receiver::webhook().await;
    let folder = tempfile::tempdir().unwrap();
    let token = |name: &str, value: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, value).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (billing, shop) = ("gtl_billing_0123456789abcdef", "gtl_shop_0123456789abcdef");
    let yaml = format!(
        "{}auth:\n  tokens:\n    - {{name: billing, scopes: [checkin, reserve, read], appPrefix: billing, \
         tokenFile: {}}}\n    - {{name: shop, scopes: [checkin, reserve, read], appPrefix: shop, tokenFile: {}}}\n",
        hook_yaml(&hook),
        token("billing", billing),
        token("shop", shop),
    );
    let mut world = World::start(TestDb::new(Backend::Sqlite).await.unwrap(), &yaml).await;
    world.use_token(billing);
    world.reserve("billing", "there", Value::Null).await;
    world.reserve("billing", "gone", Value::Null).await;
    assert_eq!(world.post("/checkout", json!({ "app": "billing", "component": "gone" })).await.0, 200);

    let ask = async |app: &str, component: &str| {
        let by_path = world.ask(Method::POST, &format!("/checkin/{app}/{component}"), None).await.unwrap();
        let by_body = world.post("/checkin", json!({ "app": app, "component": component })).await;
        let shown = world.get(&format!("/reservation/{app}/{component}")).await;
        [by_path, by_body, shown]
    };
    let unknown = ask("billing", "never").await;
    let checked_out = ask("billing", "gone").await;
    assert_eq!(unknown.each_ref().map(|answer| answer.0), [404; 3], "{unknown:?}");
    assert_eq!(checked_out, unknown, "gone and never there are answered alike");
    world.use_token(shop);
    let ask = async |component: &str| {
        let path = format!("/checkin/billing/{component}");
        let by_path = world.ask(Method::POST, &path, None).await.unwrap();
        let by_body = world.post("/checkin", json!({ "app": "billing", "component": component })).await;
        let shown = world.get(&format!("/reservation/billing/{component}")).await;
        [by_path, by_body, shown]
    };
    let (theirs, nobodys) = (ask("there").await, ask("never").await);
    assert_eq!(theirs.each_ref().map(|answer| answer.0), [403; 3], "{theirs:?}");
    assert_eq!(theirs, nobodys, "theirs and nobody's are answered alike");
    world.use_token("gtl_nobody_0123456789abcdef");
    assert_eq!(world.get("/reservation/billing/there").await.0, 401);
}
