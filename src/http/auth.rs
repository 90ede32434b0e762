//! Who may call: open on loopback, tokens everywhere else.
//!
//! Promises: a server that strangers can reach is never open unless `--auth none` was said aloud. Only
//! SHA-256 digests of tokens are kept, and a presented token is compared with all of them in constant
//! time. A token is good for its scopes, and for the applications under its prefix. A file may hold two, so that
//! the old one is good until every client has the new one; [`Auth::renew`] takes what a changed file holds.
//!
//! Does not promise: that a request which was let in ends when its token is taken away.

use super::Error;
use crate::reservation::{Invalid, JobKey};
use crate::secret::read_file;
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
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
    /// The file that holds it, or the old and the new one, one a line; space around them is ignored.
    pub token_file: PathBuf,
}

/// The rules in force.
#[derive(Debug, Clone)]
pub struct Auth {
    /// None: open. Clones share them.
    tokens: Option<Arc<RwLock<Vec<Token>>>>,
}

#[derive(Debug, Clone)]
struct Token {
    place: String,
    digests: Vec<[u8; 32]>,
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
            let place = format!("auth.tokens[{n}].tokenFile");
            let text = read_file(&config.token_file).map_err(|why| Invalid::new(place.clone(), why))?;
            let digests = digests(&place, text.expose_secret(), tokens.iter())?;
            let caller = Caller {
                name: Some(config.name.as_str().into()),
                scopes: config.scopes.clone().into(),
                prefix: config.app_prefix.as_deref().map(Into::into),
            };
            tokens.push(Token { place, digests, caller });
        }
        Ok(Self { tokens: Some(Arc::new(RwLock::new(tokens))) })
    }

    /// The `n`th entry's file holds this `text` now. Ok(false): nothing is new.
    ///
    /// # Errors
    /// When it holds no token, or that of another entry; then nothing has changed.
    pub fn renew(&self, n: usize, text: &str) -> Result<bool, Invalid> {
        let Some(tokens) = &self.tokens else { return Ok(false) };
        let mut tokens = tokens.write().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = tokens.get(n).map(|token| token.place.clone()) else { return Ok(false) };
        let others = tokens.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, token)| token);
        let digests = digests(&place, text, others)?;
        let new = tokens[n].digests != digests;
        tokens[n].digests = digests;
        Ok(new)
    }

    /// Who presents `token`. Takes the same time for every token that is not known.
    pub(super) fn caller(&self, token: Option<&str>) -> Option<Caller> {
        let Some(tokens) = &self.tokens else {
            return Some(Caller { name: None, scopes: [Scope::Admin].into(), prefix: None });
        };
        let digest: [u8; 32] = Sha256::digest(token?).into();
        let mut found = None;
        for known in tokens.read().unwrap_or_else(PoisonError::into_inner).iter() {
            for one in &known.digests {
                if bool::from(one.ct_eq(&digest)) {
                    found = Some(known.caller.clone());
                }
            }
        }
        found
    }
}

/// The tokens that a file holds, one or two, none of which is one of `others`.
fn digests<'t>(
    place: &str,
    text: &str,
    others: impl Iterator<Item = &'t Token> + Clone,
) -> Result<Vec<[u8; 32]>, Invalid> {
    let refuse = |why: String| Err(Invalid::new(place.to_owned(), why));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let fits = |line: &&str| line.len() >= MIN_LENGTH && line.chars().all(|c| c.is_ascii_graphic());
    if !(1..=2).contains(&lines.len()) || !lines.iter().all(fits) {
        return refuse(format!(
            "must hold one token of at least {MIN_LENGTH} printable ASCII characters (`openssl rand -hex 32` makes \
             a good one), or the old and the new one, one a line; it holds {} bytes in {} lines",
            text.trim().len(),
            lines.len()
        ));
    }
    let digests: Vec<[u8; 32]> = lines.iter().map(|line| Sha256::digest(line).into()).collect();
    if others.flat_map(|token| &token.digests).any(|theirs| digests.contains(theirs)) {
        return refuse("holds the token of another entry: give each its own".into());
    }
    Ok(digests)
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
