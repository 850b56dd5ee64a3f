//! The client's side of the gateway's sockets: TCP from many addresses, TLS, and HTTP as it lies on the wire.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use kolbox::{
    system::http_client::{Roots, tls_client_config},
    twilio::signature::sign,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, client::Resumption, crypto::ring::default_provider,
    pki_types::ServerName, version::TLS12,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::client::IntoClientRequest};

/// Loopback addresses to come from. One address has 28,000 ports, and each connection keeps its own for a minute after
/// its end.
const SOURCES: u32 = 64;
/// The largest answer read; a prompt has some tens of kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A connection with TLS.
pub type Secure = TlsStream<TcpStream>;

/// The way to one gateway.
pub struct Wire {
    pub gateway: SocketAddr,
    tls: TlsConnector,
    distrustful: TlsConnector,
    next_source: AtomicU32,
}

/// An answer as far as anybody here looks at it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Wire {
    /// No connection resumes an older one's TLS session: each pays for a whole handshake.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(gateway: SocketAddr) -> Result<Self, Box<dyn std::error::Error>> {
        let mut trusting = tls_client_config(&Roots::Insecure)?;
        trusting.resumption = Resumption::disabled();
        let distrustful = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS12])?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Ok(Self {
            gateway,
            tls: TlsConnector::from(Arc::new(trusting)),
            distrustful: TlsConnector::from(Arc::new(distrustful)),
            next_source: AtomicU32::new(0),
        })
    }

    /// Connects from the next address.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        self.connect_with(None).await
    }

    /// The same, with so little room for what is received, in bytes.
    pub async fn connect_with(&self, receive_buffer: Option<u32>) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let nth = self.next_source.fetch_add(1, Ordering::Relaxed) % SOURCES;
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + 1 + nth);
        socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        let stream = socket.connect(self.gateway).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub async fn connect_secure(&self) -> io::Result<Secure> {
        let stream = self.connect().await?;
        self.secure(stream).await
    }

    /// The handshake on an open connection; any certificate is taken.
    pub async fn secure(&self, stream: TcpStream) -> io::Result<Secure> {
        self.tls.connect(self.name(), stream).await
    }

    /// A handshake with TLS 1.2 by a client that believes no certificate.
    pub async fn secure_distrustfully(&self, stream: TcpStream) -> io::Result<Secure> {
        self.distrustful.connect(self.name(), stream).await
    }

    /// The bytes with which a client begins TLS.
    pub fn client_hello(&self) -> io::Result<Vec<u8>> {
        let mut connection = ClientConnection::new(self.tls.config().clone(), self.name()).map_err(io::Error::other)?;
        let mut hello = Vec::new();
        connection.write_tls(&mut hello)?;
        Ok(hello)
    }

    /// A media socket, opened with a signature over its address by this token.
    pub async fn open_media(
        &self,
        token: &str,
    ) -> Result<WebSocketStream<Secure>, Box<tokio_tungstenite::tungstenite::Error>> {
        let address = format!("wss://{}/ws/twilio-media", self.gateway);
        let mut request = address.as_str().into_client_request()?;
        let signature = sign(token, &address, None).parse().expect("base64 can stand in a header");
        request.headers_mut().insert("X-Twilio-Signature", signature);
        let stream = self.connect_secure().await.map_err(tokio_tungstenite::tungstenite::Error::Io)?;
        Ok(client_async(request, stream).await?.0)
    }

    fn name(&self) -> ServerName<'static> {
        ServerName::IpAddress(self.gateway.ip().into())
    }
}

/// Reads one answer: its head, and as much body as that announces.
///
/// # Errors
/// The connection ends before, or what came is no answer.
pub async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(stream, &mut bytes).await?;
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no HTTP"))?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let whole = head + length.unwrap_or(0_usize);
    while bytes.len() < whole {
        read_more(stream, &mut bytes).await?;
    }
    Ok(Answer { status, body: bytes[head..whole].to_vec() })
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<()> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(io::Error::other("a longer answer than any that was asked for"));
    }
    match stream.read_buf(bytes).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
