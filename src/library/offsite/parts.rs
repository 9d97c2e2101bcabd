//! Uploads by parts. OpenDAL's requests pass through here, for two reasons: it keeps more in memory than it must (see `valve`), and it begins
//! every upload anew. What a remote has answered an earlier run is answered again without asking it; it stands beside the archive, a line
//! each.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::ETAG;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use opendal::Buffer;
use opendal::raw::{HttpBody, HttpFetch};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::verify::hex;
use super::valve::Valve;
use super::{honest, segments};
use crate::platform;

/// What a remote has answered to uploads, by the end of the path that each goes to.
#[derive(Clone)]
pub(super) struct Parts {
    client: reqwest::Client,
    /// Swift's protocol: an upload is begun by its first segment.
    by_segments: bool,
    ledgers: Arc<Mutex<HashMap<String, Ledger>>>,
    pub(super) valve: Arc<Valve>,
}

struct Ledger {
    path: PathBuf,
    file: File,
    what: What,
    /// The answer that began it; for Swift, the name that OpenDAL gave it.
    begun: Option<String>,
    over: bool,
    parts: BTreeMap<u32, Part>,
    went_on: bool,
}

/// Which bytes are sent, and in which pieces: others can't be gone on with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct What {
    pub(super) sha256: String,
    pub(super) part_bytes: u64,
}

/// A part that the remote has.
#[derive(Clone, Serialize, Deserialize)]
struct Part {
    sha256: String,
    etag: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Upload { what: What, answer: String },
    Part { number: u32, part: Part },
}

/// What a request is to an upload.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Begin,
    /// From 1 on, as S3 counts.
    Part(u32),
    End,
}

/// What a request is to which upload.
struct Asked {
    asks: Asks,
    /// Its end is the path that the upload goes to.
    path: String,
    /// Swift's: the name of the upload that a segment is of.
    upload: Option<String>,
}

impl Parts {
    pub(super) fn through(client: reqwest::Client, by_segments: bool) -> Self {
        Self { client, by_segments, ledgers: Arc::default(), valve: Arc::default() }
    }

    /// From here on what the remote answers to this path is kept in a file; what stands there of the same upload is known. Where the file
    /// can't be written nothing is kept: an upload doesn't need it. Tells whether it goes on with what an earlier run has begun.
    pub(super) fn open(&self, path: &str, file: &Path, what: What) -> bool {
        let lines = fs::read_to_string(file).unwrap_or_default();
        let mut lines = lines.lines().map_while(|line| serde_json::from_str(line).ok());
        let (mut begun, mut parts) = (None, BTreeMap::new());
        if let Some(Line::Upload { what: before, answer }) = lines.next()
            && before == what
        {
            begun = Some(answer);
            parts.extend(lines.filter_map(|line| match line {
                Line::Part { number, part } => Some((number, part)),
                Line::Upload { .. } => None,
            }));
        }
        let Ok(opened) = platform::private().create(true).write(true).truncate(true).open(file) else { return false };
        let went_on = begun.is_some();
        let mut ledger = Ledger { path: file.to_owned(), file: opened, what, begun: None, over: false, parts: BTreeMap::new(), went_on };
        if let Some(answer) = begun {
            ledger.begin(answer);
            parts.into_iter().for_each(|(number, part)| ledger.add(number, part));
        }
        self.all().insert(path.to_owned(), ledger);
        went_on
    }

    /// Nothing is kept of this path any more, except for a later run where it isn't done. Tells whether an upload was gone on with that the
    /// remote no longer takes.
    pub(super) fn close(&self, path: &str, done: bool) -> bool {
        let Some(ledger) = self.all().remove(path) else { return false };
        if ledger.begun.is_some() && !done {
            return false;
        }
        // What can't be removed is no harm: it says of which bytes it is.
        let _ = fs::remove_file(&ledger.path);
        ledger.went_on
    }

    /// An upload that is given up from here.
    pub(super) fn forget(&self, path: &str) {
        if let Some(ledger) = self.all().get_mut(path) {
            ledger.forget();
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Ledger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, request: &str, work: impl FnOnce(&mut Ledger) -> T) -> Option<T> {
        self.all().iter_mut().find(|(path, _)| request.ends_with(&format!("/{path}"))).map(|(_, ledger)| work(ledger))
    }

    async fn answer(&self, asked: Asked, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let Asked { asks, path, upload } = asked;
        if self.with(&path, |_| ()).is_none() {
            return honest::send(&self.client, self.by_segments, request).await;
        }
        let sha256 = digest(request.body());
        let request = if self.by_segments { self.of_one_upload(&path, upload, request) } else { request };
        let known = self.with(&path, |ledger| match asks {
            Asks::Begin => ledger.begun.clone().map(|text| answer(Buffer::from(text), None)),
            Asks::Part(number) => {
                let part = ledger.parts.get(&number).filter(|part| part.sha256 == sha256)?;
                Some(answer(Buffer::new(), Some(HeaderValue::from_str(&part.etag).ok()?)))
            }
            Asks::End => None,
        });
        if let Some(known) = known.flatten() {
            return Ok(known);
        }
        let deleted = request.method() == Method::DELETE;
        let mut response = honest::send(&self.client, self.by_segments, request).await?;
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let body = response.body_mut().to_buffer().await?;
        let text = String::from_utf8_lossy(&body.to_vec()).into_owned();
        let status = response.status();
        self.with(&path, |ledger| match asks {
            Asks::Begin if status == StatusCode::OK && names_upload(&text) => ledger.begin(text),
            Asks::Part(number) if status == StatusCode::OK || status == StatusCode::CREATED => {
                if let Some(etag) = etag {
                    ledger.add(number, Part { sha256, etag });
                }
            }
            Asks::Part(_) | Asks::End if is_over(status, &text) => ledger.forget(),
            // Swift names the segments that are not there any more, or are others.
            Asks::End if self.by_segments && status == StatusCode::BAD_REQUEST => ledger.forget(),
            // S3 may say what went wrong after it has said that all is well.
            Asks::End if status.is_success() && (deleted || !text.contains("<Error")) => ledger.forget(),
            _ => {}
        });
        Ok(response.map(|_| honest::body_of(body)))
    }

    /// What is sent to Swift becomes part of the upload that an earlier run has begun: what that was sending when it ended is written over.
    fn of_one_upload(&self, path: &str, upload: Option<String>, request: Request<Buffer>) -> Request<Buffer> {
        let begun = self.with(path, |ledger| {
            if let (Some(upload), None, false) = (upload, &ledger.begun, ledger.over) {
                ledger.begin(upload);
            }
            ledger.begun.clone()
        });
        match begun.flatten() {
            Some(upload) => segments::of_upload(request, &upload),
            None => request,
        }
    }
}

impl Ledger {
    // What can't be kept is sent again by a later run: no reason to end this one.
    fn keep(&mut self, line: &Line) {
        if let Ok(text) = serde_json::to_string(line) {
            let _ = self.file.write_all((text + "\n").as_bytes());
        }
    }

    fn begin(&mut self, answer: String) {
        self.keep(&Line::Upload { what: self.what.clone(), answer: answer.clone() });
        self.begun = Some(answer);
    }

    fn add(&mut self, number: u32, part: Part) {
        // A late answer to an upload that is over.
        if self.begun.is_none() {
            return;
        }
        self.keep(&Line::Part { number, part: part.clone() });
        self.parts.insert(number, part);
    }

    fn forget(&mut self) {
        // As above: what is left there is of an upload that the remote doesn't take.
        let _ = self.file.set_len(0);
        (self.begun, self.parts, self.over) = (None, BTreeMap::new(), true);
    }
}

fn digest(body: &Buffer) -> String {
    let mut sum = Sha256::new();
    body.clone().for_each(|bytes| sum.update(&bytes));
    hex(&sum.finalize())
}

fn names_upload(text: &str) -> bool {
    text.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once("</UploadId>")).is_some_and(|(id, _)| !id.trim().is_empty())
}

/// Whether an upload can never be completed: the remote doesn't know it any more, or not the parts that were meant. What a login or a clock
/// is wrong about is no such thing.
fn is_over(status: StatusCode, text: &str) -> bool {
    let codes = ["NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "InvalidRequest", "InvalidArgument"];
    status == StatusCode::NOT_FOUND
        || (status == StatusCode::BAD_REQUEST || status.is_success())
            && codes.iter().any(|code| text.contains(&format!("<Code>{code}</Code>")))
}

fn asks(request: &Request<Buffer>) -> Option<Asked> {
    let query = request.uri().query().unwrap_or_default();
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let path = request.uri().path();
    let of_path = |asks| Some(Asked { asks, path: path.to_owned(), upload: None });
    match (request.method(), value("partNumber"), value("uploadId")) {
        (&Method::PUT, Some(number), Some(_)) => of_path(Asks::Part(number.parse().ok()?)),
        (&Method::POST | &Method::DELETE, None, Some(_)) => of_path(Asks::End),
        (&Method::POST, None, None) if query.split('&').any(|pair| pair == "uploads" || pair == "uploads=") => of_path(Asks::Begin),
        (&Method::PUT, None, None) if value("multipart-manifest") == Some("put") => of_path(Asks::End),
        (&Method::PUT, None, None) => {
            let segment = segments::parse(path)?;
            Some(Asked { asks: Asks::Part(segment.number), path: format!("/{}", segment.object), upload: Some(segment.upload.to_owned()) })
        }
        _ => None,
    }
}

fn answer(body: Buffer, etag: Option<HeaderValue>) -> Response<HttpBody> {
    let mut response = Response::new(honest::body_of(body));
    if let Some(etag) = etag {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

impl HttpFetch for Parts {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let Some(asked) = asks(&request) else { return honest::send(&self.client, self.by_segments, request).await };
        let asks = asked.asks;
        let response = self.answer(asked, request).await?;
        if let Asks::Part(number) = asks
            && response.status().is_success()
        {
            self.valve.pass(number.saturating_sub(1)).await;
        }
        Ok(response)
    }
}
