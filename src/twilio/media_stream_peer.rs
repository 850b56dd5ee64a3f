//! Twilio's own side of Media Streams, for the simulator and for tests: writes what Twilio sends, reads what we send.

use std::{borrow::Cow, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::json;

use super::sid::{AccountSid, CallSid, StreamSid};

/// Writes one stream's messages with Twilio's fields and types, and counts them as Twilio does.
#[derive(Debug, Clone)]
pub struct MessageWriter {
    account_sid: AccountSid,
    call_sid: CallSid,
    stream_sid: StreamSid,
    /// Messages after `connected`, of all kinds.
    sequence_number: u64,
    /// Media messages.
    chunk: u64,
}

impl MessageWriter {
    pub fn new(account_sid: AccountSid, call_sid: CallSid, stream_sid: StreamSid) -> Self {
        Self { account_sid, call_sid, stream_sid, sequence_number: 0, chunk: 0 }
    }

    /// The first message on the socket.
    pub fn write_connected(&self) -> String {
        json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}).to_string()
    }

    /// The second one, with the `<Parameter>`s of the TwiML.
    pub fn write_start(&mut self, parameters: &[(String, String)]) -> String {
        let parameters: serde_json::Map<_, _> =
            parameters.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let start = json!({
            "streamSid": self.stream_sid,
            "accountSid": self.account_sid,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        });
        self.write("start", start)
    }

    /// Audio of the caller: raw μ-law bytes, 160 for 20 ms, heard this long after the stream began.
    pub fn write_media(&mut self, timestamp_ms: u64, ulaw: &[u8]) -> String {
        self.chunk += 1;
        let media = json!({
            "track": "inbound",
            "chunk": self.chunk.to_string(),
            "timestamp": timestamp_ms.to_string(),
            "payload": BASE64_STANDARD.encode(ulaw),
        });
        self.write("media", media)
    }

    /// A key: `0` to `9`, `*` or `#`.
    pub fn write_dtmf(&mut self, digit: char) -> String {
        self.write("dtmf", json!({"track": "inbound_track", "digit": digit.to_string()}))
    }

    /// A mark that comes back.
    pub fn write_mark(&mut self, name: &str) -> String {
        self.write("mark", json!({ "name": name }))
    }

    /// The last message.
    pub fn write_stop(&mut self) -> String {
        let stop = json!({"accountSid": self.account_sid, "callSid": self.call_sid});
        self.write("stop", stop)
    }

    fn write(&mut self, event: &str, part: serde_json::Value) -> String {
        self.sequence_number += 1;
        let mut message = json!({
            "event": event,
            "sequenceNumber": self.sequence_number.to_string(),
            "streamSid": self.stream_sid,
        });
        message[event] = part;
        message.to_string()
    }
}

/// A message to Twilio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    /// Raw μ-law bytes to play after all that came before.
    Media { stream_sid: StreamSid, payload: Vec<u8> },
    /// A mark to send back once all that came before is played.
    Mark { stream_sid: StreamSid, name: String },
    /// Throw away what is not played yet.
    Clear { stream_sid: StreamSid },
}

impl Outbound {
    /// The stream that the message is meant for; Twilio drops one for another stream (warning 31951).
    pub fn stream_sid(&self) -> StreamSid {
        match self {
            Self::Media { stream_sid, .. } | Self::Mark { stream_sid, .. } | Self::Clear { stream_sid } => *stream_sid,
        }
    }
}

/// Why Twilio would drop a message: its warnings 31950 and 31951.
#[derive(Debug)]
pub enum OutboundError {
    /// Not JSON, a key missing, or one too many.
    Shape(serde_json::Error),
    /// Not `media`, `mark` or `clear`.
    UnknownEvent(String),
    /// `payload` is not base64.
    Payload(base64::DecodeError),
}

impl fmt::Display for OutboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(_) => f.write_str("not exactly the documented keys"),
            Self::UnknownEvent(event) => write!(f, "unknown event {event:?}"),
            Self::Payload(_) => f.write_str("the payload is not base64"),
        }
    }
}

impl std::error::Error for OutboundError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Shape(error) => Some(error),
            Self::Payload(error) => Some(error),
            Self::UnknownEvent(_) => None,
        }
    }
}

/// Reads a message as strictly as Twilio does: exactly the documented keys.
///
/// # Errors
/// Where Twilio would drop the message and warn.
pub fn parse_outbound(text: &str) -> Result<Outbound, OutboundError> {
    let Tag { event } = serde_json::from_str(text).map_err(OutboundError::Shape)?;
    match event.as_ref() {
        "media" => {
            let message: MediaMessage = strict(text)?;
            let payload = BASE64_STANDARD.decode(message.media.payload.as_ref()).map_err(OutboundError::Payload)?;
            Ok(Outbound::Media { stream_sid: message.stream_sid, payload })
        }
        "mark" => {
            let message: MarkMessage = strict(text)?;
            Ok(Outbound::Mark { stream_sid: message.stream_sid, name: message.mark.name })
        }
        "clear" => {
            let message: ClearMessage = strict(text)?;
            Ok(Outbound::Clear { stream_sid: message.stream_sid })
        }
        other => Err(OutboundError::UnknownEvent(other.to_owned())),
    }
}

fn strict<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, OutboundError> {
    serde_json::from_str(text).map_err(OutboundError::Shape)
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MediaMessage<'a> {
    #[serde(rename = "event")]
    _event: serde::de::IgnoredAny,
    #[serde(rename = "streamSid")]
    stream_sid: StreamSid,
    #[serde(borrow)]
    media: Payload<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkMessage {
    #[serde(rename = "event")]
    _event: serde::de::IgnoredAny,
    #[serde(rename = "streamSid")]
    stream_sid: StreamSid,
    mark: Name,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearMessage {
    #[serde(rename = "event")]
    _event: serde::de::IgnoredAny,
    #[serde(rename = "streamSid")]
    stream_sid: StreamSid,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::twilio::media_stream::{Inbound, StreamHandle, parse};

    const STREAM: u128 = 7;

    fn writer() -> MessageWriter {
        MessageWriter::new(AccountSid::from_number(1), CallSid::from_number(2), StreamSid::from_number(STREAM))
    }

    fn handle() -> StreamHandle {
        match parse(&writer().write_start(&[])).unwrap() {
            Inbound::Start(start) => start.handle(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_it_writes_is_what_the_box_reads() {
        let mut writer = writer();
        assert_eq!(parse(&writer.write_connected()).unwrap(), Inbound::Connected);
        let start = writer.write_start(&[("token".into(), "a\"b".into())]);
        match parse(&start).unwrap() {
            Inbound::Start(start) => {
                assert_eq!(
                    (start.stream_sid, start.call_sid),
                    (StreamSid::from_number(STREAM), CallSid::from_number(2))
                );
                assert_eq!(start.account_sid, Some(AccountSid::from_number(1)));
                assert_eq!(start.parameter("token"), Some("a\"b"));
                assert!(start.is_ulaw_8k_mono);
            }
            other => panic!("{other:?}"),
        }
        for chunk in 1..=2 {
            match parse(&writer.write_media(chunk * 20, &[0xff; 160])).unwrap() {
                Inbound::Media(media) => {
                    assert_eq!((media.chunk, media.timestamp_ms), (Some(chunk), Some(chunk * 20)));
                    assert_eq!((media.payload_base64.len(), media.track_inbound), (216, true));
                    assert_eq!(media.stream_sid, Some(StreamSid::from_number(STREAM)));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(parse(&writer.write_dtmf('*')).unwrap(), Inbound::Dtmf { digit: '*' });
        let stream_sid = Some(StreamSid::from_number(STREAM));
        assert_eq!(parse(&writer.write_mark("e1:tone")).unwrap(), Inbound::Mark { name: "e1:tone".into(), stream_sid });
        assert_eq!(parse(&writer.write_stop()).unwrap(), Inbound::Stop { stream_sid });
    }

    #[test]
    fn messages_are_counted_as_strings_from_one_after_connected() {
        let mut writer = writer();
        writer.write_connected();
        let sequence_number =
            |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap()["sequenceNumber"].clone();
        assert_eq!(sequence_number(writer.write_start(&[])), "1");
        assert_eq!(sequence_number(writer.write_media(0, &[])), "2");
        assert_eq!(sequence_number(writer.write_stop()), "3");
    }

    #[test]
    fn what_the_box_writes_is_read() {
        let stream_sid = StreamSid::from_number(STREAM);
        let payload = vec![0x7f; 8000];
        assert_eq!(parse_outbound(&handle().media(&payload)).unwrap(), Outbound::Media { stream_sid, payload });
        let name = "e3:\"end\"".to_owned();
        assert_eq!(parse_outbound(&handle().mark(&name)).unwrap(), Outbound::Mark { stream_sid, name });
        assert_eq!(parse_outbound(&handle().clear()).unwrap(), Outbound::Clear { stream_sid });
    }

    #[test]
    fn a_key_too_many_or_too_few_is_refused() {
        let good = handle().mark("x");
        for (from, to) in [
            ("\"name\":", "\"track\":\"inbound\",\"name\":"),
            ("\"event\":", "\"sequenceNumber\":\"1\",\"event\":"),
            ("\"streamSid\"", "\"StreamSid\""),
            ("MZ", "XX"),
            ("\"name\"", "\"label\""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(matches!(parse_outbound(&bad), Err(OutboundError::Shape(_))), "{bad}");
        }
        let unknown = good.replacen("\"event\":\"mark\"", "\"event\":\"dtmf\"", 1);
        assert!(matches!(parse_outbound(&unknown), Err(OutboundError::UnknownEvent(event)) if event == "dtmf"));
        let payload = handle().media(&[1, 2]).replacen("AQI=", "A QI", 1);
        assert!(matches!(parse_outbound(&payload), Err(OutboundError::Payload(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = parse_outbound(&text);
        }

        #[test]
        fn audio_and_names_go_through_unchanged(ulaw in proptest::collection::vec(any::<u8>(), 0..400), name in any::<String>()) {
            let stream_sid = StreamSid::from_number(STREAM);
            let (media, mark) = (handle().media(&ulaw), handle().mark(&name));
            prop_assert_eq!(parse_outbound(&media).unwrap(), Outbound::Media { stream_sid, payload: ulaw });
            prop_assert_eq!(parse_outbound(&mark).unwrap(), Outbound::Mark { stream_sid, name });
        }
    }
}
