//! Libraries whose home is a remote: opened before a verb works on them, and what the verb changed brought home after it.

use std::path::{Path, PathBuf};

use color_eyre::eyre::Report;

use tanker::cli::Command;
use tanker::library::{Entry, Hold, Library, LibraryError, Offsite};
use tanker::model::inventory::{Remote, is_remote};
use tanker::model::report::Severity;
use tanker::remote::ssh::expand;
use tanker::ui;

use crate::Start;
use crate::shelf::complain;

/// A remote that is a library, and what of it is on this disk.
pub(crate) struct Home {
    offsite: Offsite,
    mirror: Library,
    /// It can't be reached, and only what was known before is shown.
    stale: bool,
}

/// Archives that were fetched for a verb, and go with it: they are at home.
pub(crate) struct Brought {
    archives: Vec<(Library, Entry)>,
    holds: Vec<Hold>,
}

impl Brought {
    /// Something else lies in their places now, which is to be brought home.
    pub(crate) fn keep(mut self) {
        self.archives.clear();
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        self.holds.clear();
        for (mirror, entry) in &self.archives {
            // Somebody else reads it, or has put another one in its place: whatever brings this library home next removes it.
            let Ok(Some(_alone)) = mirror.unused() else { continue };
            let found = mirror.find(&entry.manifest.description.named());
            if found.is_ok_and(|found| found.manifest == entry.manifest) {
                // What can't be removed now the next run removes.
                let _ = std::fs::remove_file(entry.archive());
            }
        }
    }
}

/// Whether a verb has to do with libraries at all, and whether it only looks at their catalogs.
pub(crate) fn concerns_libraries(command: &Command) -> (bool, bool) {
    match command {
        Command::Check(_) | Command::Status(_) | Command::Thaw(_) | Command::Clean(_) | Command::Hosts(_) | Command::Trust(_) => {
            (false, true)
        }
        Command::Init(_) | Command::Config(_) | Command::Completions(_) | Command::Man(_) => (false, true),
        // Putting a master back needs no backup, and waits for no remote.
        Command::Restore(args) if args.backup.is_none() => (false, true),
        Command::List(_) | Command::Show(_) | Command::Stats(_) | Command::Report(_) => (true, true),
        _ => (true, false),
    }
}

impl Start {
    fn mirrors(&self) -> PathBuf {
        self.state().join("libraries")
    }

    /// The folder of a library as it is named: a mirror's, where it is a remote.
    pub(crate) fn root_of(&self, library: &Path) -> PathBuf {
        match library.to_str().filter(|_| is_remote(library)) {
            Some(url) => Library::mirror_path(&self.mirrors(), url),
            None => expand(library, &self.home),
        }
    }

    /// The remotes that are libraries.
    fn home_remotes(&self) -> Result<Vec<Remote>, Report> {
        if let Some(library) = &self.library {
            let Some(url) = library.to_str().filter(|_| is_remote(library)) else { return Ok(Vec::new()) };
            // Without an inventory what a url can't say is left to the environment.
            let known = self.inventory_path().is_ok().then(|| self.inventory()).transpose()?;
            let known = known.and_then(|inventory| inventory.remotes.into_iter().find(|remote| remote.url == url));
            return Ok(vec![known.map_or_else(|| Remote::of_url(url), Ok).map_err(Report::msg)?]);
        }
        // A verb that needs an inventory says so itself.
        if self.inventory_path().is_err() {
            return Ok(Vec::new());
        }
        let inventory = self.inventory()?;
        let is_library = |remote: &Remote| {
            let root = Library::mirror_path(&self.mirrors(), &remote.url);
            inventory.library == root || inventory.hosts.iter().any(|host| host.library == root)
        };
        Ok(inventory.remotes.iter().filter(|remote| is_library(remote)).cloned().collect())
    }

    /// Opens them and learns what is there; the severity of one that can't be reached, where that matters to the verb.
    pub(crate) async fn open_homes(&self, only_looks: bool) -> Result<Option<Severity>, Report> {
        let mut homes = Vec::new();
        for remote in self.home_remotes()? {
            let mirror = Library::mirror(&self.mirrors(), &remote.url)?;
            let offsite = self.open_remote(&remote)?;
            let refreshed = offsite.refresh(&mirror, &crate::owner()).await;
            let stale = refreshed.is_err();
            if let Err(e) = refreshed {
                let severity = complain(&e);
                if !only_looks {
                    return Ok(Some(severity));
                }
                ui::err("tanker: what follows is what was known of it before\n");
            }
            homes.push(Home { offsite, mirror, stale });
        }
        // It is set once a run, here.
        let _ = self.homes.set(homes);
        Ok(None)
    }

    /// Whether a remote is a library itself.
    pub(crate) fn is_home(&self, remote: &str) -> bool {
        self.homes().iter().any(|home| home.offsite.name == remote)
    }

    fn homes(&self) -> &[Home] {
        self.homes.get().map_or(&[], Vec::as_slice)
    }

    /// The remote where an entry's archive lies, if it isn't here.
    pub(crate) fn away(&self, entry: &Entry) -> Option<&Offsite> {
        if entry.is_here() {
            return None;
        }
        self.homes().iter().find(|home| entry.folder.starts_with(home.mirror.root())).map(|home| &home.offsite)
    }

    /// Fetches the archives of entries that are at a remote, for as long as the result lives.
    pub(crate) async fn bring_here(&self, entries: impl IntoIterator<Item = &Entry>) -> Result<Brought, LibraryError> {
        let mut brought = Brought { archives: Vec::new(), holds: Vec::new() };
        for entry in entries {
            let Some(home) = self.homes().iter().find(|home| entry.folder.starts_with(home.mirror.root())) else { continue };
            brought.holds.push(home.mirror.hold()?);
            if entry.is_here() {
                continue;
            }
            let progress = ui::Progress::begin("fetch", entry.manifest.archive.bytes);
            let fetched = home.offsite.fetch(&home.mirror, entry, &|bytes| progress.add(bytes)).await;
            progress.end();
            fetched?;
            brought.archives.push((home.mirror.clone(), entry.clone()));
        }
        Ok(brought)
    }

    /// Brings home what is new, marked or forgotten here.
    pub(crate) async fn settle(&self) -> Severity {
        let mut worst = Severity::Ok;
        for home in self.homes() {
            if home.stale {
                worst = worst.max(Severity::Failed);
                continue;
            }
            let here = home.mirror.list(None).map(|(entries, _)| entries).unwrap_or_default();
            let bytes: u64 = here.iter().filter(|entry| entry.is_here()).map(|entry| entry.manifest.archive.bytes).sum();
            let progress = ui::Progress::begin("home", bytes);
            let settled = home.offsite.settle(&home.mirror, &crate::owner(), &|bytes| progress.add(bytes)).await;
            progress.end();
            for name in &settled.sent {
                ui::err(&format!("tanker: {name} is at {}\n", home.offsite.name));
            }
            for e in &settled.failed {
                worst = worst.max(complain(e));
            }
            if !settled.failed.is_empty() {
                let root = home.mirror.root().display();
                ui::err(&format!(
                    "tanker: what is not at {} yet stays in {root}; whatever works with this library next tries again\n",
                    home.offsite.name
                ));
            }
        }
        worst
    }
}
