//! Windows, and whatever else has no Unix calls. What is private is left to the folder it lies in, which a user's profile keeps from others.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{Others, Stop};

/// `ERROR_CRC` and `ERROR_IO_DEVICE`.
pub(super) const CODES_OF_THE_MEDIUM: [i32; 2] = [23, 1117];

pub(super) fn private() -> OpenOptions {
    OpenOptions::new()
}

pub(super) fn builder() -> DirBuilder {
    DirBuilder::new()
}

pub(super) fn keep_private(_: &Path) -> io::Result<()> {
    Ok(())
}

pub(super) fn let_others_read(_: &File) -> io::Result<()> {
    Ok(())
}

pub(super) fn others(path: &Path) -> io::Result<Others> {
    path.metadata()?;
    Ok(Others { any: false, write: false })
}

pub(super) fn is_ours(_: &Metadata) -> bool {
    true
}

/// Not known before it is tried.
pub(super) fn is_writable(folder: &Path) -> bool {
    folder.metadata().is_ok_and(|meta| !meta.permissions().readonly())
}

/// Moves the file's position, which nobody else uses meanwhile: a file has one writer here.
pub(super) fn write_all_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let before = file.stream_position()?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(before)).map(drop)
}

pub(super) fn read_exact_at(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

/// A folder can't be opened to bring it to the disk; NTFS keeps a journal of names.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    folder.metadata().map(drop)
}

pub(super) fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The standard library doesn't tell: a disk that is full says so when it is written.
pub(super) fn free_space(folder: &Path) -> io::Result<Option<u64>> {
    folder.metadata().map(|_| None)
}

pub(super) fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "workstation".into())
}

pub(super) fn rows_of_the_terminal() -> Option<u16> {
    None
}

pub(super) fn lead_a_group(_: &mut std::process::Command) {}

/// Only the command itself is ended, by tokio's `kill_on_drop`.
pub(super) fn end_group(_: u32) {}

pub(super) async fn interrupted() -> io::Result<Stop> {
    tokio::signal::ctrl_c().await.map(|()| Stop::Told)
}

/// Ctrl-C is a signal here while a line is typed: it has been heard.
pub(super) fn interrupt_this() -> io::Result<()> {
    Ok(())
}

/// By the library that draws the bars, which knows this system's terminals.
pub(super) fn hidden_line(ask: impl FnOnce()) -> io::Result<Option<Vec<u8>>> {
    ask();
    console::Term::stderr().read_secure_line().map(|line| Some(line.into_bytes()))
}
