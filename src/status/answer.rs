//! Answers of the status listener: their bodies, and the headers that keep the page to itself.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{Either, Full, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use super::{assets, language::Language};

/// A whole body, or events as they come.
pub type AnswerBody = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>;
/// What is answered.
pub type Answer = Response<AnswerBody>;

/// Whether an answer goes on for as long as the connection does, as that to `/api/events`.
pub fn is_event_stream(answer: &Answer) -> bool {
    answer.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == super::events::CONTENT_TYPE)
}

/// Sent with every answer. Only the page's own script runs, and it talks to its own box alone. The referrer goes to the
/// box itself: without it a browser hides the origin of the page's own forms.
pub const SECURITY: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// An answer may hold a caller's number, and is old in a moment.
pub const NEVER_KEPT: &str = "no-store";
/// For what changes its link whenever it changes.
pub const KEPT_FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// Puts on what every answer has.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURITY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(NEVER_KEPT));
}

/// A short text for programs and installers.
pub fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut response = content("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

/// 200 with this.
pub fn content(content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let body = body.into();
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Either::Left(Full::new(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

/// A page for people.
pub fn html(language: Language, html: String) -> Answer {
    let mut response = content("text/html; charset=utf-8", html);
    response.headers_mut().insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.code()));
    response
}

/// A file that comes with the program; kept for good when it was asked for by its edition.
pub fn asset(asset: assets::Asset, edition: Option<&str>) -> Answer {
    let mut response = content(asset.content_type, asset.bytes);
    if edition == Some(assets::EDITION.as_str()) {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(KEPT_FOR_GOOD));
    }
    response
}

/// On to another page of ours, to be fetched with GET (RFC 9110 §15.4.4).
pub fn see_other(location: &'static str) -> Answer {
    let mut response = plain(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(location));
    response
}
