//! HTTP towards the outside: one way to build a client, one way to ask, one way to judge an answer.
//!
//! Promises: connecting takes at most 5 s and a request 20 s; redirects are never followed (a POST that
//! carries a secret goes where the operator said, or nowhere); of an answer at most 64 KiB are read;
//! link-local and metadata addresses are refused, by literal address and after name resolution, so that no
//! URL and no DNS answer leads to a cloud's metadata service. Errors name the host, never the URL.
//!
//! Does not promise to keep requests out of private networks: operators configure these URLs, and an own
//! receiver in the cluster is the usual case. With a proxy set in the environment (`HTTPS_PROXY`), the
//! proxy resolves the name, and guarding it is the proxy's matter.

use super::Outcome;
use reqwest::StatusCode;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// A receiver that cannot be connected to by then is down for our purposes.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A whole request. Shorter than [`super::SEND_LIMIT`], so that the cause is told and not just "too slow".
const TOTAL_LIMIT: Duration = Duration::from_secs(20);
/// More of an answer is nobody's business here.
const BODY_LIMIT: usize = 64 * 1024;
/// How GoTel names itself.
const USER_AGENT: &str = concat!("gotel/", env!("CARGO_PKG_VERSION"));

/// The client of everything in GoTel that speaks HTTP to the outside. `ca_file` (PEM) is trusted besides
/// the system's authorities.
///
/// # Errors
/// One sentence, when the file cannot be read or the client cannot be set up.
pub fn client(ca_file: Option<&Path>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_LIMIT)
        .timeout(TOTAL_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .dns_resolver(Arc::new(Guarded));
    if let Some(path) = ca_file {
        let pem = read_pem(path)?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| no_certificate(path))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|e| format!("the HTTP client cannot be set up: {}", e.without_url()))
}

/// A PEM file that holds a certificate.
pub(super) fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let pem = std::fs::read(path).map_err(|e| format!("cannot read the file {}: {e}", path.display()))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        _ => Err(no_certificate(path)),
    }
}

fn no_certificate(path: &Path) -> String {
    format!("the file {} holds no certificate: write the path of a PEM file", path.display())
}

/// A URL that a request may be sent to.
///
/// # Errors
/// What is wrong with it. It is not repeated, as it may be secret.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("is not a URL ({e}): write https://example.org/hook"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is neither http:// nor https://: write https://example.org/hook".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password: put it into a header (headers: {Authorization: \"Bearer ${HOOK_TOKEN}\"})".into());
    }
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(_)) => None,
        None => return Err("has no host: write https://example.org/hook".into()),
    };
    match literal.filter(|ip| is_forbidden(*ip)) {
        Some(ip) => {
            Err(format!("leads to {ip}, a link-local or metadata address: GoTel sends nothing there"))
        }
        None => Ok(url),
    }
}

/// `parse_url` as a secret's check.
///
/// # Errors
/// As there.
pub fn check_url(text: &str) -> Result<(), String> {
    parse_url(text).map(drop)
}

/// What a header's value must be.
pub(super) fn check_header(text: &str) -> Result<(), String> {
    match reqwest::header::HeaderValue::from_str(text) {
        Ok(_) => Ok(()),
        Err(_) => Err("cannot be the value of an HTTP header: it must be one line".into()),
    }
}

/// Headers that GoTel sets, and those that belong to the connection.
pub(super) fn is_own_header(name: &str) -> bool {
    matches!(
        name,
        "content-type"
            | "content-length"
            | "transfer-encoding"
            | "connection"
            | "host"
            | "user-agent"
            | "idempotency-key"
            | "expect"
    ) || name.starts_with("x-gotel-")
}

/// The only part of a URL that is shown.
pub(super) fn mask(url: &Url) -> String {
    url.host_str().unwrap_or("?").to_owned()
}

/// Link-local (RFC 3927, RFC 4291) and AWS's IPv6 metadata address, also when wrapped into IPv6 (mapped,
/// NAT64).
fn is_forbidden(ip: IpAddr) -> bool {
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => {
            let wrapped = match v6.segments() {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                    let [a, b] = high.to_be_bytes();
                    let [c, d] = low.to_be_bytes();
                    Some(Ipv4Addr::new(a, b, c, d))
                }
                _ => v6.to_ipv4_mapped(),
            };
            v6.is_unicast_link_local() || v6 == AWS_METADATA || wrapped.is_some_and(|v4| v4.is_link_local())
        }
    }
}

/// A name that resolves to a forbidden address.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to {0}, a link-local or metadata address")]
struct Forbidden(IpAddr);

/// The system's resolver, refusing a name as soon as one of its addresses is forbidden. The connection goes
/// to the addresses that were checked: there is no second look-up in between.
struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            match found.iter().map(SocketAddr::ip).find(|ip| is_forbidden(*ip)) {
                Some(ip) => Err(Forbidden(ip).into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

/// What a receiver answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// In milliseconds from now.
    pub(super) retry_after_ms: Option<i64>,
    /// At most 64 KiB of it.
    pub(super) body: Vec<u8>,
}

/// Sends one request; `wall_ms` dates a Retry-After. An error is already judged.
pub(super) async fn ask(
    request: reqwest::RequestBuilder,
    host: &str,
    wall_ms: i64,
) -> Result<Answer, Outcome> {
    let mut response = request.send().await.map_err(|e| judge_error(host, &e))?;
    let status = response.status();
    let retry_after_ms = retry_after(response.headers(), wall_ms);
    let mut body = Vec::new();
    // What the answer says beyond its status is only ever extra: a body cut short is not an error.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = BODY_LIMIT - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == BODY_LIMIT {
            break;
        }
    }
    Ok(Answer { status, retry_after_ms, body })
}

/// Answers that mean the same to every receiver: accepted, or come back later. None: the alerter decides.
pub(super) fn judge(host: &str, answer: &Answer) -> Option<Outcome> {
    let status = answer.status;
    match status.as_u16() {
        200..=299 => Some(Outcome::Accepted),
        // Request Timeout, Too Early, Too Many Requests, and the server's own trouble.
        408 | 425 | 429 | 500..=599 => Some(Outcome::Retry {
            why: format!("{host} answered {}", words(status)),
            after_ms: answer.retry_after_ms,
        }),
        _ => None,
    }
}

/// `404 Not Found`.
pub(super) fn words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// A request without an answer.
fn judge_error(host: &str, error: &reqwest::Error) -> Outcome {
    if let Some(Forbidden(ip)) = find::<Forbidden>(error) {
        return Outcome::broken(format!("{host} leads to {ip}, a link-local or metadata address"));
    }
    if let Some(why) = bad_certificate(error) {
        return Outcome::broken(format!("the certificate of {host} is not accepted: {why}"));
    }
    if error.is_builder() {
        return Outcome::broken(format!("no request can be made for {host}"));
    }
    let what = match (error.is_timeout(), error.is_connect()) {
        (true, true) => format!("cannot connect to {host} within {} s", CONNECT_LIMIT.as_secs()),
        (true, false) => format!("{host} did not answer within {} s", TOTAL_LIMIT.as_secs()),
        (false, true) => format!("cannot connect to {host}: {}", root(error)),
        (false, false) => format!("{host} cut the connection: {}", root(error)),
    };
    Outcome::retry(what)
}

/// The innermost cause: the outer ones may hold the URL.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = inner(cause) {
        cause = inner;
    }
    cause.to_string()
}

/// What is wrong with a server's certificate, if that is why `error` happened.
pub(super) fn bad_certificate(error: &(dyn Error + 'static)) -> Option<String> {
    match find::<rustls::Error>(error)? {
        rustls::Error::InvalidCertificate(why) => Some(why.to_string()),
        _ => None,
    }
}

/// Looks for a cause of type `T`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(this) = cause {
        if let Some(found) = this.downcast_ref::<T>() {
            return Some(found);
        }
        cause = inner(this);
    }
    None
}

/// The next cause. `io::Error::source` skips the error that it wraps; this does not.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// `Retry-After` (RFC 9110 10.2.3: seconds or a date; Discord sends fractions), in milliseconds from
/// `wall_ms`. A date that has passed is 0.
fn retry_after(headers: &HeaderMap, wall_ms: i64) -> Option<i64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then_some((seconds.min(1e9) * 1000.0) as i64);
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let ms = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    Some(i64::try_from(ms).ok()?.saturating_sub(wall_ms).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://example.org/hook", "")]
    #[case("http://10.0.0.1:8080/", "")]
    #[case("http://[::1]/", "")]
    #[case("ftp://example.org", "is neither http:// nor https://")]
    #[case("example.org/hook", "is not a URL")]
    #[case("https://user:pw@example.org/", "holds a user name or password")]
    #[case("http://169.254.169.254/latest", "leads to 169.254.169.254")]
    #[case("http://0xa9fea9fe/", "leads to 169.254.169.254")]
    #[case("http://[::ffff:169.254.1.1]/", "link-local")]
    #[case("http://[64:ff9b::a9fe:a9fe]/", "link-local")]
    #[case("http://[fe80::1]/", "link-local")]
    #[case("http://[fd00:ec2::254]/", "link-local or metadata")]
    fn a_url_is_judged_by_scheme_userinfo_and_address(#[case] url: &str, #[case] error: &str) {
        match parse_url(url) {
            Ok(_) => assert_eq!(error, "", "{url}"),
            Err(e) => assert!(!error.is_empty() && e.contains(error), "{url}: {e}"),
        }
    }

    #[rstest]
    #[case("169.254.169.254", true)]
    #[case("fe80::1", true)]
    #[case("127.0.0.1", false)]
    #[tokio::test]
    async fn a_name_that_leads_to_a_forbidden_address_is_not_connected_to(
        #[case] name: &str,
        #[case] refused: bool,
    ) {
        let resolved = Guarded.resolve(name.parse().unwrap()).await;
        match resolved {
            Ok(found) => assert!(!refused && found.count() > 0),
            Err(e) => assert!(refused && e.is::<Forbidden>(), "{e}"),
        }
    }

    #[rstest]
    #[case("7", Some(7_000))]
    #[case(" 0.53 ", Some(530))]
    #[case("-1", None)]
    #[case("soon", None)]
    #[case("NaN", None)]
    #[case("Thu, 01 Jan 1970 00:01:00 GMT", Some(50_000))]
    #[case("Thu, 01 Jan 1970 00:00:01 GMT", Some(0))]
    fn retry_after_is_read_as_seconds_or_as_a_date(#[case] text: &str, #[case] ms: Option<i64>) {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        assert_eq!(retry_after(&headers, 10_000), ms);
    }

    #[rstest]
    #[case(204, "accepted")]
    #[case(408, "retry")]
    #[case(425, "retry")]
    #[case(429, "retry")]
    #[case(503, "retry")]
    #[case(301, "-")]
    #[case(400, "-")]
    fn an_answer_is_judged_by_its_status(#[case] status: u16, #[case] expected: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, retry_after_ms: None, body: Vec::new() };
        assert_eq!(judge("example.org", &answer).map_or("-", |o| o.as_str()), expected);
    }
}
