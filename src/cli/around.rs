//! The command line of verbs around the daily work.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::examples;
use crate::model::span::parse_span;

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Hosts, groups or globs; unless given all of the inventory and of the library
    pub pattern: Vec<String>,
    /// A master without a good backup for longer than this is at risk: 36h, 7d
    #[arg(long, value_name = "SPAN", default_value = "7d", value_parser = parse_span)]
    pub max_age: chrono::Duration,
    /// A master that nobody drilled for longer than this should be
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = parse_span)]
    pub max_drill_age: chrono::Duration,
    /// Also write it as one page without outside resources
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also write it for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    pub prometheus: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Hosts to put into it: names of ~/.ssh/config, or [user@]address[:port]
    pub hosts: Vec<String>,
    /// The inventory to write; unless given the usual one in the XDG config folder
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

/// Options of `config`.
#[derive(Debug, Args)]
pub struct Config {
    /// What to do
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// What `config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Read the inventory and everything that it names on this workstation; reach no host
    #[command(after_help = examples::CONFIG_CHECK)]
    Check,
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write a page for each verb into this folder, instead of the main one to stdout
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}
