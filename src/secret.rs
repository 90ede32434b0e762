//! Secrets of the configuration: where they come from, and a type that prints nothing.
//!
//! Promises: a secret is read from a file or from the environment, in one function; `Debug` shows where it
//! comes from and never what it is; an error names the field and the file or variable, never the content.
//!
//! A secret keeps its source, so that it can be read again when the file has changed (a mounted Kubernetes
//! Secret is replaced in place); a source that cannot be read leaves the value as it was.

use crate::reservation::Invalid;
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;

/// The longest secret that is believed: a key, a password or a URL, not a file named by mistake.
const MAX_BYTES: usize = 8 * 1024;

/// Looks an environment variable up. A parameter, so that tests need not change the process.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

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

/// A secret and its source.
#[derive(Clone)]
pub struct Secret {
    source: SecretSource,
    value: SecretString,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Secret {
    /// Reads the secret of `field` from `source`.
    ///
    /// # Errors
    /// Names `field` and what is missing: the file, the variable, or anything in it.
    pub fn read(field: &str, source: SecretSource, env: Lookup<'_>) -> Result<Self, Invalid> {
        let value = match &source {
            SecretSource::File(path) => from_file(field, path)?,
            SecretSource::Env(name) => from_env(field, name, env)?,
            SecretSource::Written => {
                return Err(invalid(field, "is not kept anywhere it could be read again from".into()));
            }
        };
        Ok(Self { source, value: SecretString::from(value) })
    }

    /// A value that stands in the configuration itself.
    pub fn written(value: String) -> Self {
        Self { source: SecretSource::Written, value: SecretString::from(value) }
    }

    /// The same secret, read again. What is [`SecretSource::Written`] cannot have changed.
    ///
    /// # Errors
    /// As [`Secret::read`]; the caller keeps the old one.
    pub fn reread(&self, field: &str, env: Lookup<'_>) -> Result<Self, Invalid> {
        match self.source {
            SecretSource::Written => Ok(self.clone()),
            _ => Self::read(field, self.source.clone(), env),
        }
    }

    /// Where it comes from.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }

    /// The secret itself. Only at the point of use; never into a log, an error or a payload.
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
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
        Some(value) => checked(field, &format!("the environment variable {name}"), &value),
        None => Err(invalid(field, format!("the environment variable {name} is not set"))),
    }
}

fn from_file(field: &str, path: &std::path::Path) -> Result<String, Invalid> {
    let what = format!("the file {}", path.display());
    let bytes = std::fs::read(path).map_err(|e| invalid(field, format!("cannot read {what}: {e}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(invalid(
            field,
            format!("{what} holds more than {MAX_BYTES} bytes: that is not a secret"),
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid(field, format!("{what} is not UTF-8 text")))?;
    checked(field, &what, &text)
}

fn checked(field: &str, what: &str, text: &str) -> Result<String, Invalid> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(invalid(field, format!("{what} is empty")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(field, format!("{what} holds more than one line, or control characters")));
    }
    Ok(text.to_owned())
}

fn invalid(field: &str, message: String) -> Invalid {
    Invalid::new(field.to_owned(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("s3cret".into()),
            "EMPTY" => Some(" \n".into()),
            _ => None,
        }
    }

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn a_newline_at_the_end_of_a_secret_file_is_not_part_of_the_secret() {
        for content in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            let file = file(content);
            let secret = Secret::read("f", SecretSource::File(file.path().into()), &env).unwrap();
            assert_eq!(secret.expose(), "s3cret");
        }
    }

    #[test]
    fn a_secret_prints_its_source_and_not_itself() {
        let secret = Secret::read("f", SecretSource::Env("KEY".into()), &env).unwrap();
        assert_eq!(format!("{secret:?}"), r#"Secret { source: Env("KEY"), .. }"#);
    }

    #[test]
    fn a_secret_that_is_missing_empty_or_several_lines_is_refused() {
        let refuse = |source| Secret::read("f", source, &env).unwrap_err().to_string();
        assert_eq!(refuse(SecretSource::Env("NONE".into())), "f: the environment variable NONE is not set");
        assert_eq!(refuse(SecretSource::Env("EMPTY".into())), "f: the environment variable EMPTY is empty");
        assert!(
            refuse(SecretSource::File("/nonexistent".into()))
                .starts_with("f: cannot read the file /nonexistent: ")
        );
        let two = file("user\nleak-me\n");
        let error = refuse(SecretSource::File(two.path().into()));
        assert!(error.ends_with("holds more than one line, or control characters"), "{error}");
        assert!(!error.contains("leak-me"));
    }

    #[test]
    fn a_secret_file_is_read_again_and_keeps_its_value_while_it_cannot_be() {
        let file = file("old\n");
        let secret = Secret::read("f", SecretSource::File(file.path().into()), &env).unwrap();
        std::fs::write(file.path(), "new\n").unwrap();
        assert_eq!(secret.reread("f", &env).unwrap().expose(), "new");
        std::fs::write(file.path(), "").unwrap();
        assert!(secret.reread("f", &env).is_err());
        assert_eq!(secret.expose(), "old");
    }

    #[test]
    fn variables_are_replaced_once_and_other_braces_are_left_alone() {
        let sub = |name: &str| Some(format!("<{name}${{A}}>"));
        assert_eq!(expand("f", "Bearer ${A} ${B}", &sub).unwrap(), "Bearer <A${A}> <B${A}>");
        assert_eq!(expand("f", "${a b} $A ${", &sub).unwrap(), "${a b} $A ${");
        assert_eq!(env_name("${SMTP_PASSWORD}"), Some("SMTP_PASSWORD"));
        assert_eq!(env_name("x${A}"), None);
        assert_eq!(env_name("${1A}"), None);
    }
}
