//! Making a host's key known (I7): only when the operator has said so.

use std::fs;
use std::io::Write;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::PublicKey;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns};

use super::known_hosts::{KnownKeys, Verdict, matches, name_of};
use crate::model::inventory::Target;
use crate::platform;

/// What learning a key did.
#[derive(Debug, PartialEq, Eq)]
pub enum Learned {
    /// It was added.
    Added,
    /// It was there already.
    AlreadyKnown,
    /// It took the place of these.
    Replaced(Vec<String>),
    /// Other keys are known, and replacing them was not asked for.
    Refused(Vec<String>),
}

/// What becomes of other keys that are known for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Nothing is learnt where there are any.
    Refuse,
    /// They stay.
    Keep,
    /// They go.
    Replace,
}

/// Adds a host's key to the file. The file is rewritten beside itself and renamed. `salt` is for a name that is to be hashed.
///
/// # Errors
/// When the file can't be written.
pub fn learn(path: &Path, target: &Target, key: &PublicKey, others: Others, salt: [u8; 20]) -> Result<Learned, String> {
    let fault = |e: std::io::Error| format!("the known_hosts file {} can't be written: {e}", path.display());
    // It is renamed into place: a link stays one, and /dev/null, which configurations name so that nothing is learnt, stays what it is.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let path = real.as_path();
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(format!("nothing can be learnt into {}: name a file with 'known_hosts' in the inventory", path.display()));
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    let lock_path = path.with_extension("tanker-lock");
    let lock = fs::File::create(&lock_path).map_err(fault)?;
    lock.lock().map_err(fault)?;
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(fault(e)),
    };
    let name = name_of(target);
    let result = match KnownKeys::parse(&text).judge(target, key) {
        Verdict::Known => Learned::AlreadyKnown,
        Verdict::Revoked | Verdict::BadCertificate(_) => return Err(format!("this key is revoked in {}", path.display())),
        Verdict::Changed(known) | Verdict::OtherType(known) => match others {
            Others::Refuse => Learned::Refused(known),
            Others::Keep => Learned::Added,
            Others::Replace => Learned::Replaced(known),
        },
        Verdict::Unknown => Learned::Added,
    };
    if matches!(result, Learned::Added | Learned::Replaced(_)) {
        let mut kept: String = text
            .lines()
            .filter_map(|line| if others == Others::Replace { without(line, &name) } else { Some(line.to_owned()) })
            .map(|line| line + "\n")
            .collect();
        let shown = key.to_openssh().map_err(|e| e.to_string())?;
        let words: Vec<&str> = shown.split_whitespace().take(2).collect();
        // Where the file hides names, or the operator wants that, this one is hidden too.
        let hide = target.hash_names || text.lines().any(|line| line.starts_with("|1|"));
        kept.push_str(&format!("{} {}\n", if hide { hashed(&name, salt)? } else { name }, words.join(" ")));
        let new = path.with_extension("tanker-new");
        let mut file = platform::private().write(true).create(true).truncate(true).open(&new).map_err(fault)?;
        // A file that others may read stays one.
        if let Ok(meta) = fs::metadata(path) {
            file.set_permissions(meta.permissions()).map_err(fault)?;
        }
        file.write_all(kept.as_bytes()).and_then(|()| file.sync_all()).map_err(fault)?;
        fs::rename(&new, path).map_err(fault)?;
    }
    // The lock file stays: whoever waits for it must not find another one.
    drop(lock);
    Ok(result)
}

/// Salt for a hashed name.
///
/// # Errors
/// When the system gives no random numbers.
pub fn fresh_salt() -> Result<[u8; 20], String> {
    let mut salt = [0; 20];
    getrandom::fill(&mut salt).map_err(|e| format!("the system gives no random numbers: {e}"))?;
    Ok(salt)
}

fn hashed(name: &str, salt: [u8; 20]) -> Result<String, String> {
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&salt).map_err(|e| e.to_string())?;
    mac.update(name.as_bytes());
    let hash: [u8; 20] = mac.finalize().into_bytes().into();
    Ok(HostPatterns::HashedName { salt: salt.to_vec(), hash }.to_string())
}

/// A line without this host's name; none where nothing is left of it. Patterns that cover others too are left for the operator.
fn without(line: &str, name: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Ok(entry) = words.join(" ").parse::<Entry>() else { return Some(line.to_owned()) };
    if entry.marker().is_some() || !matches(entry.host_patterns(), name) {
        return Some(line.to_owned());
    }
    match entry.host_patterns() {
        HostPatterns::HashedName { .. } => None,
        HostPatterns::Patterns(list) => {
            let left: Vec<&str> = list.iter().map(String::as_str).filter(|pattern| !pattern.eq_ignore_ascii_case(name)).collect();
            (!left.is_empty()).then(|| [&[left.join(",").as_str()], &words[1..]].concat().join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    const SALT: [u8; 20] = [7; 20];

    fn at(address: &str, port: u16) -> Target {
        let text = format!("[hosts.x]\naddress='{address}'\nport={port}\n");
        crate::model::inventory::parse_inventory("i", &text).unwrap().hosts.remove(0).target
    }
    fn key(text: &str) -> PublicKey {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_no_file_stays_what_it_is() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        assert!(learn(Path::new("/dev/null"), &at("x", 22), &key(A), Others::Refuse, SALT).unwrap_err().contains("nothing can be learnt"));
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(learn(&link, &at("x", 22), &key(A), Others::Refuse, SALT), Ok(Learned::Added));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::read_to_string(&file).unwrap().contains(A));
    }

    #[test]
    fn names_are_hidden_where_the_file_hides_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        let mut hiding = at("first", 22);
        hiding.hash_names = true;
        assert_eq!(learn(&path, &hiding, &key(A), Others::Refuse, SALT), Ok(Learned::Added));
        assert_eq!(learn(&path, &at("second", 2222), &key(B), Others::Refuse, [8; 20]), Ok(Learned::Added));
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("first") && !text.contains("second"), "{text}");
        let known = KnownKeys::parse(&text);
        assert_eq!(known.judge(&at("first", 22), &key(A)), Verdict::Known);
        assert_eq!(known.judge(&at("second", 2222), &key(B)), Verdict::Known);
    }

    #[test]
    fn i7_a_rebuilt_hosts_key_replaces_only_its_own_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        fs::write(&path, format!("master {A}\nother {A}\n@revoked master {B}\n# kept\n")).unwrap();
        assert!(learn(&path, &at("master", 22), &key(B), Others::Replace, SALT).is_err(), "a revoked key is not learnt");
        fs::write(&path, format!("master {A}\nother,MASTER {A}\n# kept\n")).unwrap();
        assert!(matches!(learn(&path, &at("master", 22), &key(B), Others::Refuse, SALT), Ok(Learned::Refused(_))));
        assert!(matches!(learn(&path, &at("master", 22), &key(B), Others::Replace, SALT), Ok(Learned::Replaced(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("other {A}\n# kept\nmaster {B}\n"));
        assert_eq!(learn(&path, &at("master", 22), &key(B), Others::Refuse, SALT), Ok(Learned::AlreadyKnown));
    }
}
