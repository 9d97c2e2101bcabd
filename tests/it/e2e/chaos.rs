//! The kill matrix: at each step of a backup and of a restore, each fault. After each: nothing stays frozen past the lease,
//! the library lists nothing unproven, what was temporary is gone or the next run removes it, and the next backup and the
//! next restore succeed.
//!
//! `make test` runs a slice of it, `make chaos` all of it. TANKER_CHAOS: how many cells, or `all`; TANKER_CHAOS_SEED: which.

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::{Lab, signal, wait_until};

/// The lease of the runs, and how much longer a thaw may take: Docker is given three seconds before the kernel is told.
const LEASE: u64 = 5;
const MARGIN: u64 = 12;
/// How long Docker's daemon stands still: longer than a call of it is waited for where containers are frozen.
const STOPPED: Duration = Duration::from_secs(25);
/// Containers whose processes the kernel holds.
const FROZEN: &str = "cat /sys/fs/cgroup/freezer/docker/*/freezer.state 2>/dev/null | grep -c FROZEN";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verb {
    Backup,
    /// A backup of a master without room: every member comes through a pipe, and is packed here.
    BackupWithoutSpool,
    Restore,
}

/// The steps of each, and whether the master says it (in its job's event log) or tanker.
const BACKUP: [&str; 17] = [
    "connect",
    "preflight",
    "dump",
    "live",
    "predict",
    "freeze",
    "commit",
    "delta",
    "thaw",
    "tasks",
    "save",
    "compress",
    "digest",
    "transfer",
    "prove",
    "publish",
    "clean",
];
/// Without a spool nothing is hashed and fetched as a file.
const ONLY_WITH_SPOOL: [&str; 2] = ["digest", "transfer"];
const RESTORE: [&str; 17] = [
    "prove",
    "connect",
    "preflight",
    "push",
    "unpack",
    "stage",
    "load",
    "merge",
    "stop",
    "keep",
    "swap",
    "images",
    "start",
    "volumes",
    "supervise",
    "check",
    "clean",
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    TankerKilled,
    CutForGood,
    CutAndMended,
    SessionKilled,
    DockerStopped,
    DockerKilled,
    SpoolFull,
    DockerDiskFull,
    LibraryFull,
    Rebooted,
}

const FAULTS: [Fault; 10] = [
    Fault::TankerKilled,
    Fault::CutForGood,
    Fault::CutAndMended,
    Fault::SessionKilled,
    Fault::DockerStopped,
    Fault::DockerKilled,
    Fault::SpoolFull,
    Fault::DockerDiskFull,
    Fault::LibraryFull,
    Fault::Rebooted,
];

#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell {
    verb: Verb,
    step: &'static str,
    fault: Fault,
}

impl Cell {
    fn all() -> Vec<Self> {
        let of = |verb: Verb, steps: &[&'static str]| -> Vec<Self> {
            steps.iter().flat_map(|step| FAULTS.map(|fault| Self { verb, step, fault })).collect()
        };
        let without_spool: Vec<&str> = BACKUP.into_iter().filter(|step| !ONLY_WITH_SPOOL.contains(step)).collect();
        let mut all = [of(Verb::Backup, &BACKUP), of(Verb::BackupWithoutSpool, &without_spool), of(Verb::Restore, &RESTORE)].concat();
        // A restore only reads the library.
        all.retain(|cell| !(cell.verb == Verb::Restore && cell.fault == Fault::LibraryFull));
        all
    }

    /// Disks that can be filled lie in memory, and a reboot would empty them: those faults have a master of their own.
    fn small_disks(self) -> bool {
        matches!(self.fault, Fault::SpoolFull | Fault::DockerDiskFull)
    }
}

/// Numbers that are the same on every run: a cell that failed can be run again.
fn shuffled(mut cells: Vec<Cell>, seed: u64) -> Vec<Cell> {
    let mut state = seed;
    for n in (1..cells.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(state >> 33).unwrap() % (n + 1);
        cells.swap(n, other);
    }
    cells
}

/// A folder in memory with room for little, for the library; what has no spool on the master is unpacked here.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mounted(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1500m", "tanker-chaos"]).arg(&path).status().unwrap();
        assert!(mounted.success(), "{} can't be mounted", path.display());
        Self(path)
    }

    fn fill(&self) {
        // It ends with an error when the disk is full: that is the point.
        let _ = Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}/filler", self.0.display())).output();
    }

    fn empty(&self) {
        let _ = std::fs::remove_file(self.0.join("filler"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

struct Bench {
    // Unmounted before its folder goes.
    disk: SmallDisk,
    inventory: PathBuf,
    lab: Lab,
}

impl Bench {
    fn up(small_disks: bool) -> Self {
        let lab =
            if small_disks { Lab::up_with("chaos-small", &["--fuel", "8.0", "--small-disks", "1500M"]) } else { Lab::up("chaos", "8.0") };
        let disk = SmallDisk::mounted(lab.path("library"));
        let inventory = lab.inventory_with(&format!("lease = {LEASE}"));
        let text = std::fs::read_to_string(&inventory).unwrap();
        let own = |line: &str| if line.starts_with("library = ") { format!("library = \"{}\"", disk.0.display()) } else { line.to_owned() };
        std::fs::write(&inventory, text.lines().map(own).collect::<Vec<_>>().join("\n")).unwrap();
        let bench = Self { disk, inventory, lab };
        bench.tanker(&["backup"], &[0]);
        bench
    }

    #[track_caller]
    fn tanker(&self, args: &[&str], codes: &[i32]) -> String {
        let ran = self.lab.tanker_with(&self.inventory, args);
        assert!(codes.iter().any(|code| ran.code == Some(*code)), "{args:?}: {:?}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
        ran.stdout
    }

    fn run(&self, cell: Cell) {
        let args: &[&str] = match cell.verb {
            Verb::Backup => &["backup"],
            Verb::BackupWithoutSpool => &["backup", "--no-spool"],
            Verb::Restore => &["restore", "m@latest", "--to", "m", "--yes"],
        };
        let over = AtomicBool::new(false);
        let frozen = std::thread::scope(|scope| {
            let watch = scope.spawn(|| self.longest_freeze(&over));
            // The watch ends however this does.
            let ran = catch_unwind(AssertUnwindSafe(|| self.break_in(cell, args)));
            over.store(true, Ordering::Relaxed);
            let frozen = watch.join().unwrap();
            ran.map_or_else(|cause| resume_unwind(cause), |()| frozen)
        });
        // While tanker is heard of a freeze may last as long as Docker keeps it waiting.
        let most = Duration::from_secs(LEASE + MARGIN) + if cell.fault == Fault::DockerStopped { STOPPED } else { Duration::ZERO };
        assert!(frozen <= most, "containers were frozen for {frozen:?}, in one go");
        self.aftermath(cell.fault);
    }

    fn break_in(&self, cell: Cell, args: &[&str]) {
        let mut child = self.lab.command(&self.inventory, args).spawn().unwrap();
        let steps = steps_of(&mut child);
        self.await_step(cell, &steps);
        self.break_it(cell.fault, &child);
        self.mend(cell.fault);
        // Whatever it does about the fault, it ends by itself, and not in a panic.
        wait_until("tanker ends", Duration::from_secs(300), || child.try_wait().unwrap().is_some());
        let code = child.wait().unwrap().code();
        assert!([None, Some(0), Some(1), Some(3), Some(4), Some(6), Some(7)].contains(&code), "exit code {code:?}");
        // A job that tanker left behind ends by itself: a backup's when it has packed, a cutover restored or put back.
        wait_until("the master is left alone", Duration::from_secs(240), || !self.tanker(&["status"], &[0]).contains(" runs"));
    }

    /// I1, by the kernel's word: how long something was frozen in one go, at most.
    fn longest_freeze(&self, over: &AtomicBool) -> Duration {
        let (mut longest, mut since): (Duration, Option<Instant>) = (Duration::ZERO, None);
        while !over.load(Ordering::Relaxed) {
            let looked = Instant::now();
            // A master that is down has nothing frozen.
            if self.lab.sh(FROZEN).stdout.trim().parse().unwrap_or(0) > 0 {
                longest = longest.max(since.get_or_insert(looked).elapsed());
            } else {
                since = None;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        longest
    }

    /// The master's own log is the earliest to know its steps; the others are tanker's.
    fn await_step(&self, cell: Cell, steps: &Receiver<String>) {
        let limit = Duration::from_secs(120);
        let mut said = String::new();
        loop {
            match steps.recv_timeout(limit) {
                Ok(line) if line == format!("[m] {}", cell.step) => return,
                Ok(line) => {
                    assert!(!line.contains("panicked"), "{line}");
                    said.push_str(&(line + "; "));
                }
                Err(RecvTimeoutError::Timeout) => panic!("the step {} did not come: {said}", cell.step),
                // A restore's plan shows no `connect` again where it goes on with the same line.
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before the step {}: {said}", cell.step),
            }
        }
    }

    fn break_it(&self, fault: Fault, child: &Child) {
        match fault {
            Fault::TankerKilled => signal(child, "KILL"),
            Fault::CutForGood => drop(self.lab.lab(&["cut", "m"]).expect_code(0)),
            Fault::CutAndMended => {
                self.lab.lab(&["cut", "m"]).expect_code(0);
                std::thread::sleep(Duration::from_secs(3));
                self.lab.lab(&["mend", "m"]).expect_code(0);
            }
            Fault::SessionKilled => drop(self.lab.sh("pkill -KILL -f '^sshd: root'")),
            Fault::DockerStopped => drop(self.lab.sh("pkill -STOP -x dockerd").expect_code(0)),
            Fault::DockerKilled => drop(self.lab.sh("pkill -KILL -x dockerd; pkill -KILL -x containerd; start-docker").expect_code(0)),
            Fault::SpoolFull => drop(self.lab.sh("dd if=/dev/zero of=/var/backup/fuel/filler bs=64k")),
            Fault::DockerDiskFull => drop(self.lab.sh("dd if=/dev/zero of=/var/lib/docker/filler bs=64k")),
            Fault::LibraryFull => self.disk.fill(),
            Fault::Rebooted => drop(self.lab.lab(&["reboot", "m"]).expect_code(0)),
        }
    }

    fn mend(&self, fault: Fault) {
        match fault {
            Fault::CutForGood => {
                // For longer than anybody waits for a line: tanker has given up by then.
                std::thread::sleep(Duration::from_secs(110));
                self.lab.lab(&["mend", "m"]).expect_code(0);
            }
            Fault::DockerStopped => {
                std::thread::sleep(STOPPED);
                self.lab.sh("pkill -CONT -x dockerd").expect_code(0);
            }
            Fault::SpoolFull => {
                std::thread::sleep(Duration::from_secs(15));
                self.lab.ask("rm -f /var/backup/fuel/filler");
            }
            Fault::DockerDiskFull => {
                std::thread::sleep(Duration::from_secs(15));
                self.lab.ask("rm -f /var/lib/docker/filler");
            }
            Fault::LibraryFull => {
                std::thread::sleep(Duration::from_secs(10));
                self.disk.empty();
            }
            _ => {}
        }
    }

    fn aftermath(&self, fault: Fault) {
        self.tanker(&["verify", "--all", "--deep"], &[0]);
        if self.tanker(&["status"], &[0]).contains("HALF RESTORED") {
            self.tanker(&["restore", "--to", "m", "--rollback", "--yes"], &[0]);
        }
        // A restore that was cut off before its cutover counts as under way for a moment; then what was pushed waits to be gone on with.
        if self.tanker(&["status"], &[0]).contains("restore-") {
            std::thread::sleep(Duration::from_secs(20));
            self.tanker(&["clean", "m", "--yes"], &[0]);
        }
        // Before anything else comes to the master and thaws or starts what it finds.
        wait_until("nothing is frozen", Duration::from_secs(MARGIN), || self.lab.sh(FROZEN).stdout.trim() == "0");
        if ![Fault::DockerKilled, Fault::Rebooted].contains(&fault) {
            let running = "/usr/bin/docker ps --filter name=fuel-core --filter status=running --format x | wc -l";
            wait_until("all containers run", Duration::from_secs(60), || self.lab.sh(running).stdout.trim() == "11");
        }
        // Containers that died with their Docker are up to the master, as on a real one.
        self.lab.ask("dockerctl start all && for s in $(dockerctl list); do dockerctl check $s || exit 1; done");
        self.tanker(&["backup"], &[0]);
        self.tanker(&["restore", "m@latest", "--to", "m", "--yes"], &[0]);
        self.lab.lab(&["oracle", "m"]).expect_code(0).says("\nconsistent");
        self.lab.assert_clean();
        assert_eq!(self.lab.paused(), [""; 0]);
        self.make_room();
    }

    /// The library's disk is small: only the newest backup stays.
    fn make_room(&self) {
        let mut folders: Vec<PathBuf> = std::fs::read_dir(self.disk.0.join("m")).unwrap().map(|e| e.unwrap().path()).collect();
        folders.retain(|path| path.is_dir());
        folders.sort_by_key(|path| path.join("manifest.json").metadata().unwrap().modified().unwrap());
        for old in &folders[..folders.len() - 1] {
            std::fs::remove_dir_all(old).unwrap();
        }
    }
}

/// The lines of its progress, as they come.
fn steps_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            // The test may have seen enough.
            let _ = sender.send(line);
        }
    });
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(drop));
    receiver
}

fn run_cells(cells: &[Cell], small_disks: bool) -> Vec<String> {
    let mut failures = Vec::new();
    let mut bench = None;
    for cell in cells.iter().filter(|cell| cell.small_disks() == small_disks) {
        let name = format!("{:?} {} {:?}", cell.verb, cell.step, cell.fault);
        let ran = catch_unwind(AssertUnwindSafe(|| bench.get_or_insert_with(|| Bench::up(small_disks)).run(*cell)));
        match ran {
            Ok(()) => super::tell(&format!("{name}: ok")),
            Err(cause) => {
                let why = cause.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned());
                super::tell(&format!("{name}: FAILED: {why}"));
                failures.push(format!("{name}: {why}"));
                // The next cell starts from a master that is whole.
                bench = None;
            }
        }
    }
    failures
}

#[test]
fn i1_i2_i4_every_cell_of_the_kill_matrix_leaves_a_master_that_can_be_backed_up_and_restored() {
    let all = Cell::all();
    let seed = std::env::var("TANKER_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let count = match std::env::var("TANKER_CHAOS").as_deref() {
        Ok("all") => all.len(),
        Ok(number) => number.parse().expect("TANKER_CHAOS is a number of cells, or 'all'"),
        Err(_) => 2,
    };
    let mut cells = shuffled(all.clone(), seed);
    if let Ok(only) = std::env::var("TANKER_CHAOS_ONLY") {
        cells.retain(|cell| format!("{:?} {} {:?}", cell.verb, cell.step, cell.fault).contains(&only));
    }
    cells.truncate(count);
    assert!(!cells.is_empty(), "no cell was chosen");
    let failures = [run_cells(&cells, false), run_cells(&cells, true)].concat();
    super::tell(&format!("{} of {} cells ran, seed {seed}; {} failed", cells.len(), all.len(), failures.len()));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
