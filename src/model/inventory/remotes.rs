//! What the inventory says of remotes: places for copies, and for whole libraries.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::upkeep::Wrong;
use crate::model::id::HostName;
use crate::model::secret::{SecretSource, parse_secret_source};
use crate::model::text::printable;

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
    /// Whether its bucket has object lock, which wants a checksum with every object.
    pub object_lock: bool,
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
            Self::S3 => ("s3://", &["endpoint", "region", "access_key", "secret_key", "token", "object_lock"]),
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
    object_lock: Option<Spanned<bool>>,
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
        // Others are taken for the URL's own in a list of objects.
        if kind == RemoteKind::Swift && root.contains(|c: char| !c.is_ascii_alphanumeric() && !"/._~-".contains(c)) {
            return Err(format!("the folder '{}' in Swift: letters, digits and '._~-' only", printable(root)));
        }
        let mut options = BTreeMap::new();
        if kind == RemoteKind::WebDav {
            options.insert("scheme", if scheme == "webdavs" { "https" } else { "http" }.into());
        }
        let (place, root) = (place.to_owned(), root.trim_matches('/').to_owned());
        Ok(Self { name: url.to_owned(), url: url.to_owned(), kind, place, root, options, secrets: BTreeMap::new(), object_lock: false })
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
    remote.object_lock = table.object_lock.as_ref().is_some_and(|lock| *lock.get_ref());
    Ok(remote)
}
