//! S3's object lock. OpenDAL knows none and signs its requests before anybody could add a retention to them, so a copy that has arrived is
//! locked by a request of its own; credentials and signatures are those of the crate that OpenDAL has them from.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::{Method, Request, StatusCode};
use md5::{Digest, Md5};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, HttpSend, OsEnv, ProvideCredentialChain, Signer};
use reqsign_file_read_tokio::TokioFileRead;

use super::super::digests::{SEAL, SUMS};
use super::super::{Entry, LibraryError, MANIFEST};
use super::{Offsite, http_client, path_of, region_of};
use crate::model::inventory::{ObjectLock, Remote, RemoteKind};
use crate::model::text::printable;

const TRIES: u32 = 5;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a URL that is asked of OpenDAL would be good for; only its path is used.
const A_WHILE: Duration = Duration::from_secs(60);
const XML: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// What holds copies. No `Debug` (I6).
#[derive(Clone)]
pub(super) struct Lock {
    how: ObjectLock,
    client: reqwest::Client,
    signer: Signer<Credential>,
    bucket: String,
}

/// For credentials that somebody else hands out.
#[derive(Debug)]
struct Send(reqwest::Client);

impl HttpSend for Send {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<http::Response<Bytes>> {
        let failed = |e: reqwest::Error| reqsign_core::Error::unexpected("no answer").with_source(e.without_url());
        let answer = self.0.execute(request.try_into().map_err(failed)?).await.map_err(failed)?;
        let mut response = http::Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        let body = answer.bytes().await.map_err(failed)?;
        response.body(body).map_err(|e| reqsign_core::Error::unexpected("no answer").with_source(e))
    }
}

impl Lock {
    /// None where none is asked for.
    pub(super) fn open(remote: &Remote, secrets: &BTreeMap<&'static str, String>) -> Result<Option<Self>, LibraryError> {
        if remote.kind != RemoteKind::S3 || !remote.object_lock.is_asked() {
            return Ok(None);
        }
        let client = http_client().map_err(|e| LibraryError::Missing(format!("no HTTP client can be made: {e}")))?;
        let secret = |key: &str| secrets.get(key).map(String::as_str).unwrap_or_default();
        let provider = match secrets.contains_key("access_key") {
            true => {
                let given = StaticCredentialProvider::new(secret("access_key"), secret("secret_key"));
                let token = secret("token");
                ProvideCredentialChain::new().push(if token.is_empty() { given } else { given.with_session_token(token) })
            }
            false => ProvideCredentialChain::new().push(DefaultCredentialProvider::new()),
        };
        let context = Context::new().with_file_read(TokioFileRead).with_http_send(Send(client.clone())).with_env(OsEnv);
        let signer = Signer::new(context, provider, RequestSigner::new("s3", &region_of(remote)));
        Ok(Some(Self { how: remote.object_lock, client, signer, bucket: remote.place.clone() }))
    }

    /// For how many days a copy is locked by its own, and how.
    fn own(&self) -> Option<(&'static str, u16)> {
        match self.how {
            ObjectLock::No | ObjectLock::Bucket => None,
            ObjectLock::Governance(days) => Some(("GOVERNANCE", days)),
            ObjectLock::Compliance(days) => Some(("COMPLIANCE", days)),
        }
    }

    /// One signed request, tried again where the remote or the line is at fault.
    async fn ask(&self, method: Method, url: &str, body: &str) -> Result<(StatusCode, String), String> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs(1 << attempt.min(3))).await;
            }
            let mut request = Request::builder().method(method.clone()).uri(url);
            if !body.is_empty() {
                request = request.header("content-md5", STANDARD.encode(Md5::digest(body)));
            }
            let (mut head, body) = request.body(body.to_owned()).map_err(|e| e.to_string())?.into_parts();
            self.signer.sign(&mut head, None).await.map_err(|e| printable(&e.to_string()))?;
            let mut signed = reqwest::Request::try_from(Request::from_parts(head, body)).map_err(|e| e.to_string())?;
            *signed.timeout_mut() = Some(PATIENCE);
            match self.client.execute(signed).await {
                Ok(answer) if answer.status() != StatusCode::NOT_IMPLEMENTED && answer.status().is_server_error() => {
                    last = format!("it says {}", answer.status());
                }
                Ok(answer) => {
                    let status = answer.status();
                    match answer.text().await {
                        Ok(text) => return Ok((status, text)),
                        Err(e) => last = printable(&e.without_url().to_string()),
                    }
                }
                Err(e) => last = printable(&e.without_url().to_string()),
            }
        }
        Err(last)
    }
}

/// What stands in an element of an answer.
fn said<'a>(xml: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{element}>"))?;
    Some(rest.split_once('<')?.0.trim())
}

/// Whether what an object is locked by is no less than this, to the second that an answer is written in.
fn holds(retention: &str, mode: &str, until: DateTime<Utc>) -> bool {
    let long = said(retention, "RetainUntilDate").and_then(|date| date.parse::<DateTime<Utc>>().ok());
    let hard = said(retention, "Mode").is_some_and(|there| there == mode || there == "COMPLIANCE");
    hard && long.is_some_and(|there| there >= until - TimeDelta::seconds(1))
}

impl Offsite {
    /// Where object lock is asked for, whether the bucket can do it: asked before an archive is on its way for hours.
    ///
    /// # Errors
    /// When it can't, or the remote doesn't answer. One that lets nobody ask is believed.
    pub(super) async fn may_lock(&self, entry: &Entry) -> Result<(), LibraryError> {
        let Some(lock) = &self.lock else { return Ok(()) };
        let path = path_of(&entry.manifest, MANIFEST);
        let object = self.url_of(&path).await?;
        let root = self.operator.info().root();
        let below = opendal::raw::percent_encode_path(&format!("{}{path}", root.trim_start_matches('/')));
        let bucket = object.strip_suffix(&below).unwrap_or(&object).trim_end_matches('/');
        let asked = lock.ask(Method::GET, &format!("{bucket}?object-lock"), "").await;
        let (status, text) = asked.map_err(|why| self.not_locked(&why))?;
        let enabled = said(&text, "ObjectLockEnabled") == Some("Enabled");
        let holds = lock.own().is_some() || said(&text, "Mode").is_some();
        let lacks = match status {
            StatusCode::FORBIDDEN => return Ok(()),
            StatusCode::OK if enabled && holds => return Ok(()),
            StatusCode::OK if enabled => "has object lock but no default retention: set one, or say how long with 'object_lock_days'",
            _ => "has no object lock: it must be made with it. Or don't ask for it in the inventory",
        };
        Err(LibraryError::Missing(format!("the bucket {} of the remote {} {lacks}", lock.bucket, self.name)))
    }

    /// Locks a copy that is there, for so many days from when it came, where it isn't yet: the manifest last, so one that is locked says that
    /// all of it is.
    ///
    /// # Errors
    /// When the remote doesn't lock it.
    pub(super) async fn lock(&self, entry: &Entry) -> Result<(), LibraryError> {
        let Some((lock, (mode, days))) = self.lock.as_ref().and_then(|lock| Some((lock, lock.own()?))) else { return Ok(()) };
        let path = |file: &str| path_of(&entry.manifest, file);
        let about = self.operator.stat(&path(MANIFEST)).await.map_err(|e| self.wrong("can't be read", &e))?;
        let came = DateTime::<Utc>::from(about.last_modified().map_or_else(SystemTime::now, SystemTime::from));
        let until = came + TimeDelta::days(i64::from(days));
        let manifest = format!("{}?retention", self.url_of(&path(MANIFEST)).await?);
        let (status, text) = lock.ask(Method::GET, &manifest, "").await.map_err(|why| self.not_locked(&why))?;
        if until <= DateTime::<Utc>::from(SystemTime::now()) || (status.is_success() && holds(&text, mode, until)) {
            return Ok(());
        }
        let date = until.to_rfc3339_opts(SecondsFormat::Secs, true);
        let wanted = format!("<Retention xmlns=\"{XML}\"><Mode>{mode}</Mode><RetainUntilDate>{date}</RetainUntilDate></Retention>");
        let proofs = [SUMS, SEAL].into_iter().filter(|file| entry.folder.join(file).exists());
        for file in [entry.manifest.archive.file.as_str()].into_iter().chain(proofs).chain([MANIFEST]) {
            let url = format!("{}?retention", self.url_of(&path(file)).await?);
            let (status, text) = lock.ask(Method::PUT, &url, &wanted).await.map_err(|why| self.not_locked(&why))?;
            if !status.is_success() {
                let code = said(&text, "Code").map(printable).unwrap_or_default();
                return Err(self.not_locked(&format!("it says {status} {code}")));
            }
        }
        Ok(())
    }

    /// Where OpenDAL would read a file.
    async fn url_of(&self, path: &str) -> Result<String, LibraryError> {
        let read = self.operator.presign_read(path, A_WHILE).await.map_err(|e| self.wrong("can't be asked for a lock", &e))?;
        let url = read.uri().to_string();
        Ok(url.split_once('?').map_or(url.clone(), |(path, _)| path.to_owned()))
    }

    fn not_locked(&self, why: &str) -> LibraryError {
        LibraryError::Offsite { remote: self.name.clone(), reason: format!("doesn't lock copies: {why}. Copy it again to try again") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_shorter_or_softer_than_what_is_asked_for_holds_nothing() {
        let until: DateTime<Utc> = "2026-12-01T00:00:00.4Z".parse().unwrap();
        let there = |mode: &str, date: &str| format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{date}</RetainUntilDate></Retention>");
        assert!(holds(&there("GOVERNANCE", "2026-12-01T00:00:00.000000000Z"), "GOVERNANCE", until));
        assert!(holds(&there("COMPLIANCE", "2027-12-01T00:00:00Z"), "GOVERNANCE", until));
        assert!(!holds(&there("GOVERNANCE", "2027-12-01T00:00:00Z"), "COMPLIANCE", until));
        assert!(!holds(&there("GOVERNANCE", "2026-11-30T00:00:00Z"), "GOVERNANCE", until));
        assert!(!holds("<Error><Code>NoSuchObjectLockConfiguration</Code></Error>", "GOVERNANCE", until));
    }

    #[test]
    fn an_answer_s_elements_are_read() {
        let xml =
            "<?xml version=\"1.0\"?><Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2026-12-01T00:00:00Z</RetainUntilDate></Retention>";
        assert_eq!(said(xml, "Mode"), Some("GOVERNANCE"));
        assert_eq!(said(xml, "Code"), None);
        assert_eq!(said("<Mode>cut off", "Mode"), None);
    }
}
