//! A caller's line: one media stream as Twilio holds it, frame by frame, to the box or to a bare server.

use std::{error::Error, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use kolbox::{
    speech::audio,
    twilio::{
        media_stream_peer::MessageWriter,
        sid::{AccountSid, CallSid, StreamSid},
    },
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Bytes, Message, Utf8Bytes},
};

use crate::support::{
    gateway::{ACCOUNT_SID, AUTH_TOKEN},
    phone::Phone,
    wire::{Secure, Wire},
};

/// What a frame lasts.
pub const FRAME: Duration = Duration::from_millis(20);
/// Messages made beforehand, and sent again and again: ten seconds.
const MESSAGES: u64 = 500;
/// So many frames of each second are speech, the others the pause behind it.
const SPOKEN: u64 = 35;
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// How fast frames are sent.
#[derive(Clone, Copy)]
pub enum Pace {
    /// As fast as they are taken.
    Unbounded,
    /// One each 20 ms.
    Speech,
}

impl Pace {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unbounded => "as fast as they are taken",
            Self::Speech => "at the pace of speech",
        }
    }
}

/// So many frames of each line, of all at once; returns once all were read.
///
/// # Errors
/// A stream broke. It is not among the lines any more, nor are those behind it.
pub async fn speak(lines: &mut Vec<Line>, pace: Pace, frames: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
    let streams = lines.len() as u32;
    let mut talking = JoinSet::new();
    for (nth, mut line) in (0..).zip(lines.drain(..)) {
        talking.spawn(async move {
            match pace {
                Pace::Unbounded => line.pour(frames).await?,
                Pace::Speech => {
                    // Calls begin at any moment: the streams' frames are not sent all at once.
                    sleep(FRAME * nth / streams).await;
                    line.talk(frames).await?;
                }
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(line)
        });
    }
    while let Some(line) = talking.join_next().await {
        lines.push(line??);
    }
    Ok(())
}

pub struct Line {
    socket: WebSocketStream<Secure>,
    media: Arc<[Utf8Bytes]>,
    next: usize,
}

impl Line {
    /// A call to the box that was answered with a stream, and the stream believed.
    ///
    /// # Errors
    /// The box does otherwise.
    pub async fn to_box(phone: &Phone) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let call = phone.call(std::time::Instant::now()).await.map_err(|error| error.to_string())?;
        let (socket, writer) = phone.open_stream(&call).await.map_err(|error| error.to_string())?;
        Ok(Self { socket, media: messages(writer), next: 0 })
    }

    /// The same messages to a server that asks for nothing.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn to_bare(wire: &Wire) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut socket = wire.open_media(AUTH_TOKEN).await?;
        let mut writer =
            MessageWriter::new(ACCOUNT_SID.parse::<AccountSid>()?, CallSid::from_number(1), StreamSid::from_number(1));
        for message in [writer.write_connected(), writer.write_start(&[])] {
            socket.send(Message::text(message)).await?;
        }
        Ok(Self { socket, media: messages(writer), next: 0 })
    }

    /// So many frames as fast as they are taken, each in a TLS record of its own as Twilio sends them; returns once the
    /// other side has read them all.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn pour(&mut self, frames: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
        for _ in 0..frames {
            self.send_frame().await?;
        }
        self.settle().await
    }

    /// So many frames, one each 20 ms.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn talk(&mut self, frames: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut pace = interval(FRAME);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..frames {
            pace.tick().await;
            self.send_frame().await?;
        }
        self.settle().await
    }

    async fn send_frame(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let message = self.media[self.next % self.media.len()].clone();
        self.next += 1;
        Ok(self.socket.send(Message::Text(message)).await?)
    }

    /// A ping is answered behind all that was sent before it.
    async fn settle(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.socket.send(Message::Ping(Bytes::from_static(b"all read?"))).await?;
        let answered = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Pong(_))) => return Ok(()),
                    Some(Ok(Message::Close(frame))) => return Err(format!("the stream was closed: {frame:?}").into()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err("the stream ended".into()),
                }
            }
        };
        timeout(SETTLE_MAX, answered).await?
    }
}

/// Somebody who speaks and pauses, so that no goodbye is said.
fn messages(mut writer: MessageWriter) -> Arc<[Utf8Bytes]> {
    let mut noise = fastrand::Rng::with_seed(1);
    (0..MESSAGES)
        .map(|number| {
            let loudness = if number % 50 < SPOKEN { 8_000 } else { 20 };
            let pcm: Vec<i16> = (0..audio::FRAME_SAMPLES).map(|_| noise.i16(-loudness..=loudness)).collect();
            writer.write_media(number * 20, &audio::encode(&pcm)).into()
        })
        .collect()
}
