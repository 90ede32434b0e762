//! Who hears of an event: from a reservation's wishes and the configured alerters to targets.

use super::Settings;

/// What the rules need to know of a configured alerter.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Card {
    /// Its name in the configuration.
    pub name: String,
    /// Whether reservations that name no alerter use it.
    pub default: bool,
    /// Whether each notified address gets a delivery of its own (mail); else there is one target.
    pub per_address: bool,
    /// Whether its receiver folds repeats by key and closes by key (PagerDuty): it always gets the
    /// trigger and then the resolve, never a combined message.
    pub folds: bool,
    /// Addresses used when a reservation names none. Never empty where `per_address`.
    pub fallback: Vec<String>,
}

/// One (alerter, recipient).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Target {
    /// The alerter's name.
    pub alerter: String,
    /// Address, or "" for the alerter's one target.
    pub recipient: String,
}

/// All configured alerters, and what is known of those that only other replicas have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    own: Vec<Card>,
    elsewhere: Vec<Card>,
}

impl Routes {
    /// The alerters as configured, in order.
    pub fn new(cards: Vec<Card>) -> Self {
        Self { own: cards, elsewhere: Vec::new() }
    }

    /// The same, knowing the alerters of other replicas: what names one is planned as that replica would.
    pub fn with_elsewhere(&self, cards: Vec<Card>) -> Self {
        Self { own: self.own.clone(), elsewhere: cards }
    }

    /// The alerters as configured, in order.
    pub fn cards(&self) -> &[Card] {
        &self.own
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.own.iter().map(|c| c.name.clone()).collect()
    }

    /// The alerter of this name; its own comes before another replica's.
    pub fn card(&self, name: &str) -> Option<&Card> {
        self.own.iter().chain(&self.elsewhere).find(|c| c.name == name)
    }

    /// Whether the alerter's receiver folds by key.
    pub fn folds(&self, name: &str) -> bool {
        self.card(name).is_some_and(|c| c.folds)
    }

    /// Targets of a reservation's own events. Never empty while anything is configured: a name that is
    /// no longer configured still gets its row, which falls to the default alerters if nobody has it.
    pub fn targets(&self, settings: &Settings) -> Vec<Target> {
        if settings.alerters.is_empty() {
            let addresses: Vec<_> = settings.notify.addresses().map(str::to_owned).collect();
            return self.defaults(&addresses, None);
        }
        self.named(&settings.alerters, settings)
    }

    /// Targets of one escalation step.
    pub fn escalation(&self, settings: &Settings, step: usize) -> Vec<Target> {
        settings.escalation.get(step).map_or_else(Vec::new, |e| self.named(&e.alerters, settings))
    }

    /// The default alerters' targets, leaving `except` out if there is any other. `addresses` may be empty.
    pub fn defaults(&self, addresses: &[String], except: Option<&str>) -> Vec<Target> {
        let usable: Vec<_> =
            self.own.iter().filter(|c| c.default && Some(c.name.as_str()) != except).collect();
        let usable = if usable.is_empty() {
            // Better over a channel that was not meant for it, or over the ailing one, than not at all.
            let others: Vec<_> = self.own.iter().filter(|c| Some(c.name.as_str()) != except).collect();
            if others.is_empty() { self.own.iter().collect() } else { others }
        } else {
            usable
        };
        unique(usable.into_iter().flat_map(|card| fan_out(card, addresses)).collect())
    }

    fn named(&self, names: &[String], settings: &Settings) -> Vec<Target> {
        let addresses: Vec<_> = settings.notify.addresses().map(str::to_owned).collect();
        let mut targets = Vec::new();
        for name in names {
            match self.card(name) {
                Some(card) => targets.extend(fan_out(card, &addresses)),
                None => targets.push(Target { alerter: name.clone(), recipient: String::new() }),
            }
        }
        unique(targets)
    }
}

fn fan_out(card: &Card, addresses: &[String]) -> Vec<Target> {
    let to = |recipient: &str| Target { alerter: card.name.clone(), recipient: recipient.to_owned() };
    if !card.per_address {
        return vec![to("")];
    }
    let addresses = if addresses.is_empty() { &card.fallback } else { addresses };
    addresses.iter().map(|a| to(a)).collect()
}

fn unique(mut targets: Vec<Target>) -> Vec<Target> {
    let mut seen = std::collections::HashSet::new();
    targets.retain(|t| seen.insert(t.clone()));
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reservation::Draft;

    fn card(name: &str, default: bool, per_address: bool) -> Card {
        let fallback = if per_address { vec!["ops@example.org".into()] } else { Vec::new() };
        Card { name: name.into(), default, per_address, folds: name == "pager", fallback }
    }

    fn routes() -> Routes {
        Routes::new(vec![card("mail", true, true), card("pager", false, false), card("chat", true, false)])
    }

    fn settings(alerters: &[&str], notify: &[&str]) -> Settings {
        let text = |items: &[&str]| Some(items.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let draft = Draft {
            every: Some("1h".into()),
            alerters: text(alerters).filter(|a| !a.is_empty()),
            notify: text(notify),
            ..Draft::default()
        };
        let known = ["mail", "pager", "chat", "gone", "far"].map(String::from);
        Settings::parse(&draft, &known, 0).unwrap()
    }

    fn names(targets: &[Target]) -> Vec<String> {
        targets.iter().map(|t| format!("{}:{}", t.alerter, t.recipient)).collect()
    }

    #[test]
    fn each_notified_address_gets_a_delivery_of_its_own_and_a_fixed_target_one() {
        let targets = routes().targets(&settings(&[], &["a@example.org", "b@example.org", "#ops"]));
        assert_eq!(names(&targets), ["mail:a@example.org", "mail:b@example.org", "chat:"]);
    }

    #[test]
    fn a_reservation_that_names_no_address_still_reaches_somebody() {
        assert_eq!(names(&routes().targets(&settings(&["mail"], &["Jim"]))), ["mail:ops@example.org"]);
    }

    #[test]
    fn named_alerters_replace_the_default_ones() {
        assert_eq!(names(&routes().targets(&settings(&["pager"], &["a@example.org"]))), ["pager:"]);
    }

    #[test]
    fn an_alerter_that_only_another_replica_has_is_planned_as_it_would_and_is_no_default() {
        let far = Card { fallback: vec!["far@example.org".into()], ..card("far", true, true) };
        let other = Card { folds: false, ..card("pager", false, false) };
        let routes = routes().with_elsewhere(vec![Card { folds: true, ..far }, other]);
        let named = |notify: &[&str]| {
            let settings = settings(&["far"], notify);
            names(&routes.targets(&settings))
        };
        assert_eq!(named(&["a@example.org"]), ["far:a@example.org"]);
        assert_eq!(named(&["Jim"]), ["far:far@example.org"]);
        assert!(routes.folds("far") && routes.folds("pager"), "its own comes first");
        assert_eq!(
            names(&routes.targets(&settings(&[], &["a@example.org"]))),
            ["mail:a@example.org", "chat:"]
        );
        assert_eq!(routes.names(), ["mail", "pager", "chat"]);
    }

    #[test]
    fn an_alerter_that_is_configured_no_longer_keeps_its_row() {
        assert_eq!(names(&routes().targets(&settings(&["gone"], &[]))), ["gone:"]);
    }

    #[test]
    fn trouble_with_an_alerter_is_told_over_the_others() {
        assert_eq!(names(&routes().defaults(&[], Some("mail"))), ["chat:"]);
        let only = Routes::new(vec![card("mail", true, true)]);
        assert_eq!(names(&only.defaults(&[], Some("mail"))), ["mail:ops@example.org"]);
        let no_default = Routes::new(vec![card("mail", true, true), card("pager", false, false)]);
        assert_eq!(names(&no_default.defaults(&[], Some("mail"))), ["pager:"]);
    }
}
