//! Whom a reservation names. Addresses are parsed here once; nothing later re-validates them.
//!
//! Promises: every entry is one printable line of at most 254 characters, and every entry with an `@` is a mail
//! address by RFC 5321/5322 syntax. Does not promise that anybody reads mail there.

use super::{Invalid, invalid::shown};
use email_address::{EmailAddress, Options};

/// Most entries of one list.
pub const NOTIFY_MAX: usize = 20;
/// Longest entry in characters; also the longest address SMTP can carry (RFC 5321 4.5.3.1.3).
pub const ENTRY_MAX: usize = 254;

/// At most 20 entries. An entry with an `@` must be a mail address; one without is a label (a person, a
/// channel): shown and rendered, never mailed to. CR, LF, NUL and other control characters are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyList(Vec<String>);

impl NotifyList {
    /// Parses either a comma-separated string (one item) or a list of strings. Blank entries are dropped; an empty
    /// list is allowed. The error's field is `notify`, or `notify[3]` (0-based) when one of several is wrong.
    pub fn parse(entries: &[String]) -> Result<Self, Invalid> {
        let parts: Vec<&str> = match entries {
            [one] => one.split(',').collect(),
            several => several.iter().map(String::as_str).collect(),
        };
        if parts.iter().filter(|part| !part.trim().is_empty()).count() > NOTIFY_MAX {
            return Err(Invalid::new(
                "notify",
                format!("has more than {NOTIFY_MAX} entries: name a group address instead"),
            ));
        }
        let mut list: Vec<String> = Vec::new();
        for (n, part) in parts.iter().enumerate() {
            // Spaces go, control characters stay: a trailing line break is refused rather than forgiven, as it is
            // the mark of a header injection.
            let entry = part.trim_matches(' ');
            if entry.is_empty() {
                continue;
            }
            let field = if parts.len() > 1 { format!("notify[{n}]") } else { "notify".to_owned() };
            check(entry).map_err(|message| Invalid::new(field, message))?;
            if !list.iter().any(|known| known == entry) {
                list.push(entry.to_owned());
            }
        }
        Ok(Self(list))
    }

    /// A list that was parsed before it was stored.
    pub(super) fn from_stored(entries: Vec<String>) -> Self {
        Self(entries)
    }

    /// Every entry, as written and trimmed, without repeats.
    pub fn entries(&self) -> &[String] {
        &self.0
    }

    /// Those that mail can be sent to.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).filter(|entry| entry.contains('@'))
    }

    /// Comma-separated, as in GoTel 0.1.
    pub fn joined(&self) -> String {
        self.0.join(",")
    }
}

/// What is wrong with one trimmed entry.
fn check(entry: &str) -> Result<(), String> {
    if entry.chars().any(char::is_control) {
        return Err(format!("{} has a control character: use printable characters only", shown(entry)));
    }
    if entry.chars().count() > ENTRY_MAX || (entry.contains('@') && entry.len() > ENTRY_MAX) {
        return Err(format!("{} is too long: give at most {ENTRY_MAX} characters", shown(entry)));
    }
    // A comma would split the entry in two once the list is shown joined.
    if entry.contains(',') {
        return Err(format!("{} has a comma: give each entry on its own", shown(entry)));
    }
    if entry.contains('@') {
        let options = Options::default().without_display_text().without_domain_literal();
        if let Err(error) = EmailAddress::parse_with_options(entry, options) {
            return Err(format!(
                "{} is no mail address ({error}): write `name@example.org`, or leave out the `@` for a mere label",
                shown(entry)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn list(entries: &[&str]) -> Result<NotifyList, Invalid> {
        NotifyList::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[rstest]
    #[case::none(&[], "")]
    #[case::empty_text(&[""], "")]
    #[case::one(&["a@example.org"], "a@example.org")]
    #[case::comma_separated(&["a@example.org, b@example.org"], "a@example.org,b@example.org")]
    #[case::listed(&["a@example.org", "oncall"], "a@example.org,oncall")]
    #[case::blanks_dropped(&["a@example.org,,"], "a@example.org")]
    #[case::repeats_dropped(&["x", "x"], "x")]
    #[case::plus_and_quotes(&["a+b@example.org", "\"a b\"@example.org"], "a+b@example.org,\"a b\"@example.org")]
    #[case::no_dot_needed(&["root@localhost"], "root@localhost")]
    #[case::readme_example_of_0_1(&["[email protected]"], "[email protected]")]
    fn a_usable_list_is_kept(#[case] entries: &[&str], #[case] joined: &str) {
        assert_eq!(list(entries).unwrap().joined(), joined);
    }

    #[rstest]
    #[case::two_ats(&["a@b@c"], "notify")]
    #[case::no_name(&["@example.org"], "notify")]
    #[case::no_domain(&["a@"], "notify")]
    #[case::display_text(&["A <a@example.org>"], "notify")]
    #[case::of_several(&["ok", "fine", "a@example.org", "a@@b"], "notify[3]")]
    #[case::of_a_comma_list(&["ok,a@@b"], "notify[1]")]
    #[case::header_injection(&["a@example.org\r\nBcc: b@example.org"], "notify")]
    #[case::trailing_line_break(&["label\n"], "notify")]
    #[case::nul(&["la\0bel"], "notify")]
    #[case::comma_in_a_list(&["a,b", "c"], "notify[0]")]
    fn an_unusable_entry_is_named(#[case] entries: &[&str], #[case] field: &str) {
        let error = list(entries).unwrap_err();
        assert_eq!(error.field, field);
        assert!(!error.message.contains(['\r', '\n']));
    }

    #[test]
    fn more_than_twenty_entries_are_refused() {
        let entries: Vec<String> = (0..21).map(|n| format!("p{n}")).collect();
        assert!(NotifyList::parse(&entries[..20]).is_ok());
        assert_eq!(NotifyList::parse(&entries).unwrap_err().field, "notify");
        assert_eq!(NotifyList::parse(&[entries.join(",")]).unwrap_err().field, "notify");
    }

    #[test]
    fn an_entry_longer_than_254_characters_is_refused() {
        assert!(list(&[&"x".repeat(254)]).is_ok());
        assert!(list(&[&"x".repeat(255)]).is_err());
    }

    #[test]
    fn labels_are_never_mailed_to() {
        let list = list(&["oncall", "a@example.org", "#ops"]).unwrap();
        assert_eq!(list.addresses().collect::<Vec<_>>(), ["a@example.org"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn no_accepted_entry_can_break_a_mail_header(text in any::<String>()) {
            if let Ok(list) = NotifyList::parse(&[text]) {
                for entry in list.entries() {
                    prop_assert!(!entry.chars().any(char::is_control));
                    prop_assert!(!entry.contains(','));
                }
            }
        }
    }
}
