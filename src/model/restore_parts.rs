//! What of a backup a restore brings back: everything, or the parts that were asked for.

use super::manifest::{CapturedContainer, CapturedVolume, Contents, Description};
use super::release::{KEYS, PLUGINS, REPOSITORIES, STATE};

/// A part of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Configuration, keys, puppet manifests, volumes below /etc.
    Config,
    /// Containers, from their images, with their volumes.
    Images,
    /// PostgreSQL.
    Database,
    /// Package repositories.
    Repositories,
}

/// What will be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Containers that are made anew from the backup's images.
    pub containers: Vec<CapturedContainer>,
    /// Directories of the host, absolute; each is one of the backup's or lies below one.
    pub directories: Vec<String>,
    /// Volumes.
    pub volumes: Vec<CapturedVolume>,
}

/// Chooses from a backup; no parts means all of it.
///
/// # Errors
/// One sentence for each part that the backup doesn't hold.
pub fn choose(backup: &Description, parts: &[Part]) -> Result<Selection, Vec<String>> {
    if parts.is_empty() {
        return Ok(Selection {
            containers: backup.containers.clone(),
            directories: backup.directories.clone(),
            volumes: backup.volumes.clone(),
        });
    }
    let mut chosen = Selection::default();
    let mut missing = Vec::new();
    for part in parts {
        let (some, what) = match part {
            Part::Config => (config(backup), "configuration"),
            Part::Images => (images(backup), "images"),
            Part::Database => (database(backup), "directory or image of PostgreSQL"),
            Part::Repositories => (repositories(backup), "package repositories"),
        };
        if some == Selection::default() {
            let light = if backup.contents == Contents::Light { ": it is a light one" } else { "" };
            missing.push(format!("the backup holds no {what}{light}"));
        }
        chosen.take(some);
    }
    if missing.is_empty() { Ok(chosen) } else { Err(missing) }
}

impl Selection {
    fn take(&mut self, other: Self) {
        fn add<T: PartialEq>(to: &mut Vec<T>, from: Vec<T>) {
            for item in from {
                if !to.contains(&item) {
                    to.push(item);
                }
            }
        }
        add(&mut self.containers, other.containers);
        add(&mut self.directories, other.directories);
        add(&mut self.volumes, other.volumes);
    }
}

fn config(backup: &Description) -> Selection {
    let of_config = |directory: &&String| ![REPOSITORIES, PLUGINS, STATE].contains(&directory.as_str());
    let mut directories: Vec<String> = backup.directories.iter().filter(of_config).cloned().collect();
    if backup.directories.iter().any(|d| d == STATE) {
        directories.push(KEYS.to_owned());
    }
    let volumes = backup.volumes.iter().filter(|volume| volume.path.starts_with("/etc/")).cloned().collect();
    Selection { containers: Vec::new(), directories, volumes }
}

fn images(backup: &Description) -> Selection {
    let containers = backup.containers.clone();
    // A container that is made anew has new, empty volumes.
    let volumes = backup.volumes.iter().filter(|v| containers.iter().any(|c| c.service == v.service)).cloned().collect();
    Selection { containers, directories: Vec::new(), volumes }
}

fn database(backup: &Description) -> Selection {
    match backup.release.database_directory() {
        Some(directory) if backup.directories.iter().any(|d| d == STATE) => {
            Selection { directories: vec![directory], ..Selection::default() }
        }
        Some(_) => Selection::default(),
        None => {
            let containers = backup.containers.iter().filter(|c| c.service == "postgres").cloned().collect();
            Selection { containers, ..Selection::default() }
        }
    }
}

fn repositories(backup: &Description) -> Selection {
    let directories = backup.directories.iter().filter(|d| *d == REPOSITORIES).cloned().collect();
    Selection { directories, ..Selection::default() }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::model::manifest::Origin;

    fn backup(release: &str) -> Description {
        let container = |service: &str| CapturedContainer {
            service: service.into(),
            name: format!("fuel-core-{release}-{service}"),
            image: format!("fuel/{service}_{release}"),
            running: true,
        };
        let volume = |path: &str| CapturedVolume { member: format!("tanker.volume.{path}"), service: "nailgun".into(), path: path.into() };
        Description {
            host: "east".parse().unwrap(),
            id: "2026-11-22-14_07".parse().unwrap(),
            stock_id: "2026-11-22_1407".into(),
            started: DateTime::<Utc>::UNIX_EPOCH,
            tanker: "0.1.0".into(),
            release: release.parse().unwrap(),
            hostname: "east".into(),
            uuid: String::new(),
            docker_version: "1.4.1".into(),
            containers: vec![container("postgres"), container("nailgun")],
            directories: ["/etc/puppet", "/etc/fuel", REPOSITORIES, STATE].map(String::from).to_vec(),
            volumes: vec![volume("/etc/nailgun"), volume("/usr/share/nailgun/static")],
            network: vec![],
            contents: Contents::Full,
            origin: Origin::Tanker,
        }
    }

    #[test]
    fn the_database_is_in_its_container_to_6_0_and_on_the_host_from_6_1() {
        let old = choose(&backup("6.0"), &[Part::Database]).unwrap();
        assert_eq!((old.containers.len(), old.directories.len()), (1, 0));
        let new = choose(&backup("6.1"), &[Part::Database]).unwrap();
        assert_eq!(new.directories, ["/var/lib/fuel/container_data/6.1/postgres"]);
        assert!(new.containers.is_empty());
    }

    #[test]
    fn config_leaves_packages_and_the_database_alone_and_parts_add_up() {
        let chosen = choose(&backup("8.0"), &[Part::Config]).unwrap();
        assert_eq!(chosen.directories, ["/etc/puppet", "/etc/fuel", "/var/lib/fuel/keys"]);
        assert_eq!(chosen.volumes.len(), 1);
        let both = choose(&backup("8.0"), &[Part::Config, Part::Images]).unwrap();
        assert_eq!((both.volumes.len(), both.containers.len()), (2, 2));
    }

    #[test]
    fn a_part_that_a_light_backup_has_not_is_named() {
        let mut light = backup("8.0");
        light.contents = Contents::Light;
        light.containers.clear();
        light.directories.retain(|d| d != REPOSITORIES);
        let why = choose(&light, &[Part::Images, Part::Repositories]).unwrap_err();
        assert_eq!(why, ["the backup holds no images: it is a light one", "the backup holds no package repositories: it is a light one"]);
    }
}
