//! What alerters share in putting a notice into words.
//!
//! Promises: text that came from outside is stripped here of what could act instead of being read (control
//! characters, terminal escapes, direction overrides); times are UTC and say so; no clock is read.
//! Escaping for a particular channel (HTML, JSON) is that channel's matter.

use crate::reservation::duration::human;
use crate::reservation::{Event, Notice, Reason};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Whether a character acts on its surroundings instead of being shown: control characters (C0, C1, DEL)
/// and Unicode's direction overrides and isolates ("Trojan Source").
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// `text` on one line, with nothing in it that acts.
pub(super) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if !acts(c) => out.push(c),
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' if !out.ends_with(' ') => out.push(' '),
            _ => {}
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// `text` with its lines kept and nothing else in it that acts.
pub(super) fn lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}'], "\n");
    let kept: String =
        text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| *c == '\n' || !acts(*c)).collect();
    kept.trim_end().to_owned()
}

/// At most `max` characters (not bytes), the last one `…` if some had to go.
pub(super) fn clip(text: &str, max: usize) -> String {
    if text.chars().nth(max).is_none() {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(max.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// `2026-01-02 03:04:05 UTC`.
pub(super) fn time(ms: i64) -> String {
    shown(ms, "%Y-%m-%d %H:%M:%S UTC")
}

/// `2026-01-02T03:04:05.678Z`.
pub(super) fn rfc3339(ms: i64) -> String {
    shown(ms, "%Y-%m-%dT%H:%M:%S.%3fZ")
}

fn shown(ms: i64, format: &str) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => at.strftime(format).to_string(),
        // Before year -9999 or after 9999: no stored time is, but a notice must not be lost to it.
        Err(_) => format!("{ms} ms since 1970"),
    }
}

/// A name for the combination of `parts`: the same for the same parts, in their order.
pub(super) fn short_id(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..16])
}

/// Whether the event ends what an earlier one began.
pub(super) fn closes(event: Event) -> bool {
    matches!(event, Event::Resolve | Event::Cancel | Event::Recovered)
}

/// The state in a word or two, for where it stands alone.
pub(super) fn word(event: Event, reason: Reason) -> &'static str {
    match (event, reason) {
        (Event::Resolve | Event::Recovered, _) => "RECOVERED",
        (Event::Cancel, _) => "CHECKED OUT",
        (Event::Digest, _) => "MANY ALERTS",
        (Event::Test, _) => "TEST",
        (_, Reason::Missed) => "LATE",
        (_, Reason::NeverCheckedIn) => "NEVER CHECKED IN",
        (_, Reason::Failed) => "FAILED",
        (_, Reason::Overrun) => "OVERRUN",
        (_, Reason::System) => "GOTEL",
    }
}

/// The notice's title on one line.
pub(super) fn title(notice: &Notice) -> String {
    one_line(&notice.title())
}

/// What the notice says: how it ended, or the reservation's own message. Empty where the title says it all.
pub(super) fn body(notice: &Notice) -> String {
    let text = notice.resolved_text().unwrap_or_else(|| notice.message.clone());
    let text = lines(&text);
    if text == title(notice) { String::new() } else { text }
}

/// What is known of the incident, as label and value, in the order of interest. Values are single lines.
pub(super) fn facts(notice: &Notice) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if notice.event == Event::Digest || notice.event == Event::Test {
        facts.push(("Made by", one_line(&notice.srv)));
        return facts.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    }
    let when = match notice.reason {
        Reason::Missed | Reason::NeverCheckedIn => "Deadline",
        Reason::Failed => "Failed",
        Reason::Overrun => "Should have ended",
        Reason::System => "Since",
    };
    facts.push((when, time(notice.deadline_ms)));
    // The time that passes between a deadline and the next look at it is not worth a line.
    if notice.noticed_ms - notice.deadline_ms > 60_000 {
        facts.push(("Noticed", time(notice.noticed_ms)));
    }
    if let Some(down_ms) = notice.down_ms {
        facts.push(("Lasted", human(down_ms)));
    }
    if notice.reason != Reason::System {
        let last = notice.last_ok_ms.map_or_else(|| "never".to_owned(), time);
        facts.push(("Last good check-in", last));
        facts.push(("Schedule", one_line(&notice.schedule)));
    }
    if let Some(code) = notice.exit_code {
        facts.push(("Exit code", code.to_string()));
    }
    if let Some(rid) = &notice.rid {
        facts.push(("Run", one_line(rid)));
    }
    facts.push(("Owner", one_line(&notice.owner)));
    let labels: Vec<_> = notice.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    facts.push(("Labels", one_line(&labels.join(", "))));
    facts.push(("Noticed by", one_line(&notice.srv)));
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// The members of a digest that are listed, one line each (a remark counts the others).
pub(super) fn digest_lines(notice: &Notice) -> Vec<String> {
    let Some(digest) = &notice.digest else { return Vec::new() };
    let mut out = Vec::with_capacity(digest.lines.len());
    for line in &digest.lines {
        let mut text = format!(
            "{} {}/{} ({}",
            word(line.event, line.reason),
            line.app,
            line.component,
            time(line.deadline_ms)
        );
        if !line.owner.is_empty() {
            let _ = write!(text, ", {}", line.owner);
        }
        text.push(')');
        out.push(one_line(&text));
    }
    out
}

/// A link that may be shown as one: http(s) and nothing else.
pub(super) fn link(notice: &Notice) -> Option<&str> {
    let url = notice.url.as_deref()?;
    let parsed = url::Url::parse(url).ok()?;
    (matches!(parsed.scheme(), "http" | "https") && !url.chars().any(acts)).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_on_one_line_cannot_escape_it() {
        assert_eq!(one_line("a\r\nBcc: x\u{1b}[2J\u{7}\u{9b}31m\u{202e}b\0\tc\n"), "a Bcc: x[2J31mb c");
        assert_eq!(one_line("ä 日本 🎉"), "ä 日本 🎉");
    }

    #[test]
    fn text_in_lines_keeps_only_its_lines() {
        assert_eq!(lines("a\r\nb\rc\u{2028}d\u{1b}[0m\te\n\n"), "a\nb\nc\nd[0m e");
    }

    #[test]
    fn text_is_cut_by_characters_and_says_so() {
        assert_eq!(clip("日本語", 3), "日本語");
        assert_eq!(clip("日本語です", 3), "日本…");
        assert_eq!(clip("", 0), "");
    }

    #[test]
    fn times_are_utc_and_never_panic() {
        assert_eq!(time(1_767_323_045_678), "2026-01-02 03:04:05 UTC");
        assert_eq!(rfc3339(1_767_323_045_678), "2026-01-02T03:04:05.678Z");
        assert_eq!(time(i64::MAX), "9223372036854775807 ms since 1970");
    }
}
