//! One entry of `alerters:`, before anything of it is believed.

use super::{Auth, Format, Severity, Tls};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One entry of `alerters:` as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Written {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: Option<Kind>,
    pub(super) default: Option<bool>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) tls: Option<Tls>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) username: Option<String>,
    pub(super) username_file: Option<PathBuf>,
    pub(super) password: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) auth: Option<Auth>,
    pub(super) from: Option<String>,
    pub(super) to: Option<Vec<String>>,
    pub(super) ehlo: Option<String>,
    pub(super) routing_key: Option<String>,
    pub(super) routing_key_file: Option<PathBuf>,
    pub(super) region: Option<Region>,
    pub(super) severity: Option<Severity>,
    pub(super) url: Option<String>,
    pub(super) url_file: Option<PathBuf>,
    pub(super) format: Option<Format>,
    pub(super) secret: Option<String>,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) headers: Option<BTreeMap<String, String>>,
    pub(super) header_files: Option<BTreeMap<String, PathBuf>>,
}

impl std::fmt::Debug for Written {
    // A password may stand here by mistake: nothing but the name is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The types of alerters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Console,
    Smtp,
    PagerDuty,
    Webhook,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Region {
    Us,
    Eu,
}

impl Written {
    /// The keys that were written, besides those every alerter has.
    pub(super) fn written(&self) -> Vec<&'static str> {
        let fields = [
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("tls", self.tls.is_some()),
            ("caFile", self.ca_file.is_some()),
            ("username", self.username.is_some()),
            ("usernameFile", self.username_file.is_some()),
            ("password", self.password.is_some()),
            ("passwordFile", self.password_file.is_some()),
            ("auth", self.auth.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("ehlo", self.ehlo.is_some()),
            ("routingKey", self.routing_key.is_some()),
            ("routingKeyFile", self.routing_key_file.is_some()),
            ("region", self.region.is_some()),
            ("severity", self.severity.is_some()),
            ("url", self.url.is_some()),
            ("urlFile", self.url_file.is_some()),
            ("format", self.format.is_some()),
            ("secret", self.secret.is_some()),
            ("secretFile", self.secret_file.is_some()),
            ("headers", self.headers.is_some()),
            ("headerFiles", self.header_files.is_some()),
        ];
        fields.into_iter().filter(|(_, given)| *given).map(|(field, _)| field).collect()
    }
}
