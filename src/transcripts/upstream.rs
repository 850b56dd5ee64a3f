//! The office's system: one record a request, by HTTP POST.

use std::{fmt, time::Duration};

use bytes::Bytes;
use hyper::{
    Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, InvalidHeaderValue, USER_AGENT},
    http::uri::InvalidUri,
};
use secrecy::ExposeSecret;

use super::{outbox::Delivery, record::Record};
use crate::{
    config,
    limits::UPSTREAM_BODY_BYTES_MAX,
    system::http_client::{HttpClient, Roots, RootsError},
};

/// Names a record to the upstream, so that one that comes twice is taken once
/// (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Where records are sent.
#[derive(Debug, Clone)]
pub struct Upstream {
    url: Uri,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    client: HttpClient,
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub delivery: Delivery,
    /// The answer's status, or why there is none; for people.
    pub answer: String,
}

/// Why records cannot be sent at all.
#[derive(Debug)]
pub enum UpstreamError {
    Url(InvalidUri),
    /// `sync.token` holds bytes that no HTTP header can.
    Token(InvalidHeaderValue),
    Roots(RootsError),
}

impl Upstream {
    /// The upstream of the configuration; `None` without `sync.url`.
    pub fn new(sync: &config::Sync) -> Result<Option<Self>, UpstreamError> {
        let Some(url) = &sync.url else { return Ok(None) };
        let token = sync.token.expose_secret();
        let authorization = (!token.is_empty())
            .then(|| HeaderValue::try_from(format!("Bearer {token}")))
            .transpose()
            .map_err(UpstreamError::Token)?
            .map(|mut value| {
                value.set_sensitive(true);
                value
            });
        Ok(Some(Self {
            url: url.as_str().parse().map_err(UpstreamError::Url)?,
            authorization,
            timeout: sync.timeout,
            client: HttpClient::new(&Roots::Public, sync.timeout).map_err(UpstreamError::Roots)?,
        }))
    }

    /// Sends one record and says what the answer means. Takes at most `sync.timeout`.
    pub async fn send(&self, record: &Record) -> Sent {
        let answer = match self.client.send(self.request(record), self.timeout, UPSTREAM_BODY_BYTES_MAX).await {
            Ok(reply) => Ok((reply.status, reply.retry_after)),
            // Only its status counts: whatever else the answer has to say.
            Err(failure) => failure.answer().ok_or(failure),
        };
        match answer {
            Ok((status, retry_after)) => {
                Sent { delivery: Delivery::of_status(status, retry_after), answer: format!("HTTP {status}") }
            }
            Err(failure) => Sent { delivery: Delivery::Failed { retry_after: None }, answer: failure.to_string() },
        }
    }

    fn request(&self, record: &Record) -> Request<Bytes> {
        // Strings, numbers and maps with string keys only: writing them as JSON into memory cannot fail.
        let body = serde_json::to_vec(record).unwrap_or_default();
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("kolbox/", env!("CARGO_PKG_VERSION"))));
        if let Ok(id) = HeaderValue::try_from(record.id.to_string()) {
            headers.insert(IDEMPOTENCY_KEY, id);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url(_) => "sync.url cannot be sent to",
            Self::Token(_) => "sync.token holds characters that HTTP does not allow",
            Self::Roots(_) => "no HTTPS client for sync.url",
        })
    }
}

impl std::error::Error for UpstreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Url(error) => Some(error),
            Self::Token(error) => Some(error),
            Self::Roots(error) => Some(error),
        }
    }
}

#[cfg(test)]
pub(super) mod samples {
    //! A small upstream on loopback.

    use std::sync::{Arc, Mutex};

    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    use super::*;

    /// Each request's head and body, in the order of their arrival.
    pub type Received = Arc<Mutex<Vec<(String, serde_json::Value)>>>;

    /// Answers the n-th request with the n-th of `answers` (the whole head, without its end), and all further ones
    /// with 204. An empty answer closes the connection without a word.
    pub async fn start(answers: &'static [&'static str]) -> (config::Sync, Received) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?of=kolbox", listener.local_addr().unwrap());
        let received = Received::default();
        let into = received.clone();
        tokio::spawn(async move {
            let mut answers = answers.iter();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let mut socket = BufReader::new(socket);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if socket.read_line(&mut head).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
                let mut body = vec![0; length.parse().unwrap()];
                if socket.read_exact(&mut body).await.is_err() {
                    continue;
                }
                into.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap()));
                let answer = answers.next().unwrap_or(&"HTTP/1.1 204 No Content");
                if !answer.is_empty() {
                    let _ = socket.write_all(format!("{answer}\r\nConnection: close\r\n\r\n").as_bytes()).await;
                }
            }
        });
        let sync = config::Sync {
            url: Some(url.parse().unwrap()),
            token: "office-token".into(),
            retry_min: Duration::from_millis(10),
            retry_max: Duration::from_millis(10),
            ..config::Sync::default()
        };
        (sync, received)
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::start, *};
    use crate::transcripts::record::samples::record;

    #[tokio::test]
    async fn a_record_is_posted_as_json_with_its_id_as_the_key_and_the_token() {
        let (sync, received) = start(&[]).await;
        let upstream = Upstream::new(&sync).unwrap().unwrap();
        let sent = upstream.send(&record(1)).await;
        assert_eq!(sent, Sent { delivery: Delivery::Acknowledged, answer: "HTTP 204".into() });
        let received = received.lock().unwrap();
        let (head, body) = &received[0];
        assert_eq!(*body, serde_json::to_value(record(1)).unwrap());
        assert!(head.starts_with("POST /hook?of=kolbox HTTP/1.1\r\n"), "{head}");
        for header in [
            "content-type: application/json".to_owned(),
            format!("idempotency-key: {}", record(1).id),
            "authorization: Bearer office-token".to_owned(),
        ] {
            assert!(head.lines().any(|line| line == header), "{header} in {head}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_no_answer_is_a_failure() {
        let (sync, received) =
            start(&["HTTP/1.1 302 Found\r\nLocation: /", "", "HTTP/1.1 503 No\r\nRetry-After: 7"]).await;
        let upstream = Upstream::new(&sync).unwrap().unwrap();
        let failed = |retry_after| Delivery::Failed { retry_after };
        assert_eq!(upstream.send(&record(1)).await.delivery, failed(None));
        assert_eq!(upstream.send(&record(1)).await.delivery, failed(None));
        assert_eq!(upstream.send(&record(1)).await.delivery, failed(Some(Duration::from_secs(7))));
        assert_eq!(received.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn an_answer_counts_by_its_status_however_long_or_short_its_body() {
        let answers = &[
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999",
            "HTTP/1.1 202 Accepted\r\nContent-Length: 5",
            "HTTP/1.1 422 No\r\nContent-Length: 99999999",
            "HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 99999999",
        ];
        let (sync, _) = start(answers).await;
        let upstream = Upstream::new(&sync).unwrap().unwrap();
        for (delivery, answer) in [
            (Delivery::Acknowledged, "HTTP 200"),
            (Delivery::Acknowledged, "HTTP 202"),
            (Delivery::Refused { status: 422 }, "HTTP 422"),
            (Delivery::Failed { retry_after: Some(Duration::from_secs(7)) }, "HTTP 503"),
        ] {
            assert_eq!(upstream.send(&record(1)).await, Sent { delivery, answer: answer.into() });
        }
    }

    #[test]
    fn without_a_url_there_is_no_upstream_and_a_broken_token_is_named() {
        assert!(Upstream::new(&config::Sync::default()).unwrap().is_none());
        let sync = config::Sync {
            url: Some("https://office.example/hook".parse().unwrap()),
            token: "two\nlines".into(),
            ..config::Sync::default()
        };
        assert!(matches!(Upstream::new(&sync), Err(UpstreamError::Token(_))));
    }
}
