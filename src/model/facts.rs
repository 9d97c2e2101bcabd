//! What a master says of itself, read from the frames that the scripts print. Pure: every fact is a frame and a parser.
//!
//! A frame is `@NAME LENGTH`, newline, LENGTH bytes, newline. All of it is data (I8): lengths are checked, numbers bounded,
//! names validated, text made printable where it is shown.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::release::{DIRECTORIES, PLUGINS, Release, START_ORDER};
use super::text::printable;

/// Why a master's answer could not be understood: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFacts(pub String);

/// Reads all frames of a script's output. Names that appear twice keep their last value.
///
/// # Errors
/// When the output is no sequence of whole frames.
pub fn parse_frames(output: &[u8]) -> Result<BTreeMap<String, String>, BadFacts> {
    let bad = |what: &str| BadFacts(format!("the master's answer can't be read: {what}"));
    let mut frames = BTreeMap::new();
    let mut rest = output;
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'\n').ok_or_else(|| bad("a frame has no end of line"))?;
        let head = std::str::from_utf8(&rest[..end]).map_err(|_| bad("a frame's head is no text"))?;
        let (name, length) = head
            .strip_prefix('@')
            .and_then(|head| head.split_once(' '))
            .ok_or_else(|| bad(&format!("'{}' is no frame (does a login script print something?)", printable(head))))?;
        let length: usize = length.parse().map_err(|_| bad("a frame's length is no number"))?;
        let body = rest.get(end + 1..).and_then(|b| b.get(..length)).ok_or_else(|| bad("a frame is cut short"))?;
        if rest.get(end + 1 + length) != Some(&b'\n') {
            return Err(bad("a frame is longer than it says"));
        }
        frames.insert(name.to_owned(), String::from_utf8_lossy(body).into_owned());
        rest = &rest[end + length + 2..];
    }
    Ok(frames)
}

/// A container of the master's own release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// `nailgun`, `postgres`, …
    pub service: String,
    /// `fuel-core-5.1-nailgun`.
    pub name: String,
    /// The image it was made from, without a tag: `fuel/nailgun_5.1`.
    pub image: String,
    /// Running, paused or stopped.
    pub state: ContainerState,
    /// Anonymous volumes: path in the container, path on the host; sorted.
    pub volumes: Vec<(String, String)>,
    /// Bytes of its image, as far as Docker says.
    pub image_bytes: u64,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// It runs.
    Running,
    /// It runs, and somebody has paused it.
    Paused,
    /// It doesn't run.
    Stopped,
}

/// A job of tanker's that lies on the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTrace {
    /// Its folder's name.
    pub name: String,
    /// Whether its process runs.
    pub alive: bool,
    /// Whether containers are frozen by it.
    pub frozen: bool,
    /// Whether it is a restore that came to no end: neither restored nor put back.
    pub half_restored: bool,
    /// How large the archive is that it has packed and that lies there to be fetched.
    pub packed: Option<u64>,
    /// What it wrote of itself, printable.
    pub about: String,
}

/// A master as it was found. `astute` holds secrets: this type has no `Debug` on purpose (I6).
#[derive(Clone)]
pub struct Facts {
    /// Its own host name.
    pub hostname: String,
    /// Its Fuel release.
    pub release: Release,
    /// `/etc/fuel/fuel-uuid`, empty where there is none.
    pub uuid: String,
    /// Docker's version: `1.4.1`.
    pub docker_version: String,
    /// The containers of this release, in start order.
    pub containers: Vec<Container>,
    /// How many other containers there are; tanker leaves them alone.
    pub other_containers: usize,
    /// Host directories that are there, with their sizes in bytes.
    pub directories: Vec<(String, u64)>,
    /// The plugins inside the package repositories, where they are there.
    pub plugins: Option<(String, u64)>,
    /// Those directories that are mount points, or have one below them.
    pub mountpoints: Vec<String>,
    /// Mount points below the directory that holds the state of containers, with their sizes in bytes.
    pub state_mounts: Vec<(String, u64)>,
    /// Host directories that are symbolic links, and where to: neither pass would go there.
    pub links: Vec<(String, String)>,
    /// Bytes free where the spool lies.
    pub spool_free_bytes: u64,
    /// Bytes free where Docker lies.
    pub docker_free_bytes: u64,
    /// Whether the kernel's freezer is mounted.
    pub freezer: bool,
    /// Tools that are there: name, path and version.
    pub tools: BTreeMap<String, String>,
    /// `astute.yaml` as it is.
    pub astute: String,
    /// Jobs of tanker's on the master.
    pub jobs: Vec<JobTrace>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    name: String,
    state: State,
    config: Config,
    /// To Docker 1.7.
    #[serde(default)]
    volumes: Option<BTreeMap<String, String>>,
    /// From Docker 1.8.
    #[serde(default)]
    mounts: Option<Vec<Mount>>,
    #[serde(default)]
    image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    running: bool,
    #[serde(default)]
    paused: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    destination: String,
    source: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(alias = "ID", alias = "id")]
    id: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    virtual_size: u64,
}

/// Reads the frames that `facts.sh` prints.
///
/// # Errors
/// When the host is no Fuel master with containers, or what it says can't be understood.
pub fn parse_facts(output: &[u8]) -> Result<Facts, BadFacts> {
    let frames = parse_frames(output)?;
    let text = |name: &str| frames.get(name).map_or("", |value| value.trim());
    if text("user") != "0" {
        return Err(BadFacts("the scripts run without root's rights: log in as root, or set 'sudo = true' for this host".into()));
    }
    let release = parse_release(text("release"), text("fuel_release"))?;
    if let Some(error) = frames.get("docker_error") {
        return Err(BadFacts(format!("Docker doesn't answer: {}", printable(error))));
    }
    let docker_version = text("docker")
        .strip_prefix("Docker version ")
        .and_then(|rest| rest.split([',', ' ', '+', '-']).next())
        .filter(|version| version.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())))
        .ok_or_else(|| BadFacts(format!("Docker's version can't be read from '{}'", printable(text("docker")))))?
        .to_owned();
    let (containers, other_containers) = parse_containers(&release, text("docker_objects"))?;
    let kib = |name: &str| text(name).parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024));
    let free = |name: &str| kib(name).ok_or_else(|| BadFacts(format!("the free space can't be read from '{}'", printable(text(name)))));
    let size = |directory: &str| kib(&format!("directory.{directory}")).map(|bytes| (directory.to_owned(), bytes));
    Ok(Facts {
        hostname: printable(text("hostname")),
        uuid: printable(text("uuid")),
        docker_version,
        containers,
        other_containers,
        directories: DIRECTORIES.iter().filter_map(|d| size(d)).collect(),
        plugins: size(PLUGINS),
        links: links(&frames),
        state_mounts: state_mounts(&frames)?,
        mountpoints: DIRECTORIES.iter().filter(|d| frames.contains_key(&format!("mountpoint.{d}"))).map(|d| (*d).to_owned()).collect(),
        spool_free_bytes: free("spool_free_kib")?,
        docker_free_bytes: free("docker_free_kib")?,
        freezer: frames.contains_key("freezer"),
        tools: frames.iter().filter_map(|(k, v)| Some((k.strip_prefix("tool.")?.to_owned(), printable(v)))).collect(),
        astute: frames.get("astute").cloned().unwrap_or_default(),
        jobs: parse_jobs(&frames),
        release,
    })
}

fn links(frames: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let top = DIRECTORIES.iter().filter_map(|d| Some(((*d).to_owned(), printable(frames.get(&format!("link.{d}"))?))));
    let below = frames.iter().filter(|(name, _)| name.starts_with("state_link."));
    let below = below.filter_map(|(_, link)| link.split_once(' ')).map(|(path, to)| (printable(path), printable(to)));
    top.chain(below).collect()
}

fn state_mounts(frames: &BTreeMap<String, String>) -> Result<Vec<(String, u64)>, BadFacts> {
    let mut mounts = BTreeMap::new();
    for (_, mount) in frames.iter().filter(|(name, _)| name.starts_with("state_mount.")) {
        let (kib, path) = mount.split_once(' ').ok_or_else(|| BadFacts(format!("'{}' is no mount", printable(mount))))?;
        check_path(path)?;
        let bytes = kib.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024));
        mounts.insert(path.to_owned(), bytes.ok_or_else(|| BadFacts(format!("the size of {path} can't be read")))?);
    }
    Ok(mounts.into_iter().collect())
}

/// The jobs of tanker's among the frames that `facts.sh` prints.
#[must_use]
pub fn parse_jobs(frames: &BTreeMap<String, String>) -> Vec<JobTrace> {
    frames.iter().filter_map(|(k, v)| k.strip_prefix("job.").map(|name| job_trace(name, v))).collect()
}

fn job_trace(name: &str, about: &str) -> JobTrace {
    let mut lines = about.lines();
    let alive = lines.next() == Some("alive");
    let rest: Vec<&str> = lines.collect();
    let (frozen, half_restored) = (rest.contains(&"frozen"), rest.contains(&"half-restored"));
    let packed = rest.iter().find_map(|line| line.strip_prefix("packed ")?.parse().ok());
    let marks = |line: &str| ["frozen", "half-restored"].contains(&line) || line.starts_with("packed ");
    let about = rest.into_iter().filter(|line| !marks(line)).collect::<Vec<_>>().join(", ");
    JobTrace { name: printable(name), alive, frozen, half_restored, packed, about: printable(&about) }
}

fn parse_release(version_yaml: &str, fuel_release: &str) -> Result<Release, BadFacts> {
    let named = version_yaml
        .lines()
        .find_map(|line| line.trim().strip_prefix("release:"))
        .map(|value| value.trim().trim_matches(['"', '\'']))
        .or((!fuel_release.is_empty()).then_some(fuel_release))
        .ok_or_else(|| BadFacts("this host is no Fuel master: /etc/fuel/version.yaml names no release".into()))?;
    named.parse().map_err(|e| BadFacts(format!("{e}")))
}

/// What `docker inspect` says of containers and images, in one list: an image has no state.
fn parse_containers(release: &Release, objects: &str) -> Result<(Vec<Container>, usize), BadFacts> {
    let bad = |e: serde_json::Error| BadFacts(format!("'docker inspect' printed something unexpected: {}", printable(&e.to_string())));
    let objects: Vec<Value> = if objects.is_empty() { Vec::new() } else { serde_json::from_str(objects).map_err(bad)? };
    let (inspected, images): (Vec<Value>, Vec<Value>) = objects.into_iter().partition(|object| object.get("State").is_some());
    let inspected: Vec<Inspected> = serde_json::from_value(inspected.into()).map_err(bad)?;
    let images: Vec<Image> = serde_json::from_value(images.into()).map_err(bad)?;
    let total = inspected.len();
    let mut own = Vec::new();
    for found in inspected {
        let name = found.name.trim_start_matches('/').to_owned();
        let Some(service) = release.service(&name).map(str::to_owned) else { continue };
        let image = image_name(&found.config.image)?;
        let mut volumes = Vec::new();
        let pairs = found.mounts.map(|m| m.into_iter().map(|m| (m.destination, m.source)).collect::<Vec<_>>());
        for (at, from) in pairs.unwrap_or_else(|| found.volumes.unwrap_or_default().into_iter().collect()) {
            if is_anonymous(&from) {
                check_path(&at)?;
                check_path(&from)?;
                volumes.push((at, from));
            }
        }
        volumes.sort();
        let state = match (found.state.paused, found.state.running) {
            (true, _) => ContainerState::Paused,
            (_, true) => ContainerState::Running,
            _ => ContainerState::Stopped,
        };
        let image_bytes = images.iter().find(|i| i.id == found.image).map_or(0, |i| i.virtual_size.max(i.size));
        own.push(Container { service, name, image, state, volumes, image_bytes });
    }
    own.sort_by_key(|c| START_ORDER.iter().position(|s| *s == c.service));
    let others = total - own.len();
    Ok((own, others))
}

/// A volume that Docker made itself, not a directory of the host that somebody mounted. Its folder may be another one than it is told to be
/// (`docker -g`, a link to a larger disk), but what lies in it has Docker's own form: `vfs/dir/ID` and later `volumes/ID/_data`.
fn is_anonymous(source: &str) -> bool {
    let id = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let made_by_docker = match source.split('/').collect::<Vec<_>>().as_slice() {
        [.., "vfs", "dir", name] => id(name),
        [.., "volumes", name, "_data"] => id(name),
        _ => false,
    };
    made_by_docker || source.starts_with("/var/lib/docker/")
}

fn image_name(image: &str) -> Result<String, BadFacts> {
    let without_tag = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    let fits = !without_tag.is_empty()
        && without_tag.len() <= 128
        && without_tag.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b));
    if fits { Ok(without_tag.to_owned()) } else { Err(BadFacts(format!("'{}' is no image that tanker can save", printable(image)))) }
}

/// Paths go into lists of words on the master: only those that need no quoting are taken.
fn check_path(path: &str) -> Result<(), BadFacts> {
    let plain = path.starts_with('/')
        && !path.split('/').any(|part| part == "..")
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    if plain { Ok(()) } else { Err(BadFacts(format!("a volume lies at '{}', a path that tanker doesn't take", printable(path)))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str, value: &str) -> String {
        format!("@{name} {}\n{value}\n", value.len())
    }

    fn master(containers: &str) -> Vec<u8> {
        let mut out = frame("user", "0") + &frame("hostname", "east") + &frame("release", "VERSION:\n  release: \"5.1\"\n  api: 1");
        out += &frame("link./root/.ssh", "/srv/ssh");
        out += &(frame("docker", "Docker version 0.10.0, build dc9c28f/0.10.0")
            + &frame("spool_free_kib", "1000")
            + &frame("docker_free_kib", "2000"));
        out += &(frame("directory./etc/fuel", "8") + &frame("docker_objects", containers));
        out.into_bytes()
    }

    #[test]
    fn a_master_with_a_docker_of_0_10_and_one_of_today_read_the_same() {
        let old = r#"[{"ID":"aa","Name":"/fuel-core-5.1-nailgun","Image":"i1","State":{"Running":true},"Config":{"Image":"fuel/nailgun_5.1"},
            "Volumes":{"/etc/nailgun":"/var/lib/docker/vfs/dir/abc","/etc/fuel":"/etc/fuel"}}]"#;
        let new = r#"[{"Id":"aa","Name":"/fuel-core-5.1-nailgun","Image":"i1","State":{"Running":true,"Paused":false},"Config":{"Image":"fuel/nailgun_5.1:latest"},
            "Mounts":[{"Destination":"/etc/nailgun","Source":"/var/lib/docker/vfs/dir/abc"},{"Destination":"/etc/fuel","Source":"/etc/fuel"}]}]"#;
        let (old, new) = (parse_facts(&master(old)).ok().unwrap(), parse_facts(&master(new)).ok().unwrap());
        assert_eq!(old.containers, new.containers);
        assert_eq!(old.containers[0].volumes, [("/etc/nailgun".to_owned(), "/var/lib/docker/vfs/dir/abc".to_owned())]);
        assert_eq!(old.docker_version, "0.10.0");
        assert_eq!(old.directories, [("/etc/fuel".to_owned(), 8192)]);
        assert_eq!(old.links, [("/root/.ssh".to_owned(), "/srv/ssh".to_owned())]);
    }

    #[test]
    fn a_volume_is_known_wherever_docker_keeps_it() {
        let id = "9f".repeat(32);
        assert!(is_anonymous(&format!("/data/docker/vfs/dir/{id}")) && is_anonymous(&format!("/data/docker/volumes/{id}/_data")));
        assert!(
            !is_anonymous("/var/log/docker-logs") && !is_anonymous(&format!("/data/volumes/{id}")) && !is_anonymous("/srv/volumes/x/_data")
        );
    }

    #[test]
    fn state_behind_a_link_or_a_mount_is_seen() {
        let mut out = master("[]");
        out.extend(
            (frame("state_link.0", "/var/lib/fuel/container_data /data") + &frame("state_mount.1", "8 /var/lib/fuel/container_data/8.0"))
                .into_bytes(),
        );
        let facts = parse_facts(&out).ok().unwrap();
        assert!(facts.links.contains(&("/var/lib/fuel/container_data".to_owned(), "/data".to_owned())));
        assert_eq!(facts.state_mounts, [("/var/lib/fuel/container_data/8.0".to_owned(), 8192)]);
        for bad in ["x", "x /var/lib/fuel/container_data", "1 /var/lib/fuel/container_data/$(reboot)"] {
            let mut out = master("[]");
            out.extend(frame("state_mount.0", bad).into_bytes());
            assert!(parse_facts(&out).is_err(), "{bad}");
        }
    }

    #[test]
    fn dockers_version_is_read_as_distributions_write_it() {
        for (said, is) in [
            ("1.8.2-el7.centos, build a01dc02/1.8.2", "1.8.2"),
            ("20.10.24+dfsg1, build 297e128", "20.10.24"),
            ("1.5.0, build a8a31ef", "1.5.0"),
        ] {
            let text = String::from_utf8(master("[]")).unwrap().replace(
                &frame("docker", "Docker version 0.10.0, build dc9c28f/0.10.0"),
                &frame("docker", &format!("Docker version {said}")),
            );
            assert_eq!(parse_facts(text.as_bytes()).ok().unwrap().docker_version, is);
        }
    }

    #[test]
    fn i8_frames_that_lie_about_their_length_are_refused() {
        for bad in ["@a 5\nabc\n", "@a 1\nabc\n", "hello\n", "@a x\n\n", "@a 18446744073709551615\n", "@a 3\nabc"] {
            assert!(parse_frames(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(parse_frames(b"@a 3\na\nb\n@b 0\n\n").unwrap()["a"], "a\nb");
    }

    #[test]
    fn i8_a_volume_path_that_would_need_quoting_is_refused() {
        let evil = r#"[{"Name":"/fuel-core-5.1-nailgun","State":{},"Config":{"Image":"fuel/nailgun_5.1"},"Volumes":{"/x":"/var/lib/docker/$(reboot)"}}]"#;
        assert!(parse_facts(&master(evil)).err().unwrap().to_string().contains("doesn't take"));
    }

    #[test]
    fn a_host_that_is_no_master_is_told_so() {
        let out = frame("user", "0") + &frame("release", "");
        assert!(parse_facts(out.as_bytes()).err().unwrap().to_string().contains("no Fuel master"));
    }
}
