//! Which forgotten backups of a master go for good: pure, over what the library lists and what lies in the trash.
//!
//! Holds I3 there: what is listed may have become damaged since, and the trash may be all that is left.

use chrono::{DateTime, Duration, Utc};

use super::id::BackupId;
use super::retention::{Candidate, LAST_RESORTS};

/// What becomes of what has lain in the trash for its days.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purge {
    /// These go.
    pub goes: Vec<BackupId>,
    /// These stay all the same: nothing that is listed is as good and as new.
    pub stays: Vec<BackupId>,
}

/// Decides over one master's trash, where nothing is withheld of what is listed: that is decided first. With each the time it was forgotten;
/// one without stays.
#[must_use]
pub fn purge(listed: &[Candidate], trashed: &[(Candidate, Option<DateTime<Utc>>)], stay: Duration, now: DateTime<Utc>) -> Purge {
    let all = || listed.iter().chain(trashed.iter().map(|(backup, _)| backup)).filter(|backup| !backup.is_ahead(now));
    let last_resorts: Vec<&BackupId> = LAST_RESORTS
        .iter()
        .filter_map(|(_, wanted)| all().filter(|backup| wanted(backup)).max_by_key(|backup| (backup.started, &backup.id)))
        .map(|backup| &backup.id)
        .collect();
    let mut purge = Purge::default();
    for (backup, deleted) in trashed {
        if deleted.is_none_or(|deleted| now - deleted < stay) {
            continue;
        }
        let stays = backup.protected || last_resorts.contains(&&backup.id);
        let list = if stays { &mut purge.stays } else { &mut purge.goes };
        list.push(backup.id.clone());
    }
    purge
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;
    use crate::model::manifest::Contents;
    use crate::model::retention::tests::at;
    use crate::model::retention::{Policy, decide};

    fn on(day: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, day, 2, 0, 0).unwrap()
    }

    fn backup(day: u32) -> Candidate {
        at(on(day))
    }

    fn days(ids: &[BackupId]) -> Vec<&str> {
        ids.iter().map(|id| &id.as_str()[8..10]).collect()
    }

    #[test]
    fn what_was_forgotten_stays_to_the_last_moment_of_its_days_and_then_goes() {
        let trashed = [(backup(1), Some(on(10))), (backup(2), None)];
        let goes = |now| purge(&[backup(9)], &trashed, Duration::days(7), now).goes;
        assert!(goes(on(16)).is_empty());
        assert!(goes(on(17) - Duration::seconds(1)).is_empty());
        assert_eq!(days(&goes(on(17))), ["01"], "and what nobody knows the time of stays");
    }

    #[test]
    fn i3_the_trash_keeps_the_newest_proven_one_while_nothing_listed_is_as_good() {
        let damaged = Candidate { proven: false, ..backup(9) };
        let trashed = [(backup(1), Some(on(2))), (backup(3), Some(on(4)))];
        let purged = |listed: &[Candidate]| purge(listed, &trashed, Duration::days(7), on(20));
        assert_eq!(purged(&[backup(9)]), Purge { goes: vec![backup(1).id, backup(3).id], stays: vec![] });
        assert_eq!(purged(std::slice::from_ref(&damaged)), Purge { goes: vec![backup(1).id], stays: vec![backup(3).id] });
        assert_eq!(days(&purged(&[backup(2), damaged]).stays), ["03"], "an older one is no substitute");
        let light = Candidate { contents: Contents::Light, ..backup(9) };
        assert_eq!(days(&purged(&[light]).stays), ["03"], "nor is a light one");
        let failed = Candidate { drilled: Some((on(10), false)), ..backup(9) };
        assert_eq!(days(&purged(&[failed]).stays), ["03"], "nor one that failed its drill");
        let ahead = Candidate { started: on(9) + Duration::days(5000), ..backup(9) };
        assert_eq!(days(&purged(&[ahead]).stays), ["03"], "nor one of a wrong clock");
    }

    #[test]
    fn i3_no_policy_takes_the_last_proven_or_a_protected_backup_in_a_simulated_year() {
        // A fixed seed: the same years every time.
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
            let (accept_small, stay) = (random(2) == 0, Duration::days(i64::try_from(random(9)).unwrap()));
            let start = Utc.with_ymd_and_hms(2025, 11, 25, 2, 0, 0).unwrap();
            let mut library: Vec<Candidate> = Vec::new();
            let mut trash: Vec<(Candidate, Option<DateTime<Utc>>)> = Vec::new();
            let mut decided = false;
            for day in 0..366 {
                let mut new = at(start + Duration::days(day) + Duration::minutes(i64::try_from(random(600)).unwrap()));
                new.proven = random(10) != 0;
                new.protected = random(40) == 0;
                new.tags = if random(30) == 0 { vec!["gold".into()] } else { vec![] };
                new.bytes = if random(20) == 0 { 100 } else { 1000 };
                new.contents = if random(3) == 0 { Contents::Light } else { Contents::Full };
                library.push(new);
                let now = start + Duration::days(day) + Duration::hours(12);
                // What was proven rots later, a disk at a time now and then, and restores are tried out.
                let rots = [0, 0, 0, 0, 0, 0, 0, 2, 4, 50][usize::try_from(random(10)).unwrap()];
                for backup in library.iter_mut().rev().take(rots) {
                    backup.proven &= random(4) == 0;
                }
                if random(30) == 0 {
                    let which = usize::try_from(random(library.len() as u64)).unwrap();
                    library[which].drilled = Some((now, random(2) == 0));
                }
                let Ok(verdicts) = decide(&policy, &library, accept_small, now) else {
                    decided = false;
                    continue;
                };
                decided = true;
                let goes: Vec<BackupId> = verdicts.into_iter().filter(|v| v.kept_for.is_empty()).map(|v| v.id).collect();
                let before = library.clone();
                let all: Vec<Candidate> = library.iter().chain(trash.iter().map(|(backup, _)| backup)).cloned().collect();
                library.retain(|b| !goes.contains(&b.id));
                trash.extend(before.iter().filter(|b| goes.contains(&b.id)).map(|b| (b.clone(), Some(now))));
                let purge = purge(&library, &trash, stay, now);
                trash.retain(|(backup, _)| !purge.goes.contains(&backup.id));
                for (why, wanted) in LAST_RESORTS {
                    let newest = |of: &mut dyn Iterator<Item = &Candidate>| of.filter(|b| wanted(b)).map(|b| b.started).max();
                    assert_eq!(newest(&mut before.iter()), newest(&mut library.iter()), "{why} of the listed: {policy:?}");
                    let left = &mut library.iter().chain(trash.iter().map(|(backup, _)| backup));
                    assert_eq!(newest(&mut all.iter()), newest(left), "{why}: {policy:?}");
                }
                let last_drill = |of: &[Candidate]| of.iter().filter(|b| b.proven).filter_map(|b| b.drilled).max();
                assert_eq!(last_drill(&before), last_drill(&library), "{policy:?}");
                assert!(before.iter().filter(|b| b.protected).all(|b| library.contains(b)), "{policy:?}");
                let gold = |b: &&Candidate| !policy.tags.is_empty() && !b.tags.is_empty();
                assert!(before.iter().filter(gold).all(|b| library.contains(b)), "{policy:?}");
            }
            let most =
                [policy.last, policy.hourly, policy.daily, policy.weekly, policy.monthly, policy.yearly].iter().sum::<u32>() as usize;
            let extra = library.iter().filter(|b| b.protected || !b.tags.is_empty()).count();
            if policy.within.is_none() && decided {
                // Twice: full ones have buckets of their own. And the last resorts, and the last drills.
                assert!(library.len() <= 2 * most + extra + 6, "{policy:?} keeps {}", library.len());
            }
        }
    }
}
