//! What arrives is what was sent: each piece of an upload carries its MD5, which S3 and Swift hold against what came and refuse what differs.
//! Neither is read back afterwards, and a line between here and there can be anything.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use http::header::ETAG;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use md5::{Digest, Md5};
use opendal::Buffer;
use opendal::raw::{HttpBody, HttpFetch};

use super::super::verify::hex;

/// How often something is sent again that came as something else.
const TRIES: usize = 4;
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Sends a request, with the digest of what it brings.
pub(super) async fn send(client: &reqwest::Client, swift: bool, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
    // The list of an archive's segments is held against the segments.
    let is_list = request.uri().query().is_some_and(|query| query.contains("multipart-manifest"));
    if request.method() != Method::PUT || request.body().is_empty() || is_list {
        return client.fetch(request).await;
    }
    let (mut head, body) = request.into_parts();
    let mut sum = Md5::new();
    body.clone().for_each(|bytes| sum.update(&bytes));
    let sum = sum.finalize();
    let (name, text) = if swift { (ETAG, hex(&sum)) } else { (CONTENT_MD5, STANDARD.encode(sum)) };
    if let Ok(value) = HeaderValue::from_str(&text) {
        head.headers.insert(name, value);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let response = client.fetch(Request::from_parts(head.clone(), body.clone())).await?;
        if ![StatusCode::UNPROCESSABLE_ENTITY, StatusCode::BAD_REQUEST].contains(&response.status()) {
            return Ok(response);
        }
        let (answer, mut said) = response.into_parts();
        let said = said.to_buffer().await?;
        let came_otherwise =
            answer.status == StatusCode::UNPROCESSABLE_ENTITY || String::from_utf8_lossy(&said.to_vec()).contains("<Code>BadDigest</Code>");
        if !came_otherwise || tries == TRIES {
            return Ok(Response::from_parts(answer, body_of(said)));
        }
    }
}

/// What was read already, as the body of an answer.
pub(super) fn body_of(bytes: Buffer) -> HttpBody {
    let count = bytes.len() as u64;
    HttpBody::new(stream::iter([Ok(bytes)]), Some(count))
}
