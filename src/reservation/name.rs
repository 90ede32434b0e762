//! Who a reservation belongs to: `(app, component)`, compared byte for byte (design 2.1).
//!
//! Promises: a [`Name`] that exists is fit for a row, a log line and a subject; two pairs of names that differ have
//! different digests. Does not promise that names that look alike are the same: nothing is folded, `A` is not `a`
//! and a composed `é` is not a decomposed one.

use super::{Invalid, invalid::shown};
use sha2::{Digest, Sha256};
use std::fmt;

/// Longest name, in characters.
pub const NAME_MAX: usize = 150;

/// The app that is GoTel itself.
pub const SYSTEM_APP: &str = "gotel";

/// One name: 1 to 150 characters, no control characters, no space at either end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// The identity of a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey {
    /// The application.
    pub app: Name,
    /// The part of it that is scheduled.
    pub component: Name,
}

impl Name {
    /// Parses the name given in `field`; the error names that field (design 2.1).
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new(field, "is empty: give 1 to 150 characters"));
        }
        let length = text.chars().count();
        if length > NAME_MAX {
            return Err(Invalid::new(field, format!("has {length} characters: give at most {NAME_MAX}")));
        }
        if text.chars().any(char::is_control) {
            let message = format!("{} has a control character: use printable characters only", shown(text));
            return Err(Invalid::new(field, message));
        }
        if text.trim() != text {
            let message = format!("{} begins or ends with a space: remove it", shown(text));
            return Err(Invalid::new(field, message));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JobKey {
    /// Parses a client's pair of names. `gotel` as app is reserved for GoTel itself and refused (design 2.1).
    pub fn parse(app: &str, component: &str) -> Result<Self, Invalid> {
        let key = Self { app: Name::parse("app", app)?, component: Name::parse("component", component)? };
        if key.is_system() {
            return Err(Invalid::new("app", "`gotel` is reserved for GoTel itself: choose another name"));
        }
        Ok(key)
    }

    /// A key under GoTel's own app, for what GoTel says about itself. Clients can never make one.
    ///
    /// Errors when `component` is no name.
    pub fn system(component: &str) -> Result<Self, Invalid> {
        Ok(Self { app: Name(SYSTEM_APP.to_owned()), component: Name::parse("component", component)? })
    }

    /// Whether this is GoTel's own (`gotel/…`).
    pub fn is_system(&self) -> bool {
        self.app.as_str() == SYSTEM_APP
    }

    /// The fixed-length key of the row: hex SHA-256 of `len(app) | app | component` (64 characters; the length as
    /// eight bytes, big endian), with the length so that ("ab","c") and ("a","bc") differ.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.app.0.len() as u64).to_be_bytes());
        hash.update(self.app.0.as_bytes());
        hash.update(self.component.0.as_bytes());
        hex::encode(hash.finalize())
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.component)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::one_character("a")]
    #[case::inner_space("a b")]
    #[case::slash("a/b")]
    #[case::not_ascii("größe 漢字 🦀")]
    fn a_usable_name_is_kept_as_written(#[case] text: &str) {
        assert_eq!(Name::parse("app", text).unwrap().as_str(), text);
    }

    #[rstest]
    #[case::empty("", "empty")]
    #[case::leading_space(" a", "space")]
    #[case::trailing_space("a ", "space")]
    #[case::wide_space("a\u{3000}", "space")]
    #[case::newline("a\nb", "control")]
    #[case::nul("a\0b", "control")]
    #[case::next_line("a\u{85}b", "control")]
    fn an_unusable_name_is_refused_with_why(#[case] text: &str, #[case] why: &str) {
        let error = Name::parse("component", text).unwrap_err();
        assert_eq!(error.field, "component");
        assert!(error.message.contains(why), "{error}");
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert!(Name::parse("app", &"漢".repeat(150)).is_ok());
        let error = Name::parse("app", &"漢".repeat(151)).unwrap_err();
        assert!(error.message.contains("151") && error.message.contains("150"), "{error}");
    }

    #[test]
    fn the_app_gotel_is_reserved_and_only_it() {
        let error = JobKey::parse("gotel", "x").unwrap_err();
        assert_eq!(error.field, "app");
        assert!(error.message.contains("reserved"), "{error}");
        assert!(JobKey::parse("Gotel", "x").is_ok());
        assert!(JobKey::parse("gotel2", "x").is_ok());
        let own = JobKey::system("database").unwrap();
        assert_eq!(own.to_string(), "gotel/database");
        assert!(own.is_system());
    }

    #[test]
    fn names_are_compared_byte_for_byte() {
        assert_ne!(JobKey::parse("A", "b").unwrap(), JobKey::parse("a", "b").unwrap());
        assert_ne!(JobKey::parse("\u{e9}", "b").unwrap(), JobKey::parse("e\u{301}", "b").unwrap());
    }

    #[test]
    fn the_digest_is_fixed_for_ever() {
        // A changed digest would orphan every stored row.
        let digest = JobKey::parse("billing", "nightly").unwrap().digest();
        let mut hash = Sha256::new();
        hash.update([0, 0, 0, 0, 0, 0, 0, 7]);
        hash.update(b"billingnightly");
        assert_eq!(digest, hex::encode(hash.finalize()));
        assert_eq!(digest.len(), 64);
    }

    #[test]
    fn the_same_letters_split_elsewhere_are_another_key() {
        assert_ne!(JobKey::parse("ab", "c").unwrap().digest(), JobKey::parse("a", "bc").unwrap().digest());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn parsing_never_panics_and_keeps_what_it_accepts(text in any::<String>()) {
            if let Ok(name) = Name::parse("app", &text) {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert!(text.chars().count() <= NAME_MAX);
            }
        }
    }
}
