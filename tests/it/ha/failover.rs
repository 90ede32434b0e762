//! A database whose fail-over loses commits: row 27. Terms may come twice then; tokens do not, and a miss whose
//! incident was lost is made again under the same key.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::Row;

use super::audit;
use super::checker::{Allowed, Cast};
use super::fleet::{Fleet, Plan, SLACK, TAKE_OVER};
use crate::faults::invariants::{Heard, events_of};
use crate::util::db::Backend;
use crate::util::server::PrivateServer;
use crate::util::wait::{eventually, slowness};

/// A gap longer than this in which nothing could be accepted is an outage, and moves deadlines.
const OUTAGE: Duration = Duration::from_secs(30);

/// Every connection to the old primary is cut, and new ones go to the copy, as with a virtual address.
async fn fail_over(fleet: &mut Fleet, copy: &PrivateServer) {
    for member in &fleet.members {
        member.link.refuse();
        member.link.cut();
    }
    fleet.db.move_to(copy.url());
    for member in &fleet.members {
        member.link.redirect(fleet.db.server_addr().expect("a server"));
        member.heal();
    }
}

/// The keys of what PagerDuty was told about this job.
fn keys_of(fleet: &Fleet, component: &str) -> BTreeSet<String> {
    let requests = fleet.pager.requests();
    let about = requests
        .iter()
        .map(|request| request.json())
        .filter(|body| body["event_action"] == "trigger" && body["payload"]["component"] == component);
    about.map(|body| body["dedup_key"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The key of this job's open incident, as the database has it.
async fn key_of(fleet: &Fleet, component: &str) -> BTreeSet<String> {
    let text = "SELECT dedup_key FROM incident WHERE closed_ms IS NULL AND component = ?";
    let rows = sqlx::query(text).bind(component).fetch_all(&mut fleet.db.connect().await).await;
    rows.expect("incidents can be read").iter().map(|row| row.get(0)).collect()
}

/// Whether the webhook heard of this miss so often.
fn told(fleet: &Fleet, component: &str, count: usize) -> Result<(), String> {
    let about = |one: &&Heard| one.app == "silent" && one.component == component;
    let heard = events_of(&fleet.hook).iter().filter(about).count();
    if heard >= count { Ok(()) } else { Err(heard.to_string()) }
}

/// The copy lags by so long. The coordinator of the copy's past is not the one of the primary's last moment.
async fn lossy(lag: Duration) {
    let Some(primary) = PrivateServer::start(Backend::MariaDb) else { return };
    let mut fleet = Fleet::start(primary.database().await, &Plan::pair()).await;
    let mut cast = Cast::of(&fleet).await;
    let late = cast.goes_silent(&fleet).await;
    // What is acknowledged after the copy was made is lost with the primary: nobody checks in meanwhile.
    cast.rest().await;
    let mut copy = primary.lagging_copy().await;
    // What the copy does not have: a take-over, and a miss that was told.
    fleet.term(0).await;
    fleet.coordinates(1, SLACK).await;
    fleet.restart(0).await;
    eventually(TAKE_OVER + SLACK, "the miss to be told", async || told(&fleet, &late, 1)).await;
    slowness(lag.saturating_sub(Duration::from_secs(15))).await;
    let lost = audit::writes(&fleet.db).await;
    let (last_term, last_token) =
        lost.last().map(|write| (write.term, write.token.clone())).expect("it is on record");

    copy.restart();
    fail_over(&mut fleet, &copy).await;
    primary.kill9();
    cast.work(&fleet, 4).await;
    // Somebody leads the copy, under a token that the primary never saw.
    eventually(2 * TAKE_OVER + SLACK, "somebody to lead the copy", async || {
        let writes = audit::writes(&fleet.db).await;
        let new = writes.last().filter(|write| !write.holder.is_empty() && write.token != last_token);
        new.is_some_and(|write| write.term > 1)
    })
    .await;
    let known: BTreeSet<_> = lost.iter().map(|write| (write.term, write.token.clone())).collect();
    let after = audit::writes(&fleet.db).await;
    let again = after.iter().filter(|write| write.term == last_term).all(|write| write.token != last_token);
    assert!(again, "the term {last_term} was led on the copy by whoever led it on the primary");
    assert!(after.iter().any(|write| !known.contains(&(write.term, write.token.clone()))));

    // The miss is found again, under the key that its receivers know.
    eventually(3 * TAKE_OVER + SLACK, "the miss to be found again", async || {
        if key_of(&fleet, &late).await.is_empty() { Err("none is open") } else { Ok(()) }
    })
    .await;
    assert_eq!(keys_of(&fleet, &late), key_of(&fleet, &late).await, "one miss, one key");
    let allowed = Allowed::within(TAKE_OVER).repeats();
    if lag > OUTAGE {
        // It is told with the others that the gap leaves behind, once they have had their time.
        cast.misses_are_told(&fleet, allowed.bound).await;
        cast.stands(&mut fleet, allowed.troubles(&["outage"])).await;
    } else {
        eventually(3 * TAKE_OVER + SLACK, "the miss to be told again", async || told(&fleet, &late, 2)).await;
        assert_eq!(keys_of(&fleet, &late).len(), 1, "one miss, one key, also when its incident was lost");
        cast.end(&mut fleet, allowed).await;
    }
    drop(fleet);
    drop(primary);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_27_a_fail_over_to_a_copy_that_lags_15_s_is_fenced_by_the_token_and_keeps_the_key() {
    lossy(Duration::from_secs(15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_27_a_fail_over_to_a_copy_that_lags_45_s_moves_the_deadline_and_keeps_the_key() {
    lossy(Duration::from_secs(45)).await;
}
