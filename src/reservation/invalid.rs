//! What is wrong with one field, and what would be right.
//!
//! Promises: the field is spelled as the client spells it, the message is one sentence a person can act on, and
//! text echoed from a client is cut and escaped, so that a message is always one short printable line.

use std::borrow::Cow;

/// Longest piece of a client's text that a message repeats, in characters.
const SHOWN: usize = 60;

/// A refusal of something a client or an operator wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// The field as the client spells it: `frequency`, `cron`, `notify[3]`.
    pub field: Cow<'static, str>,
    /// One sentence: what is wrong, then what would be right.
    pub message: String,
}

impl Invalid {
    /// A refusal of `field`, explained by `message`.
    pub fn new(field: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A client's text as a message may repeat it: in backquotes, control characters escaped, at most 60 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::from("`");
    for (n, c) in text.chars().enumerate() {
        if n == SHOWN {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('`');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_one_short_printable_line() {
        assert_eq!(shown("a\r\nb"), "`a\\r\\nb`");
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), SHOWN + 3);
        assert_eq!(shown(""), "``");
    }

    #[test]
    fn a_refusal_reads_field_then_reason() {
        assert_eq!(Invalid::new("cron", "no").to_string(), "cron: no");
    }
}
