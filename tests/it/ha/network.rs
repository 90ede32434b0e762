//! Networks between replicas and their database that are cut, silent, slow or lossy, and clients that mean harm:
//! rows 15, 18, 19, 20, 22 and 23.
//!
//! Rows 16, 17 and 21 need replicas that know each other, or a name for the database.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::checker::Allowed;
use super::fleet::{LEASE, Plan, SLACK, SOON, TAKE_OVER};
use super::{audit, fleet_on, on_both_servers};
use crate::util::chaos::{Cut, Way};
use crate::util::db::Backend;
use crate::util::wait::eventually;

/// How long a lease operation may take, and between two of them.
const T_AND_P: Duration = Duration::from_secs(3);

on_both_servers!(row_15_a_coordinator_cut_from_the_database_steps_down_and_the_other_leads);
async fn row_15_a_coordinator_cut_from_the_database_steps_down_and_the_other_leads(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    cast.goes_silent(&fleet).await;
    fleet.set_ails(0, true);
    fleet[0].link.freeze_all();
    fleet[0].node.gotel.printed("stepping down", LEASE + SLACK).await;
    fleet.coordinates(1, TAKE_OVER + SLACK).await;
    // Whoever asks the one that is cut off is told so honestly, and soon.
    let (status, text) =
        fleet[0].node.ask(reqwest::Method::POST, "/checkin/on-time/0", None).await.expect("it answers");
    assert_eq!(status, 503, "{text}");
    cast.misses_are_told(&fleet, TAKE_OVER + SLACK).await;
    fleet[0].heal();
    fleet.set_ails(0, false);
    eventually(SLACK, "check-ins at the healed one", async || {
        let answer = fleet[0].node.ask(reqwest::Method::POST, "/checkin/on-time/0", None).await;
        matches!(answer, Ok((200, _)))
    })
    .await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats()).await;
    assert_eq!(audit::reigns(&fleet.db).await.len(), 2, "whoever came back took nothing");
}

on_both_servers!(row_18_election_recovers_when_established_flows_fall_silent);
async fn row_18_election_recovers_when_established_flows_fall_silent(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    for round in 0..3 {
        for member in &fleet.members {
            member.link.freeze_existing();
        }
        let before = audit::writes(&fleet.db).await.len();
        eventually(T_AND_P + SLACK, "the lease to be renewed", async || {
            audit::writes(&fleet.db).await.len() > before
        })
        .await;
        cast.further(20, SOON).await;
        if round == 0 {
            cast.goes_silent(&fleet).await;
        }
    }
    assert_eq!(audit::reigns(&fleet.db).await.len(), 1, "the leader is kept");
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats()).await;
}

/// These replicas' ways to the database take `rtt` for each question and its answer. How many reigns there may be.
async fn slow(backend: Backend, far: &[usize], rtt: Duration, reigns: RangeInclusive<usize>) {
    slow_and(backend, far, rtt, reigns, Allowed::within(TAKE_OVER)).await;
}

async fn slow_and(
    backend: Backend,
    far: &[usize],
    rtt: Duration,
    reigns: RangeInclusive<usize>,
    allowed: Allowed,
) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    let all_far = far.len() == fleet.members.len();
    for index in far {
        fleet.set_ails(*index, !all_far);
        fleet[*index].link.delay(rtt / 2);
    }
    cast.goes_silent(&fleet).await;
    if *reigns.start() > 1 {
        fleet.coordinates(1, TAKE_OVER + SLACK).await;
    }
    cast.misses_are_told(&fleet, allowed.bound + SLACK).await;
    // Longer than a lease that is not renewed would last.
    let first = audit::writes(&fleet.db).await.len();
    eventually(LEASE + TAKE_OVER + SLACK, "twenty renewals", async || {
        audit::writes(&fleet.db).await.len() >= first + 20
    })
    .await;
    let count = audit::reigns(&fleet.db).await.len();
    for index in far {
        fleet[*index].heal();
        fleet.set_ails(*index, false);
    }
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, allowed.repeats()).await;
    assert!(reigns.contains(&count), "{count} reigns");
}

on_both_servers!(row_19_a_database_50_ms_away_from_all_changes_nothing);
async fn row_19_a_database_50_ms_away_from_all_changes_nothing(backend: Backend) {
    slow(backend, &[0, 1], Duration::from_millis(50), 1..=1).await;
}

on_both_servers!(row_19_a_leader_500_ms_away_from_the_database_is_kept_and_loses_nothing);
async fn row_19_a_leader_500_ms_away_from_the_database_is_kept_and_loses_nothing(backend: Backend) {
    slow(backend, &[0], Duration::from_millis(500), 1..=1).await;
}

on_both_servers!(row_19_a_database_500_ms_away_from_all_is_slow_and_silences_nothing);
async fn row_19_a_database_500_ms_away_from_all_is_slow_and_silences_nothing(backend: Backend) {
    slow(backend, &[0, 1], Duration::from_millis(500), 1..=1).await;
}

on_both_servers!(row_19_a_leader_1200_ms_away_from_the_database_loses_nothing);
async fn row_19_a_leader_1200_ms_away_from_the_database_loses_nothing(backend: Backend) {
    // Its lease is renewed in time. It is kept as long as it evaluates, too; once it has not for half a minute, the one
    // that is near takes over. Check-ins are beyond it, and it says so.
    let gate = Duration::from_secs(30);
    let allowed = Allowed::within(gate + TAKE_OVER).troubles(&["db-gone"]);
    slow_and(backend, &[0], Duration::from_millis(1200), 1..=2, allowed).await;
}

on_both_servers!(row_19_a_leader_5_s_away_from_the_database_yields_to_one_that_is_near);
async fn row_19_a_leader_5_s_away_from_the_database_yields_to_one_that_is_near(backend: Backend) {
    slow(backend, &[0], Duration::from_secs(5), 2..=2).await;
}

on_both_servers!(row_20_cuts_inside_the_coordinators_commit_neither_lose_nor_repeat);
async fn row_20_cuts_inside_the_coordinators_commit_neither_lose_nor_repeat(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    for cut in [Cut::BeforeReply, Cut::BeforeRequest] {
        cast.goes_silent(&fleet).await;
        fleet.set_ails(0, true);
        let before = fleet[0].link.cut_by_pattern();
        fleet[0].link.cut_on(b"COMMIT", cut);
        eventually(SLACK, "commits to be cut", async || fleet[0].link.cut_by_pattern() >= before + 10).await;
        // Long enough for the deadline to come while every commit is cut.
        eventually(LEASE + TAKE_OVER + SLACK, "the other to lead, or the first still", async || {
            fleet[0].link.cut_by_pattern() >= before + 60
        })
        .await;
        fleet[0].heal();
        fleet.set_ails(0, false);
        cast.misses_are_told(&fleet, 2 * TAKE_OVER + SLACK).await;
    }
    cast.end(&mut fleet, Allowed::within(2 * TAKE_OVER).repeats()).await;
}

/// As row 15, but the other direction still carries bytes.
async fn one_way(backend: Backend, lost: Way) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    cast.goes_silent(&fleet).await;
    fleet.set_ails(0, true);
    fleet[0].link.freeze_way(lost);
    fleet[0].node.gotel.printed("stepping down", LEASE + SLACK).await;
    fleet.coordinates(1, TAKE_OVER + SLACK).await;
    cast.misses_are_told(&fleet, TAKE_OVER + SLACK).await;
    fleet[0].heal();
    fleet.set_ails(0, false);
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats()).await;
}

on_both_servers!(row_22_a_coordinator_whose_replies_are_lost_is_followed);
async fn row_22_a_coordinator_whose_replies_are_lost_is_followed(backend: Backend) {
    one_way(backend, Way::Replies).await;
}

on_both_servers!(row_22_a_coordinator_whose_requests_are_lost_is_followed);
async fn row_22_a_coordinator_whose_requests_are_lost_is_followed(backend: Backend) {
    one_way(backend, Way::Requests).await;
}

on_both_servers!(row_23_slow_and_idle_clients_take_neither_the_lease_nor_others_check_ins);
async fn row_23_slow_and_idle_clients_take_neither_the_lease_nor_others_check_ins(backend: Backend) {
    const IDLE: usize = 1500;
    const SLOW: usize = 300;
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    let addresses = fleet[0].node.url.socket_addrs(|| None).expect("it has an address");
    let mut crowd = Vec::new();
    for number in 0..IDLE + SLOW {
        let mut client = TcpStream::connect(addresses[0]).await.expect("it accepts");
        if number >= IDLE {
            client
                .write_all(b"GET /checkin/on-time/0 HTTP/1.1\r\nHost: x\r\nX-Slow: ")
                .await
                .expect("it reads");
        }
        crowd.push(client);
    }
    cast.goes_silent(&fleet).await;
    for _ in 0..10 {
        for client in &mut crowd[IDLE..] {
            // One that was cut off has met its end already.
            client.write_all(b"x").await.ok();
        }
        cast.further(50, SOON).await;
    }
    cast.misses_are_told(&fleet, Duration::from_secs(5) + SLACK).await;
    assert_eq!(fleet.holder().await, Some(0));
    assert_eq!(audit::reigns(&fleet.db).await.len(), 1);
    drop(crowd);
    cast.end(&mut fleet, Allowed::within(Duration::from_secs(5))).await;
}
