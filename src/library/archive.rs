//! What is inside an archive: lrzip decompresses it into a pipe, and the tar is walked as it comes.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use super::crypt::Plain;
use super::digests::Seal;
use super::entries::{Met, each_entry};
use super::verify::hex;
use super::{Entry as Listed, Keys, LibraryError};
use crate::model::lrzip::{HEAD, parse_lrzip_head};
use crate::model::manifest::{Description, Member};
use crate::model::text::printable;
use crate::platform;

/// A description larger than this is none.
const LARGEST_DESCRIPTION: u64 = 16 << 20;
/// A list of deleted files larger than this is none.
pub(super) const LARGEST_LIST: u64 = 256 << 20;

/// How the sentence begins that hands on what lrzip says.
pub const LRZIP_REFUSES: &str = "lrzip refuses it";

/// So much of a program's words is heard.
pub(super) const LONGEST_SAID: usize = 4096;

/// What a walk through a whole archive found.
#[derive(Debug, Clone, PartialEq)]
pub struct Walked {
    /// The members, in order.
    pub members: Vec<Member>,
    /// `tanker.json`, where it is there and readable.
    pub description: Option<Description>,
}

/// Whether this workstation has lrzip.
#[must_use]
pub fn lrzip_is_here() -> bool {
    let version = Command::new("lrzip").arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// An archive that is to be looked into.
pub struct Source {
    path: PathBuf,
    /// Where it must be decrypted on the way.
    plain: Option<Plain>,
    /// Of an encrypted backup: what holds its manifest to what is decrypted.
    seal: Option<Seal>,
    seen: Option<Seen>,
}

/// Is told how many bytes more were read.
pub type Seen = Arc<dyn Fn(u64) + Send + Sync>;

impl Source {
    /// An archive file as lrzip made it.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self { path: path.to_owned(), plain: None, seal: None, seen: None }
    }

    /// The archive of a listed backup. Where it is encrypted, who reads it to its end has also held its seal: that its manifest belongs to it.
    ///
    /// # Errors
    /// When it is encrypted and none of the keys opens it, or its seal can't be read.
    pub fn of(entry: &Listed, keys: &Keys) -> Result<Self, LibraryError> {
        let plain = entry.is_encrypted().then(|| entry.open(keys)).transpose()?;
        let seal = plain.is_some().then(|| Seal::of(entry)).transpose()?;
        let path = entry.archive();
        // That it can't be read here is no damage.
        File::open(&path).map_err(LibraryError::file(&path, "can't be read"))?;
        Ok(Self { path, plain, seal, seen: None })
    }

    /// The same, and `seen` is told of its bytes, decompressed.
    #[must_use]
    pub fn seen_by(self, seen: Seen) -> Self {
        Self { seen: Some(seen), ..self }
    }
}

/// lrzip at work; its exit code is part of what it says.
struct Decompressed {
    child: Child,
    /// Decrypts into it; ends with the SHA-256 of all that was decrypted.
    feeding: Option<JoinHandle<io::Result<String>>>,
    seal: Option<Seal>,
    /// Reads what it says.
    listening: Option<JoinHandle<String>>,
}

/// Reads a program's words beside the work, so that it never waits for a reader; the first few thousand bytes are enough.
pub(super) fn listen(stderr: Option<ChildStderr>) -> Option<JoinHandle<String>> {
    stderr.map(|mut stderr| {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            // Its words only explain the exit code.
            let _ = stderr.by_ref().take(LONGEST_SAID as u64).read_to_end(&mut said);
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&said).into_owned()
        })
    })
}

pub(super) fn heard(listening: Option<JoinHandle<String>>) -> String {
    listening.and_then(|listening| listening.join().ok()).unwrap_or_default()
}

impl Decompressed {
    fn open(source: Source) -> Result<(Self, ChildStdout), String> {
        let mut head = Vec::with_capacity(HEAD);
        let Source { path, mut plain, seal, .. } = source;
        let opened = match &mut plain {
            Some(plain) => plain.by_ref().take(HEAD as u64).read_to_end(&mut head).and_then(|_| plain.rewind()),
            None => File::open(&path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head)).map(drop),
        };
        opened.map_err(|e| format!("it can't be read: {e}"))?;
        parse_lrzip_head(&head)?;
        let mut command = Command::new("lrzip");
        command.args(["-q", "-d", "-o", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        // lrzip keeps a temporary file, already unlinked, where it is told to or where one happens to stand.
        if let (None, Some(folder)) = (std::env::var_os("TMPDIR"), path.parent().filter(|folder| platform::is_writable(folder))) {
            command.env("TMPDIR", folder);
        }
        match plain {
            Some(_) => command.arg("-").stdin(Stdio::piped()),
            None => command.arg(&path).stdin(Stdio::null()),
        };
        let mut child = command.spawn().map_err(|e| format!("lrzip can't be run here: {e}"))?;
        let stdout = child.stdout.take().ok_or("lrzip has no output")?;
        let input = child.stdin.take();
        let feeding = plain.zip(input).map(|(plain, input)| std::thread::spawn(move || feed(plain, input)));
        let listening = listen(child.stderr.take());
        Ok((Self { child, feeding, seal, listening }, stdout))
    }

    /// To be called when all of its output has been read.
    fn end(mut self) -> Result<(), String> {
        let said = heard(self.listening.take());
        let status = self.child.wait().map_err(|e| e.to_string())?;
        let fed = self.feeding.take().map(|feeding| feeding.join().unwrap_or_else(|_| Err(io::Error::other("its reader died"))));
        if let Some(Err(e)) = fed.as_ref()
            && e.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(format!("it can't be decrypted: {e}"));
        }
        if !status.success() {
            return Err(format!("{LRZIP_REFUSES}: {}", printable(&said)));
        }
        match (fed, self.seal.take()) {
            (None, _) | (_, None) => Ok(()),
            (Some(Ok(sha256)), Some(seal)) => seal.hold(&sha256),
            (Some(Err(_)), Some(_)) => Err("it goes on behind its end".into()),
        }
    }
}

/// What is decrypted into lrzip, and its digest.
struct Summed {
    plain: Plain,
    sum: Sha256,
}

impl Read for Summed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.plain.read(buffer)?;
        self.sum.update(&buffer[..read]);
        Ok(read)
    }
}

fn feed(plain: Plain, mut input: ChildStdin) -> io::Result<String> {
    let mut summed = Summed { plain, sum: Sha256::new() };
    io::copy(&mut summed, &mut input)?;
    Ok(hex(&summed.sum.finalize()))
}

impl Drop for Decompressed {
    fn drop(&mut self) {
        // Where the walk ended early nobody reads its output any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Decompresses an archive and hands each member of its tar to `visit`.
pub(super) fn each_member(source: Source, mut visit: impl FnMut(&str, &mut Met<'_, '_>) -> Result<(), String>) -> Result<(), String> {
    let seen = source.seen.clone();
    let (lrzip, output) = Decompressed::open(source)?;
    let mut output = Counted { output, seen, untold: 0 };
    let read = read_members(&mut output, &mut visit);
    // Read to the end whatever was found: then lrzip's own verdict is known, and it is the better word for a cut archive.
    let drained = io::copy(&mut output, &mut io::sink());
    lrzip.end()?;
    read?;
    drained.map(drop).map_err(|e| e.to_string())
}

/// How many bytes are told of at once.
const TOLD: u64 = 4 << 20;

/// What lrzip decompresses, as it is read.
struct Counted {
    output: ChildStdout,
    seen: Option<Seen>,
    untold: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.output.read(buffer)?;
        self.untold += read as u64;
        // tar's heads come one by one: whoever is told wants a number now and then.
        if let Some(seen) = self.seen.as_ref().filter(|_| self.untold >= TOLD || (read == 0 && self.untold > 0)) {
            seen(std::mem::take(&mut self.untold));
        }
        Ok(read)
    }
}

type Visit<'a> = dyn FnMut(&str, &mut Met<'_, '_>) -> Result<(), String> + 'a;

pub(super) fn read_members(output: &mut dyn Read, visit: &mut Visit<'_>) -> Result<(), String> {
    each_entry(output, "it", &mut |entry| {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // Stock archives were packed with and without it.
        visit(name.strip_prefix("./").unwrap_or(&name), entry)
    })
}

/// Walks a whole archive: every byte is decompressed, lrzip's own checksum holds at the end.
///
/// # Errors
/// One sentence, when lrzip or the tar is not whole.
pub fn walk(source: Source) -> Result<Walked, String> {
    let mut walked = Walked { members: Vec::new(), description: None };
    each_member(source, |name, entry| walked.take(name, entry))?;
    Ok(walked)
}

/// The same, and every file inside the members that are tars themselves: trees, volumes, images.
///
/// # Errors
/// One sentence, when anything in it is not whole.
pub fn walk_deep(source: Source) -> Result<Walked, String> {
    let mut walked = Walked { members: Vec::new(), description: None };
    each_member(source, |name, entry| {
        walked.take(name, entry)?;
        let is_tar = name.ends_with(".tar") || (name.starts_with("tanker.volume.") && !name.ends_with(".deleted"));
        if !is_tar || entry.size() == 0 {
            return Ok(());
        }
        each_entry(entry, &format!("its member {}", printable(name)), &mut |_| Ok(()))
    })?;
    Ok(walked)
}

impl Walked {
    pub(super) fn take(&mut self, name: &str, entry: &mut Met<'_, '_>) -> Result<(), String> {
        self.members.push(Member { name: name.to_owned(), bytes: entry.size() });
        if name == "tanker.json" {
            let mut text = String::new();
            entry.take(LARGEST_DESCRIPTION).read_to_string(&mut text).map_err(|e| format!("its description can't be read: {e}"))?;
            self.description = serde_json::from_str(&text).ok();
        }
        Ok(())
    }
}
