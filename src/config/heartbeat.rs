//! The heartbeat URLs: secrets, as whoever knows one can say in GoTel's name that all is well.

use crate::alert;
use crate::reservation::Invalid;
use crate::secret::{Lookup, Secret, SecretSource, env_name};
use std::path::PathBuf;

/// Reads `field` (`heartbeatUrl`), written here, in the environment or in a file.
pub(super) fn parse(
    field: &'static str,
    written: Option<String>,
    file: Option<PathBuf>,
    env: Lookup<'_>,
) -> Result<Option<Secret>, Invalid> {
    let file_field = format!("{field}File");
    match (written, file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(Invalid::new(field, format!("is given beside {file_field}: keep one of the two")))
        }
        (Some(text), None) => match env_name(&text) {
            Some(name) => Secret::read(field, SecretSource::Env(name.into()), fits, env).map(Some),
            None => fits(&text).map(|()| Some(Secret::written(text))).map_err(|why| Invalid::new(field, why)),
        },
        (None, Some(path)) => Secret::read(&file_field, SecretSource::File(path), fits, env).map(Some),
    }
}

/// What such an address must be.
fn fits(text: &str) -> Result<(), String> {
    let with_password =
        url::Url::parse(text).is_ok_and(|url| !url.username().is_empty() || url.password().is_some());
    match alert::check_url(text) {
        Err(_) if with_password => {
            Err("holds a user name or password: use an address that is secret by itself, \
                                        such as https://hc-ping.com/<uuid>"
                .into())
        }
        Err(why) => Err(why.replace("example.org/hook", "hc-ping.com/<uuid>")),
        Ok(()) => Ok(()),
    }
}
