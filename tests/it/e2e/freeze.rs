//! I1: no master stays frozen, whatever happens while it is.

use std::time::Duration;

use super::{Lab, Ran, end, signal, wait_until};

/// Long enough that only a thaw ends it, not the commit.
const SLOW_COMMIT: &str = "sleep 120";

#[test]
fn i1_an_interrupt_while_frozen_thaws_at_once_and_leaves_nothing() {
    let lab = Lab::up("int", "5.1");
    lab.ask("/usr/bin/docker pause fuel-core-5.1-rsyslog");
    // What is not Fuel's, or another release's, runs on.
    lab.ask("for name in foreign fuel-core-6.0-ostf; do /usr/bin/docker run -d --name $name --entrypoint /start.sh fuel/rsyslog_5.1; done");
    lab.break_docker("commit", SLOW_COMMIT);
    let child = lab.command(&lab.inventory(), &["backup"]).spawn().unwrap();
    wait_until("containers are frozen", Duration::from_secs(60), || lab.paused().len() == 11);
    assert!(!lab.paused().iter().any(|name| name == "foreign" || name.contains("6.0")), "{:?}", lab.paused());
    signal(&child, "INT");
    end(child).expect_code(130).says("m  interrupted  ").says("stopped as told to");
    assert_eq!(lab.paused(), ["fuel-core-5.1-rsyslog"], "what somebody else had paused stays paused, the rest runs");
    lab.assert_clean();
    assert_eq!(lab.listed(), 0);

    // The same container is saved though it is paused, and stays so.
    lab.heal();
    lab.tanker(&["backup"]).expect_code(0);
    assert_eq!(lab.paused(), ["fuel-core-5.1-rsyslog"]);
    lab.tanker(&["show", "m@latest"]).expect_code(0).says("fuel-core-5.1-rsyslog was paused before and stays paused");

    // One that runs again while the rest is captured would write into a capture that is to be of one instant.
    lab.break_docker("ps", "case \"$*\" in *\" -s \"*) /usr/bin/docker unpause fuel-core-5.1-rsyslog >/dev/null 2>&1 ;; esac");
    lab.tanker(&["backup"]).expect_code(1).says("fuel-core-5.1-rsyslog began to run meanwhile: nothing was frozen");
    assert_eq!(lab.paused(), [""; 0]);
    lab.assert_clean();
    lab.ask("/usr/bin/docker pause fuel-core-5.1-rsyslog");

    // From another workstation: it is seen and ended.
    lab.break_docker("commit", SLOW_COMMIT);
    let child = lab.command(&lab.inventory(), &["backup"]).spawn().unwrap();
    wait_until("containers are frozen", Duration::from_secs(60), || lab.paused().len() == 11);
    lab.tanker(&["status"]).expect_code(0).says("containers frozen now");
    lab.tanker(&["thaw"]).expect_code(0).says("10 containers are thawed");
    assert_eq!(lab.paused(), ["fuel-core-5.1-rsyslog"]);
    end(child).expect_code(1).says("thawed by hand");
    lab.tanker(&["thaw"]).expect_code(0).says("nothing was frozen by tanker");
    lab.assert_clean();
}

#[test]
fn i1_the_master_thaws_itself_when_tanker_is_killed_or_the_line_is_cut() {
    let lab = Lab::up("lease", "5.1");
    let inventory = lab.inventory_with("lease = 5");
    lab.break_docker("commit", SLOW_COMMIT);

    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("containers are frozen", Duration::from_secs(60), || lab.paused().len() == 11);
    signal(&child, "KILL");
    child.wait().unwrap();
    wait_until("the lease runs out", Duration::from_secs(60), || lab.paused().is_empty());
    assert_eq!(lab.listed(), 0);

    // The dead tanker's job is ended too: nothing holds the master.
    wait_until("the job has ended", Duration::from_secs(60), || lab.tanker(&["status"]).stdout.contains("has ended"));
    let child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("containers are frozen again", Duration::from_secs(60), || lab.paused().len() == 11);
    lab.lab(&["cut", "m"]).expect_code(0);
    wait_until("the lease runs out", Duration::from_secs(60), || lab.paused().is_empty());
    lab.lab(&["mend", "m"]).expect_code(0);
    end(child).expect_code(1).says("void");
    lab.assert_clean();
    assert_eq!(lab.listed(), 0);

    // A workstation that was put to sleep wakes up to a capture that is void.
    let child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("containers are frozen once more", Duration::from_secs(60), || lab.paused().len() == 11);
    signal(&child, "STOP");
    wait_until("the lease runs out", Duration::from_secs(60), || lab.paused().is_empty());
    signal(&child, "CONT");
    end(child).expect_code(1).says("tanker was not heard of for 5 s");
    lab.assert_clean();

    lab.break_docker("commit", "sleep 20");
    // What one workstation has frozen another one sees and thaws, though the first would still have time.
    let child = lab.command(&lab.inventory_with("lease = 120\nfreeze_timeout = 120"), &["backup"]).spawn().unwrap();
    wait_until("containers are frozen for longer", Duration::from_secs(60), || lab.paused().len() == 11);
    let elsewhere = |verb: &str| {
        let home = tempfile::tempdir().unwrap();
        let mut command = lab.command(&lab.inventory(), &["--library", home.path().to_str().unwrap(), verb]);
        Ran::of(&command.env("HOME", home.path()).env("XDG_STATE_HOME", home.path().join("state")).output().unwrap())
    };
    elsewhere("status").expect_code(0).says("containers frozen now");
    elsewhere("thaw").expect_code(0).says("11 containers are thawed");
    assert_eq!(lab.paused(), [""; 0]);
    end(child).expect_code(1).says("void");
    lab.assert_clean();

    lab.heal();
    lab.tanker(&["backup"]).expect_code(0);
    assert_eq!(lab.listed(), 1);

    // A line that is cut while a master is asked is called lost, long before the answer could have come.
    let inventory = lab.inventory_with("silence_timeout = 12");
    lab.break_docker("inspect", "sleep 600");
    let child = lab.command(&inventory, &["check"]).spawn().unwrap();
    wait_until("Docker is asked", Duration::from_secs(60), || lab.sh("pgrep -f 'sleep 600'").code == Some(0));
    lab.lab(&["cut", "m"]).expect_code(0);
    end(child).expect_code(1).says("the connection was lost");
    lab.lab(&["mend", "m"]).expect_code(0);
}

#[test]
fn i1_a_freeze_that_takes_too_long_is_ended_by_the_master_and_the_capture_is_void() {
    let lab = Lab::up("long", "8.0");
    let inventory = lab.inventory_with("freeze_timeout = 5");
    // Docker goes on with a commit though its client was ended: the image comes when nobody waits for it any more.
    lab.break_docker(
        "commit",
        "setsid bash -c \"until [ -e /run/go-on ]; do sleep 0.2; done; exec /usr/bin/docker $*\" >/dev/null 2>&1 & sleep 60",
    );
    lab.tanker_with(&inventory, &["backup"]).expect_code(1).says("took longer than 5 s");
    assert!(lab.paused().is_empty());
    lab.assert_clean();
    lab.heal();
    lab.ask("touch /run/go-on");
    let late = || lab.ask("/usr/bin/docker images | grep -cE '_[0-9]{4}-[0-9]{2}-[0-9]{2}_' || true");
    wait_until("the images have come", Duration::from_secs(60), || late() == "11");
    lab.tanker(&["backup"]).expect_code(0);
    assert_eq!(late(), "0");
    lab.ask("test ! -e /var/backup/fuel/tanker");

    // A step that takes longer than steps may is given up, and what was begun is removed.
    lab.break_docker("save", "sleep 40");
    let inventory = lab.inventory_with("step_timeout = 10");
    lab.tanker_with(&inventory, &["backup"]).expect_code(1).says("the step 'save' did not end within 10 s");
    lab.assert_clean();
    lab.heal();

    // A pause that claims success and freezes nothing is not believed.
    lab.break_docker("pause", "exit 0");
    lab.tanker(&["backup"]).expect_code(1).says("did not freeze");
    lab.assert_clean();
    lab.heal();

    // A task that begins while the capture runs makes it void.
    lab.break_docker("exec", "sleep 6");
    let child = lab.command(&lab.inventory(), &["backup"]).spawn().unwrap();
    wait_until("the job runs", Duration::from_secs(30), || lab.sh("grep -q ' step dump' /var/backup/fuel/tanker/*/events").code == Some(0));
    lab.lab(&["tasks", "m", "ready"]).expect_code(0);
    end(child).expect_code(1).says("a task began during the capture");
    lab.assert_clean();
    assert_eq!(lab.listed(), 1);
}

#[test]
fn i1_a_docker_of_0_10_is_frozen_by_the_kernel_and_thawed_by_it() {
    let lab = Lab::up_with("old", &["--fuel", "6.0", "--docker", "0.10.0"]);
    lab.tanker(&["check"]).expect_code(0).says("can't pause, the kernel's freezer can");
    lab.tanker(&["backup", "--freeze", "pause"]).expect_code(3).says("--freeze cgroup");
    lab.tanker(&["backup"]).expect_code(0).says("frozen");
    lab.assert_clean();
    lab.tanker(&["show", "m@latest", "--json"]).expect_code(0).says("\"method\": \"cgroup\"").says("/etc/cobbler");

    // Such a Docker lays out in /tmp what it saves.
    lab.ask("mount -t tmpfs -o size=40m small /tmp");
    lab.tanker(&["backup"])
        .expect_code(1)
        .says("/tmp has 40 MiB free, and a Docker as old as 0.10.0 needs up to")
        .says("nothing was frozen");
    lab.ask("umount /tmp");
    lab.assert_clean();

    // What has stopped since it was looked at has no cgroup: nothing is frozen, and nothing is left that no thaw could end.
    lab.break_docker("ps", "case \"$*\" in *\" -s \"*) supervisorctl stop docker-rsyslog; /usr/bin/docker stop -t 1 fuel-core-6.0-rsyslog ;; esac >/dev/null 2>&1");
    lab.tanker(&["backup"]).expect_code(1).says("fuel-core-6.0-rsyslog has stopped meanwhile");
    lab.assert_clean();
    lab.ask("supervisorctl start docker-rsyslog");

    // Frozen by the kernel alone, the workstation gone: the lease thaws that too, though `docker unpause` doesn't exist here.
    let inventory = lab.inventory_with("lease = 5");
    lab.break_docker("commit", SLOW_COMMIT);
    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    let frozen = "cat /sys/fs/cgroup/freezer/docker/*/freezer.state | grep -c FROZEN";
    wait_until("containers are frozen", Duration::from_secs(60), || lab.sh(frozen).stdout.trim() == "11");
    signal(&child, "KILL");
    child.wait().unwrap();
    wait_until("the lease runs out", Duration::from_secs(60), || lab.sh(frozen).stdout.trim() == "0");
}

#[test]
fn i1_containers_that_were_stopped_to_freeze_them_run_again_also_when_tanker_is_killed() {
    stopped_to_freeze("stop", "5.1");
}

#[test]
#[ignore = "long: make test-long"]
fn i1_where_systemd_holds_containers_they_are_stopped_and_run_again_too() {
    stopped_to_freeze("stop8", "8.0");
}

fn stopped_to_freeze(instance: &str, release: &str) {
    let lab = Lab::up(instance, release);
    let inventory = lab.inventory_with("lease = 5\nfreeze = \"stop\"");
    let running = "supervisorctl status | grep -c RUNNING; /usr/bin/docker ps -q | wc -l";
    lab.ask(&format!("supervisorctl stop docker-rsyslog; /usr/bin/docker stop -t 1 fuel-core-{release}-rsyslog"));
    // On a real master puppet runs in each container first: nailgun takes its time to answer.
    lab.ask(&format!(
        "mv /var/lab/bin/fuel /var/lab/bin/fuel.real; cat > /var/lab/bin/fuel <<'END'
#!/bin/bash
since=$(date -d \"$(/usr/bin/docker inspect -f '{{{{.State.StartedAt}}}}' fuel-core-{release}-nailgun)\" +%s)
[ $(($(date +%s) - since)) -ge 8 ] || {{ echo '502 Bad Gateway' >&2; exit 1; }}
exec /var/lab/bin/fuel.real \"$@\"
END
chmod 755 /var/lab/bin/fuel; sleep 8; fuel task --list"
    ));
    lab.tanker_with(&inventory, &["backup"]).expect_code(0).says("frozen");
    lab.ask("mv /var/lab/bin/fuel.real /var/lab/bin/fuel");
    // In the order in which they are started, what the others need first; and the database was not killed.
    let started = lab.ask("for c in $(/usr/bin/docker ps --format '{{.Names}}'); do /usr/bin/docker inspect -f '{{.State.StartedAt}} {{.Name}}' $c; done | sort | sed 's/.*-//'");
    let order: Vec<&str> = started.lines().collect();
    assert_eq!(order, ["postgres", "rabbitmq", "keystone", "rsync", "astute", "nailgun", "ostf", "nginx", "cobbler", "mcollective"]);
    let log = lab.ask(&format!("/usr/bin/docker exec fuel-core-{release}-postgres cat /var/log/postgres.log"));
    assert!(log.contains("database system is shut down") && !log.contains("not properly shut down"), "{log}");
    lab.tanker(&["show", "m@latest", "--json"]).expect_code(0).says("\"method\": \"stop\"").says("\"consistent\": true");
    assert_eq!(lab.ask(running), "10\n10", "what did not run before does not run now");
    lab.ask("supervisorctl start docker-rsyslog");
    lab.assert_clean();

    lab.break_docker("commit", SLOW_COMMIT);
    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    let stopped = || lab.sh("/usr/bin/docker ps -q | wc -l").stdout.trim() == "0";
    wait_until("containers are stopped", Duration::from_secs(90), stopped);
    signal(&child, "KILL");
    child.wait().unwrap();
    wait_until("containers run again", Duration::from_secs(120), || lab.sh(running).stdout.trim() == "11\n11");
    lab.heal();
    wait_until("the job has ended", Duration::from_secs(60), || lab.tanker(&["status"]).stdout.contains("has ended"));
    lab.tanker(&["backup"]).expect_code(0);
    lab.assert_clean();
}

#[test]
fn i1_a_freeze_that_would_take_too_long_is_not_begun() {
    let lab = Lab::up("predict", "8.0");
    let started = "/usr/bin/docker inspect -f '{{.Name}} {{.State.StartedAt}} {{.State.Status}}' $(/usr/bin/docker ps -aq) | sort";
    let before = lab.ask(started);
    lab.break_docker("inspect", "sleep 0.4");
    let inventory = lab.inventory_with("freeze_timeout = 5");
    lab.tanker_with(&inventory, &["backup"]).expect_code(1).says("nothing was frozen").says("--freeze-timeout raises the limit");
    lab.heal();
    assert_eq!(lab.ask(started), before);
    lab.assert_clean();

    // A list of files that was cut off would count what it lacks as removed.
    let cut_off =
        "'#!/bin/bash' 'case \"$*\" in *printf*) /usr/bin/find \"$@\" | head -c 3000; exit 137 ;; esac' 'exec /usr/bin/find \"$@\"'";
    lab.ask(&format!("printf '%s\\n' {cut_off} > /usr/local/sbin/find; chmod 755 /usr/local/sbin/find"));
    lab.tanker(&["backup"]).expect_code(1).says("live_pass of system-dirs.tar failed");
    lab.ask("rm /usr/local/sbin/find");
    lab.assert_clean();

    // Nor is one begun whose archive would not fit: what containers have written is known only by then.
    lab.ask("mount -t tmpfs -o size=400m small /var/backup/fuel; /usr/bin/docker exec fuel-core-8.0-ostf dd if=/dev/zero of=/big bs=1M count=150 2>&1");
    lab.tanker(&["backup"]).expect_code(1).says("nothing was frozen ('--no-spool' packs");
    assert_eq!(lab.ask(started), before);
    lab.ask("/usr/bin/docker exec fuel-core-8.0-ostf rm /big; rm -r /var/backup/fuel/*; umount /var/backup/fuel");

    // Docker hangs while it should thaw: the kernel does it, and Docker's books are put right when it answers again.
    let inventory = lab.inventory_with("lease = 5");
    lab.break_docker("commit", SLOW_COMMIT);
    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("containers are frozen", Duration::from_secs(60), || lab.paused().len() == 11);
    lab.ask("pkill -STOP -x dockerd");
    signal(&child, "KILL");
    child.wait().unwrap();
    let frozen = "cat /sys/fs/cgroup/freezer/docker/*/freezer.state | grep -c FROZEN";
    wait_until("the kernel has thawed them", Duration::from_secs(20), || lab.sh(frozen).stdout.trim() == "0");
    lab.ask("pkill -CONT -x dockerd");
    lab.heal();
    wait_until("the job has ended", Duration::from_secs(120), || lab.tanker(&["status"]).stdout.contains("has ended"));
    lab.tanker(&["backup"]).expect_code(0);
    assert_eq!(lab.paused(), [""; 0], "nor does Docker call any of them paused");
    lab.assert_clean();
}

#[test]
fn i1_what_can_not_be_thawed_is_said_above_everything_else_with_the_command_that_ends_it() {
    let lab = Lab::up("stuck", "8.0");
    lab.break_docker("commit", "sleep 8");
    let child = lab.command(&lab.inventory(), &["backup"]).spawn().unwrap();
    wait_until("containers are frozen", Duration::from_secs(60), || lab.paused().len() == 11);
    // The kernel takes no word about this one any more, whoever says it.
    let state = "/sys/fs/cgroup/freezer/docker/$(/usr/bin/docker inspect -f '{{.Id}}' fuel-core-8.0-ostf)/freezer.state";
    lab.ask(&format!("echo FROZEN > /run/stuck; mount --bind /run/stuck {state} && mount -o remount,bind,ro {state}"));
    end(child)
        .expect_code(7)
        .says("1 container is still frozen: fuel-core-8.0-ostf")
        .says("run 'tanker thaw m', or on the master itself: for c in fuel-core-8.0-ostf; do docker unpause $c; done");
    assert_eq!(lab.paused(), ["fuel-core-8.0-ostf"], "all others run");
    lab.heal();
    assert_eq!(lab.listed(), 0);

    // Nobody passes over it.
    lab.tanker(&["backup"]).expect_code(7).says("fuel-core-8.0-ostf");
    lab.tanker(&["thaw"]).expect_code(7).says("fuel-core-8.0-ostf");
    lab.tanker(&["status"]).expect_code(0).says("containers frozen now");

    lab.ask(&format!("umount {state}"));
    wait_until("the master thaws it itself", Duration::from_secs(60), || lab.paused().is_empty());
    lab.tanker(&["backup"]).expect_code(0);
    assert_eq!(lab.paused(), [""; 0]);
    lab.assert_clean();
}

#[test]
#[ignore = "long: make test-long"]
fn i1_a_pause_that_docker_takes_minutes_late_is_undone_when_nobody_is_there_any_more() {
    let lab = Lab::up("late", "8.0");
    let inventory = lab.inventory_with("lease = 5");
    // In a session of its own: the watchdog ends the job's.
    let late = "pkill -STOP -x dockerd; setsid bash -c \"sleep 240; pkill -CONT -x dockerd; touch /run/woke\" >/dev/null 2>&1 9>&- &";
    lab.break_docker("pause", &format!("if mkdir /run/late 2>/dev/null; then {late} fi"));
    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("Docker stands still", Duration::from_secs(60), || lab.sh("[ -d /run/late ]").code == Some(0));
    signal(&child, "KILL");
    child.wait().unwrap();
    wait_until("Docker goes on, and pauses what it was told to", Duration::from_secs(300), || lab.sh("[ -e /run/woke ]").code == Some(0));
    let frozen = || lab.sh("cat /sys/fs/cgroup/freezer/docker/*/freezer.state | grep -c FROZEN").stdout.trim().to_owned();
    std::thread::sleep(Duration::from_secs(5));
    wait_until("they are thawed", Duration::from_secs(60), || frozen() == "0" && lab.paused().is_empty());
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!((frozen().as_str(), lab.paused().len()), ("0", 0));
    lab.heal();
    lab.tanker(&["backup"]).expect_code(0);
    lab.assert_clean();
}
