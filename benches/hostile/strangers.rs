//! Strangers in a hurry: each sends one thing that no good client sends, and is answered in the one way it should be.

use std::{fmt, io, time::Duration};

use futures_util::{SinkExt, StreamExt};
use kolbox::{
    limits::{BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX, WS_MESSAGE_BYTES_MAX},
    twilio::{
        media_stream_peer::MessageWriter,
        sid::{AccountSid, CallSid, StreamSid},
        webhook::Form,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::support::{
    gateway::{ACCOUNT_SID, AUTH_TOKEN},
    phone::signed_post,
    wire::{Secure, Wire, read_answer},
};

/// Anything takes less; who waits for longer has found something.
const STRANGER_MAX: Duration = Duration::from_secs(20);

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Met {
    /// An HTTP answer.
    Status(u16),
    /// A media socket's close code.
    Code(u16),
    /// The box ended the connection without an answer.
    Closed,
    /// The stranger left by itself.
    Left,
    /// Anything else, in words.
    Other(String),
}

/// What is to be sent, and to what.
enum Act {
    /// Before any TLS; then the box is to end the connection.
    Raw(Vec<u8>),
    /// Before any TLS; then the stranger goes, with a reset.
    RawAndGo(Vec<u8>),
    /// A handshake that the client breaks off.
    Distrust,
    /// Inside TLS; an answer is awaited.
    Ask(Vec<u8>),
    /// Inside TLS; then the stranger goes, with a reset.
    AskAndGo(Vec<u8>),
    /// A handshake of a media socket that is not signed, or by another token.
    Handshake(&'static str),
    /// On a signed media socket; its close code is awaited.
    Say(Vec<Message>),
    /// The head of a frame of this many bytes on a signed media socket, and as many bytes as it may have.
    Frame(usize),
}

/// One kind of stranger.
pub struct Stranger {
    pub name: &'static str,
    act: Act,
    /// What should come of it.
    pub expected: Met,
}

impl Stranger {
    /// Does its worst. Never fails: what went wrong is what it met.
    pub async fn visit(&self, wire: &Wire) -> Met {
        match tokio::time::timeout(STRANGER_MAX, self.act(wire)).await {
            Ok(Ok(met)) => met,
            Ok(Err(error)) => met_error(&error),
            Err(_) => Met::Other("nothing in time".to_owned()),
        }
    }

    async fn act(&self, wire: &Wire) -> io::Result<Met> {
        match &self.act {
            Act::Raw(bytes) => {
                let mut stream = wire.connect().await?;
                stream.write_all(bytes).await?;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await?;
                Ok(Met::Closed)
            }
            Act::RawAndGo(bytes) => {
                let mut stream = wire.connect().await?;
                stream.write_all(bytes).await?;
                reset(&stream)
            }
            Act::Distrust => {
                let refused = wire.secure_distrustfully(wire.connect().await?).await;
                Ok(if refused.is_err() { Met::Left } else { Met::Other("a certificate that is nobody's".to_owned()) })
            }
            Act::Ask(bytes) => {
                let mut stream = wire.connect_secure().await?;
                // The box may have heard enough before all is said.
                let _ = stream.write_all(bytes).await;
                let _ = stream.flush().await;
                let answer = read_answer(&mut stream).await?;
                reset(stream.get_ref().0)?;
                Ok(Met::Status(answer.status))
            }
            Act::AskAndGo(bytes) => {
                let mut stream = wire.connect_secure().await?;
                stream.write_all(bytes).await?;
                stream.flush().await?;
                reset(stream.get_ref().0)
            }
            Act::Handshake(token) => Ok(match wire.open_media(token).await.map_err(|error| *error) {
                Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Met::Status(answer.status().as_u16()),
                Err(error) => Met::Other(error.to_string()),
                Ok(_) => Met::Status(101),
            }),
            Act::Say(messages) => {
                let mut socket = wire.open_media(AUTH_TOKEN).await.map_err(io::Error::other)?;
                for message in messages {
                    let _ = socket.feed(message.clone()).await;
                }
                let _ = socket.flush().await;
                Ok(close_code(&mut socket).await)
            }
            Act::Frame(bytes) => {
                let mut socket = wire.open_media(AUTH_TOKEN).await.map_err(io::Error::other)?;
                let connection = socket.get_mut();
                let _ = connection.write_all(&frame(*bytes)).await;
                let _ = connection.flush().await;
                Ok(close_code(&mut socket).await)
            }
        }
    }
}

/// Ends a connection at once, and leaves no port behind that must wait for a minute.
fn reset(stream: &TcpStream) -> io::Result<Met> {
    stream.set_zero_linger()?;
    Ok(Met::Left)
}

async fn close_code(socket: &mut WebSocketStream<Secure>) -> Met {
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Close(frame)) => return Met::Code(frame.map_or(1005, |frame| frame.code.into())),
            Ok(_) => {}
            Err(error) => return Met::Other(error.to_string()),
        }
    }
    Met::Closed
}

fn met_error(error: &io::Error) -> Met {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Met::Closed,
        _ => Met::Other(error.to_string()),
    }
}

/// A masked text frame (RFC 6455, 5.2) of this length, of which no more is sent than a message may have.
fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | 127];
    frame.extend_from_slice(&(bytes as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + bytes.min(WS_MESSAGE_BYTES_MAX), b'a');
    frame
}

/// One of each kind.
pub fn strangers(wire: &Wire) -> Vec<Stranger> {
    let host = wire.gateway.to_string();
    let hello = wire.client_hello().unwrap_or_default();
    let ask = |head: &str, rest: &str| format!("{head} HTTP/1.1\r\nHost: {host}\r\n{rest}\r\n").into_bytes();
    let voice = |call_sid: String| Form::from_pairs([("CallSid", call_sid), ("CallStatus", "ringing".to_owned())]);
    let call_sid = CallSid::from_number(u128::MAX).to_string();
    let url = format!("https://{host}/webhook/incoming_call");
    let post = |form: &Form, token: &str| signed_post(&url, &host, form, token);
    let foreign =
        Form::from_pairs([("CallSid", call_sid.as_str()), ("AccountSid", "AC00000000000000000000000000000002")]);
    let long_header = format!("X-Long: {}\r\n", "a".repeat(2 * HEADER_BYTES_MAX));
    let chunk = format!("{:x}\r\n{}\r\n", BODY_BYTES_MAX, "a".repeat(BODY_BYTES_MAX)).repeat(2);
    let account: AccountSid = ACCOUNT_SID.parse().expect("an AccountSid");
    let mut writer = MessageWriter::new(account, CallSid::from_number(u128::MAX), StreamSid::from_number(1));
    let start = writer.write_start(&[("token".to_owned(), "guessed".to_owned())]);
    let one = |name, act, expected| Stranger { name, act, expected };
    use Act::*;
    use Met::{Closed, Code, Left, Status};
    vec![
        one("connects and goes", RawAndGo(Vec::new()), Left),
        one("half a ClientHello", RawAndGo(hello[..hello.len() / 2].to_vec()), Left),
        one("no TLS at all", Raw(vec![0xff; 512]), Closed),
        one("plain HTTP", Raw(ask("GET /", "")), Closed),
        one("believes no certificate", Distrust, Left),
        one("TLS and goes", AskAndGo(Vec::new()), Left),
        one("no HTTP", Ask(b"\x16\x03 garbage\r\n\r\n".to_vec()), Status(400)),
        one("a header too long", Ask(ask("GET /healthz", &long_header)), Status(431)),
        one("headers too many", Ask(ask("GET /healthz", &"X-Many: a\r\n".repeat(2 * HEADERS_MAX))), Status(431)),
        one("goes amid the headers", AskAndGo(b"GET /healthz HTTP/1.1\r\nHost: ".to_vec()), Left),
        one("a body too long", Ask(ask("POST /webhook/call_status", "Content-Length: 10000000\r\n")), Status(413)),
        one(
            "a chunked body too long",
            Ask([ask("POST /webhook/call_status", "Transfer-Encoding: chunked\r\n"), chunk.into_bytes()].concat()),
            Status(413),
        ),
        one("goes amid the body", AskAndGo(ask("POST /webhook/call_status", "Content-Length: 500\r\n")), Left),
        one("no signature", Ask(ask("POST /webhook/incoming_call", "Content-Length: 0\r\n")), Status(403)),
        one("another's signature", Ask(post(&voice(call_sid.clone()), "another")), Status(403)),
        one("another's account", Ask(post(&foreign, AUTH_TOKEN)), Status(403)),
        one("no CallSid", Ask(post(&voice("CAbut".to_owned()), AUTH_TOKEN)), Status(400)),
        one("no such route", Ask(ask("GET /admin.php", "")), Status(404)),
        one("no such method", Ask(ask("DELETE /webhook/incoming_call", "")), Status(405)),
        one("no host", Ask(b"GET /healthz HTTP/1.1\r\n\r\n".to_vec()), Status(400)),
        one("a prompt", Ask(ask("GET /static/tts/greeting_he.mp3", "")), Status(200)),
        one("goes amid the prompt", AskAndGo(ask("GET /static/tts/greeting_he.mp3", "").repeat(8)), Left),
        one("no upgrade", Ask(ask("GET /ws/twilio-media", "")), Status(426)),
        one("another's media socket", Handshake("another"), Status(403)),
        one("a start that was guessed", Say(vec![Message::text(start)]), Code(1008)),
        one("a frame too long", Frame(1 << 40), Code(1009)),
        one("a message too long", Frame(WS_MESSAGE_BYTES_MAX + 1), Code(1009)),
    ]
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Code(code) => write!(f, "close {code}"),
            Self::Closed => f.write_str("closed"),
            Self::Left => f.write_str("left"),
            Self::Other(other) => f.write_str(other),
        }
    }
}
