//! docs/json.schema.json, held against all that any test's tanker prints with `--json`: there is nothing in it that isn't documented.

use serde_json::{Value, json};

fn published() -> Value {
    serde_json::from_str(include_str!("../../docs/json.schema.json")).unwrap()
}

/// The schema of one thing, which lets nothing by that it doesn't name. The published one does, for readers of what later versions print.
fn strict(name: &str) -> Value {
    let mut defs = published()["$defs"].take();
    assert!(defs[name].is_object(), "docs/json.schema.json has no {name}");
    close(&mut defs);
    json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": format!("#/$defs/{}", name.replace(' ', "%20")), "$defs": defs })
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") && fields["type"] == "object" {
                fields.insert("additionalProperties".into(), false.into());
            }
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

#[track_caller]
fn hold_one(name: &str, value: &Value) {
    let validator = jsonschema::options().should_validate_formats(true).build(&strict(name)).unwrap();
    let faults: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{name} is not what docs/json.schema.json says: {}\n{value:#}", faults.join("\n"));
}

/// What these arguments print one document of; none where it is a stream.
fn document_of(args: &[&str]) -> Option<&'static str> {
    let has = |word: &str| args.contains(&word);
    let verbs = ["list", "verify", "stats", "diff", "forget", "report", "show", "hosts"];
    match *args.iter().find(|arg| verbs.contains(arg))? {
        "hosts" if has("list") => Some("hosts list"),
        "list" if has("--trash") => Some("list --trash"),
        "list" if has("--remote") => Some("list --remote"),
        "verify" if has("--remote") => Some("verify --remote"),
        "show" => Some("manifest"),
        "hosts" => None,
        verb => verbs.into_iter().find(|known| *known == verb),
    }
}

/// Holds what a run printed.
#[track_caller]
pub(crate) fn hold(args: &[&str], stdout: &str) {
    // Refused before there was anything to print.
    if !args.contains(&"--json") || stdout.is_empty() {
        return;
    }
    let parsed = |text: &str| serde_json::from_str(text).unwrap_or_else(|e| panic!("{args:?} printed no JSON: {e}: {text}"));
    match document_of(args) {
        Some(name) => hold_one(name, &parsed(stdout)),
        None => {
            for event in stdout.lines().map(parsed) {
                hold_one(&format!("event.{}", event["event"].as_str().unwrap_or("?")), &event);
            }
        }
    }
}

#[test]
fn the_published_schema_takes_what_a_later_version_adds() {
    let validator = jsonschema::validator_for(&published()).unwrap();
    let event = |more: Value| json!({ "format": 1, "event": "note", "time": "2026-11-22T14:33:41.207Z", "host": "east", "text": "x", "more": more });
    assert!(validator.is_valid(&event(json!(1))));
    assert!(!validator.is_valid(&json!({ "format": 1, "event": "note", "host": "east" })));
}

#[test]
#[should_panic(expected = "is not what docs/json.schema.json says")]
fn a_field_that_is_not_documented_is_found() {
    hold(&["check", "--json"], r#"{"format":1,"event":"note","time":"2026-11-22T14:33:41.207Z","host":"east","text":"x","more":1}"#);
}

#[test]
#[should_panic(expected = "is not what docs/json.schema.json says")]
fn a_wrong_type_deep_in_a_document_is_found() {
    hold(
        &["report", "--json"],
        r#"{"format":1,"at":"2026-11-22T14:33:41.207Z","hosts":[{"host":"east","state":"good","backups":"1","newest":null,"concerns":[]}]}"#,
    );
}

#[test]
fn every_event_and_step_of_the_page_is_in_the_schema_and_the_other_way_round() {
    let defs = published()["$defs"].take();
    let events: Vec<&str> = defs.as_object().unwrap().keys().filter_map(|name| name.strip_prefix("event.")).collect();
    let page = include_str!("../../docs/events.md");
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for event in &events {
        assert!(rows.contains(event), "docs/events.md has no {event}");
    }
    let steps = defs["step"]["enum"].as_array().unwrap();
    for step in tanker::monitor::ALL {
        assert!(steps.contains(&json!(step.word())), "docs/json.schema.json has no step {}", step.word());
    }
    assert_eq!(steps.len(), tanker::monitor::ALL.len());
}
