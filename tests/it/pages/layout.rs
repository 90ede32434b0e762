//! How the pages look: on a phone, in the dark, to tired eyes.

use gotel::board::{ReplicaCard, Shown};
use gotel::secret::watch::Card as SecretCard;

use super::guests::House;
use super::window::Window;
use crate::util::app::TestApp;

/// Every text whose contrast with what is behind it is below what WCAG 2 asks for (AA: 4.5, large text 3).
pub const FAINT: &str = "(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const over = (colour, below) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = `rgb(${below})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const behind = element => {
    const all = [];
    for (let e = element; e; e = e.parentElement) all.unshift(getComputedStyle(e).backgroundColor);
    return all.reduce((below, colour) => over(colour, below), dark ? [18, 18, 18] : [255, 255, 255]);
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), element = walk.currentNode.parentElement;
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (!text || box.width < 2 || box.height < 2 || box.bottom < 0 || style.visibility === 'hidden') continue;
    const back = behind(element), front = over(style.color, back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), bold = parseInt(style.fontWeight) >= 700;
    const least = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    if (ratio < least) faint.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)} (${style.color} on ${back})`);
  }
  return faint;
})()";

/// What reaches beyond the right edge.
pub const WIDE: &str = "[...document.querySelectorAll('body *')] \
                    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && \
                                 !e.closest('pre, .scroll') && getComputedStyle(e).position !== 'absolute') \
                    .map(e => e.tagName + '.' + e.className + ' ' + e.getBoundingClientRect().right)";

fn pages(house: &House) -> Vec<(&'static str, String)> {
    vec![
        ("status", house.url("/status")),
        ("badguests", house.url("/badguests")),
        ("nodes", house.url("/nodes")),
        ("guest", house.url("/status/states/failed")),
        ("evil-guest", house.evil_page()),
        ("nothing", house.url("/status?q=nothing-is-called-so")),
        ("no-guest", house.url("/status/no/such")),
    ]
}

#[tokio::test]
async fn no_page_scrolls_sideways_on_a_phone() {
    let Some(window) = Window::open(360, 740).await else { return };
    let house = House::open().await;
    let mut wide = Vec::new();
    for (name, page) in pages(&house) {
        window.client.goto(&page).await.unwrap();
        window.picture(&format!("{name}-phone")).await;
        assert_eq!(window.ask("innerWidth").await, 360);
        if window.ask("document.documentElement.scrollWidth").await.as_u64() > Some(360) {
            wide.push(format!("{name}: {}", window.ask(WIDE).await));
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
    window.close().await;
}

#[tokio::test]
async fn every_text_stands_out_in_the_light_and_in_the_dark() {
    let Some(window) = Window::open(1280, 900).await else { return };
    let house = House::open().await;
    let mut faint = Vec::new();
    for scheme in ["light", "dark"] {
        window.prefer(scheme).await;
        for (name, page) in pages(&house) {
            window.client.goto(&page).await.unwrap();
            window.picture(&format!("{name}-{scheme}")).await;
            let found: Vec<String> = serde_json::from_value(window.ask(FAINT).await).unwrap();
            faint.extend(found.into_iter().map(|text| format!("{name} in the {scheme}: {text}")));
        }
    }
    assert!(faint.is_empty(), "{faint:#?}");
    window.close().await;
}

fn secret(name: &str, files: &str, trouble: Option<String>) -> SecretCard {
    SecretCard { name: name.into(), files: files.split(", ").map(str::to_owned).collect(), trouble }
}

#[tokio::test]
async fn the_replicas_of_a_large_house_fit_on_a_phone_and_stand_out() {
    let Some(phone) = Window::open(360, 740).await else { return };
    let app = TestApp::new().await;
    let card = |id: String, verdict, healthy| ReplicaCard {
        evidence: format!(
            "{id}: its row in the database has not moved for 1m 5s. It does not answer over HTTP \
                           (cannot connect: connection refused (os error 111); last heard 1m 7s ago)."
        ),
        id,
        configured: true,
        role: "worker",
        verdict,
        healthy,
        beat_age_ms: Some(65_000),
        watch_age_ms: Some(400),
        version: "0.2.0".into(),
        ..ReplicaCard::default()
    };
    let replicas = vec![
        ReplicaCard {
            here: true,
            role: "coordinator",
            term: Some(12),
            ..card("eu-1".into(), "healthy", true)
        },
        card("u".repeat(64), "dead", false),
        ReplicaCard { configured: false, ..card("us-1".into(), "left in order", true) },
        card("us-2".into(), "unreachable from here", true),
    ];
    let direct = vec!["The database takes no writes: told without it 2m ago.".to_owned()];
    app.board.show(Shown { replicas, direct, boot_ms: gotel::clock::boot_ms(), cut_off: false });
    let mount = "/run/secrets/gotel/alerters/a-name-that-is-long/password";
    app.secrets.hang(vec![
        secret(&format!("alerter/{}", "m".repeat(63)), mount, None),
        secret(
            "alerter/hook",
            &format!("{mount}, {mount}"),
            Some(format!("alerters[1].urlFile: the file {mount} is empty")),
        ),
    ]);
    phone.client.goto(&app.url("/nodes")).await.unwrap();
    phone.picture("replicas-phone").await;
    let wide = phone.ask(WIDE).await;
    assert!(phone.ask("document.documentElement.scrollWidth").await.as_u64() <= Some(360), "{wide}");
    phone.close().await;
    let Some(window) = Window::open(1280, 900).await else { return };
    for scheme in ["light", "dark"] {
        window.prefer(scheme).await;
        window.client.goto(&app.url("/nodes")).await.unwrap();
        window.picture(&format!("replicas-{scheme}")).await;
        assert_eq!(window.ask(FAINT).await, serde_json::json!([]), "{scheme}");
    }
    window.close().await;
    app.finish().await;
}
