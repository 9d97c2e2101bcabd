//! The verbs that look into the library: no master is involved.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::Utc;
use color_eyre::eyre::{Report, WrapErr};

use tanker::cli;
use tanker::library::{
    Away, Depth, Entry, Keys, Library, LibraryError, Offsite, Problem, Source, Verified, diff, export, extract, list_files, lrzip_is_here,
    verify,
};
use tanker::model::id::{BackupRef, HostName};
use tanker::model::inventory::{Inventory, parse_inventory};
use tanker::model::pattern::select;
use tanker::model::record::Check;
use tanker::model::report::Severity;
use tanker::remote::ssh::expand;
use tanker::ui;

use crate::Start;

impl Start {
    /// Every library that the inventory names; with `--library` only that one, and no inventory is needed.
    pub(crate) fn libraries(&self) -> Result<Vec<Library>, Report> {
        if let Some(library) = &self.library {
            let root = self.root_of(library);
            if !root.is_dir() {
                return Err(Report::msg(format!("there is no library at {}", library.display())));
            }
            return Ok(vec![Library::at(root)]);
        }
        let inventory = self.inventory()?;
        let mut roots: Vec<PathBuf> = vec![expand(&inventory.library, &self.home)];
        for host in &inventory.hosts {
            let root = expand(&host.library, &self.home);
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        Ok(roots.into_iter().map(Library::at).collect())
    }

    pub(crate) fn everything(&self) -> Result<(Vec<Entry>, Vec<Problem>), Report> {
        let mut entries = Vec::new();
        let mut problems = Vec::new();
        for library in self.libraries()? {
            let (some, bad) = library.list(None)?;
            entries.extend(some);
            problems.extend(bad);
        }
        entries.sort_by_key(|entry: &Entry| entry.manifest.description.started);
        Ok((entries, problems))
    }

    pub(crate) fn find(&self, backup: &BackupRef) -> Result<Result<Entry, LibraryError>, Report> {
        let mut missing = None;
        for library in self.libraries()? {
            match library.find(backup) {
                Err(e @ LibraryError::NoSuchBackup { .. }) => missing = missing.or(Some(e)),
                found => return Ok(found),
            }
        }
        Ok(Err(missing.unwrap_or_else(|| LibraryError::Missing("there is no library".into()))))
    }

    pub async fn list(&self, args: &cli::List) -> Result<Severity, Report> {
        if args.trash {
            return self.list_trash(args);
        }
        if let Some(remote) = &args.remote {
            return self.list_remote(args, remote).await;
        }
        let (entries, problems) = self.everything()?;
        let mut entries = self.of_hosts(entries, &args.pattern)?;
        if let Some(tag) = &args.tag {
            entries.retain(|entry| entry.record.tags.contains(tag));
        }
        for entry in entries.iter().filter(|entry| entry.unreadable_record.is_some()) {
            let why = entry.unreadable_record.as_deref().unwrap_or_default();
            ui::err(&format!(
                "tanker: {}: {why}; it is kept as if it were protected ('tanker protect --renew' begins it anew)\n",
                entry.name()
            ));
        }
        if args.json {
            ui::out(&ui::list_json(&entries, &problems));
        } else {
            ui::out(&ui::list_table(&entries, Utc::now()));
            for problem in &problems {
                ui::err(&format!("tanker: {}: {}\n", problem.name(), problem.reason));
            }
        }
        Ok(if problems.is_empty() { Severity::Ok } else { Severity::Damaged })
    }

    /// Those of the hosts that patterns choose; all where there is none.
    pub(crate) fn of_hosts(&self, mut entries: Vec<Entry>, patterns: &[String]) -> Result<Vec<Entry>, Report> {
        if !patterns.is_empty() {
            let hosts = chosen_in_library(entries.iter().map(|entry| &entry.manifest.description.host), self.inventory().ok(), patterns)?;
            entries.retain(|entry| hosts.contains(&entry.manifest.description.host));
        }
        Ok(entries)
    }

    pub fn show(&self, args: &cli::Show) -> Result<Severity, Report> {
        let entry = match self.find(&args.backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        if args.json {
            ui::out(&format!("{}\n", serde_json::to_string_pretty(&entry.manifest)?));
        } else {
            ui::out(&ui::show(&entry, Utc::now()));
        }
        Ok(Severity::Ok)
    }

    pub async fn verify(&self, args: &cli::Verify) -> Result<Severity, Report> {
        if let Some(remote) = &args.remote {
            return self.verify_remote(args, remote).await;
        }
        let mut worst = Severity::Ok;
        let mut entries = Vec::new();
        if args.all {
            let (all, problems) = self.everything()?;
            entries = all;
            if entries.is_empty() && problems.is_empty() {
                ui::err("tanker: there is no backup to verify\n");
                return Ok(Severity::Refused);
            }
            for problem in problems {
                ui::out(&format!("{}  DAMAGED  {}\n", problem.name(), problem.reason));
                worst = Severity::Damaged;
            }
        }
        for backup in &args.backups {
            match self.find(backup)? {
                Ok(entry) => entries.push(entry),
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        if let Some(share) = args.sample {
            let (all, problems) = self.everything()?;
            if all.is_empty() && problems.is_empty() {
                ui::err("tanker: there is no backup to verify\n");
                return Ok(Severity::Refused);
            }
            entries = sample(all, share);
            for problem in problems {
                ui::out(&format!("{}  DAMAGED  {}\n", problem.name(), problem.reason));
                worst = Severity::Damaged;
            }
        }
        let depth = if args.deep { Depth::Deep } else { Depth::Hashed };
        if args.deep
            && let Some(severity) = without_lrzip()
        {
            return Ok(severity);
        }
        let keys = match self.keys(&entries) {
            // What can be held without a key is held.
            Err(e) if depth == Depth::Hashed => {
                ui::err(&format!("tanker: {e:#}; encrypted archives are looked at from outside\n"));
                Keys::default()
            }
            keys => keys?,
        };
        let mut results = self.verify_each(&entries, &keys, depth, args.jobs.map_or(2, usize::from)).await;
        for (entry, result) in entries.iter().zip(&mut results) {
            self.unless_changed(entry, result)?;
            self.record_check(entry, depth, result);
            match result {
                Err(LibraryError::Damaged { .. }) => worst = worst.max(Severity::Damaged),
                Err(e) if args.json => worst = worst.max(e.severity()),
                Err(e) => worst = worst.max(complain(e)),
                Ok(_) => {}
            }
        }
        let results: Vec<_> = entries.iter().zip(&results).collect();
        ui::out(&if args.json { ui::verified_json(&results) } else { ui::verified(&results) });
        Ok(worst)
    }

    /// Archives that are at a remote are hashed on their way from there; to look deeper one at a time is fetched.
    async fn verify_each(&self, entries: &[Entry], keys: &Keys, depth: Depth, jobs: usize) -> Vec<Result<Verified, LibraryError>> {
        if entries.iter().all(|entry| self.away(entry).is_none()) {
            return verify_all(entries, keys, depth, jobs);
        }
        let mut results = Vec::new();
        for entry in entries {
            let result = match self.away(entry) {
                Some(offsite) if depth == Depth::Hashed => verify_at_home(offsite, entry).await,
                _ => match self.bring_here([entry]).await {
                    Ok(_brought) => verify_all(std::slice::from_ref(entry), keys, depth, 1).remove(0),
                    Err(e) => Err(e),
                },
            };
            results.push(result);
        }
        results
    }

    /// What was encrypted anew, forgotten or otherwise changed while it was looked at is not damaged.
    fn unless_changed(&self, entry: &Entry, result: &mut Result<Verified, LibraryError>) -> Result<(), Report> {
        if !matches!(result, Err(LibraryError::Damaged { .. })) {
            return Ok(());
        }
        let still = match self.find(&entry.manifest.description.named())? {
            Ok(now) => now.manifest == entry.manifest,
            Err(LibraryError::NoSuchBackup { .. }) => false,
            Err(_) => true,
        };
        if !still {
            *result = Err(LibraryError::Missing(format!("{} was changed while it was looked at: verify it again", entry.name())));
        }
        Ok(())
    }

    /// What was found stands in the record from then on; that it can't be written there is no fault of the archive's.
    fn record_check(&self, entry: &Entry, depth: Depth, result: &Result<Verified, LibraryError>) {
        let damage = match result {
            Ok(_) => None,
            Err(LibraryError::Damaged { reason, .. }) => Some(reason.clone()),
            Err(_) => return,
        };
        let depth = result.as_ref().map_or(depth.word(), |verified| verified.word(entry)).to_owned();
        let recorded = entry.clone().update(false, |record| record.add_check(Check { at: Utc::now(), depth, damage }));
        if let Err(e) = recorded {
            ui::err(&format!("tanker: what was found of {} could not be recorded: {e}\n", entry.name()));
        }
    }

    pub async fn diff(&self, args: &cli::Diff) -> Result<Severity, Report> {
        if let Some(severity) = without_lrzip() {
            return Ok(severity);
        }
        let (before, after) = match (self.find(&args.before)?, self.find(&args.after)?) {
            (Ok(before), Ok(after)) => (before, after),
            (Err(e), _) | (_, Err(e)) => return Ok(complain(&e)),
        };
        let keys = self.keys([&before, &after])?;
        let _brought = match self.bring_here([&before, &after]).await {
            Ok(brought) => brought,
            Err(e) => return Ok(complain(&e)),
        };
        match diff(&before, &after, &keys) {
            Ok(found) => {
                ui::out(&if args.json { ui::diff_json(&before, &after, &found) } else { ui::difference(&before, &after, &found) });
                Ok(Severity::Ok)
            }
            Err(e) => Ok(complain(&e)),
        }
    }

    pub async fn files(&self, backup: &BackupRef) -> Result<Severity, Report> {
        if let Some(severity) = without_lrzip() {
            return Ok(severity);
        }
        let entry = match self.find(backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        let keys = self.keys([&entry])?;
        let _brought = match self.bring_here([&entry]).await {
            Ok(brought) => brought,
            Err(e) => return Ok(complain(&e)),
        };
        let source = match Source::of(&entry, &keys) {
            Ok(source) => source,
            Err(e) => return Ok(complain(&e)),
        };
        match list_files(source, &entry.manifest.description) {
            Ok(files) => {
                ui::out(&files.iter().map(|(path, file)| ui::file_line(path, file)).collect::<String>());
                Ok(Severity::Ok)
            }
            Err(reason) => Ok(complain(&LibraryError::Damaged { name: entry.name(), reason })),
        }
    }

    pub async fn export(&self, args: &cli::Export) -> Result<Severity, Report> {
        let entry = match self.find(&args.backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        let keys = self.keys([&entry])?;
        let _brought = match self.bring_here([&entry]).await {
            Ok(brought) => brought,
            Err(e) => return Ok(complain(&e)),
        };
        match export(&entry, &keys, &args.to) {
            Ok(file) => {
                ui::out(&format!("{}\n", file.display()));
                Ok(Severity::Ok)
            }
            Err(e) => Ok(complain(&e)),
        }
    }

    pub fn import(&self, args: &cli::Import) -> Result<Severity, Report> {
        let library = match &self.library {
            Some(root) => Library::at(self.root_of(root)),
            None => {
                let inventory = self.inventory()?;
                let root = inventory.host(&args.host).map_or(&inventory.library, |host| &host.library);
                Library::at(expand(root, &self.home))
            }
        };
        // Without an inventory there is nobody to encrypt to; one that can't be read may name somebody.
        let recipients = match self.inventory_path() {
            Ok(_) => self.recipients(&self.inventory()?, std::slice::from_ref(&args.host))?.remove(&args.host),
            Err(_) => None,
        };
        match library.import(&args.file, &args.host, args.fuel.as_ref(), &crate::owner(), recipients.as_deref(), Utc::now()) {
            Ok(entry) => {
                ui::out(&ui::show(&entry, Utc::now()));
                Ok(Severity::Ok)
            }
            Err(e) => Ok(complain(&e)),
        }
    }

    pub async fn extract(&self, args: &cli::Extract) -> Result<Severity, Report> {
        if let Some(severity) = without_lrzip() {
            return Ok(severity);
        }
        let entry = match self.find(&args.backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        std::fs::create_dir_all(&args.to).wrap_err_with(|| format!("the folder {} can't be made", args.to.display()))?;
        let keys = self.keys([&entry])?;
        let _brought = match self.bring_here([&entry]).await {
            Ok(brought) => brought,
            Err(e) => return Ok(complain(&e)),
        };
        let source = match Source::of(&entry, &keys) {
            Ok(source) => source,
            Err(e) => return Ok(complain(&e)),
        };
        match extract(source, &entry.manifest.description, &args.path, &args.to) {
            Ok(()) => Ok(Severity::Ok),
            Err(reason) => Ok(complain(&LibraryError::Missing(reason))),
        }
    }
}

/// Nothing can be read out of an archive without it; that is no fault of the archive's.
fn without_lrzip() -> Option<Severity> {
    let why = "lrzip is not installed here, and nothing can be read out of an archive without it: apt install lrzip";
    (!lrzip_is_here()).then(|| complain(&LibraryError::Missing(why.to_owned())))
}

pub(crate) fn complain(error: &LibraryError) -> Severity {
    ui::err(&format!("tanker: {error}\n"));
    error.severity()
}

/// The library that a listed backup lies in.
pub(crate) fn of_folder(entry: &Entry) -> Library {
    Library::at(entry.folder.parent().and_then(std::path::Path::parent).unwrap_or(&entry.folder).to_owned())
}

/// So much of the library, in bytes, what was looked at longest ago first.
fn sample(mut entries: Vec<Entry>, share: f64) -> Vec<Entry> {
    let seen = |entry: &Entry| entry.record.checks.last().map_or(entry.manifest.proof.at, |check| check.at);
    entries.sort_by_key(seen);
    let all: u64 = entries.iter().map(|entry| entry.manifest.archive.bytes).sum();
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share need not be exact
    let wanted = (all as f64 * share / 100.0).ceil() as u64;
    let mut taken = 0;
    entries.retain(|entry| {
        let more = taken < wanted;
        taken += if more { entry.manifest.archive.bytes } else { 0 };
        more
    });
    entries
}

/// Verifies several at once; results come in the order of the entries.
fn verify_all(entries: &[Entry], keys: &Keys, depth: Depth, jobs: usize) -> Vec<Result<Verified, LibraryError>> {
    let progress = ui::Progress::begin("verify", entries.iter().map(|entry| entry.manifest.archive.bytes).sum());
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Verified, LibraryError>>>> = entries.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(entries.len()) {
            scope.spawn(|| {
                while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < entries.len()) {
                    let result = verify(&entries[n], keys, depth, &mut |bytes| progress.add(bytes));
                    *results[n].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    progress.end();
    let missed = |n: usize| Err(LibraryError::Missing(format!("{} was not looked at: tanker failed", entries[n].name())));
    results
        .into_iter()
        .enumerate()
        .map(|(n, slot)| slot.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(|| missed(n)))
        .collect()
}

async fn verify_at_home(offsite: &Offsite, entry: &Entry) -> Result<Verified, LibraryError> {
    let archive = &entry.manifest.archive;
    let progress = ui::Progress::begin("verify", archive.bytes);
    let verified = offsite.verify(&Away::of(entry)?, &|bytes| progress.add(bytes)).await;
    progress.end();
    if matches!(verified, Err(LibraryError::Damaged { .. })) {
        let about = &entry.manifest.description;
        let still = offsite.look(&about.host, &about.id).await?.map_or(true, |there| there == Away::of(entry).ok());
        if !still {
            return Err(LibraryError::Missing(format!("{} was changed at its home meanwhile: verify it again", entry.name())));
        }
    }
    verified.map(|()| Verified {
        depth: Depth::Hashed,
        decrypted: !entry.is_encrypted(),
        sums: Vec::new(),
        bytes: archive.bytes,
        sha256: archive.sha256.clone(),
    })
}

/// Patterns over the hosts of the library, which may hold more than the inventory knows.
pub(crate) fn chosen_in_library<'a>(
    hosts: impl Iterator<Item = &'a HostName>,
    inventory: Option<Inventory>,
    patterns: &[String],
) -> Result<Vec<HostName>, Report> {
    let text: String = hosts.map(|host| format!("[hosts.'{host}']\naddress='{host}'\n")).collect::<BTreeSet<_>>().into_iter().collect();
    let mut known = parse_inventory("library", &text)?;
    if let Some(inventory) = inventory {
        known.groups = inventory.groups;
        for host in inventory.hosts {
            if known.host(&host.name).is_none() {
                known.hosts.push(host);
            }
        }
    }
    Ok(select(&known, patterns)?)
}
