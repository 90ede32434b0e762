//! Who may call: open on loopback, tokens everywhere else.
//!
//! Promises: a server that strangers can reach is never open unless `--auth none` was said aloud. Only
//! SHA-256 digests of tokens are kept, and a presented token is compared with all of them in constant
//! time. A token is good for its scopes, and for the applications under its prefix.
//!
//! Does not promise: that a changed token file is noticed before the next start.

use super::Error;
use crate::reservation::{Invalid, JobKey};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// A token shorter than this could be guessed.
const MIN_LENGTH: usize = 16;

/// Whether tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everybody may do everything.
    None,
    /// Only who has a token.
    Tokens,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "tokens" => Ok(Self::Tokens),
            _ => Err("give `none` or `tokens`".into()),
        }
    }
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Checking in.
    Checkin,
    /// Making, snoozing and ending reservations.
    Reserve,
    /// Lists, pages and figures.
    Read,
    /// All of these.
    Admin,
}

impl Scope {
    /// As written in the configuration.
    fn as_str(self) -> &'static str {
        match self {
            Self::Checkin => "checkin",
            Self::Reserve => "reserve",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// The `auth:` section of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthConfig {
    /// Whether tokens are asked for; left out: as the listen address demands.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Who has a token.
    #[serde(default)]
    pub tokens: Vec<TokenConfig>,
}

/// One token.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenConfig {
    /// Whose it is; shown as the one who snoozed.
    pub name: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// Only for applications that begin with this.
    #[serde(default)]
    pub app_prefix: Option<String>,
    /// The file that holds it; space around it is ignored.
    pub token_file: PathBuf,
}

/// The rules in force.
#[derive(Debug, Clone)]
pub struct Auth {
    /// None: open.
    tokens: Option<Vec<Token>>,
}

#[derive(Debug, Clone)]
struct Token {
    digest: [u8; 32],
    caller: Caller,
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// None: nobody was asked.
    name: Option<Arc<str>>,
    scopes: Arc<[Scope]>,
    prefix: Option<Arc<str>>,
}

impl Auth {
    /// No token is asked for.
    pub fn open() -> Self {
        Self { tokens: None }
    }

    /// The rules for a server on `listen`. `mode` is what the command line said; it outranks the file.
    ///
    /// # Errors
    /// When the server would be open to strangers, when the settings contradict each other, and when a
    /// token file cannot be used; the sentence says what would be right.
    pub fn decide(listen: SocketAddr, mode: Option<Mode>, config: &AuthConfig) -> Result<Self, Invalid> {
        match (mode.or(config.mode), config.tokens.is_empty()) {
            (Some(Mode::None), true) => Ok(Self::open()),
            (Some(Mode::None), false) => Err(Invalid::new(
                "auth.tokens",
                "are configured, and `auth none` asks for a server without them: remove one of the two",
            )),
            (Some(Mode::Tokens), true) => Err(Invalid::new(
                "auth.tokens",
                "is empty, and `auth tokens` asks for tokens: add one with `name`, `scopes` and `tokenFile`",
            )),
            (None, true) if listen.ip().to_canonical().is_loopback() => Ok(Self::open()),
            (None, true) => Err(Invalid::new(
                "auth",
                format!(
                    "others can reach {listen}, and no token is configured: add `auth.tokens` to the \
                     configuration, listen on 127.0.0.1, or say `--auth none` if everybody may do everything"
                ),
            )),
            (_, false) => Self::from_files(&config.tokens),
        }
    }

    /// Whether no token is asked for.
    pub fn is_open(&self) -> bool {
        self.tokens.is_none()
    }

    fn from_files(configs: &[TokenConfig]) -> Result<Self, Invalid> {
        let mut tokens: Vec<Token> = Vec::with_capacity(configs.len());
        for (n, config) in configs.iter().enumerate() {
            let refuse =
                |field: &str, why: String| Err(Invalid::new(format!("auth.tokens[{n}].{field}"), why));
            if config.name.trim().is_empty() || config.name.chars().any(char::is_control) {
                return refuse("name", "is empty or has a control character: say whose token it is".into());
            }
            if configs[..n].iter().any(|other| other.name == config.name) {
                return refuse("name", format!("`{}` is there twice: give each token its own", config.name));
            }
            if config.scopes.is_empty() {
                return refuse("scopes", "is empty: give some of checkin, reserve, read, admin".into());
            }
            if config.app_prefix.as_deref() == Some("") {
                return refuse("appPrefix", "is empty: leave it out, or give the beginning of an app".into());
            }
            let shown = config.token_file.display();
            let text = match std::fs::read_to_string(&config.token_file) {
                Ok(text) => text,
                Err(e) => return refuse("tokenFile", format!("{shown} cannot be read: {e}")),
            };
            let text = text.trim();
            if text.len() < MIN_LENGTH || !text.chars().all(|c| c.is_ascii_graphic()) {
                let why = format!(
                    "{shown} must hold one token of at least {MIN_LENGTH} printable ASCII characters \
                     (`openssl rand -hex 32` makes a good one); it holds {} bytes",
                    text.len()
                );
                return refuse("tokenFile", why);
            }
            let digest: [u8; 32] = Sha256::digest(text).into();
            if tokens.iter().any(|t| t.digest == digest) {
                return refuse(
                    "tokenFile",
                    format!("{shown} holds the token of another entry: give each its own"),
                );
            }
            let caller = Caller {
                name: Some(config.name.as_str().into()),
                scopes: config.scopes.clone().into(),
                prefix: config.app_prefix.as_deref().map(Into::into),
            };
            tokens.push(Token { digest, caller });
        }
        Ok(Self { tokens: Some(tokens) })
    }

    /// Who presents `token`. Takes the same time for every token that is not known.
    pub(super) fn caller(&self, token: Option<&str>) -> Option<Caller> {
        let Some(tokens) = &self.tokens else {
            return Some(Caller { name: None, scopes: [Scope::Admin].into(), prefix: None });
        };
        let digest: [u8; 32] = Sha256::digest(token?).into();
        let mut found = None;
        for known in tokens {
            if bool::from(known.digest.ct_eq(&digest)) {
                found = Some(known.caller.clone());
            }
        }
        found
    }
}

impl Caller {
    /// Whose token it is; None when nobody was asked.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The only applications it may see and use begin with this.
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// Whether the token is good for this.
    pub(super) fn has(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes.iter().any(|s| *s == scope || *s == Scope::Admin) {
            return Ok(());
        }
        Err(Error::Forbidden(format!("this token lacks the scope `{}`: use one that has it", scope.as_str())))
    }

    /// Whether the token sees everything, not only one prefix.
    pub(super) fn sees_all(&self) -> Result<(), Error> {
        match &self.prefix {
            None => Ok(()),
            Some(prefix) => Err(Error::Forbidden(format!(
                "this token is limited to applications that begin with `{prefix}`: use one without `appPrefix`"
            ))),
        }
    }

    /// The reservation a request names, if this token may name it. The only way from names to a key, so
    /// that no handler can forget the prefix.
    pub(super) fn job(&self, app: &str, component: &str) -> Result<JobKey, Error> {
        let key = JobKey::parse(app, component)?;
        match &self.prefix {
            Some(prefix) if !key.app.as_str().starts_with(&**prefix) => Err(Error::Forbidden(format!(
                "app: this token is limited to applications that begin with `{prefix}`"
            ))),
            _ => Ok(key),
        }
    }
}

#[cfg(test)]
#[path = "auth/tests.rs"]
mod tests;
