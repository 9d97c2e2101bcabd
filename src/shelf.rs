//! The verbs that look into the library: no master is involved.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::Utc;
use color_eyre::eyre::Report;

use tanker::cli;
use tanker::library::{Entry, Keys, Library, LibraryError, Problem, Source, diff, export, extract, list_files, lrzip_is_here, none_ahead};
use tanker::model::id::{BackupRef, HostName, Which};
use tanker::model::inventory::{Inventory, parse_inventory};
use tanker::model::pattern::Choice;
use tanker::model::report::Severity;
use tanker::remote::ssh::expand;
use tanker::ui;

use crate::Start;
use crate::homes::Brought;

/// What patterns choose of the library.
pub(crate) struct Chosen {
    pub(crate) entries: Vec<Entry>,
    pub(crate) problems: Vec<Problem>,
    /// Which hosts, those of the inventory without a backup too; none where there was no pattern.
    pub(crate) hosts: Option<Vec<HostName>>,
}

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
            if !library.root().exists() {
                ui::err_once(&format!(
                    "tanker: there is no {} yet: the first backup makes it; if it lies on a disk of its own, is that mounted?\n",
                    library.root().display()
                ));
            }
            match library.list(None) {
                Ok((some, bad)) => {
                    entries.extend(some);
                    problems.extend(bad);
                }
                // One library hides no other's backups.
                Err(e) => problems.push(Problem { path: library.root().join("*/*"), reason: e.to_string() }),
            }
        }
        entries.sort_by_key(|entry: &Entry| entry.manifest.description.started);
        Ok((entries, problems))
    }

    /// The same for what must not pass over a library that can't be read.
    pub(crate) fn every_entry(&self) -> Result<Vec<Entry>, Report> {
        let (entries, problems) = self.everything()?;
        match problems.iter().find(|problem| problem.is_of_a_library()) {
            Some(problem) => Err(Report::msg(problem.reason.clone())),
            None => Ok(entries),
        }
    }

    pub(crate) fn find(&self, backup: &BackupRef) -> Result<Result<Entry, LibraryError>, Report> {
        let mut missing = None;
        let mut libraries = self.libraries()?;
        // The host's own one first: that is where what works on masters looks.
        if let Some(own) =
            self.inventory_or_note().and_then(|inventory| inventory.host(&backup.host).map(|host| expand(&host.library, &self.home)))
        {
            libraries.sort_by_key(|library| library.root() != own);
        }
        for library in libraries {
            match library.find(backup) {
                Err(e @ LibraryError::NoSuchBackup { .. }) => missing = missing.or(Some(e)),
                Ok(entry) if backup.which == Which::Latest => {
                    let (entries, _) = match library.list(Some(&backup.host)) {
                        Ok(all) => all,
                        Err(e) => return Ok(Err(e)),
                    };
                    let begun = entries.iter().map(|entry| (entry.manifest.description.started, &entry.manifest.description.id));
                    return Ok(none_ahead(&backup.host, begun, Utc::now()).map(|()| entry).map_err(LibraryError::Missing));
                }
                found => return Ok(found),
            }
        }
        Ok(Err(missing.unwrap_or_else(|| LibraryError::Missing("there is no library".into()))))
    }

    /// A backup with what opens it, its archive on this disk as long as the last of the three lives.
    async fn find_here(&self, backup: &BackupRef) -> Result<Result<(Entry, Keys, Brought), LibraryError>, Report> {
        let entry = match self.find(backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(Err(e)),
        };
        let keys = self.keys([&entry])?;
        Ok(self.bring_here([&entry]).await.map(|brought| (entry, keys, brought)))
    }

    pub async fn list(&self, args: &cli::List) -> Result<Severity, Report> {
        if args.trash {
            return self.list_trash(args);
        }
        if let Some(remote) = &args.remote {
            return self.list_remote(args, remote).await;
        }
        let (mut entries, problems) = self.everything_of(&args.pattern)?;
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
        self.tell_unsealed(&entries);
        if args.json {
            ui::out(&ui::list_json(&entries, &problems));
        } else {
            ui::out(&ui::list_table(&entries, Utc::now()));
            for problem in &problems {
                ui::err(&format!("tanker: {}: {}\n", problem.name(), problem.reason));
            }
        }
        Ok(Problem::severity_of(&problems))
    }

    /// Those of the hosts that patterns choose; all where there is none.
    pub(crate) fn of_hosts(&self, mut entries: Vec<Entry>, patterns: &[String]) -> Result<Vec<Entry>, Report> {
        if !patterns.is_empty() {
            let hosts =
                self.chosen_in_library(entries.iter().map(|entry| &entry.manifest.description.host), self.inventory_or_note(), patterns)?;
            entries.retain(|entry| hosts.contains(&entry.manifest.description.host));
        }
        Ok(entries)
    }

    /// The backups of the hosts that patterns choose, and what is wrong with others of theirs; all where there is no pattern.
    pub(crate) fn everything_of(&self, patterns: &[String]) -> Result<(Vec<Entry>, Vec<Problem>), Report> {
        self.chosen(patterns).map(|chosen| (chosen.entries, chosen.problems))
    }

    pub(crate) fn chosen(&self, patterns: &[String]) -> Result<Chosen, Report> {
        let (mut entries, mut problems) = self.everything()?;
        let mut chosen = None;
        if !patterns.is_empty() {
            let of_problems: Vec<HostName> = problems.iter().filter_map(Problem::host).collect();
            let named = entries.iter().map(|entry| &entry.manifest.description.host).chain(&of_problems);
            let hosts = self.chosen_in_library(named, self.inventory_or_note(), patterns)?;
            entries.retain(|entry| hosts.contains(&entry.manifest.description.host));
            problems.retain(|problem| problem.host().is_none_or(|host| hosts.contains(&host)));
            chosen = Some(hosts);
        }
        Ok(Chosen { entries, problems, hosts: chosen })
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

    /// Records that are to be begun anew lose what is in them: that is shown and asked about first.
    pub(crate) fn may_renew(&self, args: &cli::Protect) -> Result<Severity, Report> {
        let mut lost = String::new();
        for backup in args.backups.iter().filter(|_| args.renew) {
            // What isn't there is said by the verb itself.
            let Ok(entry) = self.find(backup)? else { continue };
            let Some(why) = &entry.unreadable_record else { continue };
            lost += &format!("{}: {why}; begun anew, it has no tags, notes, checks, drills and copies any more:\n", entry.name());
            lost += &format!("  {}\n", entry.record_as_it_is());
        }
        if lost.is_empty() {
            return Ok(Severity::Ok);
        }
        ui::err(&lost);
        if args.yes || ui::confirm_yes("Begin that anew?") == Some(true) {
            return Ok(Severity::Ok);
        }
        ui::err("tanker: not confirmed: say --yes if you mean it; nothing was changed\n");
        Ok(Severity::Refused)
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
        let progress = ui::Progress::begin("compare", before.manifest.archive.tar_bytes.saturating_add(after.manifest.archive.tar_bytes));
        let compared = diff(&before, &after, &keys, &progress.adder());
        progress.end();
        match compared {
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
        let (entry, keys, _brought) = match self.find_here(backup).await? {
            Ok(found) => found,
            Err(e) => return Ok(complain(&e)),
        };
        let source = match Source::of(&entry, &keys) {
            Ok(source) => source,
            Err(e) => return Ok(complain(&e)),
        };
        let progress = ui::Progress::begin("read", entry.manifest.archive.tar_bytes);
        let listed = list_files(source.seen_by(progress.adder()), &entry.manifest.description);
        progress.end();
        match listed {
            Ok(files) => {
                ui::out(&files.iter().map(|(path, file)| ui::file_line(path, file)).collect::<String>());
                Ok(Severity::Ok)
            }
            Err(reason) => Ok(complain(&LibraryError::Damaged { name: entry.name(), reason })),
        }
    }

    pub async fn export(&self, args: &cli::Export) -> Result<Severity, Report> {
        let (entry, keys, _brought) = match self.find_here(&args.backup).await? {
            Ok(found) => found,
            Err(e) => return Ok(complain(&e)),
        };
        let progress = ui::Progress::begin("prove", entry.manifest.archive.bytes);
        let exported = export(&entry, &keys, &args.to, &mut |bytes| progress.add(bytes));
        progress.end();
        match exported {
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
        let (entry, keys, _brought) = match self.find_here(&args.backup).await? {
            Ok(found) => found,
            Err(e) => return Ok(complain(&e)),
        };
        let progress = ui::Progress::begin("read", entry.manifest.archive.tar_bytes);
        let extracted = extract(&entry, &keys, &args.path, &args.to, &progress.adder());
        progress.end();
        Ok(extracted.map_or_else(|e| complain(&e), |()| Severity::Ok))
    }
}

/// Nothing can be read out of an archive without it; that is no fault of the archive's.
pub(crate) fn without_lrzip() -> Option<Severity> {
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

impl Start {
    /// Patterns over the hosts of the library, which may hold more than the inventory knows.
    pub(crate) fn chosen_in_library<'a>(
        &self,
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
        let failed = ui::failed_last_time(&self.state());
        Ok(Choice { inventory: &known, failed: failed.as_deref() }.select(patterns, &[])?)
    }
}
