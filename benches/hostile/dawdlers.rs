//! Strangers who take their time: connections that are half open, drip, or never read, until the box ends them.

use std::{io, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{MissedTickBehavior, interval},
};

use crate::support::{gateway::AUTH_TOKEN, wire::Wire};

/// Between two bytes of those who drip.
const DRIP: Duration = Duration::from_secs(1);
/// Room for what a deaf reader is sent, in bytes; the kernel doubles it.
const DEAF_BUFFER_BYTES: u32 = 2 * 1024;
/// Prompts that a deaf reader asks for at once: more than all buffers on the way can hold.
const DEAF_REQUESTS: usize = 400;
/// A header block that never ends is dripped out of this.
const HEADER: &[u8] = b"X-Slow: aaaaaaaaaaaaaaaaaaaaaaaa\r\n";

/// A way of taking one's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dawdler {
    /// Connects, and says nothing.
    Silent,
    /// Half a ClientHello, and then nothing.
    HalfHello,
    /// A ClientHello, byte by byte.
    DrippedHello,
    /// TLS, and then a header block byte by byte.
    DrippedHeaders,
    /// A whole header block, and then a body byte by byte.
    DrippedBody,
    /// Asks for many prompts, and reads none.
    DeafReader,
    /// Asks once, reads, and then leaves the connection open.
    IdleConnection,
    /// Opens a media socket (it holds the token: somebody's faulty client), and never says which stream it is.
    SilentSocket,
}

impl Dawdler {
    pub const ALL: [Self; 8] = [
        Self::Silent,
        Self::HalfHello,
        Self::DrippedHello,
        Self::DrippedHeaders,
        Self::DrippedBody,
        Self::DeafReader,
        Self::IdleConnection,
        Self::SilentSocket,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "TCP alone",
            Self::HalfHello => "half a ClientHello",
            Self::DrippedHello => "dripping ClientHello",
            Self::DrippedHeaders => "dripping headers",
            Self::DrippedBody => "dripping body",
            Self::DeafReader => "never reads its answer",
            Self::IdleConnection => "idle after an answer",
            Self::SilentSocket => "silent media socket",
        }
    }

    /// Connects, tells so, and stays until the box ends the connection.
    ///
    /// # Errors
    /// Only where it never came so far as to stay.
    pub async fn dawdle(self, wire: &Wire, connected: impl FnOnce()) -> io::Result<()> {
        match self {
            Self::Silent => {
                let stream = wire.connect().await?;
                connected();
                drip(stream, [].iter()).await;
            }
            Self::HalfHello => {
                let (mut stream, hello) = (wire.connect().await?, wire.client_hello()?);
                stream.write_all(&hello[..hello.len() / 2]).await?;
                connected();
                drip(stream, [].iter()).await;
            }
            Self::DrippedHello => {
                let (stream, hello) = (wire.connect().await?, wire.client_hello()?);
                connected();
                drip(stream, hello.iter()).await;
            }
            Self::DrippedHeaders => {
                let mut stream = wire.connect_secure().await?;
                stream.write_all(request_line(wire, "GET /healthz").as_bytes()).await?;
                connected();
                drip(stream, HEADER.iter().cycle()).await;
            }
            Self::DrippedBody => {
                let mut stream = wire.connect_secure().await?;
                let head = request_line(wire, "POST /webhook/incoming_call") + "Content-Length: 5000\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                connected();
                drip(stream, b"a".iter().cycle()).await;
            }
            Self::DeafReader => return ask_and_never_read(wire, connected).await,
            Self::IdleConnection => {
                let mut stream = wire.connect_secure().await?;
                stream.write_all((request_line(wire, "GET /healthz") + "\r\n").as_bytes()).await?;
                connected();
                drip(stream, [].iter()).await;
            }
            Self::SilentSocket => {
                let mut socket = wire.open_media(AUTH_TOKEN).await.map_err(io::Error::other)?;
                connected();
                while let Some(Ok(_)) = socket.next().await {}
            }
        }
        Ok(())
    }
}

/// Sends a byte a second for as long as there are any, and returns when the other side has ended the connection.
async fn drip<'a>(mut stream: impl AsyncRead + AsyncWrite + Unpin, mut bytes: impl Iterator<Item = &'a u8>) {
    let mut tick = interval(DRIP);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut received, mut drips) = ([0; 1024], true);
    loop {
        tokio::select! {
            read = stream.read(&mut received) => {
                if read.is_err() || read.is_ok_and(|bytes| bytes == 0) {
                    return;
                }
            }
            _ = tick.tick(), if drips => match bytes.next() {
                Some(byte) => {
                    let sent = async {
                        stream.write_all(&[*byte]).await?;
                        stream.flush().await
                    };
                    if sent.await.is_err() {
                        return;
                    }
                }
                None => drips = false,
            },
        }
    }
}

/// That the connection is over is seen without reading: what is written to it comes back as an error.
async fn ask_and_never_read(wire: &Wire, connected: impl FnOnce()) -> io::Result<()> {
    let stream = wire.connect_with(Some(DEAF_BUFFER_BYTES)).await?;
    let mut stream = wire.secure(stream).await?;
    let requests = (request_line(wire, "GET /static/tts/greeting_he.mp3") + "\r\n").repeat(DEAF_REQUESTS);
    connected();
    let asked = async {
        stream.write_all(requests.as_bytes()).await?;
        stream.flush().await
    };
    // The box need not take so many questions from someone who hears no answer.
    if matches!(tokio::time::timeout(DRIP, asked).await, Ok(Err(_))) {
        return Ok(());
    }
    let (connection, _) = stream.get_mut();
    loop {
        tokio::time::sleep(DRIP).await;
        // Outside of TLS, where nothing waits behind what could not be sent.
        match connection.try_write(b"a") {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Ok(()),
            _ => {}
        }
    }
}

fn request_line(wire: &Wire, method_and_path: &str) -> String {
    format!("{method_and_path} HTTP/1.1\r\nHost: {}\r\n", wire.gateway)
}

/// Those that cost the box the most while they are there: a body's room, and answers that nobody takes.
pub const HEAVIEST: [Dawdler; 2] = [Dawdler::DeafReader, Dawdler::DrippedBody];

/// The same number of each kind, by turns.
pub fn nth(number: usize) -> Dawdler {
    Dawdler::ALL[number % Dawdler::ALL.len()]
}

/// Dawdles like [`Dawdler::dawdle`], at most so long. Whether the box ended it.
pub async fn dawdle_at_most(dawdler: Dawdler, wire: Arc<Wire>, at_most: Duration) -> bool {
    matches!(tokio::time::timeout(at_most, dawdler.dawdle(&wire, || {})).await, Ok(Ok(())))
}
