//! What encrypts archives and opens them, gathered before any work begins.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use color_eyre::eyre::{Report, WrapErr};

use tanker::library::{Entry, Keys, Library, LibraryError, PASSPHRASE, Recipients};
use tanker::model::id::HostName;
use tanker::model::inventory::{EncryptTo, Inventory, recipient_file};
use tanker::model::manifest::Manifest;
use tanker::model::report::Severity;
use tanker::model::secret::SecretSource;
use tanker::remote::ssh::{expand, read_secret};
use tanker::ui;

use crate::Start;
use crate::shelf::{complain, of_folder};

impl Start {
    /// To whom the new archives of these hosts are encrypted.
    pub(crate) fn recipients(&self, inventory: &Inventory, hosts: &[HostName]) -> Result<BTreeMap<HostName, Arc<Recipients>>, Report> {
        let named = |(host, found): (HostName, Result<_, String>)| {
            found.map(|found| (host.clone(), found)).map_err(|e| Report::msg(format!("{host}: {e}")))
        };
        self.recipients_of_each(inventory, hosts).into_iter().map(named).collect()
    }

    /// The same, where one host's fault is none of the others'.
    pub(crate) fn recipients_of_each(
        &self,
        inventory: &Inventory,
        hosts: &[HostName],
    ) -> BTreeMap<HostName, Result<Arc<Recipients>, String>> {
        // Many hosts share what the defaults say: it is read, and asked for, once.
        let mut known: Vec<(&EncryptTo, Result<Arc<Recipients>, String>)> = Vec::new();
        let mut found = BTreeMap::new();
        for host in hosts {
            let Some(how) = &inventory.upkeep(host).encryption else { continue };
            let recipients = match known.iter().find(|(other, _)| *other == how) {
                Some((_, recipients)) => recipients.clone(),
                None => {
                    let recipients = self.read_recipients(how).map(Arc::new).map_err(|e| format!("{e:#}"));
                    known.push((how, recipients.clone()));
                    recipients
                }
            };
            found.insert(host.clone(), recipients);
        }
        found
    }

    fn read_recipients(&self, how: &EncryptTo) -> Result<Recipients, Report> {
        let list = match how {
            EncryptTo::Recipients(list) => list,
            EncryptTo::Passphrase(source) => {
                let what = "the passphrase of new archives";
                let passphrase = read_secret(source, what, "Passphrase for new archives: ", &self.home, &mut ui::ask_passphrase)?;
                if passphrase.is_empty() {
                    return Err(Report::msg(format!("{what} is empty")));
                }
                // A slip of the finger here would make every archive unreadable.
                if *source == SecretSource::Ask
                    && read_secret(source, what, "The same once more: ", &self.home, &mut ui::ask_passphrase)? != passphrase
                {
                    return Err(Report::msg("the two passphrases are not the same"));
                }
                return Ok(Recipients::passphrase(&passphrase));
            }
        };
        let mut texts = Vec::new();
        for text in list {
            let Some(path) = recipient_file(text) else {
                texts.push(text.clone());
                continue;
            };
            let path = expand(&path, &self.home);
            let lines = std::fs::read_to_string(&path).wrap_err_with(|| format!("the recipients in {} can't be read", path.display()))?;
            let before = texts.len();
            texts.extend(lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
            if texts.len() == before {
                return Err(Report::msg(format!("no recipient stands in {}", path.display())));
            }
        }
        Recipients::parse(&texts, "encrypt_to").map_err(Report::msg)
    }

    /// What opens the encrypted ones of these backups; nobody is asked anything where none is.
    pub(crate) fn keys<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> Result<Keys, Report> {
        let entries: Vec<&Entry> = entries.into_iter().collect();
        let mut keys = self.keys_of(entries.iter().map(|entry| &entry.manifest))?;
        // Where the passphrase that the inventory knows is another one by now, the old one is asked for, once a host.
        let mut asked: Vec<&HostName> = Vec::new();
        for entry in entries.iter().filter(|entry| by_passphrase(&entry.manifest)) {
            let host = &entry.manifest.description.host;
            // What isn't here can't be tried, and is not fetched before it is asked for.
            let opens = if entry.is_here() { entry.open(&keys).is_ok() } else { keys.has_passphrase() };
            if asked.contains(&host) || opens {
                continue;
            }
            asked.push(host);
            if let Some(answer) = ui::ask_passphrase(&format!("Passphrase of {}: ", entry.name())) {
                keys.add_passphrase(&answer);
            }
        }
        Ok(keys)
    }

    /// The same for one that is to be fetched: what has to be asked is asked before.
    pub(crate) fn keys_of_away(&self, manifest: &Manifest) -> Result<Keys, Report> {
        let mut keys = self.keys_of([manifest])?;
        if by_passphrase(manifest)
            && !keys.has_passphrase()
            && let Some(answer) = ui::ask_passphrase(&format!("Passphrase of {}: ", manifest.description.named()))
        {
            keys.add_passphrase(&answer);
        }
        Ok(keys)
    }

    /// The same before the archives are here: nothing is tried.
    pub(crate) fn keys_of<'a>(&self, manifests: impl IntoIterator<Item = &'a Manifest>) -> Result<Keys, Report> {
        let mut keys = Keys::default();
        let encrypted: Vec<&Manifest> = manifests.into_iter().filter(|manifest| manifest.archive.encryption.is_some()).collect();
        if encrypted.is_empty() {
            return Ok(keys);
        }
        let inventory = self.inventory_if_any()?;
        let named = inventory.iter().flat_map(|inventory| &inventory.decrypt_with);
        if encrypted.iter().any(|manifest| !by_passphrase(manifest)) {
            for path in self.key.iter().chain(named) {
                keys.add_file(&expand(path, &self.home), &mut ui::ask_passphrase).map_err(Report::msg)?;
            }
        }
        let mut sources: Vec<SecretSource> = Vec::new();
        for manifest in encrypted.iter().filter(|manifest| by_passphrase(manifest)) {
            let upkeep = inventory.as_ref().map(|inventory| inventory.upkeep(&manifest.description.host));
            if let Some(EncryptTo::Passphrase(source)) = upkeep.and_then(|upkeep| upkeep.encryption.as_ref())
                && *source != SecretSource::Ask
                && !sources.contains(source)
            {
                let what = "the archives' passphrase";
                keys.add_passphrase(&read_secret(source, what, "", Path::new(&self.home), &mut ui::ask_passphrase)?);
                sources.push(source.clone());
            }
        }
        Ok(keys)
    }
}

/// Before archives are encrypted anew: removes what a run that was cut off has left in the clear, and says what stays as it is.
pub(crate) fn sweep_left(entries: &[Entry], recipients: &BTreeMap<HostName, Arc<Recipients>>) -> Severity {
    let mut worst = Severity::Ok;
    let mut hosts: Vec<_> = entries.iter().map(|entry| (of_folder(entry).root().to_owned(), &entry.manifest.description.host)).collect();
    hosts.sort();
    hosts.dedup();
    for (root, host) in hosts {
        let library = Library::at(root);
        let swept = match library.lock(host, &crate::owner()) {
            // Who writes there sweeps it.
            Err(LibraryError::Locked { .. }) => Ok(()),
            Err(e) => Err(e),
            Ok(lock) => library.sweep_partial(&lock, host),
        };
        let trashed = swept.and_then(|()| library.trashed(host));
        let (trashed, _) = match trashed {
            Ok(trashed) => trashed,
            Err(e) => {
                worst = worst.max(complain(&e));
                continue;
            }
        };
        let Some(to) = recipients.get(host) else { continue };
        let names = |manifest: &Manifest| manifest.archive.encryption.as_ref().map(|encryption| encryption.recipients.clone());
        let left = trashed.iter().filter(|one| names(&one.entry.manifest).as_ref() != Some(&to.names) || to.names == [PASSPHRASE]).count();
        if left > 0 {
            ui::err(&format!(
                "tanker: backups of {host} in the trash that stay as they are: {left}; only what is listed is encrypted anew\n"
            ));
        }
    }
    worst
}

fn by_passphrase(manifest: &Manifest) -> bool {
    manifest.archive.encryption.as_ref().is_some_and(|encryption| encryption.recipients == [PASSPHRASE])
}
