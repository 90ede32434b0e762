//! The command line as documented: targets of the Makefile, help of each subcommand, keys of the configuration.

use super::workshop::{Workshop, file};

#[test]
fn make_test_is_what_the_integration_server_runs() {
    assert!(file("Makefile").lines().any(|line| line.starts_with("test: ")));
    let script = file(".ci/run");
    assert!(script.lines().any(|line| line.trim_start().starts_with("make test")), "{script}");
}

#[tokio::test]
async fn every_subcommand_has_a_help_with_an_example_that_names_it() {
    let workshop = Workshop::new();
    let commands = [
        "serve",
        "migrate",
        "checkin",
        "alerter test",
        "replica list",
        "replica forget",
        "cluster release",
        "crd",
        "config check",
        "openapi",
        "version",
    ];
    for command in commands {
        let help = workshop.run(&format!("gotel {command} --help")).await;
        assert_eq!(help.code, Some(0), "{help:#?}");
        let mut lines = help.out.lines().skip_while(|line| !line.starts_with("Example"));
        lines.next().unwrap_or_else(|| panic!("gotel {command} --help has no example:\n{}", help.out));
        let example = lines.next().unwrap_or_default().trim();
        assert!(example.starts_with(&format!("gotel {command}")), "{example:?}");
    }
    let short = workshop.run("gotel --help").await.out;
    let listed = |command: &str| {
        let first = command.split(' ').next().unwrap();
        short.lines().any(|line| line.trim_start().starts_with(&format!("{first} ")))
    };
    assert!(commands.into_iter().all(listed), "{short}");
}

#[tokio::test]
async fn a_misspelt_key_is_refused_with_its_file_line_and_the_keys_there_are() {
    let workshop = Workshop::new();
    workshop.write("gotel.yaml", "# ours\nalerters:\n  - name: x\n    typ: smtp\n");
    let ran = workshop.run("gotel config check --config gotel.yaml").await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.starts_with("gotel: gotel.yaml:4: unknown field `typ`, expected one of name, type"),
        "{}",
        ran.err
    );
}

/// The keys that the program knows in a place, by its own refusal of one it does not know.
async fn keys(workshop: &Workshop, yaml: &str) -> Vec<String> {
    workshop.write("keys.yaml", yaml);
    let ran = workshop.run("gotel config check --config keys.yaml").await;
    let (_, list) = ran.err.trim().split_once("expected one of ").unwrap_or_else(|| panic!("{}", ran.err));
    list.split(", ").map(str::to_owned).collect()
}

#[tokio::test]
async fn every_key_of_the_configuration_stands_in_the_full_example_and_in_the_documentation() {
    let workshop = Workshop::new();
    let places = [
        "zzz: 1\n",
        "auth: {zzz: 1}\n",
        "auth: {tokens: [{zzz: 1}]}\n",
        "alerters: [{zzz: 1}]\n",
        "coordination: {zzz: 1}\n",
        "retention: {zzz: 1}\n",
        "peers: {zzz: 1}\n",
        "peers: {replicas: [{zzz: 1}]}\n",
        "kubernetes: {zzz: 1}\n",
    ];
    let example = file("examples/gotel.full.yaml");
    let documentation = file("docs/configuration.md") + &file("docs/alerters.md");
    let mut missing = Vec::new();
    for place in places {
        for key in keys(&workshop, place).await {
            let written =
                |line: &str| line.trim_start_matches(['#', ' ', '-']).starts_with(&format!("{key}:"));
            if !example.lines().any(written) {
                missing.push(format!("{key} in the full example"));
            }
            if !documentation.contains(&format!("`{key}`")) && !documentation.contains(&format!(".{key}`")) {
                missing.push(format!("`{key}` in the documentation"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
