//! What the inventory says of remotes: places for copies, and for whole libraries.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::upkeep::Wrong;
use crate::model::id::HostName;
use crate::model::secret::{SecretSource, parse_secret_source};
use crate::model::text::printable;

/// A lock that nobody can end is paid for to its end.
const MOST_LOCK_DAYS: u16 = 3650;

/// A place for copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name in the inventory; of a library's home that has no name there, its url.
    pub name: String,
    /// Its url, as it was written.
    pub url: String,
    /// What it is.
    pub kind: RemoteKind,
    /// Bucket, container or server, as the kind has it.
    pub place: String,
    /// The folder in it, without slashes at its ends.
    pub root: String,
    /// Options that are no secrets.
    pub options: BTreeMap<&'static str, String>,
    /// Options that are.
    pub secrets: BTreeMap<&'static str, SecretSource>,
    /// Whether, and how, copies there are locked against whoever would remove them.
    pub object_lock: ObjectLock,
}

/// What S3's object lock does for copies: nobody removes them, or writes over them, before their days are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectLock {
    /// None is asked for.
    No,
    /// What the bucket holds for whatever comes.
    Bucket,
    /// Each copy by its own, for so many days; who has the right to can end it.
    Governance(u16),
    /// The same; nobody ends it.
    Compliance(u16),
}

impl ObjectLock {
    /// Whether a bucket with object lock is meant: it wants a checksum with every object.
    #[must_use]
    pub fn is_asked(self) -> bool {
        self != Self::No
    }
}

/// The protocol of a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteKind {
    /// `s3://bucket/folder`
    S3,
    /// `swift://container/folder`
    Swift,
    /// `sftp://[user@]host[:port]/folder`
    Sftp,
    /// `webdav://host[:port]/folder`, `webdavs://…`
    WebDav,
    /// `file:///folder`
    Folder,
}

impl RemoteKind {
    /// Its scheme, and the keys beside `url` that mean something for it.
    fn keys(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::S3 => ("s3://", &["endpoint", "region", "access_key", "secret_key", "token", "object_lock", "object_lock_days"]),
            Self::Swift => ("swift://", &["endpoint", "token"]),
            Self::Sftp => ("sftp://", &["user", "identity"]),
            Self::WebDav => ("webdav://", &["user", "password"]),
            Self::Folder => ("file://", &[]),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoteTable {
    url: Spanned<String>,
    endpoint: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
    user: Option<Spanned<String>>,
    identity: Option<Spanned<String>>,
    access_key: Option<Spanned<String>>,
    secret_key: Option<Spanned<String>>,
    token: Option<Spanned<String>>,
    password: Option<Spanned<String>>,
    object_lock: Option<Spanned<LockWord>>,
    object_lock_days: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "true, false, \"governance\" or \"compliance\"")]
enum LockWord {
    Bucket(bool),
    Mode(String),
}

impl Remote {
    /// A remote that is known by its url alone.
    ///
    /// # Errors
    /// When it is no remote's.
    pub fn of_url(url: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "'{}' is no remote: s3://bucket/folder, swift://container/folder, sftp://user@host/folder, webdavs://host/folder or file:///folder",
                printable(url)
            )
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let kind = match scheme {
            "s3" => RemoteKind::S3,
            "swift" => RemoteKind::Swift,
            "sftp" => RemoteKind::Sftp,
            "webdav" | "webdavs" => RemoteKind::WebDav,
            "file" => RemoteKind::Folder,
            _ => return Err(bad()),
        };
        let (place, root) = rest.split_once('/').unwrap_or((rest, ""));
        let odd = |text: &str| text.contains(|c: char| c.is_whitespace() || c.is_control()) || text.split('/').any(|part| part == "..");
        if (place.is_empty() != (kind == RemoteKind::Folder)) || odd(rest) || place.starts_with('-') {
            return Err(bad());
        }
        if place.contains(':') && place.contains('@') && place.find(':') < place.find('@') {
            return Err("a password never stands in a remote's url: say 'password' with 'env:', 'file:' or 'command:'".into());
        }
        // Others are taken for the URL's own: in a list of objects, or where a large file is sent.
        if (kind == RemoteKind::Swift || kind == RemoteKind::WebDav)
            && root.contains(|c: char| !c.is_ascii_alphanumeric() && !"/._~-".contains(c))
        {
            return Err(format!("the folder '{}' by {scheme}://: letters, digits and '._~-' only", printable(root)));
        }
        let mut options = BTreeMap::new();
        if kind == RemoteKind::WebDav {
            options.insert("scheme", if scheme == "webdavs" { "https" } else { "http" }.into());
        }
        let (place, root) = (place.to_owned(), root.trim_matches('/').to_owned());
        Ok(Self {
            name: url.to_owned(),
            url: url.to_owned(),
            kind,
            place,
            root,
            options,
            secrets: BTreeMap::new(),
            object_lock: ObjectLock::No,
        })
    }
}

/// Whether a library is named by the url of a remote, not by a folder.
#[must_use]
pub fn is_remote(library: &Path) -> bool {
    library.to_str().is_some_and(|text| text.contains("://"))
}

pub(super) fn remote(name: &Spanned<String>, table: &RemoteTable) -> Result<Remote, Wrong> {
    name.get_ref().parse::<HostName>().map_err(|e| (name.span().start, e.to_string().replace("a host", "a remote")))?;
    let mut remote = Remote::of_url(table.url.get_ref()).map_err(|why| (table.url.span().start, why))?;
    let (scheme, known) = remote.kind.keys();
    let fits = |key: &str, at: usize| match known.contains(&key) {
        true => Ok(()),
        false if known.is_empty() => Err((at, format!("'{key}' says nothing of a remote by {scheme}: it needs only its url"))),
        false => Err((at, format!("'{key}' says nothing of a remote by {scheme}: that knows {}", known.join(", ")))),
    };
    if let Some(lock) = &table.object_lock {
        fits("object_lock", lock.span().start)?;
    }
    if let Some(days) = &table.object_lock_days {
        fits("object_lock_days", days.span().start)?;
    }
    let given = [("endpoint", &table.endpoint), ("region", &table.region), ("user", &table.user), ("identity", &table.identity)];
    for (key, value) in given {
        let Some(value) = value else { continue };
        fits(key, value.span().start)?;
        remote.options.insert(key, value.get_ref().clone());
    }
    let given =
        [("access_key", &table.access_key), ("secret_key", &table.secret_key), ("token", &table.token), ("password", &table.password)];
    for (key, value) in given {
        let Some(text) = value else { continue };
        fits(key, text.span().start)?;
        remote.secrets.insert(key, parse_secret_source(text.get_ref()).map_err(|why| (text.span().start, why))?);
    }
    let missing = |key: &str| Err((table.url.span().start, format!("a remote by {scheme} needs '{key}' too")));
    match (table.access_key.is_some(), table.secret_key.is_some()) {
        (true, false) => return missing("secret_key"),
        (false, true) => return missing("access_key"),
        _ if remote.kind == RemoteKind::Swift && table.endpoint.is_none() => return missing("endpoint"),
        _ => {}
    }
    remote.name.clone_from(name.get_ref());
    remote.object_lock = object_lock(table)?;
    Ok(remote)
}

fn object_lock(table: &RemoteTable) -> Result<ObjectLock, Wrong> {
    let days = table.object_lock_days.as_ref().map(|days| (*days.get_ref(), days.span().start));
    let (mode, at) = match table.object_lock.as_ref().map(|word| (word.get_ref(), word.span().start)) {
        Some((LockWord::Mode(mode), at)) => (mode.as_str(), at),
        other => {
            if let Some((_, at)) = days {
                let why = "'object_lock_days' needs object_lock = \"governance\" or \"compliance\": a bucket's own lock has its own days";
                return Err((at, why.into()));
            }
            let asked = matches!(other, Some((LockWord::Bucket(true), _)));
            return Ok(if asked { ObjectLock::Bucket } else { ObjectLock::No });
        }
    };
    let lock = match mode {
        "governance" => ObjectLock::Governance,
        "compliance" => ObjectLock::Compliance,
        _ => {
            let why = "'object_lock' is true (what the bucket holds for whatever comes), false, \"governance\" or \"compliance\"";
            return Err((at, format!("{why}, not '{}'", printable(mode))));
        }
    };
    let Some((days, at)) = days else {
        return Err((at, format!("object_lock = \"{mode}\" needs 'object_lock_days' too: for how many days a copy is held")));
    };
    match u16::try_from(days) {
        Ok(count) if (1..=MOST_LOCK_DAYS).contains(&count) => Ok(lock(count)),
        _ => Err((at, format!("'object_lock_days' is 1 to {MOST_LOCK_DAYS}, not {days}"))),
    }
}
