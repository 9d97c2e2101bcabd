//! How well each master is looked after: what its backups are worth today, and what is at risk. Pure: time is an argument.

use chrono::{DateTime, Duration, Utc};
use serde::Serialize;

use super::id::HostName;
use super::manifest::{FreezeMethod, Manifest, TaskRecord};
use super::record::Record;
use super::text::{age_since, is_ahead};

/// What counts as too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A master without a backup for longer than this is at risk.
    pub backup: Duration,
    /// A master whose last drill is longer ago than this should be drilled.
    pub drill: Duration,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Worth doing something about, some day.
    Advice,
    /// If the master died now, something would be lost.
    Risk,
}

/// Something to do about a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Concern {
    /// How bad it is.
    pub weight: Weight,
    /// A word for machines: `old`, `none`, `damaged`, `inconsistent`, `undrilled`, `drill-failed`, `one-copy`, `tasks`, `clock`.
    pub kind: &'static str,
    /// One sentence.
    pub text: String,
}

/// A backup, as far as this goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen<'a> {
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// What became of it since.
    pub record: &'a Record,
}

/// A master and its backups.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook<'a> {
    /// Which master.
    pub host: HostName,
    /// Its backups, oldest first.
    pub backups: Vec<Seen<'a>>,
    /// What is to be done, the worst first.
    pub concerns: Vec<Concern>,
}

impl Outlook<'_> {
    /// The worst of it.
    #[must_use]
    pub fn worst(&self) -> Option<Weight> {
        self.concerns.iter().map(|concern| concern.weight).max()
    }
}

/// Looks at one master's backups, oldest first, and at what should be one and can't be read: a sentence each.
#[must_use]
pub fn outlook<'a>(host: HostName, backups: Vec<Seen<'a>>, broken: &[String], limits: Limits, now: DateTime<Utc>) -> Outlook<'a> {
    let mut concerns = Vec::new();
    let mut add = |weight, kind, text: String| concerns.push(Concern { weight, kind, text });
    let age = |time: DateTime<Utc>| age_since(time, now);
    let good = |seen: &&Seen<'_>| seen.record.damage().is_none();
    for seen in backups.iter().filter(|seen| is_ahead(seen.manifest.description.started, now)) {
        add(Weight::Risk, "clock", format!("{} was begun in the future: a clock was wrong", seen.manifest.description.id));
    }
    // It hides no other's age.
    let dated = backups.iter().rev().filter(good).find(|seen| !is_ahead(seen.manifest.description.started, now));
    match dated.or_else(|| backups.iter().rev().find(good)) {
        None if backups.is_empty() && broken.is_empty() => add(Weight::Risk, "none", "there is no backup of it".into()),
        None if backups.is_empty() => {}
        None => add(Weight::Risk, "damaged", "all of its backups are damaged".into()),
        Some(newest) => {
            let started = newest.manifest.description.started;
            if now - started > limits.backup {
                add(Weight::Risk, "old", format!("its newest good backup is {} old", age(started)));
            }
            if newest.manifest.freeze.method == FreezeMethod::None || !newest.manifest.freeze.consistent {
                add(Weight::Advice, "inconsistent", "its newest backup was made without a freeze: it may not be of one instant".into());
            }
            if matches!(newest.manifest.tasks, TaskRecord::Ignored { .. }) {
                add(Weight::Advice, "tasks", "its newest backup was made without regard to unfinished tasks".into());
            }
            if newest.record.copies.is_empty() {
                add(Weight::Advice, "one-copy", "its newest backup is in one place only: 'tanker copy' or 'tanker sync'".into());
            }
        }
    }
    for seen in backups.iter().filter(|seen| !good(seen)) {
        let id = &seen.manifest.description.id;
        add(Weight::Risk, "damaged", format!("{id} is damaged: {}", seen.record.damage().unwrap_or_default()));
    }
    for why in broken {
        add(Weight::Risk, "damaged", why.clone());
    }
    let drills = backups.iter().flat_map(|seen| &seen.record.drills);
    match drills.max_by_key(|drill| drill.at) {
        None if backups.is_empty() => {}
        None => add(Weight::Advice, "undrilled", "no restore of it was ever tried out: 'tanker drill'".into()),
        Some(drill) => match &drill.failure {
            Some(why) => add(Weight::Risk, "drill-failed", format!("the last drill failed: {why}")),
            None if now - drill.at > limits.drill => {
                add(Weight::Advice, "undrilled", format!("its last drill was {} ago", age(drill.at)));
            }
            None => {}
        },
    }
    concerns.sort_by_key(|concern| std::cmp::Reverse(concern.weight));
    Outlook { host, backups, concerns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::parse_manifest;
    use crate::model::record::{Check, Copy, Drill};

    const LIMITS: Limits = Limits { backup: Duration::days(7), drill: Duration::days(90) };

    fn manifest() -> Manifest {
        parse_manifest(include_str!("../../tests/fixtures/format-1/east/2026-11-22-14_07/manifest.json")).unwrap()
    }

    fn kinds(records: &[Record], days_later: i64) -> Vec<&'static str> {
        let manifest = manifest();
        let backups = records.iter().map(|record| Seen { manifest: &manifest, record }).collect();
        let now = manifest.description.started + Duration::days(days_later);
        outlook("east".parse().unwrap(), backups, &[], LIMITS, now).concerns.into_iter().map(|concern| concern.kind).collect()
    }

    #[test]
    fn an_age_is_said_in_the_unit_that_fits_it() {
        let manifest = manifest();
        let (record, limits) = (Record::default(), Limits { backup: Duration::hours(12), ..LIMITS });
        let backups = vec![Seen { manifest: &manifest, record: &record }];
        let now = manifest.description.started + Duration::hours(13);
        let found = outlook("east".parse().unwrap(), backups, &[], limits, now);
        assert_eq!(found.concerns[0].text, "its newest good backup is 13 h old");
    }

    fn drilled(failure: Option<&str>) -> Drill {
        Drill { at: manifest().description.started, on: "m".into(), seconds: 60, failure: failure.map(Into::into) }
    }

    #[test]
    fn what_is_at_risk_stands_first_and_a_well_kept_master_has_no_concerns() {
        assert_eq!(kinds(&[], 0), ["none"]);
        assert_eq!(kinds(&[Record::default()], 1), ["one-copy", "undrilled"]);
        assert_eq!(kinds(&[Record::default()], 8), ["old", "one-copy", "undrilled"]);
        let copies = vec![Copy { remote: "s3".into(), at: manifest().description.started, marks: None }];
        let well = Record { copies, drills: vec![drilled(None)], ..Record::default() };
        assert_eq!(kinds(std::slice::from_ref(&well), 1), [""; 0]);
        let failed = Record { drills: vec![drilled(Some("no database"))], ..well.clone() };
        assert_eq!(kinds(&[failed], 1), ["drill-failed"]);
        let check = Check { at: manifest().description.started, depth: "hashed".into(), damage: Some("rot".into()), encrypted: false };
        let rotten = Record { checks: vec![check], ..well.clone() };
        assert_eq!(kinds(std::slice::from_ref(&rotten), 1), ["damaged", "damaged"]);
        assert_eq!(kinds(&[rotten, well], 1), ["damaged"]);
    }
}
