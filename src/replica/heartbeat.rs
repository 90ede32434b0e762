//! The heartbeat URLs as something that can be called.

use crate::alert;
use crate::peers::external::{LIMIT, Ping};
use crate::reservation::Invalid;
use crate::secret::Secret;
use futures::future::BoxFuture;

/// A URL that is called with GET. It is a secret: whoever knows it can say that all is well.
pub(super) struct Url {
    client: reqwest::Client,
    url: Secret,
}

impl Url {
    /// # Errors
    /// When no HTTP client can be made.
    pub(super) fn new(field: &'static str, url: &Secret) -> Result<Self, Invalid> {
        let client = alert::client(None).map_err(|e| Invalid::new(field, e))?;
        Ok(Self { client, url: url.clone() })
    }

    async fn call(&self) -> Result<(), String> {
        let url = self.url.value();
        let host = url::Url::parse(url.expose()).ok();
        let host = host.as_ref().and_then(url::Url::host_str).unwrap_or("?");
        match self.client.get(url.expose()).timeout(LIMIT).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("{host} answered {}", answer.status())),
            Err(e) if e.is_timeout() => Err(format!("{host} did not answer within {} s", LIMIT.as_secs())),
            Err(e) if e.is_connect() => Err(format!("cannot connect to {host}")),
            // The cause may quote the URL.
            Err(_) => Err(format!("{host} cut the connection")),
        }
    }
}

impl Ping for Url {
    fn ping(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.call())
    }
}
