//! The verbs that look after what a remote has: read back, and forgotten there.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Duration, Utc};
use color_eyre::eyre::Report;

use tanker::cli;
use tanker::library::{Away, Entry, Leftover, LibraryError, Offsite, Problem};
use tanker::model::id::HostName;
use tanker::model::record::Record;
use tanker::model::report::Severity;
use tanker::model::retention::Candidate;
use tanker::model::text::{human_age, human_bytes};
use tanker::ui;

use crate::Start;
use crate::offsite::{Survey, change_record, find_away, is_known_whole, record_copy, strike_copy};
use crate::shelf::complain;
use crate::upkeep::Judged;

impl Start {
    pub(crate) async fn verify_remote(&self, args: &cli::Verify, remote: &str) -> Result<Severity, Report> {
        let Survey { offsite, away, problems, mut worst, .. } = match self.survey(remote).await? {
            Ok(survey) => survey,
            Err(severity) => return Ok(severity),
        };
        let mut wanted: Vec<&Away> = Vec::new();
        if args.all {
            wanted.extend(&away);
        }
        for backup in &args.backups {
            match find_away(&away, &problems, backup) {
                Ok(found) => wanted.push(found),
                Err(why) => worst = worst.max(complain(&LibraryError::Missing(format!("{why} at the remote {remote}")))),
            }
        }
        let mut results = Vec::new();
        if args.all {
            // What should be there and isn't.
            for entry in self.every_entry()? {
                if is_known_whole(&entry, &offsite.name) && !away.iter().any(|away| away.manifest == entry.manifest) {
                    change_record(&entry, |record| record.copies.retain(|copy| copy.remote != offsite.name));
                    let reason = format!("the remote {remote} doesn't have it any more, or not whole");
                    results.push((entry.name(), Err(LibraryError::Damaged { name: entry.name(), reason })));
                    worst = worst.max(Severity::Damaged);
                }
            }
            if wanted.is_empty() && results.is_empty() {
                ui::err(&format!("tanker: the remote {remote} has no backup to verify\n"));
                return Ok(worst.max(Severity::Refused));
            }
        }
        let progress = ui::Progress::begin("verify", wanted.iter().map(|away| away.manifest.archive.bytes).sum());
        for away in wanted {
            let here = self.find(&away.manifest.description.named())?.ok().filter(|entry| entry.manifest == away.manifest);
            let mut result = offsite.verify(away, &|bytes| progress.add(bytes)).await;
            if let (Ok(()), Some(entry)) = (&result, &here) {
                result = offsite.hold_seal(away, entry).await;
            }
            if let Some(entry) = here {
                match &result {
                    Ok(()) => record_copy(&entry, &offsite.name, false),
                    Err(LibraryError::Damaged { .. }) => strike_copy(std::slice::from_ref(&entry), away, &offsite.name),
                    Err(_) => {}
                }
            }
            worst = worst.max(result.as_ref().map_or_else(LibraryError::severity, |()| Severity::Ok));
            results.push((away.name(), result));
        }
        progress.end();
        ui::out(&if args.json { ui::verified_away_json(remote, &results) } else { ui::verified_away(remote, &results) });
        Ok(worst)
    }

    pub(crate) async fn forget_remote(&self, args: &cli::Forget, remote: &str) -> Result<Severity, Report> {
        let Survey { inventory, offsite, away, problems, mut worst } = match self.survey(remote).await? {
            Ok(survey) => survey,
            Err(severity) => return Ok(severity),
        };
        let (entries, _) = self.everything()?;
        let hosts =
            self.chosen_in_library(away.iter().map(|away| &away.manifest.description.host), Some(inventory.clone()), &args.pattern)?;
        let is_wanted = |host: &HostName| args.pattern.is_empty() || hosts.contains(host);
        let mut names: BTreeSet<String> = away.iter().map(Away::name).collect();
        names.extend(problems.iter().map(Problem::name));
        let mut by_host: BTreeMap<_, Vec<Away>> = BTreeMap::new();
        for away in away.into_iter().filter(|away| is_wanted(&away.manifest.description.host)) {
            by_host.entry(away.manifest.description.host.clone()).or_default().push(away);
        }
        let mut plan = Vec::new();
        for (host, away) in by_host {
            let policy = args.policy().or(inventory.upkeep(&host).keep.clone()).unwrap_or_default();
            let mut candidates = Vec::new();
            for away in &away {
                let here = entries.iter().find(|entry| entry.manifest.description == away.manifest.description);
                candidates.push(candidate(&offsite, away, here, args.accept_unknown).await);
            }
            let judged = Judged::of(&policy, &candidates, args.accept_small);
            let mut rows = Vec::new();
            for away in away {
                let mut reasons = judged.reasons(&away.manifest.description.id);
                if args.yes && reasons.is_empty() && !self.is_free(&offsite, &away, args.accept_unknown).await? {
                    reasons.push("protected meanwhile".into());
                }
                if args.yes && reasons.is_empty() {
                    match offsite.remove(&away).await {
                        Ok(()) => strike_copy(&entries, &away, &offsite.name),
                        Err(e) => {
                            worst = worst.max(complain(&e));
                            reasons.push("it could not be removed".into());
                        }
                    }
                }
                rows.push((away.manifest, reasons));
            }
            worst = worst.max(judged.severity());
            plan.push((host, rows, judged.withheld));
        }
        let shown: Vec<_> = plan.iter().map(|(host, rows, withheld)| (host, rows.as_slice(), withheld.as_deref())).collect();
        ui::out(&if args.json { ui::forget_json(&shown, args.yes) } else { ui::forget_plan(&shown, args.yes, Some(remote)) });
        match offsite.leftovers(|host, id| !is_wanted(host) || names.contains(&format!("{host}@{id}"))).await {
            Ok(left) => left.iter().for_each(|left| tell_of_leftover(left, remote)),
            Err(e) => worst = worst.max(complain(&e)),
        }
        Ok(worst)
    }

    /// Whether a copy may still go, as everything is now.
    async fn is_free(&self, offsite: &Offsite, away: &Away, accept_unknown: bool) -> Result<bool, Report> {
        let here = match self.find(&away.manifest.description.named())? {
            Ok(entry) => Some(entry).filter(|entry| entry.manifest.description == away.manifest.description),
            Err(LibraryError::NoSuchBackup { .. }) => None,
            Err(_) => return Ok(false),
        };
        Ok(!candidate(offsite, away, here.as_ref(), accept_unknown).await.protected)
    }
}

/// A copy as far as retention goes. What is protected here is protected there. One that nobody here has seen whole proves nothing, and may be
/// all that is left of its backup: it takes no other one's place, and stays; where it may go even so, the record beside it counts.
async fn candidate(offsite: &Offsite, away: &Away, here: Option<&Entry>, accept_unknown: bool) -> Candidate {
    let unknown = !here.is_some_and(|entry| is_known_whole(entry, &offsite.name));
    let mut record = None;
    if unknown && accept_unknown {
        record = offsite.record(away).await.unwrap_or_else(|e| Err(e.to_string())).map_or_else(
            |why| {
                ui::err(&format!("tanker: at the remote {}: {}: {why}; it stays\n", offsite.name, away.name()));
                None
            },
            Some,
        );
    }
    candidate_away(away, here, unknown, record.as_ref())
}

/// `record`: the one at the remote, where it counts and can be read.
fn candidate_away(away: &Away, here: Option<&Entry>, unknown: bool, record: Option<&Record>) -> Candidate {
    let own = here.map(crate::upkeep::candidate);
    // A copy of what is damaged here is as bad, or else the only good one: it stays, and no older one goes because of it.
    let twin_damaged = here.is_some_and(|entry| entry.record.damage().is_some());
    let mut tags = own.as_ref().map(|own| own.tags.clone()).unwrap_or_default();
    tags.extend(record.iter().flat_map(|record| record.tags.clone()));
    Candidate {
        proven: !twin_damaged && (!unknown || (here.is_none() && record.is_some_and(|record| record.damage().is_none()))),
        protected: own.as_ref().is_some_and(|own| own.protected)
            || twin_damaged
            || (unknown && record.is_none_or(|record| record.protected)),
        drilled: own.as_ref().and_then(|own| own.drilled),
        accepted_small: own.is_some_and(|own| own.accepted_small),
        tags,
        ..crate::upkeep::unknown(&away.manifest)
    }
}

/// A copy that was not brought to its end, long enough ago that nobody is at it any more. It is never removed: who is at it can't be known.
fn tell_of_leftover(left: &Leftover, remote: &str) {
    let age = left.written.map(|written| Utc::now() - written);
    if age.is_some_and(|age| age < Duration::days(1)) {
        return;
    }
    let age =
        age.and_then(|age| age.to_std().ok()).map_or_else(|| "nobody can tell when".to_owned(), |age| format!("{} ago", human_age(age)));
    let (name, bytes) = (format!("{}@{}", left.host, left.id), human_bytes(left.bytes));
    ui::err(&format!(
        "tanker: at the remote {remote}: {name} holds {bytes} and no manifest, written {age}: a copy that was not brought to its end; \
         copy it again, or remove that folder there\n"
    ));
}
