//! Twilio's end of one media stream: numbered messages out, a playout clock over what comes back. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::caller::{duration_of, is_sound};
use crate::twilio::{
    media_stream_peer::{MessageWriter, Outbound, parse_outbound},
    sid::{AccountSid, CallSid, StreamSid},
};

/// Marks that may wait for their audio to be played; a further one counts as an invalid message.
const MARKS_MAX: usize = 1024;
/// Sound that a caller would take for a tone or a word, in one piece with its pauses.
const AUDIBLE_MIN: Duration = Duration::from_millis(100);

/// One stream, from its `connected` to its `stop`.
#[derive(Debug)]
pub struct PeerStream {
    writer: MessageWriter,
    stream_sid: StreamSid,
    /// Media sent so far: the stream's own clock.
    sent: Duration,
    played_until: Instant,
    marks: VecDeque<(String, Instant)>,
    marks_echoed: u32,
    audible: Duration,
    invalid: u32,
}

impl PeerStream {
    /// A stream that nothing was sent on.
    pub fn new(account_sid: AccountSid, call_sid: CallSid, stream_sid: StreamSid, now: Instant) -> Self {
        Self {
            writer: MessageWriter::new(account_sid, call_sid, stream_sid),
            stream_sid,
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
        self.writer.write_connected()
    }

    /// The second message, with the TwiML's parameters.
    pub fn start(&mut self, parameters: &[(String, String)]) -> String {
        self.writer.write_start(parameters)
    }

    /// A piece of the caller's voice, stamped with where it begins on the stream's own clock.
    pub fn media(&mut self, ulaw: &[u8]) -> String {
        let timestamp_ms = self.sent.as_millis() as u64;
        self.sent += duration_of(ulaw.len());
        self.writer.write_media(timestamp_ms, ulaw)
    }

    /// A key that the caller pressed.
    pub fn dtmf(&mut self, digit: char) -> String {
        self.writer.write_dtmf(digit)
    }

    /// The last message.
    pub fn stop(&mut self) -> String {
        self.writer.write_stop()
    }

    /// The server said something. Audio queues up behind what still plays; a mark waits for all that came before it.
    pub fn handle_message(&mut self, text: &str, now: Instant) {
        let message = parse_outbound(text).ok().filter(|message| message.stream_sid() == self.stream_sid);
        match message {
            Some(Outbound::Media { payload, .. }) => self.queue(&payload, now),
            Some(Outbound::Mark { name, .. }) if self.marks.len() < MARKS_MAX => {
                self.marks.push_back((name, self.played_until.max(now)));
            }
            Some(Outbound::Clear { .. }) => {
                self.played_until = now;
                self.marks.iter_mut().for_each(|(_, due)| *due = now);
            }
            Some(Outbound::Mark { .. }) | None => self.invalid += 1,
        }
    }

    /// The next mark whose audio has been played.
    pub fn poll_mark(&mut self, now: Instant) -> Option<String> {
        self.poll_timeout().filter(|due| *due <= now)?;
        let (name, _) = self.marks.pop_front()?;
        self.marks_echoed += 1;
        Some(self.writer.write_mark(&name))
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

    fn queue(&mut self, ulaw: &[u8], now: Instant) {
        let length = duration_of(ulaw.len());
        self.played_until = self.played_until.max(now) + length;
        if is_sound(ulaw) {
            self.audible += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde_json::json;

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
