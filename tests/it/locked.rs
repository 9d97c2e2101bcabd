//! Copies in buckets with object lock, at a real gateway of Ceph's.

use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};

use crate::offsite::{MASTER, Server, add, remote_of_ours};
use crate::upkeep::Shelf;

/// A Ceph with three buckets: one without object lock, one with it, one that holds whatever comes for a day.
struct Ceph {
    shelf: Shelf,
    port: u16,
    _server: Server,
}

impl Ceph {
    fn up() -> Self {
        let shelf = Shelf::new("");
        let (server, port) = remote_of_ours(&shelf, "ceph");
        let ceph = Self { shelf, port, _server: server };
        assert_eq!(ceph.s3("PUT", "plain", &[]).0, 200);
        for bucket in ["lockable", "holding"] {
            assert_eq!(ceph.s3("PUT", bucket, &["-H", "x-amz-bucket-object-lock-enabled: true"]).0, 200);
        }
        let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                    <Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
        assert_eq!(ceph.s3("PUT", "holding?object-lock=", &["--data-binary", rule]).0, 200);
        ceph
    }

    /// A remote for each bucket and way to lock.
    fn inventory(&self, remotes: &[(&str, &str, &str)]) {
        let mut text = MASTER.to_owned();
        for (name, bucket, lock) in remotes {
            text += &format!(
                "[remotes.{name}]\nurl = 's3://{bucket}/masters/tanker'\nendpoint = 'http://127.0.0.1:{}'\n\
                 access_key = 'env:S3_KEY'\nsecret_key = 'command:echo s3cret'\n{lock}\n",
                self.port
            );
        }
        self.shelf.inventory(&text);
    }

    fn tanker(&self, args: &[&str]) -> crate::upkeep::Ran {
        self.shelf.tanker_with(&[("S3_KEY", "admin".to_owned())], args)
    }

    /// The status and the body of one request that curl signs.
    fn s3(&self, method: &str, path: &str, more: &[&str]) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let ran = Command::new("curl")
            .args([
                "-s",
                "--aws-sigv4",
                "aws:amz:us-east-1:s3",
                "--user",
                "admin:s3cret",
                "-H",
                "x-amz-content-sha256: UNSIGNED-PAYLOAD",
                "-w",
                "\n%{http_code}",
                "-X",
                method,
            ])
            .args(more)
            .arg(url)
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        let (body, status) = said.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// How an object is locked, and until when.
    fn retention(&self, object: &str) -> Option<(String, DateTime<Utc>)> {
        let (status, body) = self.s3("GET", &format!("{object}?retention="), &[]);
        (status == 200).then(|| (element(&body, "Mode").to_owned(), element(&body, "RetainUntilDate").parse().unwrap()))
    }
}

fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {xml}"));
    rest.split_once('<').unwrap().0
}

#[test]
fn copies_in_a_bucket_with_object_lock_are_held_against_whoever_would_remove_them() {
    let ceph = Ceph::up();
    let entry = add(&ceph.shelf, 20, None);
    add(&ceph.shelf, 21, None);
    ceph.inventory(&[
        ("no", "plain", "object_lock = 'compliance'\nobject_lock_days = 30"),
        ("undated", "lockable", "object_lock = true"),
        ("open", "lockable", ""),
        ("own", "lockable", "object_lock = 'compliance'\nobject_lock_days = 30"),
        ("bucket", "holding", "object_lock = true"),
        ("longer", "holding", "object_lock = 'governance'\nobject_lock_days = 60"),
    ]);
    // What the bucket can't do is said before anything is sent.
    ceph.tanker(&["copy", "east@2026-11-20", "--to", "no"]).code(3).says("the bucket plain of the remote no has no object lock");
    ceph.tanker(&["copy", "east@2026-11-20", "--to", "undated"]).code(3).says("has object lock but no default retention");
    for bucket in ["plain", "lockable"] {
        assert!(!ceph.s3("GET", bucket, &[]).1.contains("<Key>"), "{bucket} has got something");
    }

    ceph.tanker(&["copy", "east@2026-11-20", "--to", "own"]).code(0).says("east@2026-11-20-02_00  copied");
    let folder = "lockable/masters/tanker/east/2026-11-20-02_00";
    let files = [entry.manifest.archive.file.as_str(), "SHA256SUMS", "manifest.json"];
    let locked = files.map(|file| ceph.retention(&format!("{folder}/{file}")).unwrap_or_else(|| panic!("{file} is not locked")));
    for (mode, until) in &locked {
        assert_eq!(mode, "COMPLIANCE");
        assert!((*until - Utc::now() - TimeDelta::days(30)).abs() < TimeDelta::minutes(10), "{until}");
    }
    // A lock isn't made longer by every look.
    ceph.tanker(&["sync", "--to", "own"]).code(0).says("east@2026-11-21-02_00  copied");
    ceph.tanker(&["copy", "east", "--to", "own"]).code(0).says("was there already");
    assert_eq!(ceph.retention(&format!("{folder}/manifest.json")).as_ref(), Some(&locked[2]));

    // Whoever has the keys can hide it, and nothing more.
    ceph.tanker(&["forget", "--remote", "own", "--keep-last", "1", "--yes"]).code(0).says("1 removed from");
    assert!(!ceph.tanker(&["list", "--remote", "own"]).code(0).stdout.contains("2026-11-20"));
    let archive = format!("{folder}/{}", files[0]);
    assert_eq!(ceph.s3("HEAD", &archive, &["-I"]).0, 404);
    let (_, versions) = ceph.s3("GET", "lockable?versions=", &[]);
    let key = format!("<Key>masters/tanker/east/2026-11-20-02_00/{}</Key>", files[0]);
    let version = versions
        .split("<Version>")
        .skip(1)
        .filter_map(|version| version.split("</Version>").next())
        .find(|version| version.contains(&key))
        .unwrap_or_else(|| panic!("{versions}"));
    let version = element(version, "VersionId");
    assert_eq!(ceph.s3("DELETE", &format!("{archive}?versionId={version}"), &[]).0, 403);
    let back = ceph.shelf.path("back");
    let got = ceph.s3("GET", &format!("{archive}?versionId={version}"), &["-o", back.to_str().unwrap()]);
    assert_eq!(got.0, 200);
    assert_eq!(std::fs::read(back).unwrap(), std::fs::read(entry.archive()).unwrap());

    // One that came without a lock gets it by the next copy.
    ceph.tanker(&["copy", "east@2026-11-20", "--to", "open"]).code(0).says("copied");
    assert_eq!(ceph.retention(&archive), None);
    ceph.tanker(&["copy", "east@2026-11-20", "--to", "own"]).code(0).says("was there already");
    assert!(ceph.retention(&archive).is_some());

    // What the bucket itself holds is left to it.
    ceph.tanker(&["sync", "--to", "bucket"]).code(0);
    let (mode, until) = ceph.retention(&archive.replace("lockable", "holding")).unwrap();
    assert_eq!(mode, "GOVERNANCE");
    assert!(until < Utc::now() + TimeDelta::days(2), "{until}");
    ceph.tanker(&["copy", "east@2026-11-20", "--to", "longer"]).code(0).says("was there already");
    let (_, until) = ceph.retention(&archive.replace("lockable", "holding")).unwrap();
    assert!(until > Utc::now() + TimeDelta::days(59), "{until}");
    ceph.tanker(&["verify", "--remote", "bucket", "--all"]).code(0).says("read back from");
}
