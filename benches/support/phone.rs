//! Good calls as Twilio makes them, each webhook over a connection of its own.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use kolbox::{
    simulator::{
        document::{Document, StreamNoun, Verb},
        forms::{Fields, Parties},
    },
    twilio::{
        media_stream_peer::MessageWriter,
        sid::{AccountSid, CallSid, StreamSid},
        signature::sign,
        webhook::{CallStatus, Form},
    },
};
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};

use super::{
    gateway::{ACCOUNT_SID, AUTH_TOKEN},
    wire::{Secure, Wire, read_answer},
};

/// Twilio's own time-out for a webhook.
const WEBHOOK_MAX: Duration = Duration::from_secs(15);
/// An odd number near 2^128 divided by the golden ratio: its multiples lie scattered, and no two are the same (Knuth,
/// The Art of Computer Programming, vol. 3, 6.4).
const SCATTER: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
/// From a stream's `start` to the tone.
const TONE_MAX: Duration = Duration::from_secs(10);
/// From the stream's last message to the box's side of the close.
const CLOSE_MAX: Duration = Duration::from_secs(10);
/// 20 ms of μ-law, as Twilio sends it.
const FRAME: [u8; 160] = [0x7f; 160];

/// Why a call was not what it should be.
#[derive(Debug)]
pub struct CallError(String);

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Places calls.
pub struct Phone {
    wire: Arc<Wire>,
    account_sid: AccountSid,
    next: AtomicU64,
}

/// A call that was answered with a stream.
pub struct Call {
    pub parties: Parties,
    /// How long the box took to answer, connection and TLS included.
    pub answered_after: Duration,
    stream: StreamNoun,
}

impl Phone {
    pub fn new(wire: Arc<Wire>) -> Self {
        let account_sid = ACCOUNT_SID.parse().expect("an AccountSid");
        Self { wire, account_sid, next: AtomicU64::new(1) }
    }

    /// A new call comes in. `since`: when it should have, if that was earlier.
    pub async fn call(&self, since: Instant) -> Result<Call, CallError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let parties = Parties {
            account_sid: self.account_sid,
            // Twilio's are in no order, and a store's pages are touched accordingly.
            call_sid: CallSid::from_number(u128::from(number).wrapping_mul(SCATTER)),
            from: format!("+97250{:07}", number % 10_000_000),
            to: "+97231234567".to_owned(),
        };
        let body = self.post("incoming_call", parties.voice(CallStatus::Ringing), 200).await?;
        let answered_after = since.elapsed();
        let document =
            Document::parse(&String::from_utf8_lossy(&body)).map_err(|error| CallError(error.to_string()))?;
        let stream = document.verbs.into_iter().find_map(|verb| match verb {
            Verb::Connect { stream, .. } => Some(stream),
            _ => None,
        });
        let stream = stream.ok_or_else(|| CallError("a new call was not answered with a stream".to_owned()))?;
        Ok(Call { parties, answered_after, stream })
    }

    /// Lets a call's voice stream, this many frames of 20 ms without pauses between them, and then end in good order.
    pub async fn stream(&self, call: &Call, frames: u32) -> Result<(), CallError> {
        let (mut socket, mut writer) = self.open_stream(call).await?;
        for frame in 0..frames {
            let media = writer.write_media(u64::from(frame) * 20, &FRAME);
            socket.feed(Message::text(media)).await.map_err(|error| broken(&error))?;
        }
        socket.send(Message::text(writer.write_stop())).await.map_err(|error| broken(&error))?;
        let leave = async {
            socket.close(None).await?;
            while !matches!(socket.next().await.transpose()?, Some(Message::Close(_)) | None) {}
            Ok::<_, tungstenite::Error>(())
        };
        timeout(CLOSE_MAX, leave).await.map_err(|error| broken(&error))?.map_err(|error| broken(&error))?;
        let body = self.post("stream_ended", call.parties.voice(CallStatus::InProgress), 200).await?;
        match read(&body)?.verbs.as_slice() {
            [Verb::Hangup] => Ok(()),
            verbs => Err(CallError(format!("a call that was had was answered with {verbs:?}"))),
        }
    }

    /// The call is over. Returns how long the box took to say that it has the record.
    pub async fn complete(&self, call: &Call, since: Instant) -> Result<Duration, CallError> {
        let form =
            call.parties.call_status(CallStatus::Completed, Duration::from_secs(1), "Sun, 22 Nov 2026 08:15:02 +0000");
        self.post("call_status", form, 204).await?;
        Ok(since.elapsed())
    }

    /// A call's stream, from its handshake to the box's first sound.
    pub async fn open_stream(&self, call: &Call) -> Result<(WebSocketStream<Secure>, MessageWriter), CallError> {
        let mut socket = self.wire.open_media(AUTH_TOKEN).await.map_err(|error| broken(&error))?;
        let stream_sid = StreamSid::from_number(self.next.fetch_add(1, Ordering::Relaxed).into());
        let mut writer = MessageWriter::new(call.parties.account_sid, call.parties.call_sid, stream_sid);
        for message in [writer.write_connected(), writer.write_start(&call.stream.parameters)] {
            socket.feed(Message::text(message)).await.map_err(|error| broken(&error))?;
        }
        socket.flush().await.map_err(|error| broken(&error))?;
        // The box's tone: the stream is believed, and its media count from here on.
        timeout(TONE_MAX, socket.next()).await.map_err(|error| broken(&error))?;
        Ok((socket, writer))
    }

    async fn post(&self, webhook: &str, fields: Fields, expected: u16) -> Result<Vec<u8>, CallError> {
        let failed = |why: &dyn fmt::Display| CallError(format!("{webhook}: {why}"));
        let form = Form::from_pairs(fields);
        let url = format!("https://{}/webhook/{webhook}", self.wire.gateway);
        let request = signed_post(&url, &self.wire.gateway.to_string(), &form, AUTH_TOKEN);
        let exchange = async {
            let mut stream = self.wire.connect_secure().await?;
            stream.write_all(&request).await?;
            stream.flush().await?;
            let answer = read_answer(&mut stream).await?;
            stream.shutdown().await.map(|()| answer)
        };
        let answer =
            timeout(WEBHOOK_MAX, exchange).await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        match answer.status {
            status if status == expected => Ok(answer.body),
            status => Err(failed(&format_args!("answered with {status}"))),
        }
    }
}

fn broken(error: &dyn fmt::Display) -> CallError {
    CallError(format!("a stream broke: {error}"))
}

fn read(body: &[u8]) -> Result<Document, CallError> {
    Document::parse(&String::from_utf8_lossy(body)).map_err(|error| CallError(error.to_string()))
}

/// A webhook as it goes over the wire.
pub fn signed_post(url: &str, host: &str, form: &Form, token: &str) -> Vec<u8> {
    let path = url.split_once(host).map_or("/", |(_, path)| path);
    let (signature, body) = (sign(token, url, Some(form)), form.encode());
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: TwilioProxy/1.1\r\nAccept: */*\r\n\
         Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nX-Twilio-Signature: {signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
