//! How a large archive lies at Swift: in segments, below `.segments/` in the same container, and a list of them in its place. OpenDAL puts
//! them at `.segments/<path of the archive><upload>/<number>` and removes only the list: whoever removes an archive removes its segments too.

use futures_util::{TryStreamExt, stream};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, Uri};
use opendal::{Buffer, ErrorKind, Operator};
use serde_json::Value;

/// OpenDAL tells uploads apart by a UUID, as text.
const UPLOAD_CHARACTERS: usize = 36;
/// So many are removed at once.
const AT_ONCE: usize = 16;

/// A segment's place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    /// The archive that it is of: its path in the container.
    pub(super) object: &'a str,
    /// The upload that it came with.
    pub(super) upload: &'a str,
    /// From 1 on.
    pub(super) number: u32,
}

/// What the path of a segment says.
pub(super) fn parse(path: &str) -> Option<Segment<'_>> {
    let (_, segment) = path.split_once("/.segments/")?;
    let (object, number) = segment.rsplit_once('/')?;
    let (object, upload) = object.split_at_checked(object.len().checked_sub(UPLOAD_CHARACTERS)?)?;
    let number = number.parse::<u32>().ok()?.checked_add(1)?;
    (!object.is_empty()).then_some(Segment { object, upload, number })
}

/// A request for a segment, or for the list of them, with another upload's name in it.
pub(super) fn of_upload(request: Request<Buffer>, upload: &str) -> Request<Buffer> {
    let (mut head, body) = request.into_parts();
    if let Some(path) = renamed(head.uri.path(), upload) {
        let mut uri = head.uri.clone().into_parts();
        uri.path_and_query = path.parse().ok();
        if let Ok(uri) = Uri::from_parts(uri) {
            head.uri = uri;
        }
        return Request::from_parts(head, body);
    }
    let Some(list) = listed(&body.to_vec(), upload) else { return Request::from_parts(head, body) };
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(list.len()));
    Request::from_parts(head, Buffer::from(list))
}

fn renamed(path: &str, upload: &str) -> Option<String> {
    let old = parse(path)?.upload;
    let (before, number) = path.rsplit_once('/')?;
    Some(format!("{}{upload}/{number}", before.strip_suffix(old)?))
}

fn listed(list: &[u8], upload: &str) -> Option<Vec<u8>> {
    let mut list: Vec<Value> = serde_json::from_slice(list).ok()?;
    for entry in &mut list {
        let path = entry.get_mut("path")?;
        *path = Value::from(renamed(path.as_str()?, upload)?);
    }
    serde_json::to_vec(&list).ok()
}

/// Removes every segment of an archive, also those of uploads that were never ended.
pub(super) async fn remove(segments: &Operator, archive: &str) -> opendal::Result<()> {
    let Some((folder, file)) = archive.rsplit_once('/') else { return Ok(()) };
    let listed = match segments.list(&format!("{folder}/")).await {
        Ok(listed) => listed,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let of_it = |name: &str| name.strip_prefix(file).is_some_and(|upload| upload.trim_end_matches('/').len() == UPLOAD_CHARACTERS);
    for upload in listed.iter().filter(|entry| of_it(entry.name())) {
        let all = segments.list(&format!("{}/", upload.path().trim_end_matches('/'))).await?;
        let files = all.iter().filter(|entry| !entry.path().ends_with('/')).map(|entry| Ok::<_, opendal::Error>(entry.path()));
        stream::iter(files).try_for_each_concurrent(AT_ONCE, |path| segments.delete(path)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPLOAD: &str = "0a1b2c3d-0a1b-4a1b-8a1b-0a1b2c3d4e5f";

    #[test]
    fn a_segment_is_told_by_its_path_and_nothing_else_is_one() {
        let path = format!("/v1/AUTH_x/backups/.segments/one/east/2026-11-20-02_00/a.tar.lrz{UPLOAD}/00000007");
        let segment = Segment { object: "one/east/2026-11-20-02_00/a.tar.lrz", upload: UPLOAD, number: 8 };
        assert_eq!(parse(&path), Some(segment));
        for other in ["/v1/AUTH_x/backups/one/east/a", "/v1/c/.segments/short/00000000", &format!("/v1/c/.segments/a{UPLOAD}/x")] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn segments_and_their_list_are_of_the_upload_that_was_begun() {
        let old = UPLOAD.replace('0', "9");
        let entry = |upload: &str, n: u32| serde_json::json!({ "path": format!("backups/.segments/one/a{upload}/{n:08}"), "etag": format!("e{n}"), "size_bytes": 5 });
        let list = serde_json::to_vec(&[entry(UPLOAD, 0), entry(UPLOAD, 1)]).unwrap();
        let request =
            Request::put("http://h/v1/c/one/a?multipart-manifest=put").header(CONTENT_LENGTH, 1).body(Buffer::from(list)).unwrap();
        let made = of_upload(request, &old);
        assert_eq!(made.headers()[CONTENT_LENGTH], made.body().len().to_string());
        assert_eq!(made.uri(), "http://h/v1/c/one/a?multipart-manifest=put");
        assert_eq!(serde_json::from_slice::<Value>(&made.body().to_vec()).unwrap(), serde_json::json!([entry(&old, 0), entry(&old, 1)]));
        let segment = Request::put(format!("http://h/v1/c/.segments/one/a{UPLOAD}/00000003")).body(Buffer::from("x")).unwrap();
        let made = of_upload(segment, &old);
        assert_eq!(made.uri().path(), format!("/v1/c/.segments/one/a{old}/00000003"));
        assert_eq!(made.body().to_vec(), b"x");
    }
}
