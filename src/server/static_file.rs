//! A file in memory over HTTP: validators, one byte range, and only its head where that was asked for (RFC 9110).

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{self, HeaderValue},
};

/// A file whose content does not change while the box runs.
#[derive(Debug, Clone, Copy)]
pub struct StaticFile<'a> {
    pub bytes: &'a Bytes,
    pub content_type: &'a str,
    /// A strong entity tag, with its quotes.
    pub etag: &'a str,
    pub cache_control: &'static str,
}

impl StaticFile<'_> {
    /// The answer to a `GET` or `HEAD` with these headers.
    pub fn respond(&self, method: &Method, headers: &HeaderMap) -> Response<Full<Bytes>> {
        if is_listed(headers, self.etag) {
            return self.response(StatusCode::NOT_MODIFIED, Bytes::new());
        }
        match self.range(method, headers) {
            Asked::Whole => {
                let mut response = self.response(StatusCode::OK, self.bytes.clone());
                self.describe(&mut response, self.bytes.len());
                response
            }
            Asked::Part { first, last } => {
                let part = self.bytes.slice(first..=last);
                let mut response = self.response(StatusCode::PARTIAL_CONTENT, part);
                self.describe(&mut response, last - first + 1);
                set(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{}", self.bytes.len()));
                response
            }
            Asked::Nothing => {
                let mut response = self.response(StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new());
                set(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", self.bytes.len()));
                response
            }
        }
    }

    fn response(&self, status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        set(&mut response, header::ETAG, self.etag);
        set(&mut response, header::CACHE_CONTROL, self.cache_control);
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        response
    }

    /// hyper leaves the body of an answer to `HEAD` away; the length must still be told.
    fn describe(&self, response: &mut Response<Full<Bytes>>, length: usize) {
        set(response, header::CONTENT_TYPE, self.content_type);
        set(response, header::CONTENT_LENGTH, &length.to_string());
    }

    /// Ranges hold for `GET` alone, and only if `If-Range` names this very content. Several ranges at once, other
    /// units and what cannot be read are answered with the whole file, as §14.2 allows.
    fn range(&self, method: &Method, headers: &HeaderMap) -> Asked {
        let still_ours = headers.get(header::IF_RANGE).is_none_or(|tag| tag == self.etag);
        if method != Method::GET || !still_ours {
            return Asked::Whole;
        }
        let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        range.and_then(|range| one_range(range, self.bytes.len())).unwrap_or(Asked::Whole)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Whole,
    Part {
        first: usize,
        last: usize,
    },
    /// The range begins behind the end.
    Nothing,
}

fn one_range(range: &str, length: usize) -> Option<Asked> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    if first.is_empty() {
        let wanted = position(last)?.min(length);
        return Some(if wanted == 0 {
            Asked::Nothing
        } else {
            Asked::Part { first: length - wanted, last: length - 1 }
        });
    }
    let first = position(first)?;
    let last = if last.is_empty() { usize::MAX } else { position(last)? };
    if last < first {
        return None;
    }
    Some(if first >= length { Asked::Nothing } else { Asked::Part { first, last: last.min(length - 1) } })
}

/// Digits only; more than we can count is as far as we can count.
fn position(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

/// Whether `If-None-Match` names the tag; compared weakly (§13.1.2).
fn is_listed(headers: &HeaderMap, etag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

fn set(response: &mut Response<Full<Bytes>>, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn respond(method: Method, pairs: &[(header::HeaderName, &'static str)]) -> Response<Full<Bytes>> {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        let bytes = Bytes::from_static(b"0123456789");
        StaticFile { bytes: &bytes, content_type: "audio/mpeg", etag: "\"v1\"", cache_control: "public" }
            .respond(&method, &headers)
    }

    fn told(response: &Response<Full<Bytes>>, name: header::HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn the_whole_file_comes_with_its_type_length_and_validators() {
        for method in [Method::GET, Method::HEAD] {
            let response = respond(method, &[]);
            assert_eq!(response.status(), 200);
            assert_eq!(told(&response, header::CONTENT_TYPE), "audio/mpeg");
            assert_eq!(told(&response, header::CONTENT_LENGTH), "10");
            assert_eq!(told(&response, header::ETAG), "\"v1\"");
            assert_eq!(told(&response, header::CACHE_CONTROL), "public");
        }
    }

    #[test]
    fn who_has_the_file_already_gets_304() {
        for tags in ["\"v1\"", "W/\"v1\"", "\"v0\", \"v1\"", "*"] {
            let response = respond(Method::GET, &[(header::IF_NONE_MATCH, tags), (header::RANGE, "bytes=0-1")]);
            assert_eq!((response.status().as_u16(), told(&response, header::ETAG)), (304, "\"v1\""), "{tags}");
        }
        assert_eq!(respond(Method::GET, &[(header::IF_NONE_MATCH, "\"v2\"")]).status(), 200);
    }

    #[test]
    fn one_range_is_cut_out_and_one_behind_the_end_is_refused() {
        for (range, told_range, length) in [
            ("bytes=0-3", "bytes 0-3/10", "4"),
            ("bytes=7-", "bytes 7-9/10", "3"),
            ("bytes=-2", "bytes 8-9/10", "2"),
            ("bytes=-99", "bytes 0-9/10", "10"),
            ("bytes=5-99999999999999999999999", "bytes 5-9/10", "5"),
        ] {
            let response = respond(Method::GET, &[(header::RANGE, range)]);
            assert_eq!(response.status(), 206, "{range}");
            assert_eq!(told(&response, header::CONTENT_RANGE), told_range);
            assert_eq!(told(&response, header::CONTENT_LENGTH), length);
        }
        for range in ["bytes=10-", "bytes=99999999999999999999999-", "bytes=-0"] {
            let response = respond(Method::GET, &[(header::RANGE, range)]);
            assert_eq!((response.status().as_u16(), told(&response, header::CONTENT_RANGE)), (416, "bytes */10"));
        }
    }

    #[test]
    fn a_range_that_cannot_be_kept_is_answered_with_the_whole_file() {
        for range in
            ["bytes=0-1,3-4", "bytes=4-2", "lines=1-2", "bytes", "bytes=", "bytes=-", "bytes=+1-2", "bytes=a-b"]
        {
            assert_eq!(respond(Method::GET, &[(header::RANGE, range)]).status(), 200, "{range}");
        }
        assert_eq!(respond(Method::HEAD, &[(header::RANGE, "bytes=0-1")]).status(), 200);
        let changed = [(header::RANGE, "bytes=0-1"), (header::IF_RANGE, "\"v0\"")];
        assert_eq!(respond(Method::GET, &changed).status(), 200);
        let same = [(header::RANGE, "bytes=0-1"), (header::IF_RANGE, "\"v1\"")];
        assert_eq!(respond(Method::GET, &same).status(), 206);
    }
}
