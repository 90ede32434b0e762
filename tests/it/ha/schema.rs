//! An old and a new program on one database: row 32.

use std::path::Path;

use sqlx::migrate::Migrator;

use super::checker::Allowed;
use super::fleet::{Fleet, Plan, SLACK, SOON, TAKE_OVER};
use super::{fleet_on, on_both_servers};
use crate::util::db::{Backend, TestDb};

on_both_servers!(row_32_a_running_pair_goes_on_through_a_newer_schema_and_no_old_one_starts_on_it);
async fn row_32_a_running_pair_goes_on_through_a_newer_schema_and_no_old_one_starts_on_it(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    // A newer replica has migrated: a further column, a further table.
    let newer = [
        "ALTER TABLE reservation ADD COLUMN of_tomorrow BIGINT NULL",
        "CREATE TABLE of_tomorrow (id BIGINT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of tomorrow', 1, 'x', 0)",
    ];
    for statement in newer {
        fleet.db.sql(statement).await;
    }
    cast.further(50, SOON).await;
    cast.goes_silent(&fleet).await;
    // A restart of the old program is refused, in words; the other goes on, and leads.
    fleet.kill9(0);
    let error = fleet.refused(0).await;
    assert!(error.contains("schema is version 9999, newer than this program knows"), "{error}");
    fleet.coordinates(1, TAKE_OVER + SLACK).await;
    cast.misses_are_told(&fleet, TAKE_OVER + SLACK).await;
    // Rolled back, the old program starts again.
    fleet.db.sql("DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    fleet.restart(0).await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats()).await;
}

on_both_servers!(row_32_a_pair_brings_an_older_schema_up_to_date_once);
/// All migrations but the last, as the program before this one left them.
async fn row_32_a_pair_brings_an_older_schema_up_to_date_once(backend: Backend) {
    let Some(db) = TestDb::new(backend).await else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/mysql");
    let mut migrator = Migrator::new(folder).await.expect("the migrations can be read");
    let mut older = migrator.migrations.to_vec();
    let newest = older.pop().expect("there is a migration").version;
    migrator.migrations = older.into();
    let mut connection = db.connect().await;
    migrator.run(&mut connection).await.expect("the older schema can be made");
    let applied = "SELECT COUNT(*) FROM _sqlx_migrations WHERE success = 1";
    let before = db.number(applied).await;
    let mut fleet = Fleet::start(db, &Plan::trio()).await;
    assert_eq!(fleet.db.number(applied).await, before + 1);
    assert_eq!(fleet.db.number("SELECT MAX(version) FROM _sqlx_migrations").await, newest);
    let mut cast = super::Cast::of(&fleet).await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER)).await;
}
