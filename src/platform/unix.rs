//! Linux, macOS and their kin.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::fs::{Access, CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

use super::{Others, Stop};

/// EIO and EBADMSG.
pub(super) const CODES_OF_THE_MEDIUM: [i32; 2] = [rustix::io::Errno::IO.raw_os_error(), rustix::io::Errno::BADMSG.raw_os_error()];

pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

pub(super) fn builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

pub(super) fn keep_private(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

pub(super) fn let_others_read(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o644))
}

pub(super) fn others(path: &Path) -> io::Result<Others> {
    let mode = path.metadata()?.permissions().mode();
    Ok(Others { any: mode & 0o077 != 0, write: mode & 0o022 != 0 })
}

pub(super) fn is_ours(meta: &Metadata) -> bool {
    let owner = meta.uid() == 0 || meta.uid() == rustix::process::geteuid().as_raw();
    // In a sticky folder (/tmp) others can't put another file in its place.
    owner && (meta.mode() & 0o022 == 0 || (meta.is_dir() && meta.mode() & 0o1000 != 0))
}

pub(super) fn is_writable(folder: &Path) -> bool {
    rustix::fs::access(folder, Access::WRITE_OK).is_ok()
}

pub(super) fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at)
}

pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    file.read_exact_at(bytes, at)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
    Ok(())
}

pub(super) fn free_space(folder: &Path) -> io::Result<Option<u64>> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(Some(disk.f_bavail.saturating_mul(disk.f_frsize)))
}

pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

pub(super) fn rows_of_the_terminal() -> Option<u16> {
    rustix::termios::tcgetwinsize(io::stderr()).ok().map(|size| size.ws_row).filter(|rows| *rows > 0)
}

pub(super) fn lead_a_group(command: &mut std::process::Command) {
    command.process_group(0);
}

pub(super) fn end_group(leader: u32) {
    if let Some(leader) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // One that has ended meanwhile is no loss.
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

pub(super) async fn interrupted() -> io::Result<Stop> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.map(|()| Stop::Told),
        _ = term.recv() => Ok(Stop::GoingDown),
        _ = hangup.recv() => Ok(Stop::GoingDown),
    }
}

pub(super) fn interrupt_this() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::INT)?)
}

/// What Ctrl-C types where the terminal makes no signal of it.
const CTRL_C: u8 = 3;

/// The terminal hides what is typed **before** the question is seen: a fast hand would otherwise be read over the shoulder. It
/// still edits the line; Ctrl-C ends the line instead of the process, which gives the terminal back first.
pub(super) fn hidden_line(ask: impl FnOnce()) -> io::Result<Option<Vec<u8>>> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut hiding = before.clone();
    hiding.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    hiding.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
    hiding.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
    tcsetattr(&stdin, OptionalActions::Flush, &hiding)?;
    ask();
    let mut line = Vec::new();
    let mut end = Ok(None);
    for byte in stdin.lock().bytes() {
        match byte {
            Ok(byte @ (b'\n' | CTRL_C)) => {
                end = Ok(Some(byte));
                break;
            }
            Ok(byte) => line.push(byte),
            Err(e) => {
                end = Err(e);
                break;
            }
        }
    }
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    Ok(if end? == Some(CTRL_C) { None } else { Some(line) })
}
