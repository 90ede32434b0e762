//! When missing objects are believed to be gone. Pure.
//!
//! A wrong kubeconfig, a definition that was deleted, rights that were narrowed and a changed selector all look like
//! "everything was deleted". Silence is the one fault that GoTel may not have: so when many are missing at once,
//! nothing is let go, and people are told.

/// Fewer missing objects than this never pull the brake.
pub const FEW: usize = 10;

/// Whether so many missing of so many are too many to be believed: more than ten, and more than a fifth.
pub fn pulled(missing: usize, owned: usize) -> bool {
    missing > FEW.max(owned / 5)
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
}
