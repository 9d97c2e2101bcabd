//! Libraries whose home is a remote: opened before a verb works on them, and what the verb changed brought home after it.

use std::path::{Path, PathBuf};

use color_eyre::eyre::Report;

use tanker::cli::Command;
use tanker::library::{Entry, Hold, Library, LibraryError, Offsite};
use tanker::model::inventory::{Remote, is_remote};
use tanker::model::report::Severity;
use tanker::platform::interrupted;
use tanker::remote::ssh::expand;
use tanker::ui;

use crate::Start;
use crate::awake::Awake;
use crate::shelf::complain;

/// A remote that is a library, and what of it is on this disk.
pub(crate) struct Home {
    url: String,
    mirror: Library,
    /// None where it can't be reached: there is what was known of it before, and what is new stays here.
    offsite: Option<Offsite>,
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
            // One that can't go now goes with whatever brings this library home next.
            let _ = mirror.let_go(entry, &crate::owner());
        }
    }
}

/// Whether a verb has to do with libraries at all. Putting a master back needs no backup, and waits for no remote.
pub(crate) fn concerns_libraries(command: &Command) -> bool {
    match command {
        Command::Check(_) | Command::Status(_) | Command::Thaw(_) | Command::Clean(_) | Command::Hosts(_) | Command::Trust(_) => false,
        Command::Init(_) | Command::Config(_) | Command::Completions(_) | Command::Man(_) => false,
        Command::Restore(args) => args.backup.is_some(),
        _ => true,
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

    /// Opens them and learns what is there. One that can't be reached keeps nobody from working: no other library's hosts, and no backup.
    pub(crate) async fn open_homes(&self) -> Result<(), Report> {
        let mut homes: Vec<Home> = Vec::new();
        for remote in self.home_remotes()? {
            if homes.iter().any(|home| home.url == remote.url) {
                continue;
            }
            let mirror = Library::mirror(&self.mirrors(), &remote.url)?;
            let offsite = match self.open_home(&remote, &mirror).await {
                Ok(offsite) => Some(offsite),
                Err(e) => {
                    ui::err(&format!(
                        "tanker: {e:#}\ntanker: what was known of {} before counts, and what is new stays here\n",
                        remote.url
                    ));
                    None
                }
            };
            homes.push(Home { url: remote.url.clone(), mirror, offsite });
        }
        // It is set once a run, here.
        let _ = self.homes.set(homes);
        Ok(())
    }

    async fn open_home(&self, remote: &Remote, mirror: &Library) -> Result<Offsite, Report> {
        let offsite = self.open_remote(remote)?;
        match offsite.refresh(mirror, &crate::owner()).await {
            Ok(skipped) => {
                for host in skipped {
                    ui::err(&format!("tanker: another tanker is at the backups of {host}: newer ones may be at {}\n", remote.url));
                }
            }
            // This disk's fault: what is full is emptied by what goes home.
            Err(e @ LibraryError::File { .. }) => drop(complain(&e)),
            Err(e) => return Err(e.into()),
        }
        Ok(offsite)
    }

    /// Whether a remote is a library itself.
    pub(crate) fn is_home(&self, remote: &Remote) -> bool {
        self.homes().iter().any(|home| home.url == remote.url)
    }

    fn homes(&self) -> &[Home] {
        self.homes.get().map_or(&[], Vec::as_slice)
    }

    fn home_of(&self, entry: &Entry) -> Option<&Home> {
        self.homes().iter().find(|home| entry.folder.starts_with(home.mirror.root()))
    }

    /// The remote where an entry's archive lies, if it isn't here.
    pub(crate) fn away(&self, entry: &Entry) -> Option<Result<&Offsite, LibraryError>> {
        let home = self.home_of(entry).filter(|_| !entry.is_here())?;
        let unreachable = || LibraryError::Missing(format!("the archive of {} is at {}, which can't be reached", entry.name(), home.url));
        Some(home.offsite.as_ref().ok_or_else(unreachable))
    }

    /// Fetches the archives of entries that are at a remote, for as long as the result lives.
    pub(crate) async fn bring_here(&self, entries: impl IntoIterator<Item = &Entry>) -> Result<Brought, LibraryError> {
        let mut brought = Brought { archives: Vec::new(), holds: Vec::new() };
        for entry in entries {
            let Some(home) = self.home_of(entry) else { continue };
            brought.holds.push(home.mirror.hold()?);
            let Some(offsite) = self.away(entry).transpose()? else { continue };
            let progress = ui::Progress::begin("fetch", entry.manifest.archive.bytes);
            let fetched = offsite.fetch(&home.mirror, entry, &|bytes| progress.add(bytes)).await;
            progress.end();
            fetched?;
            brought.archives.push((home.mirror.clone(), entry.clone()));
        }
        Ok(brought)
    }

    /// Brings home what is new in one entry's library, so that it doesn't pile up here while a verb goes on with the others.
    pub(crate) async fn settle_home_of(&self, entry: &Entry) -> Severity {
        match self.home_of(entry).map(|home| (home, &home.offsite)) {
            Some((home, Some(offsite))) => settle(home, offsite).await,
            // What can't be reached is told of at the end.
            _ => Severity::Ok,
        }
    }

    /// Brings home what is new, marked or forgotten here.
    pub(crate) async fn settle(&self) -> Severity {
        let mut worst = Severity::Ok;
        for home in self.homes() {
            worst = worst.max(match &home.offsite {
                Some(offsite) => settle(home, offsite).await,
                None => Severity::Failed,
            });
        }
        worst
    }
}

async fn settle(home: &Home, offsite: &Offsite) -> Severity {
    let here = home.mirror.list(None).map(|(entries, _)| entries).unwrap_or_default();
    let progress = ui::Progress::begin("home", here.iter().filter(|entry| entry.is_here()).map(|entry| entry.manifest.archive.bytes).sum());
    let (owner, seen) = (crate::owner(), |bytes| progress.add(bytes));
    let _awake = here.iter().any(Entry::is_here).then(|| Awake::hold("home"));
    let settled = tokio::select! {
        settled = offsite.settle(&home.mirror, &owner, &seen) => Some(settled),
        Ok(_) = interrupted() => None,
    };
    progress.end();
    let later = format!(
        "tanker: what is not at {} yet stays in {}; whatever works with this library next tries again\n",
        home.url,
        home.mirror.root().display()
    );
    let Some(settled) = settled else {
        ui::err(&later);
        return Severity::Interrupted;
    };
    for name in &settled.sent {
        ui::err(&format!("tanker: {name} is at {}\n", home.url));
    }
    let mut worst = Severity::Ok;
    for e in &settled.failed {
        worst = worst.max(complain(e));
    }
    if !settled.failed.is_empty() {
        ui::err(&later);
    }
    worst
}
