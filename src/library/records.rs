//! `record.json` beside a manifest: what became of a backup since. It carries its own digest, and is replaced whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::digests::replace_private;
use super::verify::hex;
use super::{Entry, LibraryError};
use crate::model::record::{RECORD_FORMAT, Record, parse_record};
use crate::model::text::printable;
use crate::platform;

pub(super) const FILE: &str = "record.json";
/// A record larger than this is none.
const LARGEST: u64 = 1 << 20;
/// So much of one that can't be read is shown.
const SHOWN: u64 = 2000;

#[derive(Serialize, Deserialize)]
struct Sheet {
    sha256: String,
    record: Box<RawValue>,
}

/// An entry's record; the empty one where there is none.
pub(super) fn read_record(folder: &Path) -> Result<Record, String> {
    let path = folder.join(FILE);
    let unreadable = |e: &dyn std::fmt::Display| format!("its {FILE} can't be read: {e}");
    match fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(e) => return Err(unreadable(&e)),
        Ok(found) if found.len() > LARGEST => return Err(format!("its {FILE} is far too large")),
        Ok(_) => {}
    }
    parse_sheet(&fs::read(&path).map_err(|e| unreadable(&e))?)
}

/// The same, of a file's text.
pub(super) fn parse_sheet(text: &[u8]) -> Result<Record, String> {
    let sheet: Sheet = serde_json::from_slice(text).map_err(|e| format!("its {FILE} can't be read: {e}"))?;
    if hex(&Sha256::digest(sheet.record.get().as_bytes())) != sheet.sha256 {
        return Err(format!("its {FILE} was changed: its digest is another one"));
    }
    parse_record(sheet.record.get())
}

/// Whether a later tanker has written it: it may say more than can be read here.
pub(super) fn is_later(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        format: u32,
    }
    let probe = serde_json::from_slice::<Sheet>(text).and_then(|sheet| serde_json::from_str::<Probe>(sheet.record.get()));
    probe.is_ok_and(|probe| probe.format > RECORD_FORMAT)
}

/// Whether nobody can read it any more.
pub(super) fn is_rotten(text: &[u8]) -> bool {
    parse_sheet(text).is_err() && !is_later(text)
}

pub(super) fn write_record(folder: &Path, record: &Record) -> Result<(), LibraryError> {
    let path = folder.join(FILE);
    let text = serde_json::value::to_raw_value(record).and_then(|record| {
        let sha256 = hex(&Sha256::digest(record.get().as_bytes()));
        serde_json::to_string(&Sheet { sha256, record })
    });
    let text = text.map_err(|e| LibraryError::file(&path, "can't be written")(e.into()))?;
    replace_private(&path, format!("{text}\n").as_bytes())
}

impl Entry {
    /// A digest of what is marked, of where copies are apart: those are of this library's, and change with every copy.
    #[must_use]
    pub fn marks(&self) -> String {
        let record = Record { copies: Vec::new(), ..self.record.clone() };
        // What can't be written is like nothing that was.
        serde_json::to_vec(&record).map(|text| hex(&Sha256::digest(text))).unwrap_or_default()
    }

    /// What stands in the record's file, whether it can be understood or not; its beginning, where it is long.
    #[must_use]
    pub fn record_as_it_is(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(self.folder.join(FILE)).and_then(|file| file.take(SHOWN).read_to_end(&mut text));
        match read {
            Ok(_) => printable(&String::from_utf8_lossy(&text)),
            Err(e) => format!("(it can't be read at all: {e})"),
        }
    }

    /// Changes the record, under a lock of its own that nobody holds for long: a backup under way hinders nobody. An unreadable one is
    /// begun anew only by `anew`.
    ///
    /// # Errors
    /// When the record on the disk can't be read or the new one can't be written.
    pub fn update(&mut self, anew: bool, change: impl FnOnce(&mut Record)) -> Result<(), LibraryError> {
        self.update_if(anew, |record| {
            change(record);
            true
        })
        .map(drop)
    }

    /// The same, if `change` still wants it when it sees the record.
    pub(super) fn update_if(&mut self, anew: bool, change: impl FnOnce(&mut Record) -> bool) -> Result<bool, LibraryError> {
        let _lock = lock_records(self.folder.parent().unwrap_or(&self.folder))?;
        let mut record = match read_record(&self.folder) {
            Ok(record) => record,
            Err(_) if anew => Record::default(),
            // The record, not the backup.
            Err(reason) => {
                let anew = "'tanker protect --renew' begins it anew, without its notes, tags and marks";
                return Err(LibraryError::Missing(format!("{}: {reason}: {anew}", self.name())));
            }
        };
        if !change(&mut record) {
            return Ok(false);
        }
        write_record(&self.folder, &record)?;
        (self.record, self.unreadable_record) = (record, None);
        Ok(true)
    }
}

/// Held for the moment that reading and writing a record takes.
pub(super) fn lock_records(host_folder: &Path) -> Result<File, LibraryError> {
    let path = host_folder.join(".record.lock");
    let file = platform::private().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(LibraryError::file(&path, "can't be opened"))?;
    for _ in 0..200 {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::Error(e)) => return Err(LibraryError::file(&path, "can't be locked")(e)),
        }
    }
    Err(LibraryError::Missing(format!("another program holds {} and doesn't let go", path.display())))
}
