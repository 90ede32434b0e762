//! Where the database is: one URL, or several endpoints of one replicated database.
//!
//! Promises: a password in the configuration file itself is refused; whatever is refused, nothing of a URL is
//! repeated.

use crate::reservation::Invalid;
use crate::secret::{Lookup, expand, read_file};
use crate::store::dialect::Dialect;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The block `database`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Written {
    urls: Vec<String>,
    urls_file: Option<PathBuf>,
}

/// Where else a URL with a password may stand: a file's key, and the environment.
const ONE: (&str, &str) = ("databaseUrlFile", "GOTEL_DATABASE_URL, or ${NAME} here");
const SEVERAL: (&str, &str) = ("database.urlsFile", "${NAME} here");

/// A file that names the endpoints: read at the start, and again when it has changed.
#[derive(Debug, Clone)]
pub struct UrlsFile {
    /// Its key in the configuration.
    pub field: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

/// The endpoints to use, at least one, and the file they stand in, if so.
pub(super) fn endpoints(
    flag: Option<&str>,
    url: Option<String>,
    url_file: Option<PathBuf>,
    block: Option<Written>,
    data_dir: &Path,
    env: Lookup<'_>,
) -> Result<(Vec<SecretString>, Option<UrlsFile>), Invalid> {
    if let Some(url) = flag {
        return Ok((vec![url.into()], None));
    }
    let beside =
        |field, other| Err(Invalid::new(field, format!("is given beside {other}: keep one of the two")));
    let urls = match (url, url_file, block) {
        (Some(_), Some(_), _) => return beside("databaseUrl", "databaseUrlFile"),
        (Some(_), _, Some(_)) => return beside("database", "databaseUrl"),
        (_, Some(_), Some(_)) => return beside("database", "databaseUrlFile"),
        (Some(url), None, None) => vec![without_password("databaseUrl", &url, ONE, env)?],
        (None, Some(path), None) => return UrlsFile { field: ONE.0, path }.open(),
        (None, None, Some(block)) => match (block.urls, block.urls_file) {
            (urls, Some(_)) if !urls.is_empty() => {
                return Err(Invalid::new("database.urls", "is given beside urlsFile: keep one of the two"));
            }
            (_, Some(path)) => return UrlsFile { field: SEVERAL.0, path }.open(),
            (urls, None) => several(&urls, env)?,
        },
        (None, None, None) => vec![format!("sqlite://{}", data_dir.join("gotel.db").display())],
    };
    Ok((urls.into_iter().map(Into::into).collect(), None))
}

impl UrlsFile {
    fn open(self) -> Result<(Vec<SecretString>, Option<Self>), Invalid> {
        let text = read_file(&self.path).map_err(|why| Invalid::new(self.field, why))?;
        Ok((self.urls(text.expose_secret())?, Some(self)))
    }

    /// What the file's text names.
    ///
    /// # Errors
    /// What is wrong with it; nothing of it is repeated.
    pub fn urls(&self, text: &str) -> Result<Vec<SecretString>, Invalid> {
        let urls: Vec<String> = if self.field == ONE.0 {
            vec![text.trim().to_owned()]
        } else {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        if self.field == SEVERAL.0 {
            checked(self.field, &urls)?;
        }
        Ok(urls.into_iter().map(Into::into).collect())
    }
}

fn several(urls: &[String], env: Lookup<'_>) -> Result<Vec<String>, Invalid> {
    let expand =
        |(n, url): (usize, &String)| without_password(&format!("database.urls[{n}]"), url, SEVERAL, env);
    let urls: Vec<String> = urls.iter().enumerate().map(expand).collect::<Result<_, _>>()?;
    checked("database.urls", &urls)?;
    Ok(urls)
}

/// Whether they are servers of one database.
fn checked(field: &str, urls: &[String]) -> Result<(), Invalid> {
    let right = "write one mysql:// URL for each server of the one database";
    if urls.is_empty() {
        return Err(Invalid::new(field.to_owned(), format!("is empty: {right}")));
    }
    for (n, url) in urls.iter().enumerate() {
        let field = if field == "database.urls" { format!("{field}[{n}]") } else { field.to_owned() };
        match Dialect::of_url(url) {
            Some(Dialect::MySql) if urls[..n].contains(url) => {
                return Err(Invalid::new(field, format!("stands in the list twice (entry {})", n + 1)));
            }
            Some(Dialect::MySql) => {}
            Some(Dialect::Sqlite) if urls.len() == 1 => {}
            Some(Dialect::Sqlite) => {
                return Err(Invalid::new(
                    field,
                    format!("is an SQLite file (entry {}), which no other server holds: {right}", n + 1),
                ));
            }
            None => return Err(Invalid::new(field, format!("is no such URL (entry {}): {right}", n + 1))),
        }
    }
    Ok(())
}

/// A URL from the file, with what it names of the environment.
fn without_password(
    field: &str,
    url: &str,
    (file, variable): (&str, &str),
    env: Lookup<'_>,
) -> Result<String, Invalid> {
    let expanded = expand(field, url, env)?;
    if expanded == url && url::Url::parse(url).is_ok_and(|url| url.password().is_some()) {
        return Err(Invalid::new(
            field.to_owned(),
            format!("holds a password: keep the URL in a file ({file}) or in the environment ({variable})"),
        ));
    }
    Ok(expanded)
}
