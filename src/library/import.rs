//! Taking a stock archive into the library: proven whole, described from what is inside, listed like any other.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use chrono::{DateTime, Utc};

use super::{Arrival, Entry, Library, LibraryError, Recipients, lrzip_is_here, read_stock};
use crate::model::id::HostName;
use crate::model::manifest::{FORMAT, Freeze, FreezeMethod, Manifest, Proof, ProofPlace, TaskRecord, archive_name};
use crate::model::release::Release;
use crate::model::stock::{stock_id_of_file, stock_id_of_folder};

impl Library {
    /// Imports a stock archive as a backup of `host`. The file itself stays where it is.
    ///
    /// # Errors
    /// When it isn't whole, doesn't tell of which release it is, is in the library already, or the library can't take it.
    pub fn import(
        &self,
        file: &Path,
        host: &HostName,
        told: Option<&Release>,
        owner: &str,
        to: Option<&Recipients>,
        now: DateTime<Utc>,
    ) -> Result<Entry, LibraryError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let damaged = |reason: String| LibraryError::Damaged { name: crate::model::text::printable(&name), reason };
        // Nothing is begun: it may be the wrong file that was named.
        let unreadable = |e| LibraryError::Missing(LibraryError::file(file, "can't be read")(e).to_string());
        let mut source = File::open(file).map_err(unreadable)?;
        let about = source.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(LibraryError::Missing(format!("{} is no file", file.display())));
        }
        let bytes = about.len();
        if !lrzip_is_here() {
            return Err(LibraryError::Missing(
                "lrzip is not installed here, and an archive that nobody has decompressed is not taken".into(),
            ));
        }
        let stock = read_stock(file).map_err(|why| match why.starts_with("it was made by tanker") {
            true => LibraryError::Missing(format!("{}: {why}", crate::model::text::printable(&name))),
            false => damaged(why),
        })?;
        let release = stock.facts.release(told).map_err(LibraryError::Missing)?;
        let no_id = || {
            LibraryError::Missing(format!(
                "the archive doesn't tell its id, and its file is not named fuel_backup_YYYY-MM-DD_NNNN.tar.lrz, nor does it lie in a folder backup_YYYY-MM-DD_NNNN: {name}"
            ))
        };
        let stock_id = stock.facts.stock_id().or_else(|| stock_id_of_file(&name)).or_else(|| stock_id_of_folder(file)).ok_or_else(no_id)?;
        if stock.facts.directories.is_empty() {
            return Err(damaged("it holds no system-dirs.tar with a master's directories".into()));
        }
        let lock = self.lock(host, owner)?;
        let description = stock.facts.describe(host.clone(), release, stock_id, |id| self.is_taken(host, id));
        let archive = archive_name(&description.stock_id);
        let mut writer = self.begin(lock, host, &description.id, &Arrival { name: &archive, bytes, note: None, to })?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = source.read(&mut buffer).map_err(LibraryError::file(file, "can't be read"))?;
            if read == 0 {
                break;
            }
            writer.write(&buffer[..read])?;
        }
        let received = writer.finish()?;
        // One that lies here encrypted can't be told from it without a key.
        let (known, _) = self.list(Some(host))?;
        if let Some(same) = known.iter().find(|entry| entry.manifest.archive.sha256 == received.sha256) {
            return Err(LibraryError::Missing(format!("it is in the library already, as {}", same.name())));
        }
        let manifest = Manifest {
            format: FORMAT,
            finished: now,
            archive: received.describe(&archive, stock.members.iter().map(|member| member.bytes).sum(), stock.members),
            freeze: Freeze { method: FreezeMethod::None, milliseconds: 0, consistent: false, steps: vec![], predicted_milliseconds: None },
            tasks: TaskRecord::Ignored { unfinished: vec![], reason: Some("a stock archive doesn't tell".into()) },
            proof: Proof { place: ProofPlace::Workstation, at: now },
            notes: vec![
                format!("imported from {}", crate::model::text::printable(&file.display().to_string())),
                "a stock archive holds no volumes: /etc/cobbler, /etc/astute, /etc/nailgun and nailgun's static files stay as they are made anew"
                    .into(),
            ],
            description,
        };
        received.commit(&manifest)
    }
}
