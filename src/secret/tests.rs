use super::*;

fn env(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("s3cret".into()),
        "EMPTY" => Some(" \n".into()),
        _ => None,
    }
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

#[test]
fn a_newline_at_the_end_of_a_secret_file_is_not_part_of_the_secret() {
    for content in ["s3cret", "s3cret\n", "s3cret\r\n"] {
        let file = file(content);
        let secret = Secret::read("f", SecretSource::File(file.path().into()), any, &env).unwrap();
        assert_eq!(secret.value().expose(), "s3cret");
    }
}

#[test]
fn a_secret_prints_its_source_and_not_itself() {
    let secret = Secret::read("f", SecretSource::Env("KEY".into()), any, &env).unwrap();
    assert_eq!(format!("{secret:?}"), r#"Secret { source: Env("KEY"), .. }"#);
}

#[test]
fn a_secret_that_is_missing_empty_or_several_lines_is_refused() {
    let refuse = |source| Secret::read("f", source, any, &env).unwrap_err().to_string();
    assert_eq!(refuse(SecretSource::Env("NONE".into())), "f: the environment variable NONE is not set");
    assert_eq!(
        refuse(SecretSource::Env("EMPTY".into())),
        "f: the environment variable EMPTY is empty: write the secret there"
    );
    assert!(
        refuse(SecretSource::File("/nonexistent".into()))
            .starts_with("f: cannot read the file /nonexistent: ")
    );
    let two = file("user\nleak-me\n");
    let error = refuse(SecretSource::File(two.path().into()));
    assert!(error.contains("holds more than one line, or control characters"), "{error}");
    assert!(!error.contains("leak-me"));
}

#[test]
fn a_secret_is_checked_when_it_is_read() {
    let check: Check = |text| if text.len() < 9 { Err("is short: write nine".into()) } else { Ok(()) };
    let refused = Secret::read("f", SecretSource::Env("KEY".into()), check, &env).unwrap_err().to_string();
    assert_eq!(refused, "f: is short: write nine");
}

#[test]
fn clones_of_a_secret_share_its_value_and_who_has_taken_it_keeps_the_old_one() {
    let secret = Secret::written("old".into());
    let (clone, taken) = (secret.clone(), secret.value());
    assert!(secret.put("new".into(), 5_000) && !secret.put("new".into(), 6_000));
    assert_eq!((clone.value().expose(), taken.expose(), clone.renewals()), ("new", "old", 1));
    assert_eq!(format!("{taken:?}"), "Value(..)");
    let both = |since| clone.values_since(since).iter().map(|v| v.expose().to_owned()).collect::<Vec<_>>();
    assert_eq!(both(5_000), ["new", "old"], "it was that until 5,000");
    assert_eq!(both(5_001), ["new"]);
}

/// Whatever stands in the place of a file: an answer, at once.
#[test]
fn a_pipe_a_folder_a_device_and_a_flood_are_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    std::fs::write(at("flood"), vec![b'x'; 9 * 1024]).unwrap();
    std::fs::write(at("bytes"), [0xff, 0xfe]).unwrap();
    let why = |path: &std::path::Path| read_file(path).unwrap_err();
    assert!(why(&at("pipe")).ends_with("is a pipe or a device: name a file"), "{}", why(&at("pipe")));
    assert!(why(std::path::Path::new("/dev/zero")).ends_with("is a pipe or a device: name a file"));
    assert!(why(folder.path()).ends_with("is a folder: name the file in it"));
    assert!(why(&at("flood")).ends_with("holds more than 8192 bytes: that is not a secret"));
    assert!(why(&at("bytes")).ends_with("is not UTF-8 text"));
    assert!(why(&at("none")).contains("No such file"));
}

#[test]
fn variables_are_replaced_once_and_other_braces_are_left_alone() {
    let sub = |name: &str| Some(format!("<{name}${{A}}>"));
    assert_eq!(expand("f", "Bearer ${A} ${B}", &sub).unwrap(), "Bearer <A${A}> <B${A}>");
    assert_eq!(expand("f", "${a b} $A ${", &sub).unwrap(), "${a b} $A ${");
    assert_eq!(env_name("${SMTP_PASSWORD}"), Some("SMTP_PASSWORD"));
    assert_eq!(env_name("x${A}"), None);
    assert_eq!(env_name("${1A}"), None);
}
