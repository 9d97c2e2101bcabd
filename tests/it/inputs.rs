//! What a person types and writes: the command line, the inventory, the example that documents it.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::{CommandFactory, Parser};
use tanker::cli::Cli;
use tanker::model::inventory::parse_inventory;

fn tanker(args: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_tanker"))
        .args(args)
        .current_dir(home.path())
        .env("HOME", home.path())
        .env_remove("TANKER_INVENTORY")
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The keys that the parser knows in a table: what it lists where one resembles none of them.
fn keys_of(table: &str) -> Vec<String> {
    let said = parse_inventory("i", table).unwrap_err().to_string();
    let (_, keys) = said.split_once("unknown key 'qqqqqqqqqqqq'; there are: ").unwrap_or_else(|| panic!("{said}"));
    keys.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_example_inventory_parses_and_names_every_key() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("inventory.example.toml")).unwrap();
    let inventory = parse_inventory("inventory.example.toml", &text).unwrap();
    assert!(inventory.hosts.len() >= 2);
    let (masters, remotes) = text.split_at(text.find("\n[remotes.").unwrap());
    let shown = |part: &str, key: &str| part.lines().any(|line| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} =")));
    let (defaults, host) = (keys_of("[defaults]\nqqqqqqqqqqqq = 1\n"), keys_of("[hosts.a]\nqqqqqqqqqqqq = 1\n"));
    let remote = keys_of("[remotes.a]\nurl = 'file:///x'\nqqqqqqqqqqqq = 1\n");
    assert!(defaults.len() > 25 && host.len() > 25 && remote.len() > 8, "{defaults:?} {host:?} {remote:?}");
    for key in defaults.iter().chain(&host) {
        assert!(shown(masters, key), "inventory.example.toml doesn't show '{key}'");
    }
    for key in &remote {
        assert!(shown(remotes, key), "inventory.example.toml doesn't show '{key}' of a remote");
    }
    // Within `keep` each stands in the sentence above it.
    let keep: String = masters.lines().filter(|line| line.contains("keep")).collect();
    for key in keys_of("[defaults.keep]\nqqqqqqqqqqqq = 1\n") {
        assert!(keep.contains(&key), "inventory.example.toml doesn't show '{key}' of keep");
    }
    for table in keys_of("[qqqqqqqqqqqq]\n") {
        assert!(text.contains(&format!("\n[{table}")), "inventory.example.toml doesn't show [{table}]");
    }
}

#[test]
fn every_verb_shows_itself_in_use() {
    let mut command = Cli::command();
    command.build();
    let (mut verbs, mut seen): (Vec<clap::Command>, _) = (command.get_subcommands().cloned().collect(), 0);
    while let Some(verb) = verbs.pop() {
        if verb.get_name() == "help" {
            continue;
        }
        if verb.has_subcommands() {
            verbs.extend(verb.get_subcommands().cloned());
            continue;
        }
        let name = verb.get_bin_name().unwrap().to_owned();
        let examples = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let own = |line: &str| line.strip_prefix("  ").is_some_and(|line| line == name || line.starts_with(&format!("{name} ")));
        assert!(examples.starts_with("Examples:\n") && examples.lines().skip(1).all(own), "{name}: {examples}");
        seen += 1;
    }
    assert!(seen > 30, "only {seen} verbs were seen");
}

#[test]
fn the_command_line_reference_is_what_the_program_says() {
    let mut reference = String::new();
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut section = |title: &str, help: String| {
        let trimmed: Vec<&str> = help.lines().map(str::trim_end).collect();
        reference.push_str(&format!("## {title}\n\n```text\n{}\n```\n\n", trimmed.join("\n").trim_end()));
    };
    section("tanker", command.clone().render_help().to_string());
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        section(&format!("tanker {}", verb.get_name()), verb.clone().render_help().to_string());
        for below in verb.get_subcommands().filter(|below| below.get_name() != "help") {
            section(&format!("tanker {} {}", verb.get_name(), below.get_name()), below.clone().render_help().to_string());
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let marker = "<!-- below this line the text is generated: UPDATE_DOCS=1 cargo test reference -->\n\n";
    let (own, generated) = document.split_once(marker).expect("docs/cli.md has lost its marker");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{own}{marker}{reference}")).unwrap();
    } else {
        assert!(generated == reference, "docs/cli.md is out of date: UPDATE_DOCS=1 cargo test reference");
    }
}

#[test]
fn bad_input_gets_one_clear_sentence_and_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let inventory = folder.path().join("bad.toml");
    std::fs::write(&inventory, "[hosts.a]\naddress = 'x'\nprot = 22\n").unwrap();
    let (nowhere, drills) = (folder.path().join("nowhere.toml"), folder.path().join("drills.toml"));
    std::fs::write(&nowhere, "[hosts.spare]\naddress = 'x'\n[defaults]\ndrill_on = 'sparse'\n").unwrap();
    std::fs::write(&drills, "[hosts.b]\naddress = 'x'\n").unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["check"], "there is no inventory"),
        (&["-i", "/nowhere.toml", "check"], "/nowhere.toml can't be read"),
        (&["-i", inventory.to_str().unwrap(), "check"], "bad.toml:3: unknown key 'prot' (did you mean 'port'?)"),
        (&["--library", "/nowhere", "verify", "--all"], "there is no library at /nowhere"),
        (&["-i", nowhere.to_str().unwrap(), "check"], "nowhere.toml:4: drill_on names 'sparse', which is no host (did you mean 'spare'?)"),
        (&["-i", drills.to_str().unwrap(), "drill", "b@latest"], "say where to drill it: '--on HOST', or 'drill_on' of b"),
        (&["show", "east"], "HOST@ID"),
        (&["verify"], "required"),
        (&["backup", "--forks", "0"], "0 is not in 1.."),
    ];
    for (args, sentence) in cases {
        let output = tanker(args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(sentence), "{args:?} said: {said}");
        assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{args:?} said: {said}");
    }
}

#[test]
fn i5_a_host_whose_key_is_not_there_is_refused_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let inventory = folder.path().join("inventory.toml");
    std::fs::write(&inventory, "[hosts.a]\naddress='127.0.0.1'\nport=1\nidentity=['/no/key']\n[hosts.b]\naddress='127.0.0.1'\nport=2\n")
        .unwrap();
    let output = tanker(&["-i", &inventory.display().to_string(), "hosts", "check"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("a  refused      the identity /no/key can't be read") && text.contains("b  unreachable"), "{text}");
    // Where nobody else is left, nothing was begun at all.
    assert_eq!(tanker(&["-i", &inventory.display().to_string(), "hosts", "check", "a"]).status.code(), Some(2));
}

#[test]
fn an_unknown_host_is_refused_with_what_was_probably_meant() {
    let folder = tempfile::tempdir().unwrap();
    let inventory = folder.path().join("inventory.toml");
    std::fs::write(&inventory, "[hosts.east]\naddress = '127.0.0.1'\n").unwrap();
    let output = tanker(&["-i", inventory.to_str().unwrap(), "check", "eats"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean 'east'?"), "{}", stderr(&output));
}

#[test]
fn a_host_that_nobody_answers_at_is_unreachable_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let inventory = folder.path().join("inventory.toml");
    // Nothing listens on port 1 of the loopback.
    std::fs::write(&inventory, "[hosts.ghost]\naddress = '127.0.0.1'\nport = 1\n").unwrap();
    let output = tanker(&["-i", inventory.to_str().unwrap(), "backup"]);
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("ghost") && said.contains("127.0.0.1:1 can't be reached"), "{said}");
}

#[test]
fn output_that_does_not_fit_where_it_goes_is_a_failure() {
    let library = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tanker"));
    let output = command.arg("--library").arg(library.path()).arg("list").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the output can't be written"), "{}", stderr(&output));
}

#[test]
fn i6_a_secret_is_hidden_before_it_is_asked_for_and_ctrl_c_gives_the_terminal_back() {
    let home = tempfile::tempdir().unwrap();
    let inventory = home.path().join("inventory.toml");
    std::fs::write(&inventory, "[hosts.m]\naddress = '127.0.0.1'\nport = 1\n").unwrap();
    let line = format!("{} -i {} hosts check --ask-pass; echo code $?; stty -a", env!("CARGO_BIN_EXE_tanker"), inventory.display());
    for (typed, code) in [("s3cret\n", 4), ("s3cr\u{7f}\u{3}", 130)] {
        let mut child = Command::new("script")
            .args(["-qc", &line, "/dev/null"])
            .env("HOME", home.path())
            .env("SHELL", "/bin/bash")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut shown, mut byte) = (Vec::new(), [0]);
        let mut terminal = child.stdout.take().unwrap();
        while !shown.ends_with(b"SSH password: ") {
            assert_eq!(terminal.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
            shown.push(byte[0]);
        }
        child.stdin.as_ref().unwrap().write_all(typed.as_bytes()).unwrap();
        terminal.read_to_end(&mut shown).unwrap();
        child.wait().unwrap();
        let shown = String::from_utf8_lossy(&shown);
        assert!(shown.contains(&format!("code {code}")), "{shown}");
        assert!(shown.contains(" echo ") && !shown.contains("-isig") && !shown.contains("s3c"), "{shown}");
    }
}

/// Words as a shell splits them, up to a comment, a pipe or the next command.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut found, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => (quote, begun) = (Some(c), true),
            (None, '#') if !begun => break,
            (None, '|' | '&' | ';' | '>') if !begun => break,
            (None, ' ') => {
                if begun {
                    found.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        found.push(word);
    }
    found
}

/// The command of a line of a systemd unit (`ExecStart=-…`) or of a crontab (five fields of time); of another line the line itself.
fn begun_by_a_machine(line: &str) -> &str {
    if let Some((key, command)) = line.split_once('=')
        && key.starts_with("Exec")
        && key.chars().all(|c| c.is_ascii_alphabetic())
    {
        return command.trim_start_matches(['-', '+', '!', ':', '@']);
    }
    let fields: Vec<&str> = line.splitn(6, ' ').collect();
    let is_time = |field: &&str| !field.is_empty() && field.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c));
    if fields.len() == 6 && fields[..5].iter().all(is_time) { fields[5] } else { line }
}

/// `/usr/bin/tanker` is tanker too.
fn without_its_folder(command: &str) -> &str {
    let (program, _) = command.split_once(' ').unwrap_or((command, ""));
    let folder = program.rfind('/').map_or(0, |slash| slash + 1);
    if program.starts_with('/') { &command[folder..] } else { command }
}

#[test]
fn a_command_that_a_unit_or_a_crontab_begins_is_found_in_its_line() {
    for line in
        ["ExecStart=/usr/bin/tanker report", "ExecStopPost=-/usr/bin/tanker report", "0 2 * * 1-5 /usr/bin/tanker report", "tanker report"]
    {
        assert_eq!(without_its_folder(begun_by_a_machine(line)), "tanker report", "{line}");
    }
    assert_eq!(begun_by_a_machine("OnCalendar=*-*-* 02:00"), "OnCalendar=*-*-* 02:00");
}

/// Every command line of tanker's that the documents show, and where. What is only named (`tanker import`) is none.
pub(crate) fn commands_of_the_documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents: Vec<_> = std::fs::read_dir(root.join("docs")).unwrap().map(|file| file.unwrap().path()).collect();
    documents.sort();
    documents.insert(0, root.join("README.md"));
    let mut found = Vec::new();
    for document in documents.iter().filter(|path| path.extension().is_some_and(|ending| ending == "md")) {
        let text = std::fs::read_to_string(document).unwrap();
        let (mut blocks, mut prose) = (Vec::new(), String::new());
        for (n, part) in text.split("```").enumerate() {
            if n % 2 == 1 { blocks.extend(part.lines()) } else { prose.push_str(part) }
        }
        // Where a line of a help text goes on is what it explains.
        let lines = blocks.iter().map(|line| begun_by_a_machine(line.trim().trim_start_matches("$ ")));
        let lines = lines.map(|line| line.split("  ").next().unwrap().to_owned());
        let prose = prose.replace('\n', " ");
        let inline = prose.split('`').skip(1).step_by(2).map(|quoted| begun_by_a_machine(quoted).to_owned());
        let name = document.strip_prefix(root).unwrap().display().to_string();
        for line in lines.chain(inline) {
            let commands = line.split("; ").flat_map(|part| part.split(" && ")).flat_map(|part| part.split(" || "));
            for command in commands.map(without_its_folder).filter(|line| line.starts_with("tanker ")) {
                let named_only = match Cli::try_parse_from(words(&concrete(command))) {
                    Ok(_) => false,
                    Err(e) => {
                        use clap::error::ErrorKind::{
                            DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand as NoVerb, DisplayVersion, MissingRequiredArgument,
                        };
                        let few = matches!(e.kind(), MissingRequiredArgument | NoVerb) && words(command).len() <= 3;
                        assert!(few || matches!(e.kind(), DisplayHelp | DisplayVersion), "{name}: `{command}`: {e}");
                        true
                    }
                };
                if !named_only {
                    found.push((name.clone(), command.trim().to_owned()));
                }
            }
        }
    }
    found
}

/// A command with names instead of what stands for them.
pub(crate) fn concrete(command: &str) -> String {
    command
        .replace("HOST@ID", "east@2026-11-22-14_07")
        .replace("HOST", "east")
        .replace("MACHINE", "west")
        .replace("REMOTE", "vault")
        .replace("--remote NAME", "--remote vault")
        .replace("diff A B", "diff east@2026-11-21 east@latest")
        .replace("fuel_backup_….tar.lrz", "fuel_backup.tar.lrz")
        .replace("fuel_backup_2026-11-22_1407.tar.lrz", "fuel_backup.tar.lrz")
}

#[test]
fn every_command_of_the_documents_is_one_that_the_program_takes() {
    let seen = commands_of_the_documents();
    assert!(seen.len() > 80, "only {} commands were found", seen.len());
}

#[test]
fn the_inventories_of_the_documents_are_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for document in ["README.md", "docs/operations.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            parse_inventory(document, block).unwrap_or_else(|e| panic!("{e}"));
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn an_option_that_would_do_nothing_is_not_taken() {
    let takes = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
    for verb in ["check", "status", "thaw", "clean", "hosts check"] {
        assert!(takes(&format!("tanker {verb} east")), "{verb}");
        for option in ["--bwlimit 1M", "--bwlimit-all 1M"] {
            assert!(!takes(&format!("tanker {verb} {option} east")), "{verb} {option} moves no archive");
        }
    }
    assert!(takes("tanker backup --bwlimit 1M --bwlimit-all 2M") && takes("tanker drill east@latest --on west --bwlimit 1M"));
    for way in ["--rollback", "--resume"] {
        assert!(takes(&format!("tanker restore --to east {way}")));
        assert!(takes(&format!("tanker restore --to east {way} --dry-run")));
        for option in ["--from vault", "--ignore-tasks", "--bwlimit 1M", "--only config"] {
            assert!(!takes(&format!("tanker restore --to east {way} {option}")), "{way} {option}");
        }
    }
    assert!(takes("tanker verify --all --jobs 2") && !takes("tanker verify --all --remote vault --jobs 2"));
    assert!(takes("tanker protect east@latest --renew --yes") && !takes("tanker protect east@latest --yes"));
}
