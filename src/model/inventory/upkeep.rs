//! What the inventory says of the library: what is kept, how archives are encrypted, where copies go.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::model::id::HostName;
use crate::model::record::parse_tag;
use crate::model::retention::Policy;
use crate::model::secret::{SecretSource, parse_secret_source};
use crate::model::span::parse_span;

/// How a host's archives are looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upkeep {
    /// What `forget` keeps unless the command line says otherwise.
    pub keep: Option<Policy>,
    /// How long forgotten backups can be taken back.
    pub trash: Duration,
    /// How new archives are encrypted; none = not at all.
    pub encryption: Option<EncryptTo>,
    /// Where its backups are drilled.
    pub drill_on: Option<HostName>,
}

/// How archives are encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncryptTo {
    /// To age recipients, or to those in a file: whoever has one of their keys can read them.
    Recipients(Vec<String>),
    /// With a passphrase.
    Passphrase(SecretSource),
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

/// Recipients that are no text of a key but the name of a file with some.
#[must_use]
pub fn recipient_file(text: &str) -> Option<PathBuf> {
    (text.starts_with(['~', '/', '.'])).then(|| text.into())
}
