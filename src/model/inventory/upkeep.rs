//! What the inventory says of the library: what is kept, how archives are encrypted, where copies go.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::model::id::HostName;
use crate::model::record::parse_tag;
use crate::model::retention::{Policy, parse_span};
use crate::model::secret::{SecretSource, parse_secret_source};
use crate::model::text::printable;

/// How a host's archives are looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upkeep {
    /// What `forget` keeps unless the command line says otherwise.
    pub keep: Option<Policy>,
    /// How long forgotten backups can be taken back.
    pub trash: Duration,
    /// How new archives are encrypted; none = not at all.
    pub encryption: Option<EncryptTo>,
}

/// How archives are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncryptTo {
    /// To age recipients, or to those in a file: whoever has one of their keys can read them.
    Recipients(Vec<String>),
    /// With a passphrase.
    Passphrase(SecretSource),
}

/// A place for copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name in the inventory.
    pub name: String,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeepTable {
    #[serde(default)]
    last: u32,
    #[serde(default)]
    hourly: u32,
    #[serde(default)]
    daily: u32,
    #[serde(default)]
    weekly: u32,
    #[serde(default)]
    monthly: u32,
    #[serde(default)]
    yearly: u32,
    within: Option<Spanned<String>>,
    #[serde(default)]
    tags: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoteTable {
    url: Spanned<String>,
    endpoint: Option<String>,
    region: Option<String>,
    user: Option<String>,
    identity: Option<String>,
    access_key: Option<Spanned<String>>,
    secret_key: Option<Spanned<String>>,
    token: Option<Spanned<String>>,
    password: Option<Spanned<String>>,
    object_lock: Option<Spanned<bool>>,
}

/// Where a value stands, and what is wrong with it.
pub(super) type Wrong = (usize, String);

pub(super) fn policy(table: &KeepTable) -> Result<Policy, Wrong> {
    let within = table.within.as_ref().map(|text| parse_span(text.get_ref()).map_err(|why| (text.span().start, why))).transpose()?;
    let tags = table.tags.iter().map(|tag| parse_tag(tag.get_ref()).map_err(|why| (tag.span().start, why)));
    Ok(Policy {
        last: table.last,
        hourly: table.hourly,
        daily: table.daily,
        weekly: table.weekly,
        monthly: table.monthly,
        yearly: table.yearly,
        within,
        tags: tags.collect::<Result<_, _>>()?,
    })
}

pub(super) fn encryption(to: Option<&Vec<Spanned<String>>>, passphrase: Option<&Spanned<String>>) -> Result<Option<EncryptTo>, Wrong> {
    match (to, passphrase) {
        (Some(to), Some(passphrase)) if !to.is_empty() => {
            Err((passphrase.span().start, "an archive is encrypted to recipients or with a passphrase, not both".into()))
        }
        (_, Some(passphrase)) => {
            let source = parse_secret_source(passphrase.get_ref()).map_err(|why| (passphrase.span().start, why))?;
            Ok(Some(EncryptTo::Passphrase(source)))
        }
        (Some(to), None) if !to.is_empty() => {
            if let Some(secret) = to.iter().find(|text| text.get_ref().contains("AGE-SECRET-KEY-")) {
                return Err((secret.span().start, "that is a secret key: here its public half belongs (age1…)".into()));
            }
            Ok(Some(EncryptTo::Recipients(to.iter().map(|text| text.get_ref().clone()).collect())))
        }
        _ => Ok(None),
    }
}

pub(super) fn remote(name: &Spanned<String>, table: &RemoteTable) -> Result<Remote, Wrong> {
    name.get_ref().parse::<HostName>().map_err(|e| (name.span().start, e.to_string().replace("a host", "a remote")))?;
    let at = table.url.span().start;
    let url = table.url.get_ref().as_str();
    let bad = || {
        (
            at,
            format!(
                "'{}' is no remote: s3://bucket/folder, swift://container/folder, sftp://user@host/folder, webdavs://host/folder or file:///folder",
                printable(url)
            ),
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
        return Err((at, "a password never stands in a remote's url: say 'password' with 'env:', 'file:' or 'command:'".into()));
    }
    if let Some(lock) = table.object_lock.as_ref().filter(|_| kind != RemoteKind::S3) {
        return Err((lock.span().start, "object_lock is for s3://".into()));
    }
    let mut options = BTreeMap::new();
    let given = [("endpoint", &table.endpoint), ("region", &table.region), ("user", &table.user), ("identity", &table.identity)];
    for (key, value) in given {
        options.extend(value.clone().map(|value| (key, value)));
    }
    if kind == RemoteKind::WebDav {
        options.insert("scheme", if scheme == "webdavs" { "https" } else { "http" }.into());
    }
    let mut secrets = BTreeMap::new();
    let given =
        [("access_key", &table.access_key), ("secret_key", &table.secret_key), ("token", &table.token), ("password", &table.password)];
    for (key, value) in given {
        if let Some(text) = value {
            secrets.insert(key, parse_secret_source(text.get_ref()).map_err(|why| (text.span().start, why))?);
        }
    }
    let name = name.get_ref().clone();
    let object_lock = table.object_lock.as_ref().is_some_and(|lock| *lock.get_ref());
    Ok(Remote { name, kind, place: place.to_owned(), root: root.trim_matches('/').to_owned(), options, secrets, object_lock })
}

/// Recipients that are no text of a key but the name of a file with some.
#[must_use]
pub fn recipient_file(text: &str) -> Option<PathBuf> {
    (text.starts_with(['~', '/', '.'])).then(|| text.into())
}
