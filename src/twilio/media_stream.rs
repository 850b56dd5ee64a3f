//! Media Streams messages: Twilio's parsed in place, ours made only from the handle that a `start` gave.
//!
//! Docs: Media Streams, "WebSocket messages". A media message is parsed without allocation: it comes 50 times a second on
//! each stream. Numbers may be strings (as Twilio sends them) or numbers; unknown fields and events are ignored.

mod handle;
mod json;

use std::{borrow::Cow, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

pub use self::handle::StreamHandle;
use self::json::{DtmfPart, MarkPart, MediaMessage, MediaPart, Message, Object, StartPart};
use super::sid::{AccountSid, CallSid, StreamSid};

/// A message from Twilio.
#[derive(Debug, Clone, PartialEq)]
pub enum Inbound<'a> {
    /// The socket speaks Media Streams; says nothing about the call yet.
    Connected,
    /// The stream begins.
    Start(Start<'a>),
    /// Some audio, 20 ms as a rule.
    Media(Media<'a>),
    /// The caller pressed a key.
    Dtmf { digit: char },
    /// All that was sent before this mark was played, or thrown away by a `clear`.
    Mark { name: Cow<'a, str>, stream_sid: Option<StreamSid> },
    /// The stream or its call is over.
    Stop { stream_sid: Option<StreamSid> },
    /// An event that is not documented yet.
    Unknown,
}

/// What a stream says of itself when it begins. Only a parsed message makes one. `Debug` leaves the parameters out: the
/// stream's token is among them.
#[derive(Clone, PartialEq)]
pub struct Start<'a> {
    pub stream_sid: StreamSid,
    pub call_sid: CallSid,
    /// `None` when absent or malformed.
    pub account_sid: Option<AccountSid>,
    /// The `<Parameter>`s of the TwiML, at most [`STREAM_PARAMETERS_MAX`](crate::limits::STREAM_PARAMETERS_MAX).
    pub parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Whether the audio is mono μ-law at 8 kHz, which is all that is documented; true also when it is not said.
    pub is_ulaw_8k_mono: bool,
    handle: StreamHandle,
}

impl fmt::Debug for Start<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream_sid, call_sid, account_sid, is_ulaw_8k_mono, .. } = self;
        let mut shown = f.debug_struct("Start");
        shown.field("stream_sid", stream_sid).field("call_sid", call_sid).field("account_sid", account_sid);
        shown.field("is_ulaw_8k_mono", is_ulaw_8k_mono).finish_non_exhaustive()
    }
}

impl Start<'_> {
    /// The value of the first `<Parameter>` of this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    /// What messages to this stream are made with.
    pub fn handle(&self) -> StreamHandle {
        self.handle.clone()
    }
}

/// A piece of audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media<'a> {
    /// What Twilio hears from the caller; a bidirectional stream has no other track.
    pub track_inbound: bool,
    /// Time since the stream began, in milliseconds: the clock of the audio.
    pub timestamp_ms: Option<u64>,
    /// Counts media messages from 1.
    pub chunk: Option<u64>,
    /// Base64 of raw μ-law bytes of any number. Borrowed unless the sender escaped a character.
    pub payload_base64: Cow<'a, str>,
    /// `None` when absent or malformed.
    pub stream_sid: Option<StreamSid>,
}

impl Media<'_> {
    /// Puts the audio's raw μ-law bytes in place of what `ulaw` held; allocates only while that buffer still grows.
    ///
    /// # Errors
    /// When the payload is not base64; `ulaw` is empty then.
    pub fn decode(&self, ulaw: &mut Vec<u8>) -> Result<(), base64::DecodeError> {
        ulaw.clear();
        BASE64_STANDARD.decode_vec(self.payload_base64.as_ref(), ulaw).inspect_err(|_| ulaw.clear())
    }
}

/// Why a message is none that Twilio sends. The stream goes on: one bad message is no reason to lose a caller.
#[derive(Debug)]
pub enum ParseError {
    /// Not JSON, or a field of the wrong type, or the same field twice.
    Json(serde_json::Error),
    /// JSON, but not an object where one must be.
    NotAnObject,
    /// No `event`.
    EventMissing,
    /// No `event` but a `type`: the peer was set up for ConversationRelay, which is another protocol.
    ConversationRelay,
    /// The event's own part, or a field of it, is missing or malformed.
    Field(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(_) => f.write_str("the message is not the JSON that was expected"),
            Self::NotAnObject => f.write_str("the message is not a JSON object"),
            Self::EventMissing => f.write_str("the message has no event"),
            Self::ConversationRelay => f.write_str("the message is ConversationRelay's, not Media Streams'"),
            Self::Field(name) => write!(f, "{name} is missing or malformed"),
        }
    }
}

impl std::error::Error for ParseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            _ => None,
        }
    }
}

/// Reads one text message from Twilio.
///
/// # Errors
/// When it is not an object with an `event`, or lacks what its event must have. Never panics.
pub fn parse(text: &str) -> Result<Inbound<'_>, ParseError> {
    if let Some(media) = parse_media(text) {
        return Ok(Inbound::Media(media));
    }
    // Two passes: the event decides what its part must look like, and may come after it.
    let message: Message<'_> = object(text)?;
    match message.event.as_ref() {
        "media" => read_media(&message).map(Inbound::Media),
        "mark" => {
            let mark: MarkPart<'_> = part(message.mark, "mark")?;
            Ok(Inbound::Mark { name: mark.name, stream_sid: message.stream_sid.parse().ok() })
        }
        "dtmf" => {
            let dtmf: DtmfPart<'_> = part(message.dtmf, "dtmf")?;
            let mut keys = dtmf.digit.chars();
            let (Some(digit), None) = (keys.next(), keys.next()) else { return Err(ParseError::Field("digit")) };
            Ok(Inbound::Dtmf { digit })
        }
        "start" => read_start(&message).map(Inbound::Start),
        "connected" => Ok(Inbound::Connected),
        "stop" => Ok(Inbound::Stop { stream_sid: message.stream_sid.parse().ok() }),
        "" if message.kind.is_some() => Err(ParseError::ConversationRelay),
        "" => Err(ParseError::EventMissing),
        _ => Ok(Inbound::Unknown),
    }
}

/// Nearly every message is a media message: it is read in one pass, as if it were one. `None`: it is none, or not a sound
/// one, and read again.
fn parse_media(text: &str) -> Option<Media<'_>> {
    let Object(message): Object<MediaMessage<'_>> = serde_json::from_str(text).ok()?;
    (message.event == "media").then(|| media_of(message.media.0, &message.stream_sid))
}

fn read_media<'a>(message: &Message<'a>) -> Result<Media<'a>, ParseError> {
    Ok(media_of(part(message.media, "media")?, &message.stream_sid))
}

fn media_of<'a>(part: MediaPart<'a>, stream_sid: &str) -> Media<'a> {
    Media {
        // Other messages write the same track with an ending.
        track_inbound: matches!(part.track.as_ref(), "" | "inbound" | "inbound_track"),
        timestamp_ms: part.timestamp.0,
        chunk: part.chunk.0,
        payload_base64: part.payload,
        stream_sid: stream_sid.parse().ok(),
    }
}

fn read_start<'a>(message: &Message<'a>) -> Result<Start<'a>, ParseError> {
    let start: StartPart<'a> = part(message.start, "start")?;
    // It stands both outside and inside; whichever is there counts, and two that differ are nobody's.
    let stream_sids = [&message.stream_sid, &start.stream_sid];
    let mut given = stream_sids.into_iter().filter(|text| !text.is_empty());
    let stream_sid: &str = given.next().ok_or(ParseError::Field("streamSid"))?;
    if given.any(|other| other != stream_sid) {
        return Err(ParseError::Field("streamSid"));
    }
    let stream_sid = stream_sid.parse().map_err(|_| ParseError::Field("streamSid"))?;
    Ok(Start {
        stream_sid,
        call_sid: start.call_sid.parse().map_err(|_| ParseError::Field("callSid"))?,
        account_sid: start.account_sid.parse().ok(),
        parameters: start.custom_parameters.unwrap_or_default().0,
        is_ulaw_8k_mono: start.media_format.is_none_or(|format| format.is_ulaw_8k_mono()),
        handle: StreamHandle { stream_sid },
    })
}

fn part<'a, T: Deserialize<'a>>(json: Option<&'a RawValue>, name: &'static str) -> Result<T, ParseError> {
    object(json.ok_or(ParseError::Field(name))?.get())
}

/// serde would also take an array for a struct, field by field.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, ParseError> {
    if !json.trim_ascii_start().starts_with('{') {
        return match serde_json::from_str::<de::IgnoredAny>(json) {
            Ok(_) => Err(ParseError::NotAnObject),
            Err(error) => Err(ParseError::Json(error)),
        };
    }
    serde_json::from_str(json).map_err(ParseError::Json)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::STREAM_PARAMETERS_MAX;

    const START: &str = r#"{"event":"start","sequenceNumber":"1","streamSid":"MZ00000000000000000000000000000001",
        "start":{"streamSid":"MZ00000000000000000000000000000001","accountSid":"AC000000000000000000000000000000aa",
        "callSid":"CA000000000000000000000000000000bb","tracks":["inbound"],
        "mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},
        "customParameters":{"call_sid":"CA000000000000000000000000000000bb","token":"b64url-nonce"}}}"#;

    fn start(text: &str) -> Start<'_> {
        match parse(text).unwrap() {
            Inbound::Start(start) => start,
            other => panic!("{other:?}"),
        }
    }

    fn media(text: &str) -> Media<'_> {
        match parse(text).unwrap() {
            Inbound::Media(media) => media,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_start_is_read_with_its_parameters() {
        let start = start(START);
        assert_eq!(start.stream_sid, StreamSid::from_number(1));
        assert_eq!(start.call_sid, CallSid::from_number(0xbb));
        assert_eq!(start.account_sid, Some(AccountSid::from_number(0xaa)));
        assert_eq!(start.parameter("token"), Some("b64url-nonce"));
        assert_eq!(start.parameter("lang"), None);
        assert!(start.is_ulaw_8k_mono);
    }

    #[test]
    fn a_start_needs_no_more_than_its_stream_and_its_call() {
        let start = start(
            r#"{"start":{"callSid":"CA000000000000000000000000000000bb","customParameters":null,"accountSid":"AC1"},
            "streamSid":"MZ00000000000000000000000000000001","event":"start"}"#,
        );
        assert_eq!((start.account_sid, start.parameters.len(), start.is_ulaw_8k_mono), (None, 0, true));
    }

    #[test]
    fn a_start_that_contradicts_itself_or_lacks_its_call_is_none() {
        let other_stream =
            START.replacen("MZ00000000000000000000000000000001", "MZ00000000000000000000000000000002", 1);
        assert!(matches!(parse(&other_stream), Err(ParseError::Field("streamSid"))));
        let bad_call = START.replacen("\"callSid\":\"CA", "\"callSid\":\"XX", 1);
        assert!(matches!(parse(&bad_call), Err(ParseError::Field("callSid"))));
        assert!(matches!(parse(r#"{"event":"start"}"#), Err(ParseError::Field("start"))));
        assert!(matches!(parse(r#"{"event":"start","start":{}}"#), Err(ParseError::Json(_))));
    }

    #[test]
    fn another_audio_format_is_noticed() {
        for (from, to) in
            [("audio/x-mulaw", "audio/x-alaw"), ("8000", "\"16000\""), ("\"channels\":1", "\"channels\":2")]
        {
            assert!(!start(&START.replacen(from, to, 1)).is_ulaw_8k_mono, "{to}");
        }
    }

    #[test]
    fn parameters_beyond_the_limit_are_dropped() {
        let many: Vec<_> = (0..STREAM_PARAMETERS_MAX + 3).map(|number| format!(r#""p{number}":"v""#)).collect();
        let text = START.replacen(r#""token":"b64url-nonce""#, &many.join(","), 1);
        assert_eq!(start(&text).parameters.len(), STREAM_PARAMETERS_MAX);
    }

    #[test]
    fn media_borrows_its_payload_from_the_message() {
        let text = r#"{"event":"media","sequenceNumber":"2","streamSid":"MZ00000000000000000000000000000001",
            "media":{"track":"inbound","chunk":"1","timestamp":"20","payload":"f39/fw=="}}"#;
        let media = media(text);
        assert!(matches!(media.payload_base64, Cow::Borrowed("f39/fw==")));
        assert_eq!((media.chunk, media.timestamp_ms, media.track_inbound), (Some(1), Some(20), true));
        assert_eq!(media.stream_sid, Some(StreamSid::from_number(1)));
        let mut ulaw = vec![1, 2, 3];
        media.decode(&mut ulaw).unwrap();
        assert_eq!(ulaw, [0x7f; 4]);
    }

    #[test]
    fn a_payload_that_is_not_base64_leaves_no_audio() {
        let media = media(r#"{"event":"media","media":{"payload":"f39/fw==f39/f?=="}}"#);
        let mut ulaw = vec![1, 2, 3];
        assert!(media.decode(&mut ulaw).is_err());
        assert!(ulaw.is_empty());
    }

    #[test]
    fn numbers_may_be_numbers_and_unknown_fields_anything() {
        let text = r#"{"sequenceNumber":2,"new":{"deep":[1,{"er":null}]},"media":{"timestamp":40,"chunk":2,"codec":["x"],
            "payload":"f38\u003d","track":"outbound"},"event":"media"}"#;
        let media = media(text);
        assert_eq!((media.chunk, media.timestamp_ms, media.track_inbound), (Some(2), Some(40), false));
        assert_eq!(media.payload_base64, "f38=");
        assert_eq!(media.stream_sid, None);
    }

    #[test]
    fn a_number_that_is_none_does_not_cost_the_audio() {
        for odd in ["-1", "2.5", "\"soon\"", "null", "true", "\"99999999999999999999\""] {
            let text = format!(r#"{{"event":"media","media":{{"timestamp":{odd},"payload":""}}}}"#);
            assert_eq!(media(&text).timestamp_ms, None, "{odd}");
        }
    }

    #[test]
    fn the_small_messages_are_read() {
        let parsed = |text| parse(text).unwrap();
        assert_eq!(parsed(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#), Inbound::Connected);
        assert_eq!(
            parsed(r##"{"event":"dtmf","dtmf":{"track":"inbound_track","digit":"#"}}"##),
            Inbound::Dtmf { digit: '#' }
        );
        let name = r#"e3:"x""#.into();
        assert_eq!(parsed(r#"{"event":"mark","mark":{"name":"e3:\"x\""}}"#), Inbound::Mark { name, stream_sid: None });
        assert_eq!(
            parsed(r#"{"event":"stop","streamSid":"MZ00000000000000000000000000000001","stop":{"callSid":"CA1"}}"#),
            Inbound::Stop { stream_sid: Some(StreamSid::from_number(1)) }
        );
        assert_eq!(parsed(r#"{"event":"hologram","media":"not what it was","start":7}"#), Inbound::Unknown);
    }

    #[test]
    fn what_is_no_message_is_an_error_that_says_why() {
        assert!(matches!(parse(""), Err(ParseError::Json(_))));
        assert!(matches!(parse(r#"{"event":"media""#), Err(ParseError::Json(_))));
        assert!(matches!(parse(r#"["media"]"#), Err(ParseError::NotAnObject)));
        assert!(matches!(parse(r#"{"event":"media","media":["inbound"]}"#), Err(ParseError::NotAnObject)));
        assert!(matches!(parse("{}"), Err(ParseError::EventMissing)));
        assert!(matches!(parse(r#"{"type":"setup","sessionId":"VX1"}"#), Err(ParseError::ConversationRelay)));
        assert!(matches!(parse(r#"{"event":"media"}"#), Err(ParseError::Field("media"))));
        assert!(matches!(parse(r#"{"event":"dtmf","dtmf":{"digit":"12"}}"#), Err(ParseError::Field("digit"))));
        assert!(matches!(parse(r#"{"event":"mark","event":"stop"}"#), Err(ParseError::Json(_))));
        let deep = format!(r#"{{"event":"stop","x":{}"#, "[".repeat(60_000));
        assert!(matches!(parse(&deep), Err(ParseError::Json(_))));
    }

    #[test]
    fn our_messages_have_exactly_the_documented_keys() {
        let handle = start(START).handle();
        let sid = "MZ00000000000000000000000000000001";
        assert_eq!(
            handle.media(&[0xff, 0x7f]),
            format!(r#"{{"event":"media","media":{{"payload":"/38="}},"streamSid":"{sid}"}}"#)
        );
        assert_eq!(handle.mark("a\"b"), format!(r#"{{"event":"mark","mark":{{"name":"a\"b"}},"streamSid":"{sid}"}}"#));
        assert_eq!(handle.clear(), format!(r#"{{"event":"clear","streamSid":"{sid}"}}"#));
        assert_eq!(handle.stream_sid().as_str(), sid);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn no_damage_to_a_real_message_makes_it_panic(at in 0..START.len(), with in any::<char>()) {
            let mut text: Vec<char> = START.chars().collect();
            text[at] = with;
            let _ = parse(&text.into_iter().collect::<String>());
        }

        #[test]
        fn no_shape_of_its_parts_makes_it_panic(
            event in "(connected|start|media|dtmf|mark|stop|other)",
            key in "(start|media|dtmf|mark|streamSid|event|type)",
            value in r#"(null|1|-2\.5|"x"|\[\]|\{\}|\{"payload":1\}|\{"name":\[\]\}|\{"customParameters":\{"a":1\}\})"#,
        ) {
            let _ = parse(&format!(r#"{{"event":"{event}","{key}":{value}}}"#));
        }
    }
}
