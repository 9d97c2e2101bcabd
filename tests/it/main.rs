//! Every test that goes through the public interface, in one binary. `e2e` runs the real program against the lab's real
//! masters (tests/lab): it boots them, and removes them when the last test is done.
#![allow(clippy::type_complexity, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod architecture;
mod around;
mod clients;
mod copies;
mod e2e;
mod events;
mod faults;
mod forget;
mod fuzz;
mod homes;
mod inputs;
mod library;
mod locked;
mod logins;
mod mishaps;
mod oddities;
mod offsite;
mod pages;
mod power;
mod schema;
mod turns;
mod upkeep;
mod vault;
mod watching;
