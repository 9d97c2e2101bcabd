//! From a job that captures to an archive here that is whole and proven: followed while it is packed, held against the master's digests,
//! decompressed. The same for a run that goes on with what another one began.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::super::{Context, READING, library_ending, remote_ending};
use super::follow::{Follower, Size, settled};
use super::key::{KEEPING, KEY, keep_key};
use super::seen::Seen;
use super::{NotHome, pipes};
use crate::fleet::Ending;
use crate::library::{
    Blocks, LRZIP_REFUSES, Library, LibraryError, Packed, Parcel, Received, ResumeKey, Source, Sum, Writer, lrzip_is_here, parse_sum, walk,
};
use crate::model::facts::parse_frames;
use crate::model::inventory::Host;
use crate::model::manifest::{FORMAT, Freeze, FreezeMethod, Manifest, Member, Proof, ProofPlace, TaskRecord, archive_name};
use crate::model::pending::Pending;
use crate::model::report::Severity;
use crate::model::tasks::parse_tasks;
use crate::monitor::{Event, Step};
use crate::remote::bulk::Bulk;
use crate::remote::job::{Job, JobEvent};
use crate::remote::link::Link;
use crate::remote::{RemoteError, Script};

/// lrzip testing a large archive on an old master.
const PROVING: Duration = Duration::from_secs(6 * 3600);
/// How long a line may stay broken meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a job that has ended hears that somebody is there: well within what `is_attended` of the scripts waits for.
const ATTENDING: Duration = Duration::from_secs(4);

/// An archive that has arrived and was proven, with what the manifest needs of it.
pub(super) struct Captured {
    received: Received,
    members: Vec<Member>,
    tar_bytes: u64,
    tasks: TaskRecord,
    proven: ProofPlace,
}

impl Captured {
    pub(super) fn describe(self, ctx: &Context, pending: &Pending, seen: &Seen) -> (Received, Manifest) {
        let manifest = Manifest {
            format: FORMAT,
            description: pending.description.clone(),
            finished: (ctx.clock)(),
            archive: self.received.describe(&archive_name(&pending.description.stock_id), self.tar_bytes, self.members),
            freeze: Freeze {
                method: pending.freeze,
                milliseconds: seen.thawed.unwrap_or(0),
                consistent: pending.freeze != FreezeMethod::None,
                steps: seen.freeze_steps(),
                predicted_milliseconds: seen.predicted,
            },
            tasks: self.tasks,
            proof: Proof { place: self.proven, at: (ctx.clock)() },
            notes: pending.notes.iter().chain(&seen.notes).cloned().collect(),
        };
        (self.received, manifest)
    }
}

/// Where an archive is on its way to.
pub(super) struct Way<'a> {
    pub ctx: &'a Context,
    pub host: &'a Host,
    pub job: &'a Job,
    pub library: &'a Library,
    pub pending: &'a Pending,
}

fn failed(what: impl Into<String>) -> NotHome {
    NotHome::Failed(Ending::bad(Severity::Failed, what, None))
}

impl Way<'_> {
    /// Follows the job to its end and the archive with it.
    pub(super) async fn bring_home(&self, link: &mut Link, writer: Writer, seen: &mut Seen) -> Result<Captured, NotHome> {
        let file = archive_name(&self.pending.description.stock_id);
        let (tell, mut size) = watch::channel(Size::Growing(0));
        let mut follower = Follower {
            ctx: self.ctx,
            host: self.host,
            library: self.library,
            lines: Bulk::beside(link).await,
            job: self.job,
            file: self.job.file(&file),
            to: self.ctx.vault.recipients.get(&self.host.name).cloned(),
        };
        let sealing = writer.is_sealing();
        keep_key(self.ctx, self.host, self.job, link, &writer, KEEPING).await?;
        // The SHA-256 of the list of blocks, when there is one.
        let (tell_packed, mut packed) = watch::channel(None::<String>);
        let packing = async |link: &mut Link| {
            self.follow_job(link, seen, tell).await?;
            tell_packed.send_replace(seen.archive.as_ref().map(|archive| archive.1.clone()));
            Ok(())
        };
        let mut also_packed = packed.clone();
        let coming = Box::pin(async {
            let writer = follower.fetch(writer, &mut size).await?;
            let list_sha256 = packed_list(&mut also_packed).await;
            self.ctx.step(self.host, Step::Transfer);
            follower.settle(writer, &list_sha256).await
        });
        let writer = if sealing {
            // Only who has a key could decompress it here: the master does, on a line of its own, while it is on its way and written again.
            let mut own = link.another();
            let proving = Box::pin(async {
                let _ = packed_list(&mut packed).await;
                self.prove_there(&mut own, &file).await
            });
            let both = async { tokio::try_join!(proving, coming).map(|both| both.1) };
            let writer = Box::pin(self.attended(link, packing, both)).await?;
            own.close().await;
            writer
        } else {
            Box::pin(self.attended(link, packing, coming)).await?
        };
        follower.close().await;
        let (bytes, _, announced) = seen.archive.clone().ok_or_else(|| failed("the master announced no archive"))?;
        if announced != file {
            return Err(failed("the master announced an archive of another name"));
        }
        let said = self.read_files(link, &["tasks.out", "tasks.err", "contents", "blocks"]).await?;
        let tasks = self.judge_tasks_after(&said, seen.tasks_code)?;
        let members = members_in(&said[2]);
        if writer.bytes() != bytes {
            return Err(failed(format!("what arrived is not what the master has: {} of {bytes} bytes", writer.bytes())));
        }
        let mut proven = if lrzip_is_here() && !sealing { ProofPlace::Workstation } else { ProofPlace::Master };
        if proven == ProofPlace::Master && !sealing {
            self.prove_there(link, &file).await?;
        }
        let path = writer.path().to_owned();
        // To bring it to the disk and hash it as a whole is the disk's and one core's work; to decompress it, the others'.
        let finish = async {
            let received = tokio::task::spawn_blocking(move || writer.finish()).await.map_err(|e| failed(e.to_string()))?;
            received.map_err(|e| NotHome::of_library(&e))
        };
        let received = if proven == ProofPlace::Workstation {
            self.ctx.step(self.host, Step::Prove);
            let (received, unproven) = tokio::try_join!(finish, self.prove_here(&path, &members, seen.tar_bytes))?;
            // Whether lrzip had no room here or the archive is at fault, the master's lrzip tells; but what lies on the disk must be what the master has.
            if let Some(why) = unproven {
                self.lies_here_as_there(&path, &said[3]).await?;
                self.ctx.note(self.host, format!("it could not be decompressed here, and the master does it instead: {why}"));
                self.prove_there(link, &file).await?;
                proven = ProofPlace::Master;
            }
            received
        } else {
            finish.await?
        };
        Ok(Captured { received, members, tar_bytes: seen.tar_bytes, tasks, proven })
    }

    /// What [`keep_key`] of an earlier run left there.
    pub(super) async fn kept_key(&self, link: &mut Link) -> Result<Option<ResumeKey>, NotHome> {
        self.read_files(link, &[KEY]).await.map(|kept| ResumeKey::parse(&kept[0]))
    }

    /// Whether the disk gives back what was written to it.
    async fn lies_here_as_there(&self, archive: &Path, list: &str) -> Result<(), NotHome> {
        let path = archive.to_owned();
        let here = tokio::task::spawn_blocking(move || Blocks::of(&mut File::open(path)?)).await;
        let here = here.map_err(|e| failed(e.to_string()))?;
        let later = |why: String| NotHome::Later(Ending::bad(Severity::Failed, why, Some("look at this disk".into())));
        let sums = here.map_err(|e| later(format!("what has arrived can't be read here: {e}")))?.sums();
        let there: Option<Vec<Sum>> = list.lines().map(parse_sum).collect();
        if there == Some(sums) { Ok(()) } else { Err(later("this disk gives back other bytes than were written to it".into())) }
    }

    /// lrzip tests the archive on the master; a line that breaks meanwhile is made again.
    async fn prove_there(&self, link: &mut Link, file: &str) -> Result<(), NotHome> {
        self.ctx.step(self.host, Step::Prove);
        match link.run(&Script::prove([self.job.file(file)]), PROVING, PATIENCE).await {
            Ok(_) => Ok(()),
            // Asked again, it would take as long again.
            Err(e @ RemoteError::TimedOut { .. }) => Err(NotHome::Failed(remote_ending(self.host, &e))),
            Err(e) => Err(NotHome::of(self.host, &e)),
        }
    }

    /// Decompresses it whole, which says how far of the tar it is. Returns why lrzip could not, where that is its word.
    async fn prove_here(&self, archive: &Path, members: &[Member], tar_bytes: u64) -> Result<Option<String>, NotHome> {
        let damaged =
            |reason: String| NotHome::Failed(Ending::bad(Severity::Damaged, format!("the archive does not prove: {reason}"), None));
        let (monitor, name, so_far) = (Arc::clone(&self.ctx.monitor), self.host.name.clone(), AtomicU64::new(0));
        let source = Source::file(archive).seen_by(Arc::new(move |more| {
            let bytes = so_far.fetch_add(more, Ordering::Relaxed) + more;
            monitor.event(&name, Event::Progress { bytes, total: Some(tar_bytes).filter(|total| bytes <= *total) });
        }));
        // lrzip takes all cores, and memory by the size of what it unpacks: one archive at a time.
        let _alone = self.ctx.proving.acquire().await;
        let walked = tokio::task::spawn_blocking(move || walk(source)).await;
        let walked = match walked.map_err(|e| damaged(e.to_string()))? {
            Err(why) if why.starts_with(LRZIP_REFUSES) => return Ok(Some(why)),
            walked => walked.map_err(damaged)?,
        };
        if walked.members != members {
            return Err(damaged("its members are not those that the master packed".into()));
        }
        if walked.description.as_ref() != Some(&self.pending.description) {
            return Err(damaged("its description is not the one that was sent".into()));
        }
        Ok(None)
    }

    /// Fetches while the job runs, and when it has ended goes on to say there that its archive is being fetched: nothing there reads
    /// while what was read is still on its way here.
    async fn attended<T>(
        &self,
        link: &mut Link,
        packing: impl AsyncFnOnce(&mut Link) -> Result<(), NotHome>,
        fetch: impl Future<Output = Result<T, NotHome>>,
    ) -> Result<T, NotHome> {
        let (here, mut is_here) = watch::channel(());
        let there = async {
            packing(link).await?;
            while tokio::time::timeout(ATTENDING, is_here.changed()).await.is_err() {
                tokio::select! {
                    _ = is_here.changed() => break,
                    renewed = self.job.renew(link) => {
                        // What doesn't come says itself why; the line may be made again all the same.
                        if renewed.is_err() {
                            link.drop_session();
                        }
                    }
                }
            }
            Ok(())
        };
        let fetch = async move {
            let fetched = fetch.await;
            drop(here);
            fetched
        };
        tokio::try_join!(there, fetch).map(|both| both.1)
    }

    async fn follow_job(&self, link: &mut Link, seen: &mut Seen, tell: watch::Sender<Size>) -> Result<(), NotHome> {
        let followed = self
            .job
            .follow(link, 0, |event| {
                match event {
                    // Before lrzip there is no archive that could grow.
                    JobEvent::Growing(bytes) => drop(tell.send_if_modified(|size| {
                        let grows = matches!(size, Size::Growing(_));
                        if grows {
                            *size = Size::Growing(settled(bytes, seen.tar_bytes));
                        }
                        grows
                    })),
                    JobEvent::Archive(bytes, ..) => drop(tell.send(Size::Whole(bytes))),
                    _ => {}
                }
                seen.take(self.ctx, self.host, event);
            })
            .await;
        followed.map_err(|e| NotHome::of(self.host, &e))?;
        match &seen.failed {
            Some((step, reason)) => Err(failed(format!("{step}: {reason}"))),
            None if seen.archive.is_none() => Err(failed("the master announced no archive")),
            None => Ok(()),
        }
    }

    /// The same where the master has no room: members come one by one, and are packed here.
    pub(super) async fn bring_members_home(
        &self,
        link: &mut Link,
        parcel: Parcel,
        most: u64,
        seen: &mut Seen,
    ) -> Result<Captured, NotHome> {
        let parcel = pipes::collect(self.ctx, self.host, self.job, link, parcel, most, seen).await.map_err(NotHome::Failed)?;
        // There is nothing to go on from, wherever the line breaks.
        let said = self.read_files(link, &["tasks.out", "tasks.err"]).await.map_err(NotHome::for_good)?;
        let tasks = self.judge_tasks_after(&said, seen.tasks_code).map_err(NotHome::for_good)?;
        self.ctx.step(self.host, Step::Compress);
        let name = archive_name(&self.pending.description.stock_id);
        let alone = self.ctx.proving.acquire().await;
        let packed = tokio::task::spawn_blocking(move || parcel.pack(&name)).await.map_err(|e| failed(e.to_string()))?;
        drop(alone);
        let Packed { received, members, tar_bytes } = packed.map_err(|e| failed(e.to_string()))?;
        self.ctx.step(self.host, Step::Prove);
        if let Some(why) = self.prove_here(&received.archive, &members, tar_bytes).await? {
            return Err(NotHome::Failed(Ending::bad(Severity::Damaged, format!("the archive does not prove: {why}"), None)));
        }
        Ok(Captured { received, members, tar_bytes, tasks, proven: ProofPlace::Workstation })
    }

    /// What stands in these files of the job's, in one answer.
    async fn read_files(&self, link: &mut Link, names: &[&str]) -> Result<Vec<String>, NotHome> {
        let paths: Vec<String> = names.iter().map(|name| self.job.file(name)).collect();
        let answer = link.run(&Script::files(paths.clone()), READING, READING).await.map_err(|e| NotHome::of(self.host, &e))?;
        let mut frames = parse_frames(&answer).map_err(|e| failed(e.to_string()))?;
        Ok(paths.iter().map(|path| frames.remove(path).unwrap_or_default()).collect())
    }

    /// A task that began while the capture ran changed what was being captured. `said`: what the client printed, and its complaints.
    fn judge_tasks_after(&self, said: &[String], code: Option<i64>) -> Result<TaskRecord, NotHome> {
        let (out, err) = (&said[0], &said[1]);
        let after = parse_tasks(code.unwrap_or(-1), out, err);
        let before = &self.pending.tasks;
        let Some(before) = before.as_ref().filter(|before| before.unfinished().is_empty()) else {
            let unfinished = before.iter().flat_map(|list| list.unfinished()).cloned().collect();
            return Ok(TaskRecord::Ignored { unfinished, reason: self.pending.unreadable.clone() });
        };
        let after = after.map_err(|e| failed(format!("the tasks could not be read again after the capture: {e}")))?;
        let begun: Vec<String> = after.begun_since(before).iter().map(|task| task.describe()).collect();
        if begun.is_empty() {
            return Ok(TaskRecord::Clean);
        }
        Err(NotHome::Failed(Ending::bad(
            Severity::Failed,
            format!("a task began during the capture, which is void: {}", begun.join(", ")),
            Some("run the backup again when it has ended".into()),
        )))
    }
}

/// Waits until the archive is packed: the SHA-256 of the list of its blocks. Why it isn't says whoever follows the job.
async fn packed_list(packed: &mut watch::Receiver<Option<String>>) -> String {
    loop {
        if let Some(sum) = packed.borrow_and_update().clone() {
            return sum;
        }
        if packed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The list of an archive's members: SIZE NAME, a line each.
fn members_in(contents: &str) -> Vec<Member> {
    let line =
        |line: &str| line.split_once(' ').and_then(|(bytes, name)| Some(Member { name: name.to_owned(), bytes: bytes.parse().ok()? }));
    contents.lines().filter_map(line).collect()
}

impl NotHome {
    pub(super) fn of(host: &Host, error: &crate::remote::RemoteError) -> Self {
        let ending = remote_ending(host, error);
        // A login that was refused this time may be let in the next.
        if error.is_broken_line() || error.is_unreachable() { Self::Later(ending) } else { Self::Failed(ending) }
    }

    /// What the disk here doesn't take now it may take later: hours of packing, and a freeze, are not thrown away for it.
    pub(super) fn of_library(error: &LibraryError) -> Self {
        let ending = library_ending(error);
        if matches!(error, LibraryError::File { .. }) { Self::Later(ending) } else { Self::Failed(ending) }
    }

    /// Stopped by a signal. Where the workstation goes down nobody has thought better of it: a later run goes on, if there is a file to go on with.
    pub(super) fn stopped(ctx: &Context, no_spool: bool) -> Self {
        let ending = Ending::bad(Severity::Interrupted, "stopped as told to", None);
        if ctx.cancel.is_going_down() && !no_spool { Self::Later(ending) } else { Self::Failed(ending) }
    }

    fn for_good(self) -> Self {
        match self {
            Self::Later(ending) | Self::Failed(ending) => Self::Failed(ending),
        }
    }
}
