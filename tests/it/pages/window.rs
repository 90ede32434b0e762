//! A browser's window, and what Chromium can be told beyond WebDriver.

use axum::http::Method;
use fantoccini::Client;
use fantoccini::wd::WebDriverCompatibleCommand;
use serde_json::{Value, json};
use url::Url;

use crate::util::browser;

/// A window. Close it with [`Window::close`].
pub struct Window {
    pub client: Client,
}

/// A command of Chromium's own protocol.
#[derive(Debug)]
struct Chromium {
    command: &'static str,
    arguments: Value,
}

impl WebDriverCompatibleCommand for Chromium {
    fn endpoint(&self, base_url: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"cmd": self.command, "params": self.arguments}).to_string()))
    }
}

/// Notes what the browser refuses to load or run.
const WATCH: &str = "window.violations = []; document.addEventListener('securitypolicyviolation', \
                     event => window.violations.push(event.violatedDirective + ' ' + event.blockedURI))";

impl Window {
    /// Opens one; `None` where browser tests are left out.
    pub async fn open(width: u32, height: u32) -> Option<Self> {
        let window = Self { client: browser::open(width, height).await? };
        window.tell("Page.addScriptToEvaluateOnNewDocument", json!({"source": WATCH})).await;
        Some(window)
    }

    async fn tell(&self, command: &'static str, arguments: Value) {
        self.client.issue_cmd(Chromium { command, arguments }).await.expect("Chromium does as told");
    }

    /// Shows pages as people see them who asked their system for `scheme`: `dark` or `light`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.tell("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// Runs no script of any page.
    pub async fn without_scripts(&self) {
        self.tell("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    }

    /// What an expression is on this page.
    pub async fn ask(&self, expression: &str) -> Value {
        let script = format!("return ({expression})");
        self.client.execute(&script, Vec::new()).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// The page, as a picture, where `GOTEL_TEST_SCREENSHOTS` names a folder for such.
    pub async fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("GOTEL_TEST_SCREENSHOTS") {
            let png = self.client.screenshot().await.expect("a picture can be taken");
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), png).unwrap();
        }
    }

    pub async fn close(self) {
        self.client.close().await.ok();
    }
}
