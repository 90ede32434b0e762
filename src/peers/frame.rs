//! Heartbeats as bytes: signed, and good for one use. Pure.
//!
//! Promises: what [`Gate::accept`] and [`accept_reply`] let through was made by somebody who has the secret,
//! for this receiver, in answer to this nonce or request, and is let through once. No clocks are compared:
//! the receiver hands out a nonce with every answer, also with a refusal (as ACME does, RFC 8555 6.5), and
//! takes it back once within 60 s of its own boot clock.
//!
//! Does not promise secrecy: use https:// where others may listen. And whoever has the secret is a replica.
//!
//! A nonce is not remembered when it is issued: it is a time and a random number under a MAC with a key of
//! this process. Only those that came back under a valid signature are remembered, until they are too old;
//! so strangers fill nothing.

use super::sight::Said;
use crate::secret::Value;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::HashMap;
use subtle::ConstantTimeEq;

/// The path that heartbeats are posted to.
pub const PATH: &str = "/internal/heartbeat";

/// The header that carries the signature, in hex.
pub const SIGNATURE: &str = "x-gotel-peer-signature";

/// No heartbeat is larger, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// How long a nonce is good for.
const NONCE_MS: i64 = 60_000;

/// Nonces remembered at most. A replica uses one each two seconds: this is for a hundred of them.
const MAX_USED: usize = 4096;

/// What is signed begins with one of these, so that a request is never taken for a reply, nor a nonce for
/// either.
const REQUEST: &[u8] = b"gotel peer request v1\n";
const REPLY: &[u8] = b"gotel peer reply v1\n";
const NONCE: &[u8] = b"gotel peer nonce v1\n";

/// A heartbeat, in either direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who says it.
    pub from: String,
    /// To whom.
    pub to: String,
    /// In a request: the receiver's nonce, "" when none is known. In a reply: the one for the next request.
    pub nonce: String,
    /// What is said.
    pub said: Said,
}

/// What a refusal carries. It is not signed: all it can do is to make the caller try once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The nonce for the next request.
    pub nonce: String,
    /// Why, in a word.
    pub why: String,
}

/// A body and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// JSON.
    pub body: Vec<u8>,
    /// Hex.
    pub signature: String,
}

/// Why a heartbeat is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The signature is not one by our secret: another secret, or a forgery.
    #[error("its signature is not by our secret")]
    Signature,
    /// It is signed and cannot be read: a version that speaks otherwise.
    #[error("it cannot be read")]
    Malformed,
    /// It is for another replica.
    #[error("it is for another replica")]
    Receiver,
    /// Its sender is not on the list.
    #[error("its sender is not one of peers.replicas")]
    Sender,
    /// Its nonce is none of this process, or too old; so is each caller's first.
    #[error("its nonce is not one of this process, or too old")]
    Nonce,
    /// Its nonce was used already.
    #[error("its nonce was used already")]
    Replayed,
}

impl Rejected {
    /// The word in metrics and refusals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Malformed => "malformed",
            Self::Receiver => "receiver",
            Self::Sender => "sender",
            Self::Nonce => "nonce",
            Self::Replayed => "replayed",
        }
    }
}

/// HMAC-SHA-256 under `key` of all `parts`, each after its length.
fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC takes keys of any length (RFC 2104).
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("a key of any length serves");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

fn sign(secret: &Value, heartbeat: &Heartbeat, domain: &[u8], bound_to: &[u8]) -> Signed {
    // Strings and numbers: there is nothing that JSON could not hold.
    let body = serde_json::to_vec(heartbeat).unwrap_or_default();
    let tag = mac(secret.expose().as_bytes(), &[domain, bound_to, &body]).finalize().into_bytes();
    Signed { body, signature: hex::encode(tag) }
}

fn open(
    secret: &Value,
    body: &[u8],
    signature: &str,
    domain: &[u8],
    bound_to: &[u8],
) -> Result<Heartbeat, Rejected> {
    let tag = hex::decode(signature).map_err(|_| Rejected::Signature)?;
    // Compared in constant time.
    mac(secret.expose().as_bytes(), &[domain, bound_to, body])
        .verify_slice(&tag)
        .map_err(|_| Rejected::Signature)?;
    serde_json::from_slice(body).map_err(|_| Rejected::Malformed)
}

/// A request, ready to be posted.
pub fn request(secret: &Value, heartbeat: &Heartbeat) -> Signed {
    sign(secret, heartbeat, REQUEST, b"")
}

/// The reply to the request of this signature.
pub fn reply(secret: &Value, heartbeat: &Heartbeat, to_signature: &str) -> Signed {
    sign(secret, heartbeat, REPLY, to_signature.as_bytes())
}

/// Judges a reply to the request of the signature `to_signature`, which `own` sent to `peer`.
///
/// # Errors
/// Why it is not believed.
pub fn accept_reply(
    secret: &Value,
    own: &str,
    peer: &str,
    to_signature: &str,
    signed: &Signed,
) -> Result<Heartbeat, Rejected> {
    let heartbeat = open(secret, &signed.body, &signed.signature, REPLY, to_signature.as_bytes())?;
    if heartbeat.to != own {
        return Err(Rejected::Receiver);
    }
    if heartbeat.from != peer {
        return Err(Rejected::Sender);
    }
    Ok(heartbeat)
}

/// The receiver's side: who is let in, and which nonces are spent.
#[derive(Debug)]
pub struct Gate {
    own: String,
    peers: Vec<String>,
    key: [u8; 32],
    /// Nonces that were used, and when they are too old anyway.
    used: HashMap<String, i64>,
}

impl Gate {
    /// A gate of the replica `own` for `peers`. `key` is random, and of this process alone.
    pub fn new(own: String, peers: Vec<String>, key: [u8; 32]) -> Self {
        Self { own, peers, key, used: HashMap::new() }
    }

    /// A nonce from the moment and 16 bytes of chance.
    pub fn nonce(&self, boot_ms: i64, random: [u8; 16]) -> String {
        let mut bytes = Vec::with_capacity(56);
        bytes.extend_from_slice(&boot_ms.to_be_bytes());
        bytes.extend_from_slice(&random);
        let tag = mac(&self.key, &[NONCE, &bytes]).finalize().into_bytes();
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Judges a request. What is let in has spent its nonce.
    ///
    /// # Errors
    /// Why it is not believed; then nothing has changed.
    pub fn accept(&mut self, secret: &Value, signed: &Signed, boot_ms: i64) -> Result<Heartbeat, Rejected> {
        let heartbeat = open(secret, &signed.body, &signed.signature, REQUEST, b"")?;
        if heartbeat.to != self.own {
            return Err(Rejected::Receiver);
        }
        if !self.peers.contains(&heartbeat.from) {
            return Err(Rejected::Sender);
        }
        self.spend(&heartbeat.nonce, boot_ms)?;
        Ok(heartbeat)
    }

    fn spend(&mut self, nonce: &str, boot_ms: i64) -> Result<(), Rejected> {
        let until_ms = self.good_until(nonce).ok_or(Rejected::Nonce)?;
        if until_ms < boot_ms || until_ms - NONCE_MS > boot_ms {
            return Err(Rejected::Nonce);
        }
        if self.used.contains_key(nonce) {
            return Err(Rejected::Replayed);
        }
        if self.used.len() >= MAX_USED {
            self.used.retain(|_, until_ms| *until_ms >= boot_ms);
        }
        if self.used.len() >= MAX_USED {
            return Err(Rejected::Nonce);
        }
        self.used.insert(nonce.to_owned(), until_ms);
        Ok(())
    }

    /// Until when a nonce of this process is good; None: it is none.
    fn good_until(&self, nonce: &str) -> Option<i64> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (head, tag) = bytes.split_at_checked(24)?;
        let right = mac(&self.key, &[NONCE, head]).finalize().into_bytes();
        if !bool::from(right.as_slice().ct_eq(tag)) {
            return None;
        }
        let time: [u8; 8] = head.get(..8)?.try_into().ok()?;
        i64::from_be_bytes(time).checked_add(NONCE_MS)
    }
}

#[cfg(test)]
mod tests;
