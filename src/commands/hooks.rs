//! Commands of the operator's that run on this workstation before and after the backup of a host. Their exit code counts.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::Context;
use crate::fleet::Ending;
use crate::model::inventory::Host;
use crate::model::report::Severity;
use crate::model::text::{human_duration, printable};

/// Runs a command through the shell, with variables that say what it is about.
///
/// # Errors
/// With a sentence, when it ends otherwise than with code 0, or takes longer than its time.
pub async fn run(command: &str, limit: Duration, variables: &[(&str, &str)]) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).envs(variables.iter().copied()).kill_on_drop(true);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = match tokio::time::timeout(limit, shell.output()).await {
        Ok(output) => output.map_err(|e| format!("can't be run: {e}"))?,
        Err(_) => return Err(format!("took longer than {} and was ended", human_duration(limit))),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ended with {}: {}", output.status, printable(&said)))
}

/// What must go well before a host is touched.
pub(super) async fn before(ctx: &Context, host: &Host) -> Result<(), Ending> {
    let Some(command) = &host.hooks.before else { return Ok(()) };
    ctx.note(host, "running the command before it");
    let done = run(command, host.hooks.limit, &[("TANKER_HOST", host.name.as_str()), ("TANKER_VERB", "backup")]).await;
    done.map_err(|why| Ending::bad(Severity::Refused, format!("the command before it {why}; the master was not touched"), None))
}

/// What is to be done after it, however it went. A backup that is listed stays listed.
pub(super) async fn after(ctx: &Context, host: &Host, mut ending: Ending) -> Ending {
    let Some(command) = &host.hooks.after else { return ending };
    ctx.note(host, "running the command after it");
    let outcome = ending.severity.word().to_lowercase();
    let variables =
        [("TANKER_HOST", host.name.as_str()), ("TANKER_VERB", "backup"), ("TANKER_OUTCOME", &outcome), ("TANKER_SUMMARY", &ending.summary)];
    if let Err(why) = run(command, host.hooks.limit, &variables).await {
        ending.summary = format!("{}; but the command after it {why}", ending.summary);
        ending.severity = ending.severity.max(Severity::Failed);
    }
    ending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commands_exit_code_and_its_time_count() {
        let limit = Duration::from_millis(300);
        assert_eq!(run("test \"$TANKER_HOST\" = east", limit, &[("TANKER_HOST", "east")]).await, Ok(()));
        assert!(run("echo why >&2; exit 3", limit, &[]).await.unwrap_err().contains("exit status: 3: why"));
        assert!(run("exec sleep 30", limit, &[]).await.unwrap_err().contains("took longer"));
    }
}
