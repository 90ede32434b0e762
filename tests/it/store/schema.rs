//! The schema: its types, its migrations, and the refusal of one that is not ours.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gotel::metrics::Metrics;
use gotel::store::{Store, StoreError};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::Fixture;

fn open(db: &TestDb) -> Store {
    Store::open(db.url(), Arc::new(Metrics::new())).unwrap()
}

on_every_database!(columns_have_only_types_that_all_three_databases_carry);
async fn columns_have_only_types_that_all_three_databases_carry(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let embedded = f.is_embedded();
    let columns = match embedded {
        true => {
            "SELECT m.name || '.' || p.name || ' ' || p.type FROM sqlite_master m JOIN pragma_table_info(m.name) p \
             WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND m.name NOT LIKE 'sqlite%'"
        }
        false => {
            "SELECT table_name || '.' || column_name || ' ' || UPPER(data_type) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name NOT LIKE '!_sqlx%' ESCAPE '!'"
        }
    };
    let columns = f.texts(columns).await;
    assert!(columns.len() > 60, "{columns:?}");
    for column in columns {
        let (name, kind) = column.split_once(' ').unwrap();
        let kind = kind.split('(').next().unwrap();
        let id = embedded && name.ends_with(".id") && kind == "INTEGER";
        let allowed = ["BIGINT", "INT", "SMALLINT", "VARCHAR", "TEXT", "BLOB"].contains(&kind);
        assert!(allowed || id, "{column}");
        if name.ends_with("_ms") {
            assert_eq!(kind, "BIGINT", "{column}");
        }
    }
    if !embedded {
        let other = "SELECT table_name || '.' || column_name FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name NOT LIKE '!_sqlx%' ESCAPE '!' \
             AND (collation_name <> 'utf8mb4_bin' OR column_type LIKE '%unsigned%')";
        assert_eq!(f.texts(other).await, Vec::<String>::new());
    }
}

on_every_database!(migrating_again_does_nothing_and_keeps_the_identity);
async fn migrating_again_does_nothing_and_keeps_the_identity(db: TestDb) {
    let store = open(&db);
    let first = store.migrate().await.unwrap();
    assert!(first.applied >= 1 && first.version >= 1);
    let second = store.migrate().await.unwrap();
    assert_eq!((second.applied, second.version), (0, first.version));
    let id = store.install_id().to_owned();
    drop(store);
    let later = open(&db);
    later.migrate().await.unwrap();
    assert_eq!((later.install_id(), id.len()), (&*id, 36));
}

on_every_database!(two_replicas_may_start_on_an_empty_database_at_once);
async fn two_replicas_may_start_on_an_empty_database_at_once(db: TestDb) {
    let one = open(&db);
    let other = if db.dir().is_some() { one.clone() } else { open(&db) };
    if db.dir().is_some() {
        one.migrate().await.unwrap();
    }
    let (first, second) = tokio::join!(one.migrate(), other.migrate());
    assert_eq!(first.unwrap().version, second.unwrap().version);
    assert_eq!(one.install_id(), other.install_id());
    let mut raw = db.connect().await;
    let rows = sqlx::query("SELECT id FROM meta").fetch_all(&mut raw).await.unwrap();
    assert_eq!(rows.len(), 1);
}

on_every_database!(row_32_a_schema_newer_than_the_program_is_refused_and_left_alone);
async fn row_32_a_schema_newer_than_the_program_is_refused_and_left_alone(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let known = f.store.migrate().await.unwrap().version;
    f.sql("UPDATE meta SET alive_ms = 5").await;
    f.sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
    )
    .await;
    let store = f.replica();
    let refused = store.migrate().await.unwrap_err();
    assert!(matches!(refused, StoreError::Schema(_)), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains(&format!("version 9999, newer than this program knows ({known})")), "{text}");
    assert!(text.contains("nothing was written"), "{text}");
    assert_eq!(f.number("SELECT alive_ms FROM meta").await, 5);
}

on_every_database!(a_migration_that_broke_off_is_explained);
async fn a_migration_that_broke_off_is_explained(db: TestDb) {
    let mut f = Fixture::new(db).await;
    f.sql("UPDATE _sqlx_migrations SET success = 0 WHERE version = 1").await;
    let refused = f.replica().migrate().await.unwrap_err().to_string();
    assert!(refused.contains("migration 1 broke off half-way"), "{refused}");
    assert!(refused.contains("gotel migrate"), "{refused}");
}

on_every_database!(every_table_has_a_primary_key);
/// Galera and Group Replication ask for it.
async fn every_table_has_a_primary_key(db: TestDb) {
    let mut f = Fixture::new(db).await;
    if f.is_embedded() {
        return;
    }
    let keyless = "SELECT CAST(t.table_name AS CHAR) FROM information_schema.tables t WHERE t.table_schema = DATABASE() \
         AND NOT EXISTS (SELECT 1 FROM information_schema.table_constraints c WHERE c.table_schema = t.table_schema \
         AND c.table_name = t.table_name AND c.constraint_type = 'PRIMARY KEY')";
    assert_eq!(f.texts(keyless).await, [""; 0]);
}

on_every_database!(a_schema_of_another_build_is_refused);
async fn a_schema_of_another_build_is_refused(db: TestDb) {
    let mut f = Fixture::new(db).await;
    f.sql("UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 1").await;
    let refused = f.replica().migrate().await.unwrap_err().to_string();
    assert!(refused.contains("not the one this program carries"), "{refused}");
}

#[test]
fn both_sets_of_migrations_describe_the_same_tables() {
    let [mysql, sqlite] = ["mysql", "sqlite"].map(read);
    assert!(mysql.len() >= 8 && mysql.values().all(|columns| columns.len() > 1));
    assert_eq!(mysql, sqlite);
}

/// Table → its columns and indexes, without what the dialects spell differently.
fn read(dialect: &str) -> BTreeMap<String, Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(dialect);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = String::new();
    for line in files
        .iter()
        .flat_map(|f| std::fs::read_to_string(f).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let line = line.trim().trim_end_matches([',', ';']).to_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["CREATE", "TABLE", name, ..] => table = (*name).to_owned(),
            ["UNIQUE", "KEY", name, rest @ ..] => {
                tables.entry(table.clone()).or_default().push(format!("UNIQUE {name} {}", rest.join(" ")));
            }
            ["KEY", name, rest @ ..] => {
                tables.entry(table.clone()).or_default().push(format!("INDEX {name} {}", rest.join(" ")));
            }
            ["CREATE", "UNIQUE", "INDEX", name, "ON", on, rest @ ..] => {
                tables.entry((*on).to_owned()).or_default().push(format!("UNIQUE {name} {}", rest.join(" ")));
            }
            ["CREATE", "INDEX", name, "ON", on, rest @ ..] => {
                tables.entry((*on).to_owned()).or_default().push(format!("INDEX {name} {}", rest.join(" ")));
            }
            ["id", "INTEGER" | "BIGINT", ..] => tables.entry(table.clone()).or_default().push("id".into()),
            [name, kind, ..]
                if kind.chars().all(|c| c.is_ascii_uppercase() || "()0123456789".contains(c)) =>
            {
                let _ = name;
                tables.entry(table.clone()).or_default().push(line.clone());
            }
            _ => {}
        }
    }
    tables.values_mut().for_each(|columns| columns.sort());
    tables
}
