//! Twilio's side of a media WebSocket: connects over TLS with a signature, then carries text both ways.

use std::{io, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError, Message,
        client::IntoClientRequest,
        handshake::client::Response,
        http::HeaderValue,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use url::Url;

use crate::{
    limits::{WS_BUFFER_BYTES, WS_MESSAGE_BYTES_MAX, WS_UNSENT_BYTES_MAX},
    twilio::signature::sign,
};

/// Time for each of connecting, TLS and handshake, as Twilio's default is.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long the other side's close frame is waited for.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// An open media connection.
pub type MediaSocket = WebSocketStream<TlsStream<TcpStream>>;

/// Why a stream could not be opened, with its number in Twilio's error dictionary.
#[derive(Debug)]
pub enum OpenError {
    /// 31923: no address that can be connected to.
    Address(String),
    /// 31901: no answer in time.
    TimedOut,
    /// 31904: the name is not known, or nobody can be reached there; 31902: nothing listens.
    Connect(io::Error),
    /// 31910: TLS failed, or the certificate is not trusted.
    Tls(io::Error),
    /// 31920: the answer is not 101; with its status, if it was HTTP.
    Handshake(Option<u16>, Box<WsError>),
}

impl OpenError {
    /// The number in Twilio's error dictionary.
    pub fn code(&self) -> u32 {
        match self {
            Self::Address(_) => 31923,
            Self::TimedOut => 31901,
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => 31902,
            Self::Connect(_) => 31904,
            Self::Tls(_) => 31910,
            Self::Handshake(..) => 31920,
        }
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(url) => write!(f, "{url} is no address of a WebSocket"),
            Self::TimedOut => write!(f, "no answer in time"),
            Self::Connect(_) => write!(f, "no connection"),
            Self::Tls(_) => write!(f, "TLS failed"),
            Self::Handshake(Some(status), _) => write!(f, "the handshake was answered with {status}"),
            Self::Handshake(None, _) => write!(f, "the handshake failed"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) | Self::Tls(error) => Some(error),
            Self::Handshake(_, error) => Some(error.as_ref()),
            Self::Address(_) | Self::TimedOut => None,
        }
    }
}

/// What is to be done with an open socket.
#[derive(Debug)]
pub enum SocketOrder {
    Send(String),
    /// Close it with 1000.
    Close,
    /// Tear the connection down, without a close frame and without TLS's goodbye.
    Abort,
}

/// What an open socket brought.
#[derive(Debug)]
pub enum SocketNews {
    Text(String),
    Binary,
    /// It is over, with the server's close code if there was one. The last news.
    Closed(Option<u16>),
}

/// Connects, and gives the 101 beside the socket. The signature covers the `wss` address.
pub async fn open(tls: Arc<ClientConfig>, token: &str, address: &str) -> Result<(MediaSocket, Response), OpenError> {
    let bad_address = || OpenError::Address(address.to_owned());
    let url = Url::parse(address).map_err(|_| bad_address())?;
    let host = url.host_str().ok_or_else(bad_address)?.trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| bad_address())?;
    let port = url.port_or_known_default().unwrap_or(443);

    let tcp = within(TcpStream::connect((host, port))).await?.map_err(OpenError::Connect)?;
    tcp.set_nodelay(true).map_err(OpenError::Connect)?;
    let stream = within(TlsConnector::from(tls).connect(name, tcp)).await?.map_err(OpenError::Tls)?;

    let mut request = address.into_client_request().map_err(|_| bad_address())?;
    let signature = HeaderValue::from_str(&sign(token, address, None)).map_err(|_| bad_address())?;
    request.headers_mut().insert("X-Twilio-Signature", signature);
    request.headers_mut().insert("User-Agent", HeaderValue::from_static("Twilio.TmeWs/1.0"));
    within(client_async_with_config(request, stream, Some(socket_config()))).await?.map_err(|error| match error {
        WsError::Http(response) => {
            OpenError::Handshake(Some(response.status().as_u16()), Box::new(WsError::Http(response)))
        }
        error => OpenError::Handshake(None, Box::new(error)),
    })
}

/// Carries messages until either side ends it. News go out as what `wrap` makes of them; nobody hears them: it ends.
pub async fn carry<T>(
    mut socket: MediaSocket,
    mut orders: mpsc::Receiver<SocketOrder>,
    news: mpsc::Sender<T>,
    wrap: impl Fn(SocketNews) -> T,
) {
    let mut closed = None;
    while closed.is_none() {
        tokio::select! {
            order = orders.recv() => match order {
                Some(SocketOrder::Send(text)) => {
                    if socket.send(Message::text(text)).await.is_err() {
                        closed = Some(None);
                    }
                }
                Some(SocketOrder::Close) | None => return close(socket).await,
                Some(SocketOrder::Abort) => {
                    // A reset tells the server at once, as a lost connection mostly does.
                    let _ = socket.get_ref().get_ref().0.set_zero_linger();
                    return;
                }
            },
            message = socket.next() => {
                let brought = match message {
                    Some(Ok(Message::Text(text))) => SocketNews::Text(text.to_string()),
                    Some(Ok(Message::Binary(_))) => SocketNews::Binary,
                    Some(Ok(Message::Close(frame))) => {
                        closed = Some(Some(frame.map_or(1005, |frame| frame.code.into())));
                        continue;
                    }
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => {
                        closed = Some(None);
                        continue;
                    }
                };
                if news.send(wrap(brought)).await.is_err() {
                    return close(socket).await;
                }
            }
        }
    }
    let _ = news.send(wrap(SocketNews::Closed(closed.flatten()))).await;
    close(socket).await;
}

/// Says goodbye, and waits a little for the other side's.
pub async fn close(mut socket: MediaSocket) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let goodbye = async {
        let _ = socket.close(Some(frame)).await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = timeout(CLOSE_MAX, goodbye).await;
}

async fn within<T>(step: impl Future<Output = T>) -> Result<T, OpenError> {
    timeout(CONNECT_MAX, step).await.map_err(|_| OpenError::TimedOut)
}

fn socket_config() -> WebSocketConfig {
    // Twilio takes audio of any length in one message; ours is bounded like the box's own side, with room for minutes.
    WebSocketConfig::default()
        .read_buffer_size(WS_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WS_UNSENT_BYTES_MAX)
        .max_message_size(Some(64 * WS_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(64 * WS_MESSAGE_BYTES_MAX))
}
