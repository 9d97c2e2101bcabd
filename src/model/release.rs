//! Fuel releases: what differs between 5.1 and 8.0 (see docs/architecture.md for the sources).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The services of a master in start order; they are stopped and frozen in reverse.
pub const START_ORDER: [&str; 11] =
    ["postgres", "rabbitmq", "keystone", "rsync", "astute", "rsyslog", "nailgun", "ostf", "nginx", "cobbler", "mcollective"];

/// Host directories that hold a master's state. The stock backup takes a part of them that differs by release; what isn't
/// there is left out.
pub const DIRECTORIES: [&str; 8] = [
    "/etc/puppet",
    "/etc/fuel",
    "/var/www/nailgun",
    "/var/lib/fuel",
    "/root/.ssh",
    "/root/.config/fuel",
    "/etc/dockerctl",
    "/etc/fuel-bootstrap-cli",
];

/// Where later releases keep keys and, below `container_data`, the state of containers.
pub const STATE: &str = "/var/lib/fuel";

/// The keys in it.
pub const KEYS: &str = "/var/lib/fuel/keys";

/// The package repositories: large, and what a light backup leaves out.
pub const REPOSITORIES: &str = "/var/www/nailgun";

/// What a light backup takes of the repositories all the same.
pub const PLUGINS: &str = "/var/www/nailgun/plugins";

/// A Fuel release with containers: 5.1, 5.1.1, 6.0, 6.1, 7.0 or 8.0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Release(String);

/// Why a release is not one that tanker knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownRelease {
    /// Fuel 9 and later run without containers.
    #[error("Fuel {0} has no containers: tanker is for 5.1 to 8.0")]
    WithoutContainers(String),
    /// Anything else.
    #[error("'{0}' is no Fuel release that tanker knows: 5.1, 5.1.1, 6.0, 6.1, 7.0 or 8.0")]
    Unknown(String),
}

/// Who restarts containers on a master behind one's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisor {
    /// supervisord on the host, programs `docker-<name>`: to 7.0.
    Supervisor,
    /// systemd units `docker-<name>.service`: 8.0.
    Systemd,
}

impl Supervisor {
    /// What the scripts call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Systemd => "systemd",
        }
    }

    /// The program that talks to it.
    #[must_use]
    pub fn tool(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisorctl",
            Self::Systemd => "systemctl",
        }
    }
}

impl Release {
    /// The release as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a service's container.
    #[must_use]
    pub fn container(&self, service: &str) -> String {
        format!("fuel-core-{}-{service}", self.0)
    }

    /// The service that a container of this release runs; none for another release's or a stranger's.
    #[must_use]
    pub fn service<'a>(&self, container: &'a str) -> Option<&'a str> {
        let service = container.strip_prefix("fuel-core-")?.strip_prefix(self.as_str())?.strip_prefix('-')?;
        START_ORDER.contains(&service).then_some(service)
    }

    /// From 6.1 on the stock archive holds all images in one `docker-images.tar` and the dump as `postgres_backup.sql`.
    #[must_use]
    pub fn images_together(&self) -> bool {
        !matches!(self.as_str(), "5.1" | "5.1.1" | "6.0")
    }

    /// Whether a service keeps its state inside its container's own layer; later releases keep it on the host.
    #[must_use]
    pub fn holds_state_inside(&self, service: &str) -> bool {
        !self.images_together() && ["postgres", "cobbler", "astute"].contains(&service)
    }

    /// Where PostgreSQL's directory is on the host, for the releases that keep it there.
    #[must_use]
    pub fn database_directory(&self) -> Option<String> {
        self.images_together().then(|| format!("/var/lib/fuel/container_data/{}/postgres", self.0))
    }

    /// The archive member of the database dump: the stock name where stock has one.
    #[must_use]
    pub fn dump_member(&self) -> &'static str {
        if self.images_together() { "postgres_backup.sql" } else { "tanker.postgres.sql" }
    }

    /// Who restarts this release's containers.
    #[must_use]
    pub fn supervisor(&self) -> Supervisor {
        if self.as_str() == "8.0" { Supervisor::Systemd } else { Supervisor::Supervisor }
    }
}

impl FromStr for Release {
    type Err = UnknownRelease;

    fn from_str(text: &str) -> Result<Self, UnknownRelease> {
        match text {
            "5.1" | "5.1.1" | "6.0" | "6.1" | "7.0" | "8.0" => Ok(Self(text.to_owned())),
            _ => {
                let shown = super::text::printable(text);
                let major = text.split('.').next().and_then(|m| m.parse::<u32>().ok());
                if major.is_some_and(|m| m >= 9) {
                    Err(UnknownRelease::WithoutContainers(shown))
                } else {
                    Err(UnknownRelease::Unknown(shown))
                }
            }
        }
    }
}

impl TryFrom<String> for Release {
    type Error = UnknownRelease;

    fn try_from(text: String) -> Result<Self, UnknownRelease> {
        text.parse()
    }
}

impl From<Release> for String {
    fn from(release: Release) -> Self {
        release.0
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_of_this_very_release_are_its_own() {
        let release: Release = "5.1".parse().unwrap();
        assert_eq!(release.service("fuel-core-5.1-nailgun"), Some("nailgun"));
        for other in ["fuel-core-5.1.1-nailgun", "fuel-core-6.0-nailgun", "fuel-storage-5.1-repo", "registry", "fuel-core-5.1-x"] {
            assert_eq!(release.service(other), None, "{other}");
        }
    }

    #[test]
    fn fuel_9_is_refused_because_it_has_no_containers() {
        assert!("9.0".parse::<Release>().unwrap_err().to_string().contains("no containers"));
        assert!("4.1".parse::<Release>().unwrap_err().to_string().contains("5.1"));
    }
}
