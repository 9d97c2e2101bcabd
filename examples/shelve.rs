//! Puts a file into a library the way a backup does: hashed by blocks and as a whole, encrypted if a recipient is named, written, synced.
//! For benchmarks.
//!
//! usage: shelve LIBRARY FILE [RECIPIENT]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::io::Read;

use tanker::library::{Arrival, Library, Recipients};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [library, file, to @ ..] = args.as_slice() else { panic!("usage: shelve LIBRARY FILE [RECIPIENT]") };
    let library = Library::at(library.into());
    let (host, id) = ("east".parse().unwrap(), "2026-11-22-14_07".parse().unwrap());
    let recipients = (!to.is_empty()).then(|| Recipients::parse(to, "shelve").unwrap());
    let arrival = Arrival { name: "a.tar.lrz", bytes: 0, note: None, to: recipients.as_ref() };
    let mut writer = library.begin(library.lock(&host, "a benchmark").unwrap(), &host, &id, &arrival).unwrap();
    let mut file = std::fs::File::open(file).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        writer.write(&buffer[..read]).unwrap();
    }
    writer.finish().unwrap();
}
