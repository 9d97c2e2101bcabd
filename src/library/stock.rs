//! Reading what a stock archive says of itself: `dockerctl backup` of Fuel 5.1 to 8.0 writes no manifest, so release,
//! containers, directories and time are read from its members.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

use super::archive::each_member;
use super::entries::each_entry;
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

fn read_directories(tar: &mut dyn Read, facts: &mut StockFacts) -> Result<(), String> {
    let mut tops = BTreeSet::new();
    each_entry(tar, "its system-dirs.tar", &mut |entry| {
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").trim_matches('/').to_owned();
        let is_version = path.starts_with("etc/fuel/") && path.ends_with("/version.yaml");
        if is_version || ["etc/fuel/astute.yaml", "etc/fuel/fuel-uuid"].contains(&path.as_str()) {
            if let Some(to) = entry.link_name_bytes().filter(|_| path == "etc/fuel/version.yaml") {
                facts.version_link = String::from_utf8_lossy(&to).into_owned();
            }
            let text = read_small(entry, "system-dirs.tar")?;
            match path.as_str() {
                "etc/fuel/astute.yaml" => facts.astute = text,
                "etc/fuel/fuel-uuid" => facts.uuid = text,
                _ => facts.take_version(&text),
            }
        }
        tops.insert(path);
        Ok(())
    })?;
    facts.take_paths(&tops);
    Ok(())
}

/// The names of the images stand in a small file of the tar: `repositories`, or `manifest.json` of later Dockers.
fn read_images(tar: &mut dyn Read, facts: &mut StockFacts) -> Result<(), String> {
    each_entry(tar, "its docker-images.tar", &mut |entry| {
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        if path == "repositories" || path == "manifest.json" {
            facts.images.extend(images_of_listing(read_small(entry, "docker-images.tar")?.as_bytes()));
        }
        Ok(())
    })
}

fn read_small(file: &mut dyn Read, member: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(odd(member))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
