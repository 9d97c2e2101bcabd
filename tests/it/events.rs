//! The stream of events, held against docs/events.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tanker::monitor::{ALL, Step};

fn document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events.md")).unwrap()
}

fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Each event with its further fields, as documented.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = document();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        (quoted(cells[1]).into_iter().next().unwrap(), quoted(cells[2]))
    })
    .collect()
}

/// The steps of a verb in the order in which the page names them; none of a verb whose steps it doesn't list.
fn order(verb: &str) -> Vec<String> {
    let text = document();
    let Some((_, list)) = text.split_once(&format!("Of a {verb}: ")) else { return Vec::new() };
    list.split([';', '.']).next().unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Holds the steps of one host against that order: some may be missing, none comes out of its turn.
#[track_caller]
fn in_order(verb: &str, steps: &[String]) {
    let mut order = order(verb);
    let at = |steps: &[String], word: &str| steps.iter().position(|step| step == word);
    // The page says it: an encrypted archive is proven before it is fetched.
    if let (Some(transfer), Some(prove)) = (at(steps, "transfer"), at(steps, "prove"))
        && verb == "backup"
        && prove < transfer
    {
        let (transfer, prove) = (at(&order, "transfer").unwrap(), at(&order, "prove").unwrap());
        order.swap(transfer, prove);
    }
    let mut rest = order.iter();
    for step in steps.iter().filter(|step| *step != "rollback") {
        assert!(rest.any(|documented| documented == step), "{step} comes out of its turn: {steps:?}");
    }
}

#[test]
fn the_page_lists_the_steps_of_backup_restore_and_drill() {
    for (verb, first, count) in [("backup", "connect", 17), ("restore", "prove", 18), ("drill", "prove", 9)] {
        let steps = order(verb);
        assert_eq!((steps.len(), steps[0].as_str(), steps[steps.len() - 1].as_str()), (count, first, "clean"), "{steps:?}");
    }
    in_order("backup", &["connect", "digest", "prove", "transfer", "clean"].map(str::to_owned));
}

#[test]
#[should_panic(expected = "commit comes out of its turn")]
fn a_step_out_of_its_turn_is_found() {
    in_order("backup", &["connect", "freeze", "thaw", "commit"].map(str::to_owned));
}

/// Holds a whole stream against the document; the recap is its last line, and is returned with the events' names.
#[track_caller]
pub(crate) fn held(stdout: &str) -> (Value, Vec<String>) {
    let (documented, mut names, mut recap) = (documented(), Vec::new(), Value::Null);
    let mut steps: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in stdout.lines() {
        assert!(recap.is_null(), "something stands behind the recap: {line}");
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let name = value["event"].as_str().unwrap_or_else(|| panic!("no event: {line}")).to_owned();
        let mut fields = documented.get(&name).unwrap_or_else(|| panic!("docs/events.md has no {name}")).clone();
        fields.extend(["event", "format"].map(str::to_owned));
        if name == "recap" {
            recap = value.clone();
        } else {
            fields.extend(["time", "host"].map(str::to_owned));
        }
        let found: BTreeSet<String> = value.as_object().unwrap().keys().cloned().collect();
        assert_eq!(found, fields, "{line}");
        assert_eq!(value["format"], 1);
        if let Some(step) = value["step"].as_str() {
            assert!(Step::from_log(step).is_some(), "{step}");
            steps.entry(value["host"].as_str().unwrap().to_owned()).or_default().push(step.to_owned());
        }
        names.push(name);
    }
    assert!(!recap.is_null(), "no recap: {stdout}");
    let verb = recap["verb"].as_str().unwrap();
    for steps in steps.values().filter(|_| !order(verb).is_empty()) {
        in_order(verb, steps);
    }
    (recap, names)
}

#[test]
fn every_step_is_documented() {
    let words = quoted(&document());
    for step in ALL {
        assert!(words.contains(step.word()), "docs/events.md doesn't name the step {}", step.word());
    }
}

#[test]
fn what_is_printed_as_one_document_says_its_format_too() {
    let shelf = crate::upkeep::Shelf::new("[hosts.east]\n");
    shelf.days(2);
    let verbs = [
        "list",
        "list --trash",
        "hosts list",
        "stats",
        "forget --keep-last 1",
        "report",
        "verify --all",
        "verify --sample 5%",
        "show east@latest",
        "diff east@2026-11-21 east@latest",
        "forget --keep-last 1 --yes",
        "list --trash",
    ];
    for verb in verbs {
        let args: Vec<&str> = verb.split(' ').chain(["--json"]).collect();
        let ran = shelf.tanker(&args);
        let value: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{verb}: {e}: {}\n{}", ran.stdout, ran.stderr));
        let own = verb.starts_with("show");
        assert_eq!(value["format"], if own { tanker::model::manifest::FORMAT } else { 1 }, "{verb}");
    }
}

#[test]
fn a_run_that_reaches_nobody_is_a_stream_too() {
    let shelf = crate::upkeep::Shelf::new("[hosts.gone]\naddress = '127.0.0.1'\nport = 1\n");
    let ran = shelf.tanker(&["hosts", "check", "--json"]).code(4);
    let (recap, names) = held(&ran.stdout);
    assert_eq!(names, ["step", "finished", "recap"]);
    assert_eq!((&recap["exit_code"], &recap["hosts"][0]["outcome"]), (&Value::from(4), &Value::from("unreachable")));
}

#[test]
fn every_kind_of_concern_is_documented() {
    let (source, page) = (include_str!("../../src/model/outlook.rs"), document());
    let kinds: BTreeSet<&str> = source.lines().filter_map(|line| line.split_once("add(Weight::")?.1.split('"').nth(1)).collect();
    assert!(kinds.len() > 8, "{kinds:?}");
    for kind in kinds {
        assert!(page.contains(&format!("`{kind}`")), "docs/events.md doesn't say `{kind}`");
    }
}
