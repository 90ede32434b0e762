use super::*;
use rstest::rstest;
use std::io::Write as _;

fn load(text: &str) -> Result<Config, String> {
    load_with(text, &Scalars::default())
}

fn load_with(text: &str, scalars: &Scalars) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let env = |name: &str| (name == "SECRET").then(|| "mysql://gotel:hush@db/gotel".to_owned());
    let shown = file.path().display().to_string();
    Config::load_with(Some(file.path()), scalars, &env)
        .map_err(|e| e.to_string().replace(&shown, "gotel.yaml"))
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = Config::load_with(None, &Scalars::default(), &|_| None).unwrap();
    assert_eq!(config.listen.to_string(), LISTEN);
    assert_eq!(config.database_urls(), ["sqlite://data/gotel.db"]);
    assert_eq!(config.alerters.len(), 1);
    assert_eq!(config.alerters[0].name, "console");
}

#[rstest]
#[case::empty("")]
#[case::comments("# nothing yet\n\n# here\n")]
fn an_empty_file_is_a_configuration(#[case] text: &str) {
    assert_eq!(load(text).unwrap().alerters[0].name, "console");
}

#[test]
fn a_flag_outranks_the_file() {
    let scalars = Scalars { listen: Some("127.0.0.1:9999".into()), ..Scalars::default() };
    let config = load_with("listen: 127.0.0.1:7777\nreplica: eu-1\n", &scalars).unwrap();
    assert_eq!(config.listen.port(), 9999);
    assert_eq!(config.replica, "eu-1");
}

#[rstest]
#[case::misspelt_key("listen: 127.0.0.1:1\nalertters: []\n", "gotel.yaml:2:")]
#[case::misspelt_nested_key("alerters:\n  - name: a\n    typ: console\n", "gotel.yaml:3:")]
#[case::no_port("listen: localhost\n", "gotel.yaml:1: listen:")]
#[case::wrong_value_in_a_list(
    "\nalerters:\n  - name: a\n    type: console\n  - name: a\n    type: console\n",
    "gotel.yaml:5: alerters[1].name:"
)]
#[case::password_in_the_file(
    "databaseUrl: mysql://gotel:hush@db/gotel\n",
    "gotel.yaml:1: databaseUrl: holds a password"
)]
#[case::two_database_urls(
    "databaseUrl: sqlite://x\ndatabaseUrlFile: y\n",
    "gotel.yaml:1: databaseUrl: is given beside"
)]
#[case::password_in_the_list(
    "database:\n  urls:\n    - mysql://db-1/gotel\n    - mysql://gotel:hush@db-2/gotel\n",
    "gotel.yaml:4: database.urls[1]: holds a password: keep the URL in a file (database.urlsFile)"
)]
#[case::a_list_beside_a_url(
    "databaseUrl: mysql://db/gotel\ndatabase:\n  urls: [mysql://db/gotel]\n",
    "gotel.yaml:2: database: is given beside databaseUrl: keep one"
)]
#[case::a_list_beside_a_file(
    "databaseUrlFile: x\ndatabase:\n  urls: [mysql://db/gotel]\n",
    "gotel.yaml:2: database: is given beside databaseUrlFile: keep one"
)]
#[case::a_list_beside_its_file(
    "database:\n  urls: [mysql://db/gotel]\n  urlsFile: x\n",
    "gotel.yaml:2: database.urls: is given beside urlsFile: keep one"
)]
#[case::sqlite_among_several(
    "database:\n  urls:\n    - mysql://db/gotel\n    - sqlite:///x.db\n",
    "gotel.yaml:4: database.urls[1]: is an SQLite file"
)]
#[case::one_endpoint_twice(
    "database:\n  urls: [mysql://db/gotel, mysql://db/gotel]\n",
    "gotel.yaml:2: database.urls[1]: stands in the list twice"
)]
#[case::no_endpoint("database: {}\n", "gotel.yaml:1: database.urls: is empty: write one mysql:// URL")]
#[case::no_database(
    "database:\n  urls: [postgres://db/gotel]\n",
    "gotel.yaml:2: database.urls[0]: is no such URL"
)]
#[case::a_list_that_is_not_there(
    "database:\n  urlsFile: /nonexistent/urls\n",
    "gotel.yaml:2: database.urlsFile: cannot read the file /nonexistent/urls: "
)]
#[case::short_retention("retention:\n  history: 1h\n", "gotel.yaml:2: retention.history:")]
#[case::lease_within_the_belief(
    "coordination:\n  period: 1s\n  lease: 12s\n",
    "gotel.yaml:3: coordination.lease: after 12s of silence another replica would take over"
)]
#[case::belief_beyond_the_usual_lease("coordination: {valid: 14s}\n", "gotel.yaml:1: coordination.valid:")]
#[case::misspelt_limit("coordination:\n  oplimit: 1s\n", "gotel.yaml:2:")]
#[case::external("externalUrl: gotel.example.org\n", "gotel.yaml:1: externalUrl:")]
#[case::broken("alerters: [\n", "gotel.yaml:1: not valid YAML: ")]
#[case::doubled("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", "gotel.yaml:2: listen: is given twice")]
#[case::no_list("alerters:\n", "gotel.yaml:1: alerters: must be a list")]
#[case::no_number("alerters:\n  - name: a\n    port: hush\n", "gotel.yaml:3: port: must be a whole number")]
#[case::no_choice(
    "alerters:\n  - name: a\n    type: mail\n",
    "gotel.yaml:3: type: unknown variant `mail`, expected one of"
)]
#[case::two_heartbeats(
    "heartbeatUrl: https://a.example/hush\nheartbeatUrlFile: y\n",
    "gotel.yaml:1: heartbeatUrl: is given beside heartbeatUrlFile: keep one of the two"
)]
#[case::no_heartbeat_file(
    "heartbeatUrlFile: /nonexistent\n",
    "gotel.yaml:1: heartbeatUrlFile: cannot read the file"
)]
#[case::no_heartbeat_variable(
    "replicaHeartbeatUrl: ${HB}\n",
    "gotel.yaml:1: replicaHeartbeatUrl: the environment"
)]
#[case::no_heartbeat_url("heartbeatUrl: a.example/hush\n", "gotel.yaml:1: heartbeatUrl: is not a URL")]
#[case::password_in_a_heartbeat(
    "heartbeatUrl: https://me:hush@a.example/\n",
    "gotel.yaml:1: heartbeatUrl: holds a user name or password: use an address that is secret by itself"
)]
#[case::mysql_for_a_heartbeat(
    "replicaHeartbeatUrl: ${SECRET}\n",
    "gotel.yaml:1: replicaHeartbeatUrl: holds a user name or password"
)]
#[case::nothing_in_a_token("auth:\n  tokens:\n    - name: a\n", "gotel.yaml:3: `scopes` is missing here")]
fn a_mistake_names_file_line_and_field(#[case] text: &str, #[case] begins: &str) {
    let error = load(text).unwrap_err();
    assert!(error.starts_with(begins), "{error}");
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn an_unreadable_file_is_named() {
    let error = Config::load(Some(Path::new("/nonexistent/gotel.yaml")), &Scalars::default()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/gotel.yaml"), "{error}");
}

#[test]
fn a_secret_url_comes_from_the_environment_and_is_never_printed() {
    let config = load("databaseUrl: ${SECRET}\n").unwrap();
    assert_eq!(config.database_urls(), ["mysql://gotel:hush@db/gotel"]);
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn retention_is_read() {
    let config = load("retention: { history: 7d, incidents: 2 weeks }\n").unwrap();
    assert_eq!(config.retention, Retention { history_ms: 7 * 86_400_000, incidents_ms: 14 * 86_400_000 });
}

#[test]
fn endpoints_come_from_the_list_its_file_or_the_environment_in_their_order() {
    let config = load("database: { urls: [\"${SECRET}\", mysql://db-2/gotel] }\n").unwrap();
    assert_eq!(config.database_urls(), ["mysql://gotel:hush@db/gotel", "mysql://db-2/gotel"]);
    assert!(!format!("{config:?}").contains("hush"));

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"# the pair\nmysql://gotel:hush@db-1/gotel\n\n mysql://gotel:hush@db-2/gotel \n")
        .unwrap();
    let config = load(&format!("database: {{ urlsFile: {} }}\n", file.path().display())).unwrap();
    assert_eq!(config.database_urls(), ["mysql://gotel:hush@db-1/gotel", "mysql://gotel:hush@db-2/gotel"]);

    let scalars = Scalars { database_url: Some("mysql://flag/gotel".into()), ..Scalars::default() };
    let config = load_with("database: { urls: [mysql://db/gotel] }\n", &scalars).unwrap();
    assert_eq!(config.database_urls(), ["mysql://flag/gotel"], "a flag outranks the file");
}

#[test]
fn a_heartbeat_url_is_read_and_never_printed() {
    let config = load("heartbeatUrl: https://hc.example/hush\n").unwrap();
    assert_eq!(config.heartbeat.as_ref().unwrap().value().expose(), "https://hc.example/hush");
    assert!(config.replica_heartbeat.is_none() && !format!("{config:?}").contains("hush"));
}

#[rstest]
#[case("databaseUrl: sqlite:///var/lib/gotel/g.db?mode=rwc\n", "/var/lib/gotel")]
#[case("databaseUrl: sqlite://here/g.db\n", "here")]
#[case("databaseUrl: sqlite://g.db\n", "")]
#[case("databaseUrl: ${SECRET}\ndataDir: /d\n", "/d")]
#[case("dataDir: /d\n", "/d")]
#[case("", "data")]
fn a_replica_keeps_its_own_notes_beside_an_embedded_database_or_in_the_data_folder(
    #[case] text: &str,
    #[case] folder: &str,
) {
    assert_eq!(load(text).unwrap().state_dir, Path::new(folder));
}

#[test]
fn the_timing_of_the_election_is_read() {
    let config = load("coordination: { period: 500ms, opLimit: 1s, valid: 5s, lease: 8s }\n").unwrap();
    let timers = Timers { period_ms: 500, op_ms: 1000, valid_ms: 5000, lease_ms: 8000, alone: false };
    assert_eq!(config.coordination, timers);
    assert_eq!(load("").unwrap().coordination, Timers::SHARED);
}
