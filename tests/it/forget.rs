//! What `forget` takes and what it never takes, and the trash in between.

use std::fs;

use chrono::{Duration, TimeZone, Utc};

use crate::library::add_bytes;
use crate::upkeep::{Shelf, day, rot};

#[test]
fn i3_forget_shows_why_changes_nothing_without_yes_and_can_be_taken_back() {
    let shelf = Shelf::new("[hosts.east]\naddress = '127.0.0.1'\nkeep = { daily = 2 }\n");
    shelf.days(4);
    shelf.tanker(&["protect", "east@2026-11-19"]).code(0).says("protected");
    shelf.tanker(&["tag", "east@2026-11-20", "--add", "before-upgrade"]).code(0).says("tags before-upgrade");
    shelf.tanker(&["note", "east@2026-11-20", "the one before the upgrade"]).code(0);
    shelf.tanker(&["show", "east@2026-11-20"]).code(0).says("the one before the upgrade").says("before-upgrade");
    shelf.tanker(&["list", "--tag", "before-upgrade"]).code(0).says("east@2026-11-20-02_00");
    let plan = shelf.tanker(&["forget"]).code(0).says("protected").says("daily").says("the newest proven one").says("nothing was changed");
    assert!(plan.stdout.contains("goes  2026-11-20-02_00"), "{}", plan.stdout);
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 4);
    shelf.tanker(&["forget", "--keep-last", "1", "--keep-tag", "before-upgrade"]).code(0).says("tag before-upgrade");
    shelf.tanker(&["forget", "--yes"]).code(0).says("1 moved into the trash");
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 3);
    shelf.tanker(&["list", "--trash"]).code(0).says("east@2026-11-20-02_00").says("just now");
    shelf.tanker(&["undelete", "east@2026-11-20-02_00"]).code(0).says("is listed again");
    shelf.tanker(&["undelete", "east@2026-11-20-02_00"]).code(3).says("in the trash");
    shelf.tanker(&["show", "east@2026-11-20"]).code(0).says("the one before the upgrade");
    shelf.tanker(&["verify", "--all", "--deep"]).code(0);

    // The trash is emptied of what has lain there for its days, and of nothing else.
    shelf.tanker(&["forget", "--yes"]).code(0);
    assert_eq!(shelf.library().trashed(&"east".parse().unwrap()).unwrap().0.len(), 1);
    shelf.inventory("[defaults]\ntrash_days = 0\n[hosts.east]\naddress = '127.0.0.1'\nkeep = { daily = 2 }\n");
    shelf.tanker(&["forget", "--yes"]).code(0).says("nothing is to be forgotten");
    assert_eq!(shelf.library().trashed(&"east".parse().unwrap()).unwrap().0.len(), 0);
    shelf.inventory("[hosts.east]\naddress = '127.0.0.1'\n");
    shelf.tanker(&["forget", "--yes"]).code(3).says("the policy keeps nothing");
    shelf.tanker(&["unprotect", "east@2026-11-19"]).code(0).says("not protected");
}

#[test]
fn i3_the_last_proven_backup_stays_where_newer_ones_are_damaged() {
    let shelf = Shelf::new("[hosts.east]\naddress = '127.0.0.1'\nkeep = { last = 1 }\n");
    let entries = shelf.days(3);
    entries[1..].iter().for_each(rot);
    shelf.tanker(&["verify", "--all"]).code(5).says("DAMAGED");
    shelf.tanker(&["list"]).code(0).says("DAMAGED (just now)");
    shelf.tanker(&["forget", "--yes"]).code(0).says("2 moved into the trash");
    let (left, _) = shelf.library().list(None).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].manifest, entries[0].manifest);
}

#[test]
fn a_newest_backup_that_is_suspiciously_small_withholds_the_others() {
    let shelf = Shelf::new("[hosts.east]\naddress = '127.0.0.1'\nkeep = { last = 1 }\n");
    let entries = shelf.days(3);
    // Its manifest says so: what is inside is not looked at for this.
    let folder = &entries[2].folder;
    let text = fs::read_to_string(folder.join("manifest.json")).unwrap();
    let bytes = entries[2].manifest.archive.bytes;
    fs::write(folder.join("manifest.json"), text.replace(&format!("\"bytes\": {bytes}"), "\"bytes\": 1000")).unwrap();
    fs::File::options().write(true).open(entries[2].archive()).unwrap().set_len(1000).unwrap();
    shelf.tanker(&["forget", "--yes"]).code(3).says("nothing goes").says("--accept-small");
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 3);
    shelf.tanker(&["forget", "--yes", "--accept-small"]).code(0).says("2 moved");
    // Said once: those that are as large as before come back, and it is asked no more.
    shelf.tanker(&["undelete", "east@2026-11-20", "east@2026-11-21"]).code(0);
    shelf.tanker(&["forget", "--yes"]).code(0).says("2 moved");
}

#[test]
fn i3_the_trash_is_not_emptied_of_what_is_better_than_all_that_is_listed() {
    let shelf = Shelf::new("[hosts.east]\nkeep = { last = 1 }\n");
    let entries = shelf.days(3);
    shelf.tanker(&["forget", "--yes"]).code(0).says("2 moved");
    let trashed = || shelf.library().trashed(&"east".parse().unwrap()).unwrap().0;
    let lies_for = |days| {
        for mut trashed in trashed() {
            trashed.entry.update(false, |record| record.deleted = Some(Utc::now() - Duration::days(days))).unwrap();
        }
    };
    lies_for(6);
    shelf.tanker(&["forget", "--yes"]).code(0);
    assert_eq!(trashed().len(), 2, "their days are not over");
    lies_for(8);
    rot(&entries[2]);
    shelf.tanker(&["verify", "--all"]).code(5);
    shelf.tanker(&["forget", "--yes"]).code(3).says("none of its backups is proven");
    assert_eq!(trashed().len(), 2);
    // Where nothing would go nothing is withheld.
    shelf.tanker(&["protect", "east@latest"]).code(0);
    shelf.tanker(&["forget", "--yes"]).code(0).says("east@2026-11-21-02_00 stays in the trash beyond its days");
    assert_eq!(trashed().iter().map(|trashed| trashed.entry.manifest.clone()).collect::<Vec<_>>(), [entries[1].manifest.clone()]);
    shelf.add(day() + Duration::days(1), None);
    shelf.tanker(&["forget", "--yes"]).code(0);
    assert_eq!(trashed(), []);
}

#[test]
fn i3_a_record_that_cant_be_read_and_a_drill_that_failed_prove_nothing() {
    let shelf = Shelf::new("[hosts.east]\nkeep = { last = 1 }\n");
    let mut entries = shelf.days(2);
    fs::write(entries[1].folder.join("record.json"), "{").unwrap();
    shelf.tanker(&["forget", "--yes"]).code(0).says("the newest proven one").says("nothing is to be forgotten");
    fs::remove_file(entries[1].folder.join("record.json")).unwrap();
    let drill = |failure: Option<&str>| tanker::model::record::Drill {
        at: Utc::now(),
        on: "m".into(),
        seconds: 1,
        failure: failure.map(Into::into),
    };
    entries[1].update(false, |record| record.drills.push(drill(Some("no database")))).unwrap();
    shelf.tanker(&["forget", "--yes"]).code(0).says("nothing is to be forgotten");
    entries[1].update(false, |record| record.drills.push(drill(None))).unwrap();
    shelf.tanker(&["forget", "--yes"]).code(0).says("1 moved");
}

#[test]
fn the_last_drill_is_known_as_long_as_nothing_newer_was_drilled() {
    let shelf = Shelf::new("[hosts.east]\nkeep = { last = 2 }\n");
    let mut entries = shelf.days(4);
    let drill = tanker::model::record::Drill { at: Utc::now() - Duration::days(100), on: "m".into(), seconds: 1, failure: None };
    entries[0].update(false, |record| record.drills.push(drill)).unwrap();
    shelf.tanker(&["forget", "--yes"]).code(0).says("1 moved").says("the last one that was drilled");
    shelf.tanker(&["report", "--prometheus", "prom"]).says("its last drill was 100 d ago");
    assert!(fs::read_to_string(shelf.path("prom")).unwrap().contains("tanker_drill_timestamp_seconds{host=\"east\"}"));
}

#[test]
fn an_inventory_that_cant_be_read_neither_shortens_the_trash_nor_hides_a_host() {
    let shelf = Shelf::new("[defaults]\ntrash_days = 90\n[hosts.east\n");
    shelf.days(2);
    for verb in [&["forget", "--keep-last", "1", "--yes"][..], &["report"]] {
        shelf.tanker(&[&["--library", "tanker"], verb].concat()).code(2).says("inventory.toml");
    }
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 2);
    fs::remove_file(shelf.path("inventory.toml")).unwrap();
    shelf.tanker(&["--library", "tanker", "forget", "--keep-last", "1", "--yes"]).code(0).says("1 moved");
    assert_ne!(shelf.tanker(&["--library", "tanker", "report"]).code, Some(2), "none is needed");
}

#[test]
fn what_lies_in_the_trash_is_named_as_what_is_listed_is() {
    let shelf = Shelf::new("[hosts.east]\nkeep = { last = 1 }\n");
    shelf.days(4);
    shelf.tanker(&["tag", "east@2026-11-20", "--add", "gold"]).code(0);
    shelf.tanker(&["forget", "--yes"]).code(0).says("3 moved");
    let tagged = shelf.tanker(&["list", "--trash", "--tag", "gold"]).code(0).says("east@2026-11-20");
    assert!(!tagged.stdout.contains("east@2026-11-21"), "{}", tagged.stdout);
    shelf.tanker(&["undelete", "east@2026-11"]).code(3).says("names 3 backups").says("say more of the id");
    shelf.tanker(&["undelete", "eats@latest"]).code(3).says("in the trash (did you mean 'east'?)");
    shelf.tanker(&["undelete", "east@2026-11-20-02_01"]).code(3).says("did you mean east@2026-11-20-02_00?");
    shelf.tanker(&["undelete", "east@2026-01-01"]).code(3).says("'tanker list --trash east' shows");
    shelf.tanker(&["undelete", "east@latest"]).code(0).says("east@2026-11-21-02_00  is listed again");
    shelf.tanker(&["undelete", "east@2026-11-20"]).code(0).says("east@2026-11-20-02_00  is listed again");
    shelf.tanker(&["undelete", "east@2026-11-19-0"]).code(0).says("east@2026-11-19-02_00  is listed again");
    shelf.tanker(&["undelete", "east@latest"]).code(3).says("nothing of east lies there");
}

#[test]
fn an_id_that_lies_in_the_trash_is_not_given_again() {
    let shelf = Shelf::new("[hosts.east]\nkeep = { last = 1 }\n");
    let entries = shelf.days(2);
    shelf.tanker(&["forget", "--yes"]).code(0).says("1 moved");
    let (host, id) = ("east".parse().unwrap(), &entries[0].manifest.description.id);
    assert!(shelf.library().is_taken(&host, id), "the next backup in that hour gets another id");
    shelf.tanker(&["undelete", "east@2026-11-21-02_00"]).code(0);
}

#[test]
fn each_span_keeps_the_newest_of_its_hours_days_weeks_months_and_years_by_flag_and_by_inventory() {
    let shelf = Shelf::new("");
    // The last one is a Sunday's.
    for (y, m, d, h, min) in [
        (2025, 6, 1, 10, 0),
        (2025, 12, 31, 10, 0),
        (2026, 10, 5, 10, 0),
        (2026, 10, 30, 10, 0),
        (2026, 11, 15, 10, 0),
        (2026, 11, 21, 10, 0),
        (2026, 11, 21, 23, 0),
        (2026, 11, 22, 0, 50),
        (2026, 11, 22, 1, 10),
        (2026, 11, 22, 1, 30),
        (2026, 11, 22, 2, 0),
    ] {
        // Its id tells hour and second.
        add_bytes(&shelf.library(), Utc.with_ymd_and_hms(y, m, d, h, min, min).unwrap(), 64);
    }
    let kept = |args: &[&str]| -> Vec<String> {
        let ran = shelf.tanker(&[&["forget", "--json"], args].concat()).code(0);
        let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let backups = plan["hosts"][0]["backups"].as_array().unwrap().iter().filter(|backup| backup["keep"] == true);
        // When it was begun: two of one hour differ in their ids by a number only.
        backups.map(|backup| backup["name"].as_str().unwrap().strip_prefix("east@20").unwrap()[..11].to_owned()).collect()
    };
    for (flag, key, count, expected) in [
        ("--keep-last", "last", "2", vec!["26-11-22-01", "26-11-22-02"]),
        ("--keep-hourly", "hourly", "3", vec!["26-11-22-00", "26-11-22-01", "26-11-22-02"]),
        ("--keep-daily", "daily", "3", vec!["26-11-15-10", "26-11-21-23", "26-11-22-02"]),
        ("--keep-weekly", "weekly", "3", vec!["26-10-30-10", "26-11-15-10", "26-11-22-02"]),
        ("--keep-monthly", "monthly", "3", vec!["25-12-31-10", "26-10-30-10", "26-11-22-02"]),
        ("--keep-yearly", "yearly", "2", vec!["25-12-31-10", "26-11-22-02"]),
        ("--keep-within", "within", "2h", vec!["26-11-22-00", "26-11-22-01", "26-11-22-01", "26-11-22-02"]),
    ] {
        shelf.inventory("[hosts.east]\n");
        assert_eq!(kept(&[flag, count]), expected, "{flag} {count}");
        let value = if key == "within" { format!("'{count}'") } else { count.to_owned() };
        shelf.inventory(&format!("[hosts.east]\nkeep = {{ {key} = {value} }}\n"));
        assert_eq!(kept(&[]), expected, "{key} = {value}");
    }
}

#[test]
fn i3_a_record_that_rots_in_the_trash_is_not_begun_anew_by_taking_its_backup_out() {
    let shelf = Shelf::new("[hosts.east]\nkeep = { last = 1 }\n");
    shelf.days(2);
    shelf.tanker(&["forget", "--yes"]).code(0).says("1 moved");
    fs::write(shelf.path("tanker/east/.trash/2026-11-21-02_00/record.json"), "{").unwrap();
    shelf.tanker(&["undelete", "east@2026-11-21-02_00"]).code(0);
    assert_eq!(fs::read_to_string(shelf.path("tanker/east/2026-11-21-02_00/record.json")).unwrap(), "{");
    shelf.tanker(&["list"]).code(0).says("as if it were protected");
}
