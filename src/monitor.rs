//! What happens, without saying how it is shown.

use std::time::Duration;

use crate::model::id::HostName;

/// A step of a backup or a restore. Steps that run on the master carry the name they have in its event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Connecting and logging in.
    Connect,
    /// Reading facts and tasks, deciding.
    Preflight,
    /// Dumping the database.
    Dump,
    /// Copying host directories while everything runs.
    Live,
    /// Predicting how long the freeze will take.
    Predict,
    /// Freezing containers.
    Freeze,
    /// Committing rw layers.
    Commit,
    /// Taking what changed since the live pass.
    Delta,
    /// Thawing.
    Thaw,
    /// Looking at the tasks again.
    Tasks,
    /// Saving images, packing the tar.
    Save,
    /// lrzip.
    Compress,
    /// Hashing on the master.
    Digest,
    /// Bringing the archive here.
    Transfer,
    /// Decompressing it to prove it.
    Prove,
    /// Writing the manifest.
    Publish,
    /// Removing what was temporary on the master.
    Clean,
    /// Sending the archive there.
    Push,
    /// Decompressing it there.
    Unpack,
    /// Laying out the directories beside those in use.
    Stage,
    /// Loading images.
    Load,
    /// Merging astute.yaml.
    Merge,
    /// Stopping services.
    Stop,
    /// Keeping aside what will be replaced.
    Keep,
    /// Swapping directories.
    Swap,
    /// Giving the images their names.
    Images,
    /// Recreating and starting containers.
    Start,
    /// Filling volumes.
    Volumes,
    /// Handing the containers back to their supervisor.
    Supervise,
    /// Checking every service.
    Check,
    /// Putting everything back.
    Rollback,
}

impl Step {
    /// The step of this name in a master's event log.
    #[must_use]
    pub fn from_log(name: &str) -> Option<Self> {
        ALL.iter().find(|step| step.word() == name).copied()
    }

    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Preflight => "preflight",
            Self::Dump => "dump",
            Self::Live => "live",
            Self::Predict => "predict",
            Self::Freeze => "freeze",
            Self::Commit => "commit",
            Self::Delta => "delta",
            Self::Thaw => "thaw",
            Self::Tasks => "tasks",
            Self::Save => "save",
            Self::Compress => "compress",
            Self::Digest => "digest",
            Self::Transfer => "transfer",
            Self::Prove => "prove",
            Self::Publish => "publish",
            Self::Clean => "clean",
            Self::Push => "push",
            Self::Unpack => "unpack",
            Self::Stage => "stage",
            Self::Load => "load",
            Self::Merge => "merge",
            Self::Stop => "stop",
            Self::Keep => "keep",
            Self::Swap => "swap",
            Self::Images => "images",
            Self::Start => "start",
            Self::Volumes => "volumes",
            Self::Supervise => "supervise",
            Self::Check => "check",
            Self::Rollback => "rollback",
        }
    }
}

/// Every step.
pub const ALL: [Step; 31] = [
    Step::Connect,
    Step::Preflight,
    Step::Dump,
    Step::Live,
    Step::Predict,
    Step::Freeze,
    Step::Commit,
    Step::Delta,
    Step::Thaw,
    Step::Tasks,
    Step::Save,
    Step::Compress,
    Step::Digest,
    Step::Transfer,
    Step::Prove,
    Step::Publish,
    Step::Clean,
    Step::Push,
    Step::Unpack,
    Step::Stage,
    Step::Load,
    Step::Merge,
    Step::Stop,
    Step::Keep,
    Step::Swap,
    Step::Images,
    Step::Start,
    Step::Volumes,
    Step::Supervise,
    Step::Check,
    Step::Rollback,
];

/// Something that happened to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step began; the one before has ended.
    Step(Step),
    /// Bytes of the current step so far, and how many there will be where that is known.
    Progress {
        /// So far.
        bytes: u64,
        /// In all.
        total: Option<u64>,
    },
    /// How long the freeze should take.
    Predicted(Duration),
    /// A part of a step is done.
    Part {
        /// How many are.
        done: u64,
        /// Of how many.
        total: u64,
        /// Which one, printable.
        what: String,
    },
    /// The first container is about to be frozen.
    Frozen,
    /// All were seen thawed; how long the freeze took, measured on the master.
    Thawed(Duration),
    /// Something worth a line, printable.
    Note(String),
    /// Nothing more will come of this host.
    Finished,
}

/// Whoever wants to know.
pub trait Monitor: Send + Sync {
    /// Something happened to this host. Must not block.
    fn event(&self, host: &HostName, event: Event);
}
