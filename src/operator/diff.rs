//! What an object asks for against what is stored: what is to be done. Pure.
//!
//! Promises: the first claim wins; nothing is taken from another object, and from the API only by the annotation;
//! what is as it should be is not written.

use crate::store::{Plan, RENEW_BELOW_MS, Stored, Wish};

/// What is to be done about `wish`; `adopt`: it may be taken over from the API.
pub fn plan(wish: &Wish<'_>, adopt: bool, stored: Option<&Stored>) -> Plan {
    let Some(stored) = stored else { return Plan::Write };
    let Some(held) = &stored.held else {
        // What was ended belongs to nobody.
        return if stored.checked_out || adopt { Plan::Write } else { Plan::HeldByApi };
    };
    if !held.object.same_name(wish.object) {
        return Plan::HeldByObject(held.object.clone());
    }
    // A name belongs to one object at a time: the former one is gone.
    if held.object.uid != wish.object.uid {
        return Plan::Write;
    }
    if wish.generation < held.generation {
        return Plan::Stale;
    }
    let left_ms = stored.snooze_until_ms.map_or(0, |until| until - stored.now_ms);
    let as_wished = !stored.checked_out
        && held.generation == wish.generation
        && held.reclaim == wish.reclaim
        && held.suspended == wish.suspend
        && held.orphaned_ms.is_none()
        && (!wish.suspend || left_ms >= RENEW_BELOW_MS)
        && stored.settings == wish.settings.to_stored();
    if as_wished { Plan::Keep } else { Plan::Write }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reservation::{Draft, Settings};
    use crate::store::{Held, ObjectId, Reclaim};
    use rstest::rstest;

    const NOW: i64 = 1_767_323_045_000;

    fn settings(every: &str) -> Settings {
        Settings::parse(&Draft { every: Some(every.into()), ..Draft::default() }, &[], NOW).unwrap()
    }

    fn object(namespace: &str, uid: &str) -> ObjectId {
        ObjectId {
            cluster: "eu-1".into(),
            namespace: namespace.into(),
            name: "nightly".into(),
            uid: uid.into(),
        }
    }

    /// Held by `billing/nightly` (uid `u1`) at generation 2.
    fn stored() -> Stored {
        Stored {
            settings: settings("1h").to_stored(),
            checked_out: false,
            snooze_until_ms: None,
            now_ms: NOW,
            held: Some(Held {
                object: object("billing", "u1"),
                generation: 2,
                reclaim: Reclaim::Delete,
                suspended: false,
                orphaned_ms: None,
            }),
        }
    }

    fn held(change: impl FnOnce(&mut Held)) -> Stored {
        let mut stored = stored();
        change(stored.held.as_mut().unwrap());
        stored
    }

    #[rstest]
    #[case::as_it_is(stored(), Plan::Keep)]
    #[case::edited(Stored { settings: settings("2h").to_stored(), ..stored() }, Plan::Write)]
    #[case::ended_by_an_old_replica(Stored { checked_out: true, ..stored() }, Plan::Write)]
    #[case::older_generation(held(|h| h.generation = 1), Plan::Write)]
    #[case::newer_generation(held(|h| h.generation = 3), Plan::Stale)]
    #[case::made_again(held(|h| h.object.uid = "u0".into()), Plan::Write)]
    #[case::made_again_at_a_lower_generation(held(|h| { h.object.uid = "u0".into(); h.generation = 9 }), Plan::Write)]
    #[case::reclaim(held(|h| h.reclaim = Reclaim::Retain), Plan::Write)]
    #[case::resumed(held(|h| h.suspended = true), Plan::Write)]
    #[case::found_again(held(|h| h.orphaned_ms = Some(1)), Plan::Write)]
    #[case::of_another(held(|h| h.object = object("other", "u9")), Plan::HeldByObject(object("other", "u9")))]
    #[case::an_orphan_of_another(held(|h| { h.object = object("other", "u9"); h.orphaned_ms = Some(1) }),
        Plan::HeldByObject(object("other", "u9")))]
    #[case::of_the_api(Stored { held: None, ..stored() }, Plan::HeldByApi)]
    #[case::ended_by_the_api(Stored { held: None, checked_out: true, ..stored() }, Plan::Write)]
    fn an_object_does_what_is_its_own_to_do(#[case] stored: Stored, #[case] right: Plan) {
        let (settings, object) = (settings("1h"), object("billing", "u1"));
        let wish = Wish {
            object: &object,
            generation: 2,
            settings: &settings,
            reclaim: Reclaim::Delete,
            suspend: false,
            likely_kept: true,
        };
        assert_eq!(plan(&wish, false, Some(&stored)), right);
        assert_eq!(plan(&wish, false, None), Plan::Write);
        let adopting = if right == Plan::HeldByApi { Plan::Write } else { right };
        assert_eq!(plan(&wish, true, Some(&stored)), adopting, "the annotation takes from the API only");
    }

    #[rstest]
    #[case::new(None, false, Plan::Write)]
    #[case::with_time_left(Some(NOW + RENEW_BELOW_MS), true, Plan::Keep)]
    #[case::to_be_renewed(Some(NOW + RENEW_BELOW_MS - 1), true, Plan::Write)]
    fn a_suspension_is_renewed_before_it_ends(
        #[case] until_ms: Option<i64>,
        #[case] suspended: bool,
        #[case] right: Plan,
    ) {
        let (settings, object) = (settings("1h"), object("billing", "u1"));
        let wish = Wish {
            object: &object,
            generation: 2,
            settings: &settings,
            reclaim: Reclaim::Delete,
            suspend: true,
            likely_kept: true,
        };
        let stored = Stored { snooze_until_ms: until_ms, ..held(|h| h.suspended = suspended) };
        assert_eq!(plan(&wish, false, Some(&stored)), right);
    }
}
