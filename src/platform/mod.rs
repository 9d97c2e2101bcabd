//! What one kind of workstation has and another hasn't: files of one owner only, signals, terminals that hide what is typed. Unix has
//! all of it; elsewhere each has a fallback that its own comment names.

#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
use other as here;
#[cfg(unix)]
use unix as here;

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// How to open a file that, where it is made, only its owner reads and writes.
#[must_use]
pub fn private() -> OpenOptions {
    here::private()
}

/// Makes a folder that only its owner enters, and those above it that are missing.
///
/// # Errors
/// When it can't be made; one that is there is fine.
pub fn make_folders(folder: &Path) -> io::Result<()> {
    let there = folder.ancestors().find(|above| above.exists()).map(Path::to_owned);
    here::builder().recursive(true).create(folder)?;
    // Or a power cut takes the folder with everything that is brought to the disk in it.
    for above in folder.ancestors().skip(1).filter(|_| there.as_deref() != Some(folder)) {
        match here::sync_folder(if above.as_os_str().is_empty() { Path::new(".") } else { above }) {
            // One that may be written to and not read.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
        if there.as_deref() == Some(above) {
            break;
        }
    }
    Ok(())
}

/// Whether an error is the disk's: what lies there is lost, for whoever asks.
#[must_use]
pub fn is_of_the_medium(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| here::CODES_OF_THE_MEDIUM.contains(&code))
}

/// Makes a folder that only its owner enters.
///
/// # Errors
/// When it can't be made, or is there already.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    here::builder().create(folder)
}

/// Takes a file away from everybody but its owner.
///
/// # Errors
/// When that can't be done.
pub fn keep_private(path: &Path) -> io::Result<()> {
    here::keep_private(path)
}

/// Lets everybody on this workstation read a file.
///
/// # Errors
/// When that can't be done.
pub fn let_others_read(file: &File) -> io::Result<()> {
    here::let_others_read(file)
}

/// Whether others on this workstation can read a file, or change it.
///
/// # Errors
/// When the file can't be looked at.
pub fn others(path: &Path) -> io::Result<Others> {
    here::others(path)
}

/// What a file's mode gives to others than its owner.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// Any access at all.
    pub any: bool,
    /// They can change it.
    pub write: bool,
}

/// Whether only this user and root can change a file, or put something else in the place of what lies in a folder.
#[must_use]
pub fn is_ours(meta: &Metadata) -> bool {
    here::is_ours(meta)
}

/// Whether this user may make files in a folder.
#[must_use]
pub fn is_writable(folder: &Path) -> bool {
    here::is_writable(folder)
}

/// Writes all bytes at an offset of a file.
///
/// # Errors
/// When the disk doesn't take them.
pub fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    here::write_all_at(file, bytes, at)
}

/// Reads as many bytes as there is room for, from an offset of a file on.
///
/// # Errors
/// When the file can't be read or ends before.
pub fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    here::read_exact_at(file, bytes, at)
}

/// Brings a folder's names to the disk.
///
/// # Errors
/// When the disk doesn't confirm.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    here::sync_folder(folder)
}

/// Two folders change names, in one step where the system and the file system can. Elsewhere in three: killed between them, `other` is called
/// [`ASIDE`] for as long as nobody puts it back.
///
/// # Errors
/// When they can't; both have their own names then.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    match here::exchange(one, other) {
        // NFS and SMB say the latter.
        Err(e) if [io::ErrorKind::Unsupported, io::ErrorKind::InvalidInput].contains(&e.kind()) => one_after_another(one, other),
        exchanged => exchanged,
    }
}

/// The ending of the name of what is on its way between two names.
pub const ASIDE: &str = "aside";

fn one_after_another(one: &Path, other: &Path) -> io::Result<()> {
    let aside = one.with_extension(ASIDE);
    std::fs::rename(other, &aside)?;
    if let Err(e) = std::fs::rename(one, other) {
        std::fs::rename(&aside, other)?;
        return Err(e);
    }
    std::fs::rename(&aside, one)
}

/// Free bytes on a folder's disk; none where that can't be known.
///
/// # Errors
/// When the disk can't be asked.
pub fn free_space(folder: &Path) -> io::Result<Option<u64>> {
    here::free_space(folder)
}

/// What this workstation calls itself.
#[must_use]
pub fn host_name() -> String {
    here::host_name()
}

/// How many lines the terminal behind stderr shows; none where there is none.
#[must_use]
pub fn rows_of_the_terminal() -> Option<u16> {
    here::rows_of_the_terminal()
}

/// Makes a command the leader of a group that [`end_group`] ends.
pub fn lead_a_group(command: &mut std::process::Command) {
    here::lead_a_group(command);
}

/// Ends a command and those that it started.
pub fn end_group(leader: u32) {
    here::end_group(leader);
}

/// Why this process is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody says so (Ctrl-C).
    Told,
    /// The workstation goes down, or the terminal is gone: nobody has thought better of what is under way.
    GoingDown,
}

/// Waits until the operator or the system asks this process to stop: Ctrl-C, SIGTERM, the terminal going away.
///
/// # Errors
/// When signals can't be listened to.
pub async fn interrupted() -> io::Result<Stop> {
    here::interrupted().await
}

/// Asks this process to stop, as Ctrl-C does.
///
/// # Errors
/// When it can't be asked.
pub fn interrupt_this() -> io::Result<()> {
    here::interrupt_this()
}

/// Reads a line that is not shown while it is typed; `ask` shows the question. None where it was ended by Ctrl-C.
///
/// # Errors
/// When the terminal can't be read or doesn't hide anything.
pub fn hidden_line(ask: impl FnOnce()) -> io::Result<Option<Vec<u8>>> {
    here::hidden_line(ask)
}
