//! Pure data and decisions: no I/O, no async, no clock. Time is always an argument.

pub mod astute;
pub mod backup_plan;
pub mod facts;
pub mod id;
mod inspect;
pub mod inventory;
pub mod lrzip;
pub mod manifest;
pub mod outlook;
pub mod pattern;
pub mod pending;
pub mod purge;
pub mod record;
pub mod release;
pub mod report;
pub mod restore_parts;
pub mod restore_plan;
pub mod retention;
pub mod room;
pub mod secret;
pub mod span;
pub mod ssh_config;
pub mod stock;
pub mod tasks;
pub mod text;
