//! Requests to others over HTTP and HTTPS: pooled, bounded in time and size, redirects never followed.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Uri,
    body::Body,
    header::{self, HeaderMap, HeaderValue},
};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use jiff::{Timestamp, fmt::rfc2822};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::limits::{HTTP_IDLE_MAX, HTTP_IDLE_PER_HOST_MAX, HTTP_REPLY_HEADER_BYTES_MAX};

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The public authorities, as Mozilla lists them (compiled in).
    Public,
    /// The certificates of this PEM file, and no others.
    PemFile(PathBuf),
    /// Any certificate at all: only for peers on loopback, or where a person asked for just that.
    Insecure,
}

/// Why no client could be made.
#[derive(Debug)]
pub enum RootsError {
    /// The file cannot be read, or holds something else than PEM.
    Pem(PathBuf, rustls::pki_types::pem::Error),
    /// The file was read and holds no certificate.
    NoCertificate(PathBuf),
    /// A certificate in the file cannot stand as a root.
    Certificate(PathBuf, rustls::Error),
    /// TLS itself cannot be set up.
    Tls(rustls::Error),
}

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
    Connect(Box<dyn StdError + Send + Sync>),
    /// The whole answer was not there in time: the request may have been carried out.
    TimedOut,
    /// The connection broke, or the answer is no HTTP: the request may have been carried out.
    Broken(Box<dyn StdError + Send + Sync>),
    /// The answer is longer than the caller takes.
    TooLarge,
}

/// A pool of connections; cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<BoundedConnector<HttpsConnector<HttpConnector>>, Full<Bytes>>,
}

impl HttpClient {
    /// A client for `https://` and `http://` that gives each new connection `connect` for its name look-up, TCP and
    /// TLS together. Connections that were idle for 15 s are not used again: a firewall may have forgotten them.
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
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(HTTP_IDLE_MAX)
            .pool_max_idle_per_host(HTTP_IDLE_PER_HOST_MAX)
            .http1_max_buf_size(HTTP_REPLY_HEADER_BYTES_MAX)
            .build(BoundedConnector { inner: https, limit: connect });
        Ok(Self { client })
    }

    /// Sends a request to its absolute URI and reads the answer to its end: within `total`, at most `body_bytes_max`
    /// bytes of body. Every status is an answer, redirects too.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        total: Duration,
        body_bytes_max: usize,
    ) -> Result<Reply, Failure> {
        let exchange = self.exchange(request.map(Full::new), body_bytes_max);
        tokio::time::timeout(total, exchange).await.unwrap_or(Err(Failure::TimedOut))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, body_bytes_max: usize) -> Result<Reply, Failure> {
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() { Failure::Connect(error.into()) } else { Failure::Broken(error.into()) }
        })?;
        let (parts, body) = response.into_parts();
        if body.size_hint().lower() > body_bytes_max as u64 {
            return Err(Failure::TooLarge);
        }
        let body = Limited::new(body, body_bytes_max).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() { Failure::TooLarge } else { Failure::Broken(error) }
        })?;
        Ok(Reply {
            status: parts.status.as_u16(),
            retry_after: retry_after(&parts.headers, Timestamp::now),
            headers: parts.headers,
            body: body.to_bytes(),
        })
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

/// TLS as a client with these roots, without ALPN: for [`HttpClient`], and for WebSocket clients.
pub fn tls_client_config(roots: &Roots) -> Result<ClientConfig, RootsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(RootsError::Tls)?;
    let config = match roots {
        Roots::Public => builder.with_webpki_roots().with_no_client_auth(),
        Roots::PemFile(path) => builder.with_root_certificates(read_roots(path)?).with_no_client_auth(),
        Roots::Insecure => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
            .with_no_client_auth(),
    };
    Ok(config)
}

fn read_roots(path: &Path) -> Result<RootCertStore, RootsError> {
    let pem = |error| RootsError::Pem(path.to_owned(), error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(pem)? {
        let certificate = certificate.map_err(pem)?;
        roots.add(certificate).map_err(|error| RootsError::Certificate(path.to_owned(), error))?;
    }
    if roots.is_empty() { Err(RootsError::NoCertificate(path.to_owned())) } else { Ok(roots) }
}

/// How long the answer asks us to wait. A date is measured against the answer's own `Date`, since a box without a
/// battery may not know the time yet; only without one against our clock. What cannot be read asks for nothing.
pub fn retry_after(headers: &HeaderMap, wall: impl FnOnce() -> Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = http_date(headers.get(header::RETRY_AFTER))?;
    let now = http_date(headers.get(header::DATE)).unwrap_or_else(wall);
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

fn http_date(value: Option<&HeaderValue>) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(value?.to_str().ok()?.trim()).ok()
}

type BoxError = Box<dyn StdError + Send + Sync>;

/// A connector that must be done within its limit, TLS included: hyper's own limit ends with TCP.
#[derive(Clone)]
struct BoundedConnector<C> {
    inner: C,
    limit: Duration,
}

impl<C> tower_service::Service<Uri> for BoundedConnector<C>
where
    C: tower_service::Service<Uri> + Connect,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = <C as tower_service::Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let limit = self.limit;
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time").into()),
            }
        })
    }
}

/// Believes every certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(path, _) => write!(f, "{}: not a readable PEM file", path.display()),
            Self::NoCertificate(path) => write!(f, "{}: holds no certificate", path.display()),
            Self::Certificate(path, _) => write!(f, "{}: a certificate cannot be used as a root", path.display()),
            Self::Tls(_) => f.write_str("TLS cannot be set up"),
        }
    }
}

impl StdError for RootsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Pem(_, error) => Some(error),
            Self::NoCertificate(_) => None,
            Self::Certificate(_, error) | Self::Tls(error) => Some(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(_) => "no connection",
            Self::TimedOut => "no whole answer in time",
            Self::Broken(_) => "the connection broke before the answer's end",
            Self::TooLarge => "the answer is too long",
        })
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Connect(error) | Self::Broken(error) => Some(error.as_ref()),
            Self::TimedOut | Self::TooLarge => None,
        }
    }
}

#[cfg(test)]
mod tests {
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
    async fn a_body_beyond_the_limit_is_given_up_whether_it_was_announced_or_not() {
        let announced = peer("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", true).await;
        assert!(matches!(fetch(announced, LONG, 10).await, Err(Failure::TooLarge)));
        let chunked = peer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n", true).await;
        assert!(matches!(fetch(chunked, LONG, 10).await, Err(Failure::TooLarge)));
    }

    #[tokio::test]
    async fn a_peer_that_never_finishes_its_answer_is_given_up_in_time() {
        let silent = peer("", true).await;
        assert!(matches!(fetch(silent, SHORT, 100).await, Err(Failure::TimedOut)));
        let half = peer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true).await;
        assert!(matches!(fetch(half, SHORT, 100).await, Err(Failure::TimedOut)));
    }

    #[tokio::test]
    async fn no_listener_is_a_failed_connect_and_a_cut_answer_is_broken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        assert!(matches!(fetch(nobody, LONG, 100).await, Err(Failure::Connect(_))));
        let cut = peer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false).await;
        assert!(matches!(fetch(cut, LONG, 100).await, Err(Failure::Broken(_))));
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
    fn a_file_without_a_certificate_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing here\n").unwrap();
        let error = tls_client_config(&Roots::PemFile(path.clone())).unwrap_err();
        assert!(matches!(&error, RootsError::NoCertificate(named) if *named == path), "{error}");
        let missing = folder.path().join("missing.pem");
        assert!(matches!(tls_client_config(&Roots::PemFile(missing)), Err(RootsError::Pem(..))));
    }
}
