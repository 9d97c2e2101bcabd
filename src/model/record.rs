//! What became of a backup after it was made: `record.json` beside the manifest, which is never written again. A library without it,
//! or of a tanker that knew none, is as good.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::id::HostName;
use super::text::printable;

/// The format's version; a reader refuses a later one.
pub const RECORD_FORMAT: u32 = 1;
/// Only the newest so many checks are kept.
const MOST_CHECKS: usize = 20;

/// Notes, marks and what later checks found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this format.
    pub format: u32,
    /// Words to find and keep it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Never forgotten while this is set.
    #[serde(default)]
    pub protected: bool,
    /// The operator's own words.
    #[serde(default)]
    pub note: Option<String>,
    /// What later verifications found, oldest first.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Restores that were tried out, oldest first.
    #[serde(default)]
    pub drills: Vec<Drill>,
    /// Where else it is: the names of remotes, and when each copy was last seen whole.
    #[serde(default)]
    pub copies: Vec<Copy>,
    /// When it was moved into the trash.
    #[serde(default)]
    pub deleted: Option<DateTime<Utc>>,
    /// The operator has said that it is rightly so much smaller than those before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted_small: bool,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            format: RECORD_FORMAT,
            tags: vec![],
            protected: false,
            note: None,
            checks: vec![],
            drills: vec![],
            copies: vec![],
            deleted: None,
            accepted_small: false,
        }
    }
}

/// A verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When.
    pub at: DateTime<Utc>,
    /// How far it looked: `sealed` (encrypted, without a key), `hashed`, `decompressed`, `deep`.
    pub depth: String,
    /// What was wrong; none where it was whole.
    pub damage: Option<String>,
    /// Whether the archive was encrypted, whoever had a key to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}

/// The depth of a check from outside: of an encrypted archive, without a key.
pub const SEALED: &str = "sealed";

impl Check {
    /// Whether it was encrypted at that time.
    #[must_use]
    pub fn saw_it_encrypted(&self) -> bool {
        self.encrypted || self.depth == SEALED
    }

    /// How far it looked, in order; a word of a later tanker's counts as little.
    #[must_use]
    pub fn rank(&self) -> usize {
        [SEALED, "hashed", "decompressed", "deep"].iter().position(|word| *word == self.depth).unwrap_or(0)
    }
}

/// A restore that was tried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// When.
    pub at: DateTime<Utc>,
    /// Where.
    pub on: String,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// What failed; none where it went well.
    pub failure: Option<String>,
}

/// A copy at a remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The remote's name in the inventory.
    pub remote: String,
    /// When it was last seen whole there.
    pub at: DateTime<Utc>,
    /// The digest of the marks that were brought there with it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<String>,
}

impl Record {
    /// What was found wrong and not found right since by a check that looked as far: a glance doesn't clear what a closer look found.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.damaging_check().and_then(|check| check.damage.as_deref())
    }

    /// The check that found it.
    #[must_use]
    pub fn damaging_check(&self) -> Option<&Check> {
        self.standing_damage().map(|at| &self.checks[at])
    }

    /// The check that looked closest, the newest of those: a glance since then says less than a close look before.
    #[must_use]
    pub fn closest_check(&self) -> Option<&Check> {
        self.checks.iter().max_by_key(|check| (check.rank(), check.at))
    }

    fn standing_damage(&self) -> Option<usize> {
        let cleared =
            |at: usize| self.checks[at + 1..].iter().any(|later| later.damage.is_none() && later.rank() >= self.checks[at].rank());
        (0..self.checks.len()).rev().find(|at| self.checks[*at].damage.is_some() && !cleared(*at))
    }

    /// Adds a check; old ones go, but not the one whose damage still stands, nor the last one that saw it encrypted.
    pub fn add_check(&mut self, check: Check) {
        self.checks.push(check);
        while self.checks.len() > MOST_CHECKS {
            // The newest of each depth: a sample takes what was seen so deep longest ago.
            let newest = |at: &usize| !self.checks[at + 1..].iter().any(|later| later.depth == self.checks[*at].depth);
            let stay = [self.standing_damage(), self.checks.iter().rposition(Check::saw_it_encrypted)];
            let goes = (0..self.checks.len()).find(|at| !stay.contains(&Some(*at)) && !newest(at)).unwrap_or(0);
            self.checks.remove(goes);
        }
    }

    /// A copy at this remote was seen whole; `marks` as they were brought there, none where they were not.
    pub fn set_copy(&mut self, remote: &str, at: DateTime<Utc>, marks: Option<String>) {
        let before = self.copies.iter().find(|copy| copy.remote == remote).and_then(|copy| copy.marks.clone());
        self.copies.retain(|copy| copy.remote != remote);
        self.copies.push(Copy { remote: remote.to_owned(), at, marks: marks.or(before) });
    }
}

/// What two have marked since both saw `base`: a change of either counts, of ours where both changed one thing. What somebody protects
/// doesn't lie in the trash.
#[must_use]
pub fn merged(base: &Record, ours: &Record, theirs: &Record) -> Record {
    let mut all = Record {
        format: RECORD_FORMAT,
        tags: joined(&base.tags, &ours.tags, &theirs.tags),
        protected: if ours.protected == base.protected { theirs.protected } else { ours.protected },
        note: if ours.note == base.note { theirs.note.clone() } else { ours.note.clone() },
        checks: Vec::new(),
        drills: joined(&base.drills, &ours.drills, &theirs.drills),
        copies: Vec::new(),
        deleted: if ours.deleted == base.deleted { theirs.deleted } else { ours.deleted },
        accepted_small: ours.accepted_small || theirs.accepted_small,
    };
    let mut checks = joined(&base.checks, &ours.checks, &theirs.checks);
    checks.sort_by_key(|check| check.at);
    checks.into_iter().for_each(|check| all.add_check(check));
    all.drills.sort_by_key(|drill| drill.at);
    let mut copies = joined(&base.copies, &ours.copies, &theirs.copies);
    copies.sort_by_key(|copy| copy.at);
    copies.iter().for_each(|copy| all.set_copy(&copy.remote, copy.at, copy.marks.clone()));
    all.deleted = all.deleted.filter(|_| !all.protected);
    all
}

/// What they have but for what we took away, and what we added.
fn joined<T: PartialEq + Clone>(base: &[T], ours: &[T], theirs: &[T]) -> Vec<T> {
    let kept = theirs.iter().filter(|one| ours.contains(one) || !base.contains(one));
    let added = ours.iter().filter(|one| !base.contains(one) && !theirs.contains(one));
    kept.chain(added).cloned().collect()
}

/// Reads a record.
///
/// # Errors
/// With a sentence, when it is none, or of a later tanker.
pub fn parse_record(json: &str) -> Result<Record, String> {
    #[derive(Deserialize)]
    struct Probe {
        format: u32,
    }
    let unreadable = |e: serde_json::Error| format!("its record.json can't be read: {}", printable(&e.to_string()));
    let probe: Probe = serde_json::from_str(json).map_err(unreadable)?;
    if probe.format > RECORD_FORMAT {
        return Err(format!("its record.json has format {}: this tanker reads up to {RECORD_FORMAT}, a newer one is needed", probe.format));
    }
    let record: Record = serde_json::from_str(json).map_err(unreadable)?;
    // It may come from a remote (I8).
    let odd = record.tags.iter().find_map(|tag| parse_tag(tag).err());
    let odd = odd.or_else(|| {
        record.copies.iter().find(|copy| copy.remote.parse::<HostName>().is_err()).map(|_| "a remote has an impossible name".into())
    });
    let odd = odd.or_else(|| record.checks.iter().find(|check| parse_tag(&check.depth).is_err()).map(|_| "a check is of no depth".into()));
    odd.map_or(Ok(record), |why| Err(format!("its record.json can't be right: {why}")))
}

/// A tag: letters, digits, `.`, `-`, `_`, at most 40.
///
/// # Errors
/// With a sentence, when it is none.
pub fn parse_tag(text: &str) -> Result<String, String> {
    let fine = !text.is_empty() && text.len() <= 40 && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    fine.then(|| text.to_owned()).ok_or_else(|| format!("'{}' is no tag: letters, digits, '.', '-' and '_', at most 40", printable(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_earlier_tanker_is_read_and_one_of_a_later_is_refused() {
        assert_eq!(parse_record(r#"{"format": 1}"#).unwrap(), Record::default());
        assert!(parse_record(r#"{"format": 2, "tags": 7}"#).unwrap_err().contains("format 2"));
        assert!(parse_record("[]").unwrap_err().contains("can't be read"));
        let copied =
            |remote: &str| parse_record(&format!(r#"{{"format": 1, "copies": [{{"remote": "{remote}", "at": "2026-11-22T02:00:00Z"}}]}}"#));
        let longest = "r".repeat(64);
        assert!(longest.parse::<HostName>().is_ok(), "the rule by which the inventory names remotes");
        assert_eq!(copied(&longest).unwrap().copies[0].remote, longest);
        assert!(copied("a b").unwrap_err().contains("impossible name"));
        assert!(parse_tag("before-upgrade").is_ok() && parse_tag("a b").is_err() && parse_tag("").is_err());
    }

    #[test]
    fn a_copy_that_is_only_looked_at_keeps_what_was_brought_there() {
        let at = |n| DateTime::from_timestamp(n, 0).unwrap();
        let mut record = parse_record(r#"{"format": 1, "copies": [{"remote": "s3", "at": "2026-11-20T02:00:00Z"}]}"#).unwrap();
        assert_eq!(record.copies[0].marks, None, "an earlier tanker kept no account of it");
        record.set_copy("s3", at(1), Some("a".into()));
        record.set_copy("s3", at(2), None);
        assert_eq!(record.copies, [Copy { remote: "s3".into(), at: at(2), marks: Some("a".into()) }]);
        record.set_copy("s3", at(3), Some("b".into()));
        assert_eq!(record.copies[0].marks.as_deref(), Some("b"));
    }

    #[test]
    fn i3_damage_stands_until_a_check_that_looked_as_far_finds_none() {
        let mut record = Record::default();
        let mut add = |n: i64, depth: &str, damage: Option<&str>| {
            record.add_check(Check {
                at: DateTime::from_timestamp(n, 0).unwrap(),
                depth: depth.into(),
                damage: damage.map(Into::into),
                encrypted: false,
            });
            (record.checks.len(), record.damage().map(str::to_owned))
        };
        assert_eq!(add(1, "deep", Some("rot")), (1, Some("rot".into())));
        for n in 2..40 {
            assert_eq!(add(n, "hashed", None).1, Some("rot".into()), "a glance clears nothing");
        }
        assert_eq!(add(40, "deep", None), (20, None));
        assert_eq!(add(41, "hashed", Some("bit")).1, Some("bit".into()));
        assert_eq!(add(42, "sealed", None).1, Some("bit".into()));
        assert_eq!(add(43, "hashed", None).1, None);
        for n in 44..80 {
            add(n, "hashed", None);
        }
        let of =
            |depth: &str| record.checks.iter().filter(|check| check.depth == depth).map(|check| check.at.timestamp()).collect::<Vec<_>>();
        assert_eq!(record.checks.len(), 20);
        assert_eq!(
            (of(SEALED), of("deep")),
            (vec![42], vec![40]),
            "neither that it was encrypted is forgotten, nor when it was seen how deep"
        );
        assert_eq!(of("hashed").last(), Some(&79));
    }

    #[test]
    fn i3_marks_of_two_workstations_are_joined_and_what_is_protected_leaves_the_trash() {
        let at = |day| chrono::TimeZone::with_ymd_and_hms(&Utc, 2026, 11, day, 2, 0, 0).unwrap();
        let check =
            |day, damage: Option<&str>| Check { at: at(day), depth: "deep".into(), damage: damage.map(str::to_owned), encrypted: false };
        let base = Record { tags: vec!["old".into(), "both".into()], checks: vec![check(1, None)], ..Record::default() };
        let mut ours = Record { tags: vec!["both".into(), "ours".into()], deleted: Some(at(5)), ..base.clone() };
        ours.add_check(check(4, Some("rot")));
        let mut theirs = Record { protected: true, note: Some("theirs".into()), ..base.clone() };
        theirs.tags.push("theirs".into());
        theirs.add_check(check(3, None));
        let all = merged(&base, &ours, &theirs);
        assert_eq!(all.tags, ["both", "theirs", "ours"]);
        assert_eq!((all.protected, all.deleted, all.note.as_deref()), (true, None, Some("theirs")));
        assert_eq!(all.checks, [check(1, None), check(3, None), check(4, Some("rot"))]);
        assert_eq!(all.damage(), Some("rot"));
        assert_eq!(merged(&base, &base, &theirs), theirs);
        assert_eq!(merged(&base, &ours, &base).deleted, ours.deleted);
    }
}
