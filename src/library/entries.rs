//! The entries of a tar that anybody may have made: none of them takes all the memory here, or all the time there is.

use std::cell::Cell;
use std::io::{self, Read};

use tar::{Archive, Entry};

use crate::model::text::printable;

/// What stands before a file, its name and whatever else is said of it, is never longer than this. The tar crate keeps all of it in memory.
const LONGEST_HEAD: u64 = 4 << 20;
/// The holes of a larger file would take months to read.
const LARGEST_WITH_HOLES: u64 = 1 << 40;

/// A tar that lets so much and no more be read.
pub(super) struct Bounded<'a> {
    tar: &'a mut dyn Read,
    left: &'a Cell<u64>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other("what it says of a file is far too long"));
        }
        let read = self.tar.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

/// An entry as it is met.
pub(super) type Met<'a, 'b> = Entry<'a, Bounded<'b>>;

/// Hands each entry of a tar to `visit`, which need not read it to its end. `what` it is, for the sentence that says why it can't be read.
pub(super) fn each_entry(
    tar: &mut dyn Read,
    what: &str,
    visit: &mut dyn FnMut(&mut Met<'_, '_>) -> Result<(), String>,
) -> Result<(), String> {
    let odd = |e: io::Error| format!("{what} is no whole tar: {}", printable(&e.to_string()));
    let left = Cell::new(u64::MAX);
    let mut archive = Archive::new(Bounded { tar, left: &left });
    let mut entries = archive.entries().map_err(odd)?;
    loop {
        left.set(LONGEST_HEAD);
        let Some(entry) = entries.next() else { return Ok(()) };
        left.set(u64::MAX);
        let mut entry = entry.map_err(odd)?;
        if entry.header().entry_type().is_gnu_sparse() && entry.size() > LARGEST_WITH_HOLES {
            return Err(format!("{what} has a file that is said to be {} bytes long, most of it holes: no master has one", entry.size()));
        }
        visit(&mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(odd)?;
    }
}

#[cfg(test)]
mod tests {
    use tar::{Builder, EntryType, Header};

    use super::*;

    fn walk(tar: &[u8]) -> Result<Vec<(String, u64)>, String> {
        let mut met = Vec::new();
        each_entry(&mut &tar[..], "it", &mut |entry| {
            met.push((String::from_utf8_lossy(&entry.path_bytes()).into_owned(), entry.size()));
            Ok(())
        })?;
        Ok(met)
    }

    #[test]
    fn i8_a_name_of_a_gigabyte_is_refused_before_it_is_in_memory() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 30);
        header.set_cksum();
        let mut endless = header.as_bytes().chain(io::repeat(b'a'));
        let mut met = 0;
        let why = each_entry(&mut endless, "it", &mut |_| {
            met += 1;
            Ok(())
        });
        assert_eq!((met, why.unwrap_err().as_str()), (0, "it is no whole tar: what it says of a file is far too long"));
    }

    #[test]
    fn i8_a_file_of_holes_without_end_is_refused() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_path("holes").unwrap();
        header.set_size(0);
        // A number of so many digits is written in base 256.
        let gnu = header.as_gnu_mut().unwrap();
        gnu.realsize = [0x80, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0];
        gnu.sparse[0].offset = gnu.realsize;
        gnu.sparse[0].numbytes = *b"00000000000\0";
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        tar.extend([0; 1024]);
        assert!(walk(&tar).unwrap_err().contains("most of it holes"), "{:?}", walk(&tar));
    }

    #[test]
    fn long_names_and_contents_pass_and_need_not_be_read() {
        let mut builder = Builder::new(Vec::new());
        let name = "d/".repeat(500) + "file";
        let body = vec![7; 6 << 20];
        let mut header = Header::new_gnu();
        header.set_size(body.len() as u64);
        builder.append_data(&mut header.clone(), &name, &body[..]).unwrap();
        builder.append_data(&mut header, "second", &body[..]).unwrap();
        let bytes = body.len() as u64;
        assert_eq!(walk(&builder.into_inner().unwrap()).unwrap(), [(name, bytes), ("second".to_owned(), bytes)]);
    }
}
