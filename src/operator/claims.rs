//! Which namespace may claim which app. Pure.
//!
//! Promises: without a word about it every namespace may claim every app; with one, only what is named may be claimed.
//! Does not promise anything about what was claimed before: it stays watched, and can be changed by nobody who may not
//! claim it now.

use crate::reservation::Invalid;
use crate::reservation::name::NAME_MAX;
use std::collections::BTreeMap;

/// Namespace → apps; an app that ends in `*` stands for all that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims(BTreeMap<String, Vec<String>>);

impl Claims {
    /// Reads `kubernetes.claims`; `is_namespace`: what is a name of one.
    ///
    /// # Errors
    /// The first entry that is wrong.
    pub(super) fn parse(
        written: BTreeMap<String, Vec<String>>,
        is_namespace: impl Fn(&str) -> bool,
    ) -> Result<Self, Invalid> {
        if written.is_empty() {
            return Err(Invalid::new(
                "kubernetes.claims",
                "names no namespace, so that none may claim anything; leave it out to let all claim what they like",
            ));
        }
        for (namespace, apps) in &written {
            if !is_namespace(namespace) {
                return Err(Invalid::new(
                    "kubernetes.claims",
                    format!("{namespace:?} is no name of a namespace"),
                ));
            }
            for (n, app) in apps.iter().enumerate() {
                let name = app.strip_suffix('*').unwrap_or(app);
                if app.is_empty() || name.contains('*') || app.chars().count() > NAME_MAX {
                    return Err(Invalid::new(
                        format!("kubernetes.claims.{namespace}[{n}]"),
                        "must be an app, or how its name begins and a *, such as billing or billing-*",
                    ));
                }
            }
        }
        Ok(Self(written))
    }

    /// Whether this namespace may claim this app.
    pub fn allow(&self, namespace: &str, app: &str) -> bool {
        self.of(namespace).iter().any(|entry| match entry.strip_suffix('*') {
            Some(begin) => app.starts_with(begin),
            None => app == entry,
        })
    }

    /// What this namespace may claim, as written.
    pub fn of(&self, namespace: &str) -> &[String] {
        self.0.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn claims(yaml: &str) -> Result<Claims, Invalid> {
        Claims::parse(serde_yaml::from_str(yaml).unwrap(), |name| !name.contains(' '))
    }

    #[rstest]
    #[case::named("billing", "invoices", true)]
    #[case::another_of_it("billing", "invoices-eu", false)]
    #[case::begin("billing", "pay-roll", true)]
    #[case::the_begin_alone("billing", "pay-", true)]
    #[case::before_it("billing", "pay", false)]
    #[case::of_another("shop", "invoices", false)]
    #[case::all("platform", "anything", true)]
    #[case::nothing("idle", "invoices", false)]
    #[case::not_named("other", "invoices", false)]
    fn a_namespace_claims_what_is_named_for_it(
        #[case] namespace: &str,
        #[case] app: &str,
        #[case] right: bool,
    ) {
        let claims =
            claims("{billing: [invoices, 'pay-*'], shop: [orders], platform: ['*'], idle: []}").unwrap();
        assert_eq!(claims.allow(namespace, app), right);
    }

    #[rstest]
    #[case::empty("{}", "kubernetes.claims", "leave it out")]
    #[case::namespace("{'a b': [x]}", "kubernetes.claims", "\"a b\" is no name")]
    #[case::no_app("{a: [x, '']}", "kubernetes.claims.a[1]", "such as billing")]
    #[case::star_within("{a: ['x*y']}", "kubernetes.claims.a[0]", "such as billing")]
    fn an_entry_that_cannot_be_meant_is_refused(
        #[case] yaml: &str,
        #[case] field: &str,
        #[case] remedy: &str,
    ) {
        let invalid = claims(yaml).unwrap_err();
        assert_eq!(invalid.field, field);
        assert!(invalid.message.contains(remedy), "{invalid}");
    }
}
