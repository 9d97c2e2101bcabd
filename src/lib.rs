//! tanker: backs up and restores Fuel masters over SSH, from an admin workstation.
//!
//! Imports go one way: `main` -> `commands` -> {`fleet`, `remote`, `library`} -> `model`; `ui` -> `commands`' results,
//! `monitor`, `model`. `model` is pure; only `remote::ssh` names russh; only `library` touches archive files; only `ui` prints
//! or names indicatif; only `platform` tells Unix from Windows. `tests/it/architecture.rs` holds this.

pub mod cli;
pub mod commands;
pub mod exit;
pub mod fleet;
pub mod library;
pub mod model;
pub mod monitor;
pub mod platform;
pub mod remote;
pub mod ui;
