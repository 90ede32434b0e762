//! Style sheet and icon, compiled in, under addresses that change with their content.

use super::super::App;
use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::get;
use sha2::{Digest, Sha256};
use std::sync::{Arc, LazyLock};

const CSS: &str = include_str!("../assets/gotel.css");
const ICON: &str = include_str!("../assets/favicon.svg");

static CSS_PATH: LazyLock<String> = LazyLock::new(|| format!("/assets/gotel.{}.css", hash(CSS)));
static ICON_PATH: LazyLock<String> = LazyLock::new(|| format!("/assets/favicon.{}.svg", hash(ICON)));

fn hash(content: &str) -> String {
    hex::encode(&Sha256::digest(content)[..6])
}

/// Address of the style sheet.
pub(super) fn css() -> &'static str {
    &CSS_PATH
}

/// Address of the icon.
pub(super) fn icon() -> &'static str {
    &ICON_PATH
}

/// The assets; open to all, as they say nothing.
pub(in super::super) fn router() -> Router<Arc<App>> {
    const FOREVER: &str = "public, max-age=31536000, immutable";
    let asset = |content_type: &'static str, content: &'static str| {
        get(async move || ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, FOREVER)], content))
    };
    Router::new()
        .route(css(), asset("text/css; charset=utf-8", CSS))
        .route(icon(), asset("image/svg+xml", ICON))
}
