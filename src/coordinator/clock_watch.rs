//! Whether the database's clock jumped. Pure: times come as arguments.
//!
//! Promises: a jump is found by its size however long the looks took or lay apart: what the database's clock did
//! between two looks is compared with what this machine's boot clock did, and only what no order of events explains
//! is a jump. A replica whose own clock stood still (a machine that was paused from outside) does not call it one
//! while others have moved the mark. A jump that another replica has recorded is not found again.
//!
//! Does not promise: to tell a jump from an absence when nobody was there. Then a jump forward is an outage, which
//! gives jobs the same time; and one back shows by a mark that lies ahead.

use crate::reservation::outage::{CLOCK_JUMP_MS, OUTAGE_AFTER_MS, Outage};
use crate::store::{Mark, MarkFound};

/// What this process remembers of the clock.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClockWatch {
    last: Option<Mark>,
}

impl ClockWatch {
    /// What a look means.
    pub(super) fn judge(&self, mark: &Mark) -> MarkFound {
        let age_ms = mark.now_ms - mark.alive_ms;
        let step_ms = match &self.last {
            Some(last) => step_ms(last, mark),
            None => age_ms.min(0),
        };
        // The mark must show it, too: else it is this machine's own clock, or it is on record already.
        let jump_ms = match step_ms {
            forward if forward > CLOCK_JUMP_MS && age_ms > CLOCK_JUMP_MS => forward.min(age_ms),
            back if back < -CLOCK_JUMP_MS && age_ms < -CLOCK_JUMP_MS => back,
            _ => 0,
        };
        let to_ms = mark.now_ms - jump_ms.max(0);
        let away = to_ms - mark.alive_ms > OUTAGE_AFTER_MS;
        MarkFound { outage: away.then(|| Outage::away(mark.alive_ms, to_ms)), jump_ms }
    }

    /// A look is on record.
    pub(super) fn saw(&mut self, mark: Mark) {
        self.last = Some(mark);
    }
}

/// By how much the clock is off beyond what the two looks' own duration explains; then, the whole of it.
fn step_ms(last: &Mark, mark: &Mark) -> i64 {
    let progress = mark.now_ms - last.now_ms;
    let least = (mark.sent_boot_ms - last.heard_boot_ms).max(0);
    let most = mark.heard_boot_ms - last.sent_boot_ms;
    let off = progress - (least + most) / 2;
    let explained = (least - CLOCK_JUMP_MS..=most + CLOCK_JUMP_MS).contains(&progress);
    if explained { 0 } else { off }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: i64 = 1_800_000_000_000;
    const MIN: i64 = 60_000;

    fn mark(now: i64, alive: i64, sent: i64, heard: i64) -> Mark {
        Mark { now_ms: NOW + now, alive_ms: NOW + alive, sent_boot_ms: sent, heard_boot_ms: heard }
    }

    /// The look before: the database's 0 was read at boot time 1,000 to 1,002.
    fn watch() -> ClockWatch {
        let mut watch = ClockWatch::default();
        watch.saw(mark(0, -1000, 1000, 1002));
        watch
    }

    #[rstest]
    #[case::a_second_on(mark(1000, 0, 2000, 2002), 0, None)]
    #[case::nearly_off(mark(5900, 0, 2000, 2002), 0, None)]
    #[case::ten_minutes_ahead(mark(601_000, 0, 2000, 2002), 10 * MIN, None)]
    #[case::six_seconds_ahead(mark(7000, 0, 2000, 2002), 6000, None)]
    #[case::ten_minutes_back(mark(-599_000, 0, 2000, 2002), -10 * MIN, None)]
    #[case::a_slow_look(mark(8000, 0, 2000, 10_000), 0, None)]
    #[case::a_slow_look_that_cannot_explain_it(mark(70_000, 0, 2000, 10_000), 65_001, Some((0, 4999)))]
    #[case::frozen_and_back(mark(90_000, 0, 91_000, 91_002), 0, Some((0, 90_000)))]
    #[case::frozen_for_a_while(mark(20_000, 0, 21_000, 21_002), 0, None)]
    #[case::an_outage_and_a_jump(mark(690_000, 0, 91_000, 91_002), 10 * MIN, Some((0, 90_000)))]
    #[case::on_record_already(mark(601_000, 600_500, 2000, 2002), 0, None)]
    #[case::back_and_on_record(mark(-599_000, -599_500, 2000, 2002), 0, None)]
    #[case::paused_while_others_went_on(mark(601_000, 599_000, 2000, 2002), 0, None)]
    #[case::another_server_is_ahead(mark(1000, 60_000, 2000, 2002), 0, None)]
    fn a_look_means(#[case] look: Mark, #[case] jump: i64, #[case] outage: Option<(i64, i64)>) {
        let found = watch().judge(&look);
        assert_eq!(found.jump_ms, jump);
        // A slow look leaves some doubt when it began.
        let outage = outage.filter(|(from, to)| to - from > OUTAGE_AFTER_MS);
        assert_eq!(found.outage, outage.map(|(from, to)| Outage::away(NOW + from, NOW + to)));
    }

    #[rstest]
    #[case::at_once(mark(1000, 0, 10, 12), 0, false)]
    #[case::after_an_hour(mark(60 * MIN, 0, 10, 12), 0, true)]
    #[case::ahead_of_the_clock(mark(0, 60 * MIN, 10, 12), -60 * MIN, false)]
    #[case::a_little_ahead(mark(0, 4000, 10, 12), 0, false)]
    fn a_first_look_knows_only_the_mark(#[case] look: Mark, #[case] jump: i64, #[case] outage: bool) {
        let found = ClockWatch::default().judge(&look);
        assert_eq!((found.jump_ms, found.outage.is_some()), (jump, outage));
    }

    #[test]
    fn a_jump_is_found_once() {
        let mut watch = watch();
        let look = mark(601_000, 0, 2000, 2002);
        assert_ne!(watch.judge(&look).jump_ms, 0);
        watch.saw(look);
        assert_eq!(watch.judge(&mark(602_000, 601_000, 3000, 3002)), MarkFound::default());
    }
}
