//! What a master says of itself, read from the frames that the scripts print. Pure: every fact is a frame and a parser.
//!
//! A frame is `@NAME LENGTH`, newline, LENGTH bytes, newline. All of it is data (I8): lengths are checked, numbers bounded,
//! names validated, text made printable where it is shown.

use std::collections::BTreeMap;

use super::inspect::{check_path, parse_containers};
use super::release::{DIRECTORIES, PLUGINS, Release};
use super::text::printable;

/// The tools that `facts.sh` looks for.
const TOOLS: [&str; 12] =
    ["bash", "tar", "lrzip", "docker", "fuel", "dockerctl", "supervisorctl", "systemctl", "setsid", "flock", "sha256sum", "iptables-save"];

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
        // Names are shown: no script sends one that a terminal could take for something else.
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b)) {
            return Err(bad(&format!("'{}' is no frame's name", printable(name))));
        }
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
    /// How much of the disk what was pushed for a restore takes.
    pub pushed: Option<u64>,
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
    /// Mount points there whose paths the scripts can't be given.
    pub odd_mounts: Vec<String>,
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
        // What is mounted over another mount is named twice.
        state_mounts: mounts_of_state(&frames).filter_map(Result::ok).collect::<BTreeMap<_, _>>().into_iter().collect(),
        odd_mounts: mounts_of_state(&frames).filter_map(Result::err).collect(),
        mountpoints: DIRECTORIES.iter().filter(|d| frames.contains_key(&format!("mountpoint.{d}"))).map(|d| (*d).to_owned()).collect(),
        spool_free_bytes: free("spool_free_kib")?,
        docker_free_bytes: free("docker_free_kib")?,
        freezer: frames.contains_key("freezer"),
        tools: TOOLS.iter().filter_map(|tool| Some(((*tool).to_owned(), printable(frames.get(&format!("tool.{tool}"))?)))).collect(),
        astute: frames.get("astute").cloned().unwrap_or_default(),
        jobs: parse_jobs(&frames),
        release,
    })
}

fn links(frames: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let top = DIRECTORIES.iter().filter_map(|d| Some(((*d).to_owned(), printable(frames.get(&format!("link.{d}"))?))));
    let below = frames.iter().filter(|(name, _)| name.starts_with("state_link."));
    let below = below.filter_map(|(_, link)| link.split_once('\n')).map(|(path, to)| (printable(path), printable(to)));
    top.chain(below).collect()
}

fn mounts_of_state(frames: &BTreeMap<String, String>) -> impl Iterator<Item = Result<(String, u64), String>> {
    frames.iter().filter(|(name, _)| name.starts_with("state_mount.")).map(|(_, mount)| {
        let (kib, path) = mount.split_once(' ').unwrap_or(("", mount));
        let bytes = kib.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024));
        bytes.filter(|_| check_path(path).is_ok()).map(|bytes| (path.to_owned(), bytes)).ok_or_else(|| printable(path))
    })
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
    let size = |what: &str| rest.iter().find_map(|line| line.strip_prefix(what)?.strip_prefix(' ')?.parse().ok());
    let (packed, pushed) = (size("packed"), size("pushed"));
    let marks =
        |line: &str| ["frozen", "half-restored"].contains(&line) || ["packed ", "pushed "].iter().any(|mark| line.starts_with(mark));
    let about = rest.into_iter().filter(|line| !marks(line)).collect::<Vec<_>>().join(", ");
    JobTrace { name: printable(name), alive, frozen, half_restored, packed, pushed, about: printable(&about) }
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
    fn state_behind_a_link_or_a_mount_is_seen() {
        let mut out = master("[]");
        let twice = frame("state_mount.9", "8 /var/lib/fuel/container_data/8.0");
        out.extend(twice.into_bytes());
        let odd = ["x", "x /var/lib/fuel/container_data", "1 /var/lib/fuel/container_data/$(reboot)"];
        out.extend(
            (frame("state_link.0", "/var/lib/fuel/container_data\n/data") + &frame("state_mount.1", "8 /var/lib/fuel/container_data/8.0"))
                .into_bytes(),
        );
        out.extend((2..).zip(odd).flat_map(|(n, odd)| frame(&format!("state_mount.{n}"), odd).into_bytes()));
        let facts = parse_facts(&out).ok().unwrap();
        assert!(facts.links.contains(&("/var/lib/fuel/container_data".to_owned(), "/data".to_owned())));
        assert_eq!(facts.state_mounts, [("/var/lib/fuel/container_data/8.0".to_owned(), 8192)]);
        assert_eq!(facts.odd_mounts.len(), 3);
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
    fn i8_names_that_no_script_sends_are_refused_or_passed_over() {
        let with = |name: &str| [master("[]"), frame(name, "/bin/x").into_bytes()].concat();
        for evil in ["tool.\u{1b}[2J", "tool.\u{202e}x", "job.a\u{7}", "a\\", ""] {
            let why = parse_facts(&with(evil)).err().unwrap().to_string();
            assert!(why.contains("no frame's name") && !why.contains(char::is_control), "{why}");
        }
        let facts = parse_facts(&with("tool.evil")).ok().unwrap();
        assert!(facts.tools.is_empty());
        assert_eq!(parse_facts(&with("tool.lrzip")).ok().unwrap().tools["lrzip"], "/bin/x");
        let script = include_str!("../scripts/facts.sh");
        assert!(script.contains(&format!("for tool in {}; do", TOOLS.join(" "))), "the script looks for these and no others");
    }

    #[test]
    fn a_host_that_is_no_master_is_told_so() {
        let out = frame("user", "0") + &frame("release", "");
        assert!(parse_facts(out.as_bytes()).err().unwrap().to_string().contains("no Fuel master"));
    }
}
