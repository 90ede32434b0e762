//! The pages: what they show, what they escape, and what they say when the database is gone.

use gotel::board::{ReplicaCard, Shown};
use gotel::secret::watch::Card;
use serde_json::json;

use crate::util::app::TestApp;
use crate::util::db::{TestDb, on_every_database};

const PAGES: [&str; 4] = ["/status", "/badguests", "/nodes", "/status/a/b"];

/// Opens an incident of the one reservation, with notices that arrived, wait and were given up.
async fn seed_incident(app: &TestApp, reason: &str, state: &str, error: &str) {
    let now = app.store.now_ms().await.unwrap();
    app.sql(&format!("UPDATE reservation SET state = '{state}'")).await;
    app.sql(&format!(
        "INSERT INTO incident (id, open_key, reservation_id, gen, app, component, reason, rid, dedup_key, deadline_ms, \
         opened_ms, event_no, escalated, term) SELECT 'inc-1', 'r/1', id, 1, app, component, '{reason}', '<i>rid</i>', 'd', \
         {}, {}, 0, 0, 1 FROM reservation",
        now - 600_000,
        now - 599_000
    ))
    .await;
    for (n, (alerter, state, error)) in
        [("mail", "done", ""), ("console", "pending", ""), ("pager", "dead", error)].into_iter().enumerate()
    {
        app.sql(&format!(
            "INSERT INTO delivery (idem_key, incident_id, event, event_no, alerter, recipient, payload, state, created_ms, \
             next_ms, attempts, error) VALUES ('{n}', 'inc-1', 'trigger', 0, '{alerter}', '<b>to</b>', '{{}}', '{state}', \
             {now}, {now}, 1, '{error}')"
        ))
        .await;
    }
}

on_every_database!(no_text_of_a_client_becomes_markup);
async fn no_text_of_a_client_becomes_markup(db: TestDb) {
    let app = TestApp::on(db).await;
    let nasty = "<script>alert(1)</script>\"'><img src=x onerror=y>{{app}}";
    let more = json!({
        "owner": nasty, "notify": [nasty], "alert_msg": nasty, "labels": {"k": nasty}, "max_runtime": "1h"
    });
    app.reserve(nasty, nasty, more).await;
    let segment =
        "%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%27%3E%3Cimg%20src%3Dx%20onerror%3Dy%3E%7B%7Bapp%7D%7D";
    let path = format!("{segment}/{segment}");
    app.post(&format!("/checkin/{path}/start?rid={segment}"), nasty).await;
    app.post(&format!("/checkin/{path}/1?rid={segment}"), format!("{nasty}\n{nasty}")).await;
    let snooze = json!({"app": nasty, "component": nasty, "duration": "1h", "reason": nasty, "by": nasty});
    assert_eq!(app.post("/snooze", snooze.to_string()).await.status, 200);
    seed_incident(&app, "missed", "late", "<u>refused</u>").await;
    for page in [
        "/status".to_owned(),
        format!("/status?q={segment}"),
        format!("/status?q={segment}&state=late&owner={segment}"),
        "/badguests".into(),
        "/nodes".into(),
        format!("/status/{path}"),
        format!("/status/{path}?x={segment}"),
        format!("/status?state={segment}"),
        "/status/a/b".into(),
    ] {
        let answer = app.get(&page).await;
        assert!(matches!(answer.status, 200 | 400 | 404), "{page}: {}", answer.status);
        for markup in ["<script", "<img src=x", "onerror=y>", "<i>rid", "<b>to", "<u>refused"] {
            assert!(!answer.body.contains(markup), "{page} holds {markup}: {}", answer.body);
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_run_nothing() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({"owner": "jane"})).await;
    for page in PAGES {
        let answer = app.get(page).await;
        assert_eq!(answer.status, 200, "{page}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(
            answer.header("content-security-policy"),
            "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("refresh"), "30");
        assert_eq!(answer.header("cache-control"), "no-store");
        for inline in ["<script", "<style", " style=", " onclick", "javascript:"] {
            assert!(!answer.body.contains(inline), "{page}: {inline}");
        }
        for attribute in
            answer.body.split([' ', '>']).filter(|a| a.starts_with("src=") || a.starts_with("href="))
        {
            let target = attribute.split('"').nth(1).unwrap();
            assert!(target.starts_with('/') || target.starts_with('#'), "{page}: {attribute}");
            if target.starts_with("/assets/") {
                let asset = app.get(target).await;
                assert_eq!(asset.status, 200);
                assert!(asset.header("cache-control").contains("immutable"));
            }
        }
        let stopped = app.get(&format!("{page}?refresh=off")).await;
        assert!(stopped.headers.get("refresh").is_none() && stopped.body.contains("Reload every 30 s"));
    }
    let home = app.get("/").await;
    assert_eq!((home.status, home.header("location")), (307, "/status"));
    app.finish().await;
}

#[tokio::test]
async fn an_empty_house_shows_what_to_paste() {
    let app = TestApp::new().await;
    let page = app.get("/status").await.body;
    assert!(page.contains("No reservations yet"));
    assert!(page.contains("curl -fsS http://gotel.example/reservation -d"));
    assert!(app.get("/badguests").await.body.contains("No bad guests"));
    assert!(app.get("/status?q=x").await.body.contains("Nothing matches"));
    app.finish().await;
}

on_every_database!(bad_guests_say_since_when_whom_we_told_and_whether_it_arrived);
async fn bad_guests_say_since_when_whom_we_told_and_whether_it_arrived(db: TestDb) {
    let app = TestApp::on(db).await;
    app.reserve("a", "b", json!({"owner": "jane"})).await;
    seed_incident(&app, "missed", "late", "550 no such user").await;
    app.sql(
        "INSERT INTO incident (id, open_key, gen, app, component, reason, dedup_key, deadline_ms, opened_ms, event_no, \
         escalated, term, detail) VALUES ('inc-2', 's/alerter/pager', 0, 'gotel', 'alerter/pager', 'system', 'd', 1, 1, 0, 0, \
         1, 'the pager refuses us')",
    )
    .await;
    let page = app.get("/badguests").await.body;
    for text in [
        "It did not check in by its deadline.",
        "10m ago",
        "Delivered",
        "Not delivered",
        "Waiting",
        "550 no such user",
        "1 not delivered",
        "alerter/pager",
        "the pager refuses us",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let status = app.get("/status").await.body;
    assert!(status.contains("1 of 1 needs attention"), "{status}");
    assert!(app.get("/status/a/b").await.body.contains("Open incident"));
    app.finish().await;
}

on_every_database!(the_status_page_puts_trouble_first_and_pages_by_name);
async fn the_status_page_puts_trouble_first_and_pages_by_name(db: TestDb) {
    let app = TestApp::on(db).await;
    for n in (0..102).rev() {
        app.reserve(&format!("app-{n:03}"), "job", json!({})).await;
    }
    app.sql("UPDATE reservation SET state = 'late' WHERE app = 'app-101'").await;
    let names = |page: &str| {
        let rows = page.split("<span class=\"app\">").skip(1);
        rows.map(|row| row.split('<').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = app.get("/status").await.body;
    assert_eq!(names(&first)[..3], ["app-101", "app-000", "app-001"]);
    let next = first.split("rel=\"next\"").next().unwrap().rsplit("href=\"").next().unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    let second = app.get(&next).await.body;
    assert_eq!(names(&second), ["app-100", "app-101"]);
    assert!(!second.contains("rel=\"next\""));
    assert_eq!(names(&app.get("/status?state=late").await.body), ["app-101"]);
    app.finish().await;
}

#[tokio::test]
async fn without_the_database_a_page_is_still_a_page() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    app.sql("ALTER TABLE reservation RENAME TO elsewhere").await;
    let broken = app.get("/status").await;
    assert_eq!(broken.status, 500);
    assert!(broken.body.contains("<!doctype html>") && !broken.body.contains("elsewhere"));
    assert_eq!(app.get("/nodes").await.status, 503, "what is known without the database is shown");
    assert!(app.get("/nodes").await.body.contains("checkin-0"));
    app.finish().await;
}

fn card(id: &str, verdict: &'static str, healthy: bool) -> ReplicaCard {
    ReplicaCard {
        id: id.into(),
        configured: true,
        role: "worker",
        verdict,
        healthy,
        evidence: format!("{id} was looked at."),
        beat_age_ms: Some(65_000),
        eval_age_ms: Some(0),
        version: "0.2.0".into(),
        ..ReplicaCard::default()
    }
}

#[tokio::test]
async fn the_nodes_page_shows_every_replica_with_its_evidence_also_without_the_database() {
    let app = TestApp::new().await;
    assert!(!app.get("/nodes").await.body.contains("Replicas</h2>"), "alone, there is nothing to compare");
    let first =
        ReplicaCard { here: true, role: "coordinator", term: Some(7), ..card("eu-1", "healthy", true) };
    let stranger = ReplicaCard { configured: false, role: "", ..card("<ap-1>", "left in order", true) };
    let replicas = vec![stranger, first, card("us-1", "dead", false)];
    let direct = vec!["The database takes no writes: told without it 2m ago.".to_owned()];
    app.board.show(Shown { replicas, direct, boot_ms: gotel::clock::boot_ms(), cut_off: false });
    let page = app.get("/nodes").await;
    assert_eq!(page.status, 200);
    for text in [
        "1 replica needs attention",
        "</svg>healthy",
        "</svg>dead",
        "</svg>left in order",
        "this one",
        "term 7",
        "1m 5s ago",
        "us-1 was looked at.",
        "not in peers.replicas here",
        "told without it 2m ago",
        "&#60;ap-1&#62;",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    app.sql("ALTER TABLE lease RENAME TO elsewhere").await;
    let page = app.get("/nodes").await;
    assert_eq!(page.status, 503);
    assert!(page.body.contains("us-1 was looked at.") && page.body.contains("The database does not answer"));
    app.finish().await;
}

#[tokio::test]
async fn the_nodes_page_names_the_secrets_that_cannot_be_read_again() {
    let app = TestApp::new().await;
    assert!(!app.get("/nodes").await.body.contains("Secrets</h2>"), "there are none");
    let card = |name: &str, trouble: Option<&str>| Card {
        name: name.into(),
        files: vec!["/run/a".into(), "/run/b".into()],
        trouble: trouble.map(str::to_owned),
    };
    app.secrets.hang(vec![card("alerter/mail", None), card("token/jobs", None)]);
    let page = app.get("/nodes").await.body;
    assert!(page.contains("/run/a, /run/b") && page.contains("Every loop moves"), "{page}");
    app.secrets.hang(vec![card("alerter/mail", Some("the file <x> is empty")), card("token/jobs", None)]);
    let page = app.get("/nodes").await.body;
    for text in ["1 secret cannot be read again", "Old value", "the file &#60;x&#62; is empty", "In use"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_replica_that_is_cut_off_is_not_ready_and_says_why() {
    let app = TestApp::new().await;
    app.board.show(Shown { cut_off: true, ..Shown::default() });
    let answer = app.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.message().starts_with("this replica does not reach the database"), "{}", answer.body);
    assert_eq!(app.get("/livez").await.status, 200);
    app.board.show(Shown::default());
    assert_eq!(app.get("/readyz").await.status, 200);
    app.finish().await;
}
