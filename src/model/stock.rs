//! What a stock archive (`dockerctl backup`) tells of the master it is of, and the description that tanker makes of it.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;

use super::astute::network_settings;
use super::id::{BackupId, HostName};
use super::manifest::{CapturedContainer, Contents, Description, Origin};
use super::release::{DIRECTORIES, KEYS, PLUGINS, REPOSITORIES, Release, START_ORDER, STATE};
use super::text::printable;

/// What was found inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StockFacts {
    /// Images, as `fuel/nailgun_5.1_2026-11-22_1407`.
    pub images: BTreeSet<String>,
    /// Host directories, absolute.
    pub directories: Vec<String>,
    /// `/etc/fuel/astute.yaml`.
    pub astute: String,
    /// `/etc/fuel/fuel-uuid`.
    pub uuid: String,
    /// What each `/etc/fuel/<rel>/version.yaml` calls its release: an upgraded master has one of each that it ever was.
    pub releases: BTreeSet<Release>,
    /// Where `/etc/fuel/version.yaml` leads: to that of the release it is now.
    pub version_link: String,
    /// The newest member's time, seconds since 1970: the moment it was packed.
    pub newest: u64,
}

impl StockFacts {
    /// Which of a master's directories these paths belong to.
    pub fn take_paths(&mut self, paths: &BTreeSet<String>) {
        let below = |directory: &str| {
            let start = directory.trim_start_matches('/');
            paths.iter().any(|path| path == start || path.strip_prefix(start).is_some_and(|rest| rest.starts_with('/')))
        };
        // A light archive has of the repositories only the plugins.
        let more_than_plugins = paths.iter().any(|path| {
            let path = format!("/{path}");
            path.starts_with(&format!("{REPOSITORIES}/")) && !path.starts_with(PLUGINS)
        });
        // Of a directory that is only there in part, only that part may be replaced.
        let state = format!("{STATE}/container_data");
        for directory in DIRECTORIES {
            if directory == REPOSITORIES && !more_than_plugins {
                self.directories.extend(below(PLUGINS).then(|| PLUGINS.to_owned()));
            } else if directory == STATE && !below(&state) {
                self.directories.extend(below(KEYS).then(|| KEYS.to_owned()));
            } else if below(directory) {
                self.directories.push(directory.to_owned());
            }
        }
    }

    /// What a `version.yaml` says.
    pub fn take_version(&mut self, yaml: &str) {
        let value = yaml.lines().find_map(|line| line.trim().strip_prefix("release:"));
        self.releases.extend(value.and_then(|value| value.trim().trim_matches(['"', '\'']).parse().ok()));
    }

    /// The release, by its images, by version.yaml, or as the operator says where neither tells. The stock tool takes along whatever containers
    /// the master still has, those of releases that it was before too.
    ///
    /// # Errors
    /// One sentence, when nothing tells, or the operator says another one than the archive.
    pub fn release(&self, told: Option<&Release>) -> Result<Release, String> {
        let by_image: BTreeSet<Release> =
            self.images.iter().filter_map(|image| split_image(image).map(|(_, release, _)| release)).collect();
        let known = if by_image.is_empty() { &self.releases } else { &by_image };
        let list = || known.iter().map(Release::to_string).collect::<Vec<_>>().join(" and ");
        if let Some(told) = told {
            // A version.yaml is no more than a hint.
            let fits = by_image.is_empty() || by_image.contains(told);
            return if fits { Ok(told.clone()) } else { Err(format!("the archive is of Fuel {}, not {told}", list())) };
        }
        let linked = || {
            let name = self.version_link.strip_suffix("/version.yaml")?;
            name.rsplit('/').next()?.parse::<Release>().ok().filter(|release| known.is_empty() || known.contains(release))
        };
        let only = || known.first().filter(|_| known.len() == 1).cloned();
        only().or_else(linked).ok_or_else(|| match known.len() {
            0 => "the archive doesn't tell its Fuel release: name it with --fuel".into(),
            _ => format!("the archive is of a master that was Fuel {}: say with --fuel which of them it is", list()),
        })
    }

    /// The id that its images carry.
    #[must_use]
    pub fn stock_id(&self) -> Option<String> {
        self.images.iter().find_map(|image| split_image(image).map(|(_, _, id)| id))
    }

    /// Describes the archive as a backup of this host.
    #[must_use]
    pub fn describe(&self, host: HostName, release: Release, stock_id: String, taken: impl Fn(&BackupId) -> bool) -> Description {
        let started = began(&stock_id, self.newest, release.images_together());
        let captured = |service: &&str| {
            let image = self.images.iter().find_map(|i| split_image(i).filter(|(s, of, _)| s == service && *of == release))?;
            let (service, release, _) = image;
            let name = release.container(&service);
            Some(CapturedContainer { name, image: format!("fuel/{service}_{release}"), service, running: true })
        };
        let containers: Vec<CapturedContainer> = START_ORDER.iter().filter_map(captured).collect();
        let hostname = self.astute.lines().find_map(|line| line.trim_start().trim_start_matches('"').strip_prefix("HOSTNAME"));
        Description {
            id: BackupId::at(started, taken),
            host,
            stock_id,
            started,
            tanker: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: printable(hostname.unwrap_or_default().trim_matches(['"', ':', ' ', '\''])),
            uuid: printable(self.uuid.trim()),
            docker_version: String::new(),
            contents: if containers.is_empty() { Contents::Light } else { Contents::Full },
            containers,
            directories: self.directories.clone(),
            volumes: Vec::new(),
            network: network_settings(&self.astute),
            release,
            origin: Origin::Stock,
        }
    }
}

/// `fuel/nailgun_5.1_2026-11-22_1407` as service, release, id.
fn split_image(image: &str) -> Option<(String, Release, String)> {
    let rest = image.strip_prefix("fuel/")?;
    let (service, rest) = rest.split_once('_')?;
    let (release, id) = rest.split_once('_')?;
    (START_ORDER.contains(&service) && is_stock_id(id)).then_some(())?;
    Some((service.to_owned(), release.parse().ok()?, id.to_owned()))
}

/// The image that a member of an archive to 6.0 holds: `fuel__nailgun_5.1_2026-11-22_1407.tar`.
#[must_use]
pub fn image_of_member(member: &str) -> Option<String> {
    let image = member.strip_suffix(".tar")?.replacen("__", "/", 1);
    split_image(&image).map(|_| image)
}

/// The images that `repositories` or `manifest.json` of a `docker save` name.
#[must_use]
pub fn images_of_listing(json: &[u8]) -> Vec<String> {
    let names: Vec<String> = match serde_json::from_slice(json) {
        Ok(Value::Object(repositories)) => repositories.into_iter().map(|(name, _)| name).collect(),
        Ok(Value::Array(images)) => {
            let tags = images.iter().filter_map(|image| image["RepoTags"].as_array()).flatten();
            tags.filter_map(|tag| Some(tag.as_str()?.rsplit_once(':')?.0.to_owned())).collect()
        }
        _ => Vec::new(),
    };
    names.into_iter().filter(|name| split_image(name).is_some()).collect()
}

/// `2026-11-22_1407`.
#[must_use]
pub fn is_stock_id(text: &str) -> bool {
    let shape = b"dddd-dd-dd_dddd";
    text.len() == shape.len() && shape.iter().zip(text.bytes()).all(|(s, b)| if *s == b'd' { b.is_ascii_digit() } else { *s == b })
}

/// The id in a stock file's name.
#[must_use]
pub fn stock_id_of_file(name: &str) -> Option<String> {
    let id = name.strip_prefix("fuel_backup_")?.strip_suffix(".tar.lrz")?;
    is_stock_id(id).then(|| id.to_owned())
}

/// The id in the name of the folder that the stock tool puts a file into: a light one of 6.1 and 7.0 has none of its own.
#[must_use]
pub fn stock_id_of_folder(file: &Path) -> Option<String> {
    let id = file.parent()?.file_name()?.to_str()?.strip_prefix("backup_")?;
    is_stock_id(id).then(|| id.to_owned())
}

/// When it began, as near as the archive tells: the id says hour and minute (from 6.1), or hour and second; of the latter the
/// minute is that of the moment it was packed, where that lies in the hour.
fn began(stock_id: &str, packed: u64, with_minutes: bool) -> DateTime<Utc> {
    let packed = i64::try_from(packed).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)).unwrap_or_default();
    let two = |from: usize| stock_id.get(from..from + 2).and_then(|digits| digits.parse::<u32>().ok());
    let time = || {
        let date = NaiveDate::parse_from_str(stock_id.get(..10)?, "%Y-%m-%d").ok()?;
        let (hour, last) = (two(11)?, two(13)?);
        let minute = packed.format("%M").to_string().parse().ok()?;
        if with_minutes { date.and_hms_opt(hour, last, 0) } else { date.and_hms_opt(hour, minute, last) }
    };
    time().map_or(packed, |time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(images: &[&str], paths: &[&str]) -> StockFacts {
        let mut facts = StockFacts { newest: 1_795_446_398, ..StockFacts::default() };
        facts.images = images.iter().map(|i| (*i).to_owned()).collect();
        facts.take_paths(&paths.iter().map(|p| (*p).to_owned()).collect());
        facts
    }

    #[test]
    fn members_and_listings_name_fuels_own_images_and_nothing_else() {
        assert_eq!(image_of_member("fuel__nailgun_5.1_2026-11-22_1407.tar").unwrap(), "fuel/nailgun_5.1_2026-11-22_1407");
        for other in ["system-dirs.tar", "fuel__nailgun_5.1.tar", "fuel__nailgun_9.0_2026-11-22_1407.tar", "busybox_2026-11-22_1407.tar"] {
            assert_eq!(image_of_member(other), None, "{other}");
        }
        let old = br#"{"fuel/nailgun_8.0_2026-11-22_1407":{"latest":"abc"},"busybox":{"latest":"d"}}"#;
        let new = br#"[{"RepoTags":["fuel/nailgun_8.0_2026-11-22_1407:latest"]},{"RepoTags":null}]"#;
        for listing in [&old[..], &new[..]] {
            assert_eq!(images_of_listing(listing), ["fuel/nailgun_8.0_2026-11-22_1407"]);
        }
        assert!(images_of_listing(b"nonsense").is_empty());
    }

    #[test]
    fn a_light_stock_archive_is_known_by_what_it_lacks() {
        let light = facts(&[], &["etc/fuel/astute.yaml", "var/lib/fuel/keys", "var/www/nailgun/plugins/x", "root/.ssh/id_rsa"]);
        assert_eq!(light.directories, ["/etc/fuel", "/var/www/nailgun/plugins", "/var/lib/fuel/keys", "/root/.ssh"]);
        assert!(light.release(None).unwrap_err().contains("--fuel"));
        let told: Release = "7.0".parse().unwrap();
        let about = light.describe("east".parse().unwrap(), light.release(Some(&told)).unwrap(), "2026-11-22_1407".into(), |_| false);
        assert_eq!((about.contents, about.started.to_rfc3339()), (Contents::Light, "2026-11-22T14:07:00+00:00".to_owned()));
    }

    #[test]
    fn a_full_one_names_its_release_and_another_one_is_refused() {
        let full =
            facts(&["fuel/postgres_5.1_2026-11-22_1407", "fuel/astute_5.1_2026-11-22_1407"], &["etc/fuel", "var/www/nailgun/centos"]);
        let told: Release = "6.0".parse().unwrap();
        assert_eq!(full.release(Some(&told)).unwrap_err(), "the archive is of Fuel 5.1, not 6.0");
        let about = full.describe("east".parse().unwrap(), full.release(None).unwrap(), full.stock_id().unwrap(), |_| false);
        assert_eq!(about.containers[0].name, "fuel-core-5.1-postgres");
        assert_eq!(about.started.format("%H:%S").to_string(), "14:07", "to 6.0 the id has hour and second");
    }

    #[test]
    fn a_master_that_was_upgraded_is_of_the_release_that_it_is_now() {
        let both = ["fuel/astute_6.1_2026-11-22_1407", "fuel/astute_7.0_2026-11-22_1407", "fuel/nailgun_7.0_2026-11-22_1407"];
        let mut full = facts(&both, &["etc/fuel"]);
        assert!(full.release(None).unwrap_err().contains("Fuel 6.1 and 7.0"));
        let (old, now): (Release, Release) = ("6.1".parse().unwrap(), "7.0".parse().unwrap());
        assert_eq!(full.release(Some(&old)).unwrap(), old);
        full.version_link = "/etc/fuel/7.0/version.yaml".into();
        assert_eq!(full.release(None).unwrap(), now);
        let about = full.describe("east".parse().unwrap(), now.clone(), "2026-11-22_1407".into(), |_| false);
        let images: Vec<&str> = about.containers.iter().map(|c| c.image.as_str()).collect();
        assert!(images.contains(&"fuel/astute_7.0") && images.iter().all(|image| image.ends_with("_7.0")), "{images:?}");

        let mut light = facts(&[], &["etc/fuel"]);
        light.take_version("VERSION:\n  release: \"6.1\"\n");
        assert_eq!(light.release(None).unwrap(), old);
        light.take_version("");
        light.take_version("VERSION:\n  release: '7.0'\n");
        assert!(light.release(None).unwrap_err().contains("6.1 and 7.0"));
        light.version_link = "7.0/version.yaml".into();
        assert_eq!(light.release(None).unwrap(), now);
    }

    #[test]
    fn a_light_files_folder_tells_its_id() {
        let id = |path: &str| stock_id_of_folder(Path::new(path));
        assert_eq!(id("/var/backup/fuel/backup_2026-11-22_1407/fuel_backup.tar.lrz").unwrap(), "2026-11-22_1407");
        assert_eq!(id("/tmp/fuel_backup.tar.lrz"), None);
    }
}
