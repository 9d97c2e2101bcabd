//! Every command that README, the operator's page and the reference show, run against two real masters in the order in which it stands
//! there. Those of the cookbook are run by `tests/cookbook.sh`, which writes down what they print. `make documents` runs both.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Lab, Ran};
use crate::inputs::{commands_of_the_documents, concrete, words};

/// What ends otherwise than with 0, because of how things are here.
const OTHERWISE: &[(&str, i32, &str)] = &[
    ("--rollback", 3, "no restore of it came to no end"),
    ("backup --resume", 3, "there is nothing to go on with"),
    // Encrypted anew by then, it is another one.
    ("copy east --from vault", 3, "is in the library already"),
];

struct Desk {
    lab: Lab,
    home: PathBuf,
}

impl Desk {
    /// A home with an inventory as README's reader has one by then: both masters, a second place, a key for archives.
    fn of(lab: Lab) -> Self {
        let home = lab.path("home");
        let vault = lab.path("vault");
        for folder in [&home, &vault, &home.join("out")] {
            fs::create_dir_all(folder).unwrap();
        }
        let key = home.join("key.txt");
        assert!(Command::new("age-keygen").arg("-o").arg(&key).status().unwrap().success());
        let text = fs::read_to_string(lab.inventory()).unwrap();
        let more = format!("decrypt_with = ['{}']\nkeep = {{ last = 2 }}\ndrill_on = 'west'\n", key.display());
        let text = text.replace("[defaults]\n", &format!("[defaults]\n{more}"));
        fs::write(home.join("inventory.toml"), format!("{text}\n[remotes.vault]\nurl = 'file://{}'\n", vault.display())).unwrap();
        Self { lab, home }
    }

    fn run(&self, args: &[String]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tanker"));
        command.args(args).current_dir(&self.home).env("HOME", &self.home).stdin(Stdio::null());
        for name in ["SSH_AUTH_SOCK", "TANKER_INVENTORY", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
            command.env_remove(name);
        }
        Ran::of(&command.output().unwrap())
    }

    fn names(&self, more: &[&str]) -> Vec<String> {
        let args: Vec<String> = [&["list", "east", "--json"], more].concat().into_iter().map(str::to_owned).collect();
        let json: serde_json::Value = serde_json::from_str(&self.run(&args).expect_code(0).stdout).unwrap();
        json["backups"].as_array().unwrap().iter().map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What the names in a command stand for here, and what must be there before it.
    fn prepared(&self, command: &str) -> String {
        let today = chrono::Utc::now().format("@%Y-%m-%d").to_string();
        let oldest = || self.names(&[])[0].clone();
        let mut command =
            command.replace("prod-east", "east").replace("'prod-*'", "'e*'").replace("spare", "west").replace("@2026-11-22", &today);
        if command.contains("diff A B") {
            command = command.replace("diff A B", &format!("diff {} east@latest", oldest()));
        }
        if command.contains("undelete") {
            if self.names(&["--trash"]).is_empty() {
                self.run(&words("forget east --keep-last 1 --yes")).expect_code(0);
            }
            command = command.replace("HOST@ID", &self.names(&["--trash"])[0]);
        }
        if command.contains("HOST@ID") {
            command = command.replace("HOST@ID", &oldest());
        }
        // There is no terminal to say it on.
        if command.starts_with("tanker restore") && command.contains('@') && !command.contains("--yes") && !command.contains("--dry-run") {
            command.push_str(" --yes");
        }
        if command.contains("fuel_backup_") {
            let made = self.lab.lab(&["exec", "west", "/var/lab/bin/dockerctl-stock", "backup"]).expect_code(0).stdout;
            let bytes = self.lab.output(&["exec", "west", "cat", made.trim().lines().last().unwrap()]).stdout;
            fs::write(self.home.join("fuel_backup.tar.lrz"), bytes).unwrap();
        }
        if command.contains("rekey") {
            let inventory = self.home.join("inventory.toml");
            let key = fs::read_to_string(self.home.join("key.txt")).unwrap();
            let public = key.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
            let text = fs::read_to_string(&inventory).unwrap();
            if !text.contains("encrypt_to") {
                fs::write(&inventory, text.replace("[defaults]\n", &format!("[defaults]\nencrypt_to = ['{public}']\n"))).unwrap();
            }
        }
        if command.contains("--no-spool") {
            // That can't be encrypted.
            let inventory = self.home.join("inventory.toml");
            let text = fs::read_to_string(&inventory).unwrap();
            let plain: String = text.lines().filter(|line| !line.starts_with("encrypt_to")).map(|line| format!("{line}\n")).collect();
            fs::write(&inventory, plain).unwrap();
        }
        let library = fs::read_to_string(self.lab.inventory()).unwrap();
        let library = library.lines().find_map(|line| line.strip_prefix("library = ")).unwrap().trim_matches('"');
        concrete(&command)
            .replace("--library DIR", &format!("--library {library}"))
            .replace("--to DIR", "--to out")
            .replace("--host NAME", "--host of-old")
            .replace("/var/lib/node_exporter/", "")
    }
}

#[test]
#[ignore = "a quarter of an hour: make documents"]
fn every_command_of_the_documents_runs() {
    let desk = Desk::of(Lab::of("documents", &[("east", &["--fuel", "5.1"]), ("west", &["--fuel", "8.0"])]));
    let (mut seen, mut failed): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let commands = commands_of_the_documents().into_iter().filter(|(document, _)| document != "docs/cookbook.md");
    for (document, command) in commands {
        if seen.contains(&command) {
            continue;
        }
        let args = words(&desk.prepared(&command)).split_off(1);
        let (code, sentence) = OTHERWISE.iter().find(|(part, ..)| command.contains(part)).map_or((0, ""), |(_, code, says)| (*code, says));
        let ran = desk.run(&args);
        let shown = format!("{document}: `{command}` as {args:?}\n{}\n{}", ran.stdout, ran.stderr);
        if ran.code != Some(code) || !(ran.stdout.clone() + &ran.stderr).contains(sentence) {
            failed.push(format!("{:?} {shown}", ran.code));
        }
        seen.push(command);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(seen.len() > 50, "only {} commands were run", seen.len());
}
