//! Nailgun's tasks, read from what the master's own client printed. Fails closed: what can't be read for certain is an error,
//! never an empty list.

use serde::{Deserialize, Serialize};

/// One task as nailgun reports it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Nailgun's number for it.
    pub id: u64,
    /// `deploy`, `verify_networks`, …
    #[serde(default)]
    pub name: String,
    /// `ready`, `error`, `running`, `pending`, or a word that a later release invented.
    pub status: String,
    /// In percent.
    #[serde(default)]
    pub progress: Option<f64>,
}

impl Task {
    /// Anything but `ready` and `error` counts as unfinished, words nobody has heard of too.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        !matches!(self.status.as_str(), "ready" | "error")
    }

    /// `task 5 deploy (running)`, fit for a terminal.
    #[must_use]
    pub fn describe(&self) -> String {
        super::text::printable(&format!("task {} {} ({})", self.id, self.name, self.status))
    }
}

/// The tasks of a master at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskList(pub Vec<Task>);

/// Why a master's tasks could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableTasks {
    /// The client ended with a code other than 0.
    #[error("the fuel client failed with exit code {code}: {reason}")]
    Failed {
        /// Its exit code.
        code: i64,
        /// What it said, made printable.
        reason: String,
    },
    /// The client claimed success but printed no list.
    #[error("the fuel client answered something that is no list of tasks: {0}")]
    NoList(String),
}

/// Reads what `fuel task --list --json` left: its exit code, stdout and stderr.
///
/// # Errors
/// When the code isn't 0 or stdout holds no JSON list of tasks.
pub fn parse_tasks(code: i64, stdout: &str, stderr: &str) -> Result<TaskList, UnreadableTasks> {
    if code != 0 {
        let words = if stderr.trim().is_empty() { stdout } else { stderr };
        return Err(UnreadableTasks::Failed { code, reason: last_sentence(words) });
    }
    // Fuel 8.0 says on stdout where it saved its settings before it prints the list.
    let start = stdout.lines().position(|line| line.starts_with('[')).unwrap_or(0);
    let json: String = stdout.lines().skip(start).collect::<Vec<_>>().join("\n");
    serde_json::from_str(&json).map(TaskList).map_err(|_| UnreadableTasks::NoList(super::text::printable(stdout)))
}

/// The last of a client's words, which is where a Python traceback has its reason; the start where it is a message.
fn last_sentence(words: &str) -> String {
    let traceback = words.contains("Traceback (most recent call last)");
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    super::text::printable(if traceback { last } else { words })
}

impl TaskList {
    /// The tasks that forbid a backup.
    #[must_use]
    pub fn unfinished(&self) -> Vec<&Task> {
        self.0.iter().filter(|task| task.unfinished()).collect()
    }

    /// Tasks that were not there `before`, or run now: a capture that saw them is no single state.
    #[must_use]
    pub fn begun_since(&self, before: &Self) -> Vec<&Task> {
        let known = |task: &Task| before.0.iter().any(|earlier| earlier.id == task.id);
        self.0.iter().filter(|task| task.unfinished() || !known(task)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &str) -> TaskList {
        parse_tasks(0, json, "").unwrap()
    }

    #[test]
    fn running_pending_and_unheard_of_tasks_are_unfinished() {
        let tasks = list(
            r#"[{"id":1,"status":"ready","name":"a"},{"id":2,"status":"error","name":"b"},
            {"id":3,"status":"running","name":"c"},{"id":4,"status":"pending","name":"d"},{"id":5,"status":"zombie","name":"e"}]"#,
        );
        let names: Vec<_> = tasks.unfinished().iter().map(|task| task.id).collect();
        assert_eq!(names, [3, 4, 5]);
    }

    #[test]
    fn settings_lines_before_the_list_are_skipped() {
        let out = "Settings for Fuel Client have been saved to /root/.config/fuel/fuel_client.yaml.\nConsider changing them.\n[]";
        assert_eq!(list(out).0, []);
    }

    #[test]
    fn what_is_no_list_is_never_an_idle_master() {
        for answer in ["{}", "", "id | status\n---|---\n", "null", "[1]", "[{}]", "[] trailing"] {
            assert!(parse_tasks(0, answer, "").is_err(), "{answer:?}");
        }
        let down = parse_tasks(1, "", "\n        Can't connect to Nailgun server!\n");
        assert!(down.unwrap_err().to_string().contains("Can't connect to Nailgun server!"));
    }

    #[test]
    fn a_task_that_began_and_ended_meanwhile_is_noticed() {
        let before = list(r#"[{"id":1,"status":"ready"}]"#);
        let after = list(r#"[{"id":1,"status":"ready"},{"id":2,"status":"ready"}]"#);
        assert_eq!(after.begun_since(&before).len(), 1);
        assert!(before.begun_since(&before).is_empty());
    }
}
