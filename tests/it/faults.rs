//! What goes wrong on the way to a remote: errors, cuts, a slow line, a tanker that is killed.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{TimeZone, Utc};

use crate::offsite::{MASTER, free_port_of_five, spawn, wait_for};
use crate::upkeep::{Ran, Shelf};

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
    counted(to, Arc::new(Mutex::new(faults.into())), Arc::default())
}

/// The same, with faults that may change, and how many bytes have been sent that way.
fn counted(to: u16, faults: Arc<Mutex<VecDeque<Fault>>>, sent: Arc<AtomicU64>) -> u16 {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, fault, sent) = (client.unwrap(), faults.lock().unwrap().pop_front(), Arc::clone(&sent));
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
                    sent.fetch_add(read as u64, Ordering::Relaxed);
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
    // An inventory that leads to a place there, by a way.
    let through = |port: u16, place: &str| {
        let name = format!("{place}-{port}.toml");
        let text = format!(
            "{MASTER}[remotes.s3]\nurl = 's3://backups/{place}'\nendpoint = 'http://127.0.0.1:{port}'\naccess_key = 'env:S3_KEY'\nsecret_key = 'env:S3_SECRET'\n"
        );
        std::fs::write(shelf.path(&name), text).unwrap();
        name
    };
    let tanker = |inventory: &str, args: &[&str]| {
        let mut command = shelf.command(&[&["-i", inventory], args].concat());
        command.env("S3_KEY", "admin:admin").env("S3_SECRET", "s3cret").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let run = |inventory: &str, args: &[&str]| Ran::of(&tanker(inventory, args).output().unwrap());
    // Both take long, and wait most of the time. A part takes longer on a slow line than a remote may take for an answer.
    let slow = tanker(&through(faulty(port, vec![Fault::Slow(20_000); 500]), "slow"), &["copy", "east", "--to", "s3"]).spawn().unwrap();
    let never = tanker(&through(faulty(port, vec![Fault::Cut(10); 500]), "never"), &["copy", "east", "--to", "s3"]).spawn().unwrap();
    let faults = [
        vec![Fault::Error, Fault::Error, Fault::Error],
        vec![Fault::Cut(100_000), Fault::Cut(9_000_000), Fault::Cut(1_000), Fault::Cut(200_000)],
        vec![Fault::Slow(400_000), Fault::Error, Fault::Cut(5_000_000)],
    ];
    for (n, faults) in faults.into_iter().enumerate() {
        let place = format!("place{n}");
        run(&through(faulty(port, faults.clone()), &place), &["copy", "east", "--to", "s3"]).code(0).says("copied");
        run(&through(port, &place), &["verify", "--remote", "s3", "--all"]).code(0).says("read back from");
    }
    let way = through(faulty(port, vec![Fault::Slow(200_000); 500]), "killed");
    let mut killed = tanker(&way, &["copy", "east", "--to", "s3"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(killed.try_wait().unwrap().is_none(), "it was still at work");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let listed = run(&through(port, "killed"), &["list", "--remote", "s3"]).code(0);
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stdout);
    run(&through(port, "killed"), &["sync", "--to", "s3"]).code(0).says("copied");

    // Killed when some parts were there, it goes on behind them; where the remote has given the upload up meanwhile, it is begun anew.
    crate::library::add_bytes(&shelf.library(), Utc.with_ymd_and_hms(2026, 11, 21, 2, 0, 0).unwrap(), 112 << 20);
    let kept = || {
        let found = Command::new("sh")
            .args(["-c", "cat tanker/east/2026-11-21*/.upload-* 2>/dev/null"])
            .current_dir(shelf.home.path())
            .output()
            .unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    for (place, given_up) in [("goes-on", false), ("given-up", true)] {
        let (faults, sent) = (Arc::new(Mutex::new(vec![Fault::Slow(1_000_000); 500].into())), Arc::new(AtomicU64::new(0)));
        let way = through(counted(port, Arc::clone(&faults), Arc::clone(&sent)), place);
        let mut killed = tanker(&way, &["copy", "east@latest", "--to", "s3"]).stderr(Stdio::null()).spawn().unwrap();
        wait_for("some parts", || kept().lines().count() >= 3);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let parts = kept().lines().filter(|line| line.starts_with("{\"part\"")).count() as u64;
        if given_up {
            let text = kept();
            let upload = text.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap();
            let edit = format!("sed -i 's|{upload}|an-upload-of-yore|' tanker/east/2026-11-21*/.upload-*");
            assert!(Command::new("sh").args(["-c", &edit]).current_dir(shelf.home.path()).status().unwrap().success());
        }
        faults.lock().unwrap().clear();
        sent.store(0, Ordering::Relaxed);
        run(&way, &["copy", "east@latest", "--to", "s3"]).code(0).says("copied");
        let sent = sent.load(Ordering::Relaxed);
        let least = (112 << 20) - if given_up { 0 } else { parts * (16 << 20) };
        // What the killed one had under way may still arrive, less than a part.
        assert!(sent >= least && (given_up || sent < least + (15 << 20)), "{parts} parts were there, {sent} bytes went");
        assert_eq!(kept(), "", "nothing is left of it");
        // The other one was copied to other places under this name.
        run(&through(port, place), &["verify", "--remote", "s3", "--all"]).says("east@2026-11-21-02_00  ok");
    }

    // Nothing but errors: it ends, says so, and nothing is listed there.
    Ran::of(&never.wait_with_output().unwrap()).code(1).says("the remote s3");
    let listed = run(&through(port, "never"), &["list", "--remote", "s3"]).code(0);
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stdout);
    Ran::of(&slow.wait_with_output().unwrap()).code(0).says("copied");
    run(&through(port, "slow"), &["verify", "--remote", "s3", "--all"]).says("east@2026-11-20-02_00  ok");
    assert_eq!(entry.manifest.archive.bytes, 40 << 20);
}
