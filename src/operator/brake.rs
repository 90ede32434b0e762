//! When missing objects are believed to be gone. Pure.
//!
//! A wrong kubeconfig, a definition that was deleted, rights that were narrowed and a changed selector all look like
//! "everything was deleted". Silence is the one fault that GoTel may not have: so when many are missing at once,
//! nothing is let go, and people are told. What is missing in the watch is asked for by name before it is let go: an
//! object that is there, and only not selected any more, was not deleted.

/// Fewer missing objects than this never pull the brake.
pub const FEW: usize = 10;

/// Whether so many missing of so many are too many to be believed: more than ten, and more than a fifth.
pub fn pulled(missing: usize, owned: usize) -> bool {
    missing > FEW.max(owned / 5)
}

/// Why missing objects are not believed to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The definition was deleted, or made anew.
    Replaced,
    /// Too many at once.
    Many,
    /// None is there, and whether this is their cluster may not be looked at.
    Unidentified,
    /// They are there: only the watch does not have them.
    Unselected,
    /// Whether they are there is not answered.
    Unanswered,
}

impl Why {
    /// Why all of what is missing is to be kept, if so; `identified`: the cluster is known to be the one that they
    /// were in.
    pub fn all(missing: usize, owned: usize, replaced: bool, identified: bool) -> Option<Self> {
        match missing {
            0 => None,
            _ if replaced => Some(Self::Replaced),
            _ if pulled(missing, owned) => Some(Self::Many),
            _ if missing == owned && !identified => Some(Self::Unidentified),
            _ => None,
        }
    }

    /// In words that follow "and".
    pub fn says(self) -> &'static str {
        match self {
            Self::Replaced => "the definition reservations.gotel.dev was deleted",
            Self::Many => "more than a fifth is missing at once",
            Self::Unidentified => {
                "it is not known whether this is their cluster, as the namespace kube-system may not be read"
            }
            Self::Unselected => {
                "they are there, without the labels that are looked for: the selector may have changed \
                 (`kubernetes.selector`)"
            }
            Self::Unanswered => "whether they still exist is not answered",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Replaced | Self::Many => "Apply the objects again",
            Self::Unidentified => "Let GoTel read kube-system (rbac.identity), or apply the objects again",
            Self::Unselected => "Put the selector or the labels right, or delete the objects",
            Self::Unanswered => "Let GoTel's account get reservations",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, 0, false)]
    #[case(10, 10, false)]
    #[case(11, 11, true)]
    #[case(11, 54, true)]
    #[case(11, 55, false)]
    #[case(20, 100, false)]
    #[case(21, 100, true)]
    #[case(10_000, 10_000, true)]
    fn more_than_ten_and_more_than_a_fifth_are_too_many(
        #[case] missing: usize,
        #[case] owned: usize,
        #[case] right: bool,
    ) {
        assert_eq!(pulled(missing, owned), right);
    }

    #[rstest]
    #[case::nothing(0, 3, true, false, None)]
    #[case::some(1, 3, false, false, None)]
    #[case::definition(1, 3, true, true, Some(Why::Replaced))]
    #[case::many(11, 11, false, false, Some(Why::Many))]
    #[case::all_of_a_known_cluster(3, 3, false, true, None)]
    #[case::all_of_whichever(3, 3, false, false, Some(Why::Unidentified))]
    fn what_looks_like_a_mistake_is_kept(
        #[case] missing: usize,
        #[case] owned: usize,
        #[case] replaced: bool,
        #[case] identified: bool,
        #[case] right: Option<Why>,
    ) {
        assert_eq!(Why::all(missing, owned, replaced, identified), right);
    }
}
