//! How inputs are cut into pieces.

use hyper::{
    Method, Request, Uri, Version,
    header::{HeaderName, HeaderValue},
    http::request::Parts,
};
use kolbox::limits::HEADERS_MAX;

/// What stands before the first line's end, and what comes after it; all of it if there is none.
pub fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// The pieces between the lines that hold this separator and nothing else.
pub fn sections<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut sections = Vec::new();
    let (mut begin, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end_matches('\n') == separator {
            sections.push(&text[begin..at]);
            begin = at + line.len();
        }
        at += line.len();
    }
    sections.push(&text[begin..]);
    sections
}

/// `METHOD TARGET HTTP/1.1`, then `Name: value` on each line.
pub fn head(data: &[u8]) -> Option<Parts> {
    let (line, mut rest) = first_line(data);
    let mut words = line.split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri = Uri::try_from(words.next()?).ok()?;
    let version = if words.next() == Some(b"HTTP/1.0") { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut request = Request::builder().method(method).uri(uri).version(version);
    let headers = request.headers_mut()?;
    while !rest.is_empty() && headers.len() < HEADERS_MAX {
        let (line, behind) = first_line(rest);
        rest = behind;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    Some(request.body(()).ok()?.into_parts().0)
}
