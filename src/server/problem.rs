//! Why a request to the public listener gets no proper answer, and the answer that says so.

use std::{error::Error as StdError, fmt};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};

use super::{handshake, public_host::HostError, webhooks::Refused};

/// Why a request gets no proper answer.
#[derive(Debug)]
pub enum Problem {
    Host(HostError),
    Handshake(handshake::Refused),
    /// No valid signature for any form of the public URL.
    Signature,
    Form(Refused),
    BodyTooLarge,
    BodyTooSlow,
    BodyBroken,
    NotFound,
    /// The methods that the path does know.
    Method(&'static str),
    /// As many webhooks wait for the desk as may wait.
    DeskFull,
    /// The desk gave no answer in time.
    DeskSlow,
    /// The desk has stopped, or could not keep what its answer would promise.
    DeskGone,
    /// The system gives no random bytes for a call's token.
    NoRandom,
}

impl Problem {
    /// The answer that a peer gets: its status, and as little as helps.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let mut response = match self {
            Self::Handshake(refused) => refused.response(),
            Self::Host(_) => text(StatusCode::BAD_REQUEST, "no usable Host\n"),
            Self::Form(Refused::Form(_)) => text(StatusCode::BAD_REQUEST, "no usable CallSid\n"),
            Self::BodyBroken => text(StatusCode::BAD_REQUEST, "the body broke off\n"),
            Self::Signature | Self::Form(Refused::ForeignAccount) => text(StatusCode::FORBIDDEN, "forbidden\n"),
            Self::BodyTooLarge => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
            Self::BodyTooSlow => text(StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n"),
            Self::NotFound => text(StatusCode::NOT_FOUND, "not found\n"),
            Self::Method(_) => text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"),
            Self::DeskFull | Self::DeskSlow | Self::DeskGone | Self::NoRandom => {
                text(StatusCode::SERVICE_UNAVAILABLE, "try again\n")
            }
        };
        let headers = response.headers_mut();
        match self {
            Self::Method(allowed) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
            }
            Self::BodyTooLarge | Self::BodyTooSlow | Self::BodyBroken => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }

    /// Its name among the figures.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Handshake(_) => "handshake",
            Self::Signature => "signature",
            Self::Form(Refused::Form(_)) => "form",
            Self::Form(Refused::ForeignAccount) => "foreign_account",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyBroken => "body_broken",
            Self::NotFound => "not_found",
            Self::Method(_) => "method",
            Self::DeskFull => "desk_full",
            Self::DeskSlow => "desk_slow",
            Self::DeskGone => "desk_gone",
            Self::NoRandom => "no_random",
        }
    }
}

/// A short plain answer.
pub fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => error.fmt(f),
            Self::Handshake(handshake::Refused::UpgradeRequired) => f.write_str("no WebSocket of version 13 asked for"),
            Self::Handshake(handshake::Refused::Malformed) => f.write_str("malformed WebSocket handshake"),
            Self::Signature => f.write_str("no valid X-Twilio-Signature for any form of the public URL"),
            Self::Form(refused) => refused.fmt(f),
            Self::BodyTooLarge => f.write_str("the body is too large"),
            Self::BodyTooSlow => f.write_str("the body was not complete in time"),
            Self::BodyBroken => f.write_str("the body broke off"),
            Self::NotFound => f.write_str("no such route or file"),
            Self::Method(allowed) => write!(f, "the route takes {allowed}"),
            Self::DeskFull => f.write_str("too many webhooks wait for the desk"),
            Self::DeskSlow => f.write_str("the desk gave no answer in time"),
            Self::DeskGone => f.write_str("the desk gave no answer"),
            Self::NoRandom => f.write_str("the system gives no random bytes"),
        }
    }
}

impl StdError for Problem {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Host(error) => Some(error),
            Self::Form(refused) => Some(refused),
            _ => None,
        }
    }
}
