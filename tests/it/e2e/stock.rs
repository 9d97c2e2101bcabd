//! Stock archives, both ways: what tanker exports a bare master's own tool takes, and what that tool made tanker restores.

use std::fs;
use std::process::{Command, Stdio};

use super::Lab;

const PUPPET: &str = "/etc/puppet/manifests/ours.pp";

impl Lab {
    /// Copies a file into the master, past tanker.
    pub(super) fn put(&self, from: &std::path::Path, to: &str) {
        let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab");
        let status = Command::new(program)
            .args(["exec", "m", "sh", "-c", &format!("cat > '{to}'")])
            .env("TANKER_LAB", self.instance())
            .stdin(fs::File::open(from).unwrap())
            .status();
        assert!(status.unwrap().success(), "{to}");
    }

    /// Copies a file out of it.
    fn get(&self, from: &str, to: &std::path::Path) {
        let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab");
        let status = Command::new(program)
            .args(["exec", "m", "cat", from])
            .env("TANKER_LAB", self.instance())
            .stdin(Stdio::null())
            .stdout(fs::File::create(to).unwrap())
            .status();
        assert!(status.unwrap().success(), "{from}");
    }
}

fn both_ways(instance: &str, release: &str) {
    let lab = Lab::up(instance, release);
    lab.ask(&format!("echo 'node x {{}}' > {PUPPET}; mkdir -p /etc/puppet/d; echo 1 > /etc/puppet/d/goes; echo 1 > /etc/puppet/d/stays"));
    lab.sql("insert into nodes (uuid, name, mac) values ('kept', 'kept', 'x')");
    // A file that goes between the two passes: stock must not bring it back.
    lab.break_docker("pause", "rm -f /etc/puppet/d/goes");
    lab.tanker(&["backup"]).expect_code(0);
    lab.heal();
    let folder = lab.path("out");
    let exported = lab.tanker(&["export", "m@latest", "--to", folder.to_str().unwrap()]).expect_code(0).stdout;
    lab.tanker(&["export", "m@latest", "--to", folder.to_str().unwrap()]).expect_code(3);
    let exported = std::path::PathBuf::from(exported.trim());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing but the file");

    lab.lab(&["rebuild", "m"]).expect_code(0);
    let name = exported.file_name().unwrap().to_str().unwrap();
    lab.put(&exported, &format!("/var/backup/fuel/{name}"));
    lab.ask(&format!(
        "/var/lab/bin/dockerctl-stock restore /var/backup/fuel/{name} && rm /var/backup/fuel/{name} && dockerctl check nailgun"
    ));
    assert_eq!(lab.ask(&format!("cat {PUPPET}; ls /etc/puppet/d")), "node x {}\nstays", "a bare master's own restore takes it");
    assert_eq!(lab.sql("select name from nodes where uuid = 'kept'"), "kept");
    lab.lab(&["oracle", "m"]).expect_code(0);

    // The other way: the stock tool's archive, taken in, restored onto the next bare master.
    let file = lab.ask("/var/lab/bin/dockerctl-stock backup");
    let local = lab.path(file.rsplit('/').next().unwrap());
    lab.get(&file, &local);
    lab.sql("insert into nodes (uuid, name, mac) values ('after', 'after', 'x')");
    let (path, wrong) = (local.to_str().unwrap(), if release == "5.1" { "6.0" } else { "5.1" });
    lab.tanker(&["import", path, "--host", "stock", "--fuel", wrong]).expect_code(3);
    lab.tanker(&["import", path, "--host", "stock"]).expect_code(0).says(&format!("Fuel {release}")).says("holds no volumes");
    lab.tanker(&["import", path, "--host", "stock"]).expect_code(3);
    let cut = lab.path("fuel_backup_2020-01-01_0000.tar.lrz");
    let bytes = fs::read(&local).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 4096]).unwrap();
    lab.tanker(&["import", cut.to_str().unwrap(), "--host", "stock"]).expect_code(5);
    lab.tanker(&["verify", "stock@latest", "--deep"]).expect_code(0).says("every member");
    lab.lab(&["rebuild", "m"]).expect_code(0);
    lab.tanker(&["trust", "m", "--rebuilt", "--yes"]).expect_code(0);
    let restored = lab.tanker(&["restore", "stock@latest", "--to", "m", "--yes"]).expect_code(0).says("restored stock@");
    // The stock archive of 8.0 leaves the client's settings out.
    assert_eq!(restored.stderr.contains("refuses the fuel client's password"), release == "8.0", "{}", restored.stderr);
    assert_eq!(lab.ask(&format!("cat {PUPPET}")), "node x {}");
    assert_eq!(lab.sql("select name from nodes where uuid in ('kept', 'after')"), "kept");
    lab.assert_clean();
}

#[test]
fn stock_archives_of_5_1_go_both_ways() {
    both_ways("stock-old", "5.1");
}

#[test]
#[ignore = "long: make test-long"]
fn stock_archives_of_6_0_go_both_ways() {
    both_ways("stock-60", "6.0");
}

#[test]
#[ignore = "long: make test-long"]
fn stock_archives_of_6_1_go_both_ways() {
    both_ways("stock-61", "6.1");
}

#[test]
#[ignore = "long: make test-long"]
fn stock_archives_of_7_0_go_both_ways() {
    both_ways("stock-70", "7.0");
}

#[test]
#[ignore = "long: make test-long"]
fn stock_archives_of_8_0_go_both_ways() {
    both_ways("stock-new", "8.0");
}
