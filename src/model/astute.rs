//! The merge of two astute.yaml files: network settings from the target, everything else from the backup.
//!
//! The text is spliced section by section so that every byte of what is kept stays as it was; a YAML parser then reads the
//! result and holds it against what was meant.

use std::collections::HashMap;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::{Yaml, YamlLoader};

/// The settings that stay as the target has them.
pub const NETWORK_KEYS: [&str; 9] =
    ["HOSTNAME", "DNS_DOMAIN", "DNS_SEARCH", "DNS_UPSTREAM", "NTP1", "NTP2", "NTP3", "ADMIN_NETWORK", "EXTRA_ADMIN_NETWORKS"];

/// No master's file comes near these; the parser copies what an alias stands for and goes down a level for each level of the text.
const LONGEST: usize = 256 << 10;
const MOST_NODES: usize = 100_000;
const DEEPEST: usize = 64;

/// Why two files could not be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {which} astute.yaml can't be merged: {reason}")]
pub struct Unmergeable {
    which: &'static str,
    reason: String,
}

impl Unmergeable {
    /// What is wrong, without whose file it is.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

struct Section<'a> {
    key: String,
    text: &'a str,
}

/// The backup's file with the network settings of the target's.
///
/// # Errors
/// When either file is no mapping of sections, or the result would not read as meant.
pub fn merge(backup: &str, target: &str) -> Result<String, Unmergeable> {
    let theirs = sections("backup's", backup)?;
    let ours = sections("target's", target)?;
    let network = |key: &str| NETWORK_KEYS.contains(&key);
    let mut merged = String::new();
    let mut taken = Vec::new();
    for section in &theirs {
        if !network(&section.key) {
            push_section(&mut merged, section.text);
        } else if let Some(own) = ours.iter().find(|own| own.key == section.key) {
            push_section(&mut merged, own.text);
            taken.push(own.key.as_str());
        }
    }
    for own in ours.iter().filter(|own| network(&own.key) && !taken.contains(&own.key.as_str())) {
        push_section(&mut merged, own.text);
    }
    check(&merged, backup, target)?;
    Ok(merged)
}

fn push_section(merged: &mut String, text: &str) {
    merged.push_str(text);
    if !merged.is_empty() && !merged.ends_with('\n') {
        merged.push('\n');
    }
}

/// Splits a file at its top-level keys. What stands before the first key (comments, `---`) is a section without a key.
fn sections<'a>(which: &'static str, text: &'a str) -> Result<Vec<Section<'a>>, Unmergeable> {
    let mut starts: Vec<(usize, String)> = vec![(0, String::new())];
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let first = line.chars().next().unwrap_or('\n');
        // A list may stand at the left margin under its key.
        if !first.is_whitespace() && !matches!(first, '#' | '-' | '}' | ']') {
            let key = top_level_key(line)
                .ok_or_else(|| Unmergeable { which, reason: "a line at the left margin is no 'KEY:' of a mapping".into() })?;
            starts.push((offset, key));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
    Ok(starts.iter().zip(ends).map(|((start, key), end)| Section { key: key.clone(), text: &text[*start..end] }).collect())
}

fn top_level_key(line: &str) -> Option<String> {
    let (key, _) = line.split_once(':')?;
    let key = key.trim();
    let bare =
        key.strip_prefix('"').and_then(|k| k.strip_suffix('"')).or_else(|| key.strip_prefix('\'').and_then(|k| k.strip_suffix('\'')));
    Some(bare.unwrap_or(key).to_owned())
}

fn check(merged: &str, backup: &str, target: &str) -> Result<(), Unmergeable> {
    let (merged, backup, target) = (load("merged", merged)?, load("backup's", backup)?, load("target's", target)?);
    let keys = merged.iter().map(|(key, _)| key).chain(backup.iter().map(|(key, _)| key));
    for key in keys {
        let source = if NETWORK_KEYS.contains(&key.as_str()) { &target } else { &backup };
        if value(&merged, key) != value(source, key) {
            return Err(Unmergeable { which: "merged", reason: format!("its '{}' is not what was meant", super::text::printable(key)) });
        }
    }
    Ok(())
}

fn load(which: &'static str, text: &str) -> Result<Vec<(String, Yaml)>, Unmergeable> {
    let bad = |reason: String| Unmergeable { which, reason };
    fits(text).map_err(bad)?;
    let documents = YamlLoader::load_from_str(text).map_err(|e| bad(format!("it is no YAML (line {})", e.marker().line())))?;
    let Some(Yaml::Hash(hash)) = documents.into_iter().next() else {
        return Err(bad("it is no mapping".into()));
    };
    hash.into_iter().map(|(key, value)| key.into_string().map(|key| (key, value)).ok_or_else(|| bad("a key is no text".into()))).collect()
}

/// How much a part of a file comes to once its aliases are put in.
#[derive(Clone, Copy, Default)]
struct Measure {
    nodes: usize,
    depth: usize,
}

/// Whether a file can be loaded at all (I8): read event by event, which neither copies nor goes down.
fn fits(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!("it has {} KiB and may have {}", text.len() >> 10, LONGEST >> 10));
    }
    let mut parser = Parser::new_from_str(text);
    let mut anchors: HashMap<usize, Measure> = HashMap::new();
    // What is open, with its anchor; the first one is the file.
    let mut open = vec![(0, Measure::default())];
    loop {
        let (event, mark) = parser.next_token().map_err(|e| format!("it is no YAML (line {})", e.marker().line()))?;
        let leaf = Measure { nodes: 1, depth: 1 };
        let (anchor, ended) = match event {
            Event::StreamEnd => return Ok(()),
            Event::Alias(anchor) => (0, anchors.get(&anchor).copied().unwrap_or(leaf)),
            Event::Scalar(_, _, anchor, _) => (anchor, leaf),
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                open.push((anchor, Measure::default()));
                if open.len() > DEEPEST {
                    return Err(format!("it is nested deeper than {DEEPEST} levels (line {})", mark.line()));
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (anchor, inside) = open.pop().unwrap_or_default();
                (anchor, Measure { nodes: inside.nodes + 1, depth: inside.depth + 1 })
            }
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => continue,
        };
        anchors.insert(anchor, ended);
        if open.len() + ended.depth > DEEPEST + 1 {
            return Err(format!("it is nested deeper than {DEEPEST} levels (line {})", mark.line()));
        }
        if let Some((_, around)) = open.last_mut() {
            *around = Measure { nodes: around.nodes + ended.nodes, depth: around.depth.max(ended.depth) };
            if around.nodes > MOST_NODES {
                return Err(format!("its aliases expand to more than {MOST_NODES} values (line {})", mark.line()));
            }
        }
    }
}

fn value<'a>(document: &'a [(String, Yaml)], key: &str) -> Option<&'a Yaml> {
    document.iter().find(|(k, _)| k == key).map(|(_, value)| value)
}

/// The network settings of a file as `KEY.key = value` lines, sorted; what the manifest keeps of it, for the plan.
#[must_use]
pub fn network_settings(text: &str) -> Vec<(String, String)> {
    let Ok(document) = load("", text) else { return Vec::new() };
    let mut lines = Vec::new();
    for (key, value) in document.iter().filter(|(key, _)| NETWORK_KEYS.contains(&key.as_str())) {
        flatten(key, value, &mut lines);
    }
    lines.sort();
    lines
}

fn flatten(prefix: &str, value: &Yaml, lines: &mut Vec<(String, String)>) {
    match value {
        Yaml::Hash(hash) => {
            for (key, value) in hash {
                flatten(&format!("{prefix}.{}", key.as_str().unwrap_or("?")), value, lines);
            }
        }
        Yaml::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                flatten(&format!("{prefix}.{n}"), item, lines);
            }
        }
        Yaml::Integer(n) => lines.push((prefix.to_owned(), n.to_string())),
        Yaml::Boolean(b) => lines.push((prefix.to_owned(), b.to_string())),
        other => lines.push((prefix.to_owned(), other.as_str().unwrap_or_default().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKUP: &str = "# made by fuelmenu\n\"HOSTNAME\": \"old\"\n\"NTP1\": a\n\"ADMIN_NETWORK\":\n  \"ipaddress\": \"10.20.0.2\"\n  \"cidr\": \"10.20.0.0/24\"\n\"postgres\":\n  \"nailgun_password\": \"s3cret: #x\"\n\"list\":\n- a\n- b\n";
    const TARGET: &str = "HOSTNAME: new\nADMIN_NETWORK:\n  ipaddress: 10.30.0.2\n  cidr: 10.30.0.0/24\nDNS_UPSTREAM: 8.8.8.8\npostgres:\n  nailgun_password: other\n";

    #[test]
    fn network_settings_stay_the_targets_and_credentials_come_from_the_backup() {
        let merged = merge(BACKUP, TARGET).unwrap();
        assert!(merged.contains("HOSTNAME: new\n"));
        assert!(merged.contains("ipaddress: 10.30.0.2"));
        assert!(merged.contains("DNS_UPSTREAM: 8.8.8.8"));
        assert!(merged.contains("\"nailgun_password\": \"s3cret: #x\""));
        assert!(!merged.contains("NTP1"), "a setting that the target doesn't have is not brought in");
        assert!(!merged.contains("other"));
    }

    #[test]
    fn a_file_that_is_no_mapping_is_refused_not_guessed_at() {
        for bad in ["just text\n", "- a\n- b\n", "a: [1\n", "", "\"a\": 1\n\"a\": {\n"] {
            assert!(merge(bad, TARGET).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn i8_a_file_that_expands_or_nests_without_end_is_refused_before_it_is_loaded() {
        let refused = |text: &str, why: &str| {
            assert!(network_settings(text).is_empty());
            let said = merge(text, TARGET).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        };
        let bomb = (1..=10).fold("A0: &a0 x\n".to_owned(), |text, n| {
            let ten = vec![format!("*a{}", n - 1); 10].join(", ");
            text + &format!("A{n}: &a{n} [{ten}]\n")
        });
        refused(&bomb, "expand to more than");
        refused(&format!("NTP1: {}x{}\n", "[".repeat(100), "]".repeat(100)), "deeper than");
        refused(&format!("NTP1: {}\n", "[".repeat(100_000)), "can't be merged");
        let steps = "- ".repeat(100_000);
        refused(&format!("NTP1:\n {steps}x\n"), "deeper than");
        // Each is shallow where it stands, and lies inside the one before it.
        let chain = (1..=40).fold("A0: &a0 x\n".to_owned(), |text, n| text + &format!("A{n}: &a{n} [[[[*a{}]]]]\n", n - 1));
        refused(&chain, "deeper than");
        refused(&format!("NTP1: {}\n", "x".repeat(300 << 10)), "KiB");
        // What PyYAML writes where a program has the same list twice.
        let shared = "HOSTNAME: a\nlist: &id001\n- a\n- b\nagain: *id001\n";
        assert!(merge(shared, TARGET).unwrap().contains("again: *id001"));
        assert_eq!(network_settings(shared), [("HOSTNAME".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn settings_are_flattened_for_the_plan_without_secrets() {
        let lines = network_settings(BACKUP);
        assert!(lines.contains(&("ADMIN_NETWORK.cidr".into(), "10.20.0.0/24".into())));
        assert!(!lines.iter().any(|(key, _)| key.contains("password")));
    }
}
