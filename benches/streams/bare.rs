//! The least that anybody could call a media server: TLS, a WebSocket, serde_json into a struct, base64, and no more.
//!
//! It runs in a process of its own (this bench's program, asked for by a hidden argument), with as many threads as the box,
//! its TLS, so that the same cipher is compared, and its buffers: tungstenite's own of 128 KiB are cleared at every read.

use std::{
    env,
    error::Error,
    hint::black_box,
    io::{self, BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use kolbox::{config::Config, limits::WS_BUFFER_BYTES, server::tls};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// The hidden argument.
pub const ARGUMENT: &str = "--bare-server";
/// As many threads as the box has for its sockets.
const WORKERS: usize = 2;

/// The process; killed when dropped.
pub struct Bare {
    pub address: SocketAddr,
    child: Child,
}

impl Bare {
    /// # Errors
    /// It does not start.
    pub fn start() -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?).arg(ARGUMENT).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(|_| io::Error::other("the bare server does not start"))?;
        Ok(Self { address, child })
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message as every example of a media server reads it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
struct Plain {
    event: String,
    #[serde(default)]
    sequence_number: String,
    #[serde(default)]
    stream_sid: String,
    media: Option<PlainMedia>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct PlainMedia {
    track: String,
    chunk: String,
    timestamp: String,
    payload: String,
}

/// Serves until it is killed.
///
/// # Errors
/// It cannot listen.
pub fn serve() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async {
        let acceptor = tls::acceptor(&Config::default().public.tls, &[])?.ok_or("no TLS")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(converse(acceptor.clone(), stream));
        }
    })
}

async fn converse(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let buffers = WebSocketConfig::default().read_buffer_size(WS_BUFFER_BYTES).write_buffer_size(WS_BUFFER_BYTES);
    let Ok(mut socket) = accept_async_with_config(stream, Some(buffers)).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let plain: Plain = serde_json::from_str(&text).expect("Twilio's message");
        if let Some(media) = &plain.media {
            black_box(BASE64_STANDARD.decode(&media.payload).expect("base64"));
        }
        black_box(plain);
    }
}
