//! Verdicts and their evidence, in words for a tired person. Pure.

use super::ear::Heard;
use super::sight::Told;
use super::verdict::{Evidence, Finding, Verdict};
use crate::reservation::duration::human;
use crate::store::SystemKind;

/// What is known of a peer, for a sentence.
#[derive(Debug, Clone, Copy)]
pub struct Case<'c> {
    /// Its id.
    pub id: &'c str,
    /// This replica's id.
    pub own: &'c str,
    /// What is seen.
    pub evidence: &'c Evidence<'c>,
    /// What was heard, also long ago.
    pub heard: Option<&'c Heard>,
    /// Since when its row does not move, or is not there.
    pub still_since_boot_ms: i64,
    /// Whether it ever had a row since this process began.
    pub had_row: bool,
    /// How long a verdict must stand before it is believed.
    pub confirm_ms: i64,
    /// Now.
    pub boot_ms: i64,
}

/// The evidence, for the page and for a notice.
pub fn evidence(case: &Case<'_>, finding: &Finding) -> String {
    let mut sentences = vec![row(case), http(case)];
    if !finding.is_firm && finding.firm != Some(finding.verdict) {
        sentences.push(format!(
            "It looks so for {}, and is believed after {}.",
            human(case.boot_ms - finding.since_boot_ms),
            human(case.confirm_ms)
        ));
    }
    sentences.retain(|sentence| !sentence.is_empty());
    sentences.join(" ")
}

fn row(case: &Case<'_>) -> String {
    let for_ms = human(case.boot_ms - case.still_since_boot_ms);
    let e = case.evidence;
    if !e.db_ok {
        return "This replica does not reach the database, so it cannot see its row.".into();
    }
    match e.row {
        _ if e.left => format!("It left in order {for_ms} ago, and nobody is told."),
        None if case.had_row => format!("Its row is gone from the database for {for_ms}."),
        None => format!("It has had no row in the database since this replica began, {for_ms} ago."),
        Some(row) if row.moves => "Its row in the database moves.".into(),
        Some(_) => format!("Its row in the database has not moved for {for_ms}."),
    }
}

fn http(case: &Case<'_>) -> String {
    let e = case.evidence;
    if e.left {
        return String::new();
    }
    if !e.called {
        return "It is not on the list of peers.replicas here, so nobody calls it.".into();
    }
    if let Some(said) = e.said {
        return match said.db_lost_age_ms {
            None => "It speaks over HTTP and says that it has the database.".into(),
            Some(age) => format!("It speaks over HTTP and says that it has no database for {}.", human(age)),
        };
    }
    let last = match case.heard.and_then(|heard| heard.said.as_ref()) {
        Some(said) => format!("last heard {} ago", human(case.boot_ms - said.heard_boot_ms)),
        None => "never heard".into(),
    };
    match case.heard.and_then(|heard| heard.failure.as_deref()) {
        Some(failure) => format!("It does not answer over HTTP ({failure}; {last})."),
        None => format!("It does not answer over HTTP ({last})."),
    }
}

/// What a person is told, and what to do.
pub fn report(case: &Case<'_>, finding: &Finding) -> String {
    let (id, own) = (case.id, case.own);
    let seen = format!("{} {}", row(case), http(case));
    match finding.verdict {
        Verdict::CutFromDatabase => format!(
            "The replica {id} lives and does not reach the database, which answers {own}. Check-ins sent to {id} get \
             503; the others go on. Look at its network, its name look-up and its database password. {seen}"
        ),
        Verdict::Stuck => format!(
            "The replica {id} lives and does not do its work. Look at its /livez and its log, and restart it. {seen}"
        ),
        Verdict::SplitDatabase => format!(
            "{id} and {own} write into two databases: each calls its own fine and does not find the other's beats \
             there. Check-ins are divided between them, so jobs may be told as late that are not, and others may be \
             missed. Look at where the database URL of each leads (names, proxies, a fail-over); stop the replicas of \
             the wrong one first, and compare the data after that. {seen}"
        ),
        _ => format!(
            "The replica {id} is dead, or cut off from everything. The others go on: check-ins are taken and late \
             jobs are told as long as one of them lives. Look at its log, its machine and its network, and start it \
             again. If it is gone for good, take it out of peers.replicas of the others, restart them, and run: \
             gotel replica forget {id}. {seen}"
        ),
    }
}

/// What is told of a second process of one id.
pub fn duplicate(id: &str) -> String {
    format!(
        "Two processes use the replica id {id}. The second one takes check-ins and refuses to lead. Give each an id of \
         its own (replica:, --replica, GOTEL_REPLICA), or end one of them. The log of the second one says so, too."
    )
}

/// What was told without the database, for the page.
pub fn told(told: &Told) -> String {
    let ago = human(told.age_ms);
    if told.kind == SystemKind::DbGone.as_str() {
        return format!("The database takes no writes: told without it {ago} ago.");
    }
    format!("{} {}: told without the database {ago} ago.", told.kind, told.subject).replace(" :", ":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::verdict::RowSeen;

    fn said_of(evidence: &Evidence<'_>, heard: Option<&Heard>, verdict: Verdict) -> String {
        let case = Case {
            id: "us-1",
            own: "eu-1",
            evidence,
            heard,
            still_since_boot_ms: 10_000,
            had_row: true,
            confirm_ms: 30_000,
            boot_ms: 75_000,
        };
        let finding =
            Finding { verdict, since_boot_ms: 15_000, firm: Some(verdict), is_firm: true, page: true };
        format!("{}\n{}", super::evidence(&case, &finding), report(&case, &finding))
    }

    #[test]
    fn a_death_is_told_with_its_evidence_and_what_to_do() {
        let row = RowSeen { incarnation: "i", seq: 7, moves: false, watch_age_ms: None };
        let evidence = Evidence {
            db_ok: true,
            install_id: "house",
            row: Some(row),
            said: None,
            left: false,
            called: true,
        };
        let heard = Heard { failure: Some("cannot connect: refused".into()), ..Heard::default() };
        insta::assert_snapshot!(said_of(&evidence, Some(&heard), Verdict::Dead), @r"
        Its row in the database has not moved for 1m 5s. It does not answer over HTTP (cannot connect: refused; never heard).
        The replica us-1 is dead, or cut off from everything. The others go on: check-ins are taken and late jobs are told as long as one of them lives. Look at its log, its machine and its network, and start it again. If it is gone for good, take it out of peers.replicas of the others, restart them, and run: gotel replica forget us-1. Its row in the database has not moved for 1m 5s. It does not answer over HTTP (cannot connect: refused; never heard).
        ");
    }

    #[test]
    fn what_only_looks_so_says_for_how_long() {
        let evidence =
            Evidence { db_ok: true, install_id: "house", row: None, said: None, left: true, called: true };
        let case = Case {
            id: "us-1",
            own: "eu-1",
            evidence: &evidence,
            heard: None,
            still_since_boot_ms: 10_000,
            had_row: true,
            confirm_ms: 30_000,
            boot_ms: 15_000,
        };
        let finding = Finding {
            verdict: Verdict::Left,
            since_boot_ms: 10_000,
            firm: Some(Verdict::Healthy),
            is_firm: false,
            page: false,
        };
        assert_eq!(
            super::evidence(&case, &finding),
            "It left in order 5s ago, and nobody is told. It looks so for 5s, and is believed after 30s."
        );
    }
}
