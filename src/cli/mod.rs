//! The command line: one subcommand, one file.

mod alerter;
mod checkin;
mod cluster;
mod config;
mod crd;
mod migrate;
mod openapi;
mod replica;
mod serve;
mod version;

use crate::config::{Config, ConfigError, Scalars};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A dead-man's switch for scheduled jobs.
///
/// A job makes a reservation, checks in after each good run, and when the check-in is late, somebody is
/// told.
#[derive(Debug, Parser)]
#[command(name = "gotel", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Start here; it prints what to try next:\n  gotel serve")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Migrate(migrate::Migrate),
    Checkin(checkin::Checkin),
    #[command(subcommand)]
    Alerter(alerter::Alerter),
    #[command(subcommand)]
    Replica(replica::Replica),
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Openapi(openapi::Openapi),
    Crd(crd::Crd),
    Version(version::Version),
}

/// Which configuration to use.
#[derive(Debug, Clone, clap::Args)]
pub struct Source {
    /// The configuration file (YAML)
    #[arg(long, env = "GOTEL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    scalars: Scalars,
}

impl Source {
    /// Loads it.
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), &self.scalars)
    }
}

/// Runs what the command line asks for. Mistakes are printed as one sentence; the code is 1, or 2 when the
/// command line itself is wrong.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Migrate(command) => command.run(),
        Command::Checkin(command) => command.run(),
        Command::Alerter(command) => command.run(),
        Command::Replica(command) => command.run(),
        Command::Cluster(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Openapi(command) => command.run(),
        Command::Crd(command) => command.run(),
        Command::Version(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("gotel: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime for commands that only do one thing.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
