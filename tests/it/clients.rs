//! What the fuel clients of 5.1, 6.0 and 8.0 really print (captured from them, under Python 2 and 3), read by tanker.

use std::fs;
use std::path::PathBuf;

use tanker::model::tasks::{TaskList, UnreadableTasks, parse_tasks};

const CLIENTS: [&str; 4] = ["5.1-py2", "6.0-py2", "8.0.0-py2", "8.0.0-py3"];

fn captured(client: &str, name: &str) -> Result<TaskList, UnreadableTasks> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures/fuel").join(client);
    let read = |ending: &str| fs::read_to_string(folder.join(format!("{name}.{ending}"))).unwrap();
    let code = read("rc").trim().strip_prefix("rc=").unwrap().split(' ').next().unwrap().parse().unwrap();
    parse_tasks(code, &read("out"), &read("err"))
}

#[test]
fn every_client_of_its_time_tells_which_tasks_are_unfinished() {
    for client in CLIENTS {
        let mixed = captured(client, "json-task-list-mixed").unwrap();
        let unfinished: Vec<u64> = mixed.unfinished().iter().map(|task| task.id).collect();
        assert_eq!(unfinished, [5, 7], "{client}: pending and running");
        assert_eq!(captured(client, "json-task-list-none").unwrap().0.len(), 0, "{client}");
    }
}

#[test]
fn no_client_that_fails_is_taken_for_one_that_has_no_tasks() {
    for client in CLIENTS {
        // The last one prints a table, though it was not asked for one: that is no list either.
        for name in ["authfail", "down", "http500", "http502", "badjson", "noauth-required"] {
            let answer = captured(client, name);
            assert!(answer.is_err(), "{client} {name}: {answer:?}");
        }
        assert!(captured(client, "authfail").unwrap_err().to_string().contains("Unauthorized"), "{client}");
    }
}
