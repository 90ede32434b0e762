//! Listings for pages: by name, with totals, and incidents page by page.

use super::Store;
use super::error::Result;
use super::session::{sql, transact};
use super::views::{
    Bind, FROM, FROM_OWNED, Filter, INCIDENT, IncidentView, Page, RULE, ReservationView, reservation,
    reservation_columns, with_deliveries,
};
use crate::reservation::State;
use sqlx::Row;

/// How many reservations match a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By state.
    pub by_state: Vec<(State, i64)>,
    /// Snoozed now.
    pub snoozed: i64,
    /// Late, failed or overrun, or with an open incident.
    pub bad: i64,
}

impl Store {
    /// Reservations matching `filter`, by name, after the pair of names `after`; and whether there are more.
    pub async fn list_by_name(
        &self,
        filter: &Filter,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<(Page<ReservationView>, bool)> {
        transact!(self.pooled().await?, RULE, |tx| {
            let now_ms = tx.now_ms().await?;
            let mut w = filter.conditions(&now_ms.to_string());
            if let Some((app, component)) = after {
                let binds = [app, app, component].map(|name| Bind::Text(name.to_owned()));
                w.and("(r.app > ? OR (r.app = ? AND r.component > ?))", binds);
            }
            let text = format!(
                "SELECT {} {FROM_OWNED}{} ORDER BY r.app, r.component LIMIT {}",
                reservation_columns(),
                w.text,
                limit + 1
            );
            let rows = tx.all(w.bind(sql(text))).await?;
            let items = rows.iter().take(limit).map(reservation).collect::<Result<Vec<_>>>()?;
            Ok((Page { items, now_ms, next: None }, rows.len() > limit))
        })
    }

    /// How many reservations match `filter`, whatever its state: by state, snoozed, and bad.
    pub async fn tally(&self, filter: &Filter) -> Result<Tally> {
        let all = Filter { state: None, bad: false, snoozed: false, ..filter.clone() };
        transact!(self.pooled().await?, RULE, |tx| {
            let now_ms = tx.now_ms().await?.to_string();
            let w = all.conditions(&now_ms);
            let text = format!(
                "SELECT r.state, COUNT(*), COUNT(CASE WHEN r.snooze_until_ms > {now_ms} THEN 1 END), \
                 COUNT(CASE WHEN r.state IN ('late', 'failed', 'overrun') OR i.id IS NOT NULL THEN 1 END) \
                 {FROM}{} GROUP BY r.state",
                w.text
            );
            let mut tally = Tally::default();
            for row in tx.all(w.bind(sql(text))).await? {
                // A word of a newer program is counted with those that wait: shown, if not by its name.
                let state = State::parse(&row.try_get::<String, _>(0)?).unwrap_or(State::Waiting);
                tally.by_state.push((state, row.try_get(1)?));
                tally.snoozed += row.try_get::<i64, _>(2)?;
                tally.bad += row.try_get::<i64, _>(3)?;
            }
            Ok(tally)
        })
    }

    /// Incidents of a reservation that were opened before the one at `before` (its moment and id), newest
    /// first, and whether there are more.
    pub async fn incidents_before(
        &self,
        id: i64,
        before: Option<(i64, String)>,
        limit: usize,
    ) -> Result<(Vec<IncidentView>, bool)> {
        transact!(self.pooled().await?, RULE, |tx| {
            let (opened, last) = before.clone().unwrap_or((i64::MAX, String::new()));
            let text = format!(
                "{INCIDENT} WHERE reservation_id = ? AND (opened_ms < ? OR (opened_ms = ? AND id < ?)) \
                 ORDER BY opened_ms DESC, id DESC LIMIT {}",
                limit + 1
            );
            let rows = tx.all(sql(text).bind(id).bind(opened).bind(opened).bind(last)).await?;
            Ok((with_deliveries(tx, &rows[..rows.len().min(limit)]).await?, rows.len() > limit))
        })
    }
}
