//! The Dockerfile, as far as that can be seen without building an image.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use super::at;

fn read(name: &str) -> String {
    std::fs::read_to_string(at(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn the_image_is_built_of_what_the_manifest_and_the_chart_say() {
    let dockerfile = read("Dockerfile");
    let manifest = read("Cargo.toml");
    let line = |text: &str, begin: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(begin)).map(str::to_owned);
        found.unwrap_or_else(|| panic!("{begin} is said"))
    };
    let rust = line(&manifest, "rust-version = ").replace('"', "");
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-")), "the compiler is the oldest that serves");
    assert_eq!(line(&dockerfile, "USER "), "65532:65532", "as in the pod");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch\n") && !last.contains("RUN"), "{last}");

    let chart: Value = serde_yaml::from_str(&read("charts/gotel/Chart.yaml")).unwrap();
    let version = line(&manifest, "version = ").replace('"', "");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&version.clone().into(), &version.into()));
    let icon = chart["icon"].as_str().and_then(|icon| icon.strip_prefix("data:image/svg+xml;base64,"));
    let icon = BASE64_STANDARD.decode(icon.expect("the icon is an image")).expect("base64");
    assert_eq!(String::from_utf8(icon).unwrap(), read("src/http/assets/favicon.svg").trim());
}

#[test]
fn everything_that_the_program_is_built_of_gets_into_the_image() {
    let sent: Vec<String> =
        read(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    let named = ["Cargo.toml", "Cargo.lock", "askama.toml", "src", "migrations", "benches", "tests"];
    assert!(named.iter().all(|name| sent.iter().any(|sent| sent == name)), "{sent:?}");
}
