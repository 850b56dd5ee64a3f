//! Wyoming's events on a connection: a line of JSON, then perhaps more JSON, then perhaps bytes.
//!
//! <https://github.com/rhasspy/wyoming#format>: `{"type", "data", "data_length", "payload_length"}\n`, then `data_length`
//! bytes of JSON that are merged over `data`, then `payload_length` bytes.

use std::{error::Error, fmt, io};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, copy, sink};

use crate::limits::{WYOMING_DATA_BYTES_MAX, WYOMING_LINE_BYTES_MAX};

/// An event as it was read; its bytes, which are sound that nobody asked a recognizer for, are passed over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub kind: String,
    pub data: Map<String, Value>,
}

/// Why none could be read.
#[derive(Debug)]
pub(super) enum EventError {
    Io(io::Error),
    /// The peer closed, in the middle of an event or between two.
    Ended,
    /// A line, or what follows it, is longer than anything that an engine says.
    TooLong,
    NotAnEvent(serde_json::Error),
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    data: Option<Map<String, Value>>,
    data_length: Option<u64>,
    payload_length: Option<u64>,
}

impl Event {
    /// A text of its data.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.data.get(name)?.as_str()
    }
}

/// An event's bytes: the line, and what follows it.
pub(super) fn encode(kind: &str, data: &Value, payload: &[u8]) -> Vec<u8> {
    let line = match payload.len() {
        0 => serde_json::json!({ "type": kind, "data": data }),
        bytes => serde_json::json!({ "type": kind, "data": data, "payload_length": bytes }),
    };
    let mut event = line.to_string().into_bytes();
    event.push(b'\n');
    event.extend_from_slice(payload);
    event
}

/// Reads the next event to its end.
pub(super) async fn read(peer: &mut (impl AsyncBufRead + Unpin)) -> Result<Event, EventError> {
    let mut line = Vec::new();
    let mut bounded = (&mut *peer).take(WYOMING_LINE_BYTES_MAX as u64);
    bounded.read_until(b'\n', &mut line).await.map_err(EventError::Io)?;
    if line.last() != Some(&b'\n') {
        return Err(if line.len() < WYOMING_LINE_BYTES_MAX { EventError::Ended } else { EventError::TooLong });
    }
    let line: Line = serde_json::from_slice(&line).map_err(EventError::NotAnEvent)?;
    let mut data = line.data.unwrap_or_default();
    match line.data_length.unwrap_or(0) {
        0 => {}
        bytes if bytes > WYOMING_DATA_BYTES_MAX as u64 => return Err(EventError::TooLong),
        bytes => {
            let mut more = vec![0; bytes as usize];
            peer.read_exact(&mut more).await.map_err(ended)?;
            data.extend(serde_json::from_slice::<Map<String, Value>>(&more).map_err(EventError::NotAnEvent)?);
        }
    }
    pass_over(peer, line.payload_length.unwrap_or(0)).await?;
    Ok(Event { kind: line.kind, data })
}

async fn pass_over(peer: &mut (impl AsyncRead + Unpin), bytes: u64) -> Result<(), EventError> {
    if bytes > WYOMING_DATA_BYTES_MAX as u64 {
        return Err(EventError::TooLong);
    }
    let passed = copy(&mut peer.take(bytes), &mut sink()).await.map_err(EventError::Io)?;
    if passed == bytes { Ok(()) } else { Err(EventError::Ended) }
}

fn ended(error: io::Error) -> EventError {
    if error.kind() == io::ErrorKind::UnexpectedEof { EventError::Ended } else { EventError::Io(error) }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io(_) => "the connection broke",
            Self::Ended => "the connection ended",
            Self::TooLong => "an event that is too long",
            Self::NotAnEvent(_) => "no event of Wyoming's",
        })
    }
}

impl Error for EventError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::NotAnEvent(error) => Some(error),
            Self::Ended | Self::TooLong => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn read_all(mut bytes: &[u8]) -> (Vec<Event>, EventError) {
        let mut events = Vec::new();
        loop {
            match read(&mut bytes).await {
                Ok(event) => events.push(event),
                Err(error) => return (events, error),
            }
        }
    }

    #[tokio::test]
    async fn data_is_merged_and_bytes_are_passed_over() {
        let written = b"{\"type\":\"audio-chunk\",\"payload_length\":3}\n\x00\n\xff\
            {\"type\":\"transcript\",\"version\":\"1.5\",\"data\":{\"text\":\"a\",\"language\":\"en\"},\"data_length\":14}\n\
            {\"text\": \"b\"}\n{\"type\":\"x\"}\n";
        let (events, end) = read_all(written).await;
        assert!(matches!(end, EventError::Ended));
        let kinds: Vec<_> = events.iter().map(|event| &event.kind[..]).collect();
        assert_eq!(kinds, ["audio-chunk", "transcript", "x"]);
        assert_eq!((events[1].text("text"), events[1].text("language")), (Some("b"), Some("en")));
        assert_eq!(events[2].text("text"), None);
    }

    #[tokio::test]
    async fn what_is_written_can_be_read() {
        let bytes = encode("audio-chunk", &json!({"rate": 16_000}), b"\n\n");
        assert!(bytes.ends_with(b"\n\n\n"));
        let (events, _) = read_all(&bytes).await;
        assert_eq!((&events[0].kind[..], &events[0].data["rate"]), ("audio-chunk", &json!(16_000)));
    }

    #[tokio::test]
    async fn no_length_makes_it_hold_more_than_the_limit() {
        let endless = vec![b' '; WYOMING_LINE_BYTES_MAX + 1];
        let too_much = WYOMING_DATA_BYTES_MAX + 1;
        for bytes in [
            endless,
            format!("{{\"type\":\"t\",\"data_length\":{too_much}}}\n").into_bytes(),
            format!("{{\"type\":\"t\",\"payload_length\":{}}}\n", u64::MAX).into_bytes(),
        ] {
            assert!(matches!(read_all(&bytes).await.1, EventError::TooLong));
        }
    }

    #[tokio::test]
    async fn rubbish_and_half_events_are_told_apart() {
        for rubbish in
            ["\n", "[]\n", "HTTP/1.1 400 Bad Request\r\n", "{\"type\":7}\n", "{\"type\":\"t\",\"data_length\":2}\nxx"]
        {
            assert!(matches!(read_all(rubbish.as_bytes()).await.1, EventError::NotAnEvent(_)), "{rubbish}");
        }
        for half in [
            "",
            "{\"type\":\"t\"}",
            "{\"type\":\"t\",\"data_length\":9}\n{}",
            "{\"type\":\"t\",\"payload_length\":9}\n{}",
        ] {
            assert!(matches!(read_all(half.as_bytes()).await.1, EventError::Ended), "{half}");
        }
    }
}
