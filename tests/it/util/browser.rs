//! A real browser: headless Chromium over WebDriver, each session with an empty profile of its own.
//!
//! Promises: it goes nowhere by itself, needs no display, and a page has `width` × `height` to itself.
//! Does not promise: to close when a test fails; it ends with its ChromeDriver.

use fantoccini::{Client, ClientBuilder};
use serde_json::{Map, Value, json};

use super::needs;

/// Opens a browser; `None` where browser tests are left out. End with `client.close()`.
pub async fn open(width: u32, height: u32) -> Option<Client> {
    let webdriver = needs::address_of("a browser", "GOTEL_TEST_WEBDRIVER_URL")?;
    let mut capabilities = Map::<String, Value>::new();
    // A window cannot be as narrow as a phone; the screen it emulates can.
    let screen =
        json!({ "width": width, "height": height, "pixelRatio": 1, "mobile": false, "touch": false });
    let args = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ];
    capabilities.insert(
        "goog:chromeOptions".into(),
        json!({ "args": args, "mobileEmulation": { "deviceMetrics": screen } }),
    );
    let mut builder = ClientBuilder::rustls().expect("a TLS client can be built");
    Some(builder.capabilities(capabilities).connect(&webdriver).await.expect("ChromeDriver opens a browser"))
}
