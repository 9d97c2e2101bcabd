//! End to end: the real program against real masters of the lab. Each test has a lab of its own, with its own network, and
//! removes it whatever happens.

mod by_hand;
mod chaos;
mod documents;
mod fleet;
mod freeze;
mod home;
mod journey;
mod no_spool;
mod reach;
mod refusals;
mod restore;
mod sealed;
mod servers;
mod stock;
mod transfer;
mod users;
mod versions;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A lab with one master in it, `m`.
pub struct Lab {
    instance: String,
    folder: tempfile::TempDir,
}

pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Holds the exit code; prints everything where it is another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.stdout.contains(words), "'{words}' is not in:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl Lab {
    pub fn up(instance: &str, release: &str) -> Self {
        Self::up_with(instance, &["--fuel", release])
    }

    pub fn up_with(instance: &str, options: &[&str]) -> Self {
        Self::of(instance, &[("m", options)])
    }

    /// A lab of several masters, each with its name and options.
    pub fn of(instance: &str, masters: &[(&str, &[&str])]) -> Self {
        let lab = Self { instance: format!("it-{instance}"), folder: tempfile::tempdir().unwrap() };
        lab.lab(&["down"]).expect_code(0);
        for (name, options) in masters {
            lab.lab(&[&["up", name], *options].concat()).expect_code(0);
        }
        lab
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn lab(&self, args: &[&str]) -> Ran {
        Ran::of(&self.output(args))
    }

    /// The same, as bytes.
    pub fn output(&self, args: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab");
        Command::new(program).args(args).env("TANKER_LAB", &self.instance).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a shell script in the master, out of band.
    pub fn sh(&self, script: &str) -> Ran {
        self.lab(&["exec", "m", "bash", "-c", script])
    }

    /// What a shell script in the master prints; it must end with code 0.
    #[track_caller]
    pub fn ask(&self, script: &str) -> String {
        self.sh(script).expect_code(0).stdout.trim().to_owned()
    }

    /// One more sshd at the master, which listens when this is back: sshd goes into the background a moment before it does.
    #[track_caller]
    pub fn sshd(&self, port: u16, options: &str) {
        self.ask(&format!(
            "/usr/sbin/sshd -p {port} -o PidFile=none {options} || exit; until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.1; done"
        ));
    }

    pub fn sql(&self, statement: &str) -> String {
        let psql = "/usr/lib/postgresql/15/bin/psql -h /var/run/postgresql -U postgres -qtA -v ON_ERROR_STOP=1 nailgun";
        self.ask(&format!(
            "/usr/bin/docker exec $(/usr/bin/docker ps --format '{{{{.Names}}}}' | grep -- -postgres$) {psql} -c \"{statement}\""
        ))
    }

    pub fn inventory(&self) -> PathBuf {
        PathBuf::from(self.lab(&["inventory"]).expect_code(0).stdout.trim())
    }

    pub fn address(&self) -> String {
        let text = std::fs::read_to_string(self.inventory()).unwrap();
        text.lines().rev().find_map(|line| line.strip_prefix("address = ")).unwrap().trim_matches('"').to_owned()
    }

    /// Where the runs' logs lie.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The lab's inventory with a line more in its defaults.
    pub fn inventory_with(&self, line: &str) -> PathBuf {
        let text = std::fs::read_to_string(self.inventory()).unwrap().replace("[defaults]\n", &format!("[defaults]\n{line}\n"));
        let path = self.path("inventory.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self, inventory: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tanker"));
        command
            .arg("-i")
            .arg(inventory)
            .args(args)
            .env_remove("SSH_AUTH_SOCK")
            .env("XDG_STATE_HOME", self.state())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn tanker(&self, args: &[&str]) -> Ran {
        self.tanker_with(&self.inventory(), args)
    }

    pub fn tanker_with(&self, inventory: &Path, args: &[&str]) -> Ran {
        let ran = Ran::of(&self.command(inventory, args).output().unwrap());
        crate::schema::hold(args, &ran.stdout);
        ran
    }

    /// Runs it on a terminal, where each question gets its answer; what was shown, and the exit code.
    pub fn typed(&self, inventory: &Path, args: &[&str], answers: &[(&str, &str)]) -> (String, i32) {
        let line = format!("{} -i {} {}; echo code $?.", env!("CARGO_BIN_EXE_tanker"), inventory.display(), args.join(" "));
        let mut child = Command::new("script")
            .args(["-qc", &line, "/dev/null"])
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("CI")
            .env("TERM", "xterm")
            .env("XDG_STATE_HOME", self.state())
            .env("SHELL", "/bin/bash")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut shown, mut byte, mut from) = (Vec::new(), [0], 0);
        let (mut terminal, mut keyboard) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        for (question, answer) in answers {
            while !String::from_utf8_lossy(&shown[from..]).contains(question) {
                assert_eq!(terminal.read(&mut byte).unwrap(), 1, "'{question}' is not in:\n{}", String::from_utf8_lossy(&shown));
                shown.push(byte[0]);
            }
            from = shown.len();
            keyboard.write_all(answer.as_bytes()).unwrap();
        }
        terminal.read_to_end(&mut shown).unwrap();
        child.wait().unwrap();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let code = shown.rsplit("code ").next().and_then(|rest| rest.split('.').next()?.parse().ok()).expect("it says how it ended");
        (shown, code)
    }

    /// Names of the containers that are paused now.
    pub fn paused(&self) -> Vec<String> {
        self.ask("/usr/bin/docker ps --filter status=paused --format '{{.Names}}'").lines().map(str::to_owned).collect()
    }

    /// What a refused run must leave as it was: containers and their start times, images, the spool.
    pub fn snapshot(&self) -> String {
        self.ask(
            "/usr/bin/docker inspect -f '{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Status}}' $(/usr/bin/docker ps -aq) | sort
             /usr/bin/docker images --no-trunc | awk '{ print $1, $2, $3 }' | sort
             find /var/backup/fuel -printf '%p %s %T@ %m\\n' | sort
             find / -xdev -name '.tanker*'",
        )
    }

    /// What tanker makes on a master and must not leave there, but for a list of images that may still come.
    #[track_caller]
    pub fn assert_clean(&self) {
        let left = self.ask("find /var/backup/fuel -mindepth 1 ! -path /var/backup/fuel/tanker ! -path /var/backup/fuel/tanker/orphans; find / /var -xdev -name '.tanker*'; /usr/bin/docker images | grep -E '_[0-9]{4}-[0-9]{2}-[0-9]{2}_|_before_' || echo none");
        assert_eq!(left, "none", "tanker left something on the master");
    }

    /// Puts a script in front of one docker verb, for a fault; `heal` takes it away.
    pub fn break_docker(&self, verb: &str, script: &str) {
        self.ask(&format!(
            "rm -f /var/lab/bin/docker; printf '%s\\n' '#!/bin/bash' 'if [ \"$1\" = {verb} ]; then {script}; fi' 'exec /var/lab/bin/docker-played-old \"$@\"' > /var/lab/bin/docker; chmod 755 /var/lab/bin/docker"
        ));
    }

    pub fn heal(&self) {
        self.ask("ln -sfn docker-played-old /var/lab/bin/docker; ln -sfn dockerctl-of-the-lab /var/lab/bin/dockerctl");
    }

    pub fn listed(&self) -> usize {
        let json: serde_json::Value = serde_json::from_str(&self.tanker(&["list", "--json"]).expect_code(0).stdout).unwrap();
        assert_eq!(json["problems"].as_array().unwrap().len(), 0, "{json:#}");
        json["backups"].as_array().unwrap().len()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}",
                self.sh("tail -n 20 /var/backup/fuel/tanker/*/{events,log} 2>/dev/null; tail -n 5 /var/log/lab-boot.log").stdout
            );
        }
        self.lab(&["down"]);
    }
}

/// Waits until it holds; fails after this long.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "waited {} s in vain: {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(150));
    }
    began.elapsed()
}

/// Not captured by the test runner: how much ran is worth knowing also where nothing failed.
pub fn tell(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("chaos: {text}\n").as_bytes());
}

pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}

pub fn end(child: Child) -> Ran {
    Ran::of(&child.wait_with_output().unwrap())
}
