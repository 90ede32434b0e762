//! Whether what a document shows is what the program says, apart from moments and ids.

use serde_json::Value;

/// Compares text; `…` in `shown` stands for anything.
pub fn text(shown: &str, real: &str) -> Result<(), String> {
    if like(&mask(shown.trim_end()), &mask(real.trim_end())) {
        return Ok(());
    }
    Err(format!("the document shows\n{shown}\nbut it is\n{real}"))
}

/// Whether a line of `real` holds what `shown` says.
pub fn holds_line(real: &str, shown: &str) -> bool {
    let shown = format!("…{}…", mask(shown.trim()));
    real.lines().any(|line| like(&shown, &mask(line)))
}

/// Compares JSON: the same keys everywhere, the same values but for moments and ids.
pub fn json(shown: &str, real: &str) -> Result<(), String> {
    let parsed = |what: &str, text: &str| {
        serde_json::from_str::<Value>(text).map_err(|error| format!("{what} is not JSON ({error}): {text}"))
    };
    let (shown, real) = (parsed("the document", shown)?, parsed("the answer", real)?);
    same("", &shown, &real).map_err(|why| format!("{why}; all of it is\n{real:#}"))
}

fn same(path: &str, shown: &Value, real: &Value) -> Result<(), String> {
    match (shown, real) {
        (Value::Object(a), Value::Object(b)) => {
            if !a.keys().eq(b.keys()) {
                let names = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
                return Err(format!("{path}: the keys are {:?}, not {:?}", names(b), names(a)));
            }
            a.iter().try_for_each(|(key, value)| same(&format!("{path}.{key}"), value, &b[key]))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().try_for_each(|(n, (a, b))| same(&format!("{path}[{n}]"), a, b))
        }
        (Value::String(a), Value::String(b)) if like(&mask(a), &mask(b)) => Ok(()),
        (Value::Number(_), Value::Number(_)) if varies(path) => Ok(()),
        (a, b) if a == b => Ok(()),
        (a, b) => Err(format!("{path} is {b}, not {a}")),
    }
}

/// Numbers that differ from run to run.
fn varies(path: &str) -> bool {
    ["_ms", "job_id", "last_checkin", "down_seconds"].iter().any(|end| path.ends_with(end))
}

/// `text` with moments, lengths of time and ids made alike.
fn mask(text: &str) -> String {
    text.lines().map(mask_line).collect::<Vec<_>>().join("\n")
}

fn mask_line(line: &str) -> String {
    // Ids: 16 or more of 0-9, a-f and dashes, at least one of them a digit.
    let mut out = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        let id = word.len() >= 16 && word.chars().any(|c| c.is_ascii_digit());
        out.push_str(if id { "<id>" } else { word });
        word.clear();
    };
    for c in line.chars() {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) || c == '-' {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    let timed = ["UTC", " ago", "GMT", "Z", "down for", "recovered", "t=", "RECOVERED"]
        .iter()
        .any(|t| out.contains(t));
    if !timed {
        return out;
    }
    // A fraction of a second may be missing, and lengths have one or two parts.
    let mut masked = String::new();
    for c in out.chars() {
        if c.is_ascii_digit() {
            if !masked.ends_with('0') {
                masked.push('0');
            }
        } else {
            masked.push(c);
        }
    }
    masked.replace("0.0Z", "0Z").replace("0s ago", "now").replace("0m ago", "now").replace("0ms", "0s")
}

/// Whether `real` is `shown`, where `…` stands for anything.
fn like(shown: &str, real: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| real.strip_prefix(first)) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn only_moments_and_ids_may_differ() {
    assert!(text("a … c", "a b c").is_ok());
    assert!(text("a … c", "a b d").is_err());
    assert!(text("at 2026-01-02T03:04:05Z", "at 2027-11-12T13:14:15.123Z").is_ok());
    assert!(text("3 misses", "4 misses").is_err());
    assert!(json(r#"{"a":[1],"x_ms":5}"#, r#"{"x_ms":7,"a":[1]}"#).is_ok());
    assert!(json(r#"{"a":1}"#, r#"{"a":2}"#).is_err());
    assert!(json(r#"{"a":1}"#, r#"{"a":1,"b":null}"#).is_err());
    let (one, two) = ("\"019ae6f0-5b1c-7c3e-8a55-0d1b2c3d4e5f\"", "\"ffffffff-0000-7c3e-8a55-0d1b2c3d4e5f\"");
    assert!(json(one, two).is_ok());
    assert!(holds_line("│ LATE a/b: no check-in by 02:00:00 UTC (2026-01-02)\n", "LATE a/b"));
    assert!(!holds_line("LATE a/c\n", "LATE a/b"));
}
