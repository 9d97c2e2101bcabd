//! Several workstations that write at one home at the same moment.

use std::fs;
use std::process::Stdio;

use crate::homes::{another, at_a_disk};

#[test]
fn i3_marks_that_two_workstations_make_at_the_same_moment_are_both_kept() {
    let (shelf, disk, url) = at_a_disk(&[10]);
    let other = another(&url);
    for shelf in [&shelf, &other] {
        shelf.tanker(&["list"]).code(0);
    }
    let tags = |who: &str| (0..4).map(|n| format!("{who}{n}")).collect::<Vec<_>>();
    for (ours, theirs) in tags("ours").iter().zip(tags("theirs")) {
        let both = [(&shelf, ours.as_str()), (&other, theirs.as_str())].map(|(on, tag)| {
            on.command(&["tag", "east@2026-11-10", "--add", tag]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        });
        for child in both {
            let ended = child.wait_with_output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
    }
    for shelf in [&shelf, &other] {
        for tag in tags("ours").into_iter().chain(tags("theirs")) {
            shelf.tanker(&["list", "--tag", &tag]).code(0).says("east@2026-11-10-02_00");
        }
    }
    assert!(!disk.join("east/.turn").exists());
}

#[test]
#[ignore = "long: make test-long"]
fn a_turn_that_a_dead_tanker_left_is_taken_when_it_has_stood_still_for_a_minute() {
    let (shelf, disk, _) = at_a_disk(&[10]);
    fs::write(disk.join("east/.turn"), "somebody 1 0\n").unwrap();
    let began = std::time::Instant::now();
    shelf.tanker(&["tag", "east@2026-11-10", "--add", "late"]).code(0);
    assert!(began.elapsed().as_secs() >= 60);
    assert!(fs::read_to_string(disk.join("east/2026-11-10-02_00/record.json")).unwrap().contains("late"));
    assert!(!disk.join("east/.turn").exists());
}
