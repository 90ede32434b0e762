//! The documents that are scripts.

use super::markdown::blocks;
use super::story::play;
use super::workshop::{Workshop, file};
use crate::util::db::{Backend, TestDb};
use crate::util::smtp::{Encryption, SmtpSink};

#[tokio::test]
async fn every_command_of_the_readme_does_what_the_readme_says() {
    let mut workshop = Workshop::new();
    let sink = SmtpSink::start(Encryption::None, None).await;
    // The example's relay listens on port 25 of this machine; this one where it may.
    let port = format!("tls: none\n    port: {}", sink.addr().port());
    workshop.change("examples/gotel.minimal.yaml", "tls: none", &port);
    let database = match TestDb::new(Backend::MariaDb).await {
        Some(database) => database,
        None => TestDb::new(Backend::Sqlite).await.expect("SQLite is always there"),
    };
    workshop.env.push(("DATABASE_URL".into(), database.url().into()));
    play("README.md", &workshop).await;
    assert_eq!(sink.mails().len(), 1, "`gotel alerter test` sent one mail");
}

#[tokio::test]
async fn every_command_of_the_api_page_answers_as_shown() {
    play("docs/api.md", &Workshop::new()).await;
}

#[tokio::test]
async fn every_command_of_the_page_on_reservations_answers_as_shown() {
    play("docs/reservations.md", &Workshop::new()).await;
}

#[tokio::test]
async fn every_command_of_the_page_on_configuration_answers_as_shown() {
    play("docs/configuration.md", &Workshop::new()).await;
}

#[test]
fn no_document_has_a_command_that_nobody_runs() {
    let played =
        ["README.md", "docs/api.md", "docs/reservations.md", "docs/configuration.md", "docs/kubernetes.md"];
    let documents = super::links::documents();
    for document in documents.iter().filter(|name| !played.contains(&name.as_str())) {
        for block in blocks(&file(document)) {
            // Measuring is no test.
            if block.text.trim() == "make bench" {
                continue;
            }
            assert_ne!(block.words, "sh", "{document}:{} is run by no test", block.line);
        }
    }
}
