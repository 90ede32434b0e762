//! Lines of a YAML file: where a field stands, and what the parser says in words.

use super::ConfigError;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;
use std::path::Path;

/// Any YAML, with the place of each value.
enum Tree {
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
    List(Vec<Spanned<Tree>>),
    Leaf,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

/// Scalars are all alike here.
macro_rules! leaves {
    ($($method:ident: $type:ty),+) => {$(
        fn $method<E>(self, _: $type) -> Result<Tree, E> {
            Ok(Tree::Leaf)
        }
    )+};
}

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any YAML")
    }

    leaves!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str, visit_bytes: &[u8]);

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Tree::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }
}

/// The line of `field` (`alerters[1].port`), or of the nearest thing around it; None: not in this file.
pub(super) fn line_of(text: &str, field: &str) -> Option<u64> {
    let root: Spanned<Tree> = serde_yaml::from_str(text).ok()?;
    let mut at = &root;
    let mut line = None;
    for step in field.split(['.', '[']) {
        let step = step.trim_end_matches(']');
        let next = match &at.value {
            Tree::Map(entries) => entries.iter().find(|(key, _)| key.value == step).map(|(key, value)| {
                line = Some(key.referenced.line());
                value
            }),
            Tree::List(items) => step.parse::<usize>().ok().and_then(|n| items.get(n)).inspect(|item| {
                line = Some(item.referenced.line());
            }),
            Tree::Leaf => None,
        };
        let Some(next) = next else { break };
        at = next;
    }
    line
}

/// The parser's complaint with its line. Its own text may quote the file, and so a secret: only the first
/// line is kept, which names what was expected.
pub(super) fn malformed(path: &Path, text: &str, error: &serde_yaml::Error) -> ConfigError {
    let broken = serde_yaml::from_str::<IgnoredAny>(text).err();
    let error = broken.as_ref().unwrap_or(error);
    let line = error.location().map_or(1, |l| l.line());
    let whole = error.to_string();
    let first = whole.lines().next().unwrap_or_default();
    // The parser puts the place in front, and it is told already.
    let said = first.strip_prefix("error: ").unwrap_or(first);
    let said = match said.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => said,
    };
    let message = match said {
        _ if said.starts_with("duplicate mapping key") => {
            let key = said.split([':', ',']).nth(1).unwrap_or_default().trim();
            format!("{key}: is given twice: keep one")
        }
        _ if broken.is_some() => format!("not valid YAML: {said}"),
        _ if said.starts_with("unknown field ") || said.starts_with("missing field ") => in_words(said),
        _ => {
            let said = in_words(said);
            match key_in(text, line) {
                Some(key) => format!("{key}: {said}"),
                None => said,
            }
        }
    };
    ConfigError::Malformed { path: path.to_owned(), line, message }
}

/// The parser's words for what a person wrote.
fn in_words(said: &str) -> String {
    match said {
        "invalid u16" => "must be a whole number from 1 to 65535".into(),
        "invalid boolean" => "must be true or false".into(),
        "expected string scalar" => "must be one text".into(),
        "expected sequence start" => "must be a list: write [one, two], or remove the key".into(),
        "expected mapping start" => "must have keys of its own below it: see docs/configuration.md".into(),
        _ => match said.strip_prefix("missing field ") {
            Some(field) => format!("{field} is missing here"),
            None => said.to_owned(),
        },
    }
}

/// The key that begins a line; never what stands behind it.
fn key_in(text: &str, line: u64) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let (key, _) = line.trim_start_matches([' ', '-']).split_once(':')?;
    key.chars().all(|c| c.is_ascii_alphanumeric()).then_some(key).filter(|key| !key.is_empty())
}
