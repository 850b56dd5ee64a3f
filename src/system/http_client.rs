//! Requests to others over HTTP and HTTPS: pooled, bounded in time and size, redirects never followed.

use std::{error::Error as StdError, fmt, future::pending, io, pin::pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    header::{self, HeaderMap, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self, Client,
        connect::{CaptureConnection, HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use jiff::{Timestamp, fmt::rfc2822};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::connector::{BoundedConnector, BoxError, Mark};
use crate::limits::{HTTP_IDLE_MAX, HTTP_IDLE_PER_HOST_MAX, HTTP_REPLY_HEADER_BYTES_MAX, RETRY_AFTER_MAX};

mod connector;
mod trust;

pub use trust::{Roots, RootsError, tls_client_config};

/// An answer that was read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    /// `Retry-After`, whether it came as seconds or as a date (RFC 9110 §10.2.3). Not cut: the caller knows its bounds.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No connection within the connect time (name, TCP and TLS): the request was surely not sent.
    Connect(BoxError),
    /// No answer began in time: the request may have been carried out.
    TimedOut,
    /// The connection broke, or the answer is no HTTP: the request may have been carried out.
    Broken(BoxError),
    /// The peer has answered; only the answer's body cannot be had.
    Body { status: u16, retry_after: Option<Duration>, why: BodyFailure },
}

/// Why an answer's body cannot be had.
#[derive(Debug)]
pub enum BodyFailure {
    /// It is longer than the caller takes.
    TooLarge,
    /// Its end did not come in time.
    TimedOut,
    /// The connection broke before its end.
    Broken(BoxError),
}

/// A pool of connections; cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    pooled: Connections,
    /// Makes a new connection for each request.
    fresh: Connections,
    reused_answer_max: Option<Duration>,
}

type Connections = Client<BoundedConnector<HttpsConnector<HttpConnector>>, Full<Bytes>>;

impl HttpClient {
    /// A client for `https://` and `http://` that gives each new connection `connect` for its name look-up, TCP and
    /// TLS together. Connections that were idle for 15 s are not used again: a firewall may have forgotten them.
    ///
    /// A request that fails on a reused connection before any answer is repeated at once, on a fresh one: the peer had
    /// most likely closed it, or lost it, while it was idle. So a request must bear being carried out twice
    /// (RFC 9110 §9.2.2): a redirect leads the call to the same document, and a transcript names itself.
    pub fn new(roots: &Roots, connect: Duration) -> Result<Self, RootsError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Shared out among a name's addresses, so that a dead first one leaves time for the second.
        tcp.set_connect_timeout(Some(connect));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls_client_config(roots)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let connector = BoundedConnector { inner: https, limit: connect };
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(HTTP_IDLE_MAX)
            .http1_max_buf_size(HTTP_REPLY_HEADER_BYTES_MAX)
            // It would repeat only what was not sent at all, and perhaps on the next dead connection.
            .retry_canceled_requests(false);
        let fresh = builder.pool_max_idle_per_host(0).build(connector.clone());
        let pooled = builder.pool_max_idle_per_host(HTTP_IDLE_PER_HOST_MAX).build(connector);
        Ok(Self { pooled, fresh, reused_answer_max: None })
    }

    /// A reused connection over which no answer has begun for so long counts as dead: its peer has vanished without a
    /// word. For peers that answer faster than this when all is well; a slower one is only asked twice.
    pub fn with_reused_answer_max(self, limit: Duration) -> Self {
        Self { reused_answer_max: Some(limit), ..self }
    }

    /// Sends a request to its absolute URI and reads the answer to its end: within `total`, at most `body_bytes_max`
    /// bytes of body. Every status is an answer, redirects too.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        total: Duration,
        body_bytes_max: usize,
    ) -> Result<Reply, Failure> {
        self.send_unless_moot(request, total, body_bytes_max, pending()).await
    }

    /// The same of a request that is not to be repeated once `moot` has come: what it asks for was seen to be done.
    pub async fn send_unless_moot(
        &self,
        request: Request<Bytes>,
        total: Duration,
        body_bytes_max: usize,
        moot: impl Future<Output = ()>,
    ) -> Result<Reply, Failure> {
        let deadline = Instant::now() + total;
        let answered = timeout_at(deadline, self.respond(request.map(Full::new), moot)).await;
        let (parts, body) = answered.unwrap_or(Err(Failure::TimedOut))?.into_parts();
        let status = parts.status.as_u16();
        let retry_after = retry_after(&parts.headers, Timestamp::now);
        let body = timeout_at(deadline, read_body(body, body_bytes_max)).await;
        match body.unwrap_or(Err(BodyFailure::TimedOut)) {
            Ok(body) => Ok(Reply { status, headers: parts.headers, retry_after, body }),
            Err(why) => Err(Failure::Body { status, retry_after, why }),
        }
    }

    /// Sends a request and reads the answer's head within `limit`. Its body, of a size that no memory should hold, is the
    /// caller's to read and to bound.
    pub async fn begin(&self, request: Request<Bytes>, limit: Duration) -> Result<Response<Incoming>, Failure> {
        timeout(limit, self.respond(request.map(Full::new), pending())).await.unwrap_or(Err(Failure::TimedOut))
    }

    /// The answer's head.
    async fn respond(
        &self,
        request: Request<Full<Bytes>>,
        moot: impl Future<Output = ()>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut first = request.clone();
        let mut connection = capture_connection(&mut first);
        let mut is_moot = false;
        let answer = {
            let (mut asked, mut moot) = (pin!(self.pooled.request(first)), pin!(moot));
            let mut forgotten = pin!(self.forgotten(&mut connection));
            loop {
                tokio::select! {
                    biased;
                    answer = &mut asked => break answer.map_err(failure),
                    () = &mut moot, if !is_moot => is_moot = true,
                    () = &mut forgotten, if !is_moot => break Err(Failure::TimedOut),
                }
            }
        };
        let mark = mark_of(&connection);
        let is_reused = mark.as_ref().is_some_and(Mark::is_set);
        match answer {
            Err(Failure::Broken(_) | Failure::TimedOut) if is_reused && !is_moot => {
                tracing::debug!(host = request.uri().host(), "a reused connection failed: asked again on a fresh one");
                self.fresh.request(request).await.map_err(failure)
            }
            Err(failure) => Err(failure),
            Ok(response) => {
                mark.inspect(Mark::set);
                Ok(response)
            }
        }
    }

    /// Comes back when the request is on a reused connection and the peer has been silent for too long.
    async fn forgotten(&self, connection: &mut CaptureConnection) {
        let Some(limit) = self.reused_answer_max else { return pending().await };
        drop(connection.wait_for_connection_metadata().await);
        match mark_of(connection).is_some_and(|mark| mark.is_set()) {
            true => sleep(limit).await,
            false => pending().await,
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl Reply {
    /// The peer's own clock, to the second (RFC 9110 §6.6.1).
    pub fn date(&self) -> Option<Timestamp> {
        http_date(self.headers.get(header::DATE))
    }
}

impl Failure {
    /// The answer's status and `Retry-After`, where there is one.
    pub fn answer(&self) -> Option<(u16, Option<Duration>)> {
        match self {
            Self::Body { status, retry_after, .. } => Some((*status, *retry_after)),
            Self::Connect(_) | Self::TimedOut | Self::Broken(_) => None,
        }
    }

    /// What TLS had against the peer, where that is the reason.
    pub fn tls(&self) -> Option<&rustls::Error> {
        tls_error(self)
    }
}

/// The error of TLS among the causes of another. One that I/O wraps is not among its sources.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let cause = wrapped.map(|error| error as &(dyn StdError + 'static)).or_else(|| error.source());
    cause.and_then(tls_error)
}

fn failure(error: legacy::Error) -> Failure {
    if error.is_connect() { Failure::Connect(error.into()) } else { Failure::Broken(error.into()) }
}

fn mark_of(connection: &CaptureConnection) -> Option<Mark> {
    connection.connection_metadata().as_ref().and_then(Mark::of)
}

async fn read_body(body: Incoming, bytes_max: usize) -> Result<Bytes, BodyFailure> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyFailure::TooLarge);
    }
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyFailure::TooLarge),
        Err(error) => Err(BodyFailure::Broken(error)),
    }
}

/// How long the answer asks us to wait. A date is measured against the answer's own `Date`, since a box without a
/// battery may not know the time yet; only without one against our clock. What cannot be read asks for nothing, and
/// neither does a date that our clock alone puts beyond [`RETRY_AFTER_MAX`]: then it is our clock that is wrong.
pub fn retry_after(headers: &HeaderMap, wall: impl FnOnce() -> Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = http_date(headers.get(header::RETRY_AFTER))?;
    let theirs = http_date(headers.get(header::DATE));
    let pause = Duration::try_from(until.duration_since(theirs.unwrap_or_else(wall))).unwrap_or_default();
    (theirs.is_some() || pause <= RETRY_AFTER_MAX).then_some(pause)
}

fn http_date(value: Option<&HeaderValue>) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(value?.to_str().ok()?.trim()).ok()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(_) => f.write_str("no connection"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Broken(_) => f.write_str("the connection broke before the answer"),
            Self::Body { status, why, .. } => write!(f, "HTTP {status}, and {why}"),
        }
    }
}

impl fmt::Display for BodyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the answer is too long",
            Self::TimedOut => "no whole answer in time",
            Self::Broken(_) => "the connection broke before the answer's end",
        })
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Connect(error) | Self::Broken(error) => Some(error.as_ref()),
            Self::Body { why: BodyFailure::Broken(error), .. } => Some(error.as_ref()),
            Self::TimedOut | Self::Body { .. } => None,
        }
    }
}

#[cfg(test)]
mod pool_tests;

#[cfg(test)]
mod tests {
    use hyper::Uri;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(20);

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    /// A peer that reads one request, says `answer` and, if asked to, then stays silent with the connection open.
    async fn peer(answer: &'static str, stays_open: bool) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(answer.as_bytes()).await;
            if stays_open {
                std::future::pending::<()>().await;
            }
        });
        uri
    }

    async fn fetch(uri: Uri, total: Duration, body_bytes_max: usize) -> Result<Reply, Failure> {
        let client = HttpClient::new(&Roots::Public, LONG).unwrap();
        client.send(Request::get(uri).body(Bytes::new()).unwrap(), total, body_bytes_max).await
    }

    #[tokio::test]
    async fn an_answer_comes_with_its_status_its_wait_and_its_body() {
        let uri = peer("HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy", false).await;
        let reply = fetch(uri, LONG, 100).await.unwrap();
        assert_eq!(
            (reply.status, reply.retry_after, &reply.body[..]),
            (429, Some(Duration::from_secs(7)), &b"busy"[..])
        );
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let uri = peer("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", false).await;
        assert_eq!(fetch(uri, LONG, 100).await.unwrap().status, 302);
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_given_up_whether_it_was_announced_or_not_and_its_status_stays() {
        let announced = peer("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", true).await;
        let chunked =
            peer("HTTP/1.1 429 No\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n", true)
                .await;
        for (uri, answer) in [(announced, (200, None)), (chunked, (429, Some(Duration::from_secs(7))))] {
            let failure = fetch(uri, LONG, 10).await.unwrap_err();
            assert!(matches!(failure, Failure::Body { why: BodyFailure::TooLarge, .. }), "{failure}");
            assert_eq!(failure.answer(), Some(answer));
        }
    }

    #[tokio::test]
    async fn a_peer_that_never_finishes_its_answer_is_given_up_in_time() {
        let silent = peer("", true).await;
        assert!(matches!(fetch(silent, SHORT, 100).await, Err(Failure::TimedOut)));
        let half = peer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true).await;
        let failure = fetch(half, SHORT, 100).await.unwrap_err();
        assert!(matches!(failure, Failure::Body { status: 200, why: BodyFailure::TimedOut, .. }), "{failure}");
    }

    #[tokio::test]
    async fn no_listener_is_a_failed_connect_and_a_cut_answer_is_broken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        assert!(matches!(fetch(nobody, LONG, 100).await, Err(Failure::Connect(_))));
        let cut = peer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false).await;
        let failure = fetch(cut, LONG, 100).await.unwrap_err();
        assert!(matches!(failure, Failure::Body { status: 200, why: BodyFailure::Broken(_), .. }), "{failure}");
    }

    #[tokio::test]
    async fn a_tls_handshake_that_hangs_counts_as_a_failed_connect() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let client = HttpClient::new(&Roots::Insecure, SHORT).unwrap();
        let request = Request::get(uri).body(Bytes::new()).unwrap();
        assert!(matches!(client.send(request, LONG, 100).await, Err(Failure::Connect(_))));
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_by_the_peers_own_clock() {
        let never = || -> Timestamp { panic!("the peer gave its own time") };
        assert_eq!(retry_after(&headers(&[]), never), None);
        assert_eq!(retry_after(&headers(&[("retry-after", " 120 ")]), never), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")]), never), None);
        let dated =
            headers(&[("retry-after", "Sun, 22 Nov 2026 08:15:30 GMT"), ("date", "Sun, 22 Nov 2026 08:15:00 GMT")]);
        assert_eq!(retry_after(&dated, never), Some(Duration::from_secs(30)));
        let past = headers(&[("retry-after", "Sun, 22 Nov 2026 08:15:30 GMT")]);
        let now = || "2026-11-22T09:00:00Z".parse().unwrap();
        assert_eq!(retry_after(&past, now), Some(Duration::ZERO));
    }

    #[test]
    fn a_clock_that_is_wrong_does_not_turn_a_date_into_a_day_of_waiting() {
        let alone = headers(&[("retry-after", "Sun, 22 Nov 2026 08:15:30 GMT")]);
        let at = |wall: &str| retry_after(&alone, || wall.parse().unwrap());
        assert_eq!(at("1970-01-01T00:00:10Z"), None, "the pause is then our own");
        assert_eq!(at("2026-11-21T08:15:30Z"), Some(RETRY_AFTER_MAX));
        assert_eq!(at("2026-11-21T08:15:29Z"), None);
        assert_eq!(at("2099-01-01T00:00:00Z"), Some(Duration::ZERO));
        // With its own date beside it, whatever ours is; the outbox bounds it.
        let dated =
            headers(&[("retry-after", "Tue, 24 Nov 2026 08:15:00 GMT"), ("date", "Sun, 22 Nov 2026 08:15:00 GMT")]);
        assert_eq!(retry_after(&dated, || Timestamp::UNIX_EPOCH), Some(2 * RETRY_AFTER_MAX));
    }
}
