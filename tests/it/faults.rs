//! What goes wrong on the way to a remote: errors, cuts, a slow line, a tanker that is killed.

use std::collections::VecDeque;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{TimeZone, Utc};

use crate::offsite::{MASTER, Server, remote_of_ours, wait_for};
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
    /// The byte behind so many others becomes another one.
    Flip(usize),
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
                    if let Some(Fault::Flip(at)) = fault
                        && (passed..passed + read).contains(&at)
                    {
                        buffer[at - passed] ^= 1;
                    }
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

/// A Swift that speaks both protocols, and a library beside it.
struct Cloud {
    shelf: Shelf,
    port: u16,
    _server: Server,
}

impl Cloud {
    fn up() -> Self {
        let shelf = Shelf::new("");
        let (server, port) = remote_of_ours(&shelf, "swift");
        Self { shelf, port, _server: server }
    }

    fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.shelf.path("swift").join(name)).unwrap().trim().to_owned()
    }

    /// An inventory that leads to a place there, by a way.
    fn through(&self, port: u16, place: &str) -> String {
        let name = format!("{place}-{port}.toml");
        let endpoint = self.said("storage").replace(&self.port.to_string(), &port.to_string());
        let text = format!(
            "{MASTER}[remotes.s3]\nurl = 's3://backups/{place}'\nendpoint = 'http://127.0.0.1:{port}'\naccess_key = 'env:S3_KEY'\nsecret_key = 'env:S3_SECRET'\n\
             [remotes.swift]\nurl = 'swift://backups/{place}'\nendpoint = '{endpoint}'\ntoken = 'env:SWIFT_TOKEN'\n"
        );
        std::fs::write(self.shelf.path(&name), text).unwrap();
        name
    }

    fn tanker(&self, inventory: &str, args: &[&str]) -> Command {
        let mut command = self.shelf.command(&[&["-i", inventory], args].concat());
        command.env("S3_KEY", "admin:admin").env("S3_SECRET", "s3cret").env("SWIFT_TOKEN", self.said("token"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, inventory: &str, args: &[&str]) -> Ran {
        Ran::of(&self.tanker(inventory, args).output().unwrap())
    }

    fn sh(&self, script: &str) -> String {
        let ran = Command::new("sh").args(["-c", script]).current_dir(self.shelf.home.path()).output().unwrap();
        String::from_utf8(ran.stdout).unwrap()
    }

    /// How many segments Swift keeps for archives at a place.
    fn segments(&self, place: &str) -> usize {
        let (token, storage) = (self.said("token"), self.said("storage"));
        let listed = self.sh(&format!("curl -sf -H 'X-Auth-Token: {token}' '{storage}/backups?prefix=.segments/{place}/'"));
        listed.lines().count()
    }

    /// What is kept of an upload of the second backup.
    fn kept(&self) -> String {
        self.sh("cat tanker/east/2026-11-21*/.upload-* 2>/dev/null")
    }
}

#[test]
fn i2_errors_cuts_and_a_slow_line_are_outlived_and_a_killed_copy_is_listed_nowhere() {
    let cloud = Cloud::up();
    // Three parts of a multipart upload.
    let entry = crate::library::add_bytes(&cloud.shelf.library(), Utc.with_ymd_and_hms(2026, 11, 20, 2, 0, 0).unwrap(), 40 << 20);
    let way = |place: &str, faults: Vec<Fault>| cloud.through(faulty(cloud.port, faults), place);
    let straight = |place: &str| cloud.through(cloud.port, place);
    // Both take long, and wait most of the time. A part takes longer on a slow line than a remote may take for an answer.
    let slow = cloud.tanker(&way("slow", vec![Fault::Slow(20_000); 500]), &["copy", "east", "--to", "s3"]).spawn().unwrap();
    let never = cloud.tanker(&way("never", vec![Fault::Cut(10); 500]), &["copy", "east", "--to", "s3"]).spawn().unwrap();
    let faults = [
        vec![Fault::Error, Fault::Error, Fault::Error],
        vec![Fault::Cut(100_000), Fault::Cut(9_000_000), Fault::Cut(1_000), Fault::Cut(200_000)],
        vec![Fault::Slow(400_000), Fault::Error, Fault::Cut(5_000_000)],
    ];
    for (n, faults) in faults.into_iter().enumerate() {
        let place = format!("place{n}");
        cloud.run(&way(&place, faults), &["copy", "east", "--to", "s3"]).code(0).says("copied");
        cloud.run(&straight(&place), &["verify", "--remote", "s3", "--all"]).code(0).says("read back from");
    }
    // What came as something else is refused there, and sent again.
    for remote in ["s3", "swift"] {
        let flips = vec![Fault::Flip(9_000_000); 5];
        cloud.run(&way(&format!("flipped-{remote}"), flips), &["copy", "east", "--to", remote]).code(0).says("copied");
        cloud.run(&straight(&format!("flipped-{remote}")), &["verify", "--remote", remote, "--all"]).code(0).says("read back from");
    }
    let mut killed = cloud.tanker(&way("killed", vec![Fault::Slow(200_000); 500]), &["copy", "east", "--to", "s3"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(killed.try_wait().unwrap().is_none(), "it was still at work");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let listed = cloud.run(&straight("killed"), &["list", "--remote", "s3"]).code(0);
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stdout);
    cloud.run(&straight("killed"), &["sync", "--to", "s3"]).code(0).says("copied");

    // Nothing but errors: it ends, says so, and nothing is listed there.
    Ran::of(&never.wait_with_output().unwrap()).code(1).says("the remote s3");
    let listed = cloud.run(&straight("never"), &["list", "--remote", "s3"]).code(0);
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stdout);
    Ran::of(&slow.wait_with_output().unwrap()).code(0).says("copied");
    cloud.run(&straight("slow"), &["verify", "--remote", "s3", "--all"]).says("east@2026-11-20-02_00  ok");
    assert_eq!(entry.manifest.archive.bytes, 40 << 20);
}

#[test]
fn an_upload_that_was_killed_goes_on_behind_the_parts_that_are_there_or_anew_where_they_are_gone() {
    let cloud = Cloud::up();
    crate::library::add_bytes(&cloud.shelf.library(), Utc.with_ymd_and_hms(2026, 11, 21, 2, 0, 0).unwrap(), 112 << 20);
    for (remote, place, given_up) in
        [("s3", "goes-on", false), ("s3", "given-up", true), ("swift", "goes-on-too", false), ("swift", "given-up-too", true)]
    {
        let (faults, sent) = (Arc::new(Mutex::new(vec![Fault::Slow(1_000_000); 500].into())), Arc::new(AtomicU64::new(0)));
        let way = cloud.through(counted(cloud.port, Arc::clone(&faults), Arc::clone(&sent)), place);
        let mut killed = cloud.tanker(&way, &["copy", "east@latest", "--to", remote]).stderr(Stdio::null()).spawn().unwrap();
        wait_for("some parts", || cloud.kept().lines().count() >= 3);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let parts = cloud.kept().lines().filter(|line| line.starts_with("{\"part\"")).count() as u64;
        if given_up {
            let text = cloud.kept();
            let (before, after) = if remote == "s3" { ("<UploadId>", '<') } else { ("\"answer\":\"", '"') };
            let upload = text.split(before).nth(1).unwrap().split(after).next().unwrap();
            cloud.sh(&format!("sed -i 's|{upload}|an-upload-of-yore-0000-0000000000000|' tanker/east/2026-11-21*/.upload-*"));
            assert!(cloud.kept().contains("an-upload-of-yore"));
        }
        faults.lock().unwrap().clear();
        sent.store(0, Ordering::Relaxed);
        cloud.run(&way, &["copy", "east@latest", "--to", remote]).code(0).says("copied");
        let sent = sent.load(Ordering::Relaxed);
        let least = (112 << 20) - if given_up { 0 } else { parts * (16 << 20) };
        // What the killed one had under way may still arrive, less than a part.
        assert!(sent >= least && (given_up || sent < least + (15 << 20)), "{remote}: {parts} parts were there, {sent} bytes went");
        assert_eq!(cloud.kept(), "", "nothing is left of it");
        // The other one was copied to other places under this name.
        cloud.run(&cloud.through(cloud.port, place), &["verify", "--remote", remote, "--all"]).says("east@2026-11-21-02_00  ok");
        if remote == "swift" {
            assert_eq!(cloud.segments(place), 7, "those of the archive that is there, and of no other upload");
        }
    }
    // What is forgotten there leaves nothing either.
    crate::library::add_bytes(&cloud.shelf.library(), Utc.with_ymd_and_hms(2026, 11, 20, 2, 0, 0).unwrap(), 40 << 20);
    let straight = cloud.through(cloud.port, "goes-on-too");
    cloud.run(&straight, &["copy", "east@2026-11-20", "--to", "swift"]).code(0).says("copied");
    assert_eq!(cloud.segments("goes-on-too"), 10);
    cloud.run(&straight, &["forget", "--remote", "swift", "--keep-last", "1", "--yes"]).code(0).says("1 removed from");
    assert_eq!(cloud.segments("goes-on-too"), 7);
    cloud.run(&straight, &["verify", "--remote", "swift", "--all"]).says("east@2026-11-21-02_00  ok");
}
