//! What is seen while work goes on: bars on a terminal, lines where there is none, nothing where that is asked for.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use tanker::model::id::HostName;
use tanker::monitor::{Event, Step};
use tanker::ui;

use crate::upkeep::Shelf;

/// What the program prints where it believes to have a terminal of this kind.
fn on_a_terminal(shelf: &Shelf, environment: &[(&str, &str)], args: &str) -> String {
    let mut script = terminal(shelf.home.path(), &format!("{} {args}", env!("CARGO_BIN_EXE_tanker")));
    String::from_utf8(script.envs(environment.iter().copied()).output().unwrap().stdout).unwrap()
}

fn on_a_terminal_of(rows: u16, shelf: &Shelf, args: &str) -> String {
    let command = format!("stty rows {rows} cols 100; exec {} {args}", env!("CARGO_BIN_EXE_tanker"));
    String::from_utf8(terminal(shelf.home.path(), &command).output().unwrap().stdout).unwrap()
}

/// A shell command on a terminal of its own.
fn terminal(home: &Path, command: &str) -> Command {
    let mut script = Command::new("script");
    script.args(["-qec", command, "/dev/null"]).current_dir(home).env("HOME", home).env("TERM", "xterm");
    for name in ["NO_COLOR", "CI", "TANKER_INVENTORY", "XDG_STATE_HOME"] {
        script.env_remove(name);
    }
    script
}

/// How long the play below stays at what is to be looked at.
const A_WHILE: Duration = Duration::from_millis(1200);

#[test]
#[ignore = "played on a terminal by `PLAYED`"]
fn play() {
    let host: HostName = "east".parse().unwrap();
    let monitor = ui::monitor(std::slice::from_ref(&host), ui::Show::Progress(0));
    monitor.event(&host, Event::Step(Step::Preflight));
    std::thread::sleep(A_WHILE);
    ui::out("the plan\n");
    let answer = ui::confirm_name("east");
    ui::out(&format!("answered {answer:?}\n"));
    monitor.event(&host, Event::Part { done: 1, total: 2, what: "long ".repeat(60) });
    std::thread::sleep(A_WHILE * 2);
    monitor.event(&host, Event::Frozen);
    std::thread::sleep(A_WHILE * 2);
    monitor.event(&host, Event::Thawed(A_WHILE));
}

/// What a terminal of 100 columns, and of 40 once the question is answered, got to see of the play.
static PLAYED: LazyLock<String> = LazyLock::new(|| {
    let home = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let command = format!("stty rows 24 cols 100; tty > tty; exec {} --exact watching::play --ignored --nocapture", this.display());
    let mut script = terminal(home.path(), &command);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut until = |words: &str| {
        let mut byte = [0];
        while !String::from_utf8_lossy(&seen).contains(words) {
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "'{words}' never came: {:?}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
    };
    until("(east): ");
    std::thread::sleep(A_WHILE);
    keyboard.write_all(b"east\n").unwrap();
    until("answered");
    std::thread::sleep(A_WHILE);
    let tty = std::fs::read_to_string(home.path().join("tty")).unwrap();
    assert!(Command::new("stty").args(["-F", tty.trim(), "cols", "40"]).status().unwrap().success());
    screen.read_to_end(&mut seen).unwrap();
    assert!(child.wait().unwrap().success());
    String::from_utf8(seen).unwrap()
});

/// What was drawn over a line, each time, as wide as it is seen.
fn drawn(text: &str) -> Vec<String> {
    let plain = |line: &str| {
        let mut parts = line.split("\u{1b}[");
        let first = parts.next().unwrap_or_default().to_owned();
        first
            + &parts
                .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').get(1..).unwrap_or_default())
                .collect::<String>()
    };
    let lines = text.split("\r\u{1b}[2K").skip(1);
    lines.map(|line| plain(line).split(['\r', '\n']).next().unwrap_or_default().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_question_stays_on_the_screen_until_it_is_answered() {
    let (before, after) = PLAYED.split_once("Type the name of the host to go on (east): ").unwrap();
    assert!(before.contains("preflight") && before.contains("\r\u{1b}[2Kthe plan\r\n") && before.ends_with("\r\u{1b}[2K"), "{before:?}");
    // What comes first behind it is what was typed: nothing was drawn meanwhile.
    assert!(after.starts_with("east\r\n"), "{after:?}");
    assert!(after.contains("answered Some(true)\r\n"), "{after:?}");
    assert!(drawn(after).iter().any(|line| line.contains("1 of 2: long")), "the bar never came back: {after:?}");
}

#[test]
fn bars_fit_a_terminal_that_became_narrow() {
    let (_, after) = PLAYED.split_once("answered").unwrap();
    let widths: Vec<usize> = drawn(after).iter().filter(|line| line.contains("1 of 2")).map(|line| line.chars().count()).collect();
    let narrow = widths.iter().position(|width| *width == 40).unwrap_or_else(|| panic!("never narrow: {widths:?} {after:?}"));
    assert!(narrow > 0 && widths[..narrow].iter().all(|width| *width == 100), "{widths:?}");
    assert!(widths[narrow..].iter().all(|width| *width == 40), "{widths:?}");
}

#[test]
fn a_freeze_is_a_running_clock_in_its_own_colour() {
    for second in 0..2 {
        let clock = format!("\u{1b}[31m\u{1b}[1m00:00:0{second}\u{1b}[0m FROZEN ");
        assert!(PLAYED.contains(&clock), "{clock:?} is not in {:?}", *PLAYED);
    }
    let (_, after) = PLAYED.split_once("[east] thawed after 1.2 s\r\n").unwrap();
    assert!(!after.contains("FROZEN"), "{after:?}");
}

/// Escapes that set a colour, or make text bold or dim.
fn has_colour(text: &str) -> bool {
    text.split("\u{1b}[").skip(1).any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
}

#[test]
fn bars_belong_to_a_terminal_that_can_draw_and_colours_to_whom_they_are_welcome() {
    let shelf = Shelf::new("[defaults]\nssh_config = 'none'\nknown_hosts = 'none_yet'\n[hosts.east]\naddress = '127.0.0.1'\nport = 1\n");
    let bars = on_a_terminal(&shelf, &[], "hosts check");
    assert!(bars.contains("\u{1b}[2K") && has_colour(&bars), "{bars:?}");
    let plain = on_a_terminal(&shelf, &[("NO_COLOR", "1")], "hosts check");
    assert!(plain.contains("\u{1b}[2K") && !has_colour(&plain), "{plain:?}");
    // What can't draw gets lines, as a log does.
    let ways: [(&[(&str, &str)], &str); 3] =
        [(&[("TERM", "dumb")], "hosts check"), (&[("CI", "true")], "hosts check"), (&[], "-v hosts check")];
    let unknown = terminal(shelf.home.path(), &format!("env -u TERM {} hosts check", env!("CARGO_BIN_EXE_tanker"))).output().unwrap();
    let unknown = String::from_utf8(unknown.stdout).unwrap();
    for lines in ways.map(|(environment, args)| on_a_terminal(&shelf, environment, args)).into_iter().chain([unknown]) {
        assert!(lines.contains("[east] connect") && !lines.contains('\u{1b}'), "{lines:?}");
    }
    let quiet = on_a_terminal(&shelf, &[], "-q hosts check");
    assert!(quiet.starts_with("east  unreachable") && !quiet.contains('\u{1b}'), "{quiet:?}");

    let ran = shelf.tanker(&["hosts", "check"]).code(4);
    assert!(ran.stderr.contains("[east] connect") && !ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
    assert_eq!(shelf.tanker(&["-q", "hosts", "check"]).code(4).stderr, "");
    assert!(shelf.tanker(&["-vv", "hosts", "check"]).code(4).stderr.contains("[east] connect"));
    shelf.tanker(&["-q", "-v", "hosts", "check"]).code(2);
}

#[test]
fn more_masters_than_fit_are_counted() {
    // Nobody ever says anything there.
    let silent = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let hosts: String =
        (1..=25).map(|n| format!("[hosts.m{n:02}]\naddress = '127.0.0.{n}'\nport = {port}\nconnect_timeout = 3\n")).collect();
    let shelf = Shelf::new(&format!("[defaults]\nssh_config = 'none'\n{hosts}"));
    let shown = on_a_terminal_of(30, &shelf, "hosts check --forks 25");
    assert!(shown.contains("0 of 25 done, 5 more at work") && shown.contains("24 of 25 done"), "{shown:?}");
    // On a small screen the line that counts stays on it.
    let small = on_a_terminal_of(12, &shelf, "hosts check --forks 25");
    assert!(small.contains("0 of 25 done, 15 more at work"), "{small:?}");
    assert_eq!(shown.matches("  unreachable  ").count(), 25, "{shown:?}");
}

#[test]
fn a_question_that_nobody_would_see_is_not_asked() {
    let shelf = Shelf::new("[hosts.east]\n");
    let entry = shelf.add(crate::upkeep::day(), None);
    std::fs::write(entry.folder.join("record.json"), "{").unwrap();
    let command = format!("{} protect --renew east@latest 2>err; echo code $?", env!("CARGO_BIN_EXE_tanker"));
    let shown = String::from_utf8(terminal(shelf.home.path(), &command).output().unwrap().stdout).unwrap();
    assert!(shown.contains("code 3"), "{shown:?}");
    assert!(std::fs::read_to_string(shelf.path("err")).unwrap().contains("not confirmed"));
}

#[test]
fn work_on_this_machine_is_told_in_lines_where_that_is_asked_for() {
    let shelf = Shelf::new("[hosts.east]\n");
    shelf.add(crate::upkeep::day(), None);
    let told = |args: &[&str]| shelf.tanker(&[args, &["verify", "--all"]].concat()).code(0).stderr;
    let lines = told(&["-v"]);
    assert!(lines.starts_with("verify: ") && lines.contains("verify: 50 %\n") && lines.trim_end().ends_with(" s"), "{lines}");
    assert_eq!(told(&[]), "");
    assert!(on_a_terminal(&shelf, &[], "-v verify --all").contains("verify: 50 %"));
}
