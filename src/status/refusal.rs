//! Why a request to the status listener gets no proper answer, and the answer that says so.

use hyper::{
    StatusCode,
    header::{self, HeaderValue},
};

use super::{
    access::Denied,
    answer::{Answer, plain},
};

/// Why a request gets no proper answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No Host, or more than one.
    NoHost,
    /// A Host that is not the box's: another site's name may lead here.
    ForeignHost,
    NotFound,
    /// The methods that the path does know.
    Method(&'static str),
    /// A POST that is not known to be the box's own page's, or a program's with the password.
    ForeignPost,
    /// The password that was given is not taken.
    Password(Denied),
    /// Only staff may do this, and nobody can be staff.
    NoPassword,
    /// Only staff may do this.
    NotStaff,
    BodyTooLarge,
    BodyTooSlow,
    BodyBroken,
    /// The body is no form.
    NotAForm,
    /// As many event streams as there may be are open.
    StreamsTaken,
    /// No transcript of this id is known.
    UnknownTranscript,
    /// The transcript does not wait to be tried again.
    NotParked,
    /// The store does not take the change.
    StoreFailing,
    /// A page cannot be written; the log says why.
    Unwritable,
}

impl Refusal {
    /// The answer: its status, and what helps whoever asks.
    pub fn response(self) -> Answer {
        let (status, text) = self.words();
        let mut response = plain(status, text);
        let headers = response.headers_mut();
        match self {
            Self::Method(allowed) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
            }
            Self::NotStaff | Self::Password(Denied::Wrong) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
            }
            Self::Password(denied) => {
                headers.insert(header::RETRY_AFTER, denied.retry_after_s().into());
            }
            Self::StreamsTaken | Self::StoreFailing => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(TRY_AGAIN_S));
            }
            Self::BodyTooLarge | Self::BodyTooSlow | Self::BodyBroken => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }

    fn words(self) -> (StatusCode, &'static str) {
        match self {
            Self::NoHost => (StatusCode::BAD_REQUEST, "one Host is needed\n"),
            Self::ForeignHost => (
                StatusCode::MISDIRECTED_REQUEST,
                "this name is not the box's; use its IP address, or add the name to status.hosts\n",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "not found\n"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"),
            Self::ForeignPost => (
                StatusCode::FORBIDDEN,
                "a POST needs an Origin that is the box's own, or no Origin, HTTP Basic and application/json\n",
            ),
            Self::Password(Denied::Wrong) | Self::NotStaff => {
                (StatusCode::UNAUTHORIZED, "user kolbox and the status password are needed\n")
            }
            Self::Password(Denied::TooSoon(_)) => {
                (StatusCode::TOO_MANY_REQUESTS, "the last password was wrong: one try a second\n")
            }
            Self::Password(Denied::Busy) => (StatusCode::SERVICE_UNAVAILABLE, "other passwords are being checked\n"),
            Self::NoPassword => (StatusCode::FORBIDDEN, "no password is set: set status.password\n"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n"),
            Self::BodyBroken => (StatusCode::BAD_REQUEST, "the body broke off\n"),
            Self::NotAForm => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "a form is needed\n"),
            Self::StreamsTaken => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many event streams are open; ask for /api/status\n")
            }
            Self::UnknownTranscript => (StatusCode::NOT_FOUND, "no parked transcript has this id\n"),
            Self::NotParked => (StatusCode::CONFLICT, "this transcript is not parked\n"),
            Self::StoreFailing => (StatusCode::SERVICE_UNAVAILABLE, "the store does not take it now\n"),
            Self::Unwritable => (StatusCode::INTERNAL_SERVER_ERROR, "this cannot be shown; see the log\n"),
        }
    }
}

/// Asks a program, or a browser, for the password (RFC 7617 §2).
const CHALLENGE: &str = "Basic realm=\"kolbox\", charset=\"UTF-8\"";
const TRY_AGAIN_S: &str = "5";
