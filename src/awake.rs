//! Keeping this machine awake while archives travel, where it has a program for that.

use std::process::{Child, Command, Stdio};

use tanker::platform;

/// The machine doesn't fall asleep as long as this lives.
pub struct Awake(Option<Child>);

impl Awake {
    /// Asks systemd, or macOS, to hold sleep off. Where neither is there, a sleep is survived like any line that breaks.
    pub fn hold(why: &str) -> Self {
        let reason = format!("--why=tanker {why}");
        let held = if cfg!(target_os = "macos") {
            // It ends with this process.
            spawn(Command::new("caffeinate").args(["-i", "-w", &std::process::id().to_string()]))
        } else {
            // cat ends when its input does, which this process holds.
            spawn(Command::new("systemd-inhibit").args(["--what=sleep:idle", "--who=tanker", &reason, "--mode=block", "cat"]))
        };
        Self(held)
    }
}

fn spawn(command: &mut Command) -> Option<Child> {
    // A Ctrl-C on the terminal is for this process, which may have to go on for a while.
    platform::lead_a_group(command);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

impl Drop for Awake {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.stdin.take());
            // Nothing depends on how it ends.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
