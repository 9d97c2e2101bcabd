//! Commands of the operator's that run on this workstation before and after the backup of a host. Their exit code counts.

use std::io::{Read, Seek};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::Context;
use crate::fleet::Ending;
use crate::model::inventory::Host;
use crate::model::report::Severity;
use crate::model::text::{human_duration, printable};
use crate::platform;

/// Runs a command through the shell, with variables that say what it is about. At its time's end all that it has started is ended too;
/// what it leaves running behind a good end is its own affair.
///
/// # Errors
/// With a sentence, when it ends otherwise than with code 0, or takes longer than its time.
pub async fn run(command: &str, limit: Duration, variables: &[(&str, &str)]) -> Result<(), String> {
    let unusable = |e: std::io::Error| format!("can't be run: {e}");
    // A file, not a pipe: a process that stays behind holds nobody up, and nobody's memory fills.
    let mut said = tempfile::tempfile().map_err(unusable)?;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).envs(variables.iter().copied()).kill_on_drop(true);
    platform::lead_a_group(shell.as_std_mut());
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone().map_err(unusable)?);
    let mut child = shell.spawn().map_err(unusable)?;
    let group = Group(child.id());
    let status = match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => status.map_err(unusable)?,
        Err(_) => {
            drop(group);
            return Err(format!("took longer than {} and was ended", human_duration(limit)));
        }
    };
    std::mem::forget(group);
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    // Its words only explain the exit code.
    let _ = said.rewind().and_then(|()| said.take(4096).read_to_end(&mut text));
    let said = printable(String::from_utf8_lossy(&text).trim());
    Err(if said.is_empty() { format!("ended with {status} and said nothing") } else { format!("ended with {status}: {said}") })
}

/// The processes of a command, ended when this is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            platform::end_group(leader);
        }
    }
}

/// What must go well before a host is touched.
pub(super) async fn before(ctx: &Context, host: &Host) -> Result<(), Ending> {
    let Some(command) = &host.hooks.before else { return Ok(()) };
    ctx.note(host, "running the command before it");
    let variables = [("TANKER_HOST", host.name.as_str()), ("TANKER_VERB", "backup")];
    let done = tokio::select! {
        done = run(command, host.hooks.limit, &variables) => done,
        () = ctx.cancel.cancelled() => return Err(Ending::bad(Severity::Interrupted, "stopped as told to", None)),
    };
    done.map_err(|why| {
        Ending::bad(Severity::Refused, format!("the command that the inventory names as 'before' {why}; the master was not touched"), None)
    })
}

/// What is to be done after it, however it went. A backup that is listed stays listed.
pub(super) async fn after(ctx: &Context, host: &Host, mut ending: Ending) -> Ending {
    let Some(command) = &host.hooks.after else { return ending };
    ctx.note(host, "running the command after it");
    let outcome = ending.severity.word().to_lowercase();
    let variables =
        [("TANKER_HOST", host.name.as_str()), ("TANKER_VERB", "backup"), ("TANKER_OUTCOME", &outcome), ("TANKER_SUMMARY", &ending.summary)];
    let ran = tokio::select! {
        ran = run(command, host.hooks.limit, &variables) => ran,
        () = ctx.cancel.insisted() => Err("was ended as told to".into()),
    };
    if let Err(why) = ran {
        ending.summary = format!("{}; but the command that the inventory names as 'after' {why}", ending.summary);
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
        assert!(run("sleep 30", limit, &[]).await.unwrap_err().contains("took longer"));
        assert_eq!(run("sleep 5 & true", limit, &[]).await, Ok(()), "what it leaves behind holds nobody up");
    }
}
