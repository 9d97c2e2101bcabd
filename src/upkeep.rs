//! The verbs that look after the library: what is kept, marked, forgotten, encrypted anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use chrono::Utc;
use color_eyre::eyre::Report;

use tanker::cli;
use tanker::library::{Entry, Library, LibraryError, Problem, rekey};
use tanker::model::id::{BackupId, BackupRef, HostName};
use tanker::model::manifest::{Contents, Manifest};
use tanker::model::record::Record;
use tanker::model::report::Severity;
use tanker::model::retention::{Candidate, Policy, decide};
use tanker::platform::interrupted;
use tanker::ui;

use crate::Start;
use crate::emptying::{due, empty_trash};
use crate::shelf::{complain, of_folder};

/// What became of one host's backups.
struct Forgotten {
    host: HostName,
    entries: Vec<Entry>,
    /// The same, each with why it stays.
    rows: Vec<(Manifest, Vec<String>)>,
    withheld: Option<String>,
}

/// What was decided over one host's backups, here or at a remote.
pub(crate) struct Judged {
    kept: BTreeMap<BackupId, Vec<String>>,
    /// Why nothing goes at all.
    pub(crate) withheld: Option<String>,
}

impl Judged {
    pub(crate) fn of(policy: &Policy, candidates: &[Candidate], accept_small: bool) -> Self {
        match decide(policy, candidates, accept_small, Utc::now()) {
            Ok(verdicts) => Self { kept: verdicts.into_iter().map(|verdict| (verdict.id, verdict.kept_for)).collect(), withheld: None },
            Err(e) => Self { kept: BTreeMap::new(), withheld: Some(e.to_string()) },
        }
    }

    /// Why a backup stays; empty where it goes.
    pub(crate) fn reasons(&self, id: &BackupId) -> Vec<String> {
        match self.withheld {
            Some(_) => vec!["nothing of this host goes".to_owned()],
            None => self.kept.get(id).cloned().unwrap_or_default(),
        }
    }

    pub(crate) fn severity(&self) -> Severity {
        if self.withheld.is_some() { Severity::Refused } else { Severity::Ok }
    }
}

/// Decides for one host.
fn judge(host: HostName, entries: Vec<Entry>, policy: &Policy, accept_small: bool) -> (Forgotten, Severity) {
    let judged = Judged::of(policy, &entries.iter().map(candidate).collect::<Vec<_>>(), accept_small);
    let rows = entries.iter().map(|entry| (entry.manifest.clone(), judged.reasons(&entry.manifest.description.id))).collect();
    let severity = judged.severity();
    (Forgotten { host, entries, rows, withheld: judged.withheld }, severity)
}

/// Decides and moves under one lock: what was marked, checked or gone in between counts. Then empties the trash of what has lain there for
/// `days`.
fn carry_out(
    library: &Library,
    host: &HostName,
    policy: &Policy,
    accept_small: bool,
    days: Duration,
) -> Result<(Forgotten, Severity), LibraryError> {
    let lock = library.lock(host, &crate::owner())?;
    library.sweep_partial(&lock, host)?;
    library.sweep_trash(&lock, host)?;
    let mut entries = library.list(Some(host))?.0;
    if accept_small {
        accept_sizes(&mut entries)?;
    }
    let (mut forgotten, mut worst) = judge(host.clone(), entries, policy, accept_small);
    // Where something may be wrong with what is listed, what lies in the trash may be all that is left.
    if forgotten.withheld.is_some() {
        return Ok((forgotten, worst));
    }
    for ((_, kept_for), entry) in forgotten.rows.iter_mut().zip(&mut forgotten.entries) {
        if !kept_for.is_empty() {
            continue;
        }
        match library.discard(&lock, entry, Utc::now()) {
            Ok(true) => {}
            Ok(false) => kept_for.push("protected meanwhile".into()),
            Err(e) => {
                worst = worst.max(complain(&e));
                kept_for.push(ui::NOT_MOVED.into());
            }
        }
    }
    // What was moved was moved, and is shown.
    worst = worst.max(empty_trash(library, &lock, host, days).unwrap_or_else(|e| complain(&e)));
    Ok((forgotten, worst))
}

/// Said once it counts: what comes after the newest ones is held against them, not against what was larger before.
fn accept_sizes(entries: &mut [Entry]) -> Result<(), LibraryError> {
    for contents in [Contents::Full, Contents::Light] {
        let of_kind = entries.iter_mut().filter(|entry| entry.manifest.description.contents == contents && candidate(entry).is_good());
        if let Some(newest) = of_kind.max_by_key(|entry| entry.manifest.description.started) {
            newest.update(false, |record| record.accepted_small = true)?;
        }
    }
    Ok(())
}

impl Start {
    pub(crate) fn tag(&self, args: &cli::Tag) -> Result<Severity, Report> {
        if args.add.is_empty() && args.remove.is_empty() {
            return Err(Report::msg("say which tag: --add TAG or --remove TAG"));
        }
        self.mark(&args.backups, false, |record| {
            record.tags.retain(|tag| !args.remove.contains(tag) && !args.add.contains(tag));
            record.tags.extend(args.add.iter().cloned());
        })
    }

    pub(crate) fn protect(&self, args: &cli::Protect) -> Result<Severity, Report> {
        self.mark(&args.backups, args.renew, |record| record.protected = true)
    }

    pub(crate) fn unprotect(&self, args: &cli::Mark) -> Result<Severity, Report> {
        self.mark(&args.backups, false, |record| record.protected = false)
    }

    pub(crate) fn note(&self, args: &cli::Note) -> Result<Severity, Report> {
        let text = tanker::model::text::printable(&args.text);
        self.mark(std::slice::from_ref(&args.backup), false, |record| record.note = Some(text.clone()).filter(|text| !text.is_empty()))
    }

    fn mark(&self, backups: &[BackupRef], renew: bool, change: impl Fn(&mut Record)) -> Result<Severity, Report> {
        let mut worst = Severity::Ok;
        for backup in backups {
            let marked = self.find(backup)?.and_then(|mut entry| entry.update(renew, &change).map(|()| entry));
            match marked {
                Ok(entry) => ui::out(&ui::marks(&entry)),
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        Ok(worst)
    }

    pub(crate) async fn forget(&self, args: &cli::Forget) -> Result<Severity, Report> {
        if let Some(remote) = &args.remote {
            return self.forget_remote(args, remote).await;
        }
        let (entries, problems) = self.everything_of(&args.pattern)?;
        for problem in &problems {
            ui::err(&format!("tanker: {}: {}; it is left alone\n", problem.name(), problem.reason));
        }
        // One that is there and can't be read may say how long the trash is kept.
        let inventory = if args.policy().is_some() { self.inventory_if_any()? } else { Some(self.inventory()?) };
        let mut hosts: BTreeMap<(PathBuf, HostName), Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            hosts.entry((of_folder(&entry).root().to_owned(), entry.manifest.description.host.clone())).or_default().push(entry);
        }
        let (mut worst, mut plan) = (Severity::Ok, Vec::new());
        for ((root, host), entries) in hosts {
            let own = inventory.as_ref().and_then(|inventory| inventory.upkeep(&host).keep.clone());
            let policy = args.policy().or(own).unwrap_or_default();
            let days = inventory.as_ref().map_or(Duration::from_secs(7 * 86_400), |inventory| inventory.upkeep(&host).trash);
            let judged = if args.yes {
                carry_out(&Library::at(root), &host, &policy, args.accept_small, days)
            } else {
                let listed: Vec<Candidate> = entries.iter().map(candidate).collect();
                let judged = judge(host.clone(), entries, &policy, args.accept_small);
                let due = if judged.0.withheld.is_some() { Ok(vec![]) } else { due(&Library::at(root), &host, &listed, days) };
                due.map(|due| {
                    for trashed in due {
                        ui::err(&format!("tanker: {} would leave the trash for good: its days are over\n", trashed.entry.name()));
                    }
                    judged
                })
            };
            match judged {
                Ok((forgotten, severity)) => {
                    worst = worst.max(severity);
                    plan.push(forgotten);
                }
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        let shown: Vec<_> = plan.iter().map(|host| (&host.host, host.rows.as_slice(), host.withheld.as_deref())).collect();
        // Where it failed for every host, that has been said, and is not that there is nothing to do.
        if args.json || worst == Severity::Ok || !shown.is_empty() {
            ui::out(&if args.json { ui::forget_json(&shown, args.yes) } else { ui::forget_plan(&shown, args.yes, None) });
        }
        Ok(worst)
    }

    pub(crate) fn list_trash(&self, args: &cli::List) -> Result<Severity, Report> {
        let (mut found, mut bad) = (Vec::new(), Vec::new());
        for library in self.libraries()? {
            for host in library.host_names()? {
                match library.trashed(&host) {
                    Ok((trashed, problems)) => {
                        found.extend(trashed);
                        bad.extend(problems);
                    }
                    // One host's folder hides no other's.
                    Err(e) => bad.push(Problem { path: library.root().join(host.as_str()), reason: e.to_string() }),
                }
            }
        }
        let hosts = self.of_hosts(found.iter().map(|trashed| trashed.entry.clone()).collect(), &args.pattern)?;
        found.retain(|trashed| hosts.iter().any(|entry| entry.folder == trashed.entry.folder));
        found.retain(|trashed| args.tag.as_ref().is_none_or(|tag| trashed.entry.record.tags.contains(tag)));
        ui::out(&if args.json { ui::trash_json(&found) } else { ui::trash_table(&found, Utc::now()) });
        for problem in &bad {
            ui::err(&format!("tanker: in the trash: {}: {}\n", problem.path.display(), problem.reason));
        }
        Ok(Problem::severity_of(&bad))
    }

    pub(crate) fn undelete(&self, args: &cli::Undelete) -> Result<Severity, Report> {
        let mut worst = Severity::Ok;
        for backup in &args.backups {
            match self.take_back(backup)? {
                Ok(entry) => ui::out(&format!("{}  is listed again\n", entry.name())),
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        Ok(worst)
    }

    fn take_back(&self, backup: &BackupRef) -> Result<Result<Entry, LibraryError>, Report> {
        let mut missing = None;
        for library in self.libraries()? {
            let id = match library.find_trashed(backup) {
                Ok(id) => id,
                Err(e @ LibraryError::NoSuchBackup { .. }) => {
                    missing = missing.or(Some(e));
                    continue;
                }
                Err(e) => return Ok(Err(e)),
            };
            let lock = library.lock(&backup.host, &crate::owner());
            return Ok(lock.and_then(|lock| library.undelete(&lock, &backup.host, &id)));
        }
        Ok(Err(missing.unwrap_or_else(|| LibraryError::Missing("there is no library".into()))))
    }

    pub(crate) fn stats(&self, args: &cli::Stats) -> Result<Severity, Report> {
        let (entries, problems) = self.everything_of(&args.pattern)?;
        let hosts: BTreeSet<_> =
            entries.iter().map(|entry| (of_folder(entry).root().to_owned(), &entry.manifest.description.host)).collect();
        let mut trashed = Vec::new();
        for (root, host) in hosts {
            trashed.extend(Library::at(root).trashed(host)?.0);
        }
        ui::out(&if args.json { ui::stats_json(&entries, &trashed) } else { ui::stats_table(&entries, &trashed, Utc::now()) });
        for problem in &problems {
            ui::err(&format!("tanker: {}: {}\n", problem.name(), problem.reason));
        }
        Ok(Problem::severity_of(&problems))
    }

    pub(crate) async fn rekey(&self, args: &cli::Rekey) -> Result<Severity, Report> {
        let inventory = self.inventory()?;
        let mut worst = Severity::Ok;
        let mut entries = if args.all { self.every_entry()? } else { Vec::new() };
        for backup in &args.backups {
            match self.find(backup)? {
                Ok(entry) => entries.push(entry),
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        let hosts: Vec<HostName> = entries.iter().map(|entry| entry.manifest.description.host.clone()).collect();
        let recipients = self.recipients(&inventory, &hosts)?;
        let (mut wanted, mut left) = (Vec::new(), BTreeMap::<_, usize>::new());
        for entry in &entries {
            let names = entry.manifest.archive.encryption.as_ref().map(|encryption| &encryption.recipients);
            match recipients.get(&entry.manifest.description.host) {
                None if args.all => *left.entry(&entry.manifest.description.host).or_insert(0) += 1,
                None => {
                    let why = format!("the inventory has no 'encrypt_to' for {}: tanker doesn't take encryption away", entry.name());
                    worst = worst.max(complain(&LibraryError::Missing(why)));
                }
                Some(to) if args.all && names == Some(&to.names) && to.names != [tanker::library::PASSPHRASE] => {}
                // A passphrase may be another one; what an earlier run has done, or a backup was made with since, is known by trying.
                Some(to) if args.all && entry.is_here() && to.open(entry) => {}
                Some(to) => wanted.push((entry, to)),
            }
        }
        for (host, count) in left {
            ui::err(&format!("tanker: backups of {host} that stay as they are: {count}; the inventory has no 'encrypt_to' for it\n"));
        }
        worst = worst.max(if args.yes { crate::vault::sweep_left(&entries, &recipients) } else { Severity::Ok });
        let keys = self.keys(wanted.iter().map(|(entry, _)| *entry))?;
        // Bringing one home listens to signals, which from then on end nothing by themselves. What is stopped anywhere here is as it was.
        let _stopping = tokio::spawn(async {
            if interrupted().await.is_ok() {
                crate::leave();
            }
        });
        let mut text = String::new();
        for (entry, to) in wanted {
            if !args.yes {
                let _ = writeln!(text, "{}  would be encrypted to {}", entry.name(), to.names.join(", "));
                continue;
            }
            let (library, was_here) = (of_folder(entry), entry.is_here());
            let brought = match self.bring_here([entry]).await {
                Ok(brought) => brought,
                Err(e) => {
                    worst = worst.max(complain(&e));
                    continue;
                }
            };
            // What was at its home could not be tried before.
            if args.all && !was_here && to.open(entry) {
                ui::out(&format!("{}  is encrypted with this passphrase already\n", entry.name()));
                continue;
            }
            let done =
                library.lock(&entry.manifest.description.host, &crate::owner()).and_then(|lock| rekey(&library, &lock, entry, &keys, to));
            match done {
                Ok(()) => {
                    brought.keep();
                    ui::out(&format!("{}  is encrypted to {}\n", entry.name(), to.names.join(", ")));
                    let settled = self.settle_home_of(entry).await;
                    worst = worst.max(settled);
                    if settled == Severity::Interrupted {
                        break;
                    }
                }
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        if !args.yes && !text.is_empty() {
            text.push_str("nothing was changed: say --yes\n");
        }
        ui::out(&text);
        Ok(worst)
    }
}

/// A backup that nobody here knows more of than its manifest.
pub(crate) fn unknown(manifest: &Manifest) -> Candidate {
    let description = &manifest.description;
    Candidate {
        id: description.id.clone(),
        started: description.started,
        bytes: manifest.archive.bytes,
        contents: description.contents,
        proven: false,
        drilled: None,
        protected: false,
        tags: Vec::new(),
        accepted_small: false,
    }
}

pub(crate) fn candidate(entry: &Entry) -> Candidate {
    let last = entry.record.drills.iter().max_by_key(|drill| drill.at);
    Candidate {
        // What can't be read may say that it is damaged.
        proven: entry.record.damage().is_none() && entry.unreadable_record.is_none(),
        drilled: last.map(|drill| (drill.at, drill.failure.is_none())),
        // Or that it is protected.
        protected: entry.record.protected || entry.unreadable_record.is_some(),
        tags: entry.record.tags.clone(),
        accepted_small: entry.record.accepted_small,
        ..unknown(&entry.manifest)
    }
}
