//! What `docker inspect` says of a master's containers and images. All of it is data (I8): names and paths are validated before a script gets
//! them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::facts::{BadFacts, Container, ContainerState};
use super::release::{Release, START_ORDER};
use super::text::printable;

/// What `docker inspect` tells of a container, or of an image, which has no state. Read at once into what is needed: a tree of all that
/// is there would take many times the room of its text.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    #[serde(alias = "ID", alias = "id")]
    id: Option<String>,
    name: Option<String>,
    state: Option<State>,
    config: Option<Config>,
    /// To Docker 1.7.
    volumes: Option<BTreeMap<String, String>>,
    /// From Docker 1.8.
    mounts: Option<Vec<Mount>>,
    image: Option<String>,
    size: Option<u64>,
    virtual_size: Option<u64>,
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
    image: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    destination: String,
    source: String,
}

/// What `docker inspect` says of containers and images, in one list: an image has no state.
pub(super) fn parse_containers(release: &Release, objects: &str) -> Result<(Vec<Container>, usize), BadFacts> {
    let bad = |why: &str| BadFacts(format!("'docker inspect' printed something unexpected: {}", printable(why)));
    let objects: Vec<Object> =
        if objects.is_empty() { Vec::new() } else { serde_json::from_str(objects).map_err(|e| bad(&e.to_string()))? };
    let mut inspected = Vec::new();
    let mut images = BTreeMap::new();
    for object in objects {
        match object.state {
            Some(state) => {
                let name = object.name.ok_or_else(|| bad("a container has no name"))?;
                let made_from = object.config.and_then(|config| config.image).ok_or_else(|| bad("a container names no image"))?;
                inspected.push((name, state, made_from, object.mounts, object.volumes, object.image));
            }
            None => {
                let id = object.id.ok_or_else(|| bad("what is no container has no id"))?;
                images.entry(id).or_insert(object.virtual_size.unwrap_or(0).max(object.size.unwrap_or(0)));
            }
        }
    }
    let total = inspected.len();
    let mut own = Vec::new();
    for (name, docker_state, made_from, mounts, volumes_of_old, image_id) in inspected {
        let name = name.trim_start_matches('/').to_owned();
        let Some(service) = release.service(&name).map(str::to_owned) else { continue };
        let image = image_name(&made_from)?;
        let mut volumes = Vec::new();
        let pairs = mounts.map(|m| m.into_iter().map(|m| (m.destination, m.source)).collect::<Vec<_>>());
        for (at, from) in pairs.unwrap_or_else(|| volumes_of_old.unwrap_or_default().into_iter().collect()) {
            if is_anonymous(&from) {
                check_path(&at)?;
                check_path(&from)?;
                volumes.push((at, from));
            }
        }
        volumes.sort();
        let state = match (docker_state.paused, docker_state.running) {
            (true, _) => ContainerState::Paused,
            (_, true) => ContainerState::Running,
            _ => ContainerState::Stopped,
        };
        let image_bytes = image_id.and_then(|id| images.get(&id).copied()).unwrap_or(0);
        own.push(Container { service, name, image, state, volumes, image_bytes });
    }
    own.sort_by_key(|c| START_ORDER.iter().position(|s| *s == c.service));
    let others = total - own.len();
    Ok((own, others))
}

/// A volume that Docker made itself, not a directory of the host that somebody mounted.
fn is_anonymous(source: &str) -> bool {
    source.starts_with("/var/lib/docker/")
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

    #[test]
    fn i8_what_docker_could_not_have_printed_is_told_and_takes_no_memory() {
        let release: Release = "5.1".parse().unwrap();
        for (evil, why) in [
            (format!("[{}0]", "0,".repeat(2_000_000)), "invalid type: integer `0`"),
            ("{}".to_owned(), "invalid type: map"),
            (r#"[{"Size":5}]"#.to_owned(), "has no id"),
            (r#"[{"State":{}}]"#.to_owned(), "has no name"),
            (r#"[{"State":{},"Name":"/x"}]"#.to_owned(), "names no image"),
            (r#"[{"State":{},"Name":5}]"#.to_owned(), "invalid type"),
        ] {
            let said = parse_containers(&release, &evil).err().unwrap().to_string();
            assert!(said.contains("something unexpected") && said.contains(why), "{said}");
        }
        let both = r#"[{"Id":"i1","Size":7,"Config":null},{"Name":"/fuel-core-5.1-nailgun","Image":"i1","State":{},"Config":{"Image":"fuel/nailgun_5.1"}},
            {"Name":"/other","State":{},"Config":{"Image":"x"}}]"#;
        let (own, others) = parse_containers(&release, both).unwrap();
        assert_eq!((own[0].image_bytes, others), (7, 1));
    }

    #[test]
    fn i8_a_volume_path_that_would_need_quoting_is_refused() {
        let release: Release = "5.1".parse().unwrap();
        let evil = r#"[{"Name":"/fuel-core-5.1-nailgun","State":{},"Config":{"Image":"fuel/nailgun_5.1"},"Volumes":{"/x":"/var/lib/docker/$(reboot)"}}]"#;
        assert!(parse_containers(&release, evil).err().unwrap().to_string().contains("doesn't take"));
    }
}
