//! Fetches one file from a host the way a backup does: pulled, hashed by blocks and as a whole, written. For benchmarks. Prints how long it took from
//! where a backup begins with it: a line is open, those for the file are not.
//!
//! usage: fetch INVENTORY HOST FILE BYTES TO
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use tanker::library::Blocks;
use tanker::model::inventory::parse_inventory;
use tanker::remote::bulk::Bulk;
use tanker::remote::link::Link;
use tanker::remote::ssh::{Asker, Keyring, complete};

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [inventory, host, file, length, to] = args.as_slice() else { panic!("usage: fetch INVENTORY HOST FILE BYTES TO") };
    let text = std::fs::read_to_string(inventory).unwrap();
    let mut inventory = parse_inventory(inventory, &text).unwrap();
    // What the inventory says, and no SSH configuration.
    inventory.ssh_config = None;
    let asker = Asker { user: "root".into(), workstation: String::new(), home: "/nonexistent".into() };
    complete(&mut inventory, &asker).unwrap();
    let host = inventory.host(&host.parse().unwrap()).unwrap();
    let home = PathBuf::from("/nonexistent");
    let keyring = Arc::new(Keyring::load([host], &home, None, &mut |_: &str| None).await.unwrap());
    let mut link = Link::open(host, &keyring, home).await.unwrap();
    // By then a backup has asked the master a lot, and knows how far away it is.
    link.round_trip().await;
    let began = std::time::Instant::now();
    let (sink, mut source) = tokio::sync::mpsc::channel::<bytes::Bytes>(256);
    let mut out = std::fs::File::create(to).unwrap();
    let disk = tokio::task::spawn_blocking(move || {
        let mut blocks = Blocks::default();
        while let Some(chunk) = source.blocking_recv() {
            out.write_all(&chunk).unwrap();
            blocks.update(&chunk);
        }
        (blocks.bytes(), blocks.sums().len())
    });
    let mut bulk = Bulk::beside(&mut link).await;
    bulk.pull(file, 0, length.parse().unwrap(), sink).await.unwrap();
    let (bytes, blocks) = disk.await.unwrap();
    eprintln!("{bytes} bytes in {blocks} blocks");
    println!("{:.2}", began.elapsed().as_secs_f64());
    bulk.close().await;
    link.close().await;
}
