//! Reading OpenSSH's client configuration from the disk, and filling in the inventory's hosts from it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::expand;
use crate::model::inventory::Inventory;
use crate::model::ssh_config::{Question, SshConfig, parse_ssh_config, resolve};
use crate::platform;

/// The system's file, which OpenSSH reads behind the user's own.
const SYSTEM: &str = "/etc/ssh/ssh_config";
/// What is looked for where nobody says otherwise.
const USUAL: &str = "~/.ssh/config";

/// Who asks, as far as the configuration wants to know.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The user here.
    pub user: String,
    /// This workstation's name.
    pub workstation: String,
    /// The home folder.
    pub home: PathBuf,
}

/// Completes the hosts of an inventory from the SSH configuration that it names.
///
/// # Errors
/// One sentence, when a file can't be read, isn't understood or could have been written by others.
pub fn complete(inventory: &mut Inventory, asker: &Asker) -> Result<(), String> {
    let mut files = Vec::new();
    if let Some(path) = &inventory.ssh_config {
        let usual = path.as_os_str() == USUAL;
        files.extend(read(&expand(path, &asker.home), &asker.home.join(".ssh"), asker, !usual)?);
        if usual {
            files.extend(read(Path::new(SYSTEM), Path::new("/etc/ssh"), asker, false)?);
        }
    }
    // One behind the other: the first value wins, and a block ends with its file.
    let files: Vec<SshConfig> = files;
    let home = asker.home.to_string_lossy().into_owned();
    let ask = |alias: &str, user: Option<&str>, port: Option<u16>, default_user: &str| {
        let variable = |name: &str| std::env::var(name).ok();
        let question = Question {
            alias,
            user,
            port,
            default_user,
            local_user: &asker.user,
            workstation: &asker.workstation,
            home: &home,
            variable: &variable,
        };
        resolve(&files, &question)
    };
    for host in &mut inventory.hosts {
        host.complete(&asker.user, &ask);
    }
    Ok(())
}

/// The user's own configuration, where there is one that can be read.
#[must_use]
pub fn of_user(asker: &Asker) -> Option<SshConfig> {
    read(&expand(Path::new(USUAL), &asker.home), &asker.home.join(".ssh"), asker, false).ok().flatten()
}

fn read(path: &Path, folder: &Path, asker: &Asker, must: bool) -> Result<Option<SshConfig>, String> {
    let text = match read_private(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !must => return Ok(None),
        Err(e) => return Err(format!("the SSH configuration {} can't be read: {e}", path.display())),
    };
    let mut trouble = None;
    let mut include = |pattern: &str| {
        let path = match pattern.strip_prefix("~/") {
            Some(rest) => asker.home.join(rest),
            None => folder.join(pattern),
        };
        // A pattern that fits nothing is none of anybody's business, as with OpenSSH.
        // Editors' leavings begin with a dot.
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        let Ok(found) = glob::glob_with(&path.to_string_lossy(), options) else { return Vec::new() };
        let mut files = Vec::new();
        for path in found.flatten().filter(|path| path.is_file()) {
            match read_private(&path) {
                Ok(text) => files.push((path.display().to_string(), text)),
                Err(e) => trouble = Some(format!("the SSH configuration {} can't be read: {e}", path.display())),
            }
        }
        files
    };
    let config = parse_ssh_config(&path.display().to_string(), &text, &mut include).map_err(|e| e.to_string())?;
    match trouble {
        Some(why) => Err(why),
        None => Ok(Some(config)),
    }
}

/// A configuration that others can write decides where a connection goes: refused, as by OpenSSH.
fn read_private(path: &Path) -> io::Result<String> {
    if platform::others(path)?.write {
        return Err(io::Error::other("others can write it (chmod go-w mends that)"));
    }
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}
