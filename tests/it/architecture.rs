//! Holds the layering of docs/architecture.md and that what the docs name is there.

use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds no {ending}");
    found
}

/// The code of a file, without comments and without its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let body = text.split("#[cfg(test)]").next().unwrap_or_default();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn layer(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    below.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
}

#[test]
fn imports_go_one_way() {
    let allowed: &[(&str, &[&str])] = &[
        ("model", &["model"]),
        ("platform", &[]),
        ("monitor", &["model"]),
        ("fleet", &["model"]),
        ("remote", &["remote", "model", "platform"]),
        ("library", &["library", "model", "platform"]),
        ("commands", &["commands", "fleet", "remote", "library", "model", "monitor", "platform"]),
        ("exit", &["model"]),
        ("cli", &["model", "fleet"]),
        ("ui", &["ui", "commands", "library", "remote", "model", "monitor", "exit", "platform"]),
    ];
    for path in files("src", ".rs") {
        let own = layer(&path);
        let Some((_, allowed)) = allowed.iter().find(|(name, _)| *name == own) else { continue };
        for part in code(&path).split("crate::").skip(1) {
            let used: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(allowed.contains(&used.as_str()) || used == own, "{} uses crate::{used}, which {own} must not", path.display());
        }
    }
}

#[test]
fn only_the_places_meant_for_it_touch_ssh_terminal_and_archive_files() {
    // A word, and the paths below src that may hold it.
    let rules: &[(&str, &[&str])] = &[
        ("russh", &["remote/ssh/"]),
        ("indicatif", &["ui/"]),
        ("println!", &[]),
        ("eprintln!", &[]),
        ("Command::new(\"lrzip\")", &["library/"]),
        ("tar::", &["library/"]),
        ("age::", &["library/crypt.rs", "library/resume.rs"]),
        ("opendal", &["library/offsite/"]),
        ("rustix", &["platform/"]),
        ("os::unix", &["platform/"]),
        ("Utc::now", &["around.rs", "away.rs", "emptying.rs", "main.rs", "masters.rs", "offsite.rs", "proof.rs", "shelf.rs", "upkeep.rs"]),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in files("src", ".rs") {
        let below = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        for (word, places) in rules {
            let fine = places.iter().any(|place| below.starts_with(place));
            assert!(fine || !code(&path).contains(word), "{below} holds `{word}`, which belongs to {places:?}");
        }
    }
}

#[test]
fn every_test_file_belongs_to_the_binary() {
    for path in files("tests/it", ".rs") {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let parent = path.parent().unwrap();
        let index = if name == "mod" || name == "main" {
            continue;
        } else if parent.ends_with("it") {
            parent.join("main.rs")
        } else {
            parent.join("mod.rs")
        };
        assert!(fs::read_to_string(&index).unwrap().contains(&format!("mod {name};")), "{} is in no module", path.display());
    }
}

#[test]
fn every_invariant_has_a_section_and_a_test_that_bears_its_name() {
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")).unwrap();
    let tests: String = files("src", ".rs").iter().chain(&files("tests/it", ".rs")).map(|path| fs::read_to_string(path).unwrap()).collect();
    for n in 1..=8 {
        assert!(docs.contains(&format!("### I{n} ")), "docs/architecture.md has no section for I{n}");
        assert!(tests.contains(&format!("fn i{n}_")), "no test is named after I{n}");
    }
}

#[test]
fn paths_that_the_docs_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents: Vec<PathBuf> = files("docs", ".md").into_iter().chain([root.join("README.md")]).collect();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.split([' ', ':']).next().unwrap_or_default();
            let ours = ["src/", "tests/", "docs/", ".ci/"].iter().any(|start| path.starts_with(start));
            if ours && !path.contains(['*', '<', '…', '{']) {
                assert!(root.join(path).exists(), "{} names {path}, which is not there", document.display());
            }
        }
    }
}
