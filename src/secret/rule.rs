//! What to make of a look at the files of a secret. Pure.
//!
//! Promises: nothing is taken, and nothing complained of, that was not seen alike at two looks in a row. So a
//! file that is being written, one that is away for a moment, and files that are replaced one after the other
//! change nothing. What is broken leaves in use what was in use, and is complained of once, until it is broken
//! in another way.

/// SHA-256 of everything the files hold: the rule keeps no secret.
pub(super) type Digest = [u8; 32];

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// All files could be read.
    Content(Digest),
    /// One could not, and why.
    Unreadable(String),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// Nothing.
    Rest,
    /// Try the content, and tell the rule whether it was [`Standing::taken`] or [`Standing::refused`].
    Try,
    /// Say what is wrong ([`Standing::trouble`]).
    Complain,
    /// Say that it is well again.
    Heal,
}

/// What is known of the files of one secret.
#[derive(Debug, Default)]
pub(super) struct Standing {
    in_use: Option<Digest>,
    last: Option<Seen>,
    trouble: Option<String>,
}

impl Standing {
    /// Takes a look in.
    pub(super) fn see(&mut self, seen: Seen) -> Move {
        let twice = self.last.as_ref() == Some(&seen);
        let step = match &seen {
            // Nothing to wait for: it is in use already.
            Seen::Content(digest) if self.in_use == Some(*digest) => self.well(),
            _ if !twice => Move::Rest,
            Seen::Content(_) => Move::Try,
            Seen::Unreadable(why) => self.ill(why),
        };
        self.last = Some(seen);
        step
    }

    /// What was tried is in use now.
    pub(super) fn taken(&mut self, digest: Digest) -> Move {
        self.in_use = Some(digest);
        self.well()
    }

    /// What was tried does not serve.
    pub(super) fn refused(&mut self, why: &str) -> Move {
        self.ill(why)
    }

    /// What is wrong with the files; None: what they hold is in use.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn well(&mut self) -> Move {
        if self.trouble.take().is_some() { Move::Heal } else { Move::Rest }
    }

    fn ill(&mut self, why: &str) -> Move {
        if self.trouble.as_deref() == Some(why) {
            return Move::Rest;
        }
        self.trouble = Some(why.to_owned());
        Move::Complain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// One letter a look: lower case a content that serves, upper case one that does not, `-` no file, `!` a
    /// folder in its place. What is said, in order: `=a` taken, `+` well again, `~` a complaint.
    #[rstest]
    #[case::nothing_changes("aaaa", "=a")]
    #[case::another_value("aabbb", "=a=b")]
    #[case::seen_once("aaba", "=a")]
    #[case::half_written("aabcc", "=a=c")]
    #[case::away_for_a_moment("aa-aa", "=a")]
    #[case::away_for_a_moment_and_another("aa-bb", "=a=b")]
    #[case::away("aa----", "=a~")]
    #[case::away_and_back("aa---a", "=a~+")]
    #[case::away_and_another("aa---bb", "=a~=b+")]
    #[case::broken("aaBBBB", "=a~")]
    #[case::broken_and_healed_by_the_old_one("aaBBa", "=a~+")]
    #[case::broken_and_healed_by_a_new_one("aaBBcc", "=a~=c+")]
    #[case::broken_in_another_way("aaBB--!!BB", "=a~~~~")]
    #[case::never_the_same("aabcbcbc", "=a")]
    #[case::broken_from_the_start("BBBaa", "~=a+")]
    #[case::there_and_back("aabbaa", "=a=b=a")]
    fn a_look_leads_to(#[case] looks: &str, #[case] said: &str) {
        let mut standing = Standing::default();
        let mut heard = String::new();
        for look in looks.chars() {
            let seen = match look {
                '-' => Seen::Unreadable("no file".into()),
                '!' => Seen::Unreadable("a folder".into()),
                letter => Seen::Content([letter as u8; 32]),
            };
            let mut step = standing.see(seen);
            if step == Move::Try && look.is_lowercase() {
                heard.extend(['=', look]);
                step = standing.taken([look as u8; 32]);
            } else if step == Move::Try {
                step = standing.refused(&format!("{look} does not serve"));
            }
            match step {
                Move::Rest => {}
                Move::Complain => heard.push('~'),
                Move::Heal => heard.push('+'),
                Move::Try => unreachable!("tried already"),
            }
        }
        assert_eq!(heard, said);
        assert_eq!(standing.trouble().is_some(), said.ends_with('~'));
    }
}
