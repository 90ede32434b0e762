//! What was told without the database, kept in a small file so that a restart does not tell it again.
//!
//! Promises: the file is replaced as a whole (written beside, flushed, renamed), so that it is read as it was
//! or as it is; one replica, one file, so that two in one folder do not mix. A file that cannot be written is
//! said once and waited for no longer than [`LIMIT`]; a file that cannot be read counts as none.
//!
//! Does not promise that a send is noted: the process may die in between (see [`super`]).

use super::Trouble;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a write may take: a disk that hangs must not hold an alert back.
const LIMIT: Duration = Duration::from_secs(2);

/// Between two tries of a write that failed.
const AGAIN_MS: i64 = 10_000;

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// 1.
    pub version: u32,
    /// The installation that the database holds; "" while it is not known.
    pub install_id: String,
    /// What was told or is to be told.
    pub troubles: Vec<Trouble>,
}

/// The file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// What stands in it, as far as is known.
    written: Option<String>,
    /// A write that did not end in time.
    hangs: Option<JoinHandle<std::io::Result<()>>>,
    failed_boot_ms: Option<i64>,
    warned: bool,
}

impl StateFile {
    /// The file of `replica` in `folder`: `direct-alerts-<replica>.json`.
    pub fn of(folder: &Path, replica: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = replica.chars().map(plain).collect();
        let path = folder.join(format!("direct-alerts-{name}.json"));
        Self { path, written: None, hangs: None, failed_boot_ms: None, warned: false }
    }

    /// What an earlier process has left. Blocks; for the start only.
    pub fn read(&mut self) -> Kept {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Kept::default(),
            Err(e) => {
                tracing::warn!(file = %self.path.display(), error = %e, "what was told earlier cannot be read");
                return Kept::default();
            }
        };
        match serde_json::from_str(&text) {
            Ok(kept) => {
                self.written = Some(text);
                kept
            }
            Err(e) => {
                tracing::warn!(file = %self.path.display(), error = %e, "what was told earlier cannot be understood");
                Kept::default()
            }
        }
    }

    /// Writes what is to be kept, unless it stands there.
    pub async fn write(&mut self, kept: &Kept, boot_ms: i64) {
        // Serializing plain data cannot fail.
        let Ok(text) = serde_json::to_string(kept) else { return };
        let rests = self.failed_boot_ms.is_some_and(|failed| boot_ms - failed < AGAIN_MS);
        if self.written.as_ref() == Some(&text) || rests {
            return;
        }
        match self.try_write(text.clone()).await {
            Ok(()) => {
                self.written = Some(text);
                self.failed_boot_ms = None;
                if std::mem::take(&mut self.warned) {
                    tracing::info!(file = %self.path.display(), "what is told without the database can be noted again");
                }
            }
            Err(e) => {
                self.failed_boot_ms = Some(boot_ms);
                if !std::mem::replace(&mut self.warned, true) {
                    tracing::warn!(
                        file = %self.path.display(), error = %e,
                        "what is told while the database is away cannot be noted: a restart meanwhile would tell it \
                         again; give a data folder that can be written (dataDir)"
                    );
                }
            }
        }
    }

    async fn try_write(&mut self, text: String) -> std::io::Result<()> {
        let slow = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the disk does not answer");
        let path = self.path.clone();
        // One at a time: an earlier write that ends late must not undo a later one.
        let mut writing = match self.hangs.take() {
            Some(earlier) if !earlier.is_finished() => {
                self.hangs = Some(earlier);
                return Err(slow());
            }
            _ => tokio::task::spawn_blocking(move || replace(&path, &text)),
        };
        match tokio::time::timeout(LIMIT, &mut writing).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(e)) => Err(std::io::Error::other(e)),
            Err(_) => {
                self.hangs = Some(writing);
                Err(slow())
            }
        }
    }
}

/// Puts `text` in the place of the file, all or nothing, also when the power fails.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let beside = path.with_extension("json.new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(install: &str) -> Kept {
        Kept { version: 1, install_id: install.into(), troubles: Vec::new() }
    }

    #[tokio::test]
    async fn what_is_kept_is_read_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let mut file = StateFile::of(&folder, "eu/1");
        assert_eq!(file.read(), Kept::default());
        file.write(&kept("abc"), 0).await;
        assert_eq!(StateFile::of(&folder, "eu/1").read(), kept("abc"));
        assert_eq!(StateFile::of(&folder, "eu-2").read(), Kept::default(), "each replica has its own");
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["direct-alerts-eu_1.json"]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_tried_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("direct-alerts-a.json");
        std::fs::create_dir(&in_the_way).unwrap();
        let mut file = StateFile::of(folder.path(), "a");
        assert_eq!(file.read(), Kept::default());
        file.write(&kept("abc"), 0).await;
        std::fs::remove_dir(&in_the_way).unwrap();
        file.write(&kept("abc"), AGAIN_MS - 1).await;
        assert!(!in_the_way.exists());
        file.write(&kept("abc"), AGAIN_MS).await;
        assert_eq!(StateFile::of(folder.path(), "a").read(), kept("abc"));
    }

    #[test]
    fn a_file_that_is_no_json_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("direct-alerts-a.json"), "{").unwrap();
        assert_eq!(StateFile::of(folder.path(), "a").read(), Kept::default());
    }
}
