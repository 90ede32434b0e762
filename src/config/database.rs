//! Where the database is: one URL, or several endpoints of one replicated database.
//!
//! Promises: a password in the configuration file itself is refused; whatever is refused, nothing of a URL is
//! repeated.

use crate::reservation::Invalid;
use crate::secret::{Lookup, expand};
use crate::store::dialect::Dialect;
use secrecy::SecretString;
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

/// The endpoints to use, at least one.
pub(super) fn endpoints(
    flag: Option<&str>,
    url: Option<String>,
    url_file: Option<PathBuf>,
    block: Option<Written>,
    data_dir: &Path,
    env: Lookup<'_>,
) -> Result<Vec<SecretString>, Invalid> {
    if let Some(url) = flag {
        return Ok(vec![url.into()]);
    }
    let beside =
        |field, other| Err(Invalid::new(field, format!("is given beside {other}: keep one of the two")));
    let urls = match (url, url_file, block) {
        (Some(_), Some(_), _) => return beside("databaseUrl", "databaseUrlFile"),
        (Some(_), _, Some(_)) => return beside("database", "databaseUrl"),
        (_, Some(_), Some(_)) => return beside("database", "databaseUrlFile"),
        (Some(url), None, None) => vec![without_password("databaseUrl", &url, ONE, env)?],
        (None, Some(path), None) => vec![read("databaseUrlFile", &path)?.trim().to_owned()],
        (None, None, Some(block)) => several(block, env)?,
        (None, None, None) => vec![format!("sqlite://{}", data_dir.join("gotel.db").display())],
    };
    Ok(urls.into_iter().map(Into::into).collect())
}

fn several(block: Written, env: Lookup<'_>) -> Result<Vec<String>, Invalid> {
    let (field, urls) = match (block.urls, block.urls_file) {
        (urls, Some(_)) if !urls.is_empty() => {
            return Err(Invalid::new("database.urls", "is given beside urlsFile: keep one of the two"));
        }
        (_, Some(path)) => {
            let text = read("database.urlsFile", &path)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            ("database.urlsFile", lines.map(str::to_owned).collect::<Vec<_>>())
        }
        (urls, None) => {
            let expand = |(n, url): (usize, &String)| {
                without_password(&format!("database.urls[{n}]"), url, SEVERAL, env)
            };
            ("database.urls", urls.iter().enumerate().map(expand).collect::<Result<_, _>>()?)
        }
    };
    let right = "write one mysql:// URL for each server of the one database";
    if urls.is_empty() {
        return Err(Invalid::new(field, format!("is empty: {right}")));
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
    Ok(urls)
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

fn read(field: &str, path: &Path) -> Result<String, Invalid> {
    std::fs::read_to_string(path)
        .map_err(|e| Invalid::new(field.to_owned(), format!("cannot be read ({}): {e}", path.display())))
}
