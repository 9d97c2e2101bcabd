//! Names: hosts, backup ids, backups.
//!
//! A backup id is `YYYY-MM-DD-hh_ss` in UTC, as the specification has it. It holds no minutes, so it neither orders backups
//! nor is unique by itself: a second backup on one id gets `-2`. Order and age come from the manifest's full time.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Why a name was not accepted: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadName(pub String);

/// The name of a host in the inventory; also the name of its folder in the library.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if first && rest && name.len() <= 64 {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadName(format!(
                "'{}' is no name for a host: letters, digits, '.', '-' and '_', at most 64, a letter or digit first",
                super::text::printable(name)
            )))
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        name.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A backup's id: `2026-11-22-14_07`, or `2026-11-22-14_07-2` where that one was taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

impl BackupId {
    /// The id of a backup that begins now; `taken` tells which ids this host has already.
    #[must_use]
    pub fn at(time: DateTime<Utc>, taken: impl Fn(&Self) -> bool) -> Self {
        let base = time.format("%Y-%m-%d-%H_%S").to_string();
        let first = Self(base.clone());
        if !taken(&first) {
            return first;
        }
        let mut n = 2_u64;
        loop {
            let next = Self(format!("{base}-{n}"));
            if !taken(&next) {
                return next;
            }
            n += 1;
        }
    }

    /// The same in a library that other workstations share and that none of them sees as it is at this moment: with the minute, and a number that
    /// is another one for everybody. The archive bears its id inside; of two with the same one only the first could ever get there.
    #[must_use]
    pub fn at_a_shared_home(time: DateTime<Utc>, who: &str, taken: impl Fn(&Self) -> bool) -> Self {
        let mut n = who.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        loop {
            let id = Self(format!("{}-{}{:04}", time.format("%Y-%m-%d-%H_%S"), time.format("%M"), n % 10_000));
            if !taken(&id) {
                return id;
            }
            n += 1;
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its year, month, day and hour: of two ids this much tells which is the older one.
    #[must_use]
    pub fn hour(&self) -> &str {
        self.0.split('_').next().unwrap_or_default()
    }
}

impl FromStr for BackupId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let shape = b"dddd-dd-dd-dd_dd";
        let bytes = text.as_bytes();
        let fits = bytes.len() >= shape.len() && shape.iter().zip(bytes).all(|(s, b)| if *s == b'd' { b.is_ascii_digit() } else { s == b });
        let suffix = bytes.get(shape.len()..).unwrap_or_default();
        let numbered = suffix.is_empty()
            || (suffix.len() >= 2 && suffix.len() <= 10 && suffix[0] == b'-' && suffix[1..].iter().all(u8::is_ascii_digit));
        if fits && numbered {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(format!(
                "'{}' is no backup id: they look like 2026-11-22-14_07 (year, month, day, hour, second)",
                super::text::printable(text)
            )))
        }
    }
}

/// Whether an id can begin with this; at least with a year.
fn begins_an_id(text: &str) -> bool {
    let whole = "2026-11-22-14_07";
    text.len() >= 4 && whole.get(text.len()..).is_some_and(|rest| format!("{text}{rest}").parse::<BackupId>().is_ok())
}

impl TryFrom<String> for BackupId {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The form of the same instant inside a stock archive: `2026-11-22_1407` (hour, second).
#[must_use]
pub fn stock_id(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d_%H%S").to_string()
}

/// Which backup of a host is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that is newest by its manifest's time.
    Latest,
    /// The one with this id.
    Id(BackupId),
    /// The only one whose id begins so; for a whole day (`2026-11-22`) its newest one.
    Beginning(String),
}

/// Whether this is a day, so that its newest backup is meant.
#[must_use]
pub fn is_day(beginning: &str) -> bool {
    beginning.len() == "2026-11-22".len()
}

/// A backup as it is named on the command line: `HOST@ID`, the beginning of an id, `HOST@latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRef {
    /// Whose backup.
    pub host: HostName,
    /// Which of them.
    pub which: Which,
}

impl FromStr for BackupRef {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let Some((host, id)) = text.split_once('@') else {
            return Err(BadName(format!(
                "'{}' names no backup: say HOST@ID or HOST@latest ('tanker list' shows them)",
                super::text::printable(text)
            )));
        };
        let which = match id.parse::<BackupId>() {
            _ if id == "latest" => Which::Latest,
            Ok(id) => Which::Id(id),
            Err(_) if begins_an_id(id) => Which::Beginning(id.to_owned()),
            Err(e) => return Err(e),
        };
        Ok(Self { host: host.parse()?, which })
    }
}

impl fmt::Display for BackupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Latest => write!(f, "{}@latest", self.host),
            Which::Id(id) => write!(f, "{}@{id}", self.host),
            Which::Beginning(id) => write!(f, "{}@{id}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn an_id_is_the_specifications_form_and_a_taken_one_gets_a_number() {
        let time = Utc.with_ymd_and_hms(2026, 11, 22, 14, 33, 7).unwrap();
        let shared = |who: &str| BackupId::at_a_shared_home(time, who, |_| false);
        assert_ne!(shared("ops@one 4711"), shared("ops@two 4711"));
        assert_eq!(shared("ops@one 4711").as_str().parse::<BackupId>().unwrap(), shared("ops@one 4711"));
        assert_ne!(BackupId::at_a_shared_home(time, "ops@one", |id| *id == shared("ops@one")), shared("ops@one"));
        let first = BackupId::at(time, |_| false);
        assert_eq!(first.as_str(), "2026-11-22-14_07");
        let second = BackupId::at(time, |id| *id == first);
        assert_eq!(second.as_str(), "2026-11-22-14_07-2");
        let third = BackupId::at(time, |id| *id == first || *id == second);
        assert_eq!(third.as_str(), "2026-11-22-14_07-3");
        assert_eq!(stock_id(time), "2026-11-22_1407");
    }

    #[test]
    fn i8_names_that_could_leave_the_library_are_refused() {
        for bad in ["", "..", ".hidden", "a/b", "-x", "a\nb", &"x".repeat(65)] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
        for bad in ["", "2026", "2026-11-22-14_07/..", "2026-11-22-14_07-", "2026-11-22-14:07", "../../etc/passwd"] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_backup_is_named_by_host_and_id_or_latest() {
        let named: BackupRef = "east@2026-11-22-14_07".parse().unwrap();
        assert_eq!(named.to_string(), "east@2026-11-22-14_07");
        assert_eq!("east@latest".parse::<BackupRef>().unwrap().which, Which::Latest);
        let day: BackupRef = "east@2026-11-22".parse().unwrap();
        assert_eq!((day.which.clone(), day.to_string()), (Which::Beginning("2026-11-22".into()), "east@2026-11-22".into()));
        assert!("east@2026-11-22-1".parse::<BackupRef>().is_ok());
        for bad in ["east@", "east@202", "east@2026_", "east@last", "east@2026-11-22é"] {
            assert!(bad.parse::<BackupRef>().is_err(), "{bad}");
        }
        assert!("east".parse::<BackupRef>().unwrap_err().to_string().contains("HOST@ID"));
    }
}
