//! What clients write is shown and never run, and nothing is loaded from elsewhere.

use serde_json::Value;

use super::guests::{EVIL, House, client};
use super::window::Window;

#[tokio::test]
async fn html_in_names_notes_and_reasons_is_shown_as_text_and_runs_nothing() {
    let Some(window) = Window::open(1280, 900).await else { return };
    let house = House::open().await;
    let snoozed = house.url("/status/snoozed/disks");
    for page in
        [house.url("/status"), house.url("/badguests"), house.url("/nodes"), house.evil_page(), snoozed]
    {
        window.client.goto(&page).await.unwrap();
        assert!(window.client.get_alert_text().await.is_err(), "{page} opened a dialogue");
        assert_eq!(window.ask("window.ran === undefined").await, true, "{page} ran what a client wrote");
        assert_eq!(
            window.ask("window.violations").await,
            serde_json::json!([]),
            "{page} tried something forbidden"
        );
        assert_eq!(
            window.ask("document.querySelectorAll('script, main img, iframe, [onerror]').length").await,
            0
        );
        if !page.ends_with("/nodes") {
            let text = window.ask("document.body.innerText").await;
            assert!(text.as_str().unwrap().contains(EVIL), "{page} does not show it:\n{text:#}");
        }
    }
    window.close().await;
}

#[tokio::test]
async fn a_page_asks_no_other_host_for_anything_and_says_so_in_its_policy() {
    let Some(window) = Window::open(1280, 900).await else { return };
    let house = House::open().await;
    for path in ["/status", "/badguests", "/nodes", "/status/states/failed"] {
        let answer = client().get(house.url(path)).send().await.unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");

        window.client.goto(&house.url(path)).await.unwrap();
        let loaded = window.ask("performance.getEntriesByType('resource').map(entry => entry.name)").await;
        let loaded: Vec<String> = serde_json::from_value(loaded).unwrap();
        assert!(loaded.iter().any(|url| url.contains(".css")), "{path} has its style sheet: {loaded:?}");
        assert!(loaded.iter().all(|url| url.starts_with(&house.url("/"))), "{path}: {loaded:?}");
        let elsewhere = window
            .ask(
                "[...document.querySelectorAll('[href], [src], [action]')] \
                  .flatMap(e => [e.href, e.src, e.action]) \
                  .filter(url => typeof url === 'string' && url !== '' && !url.startsWith(location.origin))",
            )
            .await;
        assert_eq!(elsewhere, Value::Array(Vec::new()), "{path} leads elsewhere");
    }
    window.close().await;
}
