//! Large files to a WebDAV server: OpenDAL hands one over in a single piece, which would have to lie in memory whole.

use std::path::Path;
use std::time::Duration;

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, StatusCode};

use super::super::LibraryError;
use super::{Offsite, http_client};

const TRIES: u32 = 6;
/// A server that takes less than this in a second, on the whole, is given up.
const SLOWEST: u64 = 16 << 10;

/// A WebDAV server's folder. No `Debug` (I6).
#[derive(Clone)]
pub(super) struct Dav {
    pub(super) base: String,
    pub(super) user: Option<String>,
    pub(super) password: String,
}

impl Offsite {
    /// Streams a file to a path whose folder is there already; from its beginning again where the line breaks.
    pub(super) async fn stream(&self, dav: &Dav, file: &Path, path: &str) -> Result<(), LibraryError> {
        let failed =
            |what: String| LibraryError::Offsite { remote: self.name.clone(), reason: format!("doesn't take the archive: {what}") };
        let client = http_client().map_err(|e| failed(e.to_string()))?;
        let mut last = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs(1 << attempt.min(4))).await;
            }
            let source = tokio::fs::File::open(file).await.map_err(LibraryError::file(file, "can't be read"))?;
            let bytes = source.metadata().await.map_err(LibraryError::file(file, "can't be read"))?.len();
            let longest = Duration::from_secs(1800 + bytes / SLOWEST);
            let mut request =
                client.put(format!("{}/{path}", dav.base)).header(CONTENT_LENGTH, bytes).body(Body::from(source)).timeout(longest);
            if let Some(user) = &dav.user {
                request = request.basic_auth(user, Some(&dav.password));
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                    last = format!("it says {}", answer.status());
                }
                Ok(answer) => return Err(failed(format!("it says {}", answer.status()))),
                Err(e) => last = crate::model::text::printable(&e.without_url().to_string()),
            }
        }
        Err(failed(last))
    }
}
