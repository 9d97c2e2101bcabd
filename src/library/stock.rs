//! Reading what a stock archive says of itself: `dockerctl backup` of Fuel 5.1 to 8.0 writes no manifest, so release,
//! containers, directories and time are read from its members.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

use tar::Archive;

use super::archive::each_member;
use crate::model::manifest::Member;
use crate::model::stock::{StockFacts, image_of_member, images_of_listing};
use crate::model::text::printable;

/// A file inside that is read whole may be this large.
const LARGEST_FILE: u64 = 4 << 20;

/// Everything that is known of a stock archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stock {
    /// The tar's members, in order.
    pub members: Vec<Member>,
    /// What they say.
    pub facts: StockFacts,
}

/// Walks a whole stock archive: every byte is decompressed, lrzip's own checksum holds at the end.
///
/// # Errors
/// One sentence, when lrzip or a tar inside is not whole.
pub fn read_stock(path: &Path) -> Result<Stock, String> {
    let mut members = Vec::new();
    let mut facts = StockFacts::default();
    each_member(super::Source::file(path), |name, entry| {
        members.push(Member { name: name.to_owned(), bytes: entry.size() });
        facts.newest = facts.newest.max(entry.header().mtime().unwrap_or(0));
        match name {
            "system-dirs.tar" => read_directories(entry, &mut facts),
            "docker-images.tar" => read_images(entry, &mut facts),
            "tanker.json" => Err("it was made by tanker: put its folder into the library as it is, with its manifest.json".to_owned()),
            _ => {
                facts.images.extend(image_of_member(name));
                Ok(())
            }
        }
    })?;
    Ok(Stock { members, facts })
}

fn odd(what: &str) -> impl Fn(io::Error) -> String + '_ {
    move |e| format!("its {what} is no whole tar: {}", printable(&e.to_string()))
}

fn read_directories(tar: &mut impl Read, facts: &mut StockFacts) -> Result<(), String> {
    let odd = odd("system-dirs.tar");
    let mut tops = BTreeSet::new();
    let mut inner = Archive::new(tar);
    for entry in inner.entries().map_err(&odd)? {
        let mut entry = entry.map_err(&odd)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").trim_matches('/').to_owned();
        let file = match path.as_str() {
            "etc/fuel/astute.yaml" => Some(&mut facts.astute),
            "etc/fuel/fuel-uuid" => Some(&mut facts.uuid),
            path if path.starts_with("etc/fuel/") && path.ends_with("/version.yaml") => Some(&mut facts.version_yaml),
            _ => None,
        };
        if let Some(text) = file {
            let mut bytes = Vec::new();
            entry.by_ref().take(LARGEST_FILE).read_to_end(&mut bytes).map_err(&odd)?;
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        tops.insert(path);
    }
    facts.take_paths(&tops);
    Ok(())
}

/// The names of the images stand in a small file of the tar: `repositories`, or `manifest.json` of later Dockers.
fn read_images(tar: &mut impl Read, facts: &mut StockFacts) -> Result<(), String> {
    let odd = odd("docker-images.tar");
    let mut inner = Archive::new(tar);
    for entry in inner.entries().map_err(&odd)? {
        let mut entry = entry.map_err(&odd)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        if path == "repositories" || path == "manifest.json" {
            let mut bytes = Vec::new();
            entry.by_ref().take(LARGEST_FILE).read_to_end(&mut bytes).map_err(&odd)?;
            facts.images.extend(images_of_listing(&bytes));
        }
    }
    Ok(())
}
