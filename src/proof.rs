//! `tanker verify`: what of the library is whole, here and at its home, and writing that down.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::Utc;
use color_eyre::eyre::Report;
use futures_util::{StreamExt, stream};

use tanker::cli;
use tanker::library::{Away, Depth, Entry, Keys, LibraryError, Offsite, Problem, Verified, verify};
use tanker::model::id::HostName;
use tanker::model::record::Check;
use tanker::model::report::Severity;
use tanker::model::text::is_ahead;
use tanker::ui;

use crate::Start;
use crate::shelf::{complain, without_lrzip};

impl Start {
    pub async fn verify(&self, args: &cli::Verify) -> Result<Severity, Report> {
        if let Some(remote) = &args.remote {
            return self.verify_remote(args, remote).await;
        }
        let mut worst = Severity::Ok;
        let (mut entries, mut broken) = (Vec::new(), Vec::new());
        if args.all {
            let (all, problems) = self.everything()?;
            entries = all;
            if entries.is_empty() && problems.is_empty() {
                ui::err("tanker: there is no backup to verify\n");
                return Ok(Severity::Refused);
            }
            worst = worst.max(tell_broken(&problems, args.json));
            broken = problems;
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
            entries = sample(all, share, if args.deep { Depth::Deep } else { Depth::Hashed });
            worst = worst.max(tell_broken(&problems, args.json));
            broken = problems;
        }
        self.tell_unsealed(&entries);
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
            if let (true, Ok(verified)) = (args.deep && entry.is_encrypted(), &result)
                && !verified.decrypted
            {
                let why = "was held from outside only: no key here opens it, name one with '--key' or 'decrypt_with'";
                worst = worst.max(complain(&LibraryError::Missing(format!("{} {why}", entry.name()))));
            }
            match result {
                Err(LibraryError::Damaged { .. }) => worst = worst.max(Severity::Damaged),
                Err(e) if args.json => worst = worst.max(e.severity()),
                Err(e) => worst = worst.max(complain(e)),
                Ok(_) => {}
            }
        }
        // What rotted beside an archive is rot too.
        let records =
            entries.iter().filter_map(|entry| entry.unreadable_record.clone().map(|reason| Problem { path: entry.folder.clone(), reason }));
        let records: Vec<Problem> = records.collect();
        let results: Vec<_> = entries.iter().zip(&results).collect();
        ui::out(&if args.json { ui::verified_json(&results, &[broken, records.clone()].concat()) } else { ui::verified(&results) });
        Ok(worst.max(tell_broken(&records, args.json)))
    }

    /// Says which backups are not encrypted though the inventory says so, a line a host.
    pub(crate) fn tell_unsealed(&self, entries: &[Entry]) {
        let Some(inventory) = self.inventory_or_note() else { return };
        let mut hosts: BTreeMap<&HostName, Vec<&str>> = BTreeMap::new();
        for about in entries.iter().map(|entry| &entry.manifest).filter(|manifest| inventory.unsealed(manifest).is_some()) {
            hosts.entry(&about.description.host).or_default().push(about.description.id.as_str());
        }
        for (host, ids) in hosts {
            ui::err(&format!(
                "tanker: {host}: not encrypted though the inventory says so: {}: made before it did ('tanker rekey' encrypts them), or put there by somebody else\n",
                ids.join(", ")
            ));
        }
    }

    /// Archives that are at a remote are hashed on their way from there; to look deeper one at a time is fetched.
    async fn verify_each(&self, entries: &[Entry], keys: &Keys, depth: Depth, jobs: usize) -> Vec<Result<Verified, LibraryError>> {
        if entries.iter().all(|entry| self.away(entry).is_none()) {
            return verify_all(entries, keys, depth, jobs);
        }
        let looks = entries.iter().map(|entry| async move {
            match self.away(entry) {
                Some(Ok(offsite)) if depth == Depth::Hashed => verify_at_home(offsite, entry).await,
                _ => match self.bring_here([entry]).await {
                    Ok(_brought) => tokio::task::block_in_place(|| verify_all(std::slice::from_ref(entry), keys, depth, 1).remove(0)),
                    Err(e) => Err(e),
                },
            }
        });
        // To look deeper one is fetched, and there may be room for no second.
        stream::iter(looks).buffered(if depth == Depth::Hashed { jobs } else { 1 }).collect().await
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
        let recorded = entry
            .clone()
            .update(false, |record| record.add_check(Check { at: Utc::now(), depth, damage, encrypted: entry.is_encrypted() }));
        if let Err(e) = recorded {
            ui::err(&format!("tanker: what was found of {} could not be recorded: {e}\n", entry.name()));
        }
    }
}

/// What is no backup any more has no row of its own among the results, and no place in a document.
fn tell_broken(problems: &[Problem], json: bool) -> Severity {
    for problem in problems {
        let word = match (problem.is_newer(), problem.is_of_a_library()) {
            (true, _) => "too new",
            (_, true) => "UNREADABLE",
            _ => "DAMAGED",
        };
        let line = format!("{}  {word}  {}\n", problem.name(), problem.reason);
        if json { ui::err(&line) } else { ui::out(&line) }
    }
    Problem::severity_of(problems)
}

/// So much of the library, in bytes, what was looked at so deep longest ago first; what came in since has been proven then, and waits its turn. Where that can't be written down comes last, or it would be
/// chosen for ever.
fn sample(mut entries: Vec<Entry>, share: f64, depth: Depth) -> Vec<Entry> {
    let seen = |entry: &Entry| {
        // What a clock that was ahead has proven would wait for its turn for years.
        let proven = Some(entry.manifest.proof.at).filter(|at| !is_ahead(*at, Utc::now()));
        // Without its key an encrypted one can't be looked at any deeper.
        let counts = |check: &&Check| depth == Depth::Hashed || check.depth == depth.word() || check.depth == "sealed";
        entry.record.checks.iter().filter(counts).map(|check| check.at).chain(proven).max()
    };
    entries.sort_by_cached_key(|entry| (entry.unreadable_record.is_some(), seen(entry)));
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
    entry.keeps_its_encryption()?;
    let archive = &entry.manifest.archive;
    let progress = ui::Progress::begin("verify", archive.bytes);
    let mut verified = offsite.verify(&Away::of(entry)?, &|bytes| progress.add(bytes)).await;
    if verified.is_ok() {
        verified = offsite.hold_seal(&Away::of(entry)?, entry).await;
    }
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
