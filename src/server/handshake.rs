//! The WebSocket opening handshake, as far as HTTP goes (RFC 6455 §4.2): what must be asked for, and the answer.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Response, StatusCode, Version,
    header::{self, HeaderValue},
    http::request::Parts,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Why a request opens no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It does not ask for a WebSocket of version 13: 426.
    UpgradeRequired,
    /// It asks for one in a way that no WebSocket client does: 400.
    Malformed,
}

/// The 101 to a request that opens a WebSocket. Neither `Origin`, sub-protocols nor extensions are looked at: Twilio
/// promises none of them.
pub fn accept(request: &Parts) -> Result<Response<Full<Bytes>>, Refused> {
    if !has_token(&request.headers, &header::UPGRADE, "websocket") {
        return Err(Refused::UpgradeRequired);
    }
    let http_11 = request.method == Method::GET && request.version == Version::HTTP_11;
    if !http_11 || !has_token(&request.headers, &header::CONNECTION, "upgrade") {
        return Err(Refused::Malformed);
    }
    if request.headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused::UpgradeRequired);
    }
    let key = request.headers.get(header::SEC_WEBSOCKET_KEY).ok_or(Refused::Malformed)?.as_bytes();
    if STANDARD.decode(key).map_or(true, |nonce| nonce.len() != 16) {
        return Err(Refused::Malformed);
    }
    let accept = HeaderValue::from_str(&derive_accept_key(key)).map_err(|_| Refused::Malformed)?;
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

impl Refused {
    /// The answer that says so; a 426 names what would be accepted (§4.2.2).
    pub fn response(self) -> Response<Full<Bytes>> {
        let (status, text) = match self {
            Self::UpgradeRequired => (StatusCode::UPGRADE_REQUIRED, "a WebSocket of version 13 is spoken here\n"),
            Self::Malformed => (StatusCode::BAD_REQUEST, "no WebSocket handshake\n"),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        if status == StatusCode::UPGRADE_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn request(change: impl FnOnce(&mut HeaderMap)) -> Parts {
        // The example of RFC 6455 §1.3.
        let (mut parts, ()) = Request::get("/ws/twilio-media")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap()
            .into_parts();
        change(&mut parts.headers);
        parts
    }

    fn refused(change: impl FnOnce(&mut HeaderMap)) -> Refused {
        accept(&request(change)).unwrap_err()
    }

    #[test]
    fn the_rfcs_example_is_answered_as_the_rfc_says() {
        let response = accept(&request(|_| {})).unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn who_asks_for_no_websocket_or_another_version_is_told_what_is_spoken() {
        for name in [header::UPGRADE, header::SEC_WEBSOCKET_VERSION] {
            let refused = refused(|headers| drop(headers.remove(name)));
            assert_eq!(refused, Refused::UpgradeRequired);
            assert_eq!(refused.response().headers()[header::SEC_WEBSOCKET_VERSION], "13");
        }
        let old = |headers: &mut HeaderMap| {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        };
        assert_eq!(refused(old), Refused::UpgradeRequired);
    }

    #[test]
    fn a_handshake_without_a_proper_key_or_connection_is_malformed() {
        for name in [header::CONNECTION, header::SEC_WEBSOCKET_KEY] {
            assert_eq!(refused(|headers| drop(headers.remove(name))), Refused::Malformed);
        }
        for key in ["", "short", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZTEyMw=="] {
            let with_key = |headers: &mut HeaderMap| {
                headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static(key));
            };
            assert_eq!(refused(with_key), Refused::Malformed, "{key}");
        }
        let mut old = request(|_| {});
        old.version = Version::HTTP_10;
        assert_eq!(accept(&old).unwrap_err(), Refused::Malformed);
    }
}
