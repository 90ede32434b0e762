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
    let line = error.location().map_or(1, |l| l.line());
    let first = error.to_string().lines().next().unwrap_or("is not valid YAML").to_owned();
    let broken = serde_yaml::from_str::<IgnoredAny>(text).is_err();
    let message = if broken { format!("not valid YAML: {first}") } else { first };
    ConfigError::Malformed { path: path.to_owned(), line, message }
}
