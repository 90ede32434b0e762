//! A document played through: see the module's head for what its blocks mean.

use std::time::Duration;

use super::compare;
use super::markdown::{Block, blocks};
use super::workshop::{Ran, Workshop, file};
use crate::util::process::Gotel;
use crate::util::wait::eventually;

/// The address that documents speak of.
const BOOK: &str = "http://127.0.0.1:8080";

/// How long the terminal may take to show something.
const TERMINAL: Duration = Duration::from_secs(30);

/// How long an answer may take to become what is shown: states are decided once a second.
const SETTLED: Duration = Duration::from_secs(10);

/// Plays `document` (a path in the repository) in `workshop`.
pub async fn play(document: &str, workshop: &Workshop) {
    let mut stage = Stage { workshop, servers: Vec::new(), ran: None, script: String::new() };
    for block in blocks(&file(document)) {
        if let Err(why) = stage.act(&block).await {
            panic!("{document}:{}: {why}", block.line);
        }
    }
}

struct Stage<'a> {
    workshop: &'a Workshop,
    /// With their addresses; commands mean the newest.
    servers: Vec<(Gotel, String)>,
    /// What the last commands came to.
    ran: Option<Ran>,
    /// The last commands.
    script: String,
}

impl Stage<'_> {
    async fn act(&mut self, block: &Block) -> Result<(), String> {
        match block.words.as_str() {
            "sh" if is_server(&block.text) => {
                self.servers.push(self.workshop.serve(&block.text).await);
                Ok(())
            }
            // This very test is part of `make test`; what it is made of is looked at in `commands`.
            "sh" if block.text.trim() == "make test" => Ok(()),
            "sh" => {
                self.script = block.text.replace(BOOK, self.base());
                self.run().await
            }
            "text answer" => self.settle(|answer| compare::text(&block.text, answer)).await,
            "json answer" => self.settle(|answer| compare::json(&block.text, answer)).await,
            "text terminal" => {
                let (server, _) = self.servers.last().ok_or("no server runs")?;
                for line in block.text.lines() {
                    let what = format!("the terminal to show {line:?}");
                    eventually(TERMINAL, what, async || {
                        let output = server.output();
                        if compare::holds_line(&output, line) { Ok(()) } else { Err(output) }
                    })
                    .await;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn run(&mut self) -> Result<(), String> {
        let ran = self.workshop.run(&self.script).await;
        if ran.code != Some(0) {
            return Err(format!("{}\n{ran:#?}", self.script));
        }
        self.ran = Some(ran);
        Ok(())
    }

    /// Compares; what only reads is read again until it fits.
    async fn settle(&mut self, compare: impl Fn(&str) -> Result<(), String>) -> Result<(), String> {
        let reads = ["-d ", "--data", "/checkin", "gotel "].iter().all(|mark| !self.script.contains(mark));
        if !reads {
            return compare(&self.answer()?);
        }
        eventually(SETTLED, format!("{:?} to answer as shown", self.script.clone()), async || {
            let compared = compare(&self.answer()?);
            if compared.is_err() {
                self.run().await?;
            }
            compared
        })
        .await;
        Ok(())
    }

    fn base(&self) -> &str {
        self.servers.last().map_or(BOOK, |(_, base)| base)
    }

    fn answer(&self) -> Result<String, String> {
        let ran = self.ran.as_ref().ok_or("nothing was run before")?;
        Ok(ran.out.replace(self.base(), BOOK))
    }
}

fn is_server(command: &str) -> bool {
    command.trim() == "make run" || command.trim().starts_with("gotel serve")
}
