//! What is seen while work goes on: bars on a terminal, lines where there is none, nothing where that is asked for.

use std::net::TcpListener;
use std::process::Command;

use crate::upkeep::Shelf;

/// What the program prints where it believes to have a terminal of this kind.
fn on_a_terminal(shelf: &Shelf, environment: &[(&str, &str)], args: &str) -> String {
    let command = format!("{} {args}", env!("CARGO_BIN_EXE_tanker"));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).current_dir(shelf.home.path()).env("HOME", shelf.home.path()).env("TERM", "xterm");
    script.env_remove("NO_COLOR").env_remove("TANKER_INVENTORY").env_remove("XDG_STATE_HOME").envs(environment.iter().copied());
    String::from_utf8(script.output().unwrap().stdout).unwrap()
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
    for lines in [on_a_terminal(&shelf, &[("TERM", "dumb")], "hosts check"), on_a_terminal(&shelf, &[], "-v hosts check")] {
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
    let shown = on_a_terminal(&shelf, &[], "hosts check --forks 25");
    assert!(shown.contains("0 of 25 done, 5 more at work"), "{shown:?}");
    assert_eq!(shown.matches("  unreachable  ").count(), 25, "{shown:?}");
}
