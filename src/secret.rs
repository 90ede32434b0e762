//! Secrets of the configuration: where they come from, and a type that prints nothing.
//!
//! Promises: a secret is read from a file or from the environment, in one function, which waits for nobody;
//! `Debug` shows where it comes from and never what it is; an error names the field and the file or variable,
//! never the content.
//!
//! A secret knows its source and what it must look like. Its clones share one value: when its file has changed
//! (a mounted Kubernetes Secret is replaced in place), [`watch`] puts the new one in its place, and whoever asks
//! next has it. What fits no longer leaves the value as it was.
//!
//! Races: a send that is under way goes on with the [`Value`] that it took at its beginning. Secrets that are
//! replaced together are taken in [`one_turn`], so that no new password goes with an old user.

mod file;
mod rule;
pub mod watch;

pub(crate) use file::read as read_file;

use crate::reservation::Invalid;
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Looks an environment variable up. A parameter, so that tests need not change the process.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a secret must look like, besides being one line of text. Err says what is wrong and what would be right,
/// and repeats nothing.
pub type Check = fn(&str) -> Result<(), String>;

/// Any line serves.
///
/// # Errors
/// None.
pub fn any(_: &str) -> Result<(), String> {
    Ok(())
}

/// The process's own environment.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file that holds it and nothing else; a newline at its end is not part of it.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// The configuration itself: for what may be secret but need not be (the URL of a webhook).
    Written,
}

/// A secret, where it comes from, and what it must look like. Clones share the value.
#[derive(Clone)]
pub struct Secret {
    field: Arc<str>,
    source: SecretSource,
    check: Check,
    held: Arc<Held>,
}

struct Held {
    now: RwLock<Now>,
    renewals: AtomicU64,
}

struct Now {
    value: Value,
    /// What it replaced, and when by the boot clock.
    earlier: Option<(Value, i64)>,
}

/// What a secret was at one moment.
#[derive(Clone)]
pub struct Value(Arc<SecretString>);

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value(..)")
    }
}

impl Value {
    /// The secret itself. Only at the point of use; never into a log, an error or a payload.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Held for writing while several secrets are replaced, for reading while several are taken.
static TOGETHER: RwLock<()> = RwLock::new(());

/// While it is held, no secret is replaced: what is taken meanwhile belongs together. Not across an await.
pub fn one_turn() -> RwLockReadGuard<'static, ()> {
    TOGETHER.read().unwrap_or_else(PoisonError::into_inner)
}

impl Secret {
    /// Reads the secret of `field` from `source`.
    ///
    /// # Errors
    /// Names `field` and what is missing: the file, the variable, or anything in it; or what `check` says.
    pub fn read(field: &str, source: SecretSource, check: Check, env: Lookup<'_>) -> Result<Self, Invalid> {
        let value = match &source {
            SecretSource::File(path) => {
                let text = file::read(path).map_err(|why| invalid(field, why))?;
                one_line(field, &file::called(path), text.expose_secret())?
            }
            SecretSource::Env(name) => from_env(field, name, env)?,
            SecretSource::Written => {
                return Err(invalid(field, "is not kept anywhere it could be read from".into()));
            }
        };
        check(&value).map_err(|why| invalid(field, why))?;
        Ok(Self::new(field, source, check, value))
    }

    /// A value that stands in the configuration itself.
    pub fn written(value: String) -> Self {
        Self::new("", SecretSource::Written, any, value)
    }

    fn new(field: &str, source: SecretSource, check: Check, value: String) -> Self {
        let now = Now { value: Value(Arc::new(value.into())), earlier: None };
        let held = Held { now: RwLock::new(now), renewals: AtomicU64::new(0) };
        Self { field: field.into(), source, check, held: Arc::new(held) }
    }

    /// Where it comes from.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }

    /// What it is now. Take it once for everything that belongs together, such as one send.
    pub fn value(&self) -> Value {
        self.held.now.read().unwrap_or_else(PoisonError::into_inner).value.clone()
    }

    /// What it is now, and what it was, if it was that after `since_boot_ms`.
    pub fn values_since(&self, since_boot_ms: i64) -> Vec<Value> {
        let now = self.held.now.read().unwrap_or_else(PoisonError::into_inner);
        let earlier = now.earlier.iter().filter(|(_, until)| *until >= since_boot_ms);
        std::iter::once(&now.value).chain(earlier.map(|(value, _)| value)).cloned().collect()
    }

    /// How often it has changed.
    pub fn renewals(&self) -> u64 {
        self.held.renewals.load(Ordering::Relaxed)
    }

    /// What the text of its file makes of it.
    fn fitting(&self, what: &str, text: &str) -> Result<String, Invalid> {
        let value = one_line(&self.field, what, text)?;
        (self.check)(&value).map_err(|why| invalid(&self.field, why))?;
        Ok(value)
    }

    /// Puts another value in its place. False: it is the same.
    fn put(&self, value: String, boot_ms: i64) -> bool {
        let mut now = self.held.now.write().unwrap_or_else(PoisonError::into_inner);
        if now.value.expose() == value {
            return false;
        }
        let before = std::mem::replace(&mut now.value, Value(Arc::new(value.into())));
        now.earlier = Some((before, boot_ms));
        self.held.renewals.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// The name in `${NAME}`; None if `text` is anything else.
pub fn env_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    is_env_name(name).then_some(name)
}

/// `text` with each `${NAME}` in it replaced; the replacement is not looked at again.
///
/// # Errors
/// Names `field` and the variable that is not set.
pub fn expand(field: &str, text: &str, env: Lookup<'_>) -> Result<String, Invalid> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}').map(|n| start + n) else { break };
        let name = &rest[start + 2..end];
        out.push_str(&rest[..start]);
        if is_env_name(name) {
            out.push_str(&from_env(field, name, env)?);
        } else {
            out.push_str(&rest[start..=end]);
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn from_env(field: &str, name: &str, env: Lookup<'_>) -> Result<String, Invalid> {
    match env(name) {
        Some(value) => one_line(field, &format!("the environment variable {name}"), &value),
        None => Err(invalid(field, format!("the environment variable {name} is not set"))),
    }
}

/// A secret is one line, without the line break at its end.
fn one_line(field: &str, what: &str, text: &str) -> Result<String, Invalid> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(invalid(field, format!("{what} is empty: write the secret there")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(
            field,
            format!("{what} holds more than one line, or control characters: write the secret alone there"),
        ));
    }
    Ok(text.to_owned())
}

fn invalid(field: &str, message: String) -> Invalid {
    Invalid::new(field.to_owned(), message)
}

#[cfg(test)]
mod tests;
