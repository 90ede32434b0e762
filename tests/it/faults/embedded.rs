//! The embedded database and its disk: row 50.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::SOON;
use super::invariants::{Known, hold};
use super::world::{World, hook_yaml};
use crate::util::db::{Backend, TestDb};
use crate::util::load::Load;
use crate::util::process::Gotel;
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// A small disk of memory over a folder, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount and nobody requires it.
    fn over(folder: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        if mount(&["-t", "tmpfs", "-o", &options, "tmpfs", folder.to_str().unwrap()]) {
            return Some(Self(folder.to_owned()));
        }
        let required = std::env::var_os("GOTEL_TEST_REQUIRE").is_some_and(|value| value == "1");
        assert!(!required, "mounting a tmpfs is required here (GOTEL_TEST_REQUIRE=1): be root, or have sudo");
        None
    }

    fn read_only(&self) {
        assert!(mount(&["-o", "remount,ro", self.0.to_str().unwrap()]), "the disk can be made read-only");
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        for piece in [64 * 1024, 512, 1] {
            while std::io::Write::write_all(&mut file, &vec![0; piece]).is_ok() {}
        }
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        as_root("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

fn mount(args: &[&str]) -> bool {
    as_root("mount", args)
}

fn as_root(program: &str, args: &[&str]) -> bool {
    let quiet = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    quiet(Command::new(program).args(args)) || quiet(Command::new("sudo").args(["-n", program]).args(args))
}

async fn refused(args: &[&str], env: &[(&str, &str)], says: &str) {
    let mut gotel = Gotel::spawn(&[&["serve", "--listen", "127.0.0.1:0"], args].concat(), env);
    let status = gotel.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(1), "{}", gotel.output());
    gotel.printed(says, SOON).await;
    assert!(!gotel.output().contains("GoTel is watching") && !gotel.output().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_a_second_process_on_the_same_file_is_refused_while_the_first_goes_on() {
    let hook = Receiver::webhook().await;
    let mut world = World::start(TestDb::new(Backend::Sqlite).await.unwrap(), &hook_yaml(&hook)).await;
    world.reserve("billing", "nightly", Value::Null).await;
    let url = world.db.url().to_owned();
    refused(&[], &[("GOTEL_DATABASE_URL", &url)], "another gotel is using").await;
    let link = world.path("link.db");
    std::os::unix::fs::symlink(url.trim_start_matches("sqlite://"), &link).unwrap();
    refused(&["--database-url", &format!("sqlite://{link}")], &[], "another gotel is using").await;
    world.signal("billing", "nightly", "").await;
    hold(&world, &Known { on_time: &["billing"], ..Known::default() }).await;
    // A dead process holds nothing.
    world.kill9();
    world.start_again().await;
    world.signal("billing", "nightly", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_a_folder_that_cannot_be_written_refuses_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let under = file.join("data");
    refused(&["--data-dir", under.to_str().unwrap()], &[], "cannot make the folder of").await;
    refused(&["--data-dir", "/proc/gotel"], &[], "cannot make the folder of").await;

    let Some(disk) = SmallDisk::over(folder.path(), "4m") else { return };
    disk.read_only();
    refused(&["--data-dir", folder.path().to_str().unwrap()], &[], "Read-only file system").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_a_database_on_a_disk_gone_read_only_refuses_the_start() {
    let db = TestDb::new(Backend::Sqlite).await.unwrap();
    let Some(disk) = SmallDisk::over(db.dir().unwrap(), "8m") else { return };
    let mut migrate = Gotel::spawn(&["migrate"], &[("GOTEL_DATABASE_URL", db.url())]);
    assert!(migrate.wait_exit(SOON).await.success(), "{}", migrate.output());
    disk.read_only();
    refused(&[], &[("GOTEL_DATABASE_URL", db.url())], "Read-only file system").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_a_full_disk_is_a_503_until_there_is_room_again() {
    let db = TestDb::new(Backend::Sqlite).await.unwrap();
    let Some(disk) = SmallDisk::over(db.dir().unwrap(), "24m") else { return };
    let hook = Receiver::webhook().await;
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    let keys = world.fleet("load", 20).await;
    let load = Load::start(&world.url, &keys, 16, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 100).await;
    let filler = disk.fill();
    eventually(SOON, "an honest 503", async || match world.try_check_in("load", "0").await {
        Err(why) if why.starts_with("503") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(world.get("/livez").await.0, 200);
    assert_eq!(world.get("/status").await.0, 200, "what is known can be read");
    std::fs::remove_file(filler).unwrap();
    let before = load.acknowledged();
    eventually(SOON, "check-ins to be taken again", async || load.acknowledged() >= before + 20).await;
    let report = load.stop().await;
    assert_eq!(report.unanswered, 0);
    assert!(report.refused.keys().all(|status| *status == 503), "{:?}", report.refused);
    // Nothing half-written: every check-in in the history is counted, and the file is sound.
    let counted = "SELECT (SELECT SUM(checkins) FROM reservation) - (SELECT COUNT(*) FROM checkin)";
    assert_eq!(world.number(counted).await, 0);
    assert_eq!(
        world.number("SELECT COUNT(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'").await,
        0
    );
    world.kill9();
    world.start_again().await;
    world.signal("load", "0", "/fail").await;
    hook.received(1, SOON).await;
    let known = Known { acknowledged: &report.acknowledged, hooks: &[("hook", &hook)], ..Known::default() };
    hold(&world, &known).await;
}

/// What SQLite keeps beside the database's file.
fn delete_logs(world: &World) {
    for entry in std::fs::read_dir(world.db.dir().unwrap()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with("-wal") || name.ends_with("-shm") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_a_write_ahead_log_deleted_under_the_program_ends_it_with_nothing_lost() {
    let hook = Receiver::webhook().await;
    let mut world = World::start(TestDb::new(Backend::Sqlite).await.unwrap(), &hook_yaml(&hook)).await;
    let keys = world.fleet("load", 10).await;
    let load = Load::start(&world.url, &keys, 8, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 100).await;
    delete_logs(&world);
    let status = world.gotel.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(1), "a supervisor starts it again");
    world.gotel.printed("was deleted while in use", SOON).await;
    let report = load.stop().await;
    world.start_again().await;
    assert_eq!(
        world.number("SELECT COUNT(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'").await,
        0
    );
    let known = Known { acknowledged: &report.acknowledged, on_time: &["load"], ..Known::default() };
    hold(&world, &known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_a_deleted_write_ahead_log_costs_nothing_after_a_clean_end_and_never_the_service() {
    let hook = Receiver::webhook().await;
    let mut world = World::start(TestDb::new(Backend::Sqlite).await.unwrap(), &hook_yaml(&hook)).await;
    let keys = world.fleet("load", 10).await;
    let load = Load::start(&world.url, &keys, 8, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 100).await;
    let report = load.stop().await;
    world.end().await;
    delete_logs(&world);
    world.start_again().await;
    let known = Known { acknowledged: &report.acknowledged, on_time: &["load"], ..Known::default() };
    hold(&world, &known).await;

    world.kill9();
    delete_logs(&world);
    world.start_again().await;
    world.signal("load", "0", "").await;
    assert_eq!(
        world.number("SELECT COUNT(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'").await,
        0
    );
    hold(&world, &Known { on_time: &["load"], ..Known::default() }).await;
}
