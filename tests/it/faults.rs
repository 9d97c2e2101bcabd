//! What goes wrong on the way to a remote: errors, cuts, a slow line, a tanker that is killed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::{TimeZone, Utc};

use crate::offsite::{MASTER, free_port_of_five, spawn, wait_for};
use crate::upkeep::Shelf;

/// What goes wrong between tanker and a remote, connection by connection.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The server says 503.
    Error,
    /// The line breaks after so many bytes.
    Cut(usize),
    /// Every so many bytes take a tenth of a second.
    Slow(usize),
}

/// A way to a port that has these faults, one a connection, and none after them.
fn faulty(to: u16, faults: Vec<Fault>) -> u16 {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut faults = faults.into_iter();
        for client in listener.incoming() {
            let (mut client, fault) = (client.unwrap(), faults.next());
            std::thread::spawn(move || {
                let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                if let Some(Fault::Error) = fault {
                    let mut head = [0; 4096];
                    let _ = client.read(&mut head);
                    let _ = client.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    return;
                }
                let (mut back, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut answers, &mut back);
                    let _ = back.shutdown(Shutdown::Both);
                });
                let (mut buffer, mut passed) = (vec![0; 16384], 0);
                while let Ok(read @ 1..) = client.read(&mut buffer) {
                    passed += read;
                    match fault {
                        Some(Fault::Cut(after)) if passed > after => break,
                        Some(Fault::Slow(bytes)) => std::thread::sleep(Duration::from_millis((read * 100 / bytes) as u64)),
                        _ => {}
                    }
                    if server.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
            });
        }
    });
    port
}

#[test]
fn i2_errors_cuts_and_a_slow_line_are_outlived_and_a_killed_copy_is_listed_nowhere() {
    let shelf = Shelf::new("");
    // Three parts of a multipart upload.
    let entry = crate::library::add_bytes(&shelf.library(), Utc.with_ymd_and_hms(2026, 11, 20, 2, 0, 0).unwrap(), 40 << 20);
    let (folder, port) = (shelf.path("swift"), free_port_of_five());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remotes/swift");
    let _server = spawn(Command::new(script).arg(&folder).arg(port.to_string()));
    wait_for("Swift", || folder.join("ready").exists());
    let through = |port: u16, place: &str| {
        shelf.inventory(&format!(
            "{MASTER}[remotes.s3]\nurl = 's3://backups/{place}'\nendpoint = 'http://127.0.0.1:{port}'\naccess_key = 'env:S3_KEY'\nsecret_key = 'env:S3_SECRET'\n"
        ));
    };
    let tanker = |args: &[&str]| {
        let mut command = shelf.command(args);
        command.env("S3_KEY", "admin:admin").env("S3_SECRET", "s3cret");
        command
    };
    let run = |args: &[&str]| crate::upkeep::Ran::of(&tanker(args).output().unwrap());
    let faults = [
        vec![Fault::Error, Fault::Error, Fault::Error],
        vec![Fault::Cut(100_000), Fault::Cut(9_000_000), Fault::Cut(1_000), Fault::Cut(200_000)],
        vec![Fault::Slow(400_000), Fault::Error, Fault::Cut(5_000_000)],
    ];
    for (n, faults) in faults.into_iter().enumerate() {
        through(faulty(port, faults.clone()), &format!("place{n}"));
        run(&["copy", "east", "--to", "s3"]).code(0).says("copied");
        through(port, &format!("place{n}"));
        run(&["verify", "--remote", "s3", "--all"]).code(0).says("read back from");
    }
    // Nothing but errors: it ends, says so, and nothing is listed there.
    through(faulty(port, vec![Fault::Cut(10); 500]), "never");
    run(&["copy", "east", "--to", "s3"]).code(1).says("the remote s3");
    through(faulty(port, vec![Fault::Slow(200_000); 500]), "never");
    let mut killed = tanker(&["copy", "east", "--to", "s3"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(killed.try_wait().unwrap().is_none(), "it was still at work");
    killed.kill().unwrap();
    killed.wait().unwrap();
    through(port, "never");
    let listed = run(&["list", "--remote", "s3"]).code(0);
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stdout);
    run(&["sync", "--to", "s3"]).code(0).says("copied");
    run(&["verify", "--remote", "s3", "--all"]).code(0);
    assert_eq!(entry.manifest.archive.bytes, 40 << 20);
}
