//! What a MySQL or MariaDB server is set to that can lose a check-in which was answered 2xx.
//!
//! Promises: each finding names the setting, what may be lost, and what would be right. Only what can lose an
//! acknowledged commit is told; taste is not. (SQLite's settings are our own: WAL with `synchronous = FULL`.)
//! Does not promise: to know what lies below the server: a disk or a hypervisor that only pretends to flush.

use super::Store;
use super::dialect::Dialect;
use super::error::Result;
use super::session::{Rule, sql, transact};
use sqlx::Row;
use std::collections::BTreeMap;

/// The variables that are looked at.
const NAMES: [&str; 6] = [
    "innodb_flush_log_at_trx_commit",
    "sync_binlog",
    "log_bin",
    "innodb_doublewrite",
    "wsrep_on",
    "debug_no_sync",
];

/// A status that MySQL has and MariaDB does not.
const REDO_LOG: &str = "innodb_redo_log_enabled";

/// What stands in `settings` (names in lower case) and can lose an acknowledged commit; one sentence each.
pub fn warnings(settings: &BTreeMap<String, String>, grants: &[String]) -> Vec<String> {
    let get = |name: &str| settings.get(name).map_or("", String::as_str);
    let off = |name: &str| matches!(get(name).to_ascii_uppercase().as_str(), "OFF" | "0");
    let on = |name: &str| matches!(get(name).to_ascii_uppercase().as_str(), "ON" | "1");
    let mut found = Vec::new();
    let flush = get("innodb_flush_log_at_trx_commit");
    if !matches!(flush, "" | "1") {
        // 3 flushes at commit as 1 does, and does not flush at prepare (MariaDB).
        let lost = match flush {
            "3" => None,
            "2" => Some("when the server's machine fails or loses power"),
            _ => Some("when the database server or its machine dies"),
        };
        if let Some(when) = lost {
            let cluster =
                if on("wsrep_on") { ", and by the cluster if all its nodes fail together" } else { "" };
            found.push(format!(
                "innodb_flush_log_at_trx_commit is {flush}: check-ins that were answered 2xx, and alerts, of about the \
                 last second may be lost {when}{cluster}; set it to 1"
            ));
        }
    }
    let sync = get("sync_binlog");
    if on("log_bin") && !matches!(sync, "" | "1") {
        found.push(format!(
            "sync_binlog is {sync} while log_bin is on: when the server's machine fails, commits that were answered 2xx \
             may be missing in the binary log, and so on the replica that takes over; set it to 1"
        ));
    }
    if off("innodb_doublewrite") {
        found.push(
            "innodb_doublewrite is off: a page that is half written when power fails cannot be repaired, and takes the \
             reservations on it along; set it to ON, unless the file system writes whole pages (ZFS)"
                .to_owned(),
        );
    }
    if on("debug_no_sync") {
        found.push(
            "debug_no_sync is on: the server flushes nothing to disk, and whatever was answered 2xx may be lost when \
             its machine fails; set it to OFF"
                .to_owned(),
        );
    }
    if off(REDO_LOG) {
        found.push(
            "the InnoDB redo log is disabled: a crash of the database server loses everything; run ALTER INSTANCE \
             ENABLE INNODB REDO_LOG"
                .to_owned(),
        );
    }
    let ignores = |grant: &&String| {
        let grant = grant.to_ascii_uppercase();
        let everywhere = grant.contains(" ON *.* ");
        let rights = ["ALL PRIVILEGES", "SUPER", "READ_ONLY ADMIN", "READ ONLY ADMIN", "CONNECTION_ADMIN"];
        everywhere && rights.iter().any(|right| grant.contains(right))
    };
    if grants.iter().any(|grant| ignores(&grant)) {
        found.push(
            "the database user may write to a server that is read-only (ALL PRIVILEGES ON *.*, SUPER or READ_ONLY \
             ADMIN): what is written in the moment in which a server is demoted is lost with it; grant it rights on \
             GoTel's own database only"
                .to_owned(),
        );
    }
    found
}

impl Store {
    /// Looks at the server's settings; see [`warnings`]. Nothing on SQLite.
    pub async fn durability_warnings(&self) -> Result<Vec<String>> {
        if self.inner.dialect == Dialect::Sqlite {
            return Ok(Vec::new());
        }
        transact!(self.pooled().await?, Rule::reading("durability"), |tx| {
            let mut settings = BTreeMap::new();
            let names = NAMES.map(|name| format!("'{name}'")).join(", ");
            let texts = [
                format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"),
                format!("SHOW GLOBAL STATUS WHERE Variable_name = '{REDO_LOG}'"),
            ];
            for text in texts {
                for row in tx.all(sql(text)).await? {
                    settings.insert(row.try_get::<String, _>(0)?.to_ascii_lowercase(), row.try_get(1)?);
                }
            }
            let mut grants = Vec::new();
            for row in tx.all(sql("SHOW GRANTS")).await? {
                grants.push(row.try_get(0)?);
            }
            Ok(warnings(&settings, &grants))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::as_it_should_be("innodb_flush_log_at_trx_commit=1 log_bin=ON sync_binlog=1 innodb_doublewrite=ON", &[])]
    #[case::nothing_known("", &[])]
    #[case::flushed_each_second("innodb_flush_log_at_trx_commit=0", &["innodb_flush_log_at_trx_commit is 0"])]
    #[case::flushed_by_the_kernel("innodb_flush_log_at_trx_commit=2", &["or loses power; set it to 1"])]
    #[case::mariadbs_own("innodb_flush_log_at_trx_commit=3", &[])]
    #[case::galera_as_its_guides_say("innodb_flush_log_at_trx_commit=2 wsrep_on=ON", &["if all its nodes fail together"])]
    #[case::no_binlog("log_bin=OFF sync_binlog=0", &[])]
    #[case::binlog_not_flushed("log_bin=ON sync_binlog=0", &["sync_binlog is 0 while log_bin is on"])]
    #[case::binlog_flushed_seldom("log_bin=1 sync_binlog=1000", &["sync_binlog is 1000"])]
    #[case::pages_may_tear("innodb_doublewrite=OFF", &["innodb_doublewrite is off"])]
    #[case::mysqls_other_word("innodb_doublewrite=DETECT_AND_RECOVER", &[])]
    #[case::never_flushed("debug_no_sync=ON", &["debug_no_sync is on"])]
    #[case::no_redo_log("innodb_redo_log_enabled=OFF", &["redo log is disabled"])]
    #[case::several(
        "innodb_flush_log_at_trx_commit=2 log_bin=ON sync_binlog=0 innodb_doublewrite=0",
        &["innodb_flush", "sync_binlog", "innodb_doublewrite"]
    )]
    fn a_setting_that_loses_commits_is_told(#[case] settings: &str, #[case] told: &[&str]) {
        let settings = settings.split_whitespace().filter_map(|pair| pair.split_once('='));
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let found = warnings(&settings, &[]);
        assert_eq!(found.len(), told.len(), "{found:?}");
        for (found, told) in found.iter().zip(told) {
            assert!(found.contains(told), "{found}");
        }
    }

    #[rstest]
    #[case::as_documented("GRANT SELECT, INSERT, UPDATE, DELETE ON `gotel`.* TO `gotel`@`%`", false)]
    #[case::all_of_its_own("GRANT ALL PRIVILEGES ON `gotel`.* TO `gotel`@`%`", false)]
    #[case::usage("GRANT USAGE ON *.* TO `gotel`@`%`", false)]
    #[case::everything("GRANT ALL PRIVILEGES ON *.* TO `gotel`@`%` WITH GRANT OPTION", true)]
    #[case::mysqls_list("GRANT SELECT, SUPER ON *.* TO `gotel`@`%`", true)]
    #[case::mariadbs("GRANT READ ONLY ADMIN ON *.* TO `gotel`@`%`", true)]
    fn a_user_that_ignores_read_only_is_told(#[case] grant: &str, #[case] told: bool) {
        let found = warnings(&BTreeMap::new(), &[grant.to_owned()]);
        assert_eq!(found.iter().any(|text| text.contains("read-only")), told, "{found:?}");
    }
}
