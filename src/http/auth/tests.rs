//! What starts, what refuses to start, and whom a token lets in.

use super::*;
use rstest::rstest;
use std::io::Write;

const LOOPBACK: &str = "127.0.0.1:8080";
const PUBLIC: &str = "0.0.0.0:8080";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn token(name: &str, file: &tempfile::NamedTempFile) -> TokenConfig {
    let scopes = vec![Scope::Read];
    TokenConfig { name: name.into(), scopes, app_prefix: None, token_file: file.path().into() }
}

fn decide(listen: &str, mode: Option<Mode>, tokens: Vec<TokenConfig>) -> Result<Auth, Invalid> {
    Auth::decide(listen.parse().unwrap(), mode, &AuthConfig { mode: None, tokens })
}

#[rstest]
#[case::loopback(LOOPBACK, None, true)]
#[case::loopback_v6("[::1]:8080", None, true)]
#[case::loopback_mapped("[::ffff:127.0.0.1]:8080", None, true)]
#[case::aloud(PUBLIC, Some(Mode::None), true)]
#[case::public(PUBLIC, None, false)]
#[case::public_v6("[::]:8080", None, false)]
#[case::tokens_without_any(LOOPBACK, Some(Mode::Tokens), false)]
fn without_tokens_only_loopback_or_a_spoken_word_opens(
    #[case] listen: &str,
    #[case] mode: Option<Mode>,
    #[case] starts: bool,
) {
    assert_eq!(decide(listen, mode, vec![]).is_ok_and(|auth| auth.is_open()), starts);
}

#[test]
fn a_refusal_to_start_says_what_would_be_right() {
    let refusal = decide(PUBLIC, None, vec![]).unwrap_err().to_string();
    insta::assert_snapshot!(refusal, @"auth: others can reach 0.0.0.0:8080, and no token is configured: add `auth.tokens` to the configuration, listen on 127.0.0.1, or say `--auth none` if everybody may do everything");
}

#[test]
fn configured_tokens_are_asked_for_on_loopback_too() {
    let secret = file("  0123456789abcdef\n");
    let auth = decide(LOOPBACK, None, vec![token("ci", &secret)]).unwrap();
    assert!(!auth.is_open());
    assert!(auth.caller(None).is_none());
    assert!(auth.caller(Some("0123456789abcdee")).is_none());
    let caller = auth.caller(Some("0123456789abcdef")).unwrap();
    assert_eq!(caller.name(), Some("ci"));
    assert!(caller.has(Scope::Read).is_ok() && caller.has(Scope::Checkin).is_err());
}

#[test]
fn tokens_and_none_contradict_each_other() {
    let secret = file("0123456789abcdef");
    assert_eq!(
        decide(PUBLIC, Some(Mode::None), vec![token("ci", &secret)]).unwrap_err().field,
        "auth.tokens"
    );
}

#[rstest]
#[case::empty("")]
#[case::blank("  \n ")]
#[case::short("0123456789abcde")]
#[case::two_words("01234567 89abcdef")]
#[case::not_ascii("0123456789abcdéf")]
fn an_unusable_token_file_is_named_and_never_quoted(#[case] text: &str) {
    let (good, bad) = (file("0123456789abcdef"), file(text));
    let refusal = decide(PUBLIC, None, vec![token("a", &good), token("b", &bad)]).unwrap_err();
    assert_eq!(refusal.field, "auth.tokens[1].tokenFile");
    assert!(text.trim().is_empty() || !refusal.message.contains(text.trim()));
}

#[test]
fn a_missing_file_two_equal_names_and_two_equal_tokens_are_refused() {
    let (one, other) = (file("0123456789abcdef"), file("0123456789abcdef"));
    let gone = TokenConfig { token_file: "/nonexistent/token".into(), ..token("a", &one) };
    assert_eq!(decide(PUBLIC, None, vec![gone]).unwrap_err().field, "auth.tokens[0].tokenFile");
    let twice = vec![token("a", &one), token("a", &one)];
    assert_eq!(decide(PUBLIC, None, twice).unwrap_err().field, "auth.tokens[1].name");
    let equal = vec![token("a", &one), token("b", &other)];
    assert_eq!(decide(PUBLIC, None, equal).unwrap_err().field, "auth.tokens[1].tokenFile");
    let useless = TokenConfig { scopes: vec![], ..token("a", &one) };
    assert_eq!(decide(PUBLIC, None, vec![useless]).unwrap_err().field, "auth.tokens[0].scopes");
}

#[test]
fn a_file_may_hold_the_old_and_the_new_token_and_is_read_again() {
    let (one, other) = (file("old-token-of-ci-0\n"), file("token-of-another\n"));
    let auth = decide(LOOPBACK, None, vec![token("ci", &one), token("b", &other)]).unwrap();
    let shared = auth.clone();
    let known = |text: &str| shared.caller(Some(text)).and_then(|caller| caller.name().map(str::to_owned));
    assert_eq!(auth.renew(0, "old-token-of-ci-0"), Ok(false));
    assert_eq!(auth.renew(0, " old-token-of-ci-0\n\nnew-token-of-ci-0 \n"), Ok(true));
    for text in ["old-token-of-ci-0", "new-token-of-ci-0"] {
        assert_eq!(known(text).as_deref(), Some("ci"), "both are good meanwhile");
    }
    assert_eq!(auth.renew(0, "new-token-of-ci-0\n"), Ok(true));
    assert_eq!((known("old-token-of-ci-0"), known("new-token-of-ci-0").as_deref()), (None, Some("ci")));
    for (n, text) in [
        (0, ""),
        (0, "short"),
        (0, "1234567890123456\n1234567890123457\n1234567890123458"),
        (1, "new-token-of-ci-0"),
    ] {
        let refusal = auth.renew(n, text).unwrap_err();
        assert_eq!(refusal.field, format!("auth.tokens[{n}].tokenFile"));
        assert!(text.is_empty() || !refusal.message.contains(text), "{}", refusal.message);
    }
    assert_eq!(known("new-token-of-ci-0").as_deref(), Some("ci"), "what was refused changes nothing");
    assert_eq!(known("token-of-another").as_deref(), Some("b"));
}

#[test]
fn the_section_refuses_keys_it_does_not_know() {
    let text = r#"{"tokens":[{"name":"a","scopes":["read"],"tokenfile":"x"}]}"#;
    assert!(serde_json::from_str::<AuthConfig>(text).is_err());
    let text = r#"{"mode":"tokens","tokens":[{"name":"a","scopes":["read","admin"],"appPrefix":"x/","tokenFile":"x"}]}"#;
    assert_eq!(serde_json::from_str::<AuthConfig>(text).unwrap().tokens[0].app_prefix.as_deref(), Some("x/"));
}
