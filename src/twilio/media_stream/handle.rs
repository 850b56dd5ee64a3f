//! Our messages to a stream, made only from the handle that its `start` gave.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::twilio::sid::StreamSid;

/// What messages to one stream are made with, so that none can carry another stream's identifier, and none can be made
/// before the stream began (Twilio drops those, warning 31951). [`Start::handle`](super::Start::handle) is where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHandle {
    pub(super) stream_sid: StreamSid,
}

impl StreamHandle {
    /// The stream that the messages go to.
    pub fn stream_sid(&self) -> StreamSid {
        self.stream_sid
    }

    /// Plays this audio after all that was sent before: raw mono μ-law at 8 kHz without any header, of any length.
    pub fn media(&self, ulaw: &[u8]) -> String {
        let payload = BASE64_STANDARD.encode(ulaw);
        self.message(Outbound::Media { media: OutboundMedia { payload: &payload } })
    }

    /// Comes back as [`Inbound::Mark`](super::Inbound::Mark) once all that was sent before is played, or thrown away by a [`clear`](Self::clear).
    pub fn mark(&self, name: &str) -> String {
        self.message(Outbound::Mark { mark: OutboundMark { name } })
    }

    /// Throws away what is not played yet; every mark that is still out comes back.
    pub fn clear(&self) -> String {
        self.message(Outbound::Clear)
    }

    fn message(&self, outbound: Outbound<'_>) -> String {
        let message = OutboundMessage { outbound, stream_sid: self.stream_sid };
        serde_json::to_string(&message).expect("strings in objects are always JSON")
    }
}

/// Exactly the documented keys: an extra one makes Twilio drop the message (warning 31951).
#[derive(Serialize)]
struct OutboundMessage<'a> {
    #[serde(flatten)]
    outbound: Outbound<'a>,
    #[serde(rename = "streamSid")]
    stream_sid: StreamSid,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Outbound<'a> {
    Media { media: OutboundMedia<'a> },
    Mark { mark: OutboundMark<'a> },
    Clear,
}

#[derive(Serialize)]
struct OutboundMedia<'a> {
    payload: &'a str,
}

#[derive(Serialize)]
struct OutboundMark<'a> {
    name: &'a str,
}
