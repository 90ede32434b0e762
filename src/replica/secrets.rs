//! Which files of the configuration are read again, and what takes what they hold.

use crate::config::Config;
use crate::http::Auth;
use crate::reservation::Invalid;
use crate::secret::watch::Group;
use crate::store::Store;
use crate::store::dialect::Dialect;
use secrecy::{ExposeSecret, SecretString};

/// One group for each alerter, each token, and each other thing whose secrets come from files.
pub(super) fn groups(config: &Config, auth: &Auth, store: &Store) -> Vec<Group> {
    let mut groups = Vec::new();
    for alerter in &config.alerters {
        groups.extend(Group::of(format!("alerter/{}", alerter.name), alerter.secrets()));
    }
    for (n, token) in config.auth.tokens.iter().enumerate() {
        let field = format!("auth.tokens[{n}].tokenFile");
        let auth = auth.clone();
        let accept = move |texts: &[SecretString], _: i64| auth.renew(n, texts[0].expose_secret());
        let files = vec![(field, token.token_file.clone())];
        groups.push(Group::new(format!("token/{}", token.name), files, Box::new(accept)));
    }
    groups.extend(Group::of("peers", config.peers.iter().map(|peers| &peers.secret)));
    groups.extend(Group::of("heartbeatUrl", &config.heartbeat));
    groups.extend(Group::of("replicaHeartbeatUrl", &config.replica_heartbeat));
    groups.extend(database(config, store));
    groups
}

/// An embedded database has no password that could change.
fn database(config: &Config, store: &Store) -> Option<Group> {
    let file = config.database_file.clone().filter(|_| store.dialect() != Dialect::Sqlite)?;
    let (field, path, store) = (file.field, file.path.clone(), store.clone());
    let accept = move |texts: &[SecretString], _: i64| {
        let urls = file.urls(texts[0].expose_secret())?;
        let urls: Vec<&str> = urls.iter().map(ExposeSecret::expose_secret).collect();
        store.renew(&urls).map_err(|why| Invalid::new(field, why))
    };
    Some(Group::new("database", vec![(field.to_owned(), path)], Box::new(accept)))
}
