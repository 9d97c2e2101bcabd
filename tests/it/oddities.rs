//! Libraries as they shouldn't be: entries that nobody can look at, clocks that were wrong, keys that don't fit.

use std::fs;

use chrono::Duration;

use crate::upkeep::{Shelf, day};

#[test]
fn a_deep_sample_reaches_all_though_others_look_every_night_and_new_ones_come() {
    let shelf = Shelf::new("");
    shelf.days(6);
    let deep = |shelf: &Shelf| shelf.tanker(&["--library", "tanker", "verify", "--sample", "1%", "--deep"]).code(0).stdout;
    let mut seen: Vec<String> = (0..5)
        .map(|night| {
            // More glances than a record keeps.
            (0..5).for_each(|_| drop(shelf.tanker(&["--library", "tanker", "verify", "--all"]).code(0)));
            shelf.add(day() + Duration::days(1 + night), None);
            deep(&shelf)
        })
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5, "one after another: {seen:?}");
    assert!(seen.iter().all(|line| line.contains("2026-11-1") || line.contains("2026-11-20") || line.contains("2026-11-21")), "{seen:?}");
}

#[test]
fn what_cannot_be_looked_at_is_said_and_no_older_one_is_taken_for_it() {
    let shelf = Shelf::new("");
    let newest = shelf.days(2).pop().unwrap();
    let elsewhere = shelf.path("elsewhere");
    fs::rename(&newest.folder, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &newest.folder).unwrap();
    let look = |args: &[&str]| shelf.tanker(&[&["--library", "tanker"], args].concat());
    look(&["verify", "east@latest"]).code(0).says("2026-11-22");
    // Its disk isn't there.
    fs::rename(&elsewhere, shelf.path("gone")).unwrap();
    look(&["list"]).code(5).says("east@2026-11-22-02_00").says("it can't be looked at");
    look(&["verify", "east@latest"]).code(5).says("it can't be looked at");
    // Whose a folder is that bears no host's name nobody knows.
    fs::rename(shelf.path("tanker/east"), shelf.path("tanker/east (copy)")).unwrap();
    look(&["list"]).code(5).says("is no host's");
}

#[test]
fn which_one_is_the_latest_nobody_says_while_one_lies_in_the_future() {
    let shelf = Shelf::new("");
    shelf.days(1);
    shelf.add(chrono::Utc::now() + Duration::days(1500), None);
    let look = |args: &[&str]| shelf.tanker(&[&["--library", "tanker"], args].concat());
    look(&["show", "east@latest"]).code(3).says("begun in the future").says("east@2026-11-22-02_00");
    look(&["show", "east@2026-11-22"]).code(0);
    look(&["list"]).code(0).says("in the future");
    look(&["report"]).says("begun in the future");
}

#[test]
fn one_that_no_key_here_opens_holds_up_no_other_in_a_deep_sample() {
    let shelf = Shelf::new("");
    let (retired, kept) = (shelf.keygen("retired.txt"), shelf.keygen("kept.txt"));
    for (n, key) in [(2, retired), (1, kept.clone()), (0, kept)] {
        let to = tanker::library::Recipients::parse(&[key], "test").unwrap();
        shelf.add(day() - Duration::days(n), Some(&to));
    }
    let look = || shelf.tanker(&["--library", "tanker", "--key", "kept.txt", "verify", "--sample", "1%", "--deep"]);
    look().code(3).says("2026-11-20-02_00 was held from outside only");
    look().code(0).says("2026-11-21-02_00");
    look().code(0).says("2026-11-22-02_00");
    look().code(3).says("2026-11-20-02_00 was held from outside only");
}

#[test]
fn i2_what_was_on_its_way_between_two_names_when_the_power_went_is_listed_again() {
    let shelf = Shelf::new("");
    let [older, newer] = <[_; 2]>::try_from(shelf.days(2)).unwrap();
    let aside = |entry: &tanker::library::Entry| entry.folder.with_extension("aside");
    let look = |args: &[&str]| shelf.tanker(&[&["--library", "tanker"], args].concat());
    // Where a file system can't exchange two names: the listed one was put aside, and the other one had not come into its place.
    fs::rename(&newer.folder, aside(&newer)).unwrap();
    look(&["list"]).code(5).says("2026-11-22-02_00.aside");
    look(&["forget", "--keep-last", "5", "--yes"]).code(0);
    look(&["list"]).code(0).says("2026-11-22-02_00");
    // It had come: what is aside is the old one.
    fs::create_dir(aside(&older)).unwrap();
    look(&["forget", "--keep-last", "5", "--yes"]).code(0);
    assert!(older.folder.exists() && !aside(&older).exists());
    look(&["verify", "--all"]).code(0);
}
