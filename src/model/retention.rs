//! Which backups of a master stay and which may go: pure, over what the library lists. Buckets are of UTC, as backup ids are.
//!
//! Holds I3 whatever the policy says: a master's newest proven backup and everything protected stay.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Duration, Utc};

use super::id::BackupId;
use super::manifest::Contents;

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
    /// Whether nothing speaks against its proof.
    pub proven: bool,
    /// Whether the operator protects it, or nobody can tell.
    pub protected: bool,
    /// Its tags.
    pub tags: Vec<String>,
}

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

/// A backup that was begun later than this from now was begun by a wrong clock.
const AHEAD: Duration = Duration::days(1);

/// Decides over one master's backups, newest first in what it returns. `accept_small`: the newest may be far smaller than those before.
/// One that was begun in the future stays, and stands for nothing.
///
/// # Errors
/// When the policy keeps nothing, or the newest backup looks as if something were missing in it.
pub fn decide(policy: &Policy, backups: &[Candidate], accept_small: bool, now: DateTime<Utc>) -> Result<Vec<Verdict>, Withheld> {
    if policy.is_empty() {
        return Err(Withheld("the policy keeps nothing: say what to keep (--keep-daily 7), or 'keep' in the inventory".into()));
    }
    let (ahead, mut order): (Vec<&Candidate>, Vec<&Candidate>) = backups.iter().partition(|backup| backup.started - now > AHEAD);
    order.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
    if !accept_small {
        suspiciously_small(&order)?;
    }
    let mut kept: Vec<Vec<String>> = order.iter().map(|backup| own_reasons(policy, backup)).collect();
    // A light one brings no packages back: it is no last resort.
    let newest = [("the newest proven one", false), ("the newest proven one that holds everything", true)];
    for (why, whole) in newest {
        let stays = order.iter().position(|backup| backup.proven && (!whole || backup.contents == Contents::Full));
        if let Some(at) = stays.filter(|at| kept[*at].is_empty() || !whole) {
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
    let buckets: [(u32, &str, Bucket); 6] = [
        (policy.last, "last", |time| format!("{:?}", time.timestamp_nanos_opt())),
        (policy.hourly, "hourly", |time| time.format("%Y-%m-%d %H").to_string()),
        (policy.daily, "daily", |time| time.format("%Y-%m-%d").to_string()),
        (policy.weekly, "weekly", |time| format!("{}-{}", time.iso_week().year(), time.iso_week().week())),
        (policy.monthly, "monthly", |time| time.format("%Y-%m").to_string()),
        (policy.yearly, "yearly", |time| time.format("%Y").to_string()),
    ];
    for (count, word, bucket) in buckets {
        let mut seen = BTreeSet::new();
        for (n, (backup, reasons)) in order.iter().zip(&mut kept).enumerate() {
            if seen.len() >= count as usize {
                break;
            }
            // A broken one must not take the place of a good one in its bucket.
            let name = if word == "last" { n.to_string() } else { bucket(&backup.started) };
            if backup.proven && seen.insert(name) {
                reasons.push(word.to_owned());
            }
        }
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

/// A newest backup of less than half of what the ones before it usually had: whoever deletes those now may delete the only whole ones.
fn suspiciously_small(newest_first: &[&Candidate]) -> Result<(), Withheld> {
    let Some((newest, before)) = newest_first.split_first() else { return Ok(()) };
    let mut sizes: Vec<u64> = before.iter().filter(|b| b.contents == newest.contents && b.proven).map(|b| b.bytes).take(5).collect();
    sizes.sort_unstable();
    let Some(usual) = sizes.get(sizes.len() / 2) else { return Ok(()) };
    if newest.bytes >= usual / 2 {
        return Ok(());
    }
    Err(Withheld(format!(
        "the newest backup {} has {} where the ones before usually have {}: look whether it holds what it should ('tanker diff'), then say --accept-small",
        newest.id,
        super::text::human_bytes(newest.bytes),
        super::text::human_bytes(*usual)
    )))
}

/// A time span: `36h`, `14d`, `8w`, `6m` (months of 30 days), `2y`.
///
/// # Errors
/// With a sentence, when it is none.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{}' is no time span: 36h, 14d, 8w, 6m or 2y", super::text::printable(text));
    let (at, unit) = text.char_indices().last().ok_or_else(bad)?;
    let count: u32 = text[..at].parse().map_err(|_| bad())?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        'm' => 30 * 24,
        'y' => 365 * 24,
        _ => return Err(bad()),
    };
    if count == 0 || count > 100_000 {
        return Err(bad());
    }
    Ok(Duration::hours(i64::from(count) * hours))
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn at(time: DateTime<Utc>) -> Candidate {
        let id = BackupId::at(time, |_| false);
        Candidate { id, started: time, bytes: 1000, contents: Contents::Full, proven: true, protected: false, tags: vec![] }
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
    fn i3_no_policy_takes_the_last_proven_or_a_protected_backup_in_a_simulated_year() {
        // A fixed seed: the same thousand years every time.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..300 {
            let mut policy = Policy::default();
            for rule in
                [&mut policy.last, &mut policy.hourly, &mut policy.daily, &mut policy.weekly, &mut policy.monthly, &mut policy.yearly]
            {
                *rule = if random(3) == 0 { u32::try_from(random(8)).unwrap() } else { 0 };
            }
            policy.within = (random(4) == 0).then(|| Duration::hours(i64::try_from(random(2000)).unwrap() + 1));
            policy.tags = if random(2) == 0 { vec!["gold".into()] } else { vec![] };
            let start = Utc.with_ymd_and_hms(2025, 11, 25, 2, 0, 0).unwrap();
            let mut library: Vec<Candidate> = Vec::new();
            for day in 0..366 {
                let mut new = at(start + Duration::days(day) + Duration::minutes(i64::try_from(random(600)).unwrap()));
                new.proven = random(10) != 0;
                new.protected = random(40) == 0;
                new.tags = if random(30) == 0 { vec!["gold".into()] } else { vec![] };
                library.push(new);
                let Ok(verdicts) = decide(&policy, &library, true, start + Duration::days(day) + Duration::hours(12)) else { continue };
                let goes: Vec<BackupId> = verdicts.into_iter().filter(|v| v.kept_for.is_empty()).map(|v| v.id).collect();
                let last_proven = library.iter().rev().find(|b| b.proven).map(|b| b.id.clone());
                let before = library.clone();
                library.retain(|b| !goes.contains(&b.id));
                assert!(last_proven.is_none_or(|id| library.iter().any(|b| b.id == id)), "{policy:?}");
                assert!(before.iter().filter(|b| b.protected).all(|b| library.contains(b)), "{policy:?}");
                let gold = |b: &&Candidate| !policy.tags.is_empty() && !b.tags.is_empty();
                assert!(before.iter().filter(gold).all(|b| library.contains(b)), "{policy:?}");
            }
            let most =
                [policy.last, policy.hourly, policy.daily, policy.weekly, policy.monthly, policy.yearly].iter().sum::<u32>() as usize;
            let extra = library.iter().filter(|b| b.protected || !b.tags.is_empty()).count();
            if policy.within.is_none() && !policy.is_empty() {
                assert!(library.len() <= most + extra + 1, "{policy:?} keeps {}", library.len());
            }
        }
    }

    #[test]
    fn spans_are_read_and_others_refused() {
        assert_eq!(parse_span("36h").unwrap(), Duration::hours(36));
        assert_eq!(parse_span("8w").unwrap(), Duration::weeks(8));
        for bad in ["", "d", "0d", "-1d", "1.5d", "7", "7 d", "999999999y", "7é"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
