//! Copies at a remote, through OpenDAL: the only place that names it. The layout is the library's, `<host>/<id>/…`; the manifest is
//! written last and removed first, so what has none is nothing (I2).

mod dav;
mod folder;
mod get;
mod honest;
mod left;
mod lock;
mod mirror;
mod parts;
mod put;
mod segments;
mod settle;
mod sftp;
mod turn;
mod valve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::digests::{SEAL, SUMS};
use super::records::FILE as RECORD;
use super::verify::hex;
use super::{LibraryError, MANIFEST, Problem};
use crate::model::id::{BackupId, HostName};
use crate::model::inventory::{Remote, RemoteKind};
use crate::model::manifest::{Manifest, parse_manifest};
use crate::model::text::printable;
use futures_util::{StreamExt, stream};
use opendal::layers::{HttpClientLayer, RetryEvent, RetryLayer, TimeoutLayer};
use opendal::raw::HttpClient;
use opendal::{ErrorKind, Operator, services};
use sha2::{Digest, Sha256};

pub(super) use get::COPYING;
pub use left::Leftover;
pub use mirror::Hold;
pub use settle::Settled;

/// A small file of a remote's that is larger than this is none (I8).
const LARGEST_SMALL: u64 = 16 << 20;
/// So many small files are asked for at once: what each costs is the way there and back.
const LOOKS: usize = 16;
/// How long a remote may take for an answer, or for a small piece of a file.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take for a part of an archive, with others beside it: a home's line is slow. One that is dead is noticed before.
const PART_PATIENCE: Duration = Duration::from_secs(3600);
/// So many parts of an archive are on their way at once.
const AT_ONCE: usize = 4;

/// A remote that was opened.
#[derive(Clone)]
pub struct Offsite {
    /// Its name in the inventory.
    pub name: String,
    operator: Operator,
    /// The same, for parts of an archive on a slow line.
    patient: Operator,
    /// Where a folder of this machine lies.
    folder: Option<PathBuf>,
    /// Large files go to WebDAV another way.
    dav: Option<dav::Dav>,
    /// Uploads by parts, and the name of the file beside an archive from which they are gone on with.
    parts: Option<(parts::Parts, String)>,
    /// Where Swift keeps the segments of archives.
    segments: Option<Operator>,
    /// What holds copies in a bucket with object lock.
    lock: Option<lock::Lock>,
}

/// A backup at a remote.
#[derive(Debug, Clone, PartialEq)]
pub struct Away {
    /// Its manifest, as it was written.
    text: Vec<u8>,
    /// The same, read.
    pub manifest: Manifest,
}

impl Away {
    /// `HOST@ID`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}", self.manifest.description.host, self.manifest.description.id)
    }

    fn path(&self, file: &str) -> String {
        path_of(&self.manifest, file)
    }
}

/// What a copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// It is there now.
    Now,
    /// It was there already.
    Before,
}

fn path_of(manifest: &Manifest, file: &str) -> String {
    format!("{}/{}/{file}", manifest.description.host, manifest.description.id)
}

impl Offsite {
    /// Opens a remote; nothing is asked of it yet. `told` hears of the first thing that has to be tried again.
    ///
    /// # Errors
    /// When something that it needs isn't said.
    pub fn open(
        remote: &Remote,
        secrets: &BTreeMap<&'static str, String>,
        home: &Path,
        told: impl Fn(&str) + Clone + Send + Sync + 'static,
    ) -> Result<Self, LibraryError> {
        // Whoever was first has set the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let option = |key: &str| remote.options.get(key).cloned();
        let secret = |key: &str| secrets.get(key).cloned().unwrap_or_default();
        let root = format!("/{}", remote.root);
        let needed = |key: &str| {
            option(key).ok_or_else(|| LibraryError::Missing(format!("the remote {} needs '{key}' in the inventory", remote.name)))
        };
        let operator = match remote.kind {
            RemoteKind::S3 => {
                let mut s3 = services::S3::default().bucket(&remote.place).root(&root).region(&region_of(remote));
                if let Some(endpoint) = option("endpoint") {
                    s3 = s3.endpoint(&endpoint);
                }
                // Without keys here, those of the environment and of the AWS files count.
                if secrets.contains_key("access_key") {
                    s3 = s3.access_key_id(&secret("access_key")).secret_access_key(&secret("secret_key")).session_token(&secret("token"));
                    s3 = s3.disable_config_load().disable_ec2_metadata();
                }
                if remote.object_lock.is_asked() {
                    s3 = s3.checksum_algorithm("crc32c");
                }
                Operator::new(s3).map(opendal::OperatorBuilder::finish)
            }
            RemoteKind::Swift => {
                let swift = services::Swift::default().endpoint(&needed("endpoint")?).container(&remote.place).root(&root);
                Operator::new(swift.token(&secret("token"))).map(opendal::OperatorBuilder::finish)
            }
            RemoteKind::Sftp => Ok(sftp::open(remote, &root, home)?),
            RemoteKind::WebDav => {
                let scheme = option("scheme").unwrap_or_default();
                let webdav = services::Webdav::default().endpoint(&format!("{scheme}://{}", remote.place)).root(&root);
                let webdav = webdav.username(&option("user").unwrap_or_default()).password(&secret("password"));
                Operator::new(webdav).map(opendal::OperatorBuilder::finish)
            }
            RemoteKind::Folder if !Path::new(&root).is_dir() => {
                let why =
                    format!("{} of the remote {} is not there: is its disk mounted? The first time, make the folder", root, remote.name);
                return Err(LibraryError::Missing(why));
            }
            RemoteKind::Folder => Operator::new(services::Fs::default().root(&root)).map(opendal::OperatorBuilder::finish),
        };
        let mut operator = operator.map_err(|e| wrong(&remote.name, "can't be used", &e))?;
        let (mut parts, mut segments) = (None, None);
        if let RemoteKind::S3 | RemoteKind::Swift = remote.kind {
            let client = http_client().map_err(|e| LibraryError::Missing(format!("no HTTP client can be made: {e}")))?;
            let through = parts::Parts::through(client, remote.kind == RemoteKind::Swift);
            operator = operator.layer(HttpClientLayer::new(HttpClient::with(through.clone())));
            // Parts with a checksum can't follow parts without one.
            let with_sums = remote.object_lock.is_asked();
            let place = format!("{} {} {root} {with_sums}", option("endpoint").unwrap_or_default(), remote.place);
            parts = Some((through, format!(".upload-{}", &hex(&Sha256::digest(place))[..8])));
        }
        if remote.kind == RemoteKind::Swift {
            let swift = services::Swift::default().endpoint(&needed("endpoint")?).container(&remote.place).token(&secret("token"));
            let below = Operator::new(swift.root(&format!("/.segments{root}"))).map(opendal::OperatorBuilder::finish);
            segments = Some(below.map_err(|e| wrong(&remote.name, "can't be used", &e))?);
        }
        let retry = || {
            let (name, told, said) = (remote.name.clone(), told.clone(), AtomicBool::new(false));
            let tell = move |event: RetryEvent<'_>| {
                if !said.swap(true, Ordering::Relaxed) {
                    told(&format!(
                        "the remote {name} doesn't do what it should, and is tried again for a minute: {}",
                        printable(&cause_of(event.err))
                    ));
                }
            };
            RetryLayer::new().with_max_times(6).with_jitter().with_max_delay(Duration::from_secs(10)).with_notify(tell)
        };
        let within = |patience| TimeoutLayer::new().with_timeout(PATIENCE).with_io_timeout(patience);
        let dav = (remote.kind == RemoteKind::WebDav).then(|| dav::Dav {
            base: format!("{}://{}{}", option("scheme").unwrap_or_default(), remote.place, root.trim_end_matches('/')),
            user: option("user"),
            password: secret("password"),
        });
        // In this order: what a concurrent upload waits for is the time that was set last.
        let quick = operator.clone().layer(within(PATIENCE)).layer(retry());
        let patient = operator.layer(within(PART_PATIENCE)).layer(retry());
        let segments = segments.map(|below| below.layer(within(PATIENCE)).layer(retry()));
        let folder = (remote.kind == RemoteKind::Folder).then(|| PathBuf::from(&root));
        let lock = lock::Lock::open(remote, secrets)?;
        Ok(Self { name: remote.name.clone(), operator: quick, patient, folder, dav, parts, segments, lock })
    }

    fn wrong(&self, what: &str, error: &opendal::Error) -> LibraryError {
        wrong(&self.name, what, error)
    }

    /// The backups there, oldest first, and what is wrong with the rest. A folder without a manifest is a copy under way.
    ///
    /// # Errors
    /// When the remote can't be read.
    pub async fn list(&self) -> Result<(Vec<Away>, Vec<Problem>), LibraryError> {
        let (mut found, mut problems, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for host in self.folders("/").await? {
            let Ok(name) = host.parse::<HostName>() else { continue };
            let ids = self.folders(&format!("{host}/")).await?;
            names.extend(ids.iter().filter_map(|id| id.parse::<BackupId>().ok()).map(|id| (name.clone(), id)));
        }
        let looks = names.into_iter().map(|(host, id)| async move { (self.look_whole(&host, &id).await, host, id) });
        let mut looks = stream::iter(looks).buffered(self.looks());
        while let Some((looked, host, id)) = looks.next().await {
            match looked? {
                Ok(Some(away)) => found.push(away),
                Ok(None) => {}
                Err(reason) => problems.push(Problem { path: PathBuf::from(host.as_str()).join(id.as_str()), reason }),
            }
        }
        found.sort_by_key(|away| (away.manifest.description.started, away.name()));
        Ok((found, problems))
    }

    /// A backup whose archive is there too, as large as it should be.
    async fn look_whole(&self, host: &HostName, id: &BackupId) -> Result<Result<Option<Away>, String>, LibraryError> {
        let away = match self.look(host, id).await {
            Ok(Ok(Some(away))) => away,
            Ok(other) => return Ok(other),
            // One odd object must not hide the others; a remote that doesn't answer is another matter.
            Err(e @ LibraryError::Damaged { .. }) => return Ok(Err(e.to_string())),
            Err(e) => return Err(e),
        };
        let expected = away.manifest.archive.bytes;
        Ok(match self.size(&away.path(&away.manifest.archive.file)).await? {
            Some(bytes) if bytes == expected => Ok(Some(away)),
            Some(bytes) => Err(format!("its archive has {bytes} bytes and the manifest says {expected}")),
            None => Err("its archive is not there".to_owned()),
        })
    }

    /// How many looks at once: by sftp each may be a login.
    fn looks(&self) -> usize {
        if self.operator.info().scheme() == "sftp" { 4 } else { LOOKS }
    }

    async fn folders(&self, path: &str) -> Result<Vec<String>, LibraryError> {
        let listed = match self.operator.list(path).await {
            Ok(listed) => listed,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.wrong("can't be listed", &e)),
        };
        let names = listed.iter().filter_map(|entry| entry.name().strip_suffix('/')).filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    /// A backup's manifest there; none where there is none, a sentence where it is wrong.
    ///
    /// # Errors
    /// When the remote can't be read.
    pub async fn look(&self, host: &HostName, id: &BackupId) -> Result<Result<Option<Away>, String>, LibraryError> {
        let Some(text) = self.small(&format!("{host}/{id}/{MANIFEST}")).await? else { return Ok(Ok(None)) };
        let manifest = match parse_manifest(&String::from_utf8_lossy(&text)) {
            Ok(manifest) => manifest,
            Err(e) => return Ok(Err(e.to_string())),
        };
        if manifest.description.host != *host || manifest.description.id != *id {
            return Ok(Err(format!("its manifest is of {}@{}", manifest.description.host, manifest.description.id)));
        }
        Ok(Ok(Some(Away { text, manifest })))
    }

    async fn small(&self, path: &str) -> Result<Option<Vec<u8>>, LibraryError> {
        let bytes = match self.operator.stat(path).await {
            Ok(found) if found.content_length() > LARGEST_SMALL => {
                let name = format!("{path} at the remote {}", self.name);
                return Err(LibraryError::Damaged { name, reason: "it is far too large".into() });
            }
            Ok(found) => found.content_length(),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.wrong("can't be read", &e)),
        };
        if bytes == 0 {
            return Ok(Some(Vec::new()));
        }
        // So much and no more, whatever the server sends.
        let read = self.operator.read_with(path).range(0..bytes).await;
        read.map(|bytes| Some(bytes.to_vec())).map_err(|e| self.wrong("can't be read", &e))
    }

    async fn size(&self, path: &str) -> Result<Option<u64>, LibraryError> {
        match self.operator.stat(path).await {
            Ok(found) => Ok(Some(found.content_length())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.wrong("can't be read", &e)),
        }
    }

    /// With everything that the remote keeps of it.
    async fn remove_archive(&self, path: &str) -> Result<(), LibraryError> {
        if let Some(below) = &self.segments {
            segments::remove(below, path).await.map_err(|e| self.wrong("doesn't let it go", &e))?;
        }
        self.operator.delete(path).await.map_err(|e| self.wrong("doesn't let it go", &e))
    }

    /// Removes a copy for good; its manifest first.
    ///
    /// # Errors
    /// When the remote doesn't let it go.
    pub async fn remove(&self, away: &Away) -> Result<(), LibraryError> {
        for file in [MANIFEST, SUMS, SEAL, RECORD, get::COPYING] {
            self.operator.delete(&away.path(file)).await.map_err(|e| self.wrong("doesn't let it go", &e))?;
        }
        self.remove_archive(&away.path(&away.manifest.archive.file)).await?;
        self.sweep(&away.path(""));
        // Object stores have no folders; where there are some an empty one is nothing.
        let _ = self.operator.delete(&away.path("")).await;
        Ok(())
    }
}

/// A line that is dead is noticed by what it doesn't acknowledge; what is sent may take as long as it takes. Only Linux tells: elsewhere
/// the system's own patience counts.
fn http_client() -> reqwest::Result<reqwest::Client> {
    let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(30));
    #[cfg(target_os = "linux")]
    let client = client.tcp_user_timeout(Duration::from_secs(120));
    client.build()
}

/// As the inventory says, or else the environment; one's own S3 has none and takes the first one that there was.
fn region_of(remote: &Remote) -> String {
    let told = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    remote.options.get("region").cloned().or(told).unwrap_or_else(|| "us-east-1".into())
}

fn wrong(remote: &str, what: &str, error: &opendal::Error) -> LibraryError {
    LibraryError::Offsite { remote: remote.to_owned(), reason: format!("{what}: {}", printable(&cause_of(error))) }
}

/// What lies at the bottom of it: a remote's own words, OpenSSH's, the system's. What is above says which call of a library's failed.
fn cause_of(error: &opendal::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let said = cause.to_string();
        next = cause.source();
        // Some repeat what is below them.
        if !next.is_some_and(|below| said.contains(&below.to_string())) && !said.trim().is_empty() {
            words.push(said.trim().to_owned());
        }
    }
    match words.len() {
        0 => error.to_string(),
        n => words.split_off(n.saturating_sub(2)).join(": "),
    }
}
