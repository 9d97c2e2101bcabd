//! The verbs that copy to remotes and back.

use std::collections::BTreeMap;

use chrono::Utc;
use color_eyre::eyre::Report;

use tanker::cli;
use tanker::library::{Away, Copied, Entry, Library, LibraryError, Offsite, Problem, in_the_way, meant};
use tanker::model::id::{BackupRef, Which};
use tanker::model::inventory::{Inventory, Remote};
use tanker::model::pattern::closest;
use tanker::model::report::Severity;
use tanker::model::retention::Candidate;
use tanker::remote::ssh::{expand, read_secret};
use tanker::ui;

use crate::Start;
use crate::awake::Awake;
use crate::shelf::{chosen_in_library, complain};
use crate::upkeep::Judged;

/// What a remote has.
struct Survey {
    inventory: Inventory,
    offsite: Offsite,
    away: Vec<Away>,
    problems: Vec<Problem>,
    worst: Severity,
}

impl Start {
    /// Opens a remote of the inventory; whatever it needs to be let in is asked for now.
    fn remote(&self, inventory: &Inventory, name: &str) -> Result<Offsite, Report> {
        let names = inventory.remotes.iter().map(|remote| remote.name.as_str());
        let remote = inventory.remotes.iter().find(|remote| remote.name == name).ok_or_else(|| {
            let hint = closest(name, names).map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
            Report::msg(format!("the inventory has no remote '{}'{hint}", tanker::model::text::printable(name)))
        })?;
        if self.is_home(remote) {
            return Err(Report::msg(format!("the remote {name} is the library itself: the same without naming it")));
        }
        self.open_remote(remote)
    }

    pub(crate) fn open_remote(&self, remote: &Remote) -> Result<Offsite, Report> {
        let name = &remote.name;
        let mut secrets = BTreeMap::new();
        for (key, source) in &remote.secrets {
            let what = format!("the {} of the remote {name}", key.replace('_', " "));
            let question = format!("The {} of the remote {name}: ", key.replace('_', " "));
            secrets.insert(*key, read_secret(source, &what, &question, &self.home, &mut ui::ask_passphrase)?);
        }
        Ok(Offsite::open(remote, &secrets, &self.home)?)
    }

    pub(crate) async fn copy(&self, args: &cli::Copy) -> Result<Severity, Report> {
        let inventory = self.inventory()?;
        let (patterns, backups): (Vec<_>, Vec<_>) = args.what.iter().partition(|what| !what.contains('@'));
        let patterns: Vec<String> = patterns.into_iter().cloned().collect();
        let backups = backups.into_iter().map(|what| what.parse::<BackupRef>().map_err(Report::from)).collect::<Result<Vec<_>, _>>()?;
        match (&args.to, &args.from) {
            (Some(to), _) => {
                let offsite = self.remote(&inventory, to)?;
                let mut entries = if patterns.is_empty() { vec![] } else { self.of_hosts(self.everything()?.0, &patterns)? };
                let mut worst = Severity::Ok;
                for backup in &backups {
                    match self.find(backup)? {
                        Ok(entry) => entries.push(entry),
                        Err(e) => worst = worst.max(complain(&e)),
                    }
                }
                Ok(worst.max(self.put_all(&offsite, &entries).await))
            }
            (None, Some(from)) => self.get_all(from, &patterns, &backups).await,
            (None, None) => Err(Report::msg("say --to or --from a remote")),
        }
    }

    async fn put_all(&self, offsite: &Offsite, entries: &[Entry]) -> Severity {
        let _awake = Awake::hold("copy");
        let progress = ui::Progress::begin("copy", entries.iter().map(|entry| entry.manifest.archive.bytes).sum());
        let mut worst = Severity::Ok;
        for entry in entries {
            let put = match self.bring_here([entry]).await {
                Ok(_brought) => offsite.put(entry, !is_known_whole(entry, &offsite.name), &|bytes| progress.add(bytes)).await,
                Err(e) => Err(e),
            };
            match put {
                Ok(copied) => {
                    record_copy(entry, &offsite.name);
                    let word = if copied == Copied::Now { "copied" } else { "was there already" };
                    ui::out(&format!("{}  {word}  {}\n", entry.name(), offsite.name));
                }
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        progress.end();
        worst
    }

    /// Opens a remote and lists it; what is odd there is said.
    async fn survey(&self, remote: &str) -> Result<Result<Survey, Severity>, Report> {
        let inventory = self.inventory()?;
        let offsite = self.remote(&inventory, remote)?;
        Ok(match offsite.list().await {
            Ok((away, problems)) => {
                for problem in &problems {
                    ui::err(&format!("tanker: at the remote {remote}: {}: {}\n", problem.name(), problem.reason));
                }
                let worst = if problems.is_empty() { Severity::Ok } else { Severity::Damaged };
                Ok(Survey { inventory, offsite, away, problems, worst })
            }
            Err(e) => Err(complain(&e)),
        })
    }

    /// Whether this very backup is in the library.
    fn is_here(&self, away: &Away) -> Result<bool, Report> {
        Ok(self.find(&away.manifest.description.named())?.is_ok_and(|entry| entry.manifest == away.manifest))
    }

    async fn get_all(&self, remote: &str, patterns: &[String], backups: &[BackupRef]) -> Result<Severity, Report> {
        let Survey { inventory, offsite, away, problems, mut worst } = match self.survey(remote).await? {
            Ok(survey) => survey,
            Err(severity) => return Ok(severity),
        };
        let mut wanted: Vec<&Away> = Vec::new();
        if !patterns.is_empty() {
            let hosts = chosen_in_library(away.iter().map(|away| &away.manifest.description.host), Some(inventory.clone()), patterns)?;
            wanted.extend(away.iter().filter(|away| hosts.contains(&away.manifest.description.host)));
        }
        for backup in backups {
            match find_away(&away, &problems, backup) {
                Ok(found) => wanted.push(found),
                Err(why) => worst = worst.max(complain(&LibraryError::Missing(format!("{why} at the remote {}", offsite.name)))),
            }
        }
        for away in wanted {
            if self.is_here(away)? {
                ui::out(&format!("{}  was there already\n", away.name()));
                continue;
            }
            match self.get_one(&inventory, &offsite, away).await {
                Ok(entry) => ui::out(&format!("{}  copied  {}\n", entry.name(), entry.folder.display())),
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        Ok(worst)
    }

    async fn get_one(&self, inventory: &Inventory, offsite: &Offsite, away: &Away) -> Result<Entry, LibraryError> {
        let host = &away.manifest.description.host;
        let root = inventory.host(host).map_or(&inventory.library, |host| &host.library);
        let library = Library::at(expand(root, &self.home));
        let lock = library.lock(host, &crate::owner())?;
        let _awake = Awake::hold("copy");
        let progress = ui::Progress::begin("copy", away.manifest.archive.bytes);
        let entry = offsite.get(away, &library, lock, &|bytes| progress.add(bytes)).await;
        progress.end();
        let entry = entry?;
        record_copy(&entry, &offsite.name);
        Ok(entry)
    }

    /// A backup at a remote, before anything is moved: what is to be asked is asked first.
    pub(crate) async fn look_for_restore(&self, backup: &BackupRef, remote: &str) -> Result<Result<(Offsite, Away), Severity>, Report> {
        let Survey { offsite, away, problems, .. } = match self.survey(remote).await? {
            Ok(survey) => survey,
            Err(severity) => return Ok(Err(severity)),
        };
        match find_away(&away, &problems, backup) {
            Ok(found) => Ok(Ok((offsite, found.clone()))),
            Err(why) => Ok(Err(complain(&LibraryError::Missing(format!("{why} at the remote {remote}"))))),
        }
    }

    /// Brings it into the library, unless it is there already.
    pub(crate) async fn fetch_for_restore(&self, offsite: &Offsite, away: &Away) -> Result<Result<BackupRef, LibraryError>, Report> {
        let named = away.manifest.description.named();
        if self.is_here(away)? {
            return Ok(Ok(named));
        }
        Ok(self.get_one(&self.inventory()?, offsite, away).await.map(|_| named))
    }

    pub(crate) async fn sync(&self, args: &cli::Sync) -> Result<Severity, Report> {
        let (entries, problems) = self.everything_of(&args.pattern)?;
        let Survey { offsite, away, mut worst, .. } = match self.survey(&args.to).await? {
            Ok(survey) => survey,
            Err(severity) => return Ok(severity),
        };
        worst = worst.max(if problems.is_empty() { Severity::Ok } else { Severity::Damaged });
        for problem in &problems {
            ui::err(&format!("tanker: {}: {}; it is not copied\n", problem.name(), problem.reason));
        }
        let is_there = |entry: &Entry| away.iter().any(|away| away.manifest == entry.manifest);
        // What nobody here has seen whole there is read back, and copied again where it isn't.
        let lacking: Vec<Entry> =
            entries.iter().filter(|entry| !is_there(entry) || !is_known_whole(entry, &offsite.name)).cloned().collect();
        if args.dry_run {
            for entry in &lacking {
                let what = if is_there(entry) { "would be read back from" } else { "would be copied to" };
                ui::out(&format!("{}  {what} {}\n", entry.name(), offsite.name));
            }
            return Ok(worst);
        }
        if lacking.is_empty() {
            ui::out(&format!("the remote {} lacks nothing\n", offsite.name));
        }
        // What was marked here since it was copied.
        for entry in entries.iter().filter(|entry| !lacking.contains(entry) && marked_since(entry, &offsite.name)) {
            match offsite.put_record(entry).await {
                Ok(()) => record_copy(entry, &offsite.name),
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        Ok(worst.max(self.put_all(&offsite, &lacking).await))
    }

    pub(crate) async fn list_remote(&self, args: &cli::List, remote: &str) -> Result<Severity, Report> {
        let Survey { inventory, mut away, problems, worst, .. } = match self.survey(remote).await? {
            Ok(survey) => survey,
            Err(severity) => return Ok(severity),
        };
        if !args.pattern.is_empty() {
            let hosts = chosen_in_library(away.iter().map(|away| &away.manifest.description.host), Some(inventory), &args.pattern)?;
            away.retain(|away| hosts.contains(&away.manifest.description.host));
        }
        ui::out(&if args.json { ui::away_json(&away, &problems) } else { ui::away_table(&away, Utc::now()) });
        Ok(worst)
    }

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
            for entry in self.everything()?.0 {
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
            let result = offsite.verify(away, &|bytes| progress.add(bytes)).await;
            if let Some(entry) = self.find(&away.manifest.description.named())?.ok().filter(|entry| entry.manifest == away.manifest) {
                match &result {
                    Ok(()) => record_copy(&entry, &offsite.name),
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
        let Survey { inventory, offsite, away, mut worst, .. } = match self.survey(remote).await? {
            Ok(survey) => survey,
            Err(severity) => return Ok(severity),
        };
        let (entries, _) = self.everything()?;
        let mut by_host: BTreeMap<_, Vec<Away>> = BTreeMap::new();
        let hosts = chosen_in_library(away.iter().map(|away| &away.manifest.description.host), Some(inventory.clone()), &args.pattern)?;
        for away in away.into_iter().filter(|away| args.pattern.is_empty() || hosts.contains(&away.manifest.description.host)) {
            by_host.entry(away.manifest.description.host.clone()).or_default().push(away);
        }
        let mut plan = Vec::new();
        for (host, away) in by_host {
            let policy = args.policy().or(inventory.upkeep(&host).keep.clone()).unwrap_or_default();
            let candidates: Vec<Candidate> =
                away.iter().map(|away| candidate_away(away, &offsite.name, &entries, args.accept_unknown)).collect();
            let judged = Judged::of(&policy, &candidates, args.accept_small);
            let mut rows = Vec::new();
            for away in away {
                let mut reasons = judged.reasons(&away.manifest.description.id);
                if args.yes && reasons.is_empty() && !args.accept_unknown && !self.is_free(&away)? {
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
        Ok(worst)
    }

    /// Whether the backup here, as it is now, lets its copy go.
    fn is_free(&self, away: &Away) -> Result<bool, Report> {
        Ok(self.find(&away.manifest.description.named())?.is_ok_and(|entry| !crate::upkeep::candidate(&entry).protected))
    }
}

/// What is protected here is protected there. A copy that nobody here has seen whole proves nothing, and may be all that is left of its
/// backup: it takes no other one's place, and stays.
fn candidate_away(away: &Away, remote: &str, entries: &[Entry], accept_unknown: bool) -> Candidate {
    let here = entries.iter().find(|entry| entry.manifest.description == away.manifest.description);
    let seen_whole = here.is_some_and(|entry| is_known_whole(entry, remote));
    let own = here.map_or_else(|| crate::upkeep::unknown(&away.manifest), crate::upkeep::candidate);
    Candidate {
        bytes: away.manifest.archive.bytes,
        proven: seen_whole || (here.is_none() && accept_unknown),
        protected: own.protected || (!seen_whole && !accept_unknown),
        ..own
    }
}

/// A damaged newest one is not passed over in silence for an older one.
fn find_away<'a>(away: &'a [Away], problems: &[Problem], backup: &BackupRef) -> Result<&'a Away, String> {
    let of_host = || away.iter().filter(|away| away.manifest.description.host == backup.host);
    let found = match &backup.which {
        Which::Latest => of_host().next_back(),
        Which::Id(id) => of_host().find(|away| away.manifest.description.id == *id),
        Which::Beginning(beginning) => {
            let fitting: Vec<_> = of_host().filter(|away| away.manifest.description.id.as_str().starts_with(beginning)).collect();
            if fitting.len() > 1 && !tanker::model::id::is_day(beginning) {
                return Err(format!("{backup} names {} backups; say more of the id", fitting.len()));
            }
            fitting.last().copied()
        }
    };
    let of_it = problems.iter().filter(|problem| problem.host().as_ref() == Some(&backup.host));
    if let Some(problem) = in_the_way(of_it, &backup.which, found.map(|away| &away.manifest.description.id)) {
        return Err(format!("{} is damaged: {}; say the id of another one,", problem.name(), problem.reason));
    }
    found.ok_or_else(|| {
        let ids = of_host().map(|away| &away.manifest.description.id);
        format!("there is no backup {backup}{}", meant(backup, ids, away.iter().map(|away| &away.manifest.description.host)))
    })
}

/// That a copy was seen whole stands in the record; where it can't be written that is said and no more.
fn record_copy(entry: &Entry, remote: &str) {
    change_record(entry, |record| record.set_copy(remote, Utc::now()));
}

fn strike_copy(entries: &[Entry], away: &Away, remote: &str) {
    if let Some(entry) = entries.iter().find(|entry| entry.manifest == away.manifest) {
        change_record(entry, |record| record.copies.retain(|copy| copy.remote != remote));
    }
}

/// Whether a copy was seen whole there, and not found to be otherwise since.
fn is_known_whole(entry: &Entry, remote: &str) -> bool {
    entry.record.copies.iter().any(|copy| copy.remote == remote)
}

/// Whether its record was written later than that it was copied, which itself is written into it.
fn marked_since(entry: &Entry, remote: &str) -> bool {
    let copied = entry.record.copies.iter().find(|copy| copy.remote == remote).map(|copy| copy.at);
    let written = std::fs::metadata(entry.folder.join("record.json")).and_then(|found| found.modified()).ok();
    match (copied, written.map(chrono::DateTime::<Utc>::from)) {
        (Some(copied), Some(written)) => written - copied > chrono::Duration::seconds(3),
        _ => false,
    }
}

fn change_record(entry: &Entry, change: impl FnOnce(&mut tanker::model::record::Record)) {
    if let Err(e) = entry.clone().update(false, change) {
        ui::err(&format!("tanker: where copies of {} are could not be recorded: {e}\n", entry.name()));
    }
}
