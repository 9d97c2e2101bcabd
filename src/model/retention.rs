//! Which backups of a master stay and which may go: pure, over what the library lists. Buckets are of UTC, as backup ids are.
//!
//! Holds I3 whatever the policy says: a master's newest proven backup and everything protected stay. What lies in the trash is `purge.rs`'s, and the
//! simulated year that tests both is there.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Duration, Utc};

use super::id::BackupId;
use super::manifest::Contents;
use super::text::is_ahead;

/// How many to keep, and which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many.
    pub last: u32,
    /// The newest of each of the last so many hours that have one.
    pub hourly: u32,
    /// The same for days.
    pub daily: u32,
    /// The same for weeks (ISO: from Monday).
    pub weekly: u32,
    /// The same for months.
    pub monthly: u32,
    /// The same for years.
    pub yearly: u32,
    /// All that were begun within this time before the newest one.
    pub within: Option<Duration>,
    /// All with one of these tags.
    pub tags: Vec<String>,
}

impl Policy {
    /// Whether it keeps nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A backup, as far as retention goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: BackupId,
    /// When it began.
    pub started: DateTime<Utc>,
    /// The archive's size.
    pub bytes: u64,
    /// How much of the master it holds.
    pub contents: Contents,
    /// Whether no check speaks against its proof.
    pub proven: bool,
    /// When its restore was last tried out, and whether it restored.
    pub drilled: Option<(DateTime<Utc>, bool)>,
    /// Whether the operator protects it, or nobody can tell.
    pub protected: bool,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether the operator has said that its size is right.
    pub accepted_small: bool,
}

impl Candidate {
    /// Whether nothing at all speaks against it, neither a check nor a drill.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.proven && self.drilled.is_none_or(|(_, restored)| restored)
    }

    fn is_full(&self) -> bool {
        self.contents == Contents::Full
    }

    pub(super) fn is_ahead(&self, now: DateTime<Utc>) -> bool {
        is_ahead(self.started, now)
    }
}

/// What a backup stays for, and whether it is one of those.
type Resort = (&'static str, fn(&Candidate) -> bool);

/// Of each of these the newest stays. A light one brings no packages back, so it is no last resort; and a drill fails for the machine's sake
/// too, so what failed one doesn't go before there is a newer one.
pub(super) const LAST_RESORTS: [Resort; 4] = [
    ("the newest proven one", Candidate::is_good),
    ("the newest proven one that holds everything", |backup| backup.is_good() && backup.is_full()),
    ("the newest one that no check speaks against", |backup| backup.proven),
    ("the newest one that holds everything and that no check speaks against", |backup| backup.proven && backup.is_full()),
];

/// What becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which one.
    pub id: BackupId,
    /// Why it stays; empty where it may go.
    pub kept_for: Vec<String>,
}

/// Why nothing of a master may go at all: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Withheld(pub String);

/// Decides over one master's backups, newest first in what it returns. `accept_small`: the newest may be far smaller than those before.
/// One that was begun in the future stays, and stands for nothing.
///
/// # Errors
/// When the policy keeps nothing, the newest backup looks as if something were missing in it, or something would go and nothing that stays
/// is proven.
pub fn decide(policy: &Policy, backups: &[Candidate], accept_small: bool, now: DateTime<Utc>) -> Result<Vec<Verdict>, Withheld> {
    if policy.is_empty() {
        return Err(Withheld("the policy keeps nothing: say what to keep (--keep-daily 7), or 'keep' in the inventory".into()));
    }
    let (ahead, mut order): (Vec<&Candidate>, Vec<&Candidate>) = backups.iter().partition(|backup| backup.is_ahead(now));
    order.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
    if !accept_small {
        suspiciously_small(&order)?;
    }
    let mut kept: Vec<Vec<String>> = order.iter().map(|backup| own_reasons(policy, backup)).collect();
    for (n, (why, wanted)) in LAST_RESORTS.into_iter().enumerate() {
        let newest = order.iter().position(|backup| wanted(backup));
        if let Some(at) = newest.filter(|at| n == 0 || kept[*at].is_empty()) {
            kept[at].push(why.into());
        }
    }
    if let (Some(within), Some(newest)) = (policy.within, order.first()) {
        let since = newest.started.checked_sub_signed(within);
        for (_, reasons) in order.iter().zip(&mut kept).filter(|(backup, _)| since.is_none_or(|since| backup.started >= since)) {
            reasons.push("within the time to keep".into());
        }
    }
    type Bucket = fn(&DateTime<Utc>) -> String;
    type Among<'a> = &'a dyn Fn(&Candidate) -> bool;
    let buckets: [(u32, &str, Bucket); 6] = [
        (policy.last, "last", |time| format!("{:?}", time.timestamp_nanos_opt())),
        (policy.hourly, "hourly", |time| time.format("%Y-%m-%d %H").to_string()),
        (policy.daily, "daily", |time| time.format("%Y-%m-%d").to_string()),
        (policy.weekly, "weekly", |time| format!("{}-{}", time.iso_week().year(), time.iso_week().week())),
        (policy.monthly, "monthly", |time| time.format("%Y-%m").to_string()),
        (policy.yearly, "yearly", |time| time.format("%Y").to_string()),
    ];
    let newest_good = order.iter().find(|backup| backup.is_good()).map(|backup| backup.started);
    for (count, word, bucket) in buckets {
        // Light ones between full ones must not push them out: full ones fill the buckets once more, among themselves. So do those whose drill
        // failed since the last good one: it may have been the machine's fault, night after night, and then they are what there is.
        let failed_since = |backup: &Candidate| backup.proven && newest_good.is_none_or(|good| backup.started > good);
        let passes: [(Among<'_>, String); 3] = [
            (&Candidate::is_good, word.to_owned()),
            (&LAST_RESORTS[1].1, format!("{word} (full)")),
            (&failed_since, format!("{word} (its drill failed)")),
        ];
        for (among, word) in passes {
            let mut seen = BTreeSet::new();
            for (n, (backup, reasons)) in order.iter().zip(&mut kept).enumerate() {
                if seen.len() >= count as usize {
                    break;
                }
                // A broken one must not take the place of a good one in its bucket.
                let name = if word.starts_with("last") { n.to_string() } else { bucket(&backup.started) };
                if among(backup) && seen.insert(name) && !reasons.iter().any(|reason| word.starts_with(reason.as_str())) {
                    reasons.push(word.clone());
                }
            }
        }
    }
    // What a drill found is written into the backup's record, and would go with it.
    for (why, well) in [("the last one that was drilled", false), ("the last one whose drill went well", true)] {
        let drilled = order.iter().enumerate().filter(|(_, backup)| backup.proven);
        let drilled =
            drilled.filter_map(|(at, backup)| backup.drilled.filter(|(_, restored)| *restored || !well).map(|(time, _)| (time, at)));
        if let Some((_, at)) = drilled.max().filter(|(_, at)| kept[*at].is_empty()) {
            kept[at].push(why.into());
        }
    }
    if kept.iter().any(Vec::is_empty) && !order.iter().any(|backup| backup.is_good()) {
        return Err(Withheld("none of its backups is proven: back it up anew, or look into the trash ('tanker list --trash')".into()));
    }
    let stays = |backup: &&Candidate| Verdict { id: backup.id.clone(), kept_for: vec!["begun in the future: a clock was wrong".into()] };
    let decided = order.iter().zip(kept).map(|(backup, kept_for)| Verdict { id: backup.id.clone(), kept_for });
    Ok(ahead.iter().map(stays).chain(decided).collect())
}

fn own_reasons(policy: &Policy, backup: &Candidate) -> Vec<String> {
    let protected = backup.protected.then(|| "protected".to_owned());
    let tag = backup.tags.iter().find(|tag| policy.tags.contains(tag)).map(|tag| format!("tag {tag}"));
    protected.into_iter().chain(tag).collect()
}

/// A newest proven backup of less than half of what the ones before it usually had: whoever deletes those now may delete the only whole ones.
/// Light and full ones each for themselves.
fn suspiciously_small(newest_first: &[&Candidate]) -> Result<(), Withheld> {
    for (contents, word) in [(Contents::Full, "full"), (Contents::Light, "light")] {
        let mut proven = newest_first.iter().filter(|backup| backup.contents == contents && backup.is_good());
        let Some(newest) = proven.next() else { continue };
        if newest.accepted_small {
            continue;
        }
        // What was larger before a smaller size was accepted says nothing any more.
        let mut accepted = false;
        let before: Vec<u64> =
            proven.take_while(|backup| !std::mem::replace(&mut accepted, backup.accepted_small)).map(|backup| backup.bytes).collect();
        // Small ones that come night after night soon are what is usual among the last five.
        let usual = median(before.get(..5).unwrap_or(&before)).max(median(&before)).unwrap_or(0);
        if newest.bytes < usual / 2 {
            return Err(Withheld(format!(
                "the newest proven {word} backup {} has {} where the ones before usually have {}: look whether it holds what it should ('tanker diff'), then say --accept-small",
                newest.id,
                super::text::human_bytes(newest.bytes),
                super::text::human_bytes(usual)
            )));
        }
    }
    Ok(())
}

fn median(sizes: &[u64]) -> Option<u64> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.get(sizes.len() / 2).copied()
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::TimeZone;

    use super::*;

    pub(in super::super) fn at(time: DateTime<Utc>) -> Candidate {
        let id = BackupId::at(time, |_| false);
        Candidate {
            id,
            started: time,
            bytes: 1000,
            contents: Contents::Full,
            proven: true,
            drilled: None,
            protected: false,
            tags: vec![],
            accepted_small: false,
        }
    }

    /// A backup a day at 02:00, the last one on 2026-11-25.
    fn days(count: i64) -> Vec<Candidate> {
        let last = Utc.with_ymd_and_hms(2026, 11, 25, 2, 0, 0).unwrap();
        (0..count).rev().map(|n| at(last - Duration::days(n))).collect()
    }

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 25, 12, 0, 0).unwrap()
    }

    #[test]
    fn a_wrong_clock_makes_no_backup_the_newest_and_a_light_one_is_no_last_resort() {
        let policy = Policy { last: 1, ..Policy::default() };
        let mut backups = days(3);
        backups.push(at(Utc.with_ymd_and_hms(2040, 1, 1, 0, 0, 0).unwrap()));
        assert_eq!(kept(&policy, &backups), ["2040-01-01", "2026-11-25"]);
        backups.pop();
        backups[2].contents = Contents::Light;
        assert_eq!(kept(&policy, &backups), ["2026-11-25", "2026-11-24"]);
    }

    fn kept(policy: &Policy, backups: &[Candidate]) -> Vec<String> {
        let verdicts = decide(policy, backups, false, now()).unwrap();
        verdicts.into_iter().filter(|v| !v.kept_for.is_empty()).map(|v| v.id.as_str()[..10].to_owned()).collect()
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_bucket_and_they_add_up() {
        let policy = Policy { daily: 3, weekly: 2, monthly: 2, yearly: 5, ..Policy::default() };
        let expected = ["2026-11-25", "2026-11-24", "2026-11-23", "2026-11-22", "2026-10-31", "2025-12-31"];
        assert_eq!(kept(&policy, &days(400)), expected);
        assert_eq!(kept(&Policy { within: Some(Duration::days(2)), ..Policy::default() }, &days(9)).len(), 3);
        assert_eq!(kept(&Policy { last: 4, ..Policy::default() }, &days(9)).len(), 4);
    }

    #[test]
    fn a_broken_backup_takes_nobodys_place() {
        let mut backups = days(3);
        backups[2].proven = false;
        assert_eq!(kept(&Policy { last: 1, ..Policy::default() }, &backups), ["2026-11-24"]);
    }

    #[test]
    fn nothing_goes_where_the_newest_is_suspiciously_small_or_nothing_would_stay() {
        let mut backups = days(6);
        backups[5].bytes = 400;
        let policy = Policy { last: 1, ..Policy::default() };
        assert!(decide(&policy, &backups, false, now()).unwrap_err().to_string().contains("--accept-small"));
        assert!(decide(&policy, &backups, true, now()).is_ok());
        backups[5].contents = Contents::Light;
        assert!(decide(&policy, &backups, false, now()).is_ok(), "a light one is smaller by its nature");
        assert!(decide(&Policy::default(), &backups, true, now()).is_err());
    }

    #[test]
    fn a_small_one_is_found_behind_a_light_a_damaged_and_others_as_small() {
        let policy = Policy { last: 1, ..Policy::default() };
        let withheld = |backups: &[Candidate]| decide(&policy, backups, false, now()).unwrap_err().to_string();
        let mut behind_a_light_one = days(6);
        behind_a_light_one[4].bytes = 400;
        behind_a_light_one[5].contents = Contents::Light;
        assert!(withheld(&behind_a_light_one).contains("full backup 2026-11-24"));
        let mut behind_a_damaged_one = days(6);
        behind_a_damaged_one[4].bytes = 400;
        behind_a_damaged_one[5].proven = false;
        assert!(withheld(&behind_a_damaged_one).contains("2026-11-24"));
        let mut four_nights = days(10);
        four_nights[6..].iter_mut().for_each(|backup| backup.bytes = 400);
        assert!(withheld(&four_nights).contains("2026-11-25"));
        four_nights.iter_mut().for_each(|backup| backup.contents = Contents::Light);
        assert!(withheld(&four_nights).contains("light backup 2026-11-25"));
    }

    #[test]
    fn i3_what_failed_its_drill_takes_nobodys_place_and_is_dropped_for_nothing() {
        let policy = Policy { last: 1, ..Policy::default() };
        let mut backups = days(3);
        backups[2].drilled = Some((now(), false));
        assert_eq!(kept(&policy, &backups), ["2026-11-25", "2026-11-24"]);
        backups.iter_mut().for_each(|backup| backup.drilled = Some((backup.started, false)));
        assert!(decide(&policy, &backups, false, now()).unwrap_err().to_string().contains("none of its backups is proven"));
        backups[0].protected = true;
        assert_eq!(decide(&policy, &backups[..1], false, now()).unwrap()[0].kept_for[0], "protected", "nothing would go");
    }

    #[test]
    fn i3_the_last_drill_of_a_master_stays_known() {
        let policy = Policy { last: 2, ..Policy::default() };
        let mut backups = days(9);
        backups[1].drilled = Some((backups[1].started, true));
        assert_eq!(kept(&policy, &backups), ["2026-11-25", "2026-11-24", "2026-11-18"]);
        backups[3].drilled = Some((backups[3].started, false));
        assert_eq!(kept(&policy, &backups), ["2026-11-25", "2026-11-24", "2026-11-20", "2026-11-18"]);
        backups[8].drilled = Some((backups[8].started, true));
        assert_eq!(kept(&policy, &backups), ["2026-11-25", "2026-11-24"]);
    }

    #[test]
    fn light_ones_push_no_full_one_out_of_its_bucket() {
        let mut backups = days(30);
        // Full ones on Mondays: the newest of each week is a light one.
        backups.iter_mut().filter(|b| b.started.weekday() != chrono::Weekday::Mon).for_each(|b| b.contents = Contents::Light);
        let policy = Policy { weekly: 3, ..Policy::default() };
        let expected = ["2026-11-25", "2026-11-23", "2026-11-22", "2026-11-16", "2026-11-15", "2026-11-09"];
        assert_eq!(kept(&policy, &backups), expected);
        let verdicts = decide(&policy, &backups, false, now()).unwrap();
        assert_eq!(verdicts.iter().find(|v| v.id.as_str().starts_with("2026-11-16")).unwrap().kept_for, ["weekly (full)"]);
    }

    #[test]
    fn i3_nights_whose_drills_all_failed_are_kept_as_others_are() {
        let policy = Policy { daily: 3, ..Policy::default() };
        let mut backups = days(9);
        backups[4..].iter_mut().for_each(|backup| backup.drilled = Some((backup.started, false)));
        let expected = ["2026-11-25", "2026-11-24", "2026-11-23", "2026-11-20", "2026-11-19", "2026-11-18"];
        assert_eq!(kept(&policy, &backups), expected, "the machine that drills may be what failed");
    }

    #[test]
    fn a_smaller_size_is_accepted_once() {
        let policy = Policy { daily: 20, ..Policy::default() };
        let mut backups = days(20);
        backups[15..].iter_mut().for_each(|backup| backup.bytes = 400);
        assert!(decide(&policy, &backups, false, now()).is_err());
        backups[15].accepted_small = true;
        assert!(decide(&policy, &backups, false, now()).is_ok(), "what came since is as large");
        backups[19].bytes = 100;
        assert!(decide(&policy, &backups, false, now()).unwrap_err().to_string().contains("2026-11-25"), "and held against that");
    }
}
