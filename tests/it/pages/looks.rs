//! What people find, and how.

use std::time::Duration;

use fantoccini::Locator;
use fantoccini::error::CmdError;

use super::guests::{House, STATES};
use super::window::Window;
use crate::util::wait::eventually;

/// How long a page may take to come.
const SOON: Duration = Duration::from_secs(20);

/// The guests that a list shows, as `app component`. A page that is being replaced meanwhile is no answer.
async fn shown(window: &Window) -> Result<Vec<String>, CmdError> {
    let rows = window.client.find_all(Locator::Css("table.guests tbody tr")).await?;
    let mut names = Vec::new();
    for row in rows {
        let app = row.find(Locator::Css(".app")).await?.text().await?;
        let component = row.find(Locator::Css(".component")).await?.text().await?;
        names.push(
            format!("{app} {component}").replace('/', "").split_whitespace().collect::<Vec<_>>().join(" "),
        );
    }
    Ok(names)
}

/// Waits until the list is the one that `right` recognises: a click is answered before its page has come.
async fn shows(window: &Window, what: &str, right: impl Fn(&[String]) -> bool) {
    eventually(SOON, what, async || match shown(window).await {
        Ok(names) if right(&names) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn the_status_page_is_searched_and_filtered_without_scripts() {
    let Some(window) = Window::open(1280, 900).await else { return };
    let house = House::open().await;
    window.without_scripts().await;
    let page = &window.client;
    page.goto(&house.url("/")).await.unwrap();
    assert_eq!(
        page.current_url().await.unwrap().path(),
        "/status",
        "the front door leads to the status page"
    );
    shows(&window, "all eight guests", |names| names.len() == 8).await;

    page.find(Locator::Css("input[name=q]")).await.unwrap().send_keys("overr").await.unwrap();
    page.find(Locator::Css("form button")).await.unwrap().click().await.unwrap();
    shows(&window, "the one guest searched for", |names| names == ["states overrun"]).await;
    let searched = page.find(Locator::Css("input[name=q]")).await.unwrap().prop("value").await.unwrap();
    assert_eq!(searched.as_deref(), Some("overr"), "the search stays in its field");

    page.goto(&house.url("/status")).await.unwrap();
    page.find(Locator::Css("a.chip.is-failed")).await.unwrap().click().await.unwrap();
    let only_failed = |names: &[String]| names.len() == 2 && names.iter().any(|name| name == "states failed");
    shows(&window, "the two that failed", only_failed).await;

    page.goto(&house.url("/status?q=nothing-is-called-so")).await.unwrap();
    assert!(page.source().await.unwrap().contains("Nothing matches"));
    window.close().await;
}

#[tokio::test]
async fn every_state_is_told_by_a_word_and_a_shape_of_its_own() {
    let Some(window) = Window::open(1280, 900).await else { return };
    let house = House::open().await;
    window.client.goto(&house.url("/status?q=states")).await.unwrap();
    let told = window
        .ask(
            "[...document.querySelectorAll('tbody tr')].map(row => { \
              const badge = row.querySelector('.badge'); \
              return [badge.innerText.trim(), badge.querySelector('svg').innerHTML] })",
        )
        .await;
    let told: Vec<(String, String)> = serde_json::from_value(told).unwrap();
    assert_eq!(told.len(), STATES.len());
    let distinct = |texts: Vec<&String>| {
        assert!(texts.iter().all(|text| !text.is_empty()), "{texts:?}");
        texts.into_iter().collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(distinct(told.iter().map(|(word, _)| word).collect()), STATES.len());
    assert_eq!(distinct(told.iter().map(|(_, shape)| shape).collect()), STATES.len());
    window.close().await;
}

#[tokio::test]
async fn the_bad_guests_page_says_who_since_when_and_whom_we_told() {
    let Some(window) = Window::open(1280, 900).await else { return };
    let house = House::open().await;
    window.client.goto(&house.url("/badguests")).await.unwrap();
    let text = window.client.find(Locator::Css("main")).await.unwrap().text().await.unwrap();
    for needed in ["failed", "overrun", "late", "over console", "delivered", "Deadline missed", "jane"] {
        assert!(text.to_lowercase().contains(&needed.to_lowercase()), "{needed}: {text}");
    }
    for absent in ["on_time", "waiting", "snoozed"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
    // From here to the guest itself.
    window.client.find(Locator::Css("article h3 a")).await.unwrap().click().await.unwrap();
    assert!(window.client.current_url().await.unwrap().path().starts_with("/status/"));
    window.close().await;
}

#[tokio::test]
async fn the_page_of_a_guest_shows_its_history_and_its_snooze() {
    let Some(window) = Window::open(1280, 900).await else { return };
    let house = House::open().await;
    window.client.goto(&house.url("/status/states/failed")).await.unwrap();
    let text = window.client.find(Locator::Css("main")).await.unwrap().text().await.unwrap();
    for needed in ["no more paper", "every hour", "console"] {
        assert!(text.contains(needed), "{needed}: {text}");
    }
    window.client.goto(&house.url("/status/snoozed/disks")).await.unwrap();
    let text = window.client.find(Locator::Css("main")).await.unwrap().text().await.unwrap();
    assert!(text.contains("Snoozed") && text.contains("Europe/Dublin"), "{text}");
    window.client.goto(&house.url("/status/no/such")).await.unwrap();
    assert!(window.client.source().await.unwrap().contains("No such guest"));
    window.close().await;
}

#[tokio::test]
async fn the_nodes_page_names_this_replica_its_loops_and_its_alerters() {
    let Some(window) = Window::open(1280, 900).await else { return };
    let house = House::open().await;
    window.client.goto(&house.url("/nodes")).await.unwrap();
    let text = window.client.find(Locator::Css("main")).await.unwrap().text().await.unwrap();
    for needed in ["pages-1", "coordinator", "SQLite", "evaluate", "console", "Every loop moves"] {
        assert!(text.to_lowercase().contains(&needed.to_lowercase()), "{needed}: {text}");
    }
    window.close().await;
}
