//! What the operator's page says to install and to look for, tried out: the nightly script, its timer, the symptoms; and what a newcomer
//! without Rust is told.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::upkeep::{Ran, Shelf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/operations.md")).unwrap()
}

/// The one block of this language.
fn block(language: &str) -> String {
    let (page, fence) = (page(), format!("```{language}\n"));
    let mut blocks = page.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    let found = blocks.next().unwrap();
    assert!(blocks.next().is_none(), "docs/operations.md has several blocks of {language}");
    found
}

/// Where the page says that a block's script belongs.
fn place_of_the_script() -> String {
    let script = block("sh");
    let place = script.lines().nth(1).unwrap().trim_start_matches("# ").split(',').next().unwrap().to_owned();
    assert!(place.starts_with('/'), "{script}");
    place
}

#[test]
fn i5_the_nightly_script_copies_forgets_and_reports_although_a_master_is_out_of_reach() {
    let shelf = Shelf::new("");
    let vault = shelf.path("vault");
    fs::create_dir(&vault).unwrap();
    let inventory = |url: &Path| {
        format!(
            "[defaults]\nkeep = {{ last = 2 }}\n[hosts.east]\naddress = '127.0.0.1'\nport = 1\n[remotes.vault]\nurl = 'file://{}'\n",
            url.display()
        )
    };
    shelf.inventory(&inventory(&vault));
    shelf.days(4);
    fs::create_dir_all(shelf.path(".cargo/bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_tanker"), shelf.path(".cargo/bin/tanker")).unwrap();
    let metrics = shelf.path("tanker.prom");
    fs::write(shelf.path("nightly"), block("sh").replace("/var/lib/node_exporter", &shelf.home.path().display().to_string())).unwrap();
    let nightly = || {
        let mut command = Command::new("sh");
        command.arg("nightly").current_dir(shelf.home.path()).env("HOME", shelf.home.path()).env_remove("TANKER_INVENTORY");
        Ran::of(&command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME").output().unwrap())
    };
    nightly().code(1).says("east  unreachable").says("copied");
    shelf.tanker(&["list", "--remote", "vault"]).code(0).says("east@2026-11-22");
    shelf.tanker(&["list", "--trash"]).code(0).says("east@2026-11-19");
    let text = fs::read_to_string(&metrics).unwrap();
    assert!(text.contains("tanker_backups{host=\"east\"} 2\n"), "{text}");
    // What fails in the middle of it is said by the exit code too, and the report comes all the same.
    fs::remove_file(&metrics).unwrap();
    fs::write(shelf.path("no-folder"), "").unwrap();
    shelf.inventory(&inventory(&shelf.path("no-folder")));
    nightly().code(1);
    assert!(metrics.exists());
}

#[test]
fn the_timer_of_the_page_is_one_that_systemd_takes_and_begins_the_script_of_the_page() {
    let work = tempfile::tempdir().unwrap();
    let script = work.path().join("nightly");
    fs::write(&script, block("sh")).unwrap();
    assert!(Command::new("chmod").arg("755").arg(&script).status().unwrap().success());
    let place = place_of_the_script();
    let mut names = Vec::new();
    for unit in block("ini").split("# /etc/systemd/system/").skip(1) {
        let (name, text) = unit.split_once('\n').unwrap();
        if name.ends_with(".service") {
            let begun: Vec<&str> = text.lines().filter(|line| line.starts_with("ExecStart")).collect();
            assert_eq!(begun, [format!("ExecStart={place}")]);
        }
        fs::write(work.path().join(name), text.replace(&place, &script.display().to_string())).unwrap();
        names.push(work.path().join(name));
    }
    assert_eq!(names.len(), 2, "{names:?}");
    let crontab = format!("`0 2 * * * {place}`");
    assert!(page().contains(&crontab), "docs/operations.md doesn't show {crontab}");
    // A machine without systemd has nothing to verify them with.
    if let Ok(output) = Command::new("systemd-analyze").arg("verify").args(&names).output() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let of_ours = said.lines().filter(|line| line.contains("tanker") || line.contains(&work.path().display().to_string()));
        assert_eq!(of_ours.collect::<Vec<_>>(), [""; 0], "{said}");
    }
}

/// The program's own texts: its sources without their unit tests, a line each.
fn sources() -> Vec<String> {
    let (mut folders, mut lines) = (vec![root().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "sh") {
                let text = fs::read_to_string(path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                lines.extend(code.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned));
            }
        }
    }
    lines
}

#[test]
fn every_symptom_of_the_operators_page_is_one_that_the_program_shows() {
    let (page, sources) = (page(), sources());
    let table = page.split("| you see |").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut seen = 0;
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let symptom = row.split(" | ").next().unwrap();
        for phrase in symptom.split('`').skip(1).step_by(2) {
            let parts: Vec<&str> = phrase.split('…').map(str::trim).filter(|part| !part.is_empty()).collect();
            // In this order in one line, whatever fills the gaps.
            let shows =
                |line: &String| parts.iter().try_fold(line.as_str(), |rest, part| rest.split_once(part).map(|(_, rest)| rest)).is_some();
            assert!(!parts.is_empty() && sources.iter().any(shows), "no source has `{phrase}`");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} symptoms were seen");
}

#[test]
fn who_has_no_rust_or_too_old_a_one_is_told_what_to_do() {
    let bin = tempfile::tempdir().unwrap();
    for tool in ["sed", "dirname", "cut", "sort"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        symlink(String::from_utf8(found.stdout).unwrap().trim(), bin.path().join(tool)).unwrap();
    }
    let prepare = || {
        let mut command = Command::new("/bin/bash");
        command.arg(root().join("tests/prepare.sh")).arg("no-such-package").env("PATH", bin.path());
        Ran::of(&command.output().unwrap())
    };
    let ran = prepare().code(1).says("cargo is not here: Rust 1.").says("https://rustup.rs");
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    fs::write(bin.path().join("cargo"), "#!/bin/bash\necho 'cargo 1.63.0 (fd9c4297c 2022-07-01)'\n").unwrap();
    assert!(Command::new("chmod").arg("755").arg(bin.path().join("cargo")).status().unwrap().success());
    let ran = prepare().code(1).says("cargo is of Rust 1.63.0, and 1.").says("https://rustup.rs");
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}
