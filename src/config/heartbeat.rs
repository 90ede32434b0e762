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
    let (url, place) = match (written, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Invalid::new(field, format!("is given beside {file_field}: keep one of the two")));
        }
        (Some(text), None) => match env_name(&text) {
            Some(name) => (Secret::read(field, SecretSource::Env(name.into()), env)?, field.to_owned()),
            None => (Secret::written(text), field.to_owned()),
        },
        (None, Some(path)) => (Secret::read(&file_field, SecretSource::File(path), env)?, file_field),
    };
    let parsed = alert::parse_url(url.expose());
    let with_password =
        url::Url::parse(url.expose()).is_ok_and(|url| !url.username().is_empty() || url.password().is_some());
    match parsed {
        Ok(_) => Ok(Some(url)),
        Err(_) if with_password => Err(Invalid::new(
            place,
            "holds a user name or password: use an address that is secret by itself, such as \
             https://hc-ping.com/<uuid>",
        )),
        Err(why) => Err(Invalid::new(place, why.replace("example.org/hook", "hc-ping.com/<uuid>"))),
    }
}
