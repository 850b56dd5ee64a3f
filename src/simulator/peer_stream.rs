//! Twilio's end of one media stream: numbered messages out, a playout clock over what comes back. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::json;

use super::caller::{duration_of, is_sound};
use crate::twilio::sid::{AccountSid, CallSid, StreamSid};

/// Marks that may wait for their audio to be played; a further one counts as an invalid message.
const MARKS_MAX: usize = 1024;
/// Sound that a caller would take for a tone or a word, in one piece with its pauses.
const AUDIBLE_MIN: Duration = Duration::from_millis(100);

/// One stream, from its `connected` to its `stop`.
#[derive(Debug)]
pub struct PeerStream {
    account_sid: AccountSid,
    call_sid: CallSid,
    stream_sid: StreamSid,
    sequence: u64,
    chunk: u64,
    /// Media sent so far: the stream's own clock.
    sent: Duration,
    played_until: Instant,
    marks: VecDeque<(String, Instant)>,
    marks_echoed: u32,
    audible: Duration,
    invalid: u32,
}

/// What the server sent, as strictly as Twilio reads it: an extra or missing field makes it invalid (warning 31951).
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase", deny_unknown_fields)]
enum FromServer {
    Media {
        #[serde(rename = "streamSid")]
        stream_sid: StreamSid,
        media: Payload,
    },
    Mark {
        #[serde(rename = "streamSid")]
        stream_sid: StreamSid,
        mark: Name,
    },
    Clear {
        #[serde(rename = "streamSid")]
        stream_sid: StreamSid,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    payload: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

impl PeerStream {
    /// A stream that nothing was sent on.
    pub fn new(account_sid: AccountSid, call_sid: CallSid, stream_sid: StreamSid, now: Instant) -> Self {
        Self {
            account_sid,
            call_sid,
            stream_sid,
            sequence: 0,
            chunk: 0,
            sent: Duration::ZERO,
            played_until: now,
            marks: VecDeque::new(),
            marks_echoed: 0,
            audible: Duration::ZERO,
            invalid: 0,
        }
    }

    /// The stream's name at Twilio.
    pub fn stream_sid(&self) -> StreamSid {
        self.stream_sid
    }

    /// The first message: it has neither number nor stream.
    pub fn connected(&self) -> String {
        json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}).to_string()
    }

    /// The second message, with the TwiML's parameters.
    pub fn start(&mut self, parameters: &[(String, String)]) -> String {
        let parameters: serde_json::Map<_, _> =
            parameters.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let body = json!({
            "streamSid": self.stream_sid, "accountSid": self.account_sid, "callSid": self.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        });
        self.message("start", body)
    }

    /// A piece of the caller's voice. `chunk` counts from 1; `timestamp` is where the piece begins on the stream's clock.
    pub fn media(&mut self, ulaw: &[u8]) -> String {
        self.chunk += 1;
        self.sequence += 1;
        let (sequence, chunk, timestamp) = (self.sequence, self.chunk, self.sent.as_millis());
        let (stream_sid, payload) = (self.stream_sid, BASE64_STANDARD.encode(ulaw));
        self.sent += duration_of(ulaw.len());
        // Written by hand: this is the one message that goes out fifty times a second for each of a thousand calls.
        format!(
            r#"{{"event":"media","sequenceNumber":"{sequence}","streamSid":"{stream_sid}","media":{{"track":"inbound","chunk":"{chunk}","timestamp":"{timestamp}","payload":"{payload}"}}}}"#
        )
    }

    /// A key that the caller pressed.
    pub fn dtmf(&mut self, digit: char) -> String {
        self.message("dtmf", json!({"track": "inbound_track", "digit": digit.to_string()}))
    }

    /// The last message.
    pub fn stop(&mut self) -> String {
        self.message("stop", json!({"accountSid": self.account_sid, "callSid": self.call_sid}))
    }

    /// The server said something. Audio queues up behind what still plays; a mark waits for all that came before it.
    pub fn handle_message(&mut self, text: &str, now: Instant) {
        let message = serde_json::from_str(text).ok().filter(|message| match message {
            FromServer::Media { stream_sid, .. }
            | FromServer::Mark { stream_sid, .. }
            | FromServer::Clear { stream_sid } => *stream_sid == self.stream_sid,
        });
        match message {
            Some(FromServer::Media { media, .. }) => self.queue(&media.payload, now),
            Some(FromServer::Mark { mark, .. }) if self.marks.len() < MARKS_MAX => {
                self.marks.push_back((mark.name, self.played_until.max(now)));
            }
            Some(FromServer::Clear { .. }) => {
                self.played_until = now;
                self.marks.iter_mut().for_each(|(_, due)| *due = now);
            }
            Some(FromServer::Mark { .. }) | None => self.invalid += 1,
        }
    }

    /// The next mark whose audio has been played.
    pub fn poll_mark(&mut self, now: Instant) -> Option<String> {
        self.poll_timeout().filter(|due| *due <= now)?;
        let (name, _) = self.marks.pop_front()?;
        self.marks_echoed += 1;
        Some(self.message("mark", json!({"name": name})))
    }

    /// When the next mark is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.marks.front().map(|(_, due)| *due)
    }

    /// When the audio that was queued so far will have been played.
    pub fn played_until(&self) -> Instant {
        self.played_until
    }

    /// Marks that went back to the server.
    pub fn marks_echoed(&self) -> u32 {
        self.marks_echoed
    }

    /// Whether the caller was given something to hear.
    pub fn was_audible(&self) -> bool {
        self.audible >= AUDIBLE_MIN
    }

    /// Messages that Twilio would drop with warning 31950 or 31951.
    pub fn invalid_messages(&self) -> u32 {
        self.invalid
    }

    /// A binary frame: Twilio drops it with warning 31950.
    pub fn handle_binary(&mut self) {
        self.invalid += 1;
    }

    fn queue(&mut self, payload: &str, now: Instant) {
        let Ok(ulaw) = BASE64_STANDARD.decode(payload) else {
            self.invalid += 1;
            return;
        };
        let length = duration_of(ulaw.len());
        self.played_until = self.played_until.max(now) + length;
        if is_sound(&ulaw) {
            self.audible += length;
        }
    }

    fn message(&mut self, event: &str, body: serde_json::Value) -> String {
        self.sequence += 1;
        json!({
            "event": event, "sequenceNumber": self.sequence.to_string(), "streamSid": self.stream_sid, event: body,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(now: Instant) -> PeerStream {
        PeerStream::new(AccountSid::from_number(1), CallSid::from_number(2), StreamSid::from_number(3), now)
    }

    fn from_server(event: &str, body: &str) -> String {
        format!(r#"{{"event":"{event}","streamSid":"{}"{body}}}"#, StreamSid::from_number(3))
    }

    fn mark(name: &str) -> String {
        from_server("mark", &format!(r#","mark":{{"name":"{name}"}}"#))
    }

    fn media(milliseconds: usize) -> String {
        let payload = BASE64_STANDARD.encode(vec![0u8; milliseconds * 8]);
        from_server("media", &format!(r#","media":{{"payload":"{payload}"}}"#))
    }

    fn names(stream: &mut PeerStream, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| stream.poll_mark(now))
            .map(|text| {
                serde_json::from_str::<serde_json::Value>(&text).unwrap()["mark"]["name"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn numbers_are_strings_and_one_count_runs_through_all_messages() {
        let mut stream = stream(Instant::now());
        let start: serde_json::Value =
            serde_json::from_str(&stream.start(&[("token".to_owned(), "t".to_owned())])).unwrap();
        assert_eq!(start["sequenceNumber"], "1");
        assert_eq!(start["start"]["customParameters"]["token"], "t");
        stream.media(&[0; 160]);
        let second: serde_json::Value = serde_json::from_str(&stream.media(&[0; 160])).unwrap();
        assert_eq!(second["sequenceNumber"], "3");
        assert_eq!((&second["media"]["chunk"], &second["media"]["timestamp"]), (&json!("2"), &json!("20")));
        let stop: serde_json::Value = serde_json::from_str(&stream.stop()).unwrap();
        assert_eq!((&stop["sequenceNumber"], &stop["event"]), (&json!("4"), &json!("stop")));
    }

    #[test]
    fn marks_come_back_in_playing_order_and_when_their_audio_has_been_played() {
        let begin = Instant::now();
        let mut stream = stream(begin);
        stream.handle_message(&mark("nothing-queued"), begin);
        stream.handle_message(&media(500), begin);
        stream.handle_message(&mark("a"), begin);
        stream.handle_message(&media(300), begin);
        stream.handle_message(&mark("b"), begin);
        assert_eq!(names(&mut stream, begin), ["nothing-queued"]);
        assert_eq!(stream.poll_timeout(), Some(begin + Duration::from_millis(500)));
        assert_eq!(names(&mut stream, begin + Duration::from_millis(499)), [] as [String; 0]);
        assert_eq!(names(&mut stream, begin + Duration::from_millis(500)), ["a"]);
        assert_eq!(names(&mut stream, begin + Duration::from_millis(800)), ["b"]);
        assert!(stream.was_audible());
    }

    #[test]
    fn clear_gives_all_marks_back_at_once() {
        let begin = Instant::now();
        let mut stream = stream(begin);
        stream.handle_message(&media(5000), begin);
        stream.handle_message(&mark("a"), begin);
        stream.handle_message(&mark("b"), begin);
        stream.handle_message(&from_server("clear", ""), begin + Duration::from_millis(20));
        assert_eq!(names(&mut stream, begin + Duration::from_millis(20)), ["a", "b"]);
    }

    #[test]
    fn extra_fields_unknown_events_and_other_streams_are_invalid() {
        let now = Instant::now();
        let mut stream = stream(now);
        for bad in [
            "x".to_owned(),
            from_server("clear", r#","extra":1"#),
            from_server("hello", ""),
            from_server("mark", ""),
            mark("a").replace('3', "4"),
        ] {
            stream.handle_message(&bad, now);
        }
        assert_eq!(stream.invalid_messages(), 5);
        assert_eq!(stream.poll_timeout(), None);
    }
}
