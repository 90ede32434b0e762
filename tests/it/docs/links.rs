//! Links between the documents lead somewhere.

use super::markdown::{anchors, links};
use super::workshop::{file, repository};

/// The Markdown files of the repository.
pub fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs/", "examples/", "examples/kubernetes/", "charts/gotel/"] {
        for entry in std::fs::read_dir(repository().join(folder)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    assert!(found.len() > 5, "{found:?}");
    found.sort();
    found
}

#[test]
fn every_link_of_the_documents_leads_to_a_file_and_a_heading_that_exist() {
    let mut broken = Vec::new();
    for document in documents() {
        let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in links(&file(&document)) {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { document.clone() } else { format!("{folder}/{path}") };
            let target = repository().join(target.trim_start_matches('/'));
            let text = match std::fs::read_to_string(&target) {
                Ok(text) => text,
                Err(_) if target.is_dir() => String::new(),
                Err(_) => {
                    broken.push(format!("{document}: {link}: no such file"));
                    continue;
                }
            };
            if !anchor.is_empty() && !anchors(&text).iter().any(|known| known == anchor) {
                broken.push(format!("{document}: {link}: no such heading; there are {:?}", anchors(&text)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
