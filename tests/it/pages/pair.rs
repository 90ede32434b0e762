//! The page of nodes of a pair that lives, in a real browser: both well, and one dead.

use super::layout::{FAINT, WIDE};
use super::window::Window;
use crate::peers::fleet::{Fleet, Replica};
use crate::util::db::{Backend, TestDb};

/// Looks at the page in the light, in the dark and on a phone.
async fn looks_well(replica: &Replica, name: &str) {
    let page = replica.url.join("/nodes").unwrap().to_string();
    let Some(window) = Window::open(1280, 900).await else { return };
    for scheme in ["light", "dark"] {
        window.prefer(scheme).await;
        window.client.goto(&page).await.unwrap();
        window.picture(&format!("{name}-{scheme}")).await;
        assert_eq!(window.ask(FAINT).await, serde_json::json!([]), "{name} in the {scheme}");
    }
    window.close().await;
    let Some(phone) = Window::open(360, 740).await else { return };
    phone.client.goto(&page).await.unwrap();
    phone.picture(&format!("{name}-phone")).await;
    let wide = phone.ask(WIDE).await;
    assert!(phone.ask("document.documentElement.scrollWidth").await.as_u64() <= Some(360), "{name}: {wide}");
    phone.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_page_of_a_pair_can_be_read_while_both_live_and_when_one_has_died() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    let [one, mut other] = fleet.pair().await;
    one.shows("a full look", |page| page.contains("coordinator") && !page.contains("never heard")).await;
    looks_well(&one, "pair-healthy").await;
    other.gotel.kill9();
    one.shows("it to be dead", |page| page.contains("</svg>dead")).await;
    fleet.tells(&["trigger peer-dead/us-1"]).await;
    looks_well(&one, "pair-dead").await;
}
