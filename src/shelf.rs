//! The verbs that look into the library: no master is involved.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::Utc;
use color_eyre::eyre::{Report, WrapErr};

use tanker::cli;
use tanker::library::{Depth, Entry, Library, LibraryError, Problem, export, extract, list_files, lrzip_is_here, verify};
use tanker::model::id::{BackupRef, HostName};
use tanker::model::inventory::{Inventory, parse_inventory};
use tanker::model::pattern::select;
use tanker::model::report::Severity;
use tanker::remote::ssh::expand;
use tanker::ui;

use crate::Start;

impl Start {
    /// Every library that the inventory names; with `--library` only that one, and no inventory is needed.
    fn libraries(&self) -> Result<Vec<Library>, Report> {
        if let Some(library) = &self.library {
            if !library.is_dir() {
                return Err(Report::msg(format!("there is no library at {}", library.display())));
            }
            return Ok(vec![Library::at(library.clone())]);
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

    fn everything(&self) -> Result<(Vec<Entry>, Vec<Problem>), Report> {
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

    fn find(&self, backup: &BackupRef) -> Result<Result<Entry, LibraryError>, Report> {
        let mut missing = None;
        for library in self.libraries()? {
            match library.find(backup) {
                Err(e @ LibraryError::NoSuchBackup { .. }) => missing = missing.or(Some(e)),
                found => return Ok(found),
            }
        }
        Ok(Err(missing.unwrap_or_else(|| LibraryError::Missing("there is no library".into()))))
    }

    pub fn list(&self, args: &cli::List) -> Result<Severity, Report> {
        let (mut entries, problems) = self.everything()?;
        if !args.pattern.is_empty() {
            let hosts = chosen_in_library(&entries, self.inventory().ok(), &args.pattern)?;
            entries.retain(|entry| hosts.contains(&entry.manifest.description.host));
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

    pub fn verify(&self, args: &cli::Verify) -> Result<Severity, Report> {
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
        for entry in entries {
            match verify(&entry).map(|verified| verified.depth) {
                Ok(Depth::Decompressed) => ui::out(&format!("{}  ok  SHA-256, decompressed, every member\n", entry.name())),
                Ok(Depth::Hashed) => ui::out(&format!("{}  ok  SHA-256 only: lrzip is not installed here\n", entry.name())),
                Err(LibraryError::Damaged { name, reason }) => {
                    ui::out(&format!("{name}  DAMAGED  {reason}\n"));
                    worst = Severity::Damaged;
                }
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        Ok(worst)
    }

    pub fn files(&self, backup: &BackupRef) -> Result<Severity, Report> {
        if let Some(severity) = without_lrzip() {
            return Ok(severity);
        }
        let entry = match self.find(backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        match list_files(&entry.archive(), &entry.manifest.description) {
            Ok(files) => {
                ui::out(&files.iter().map(|(path, file)| ui::file_line(path, file)).collect::<String>());
                Ok(Severity::Ok)
            }
            Err(reason) => Ok(complain(&LibraryError::Damaged { name: entry.name(), reason })),
        }
    }

    pub fn export(&self, args: &cli::Export) -> Result<Severity, Report> {
        let entry = match self.find(&args.backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        match export(&entry, &args.to) {
            Ok(file) => {
                ui::out(&format!("{}\n", file.display()));
                Ok(Severity::Ok)
            }
            Err(e) => Ok(complain(&e)),
        }
    }

    pub fn import(&self, args: &cli::Import) -> Result<Severity, Report> {
        let library = match &self.library {
            Some(root) => Library::at(root.clone()),
            None => {
                let inventory = self.inventory()?;
                let root = inventory.host(&args.host).map_or(&inventory.library, |host| &host.library);
                Library::at(expand(root, &self.home))
            }
        };
        match library.import(&args.file, &args.host, args.fuel.as_ref(), &crate::owner(), Utc::now()) {
            Ok(entry) => {
                ui::out(&ui::show(&entry, Utc::now()));
                Ok(Severity::Ok)
            }
            Err(e) => Ok(complain(&e)),
        }
    }

    pub fn extract(&self, args: &cli::Extract) -> Result<Severity, Report> {
        if let Some(severity) = without_lrzip() {
            return Ok(severity);
        }
        let entry = match self.find(&args.backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        std::fs::create_dir_all(&args.to).wrap_err_with(|| format!("the folder {} can't be made", args.to.display()))?;
        match extract(&entry.archive(), &entry.manifest.description, &args.path, &args.to) {
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

fn complain(error: &LibraryError) -> Severity {
    ui::err(&format!("tanker: {error}\n"));
    match error {
        LibraryError::Damaged { .. } => Severity::Damaged,
        LibraryError::File { .. } => Severity::Failed,
        _ => Severity::Refused,
    }
}

/// Patterns over the hosts of the library, which may hold more than the inventory knows.
fn chosen_in_library(entries: &[Entry], inventory: Option<Inventory>, patterns: &[String]) -> Result<Vec<HostName>, Report> {
    let text: String = entries
        .iter()
        .map(|entry| format!("[hosts.'{0}']\naddress='{0}'\n", entry.manifest.description.host))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
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
