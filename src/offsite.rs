//! The verbs that copy to remotes and back.

use std::collections::BTreeMap;

use chrono::Utc;
use color_eyre::eyre::Report;

use tanker::cli;
use tanker::library::{Away, Copied, Depth, Entry, Keys, Library, LibraryError, Offsite, Problem, in_the_way, meant, none_ahead, verify};
use tanker::model::id::{BackupRef, Which};
use tanker::model::inventory::{Inventory, Remote};
use tanker::model::pattern::closest;
use tanker::model::report::Severity;
use tanker::remote::ssh::{expand, read_secret};
use tanker::ui;

use crate::Start;
use crate::awake::Awake;
use crate::shelf::complain;

/// What a remote has.
pub(crate) struct Survey {
    pub(crate) inventory: Inventory,
    pub(crate) offsite: Offsite,
    pub(crate) away: Vec<Away>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) worst: Severity,
}

impl Start {
    /// Opens a remote of the inventory; whatever it needs to be let in is asked for now.
    fn remote(&self, inventory: &Inventory, name: &str) -> Result<Offsite, Report> {
        let names = inventory.remotes.iter().map(|remote| remote.name.as_str());
        let remote = inventory.remotes.iter().find(|remote| remote.name == name).ok_or_else(|| {
            let names: Vec<&str> = names.collect();
            let hint = match closest(name, names.iter().copied()) {
                Some(near) => format!(" (did you mean '{near}'?)"),
                None if names.is_empty() => ": it names none; one is a [remotes.NAME] with its url".to_owned(),
                None => format!("; there are: {}", names.join(", ")),
            };
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
        Ok(Offsite::open(remote, &secrets, &self.home, |what| ui::err_once(&format!("tanker: {what}\n")))?)
    }

    pub(crate) async fn copy(&self, args: &cli::Copy) -> Result<Severity, Report> {
        let inventory = self.inventory()?;
        let (patterns, backups): (Vec<_>, Vec<_>) = args.what.iter().partition(|what| !what.contains('@'));
        let patterns: Vec<String> = patterns.into_iter().cloned().collect();
        let backups = backups.into_iter().map(|what| what.parse::<BackupRef>().map_err(Report::from)).collect::<Result<Vec<_>, _>>()?;
        match (&args.to, &args.from) {
            (Some(to), _) => {
                let offsite = self.remote(&inventory, to)?;
                let mut entries = if patterns.is_empty() { vec![] } else { self.of_hosts(self.every_entry()?, &patterns)? };
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
            let doubted = !is_known_whole(entry, &offsite.name);
            let put = match self.bring_here([entry]).await {
                Ok(_brought) => offsite.put(entry, doubted, &|bytes| progress.add(bytes)).await,
                Err(e) => Err(e),
            };
            match put {
                Ok(copied) => {
                    if copied == Copied::Now || doubted {
                        record_copy(entry, &offsite.name, true);
                    } else {
                        record_marks(entry, &offsite.name);
                    }
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
    pub(crate) async fn survey(&self, remote: &str) -> Result<Result<Survey, Severity>, Report> {
        let inventory = self.inventory()?;
        let offsite = self.remote(&inventory, remote)?;
        Ok(match offsite.list().await {
            Ok((away, problems)) => {
                for problem in &problems {
                    ui::err(&format!("tanker: at the remote {remote}: {}: {}\n", problem.name(), problem.reason));
                }
                let worst = Problem::severity_of(&problems);
                Ok(Survey { inventory, offsite, away, problems, worst })
            }
            Err(e) => Err(complain(&e)),
        })
    }

    /// Whether this very backup is in the library, and what of it is known.
    fn is_here(&self, away: &Away) -> Result<Here, Report> {
        Ok(match self.find(&away.manifest.description.named())? {
            Ok(entry) if entry.manifest != away.manifest => Here::No,
            Ok(entry) if entry.record.damage().is_some() => Here::Damaged,
            Ok(entry) => Here::Listed(Box::new(entry)),
            Err(LibraryError::Damaged { .. }) => Here::Damaged,
            Err(_) => Here::No,
        })
    }

    async fn get_all(&self, remote: &str, patterns: &[String], backups: &[BackupRef]) -> Result<Severity, Report> {
        let Survey { inventory, offsite, away, problems, mut worst } = match self.survey(remote).await? {
            Ok(survey) => survey,
            Err(severity) => return Ok(severity),
        };
        let mut wanted: Vec<&Away> = Vec::new();
        if !patterns.is_empty() {
            let hosts =
                self.chosen_in_library(away.iter().map(|away| &away.manifest.description.host), Some(inventory.clone()), patterns)?;
            wanted.extend(away.iter().filter(|away| hosts.contains(&away.manifest.description.host)));
            if wanted.is_empty() {
                let why = format!("the remote {} has no backup of {}", offsite.name, patterns.join(", "));
                worst = worst.max(complain(&LibraryError::Missing(why)));
            }
        }
        for backup in backups {
            match find_away(&away, &problems, backup) {
                Ok(found) => wanted.push(found),
                Err(why) => worst = worst.max(complain(&LibraryError::Missing(format!("{why} at the remote {}", offsite.name)))),
            }
        }
        for away in wanted {
            let here = self.is_here(away)?;
            if let Here::Listed(_) = here {
                ui::out(&format!("{}  was there already\n", away.name()));
                continue;
            }
            match self.get_one(&inventory, &offsite, away, matches!(here, Here::Damaged)).await {
                Ok(entry) => ui::out(&format!("{}  copied  {}\n", entry.name(), entry.folder.display())),
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        Ok(worst)
    }

    /// `instead` of one here that is damaged.
    async fn get_one(&self, inventory: &Inventory, offsite: &Offsite, away: &Away, instead: bool) -> Result<Entry, LibraryError> {
        let host = &away.manifest.description.host;
        let root = inventory.host(host).map_or(&inventory.library, |host| &host.library);
        let library = Library::at(expand(root, &self.home));
        let lock = library.lock(host, &crate::owner())?;
        let _awake = Awake::hold("copy");
        let progress = ui::Progress::begin("copy", away.manifest.archive.bytes);
        let entry = offsite.get(away, &library, lock, instead, &|bytes| progress.add(bytes)).await;
        progress.end();
        let entry = entry?;
        record_copy(&entry, &offsite.name, true);
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

    /// Brings it into the library, unless it is there already and whole.
    pub(crate) async fn fetch_for_restore(&self, offsite: &Offsite, away: &Away) -> Result<Result<BackupRef, LibraryError>, Report> {
        let named = away.manifest.description.named();
        let instead = match self.is_here(away)? {
            Here::No => false,
            Here::Damaged => true,
            // Its own home has it.
            Here::Listed(entry) if !entry.is_here() => return Ok(Ok(named)),
            // Who says where it shall come from may know why.
            Here::Listed(entry) => match tokio::task::block_in_place(|| verify(&entry, &Keys::default(), Depth::Hashed, &mut |_| {})) {
                Ok(_) => return Ok(Ok(named)),
                Err(e @ (LibraryError::Damaged { .. } | LibraryError::File { .. })) => {
                    ui::err(&format!("tanker: {e}: it comes from the remote {}\n", offsite.name));
                    true
                }
                Err(e) => return Ok(Err(e)),
            },
        };
        Ok(self.get_one(&self.inventory()?, offsite, away, instead).await.map(|_| named))
    }

    pub(crate) async fn sync(&self, args: &cli::Sync) -> Result<Severity, Report> {
        let (entries, problems) = self.everything_of(&args.pattern)?;
        let Survey { offsite, away, mut worst, .. } = match self.survey(&args.to).await? {
            Ok(survey) => survey,
            Err(severity) => return Ok(severity),
        };
        worst = worst.max(Problem::severity_of(&problems));
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
                Ok(()) => record_marks(entry, &offsite.name),
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
            let hosts = self.chosen_in_library(away.iter().map(|away| &away.manifest.description.host), Some(inventory), &args.pattern)?;
            away.retain(|away| hosts.contains(&away.manifest.description.host));
        }
        ui::out(&if args.json { ui::away_json(&away, &problems) } else { ui::away_table(&away, Utc::now()) });
        Ok(worst)
    }
}

/// What is known here of a backup that is at a remote.
enum Here {
    /// Nothing, or another one has its name.
    No,
    /// What a check has found, or its listing.
    Damaged,
    Listed(Box<Entry>),
}

/// A damaged newest one is not passed over in silence for an older one.
pub(crate) fn find_away<'a>(away: &'a [Away], problems: &[Problem], backup: &BackupRef) -> Result<&'a Away, String> {
    let of_host = || away.iter().filter(|away| away.manifest.description.host == backup.host);
    let found = match &backup.which {
        Which::Latest => {
            let begun = of_host().map(|away| (away.manifest.description.started, &away.manifest.description.id));
            none_ahead(&backup.host, begun, Utc::now()).map_err(|why| format!("{why};"))?;
            of_host().next_back()
        }
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
        let damaged = if problem.is_newer() { "" } else { " is damaged" };
        return Err(format!("{}{damaged}: {}; say the id of another one,", problem.name(), problem.reason));
    }
    found.ok_or_else(|| {
        let ids = of_host().map(|away| &away.manifest.description.id);
        format!("there is no backup {backup}{}", meant(backup, ids, away.iter().map(|away| &away.manifest.description.host)))
    })
}

/// That a copy was seen whole stands in the record; where it can't be written that is said and no more. `sent`: with the marks as they are
/// in `entry`, so that what is marked later is brought there by `sync`.
pub(crate) fn record_copy(entry: &Entry, remote: &str, sent: bool) {
    change_record(entry, |record| record.set_copy(remote, Utc::now(), sent.then(|| entry.marks())));
}

/// The marks of a copy were brought there, and nothing of it was looked at.
fn record_marks(entry: &Entry, remote: &str) {
    change_record(entry, |record| {
        let copies = record.copies.iter_mut().filter(|copy| copy.remote == remote);
        copies.for_each(|copy| copy.marks = Some(entry.marks()));
    });
}

pub(crate) fn strike_copy(entries: &[Entry], away: &Away, remote: &str) {
    if let Some(entry) = entries.iter().find(|entry| entry.manifest == away.manifest) {
        change_record(entry, |record| record.copies.retain(|copy| copy.remote != remote));
    }
}

/// Whether a copy was seen whole there, and not found to be otherwise since.
pub(crate) fn is_known_whole(entry: &Entry, remote: &str) -> bool {
    entry.record.copies.iter().any(|copy| copy.remote == remote)
}

/// Whether something was marked here since its marks were brought there.
fn marked_since(entry: &Entry, remote: &str) -> bool {
    entry.record.copies.iter().any(|copy| copy.remote == remote && copy.marks.as_ref() != Some(&entry.marks()))
}

pub(crate) fn change_record(entry: &Entry, change: impl FnOnce(&mut tanker::model::record::Record)) {
    if let Err(e) = entry.clone().update(false, change) {
        ui::err(&format!("tanker: where copies of {} are could not be recorded: {e}\n", entry.name()));
    }
}
