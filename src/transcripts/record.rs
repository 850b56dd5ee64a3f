//! One ended call as the office receives it: the record's fields, and what its recording makes of it. Pure.

use std::{fmt, str::FromStr, time::Instant};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use ulid::Ulid;

use crate::{
    calls::{EndedCall, FallbackReason, Party},
    limits::{RECORD_SEGMENTS_MAX, RECORD_TEXT_BYTES_MAX},
    twilio::{
        recording_list::CallDetails,
        sid::{CallSid, RecordingSid, StreamSid},
        webhook::Direction,
    },
};

/// The version of the JSON that is sent upstream.
pub const SCHEMA_VERSION: u32 = 1;

/// A record's name for ever, and its idempotency key: a ULID, 26 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TranscriptId(Ulid);

impl TranscriptId {
    /// The id of a record made at `at`; the lowest 80 bits of `random` tell it from every other one.
    pub fn new(at: Timestamp, random: u128) -> Self {
        Self(Ulid::from_parts(u64::try_from(at.as_millisecond()).unwrap_or(0), random))
    }

    /// The id as 16 bytes, in the order of its text.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// The id that [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Ulid::from_bytes(bytes))
    }
}

/// One transcript: exactly the JSON object that is sent upstream and that `kolbox transcripts` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: TranscriptId,
    /// [`SCHEMA_VERSION`] of the box that made it.
    pub version: u32,
    pub call_sid: CallSid,
    /// The last stream that was accepted.
    pub stream_sid: Option<StreamSid>,
    pub recording_sid: Option<RecordingSid>,
    /// As Twilio named them.
    pub from: Party,
    pub to: Party,
    pub direction: Direction,
    pub source: Source,
    pub outcome: Outcome,
    #[serde(with = "milliseconds")]
    pub started_at: Timestamp,
    #[serde(with = "milliseconds")]
    pub ended_at: Timestamp,
    pub duration_ms: u64,
    /// The language that was listened for: `he`, `en`.
    pub language: String,
    /// What turned speech into text; `none` if nothing did.
    pub engine: String,
    pub text: Words,
    pub segments: Vec<Segment>,
    pub fallback: FallbackNote,
    #[serde(rename = "box")]
    pub made_by: BoxIdentity,
}

/// Where the caller's voice was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// On a media stream only.
    Stream,
    /// A recording was taken.
    Recording,
}

/// What became of the caller's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Transcribed,
    /// Nobody said anything that the box or Twilio could have kept.
    NoSpeech,
    /// There is sound without text: no engine, or the engine could not.
    Untranscribed,
}

/// What a caller said. `Debug` tells its length alone, so that no log line prints a word of it by accident.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Words(pub String);

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({} characters)", self.0.chars().count())
    }
}

/// One final piece of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// From the begin of the sound.
    pub start_ms: u64,
    pub end_ms: u64,
    pub text: Words,
}

/// Why and when the call was sent to the recorder; both `null` if it never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackNote {
    pub reason: Option<FallbackReason>,
    #[serde(with = "optional_milliseconds")]
    pub redirected_at: Option<Timestamp>,
}

/// Which box made a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxIdentity {
    /// Stays the same for the life of the installation.
    pub id: String,
    /// The program's version.
    pub version: String,
}

/// What the wait for a recording came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// A recording was taken. `silent`: it was fetched and holds not one sample.
    Recorded { recording_sid: RecordingSid, silent: bool },
    /// Twilio has none: what the call itself tells stands.
    NothingRecorded,
}

/// What a speech engine made of a call's sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// What was said, piece by piece, and who wrote it down.
    Words { engine: String, segments: Vec<Segment> },
    /// All of the sound is there, and nobody says anything in it.
    NoSpeech { engine: String },
    /// There is no sound on the box, or none that the engine takes.
    Unusable,
}

/// Stands in the text for what was left out.
pub const LEFT_OUT: &str = "[…]";

/// As [`Record::engine`]: nothing turned speech into text.
const NO_ENGINE: &str = "none";

impl Record {
    /// The record of an ended call, as far as the call itself tells. It is final unless the call went to the recorder:
    /// then [`Self::conclude`] follows. `wall` reads monotonic time as civil time.
    pub fn of_ended(
        id: TranscriptId,
        ended: &EndedCall,
        wall: impl Fn(Instant) -> Timestamp,
        made_by: &BoxIdentity,
        language: &str,
    ) -> Self {
        Self {
            id,
            version: SCHEMA_VERSION,
            call_sid: ended.call_sid,
            stream_sid: ended.stream_sid,
            recording_sid: None,
            from: ended.from.clone(),
            to: ended.to.clone(),
            direction: ended.direction,
            source: Source::Stream,
            // Without an engine, sound is all that is known.
            outcome: if ended.had_media { Outcome::Untranscribed } else { Outcome::NoSpeech },
            started_at: wall(ended.answered_at),
            ended_at: wall(ended.ended_at),
            duration_ms: ended.ended_at.saturating_duration_since(ended.answered_at).as_millis() as u64,
            language: language.to_owned(),
            engine: NO_ENGINE.to_owned(),
            text: Words::default(),
            segments: Vec::new(),
            fallback: FallbackNote {
                reason: ended.fallback.map(|fallback| fallback.reason),
                redirected_at: ended.fallback.and_then(|fallback| fallback.redirected_at).map(wall),
            },
            made_by: made_by.clone(),
        }
    }

    /// The record of a call that only Twilio knew, as far as that tells; its recording, made at `created_at`, is to be
    /// taken next.
    pub fn of_found(
        id: TranscriptId,
        call_sid: CallSid,
        call: &CallDetails,
        created_at: Timestamp,
        made_by: &BoxIdentity,
        language: &str,
    ) -> Self {
        let started_at = call.started_at.unwrap_or(created_at);
        let ended_at = call.ended_at.unwrap_or(created_at).max(started_at);
        Self {
            id,
            version: SCHEMA_VERSION,
            call_sid,
            stream_sid: None,
            recording_sid: None,
            from: Party::new(&call.from),
            to: Party::new(&call.to),
            direction: call.direction.unwrap_or_default(),
            source: Source::Stream,
            outcome: Outcome::NoSpeech,
            started_at,
            ended_at,
            duration_ms: u64::try_from(ended_at.duration_since(started_at).as_millis()).unwrap_or(0),
            language: language.to_owned(),
            engine: NO_ENGINE.to_owned(),
            text: Words::default(),
            segments: Vec::new(),
            fallback: FallbackNote { reason: Some(FallbackReason::UnknownCall), redirected_at: None },
            made_by: made_by.clone(),
        }
    }

    /// Whether its text leaves nothing out.
    pub fn is_complete(&self) -> bool {
        !self.segments.iter().any(|segment| segment.text.0 == LEFT_OUT)
    }

    /// The same record once the wait for its recording is over.
    pub fn conclude(mut self, conclusion: Conclusion) -> Self {
        match conclusion {
            Conclusion::Recorded { recording_sid, silent } => {
                self.recording_sid = Some(recording_sid);
                self.source = Source::Recording;
                // What a stream brought before is sound too, however empty the recording is.
                self.outcome = if silent { self.outcome } else { Outcome::Untranscribed };
            }
            Conclusion::NothingRecorded => {}
        }
        self
    }

    /// The same record as the draft that waits for its text alone: it names who is to write that. A draft that waits for
    /// its recording names nobody yet, so that a restart tells them apart.
    pub fn to_be_heard_by(mut self, engine: &str) -> Self {
        engine.clone_into(&mut self.engine);
        self
    }

    /// Whether this, a draft, waits for its text alone.
    pub fn awaits_text(&self) -> bool {
        self.names_engine()
    }

    /// Whether an engine wrote its text, or heard that there is none.
    pub fn names_engine(&self) -> bool {
        self.engine != NO_ENGINE
    }

    /// The same record once the wait for its text is over; `None`: it did not come.
    pub fn with_text(mut self, heard: Option<Heard>) -> Self {
        let (engine, segments, outcome) = match heard {
            Some(Heard::Words { engine, segments }) if !segments.is_empty() => (engine, segments, Outcome::Transcribed),
            Some(Heard::Words { engine, .. } | Heard::NoSpeech { engine }) => (engine, Vec::new(), Outcome::NoSpeech),
            Some(Heard::Unusable) | None => (NO_ENGINE.to_owned(), Vec::new(), self.outcome),
        };
        self.segments = bounded(segments);
        let texts: Vec<&str> = self.segments.iter().map(|segment| &segment.text.0[..]).collect();
        self.text = Words(texts.join(" "));
        (self.engine, self.outcome) = (engine, outcome);
        self
    }
}

/// As much of it as a record holds, and a mark where that is not all. Control characters become spaces: in JSON each of
/// them takes six bytes.
fn bounded(segments: Vec<Segment>) -> Vec<Segment> {
    let mut kept = Vec::new();
    let mut bytes = 0;
    for mut segment in segments {
        segment.text.0 = segment.text.0.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        bytes += segment.text.0.len() + 1;
        if bytes > RECORD_TEXT_BYTES_MAX - 2 * LEFT_OUT.len() || kept.len() + 1 >= RECORD_SEGMENTS_MAX {
            segment.text.0 = LEFT_OUT.to_owned();
            kept.push(segment);
            break;
        }
        kept.push(segment);
    }
    kept
}

impl fmt::Display for TranscriptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TranscriptId {
    type Err = NotATranscriptId;

    fn from_str(text: &str) -> Result<Self, NotATranscriptId> {
        let id = Ulid::from_string(text).map_err(|_| NotATranscriptId)?;
        // Crockford's alphabet reads several texts as the same number: only ours is a name.
        if id.to_string() == text { Ok(Self(id)) } else { Err(NotATranscriptId) }
    }
}

/// A text that is no transcript's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATranscriptId;

impl fmt::Display for NotATranscriptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a transcript's id: 26 capital letters and digits")
    }
}

impl std::error::Error for NotATranscriptId {}

impl Serialize for TranscriptId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TranscriptId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Civil time as `2026-11-22T08:15:02.123Z` (RFC 3339, UTC, always three digits).
pub mod milliseconds {
    use super::*;

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{at:.3}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The same, or `null`.
pub mod optional_milliseconds {
    use super::*;

    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => milliseconds::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Records for the tests of this room.

    use std::time::Duration;

    use super::*;
    use crate::{
        calls::{EndCause, Fallback},
        twilio::webhook::CallStatus,
    };

    pub fn ended_call(number: u128, fallback: Option<FallbackReason>, had_media: bool) -> EndedCall {
        let answered_at = Instant::now();
        EndedCall {
            call_sid: CallSid::from_number(number),
            stream_sid: had_media.then(|| StreamSid::from_number(number)),
            from: Party::new("+972501234567"),
            to: Party::new("+97231234567"),
            direction: Direction::Inbound,
            answered_at,
            ended_at: answered_at + Duration::from_millis(41_230),
            cause: EndCause::Status(CallStatus::Completed),
            fallback: fallback
                .map(|reason| Fallback { reason, redirected_at: Some(answered_at + Duration::from_secs(8)) }),
            had_media,
        }
    }

    pub fn box_identity() -> BoxIdentity {
        BoxIdentity { id: "01JD0000000000000000000000".into(), version: "0.1.0".into() }
    }

    pub fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub fn record_of(ended: &EndedCall) -> Record {
        let begin = ended.answered_at;
        let wall = |instant: Instant| at("2026-11-22T08:15:02.123Z") + (instant - begin);
        let number = u128::from_str_radix(&ended.call_sid.as_str()[2..], 16).unwrap();
        Record::of_ended(TranscriptId::new(wall(ended.ended_at), number), ended, wall, &box_identity(), "he")
    }

    /// So many characters in which nothing can be said more shortly.
    pub fn noise(characters: usize) -> String {
        let mut random = fastrand::Rng::with_seed(1);
        std::iter::repeat_with(|| random.alphanumeric()).take(characters).collect()
    }

    /// A streamed call's record; final as it is.
    pub fn record(number: u128) -> Record {
        record_of(&ended_call(number, None, true))
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::*, *};

    #[test]
    fn a_record_is_the_documented_json() {
        let record = record_of(&ended_call(1, Some(FallbackReason::NoMedia), true))
            .conclude(Conclusion::Recorded { recording_sid: RecordingSid::from_number(9), silent: false });
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "id": record.id.to_string(), "version": 1,
                "call_sid": "CA00000000000000000000000000000001",
                "stream_sid": "MZ00000000000000000000000000000001",
                "recording_sid": "RE00000000000000000000000000000009",
                "from": "+972501234567", "to": "+97231234567", "direction": "inbound",
                "source": "recording", "outcome": "untranscribed",
                "started_at": "2026-11-22T08:15:02.123Z", "ended_at": "2026-11-22T08:15:43.353Z",
                "duration_ms": 41230,
                "language": "he", "engine": "none", "text": "", "segments": [],
                "fallback": {"reason": "no_media", "redirected_at": "2026-11-22T08:15:10.123Z"},
                "box": {"id": "01JD0000000000000000000000", "version": "0.1.0"},
            })
        );
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
    }

    #[test]
    fn a_record_prints_neither_whole_numbers_nor_words() {
        let mut record = record(1);
        record.text = Words("call me at nine".into());
        record.segments = vec![Segment { start_ms: 0, end_ms: 900, text: record.text.clone() }];
        let printed = format!("{record:?}");
        assert!(printed.contains("from: Party(…567)") && printed.contains("Words(15 characters)"), "{printed}");
        assert!(!printed.contains("1234567") && !printed.contains("nine"), "{printed}");
    }

    #[test]
    fn times_always_have_three_digits_of_a_second() {
        let mut record = record(1);
        record.started_at = at("2026-11-22T08:15:02Z");
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(json["started_at"], "2026-11-22T08:15:02.000Z");
        assert_eq!(json["fallback"], serde_json::json!({"reason": null, "redirected_at": null}));
    }

    #[test]
    fn the_outcome_says_whether_anything_was_heard() {
        let silent_stream = record_of(&ended_call(1, None, false));
        assert_eq!((silent_stream.source, silent_stream.outcome), (Source::Stream, Outcome::NoSpeech));
        assert_eq!(record(1).outcome, Outcome::Untranscribed);

        let recording_sid = RecordingSid::from_number(9);
        for (had_media, conclusion, source, outcome) in [
            (false, Conclusion::NothingRecorded, Source::Stream, Outcome::NoSpeech),
            (true, Conclusion::NothingRecorded, Source::Stream, Outcome::Untranscribed),
            (false, Conclusion::Recorded { recording_sid, silent: false }, Source::Recording, Outcome::Untranscribed),
            (false, Conclusion::Recorded { recording_sid, silent: true }, Source::Recording, Outcome::NoSpeech),
            (true, Conclusion::Recorded { recording_sid, silent: true }, Source::Recording, Outcome::Untranscribed),
        ] {
            let record = record_of(&ended_call(1, Some(FallbackReason::NoStreamStart), had_media)).conclude(conclusion);
            assert_eq!((record.source, record.outcome), (source, outcome), "{had_media} {conclusion:?}");
        }
    }

    fn said(text: &str) -> Segment {
        Segment { start_ms: 0, end_ms: 900, text: Words(text.to_owned()) }
    }

    #[test]
    fn a_text_makes_the_record_transcribed_and_its_absence_leaves_it_as_it_was() {
        let draft = || record(1).to_be_heard_by("openai");
        assert!(draft().awaits_text() && !record(1).awaits_text());
        let heard =
            Heard::Words { engine: "openai whisper-1".into(), segments: vec![said("shalom"), said("lehitraot")] };
        let told = draft().with_text(Some(heard));
        assert_eq!(
            (told.outcome, &*told.engine, &*told.text.0),
            (Outcome::Transcribed, "openai whisper-1", "shalom lehitraot")
        );
        assert_eq!(told.segments.len(), 2);
        let silent = draft().with_text(Some(Heard::NoSpeech { engine: "e".into() }));
        assert_eq!((silent.outcome, &*silent.engine, &*silent.text.0), (Outcome::NoSpeech, "e", ""));
        for nothing in [None, Some(Heard::Unusable)] {
            assert_eq!(draft().with_text(nothing), record(1), "as without an engine");
        }
    }

    #[test]
    fn a_text_beyond_every_bound_is_cut_and_says_so_and_can_be_stored() {
        let piece = said(&"\u{1}\"".repeat(4_000));
        let many = [vec![piece; 100], vec![said("x"); 20_000]].concat();
        for segments in [many, vec![said("\""); 40_000]] {
            let told = record(1).with_text(Some(Heard::Words { engine: "e".into(), segments }));
            assert!(told.text.0.len() <= RECORD_TEXT_BYTES_MAX && told.segments.len() <= RECORD_SEGMENTS_MAX);
            assert!(told.text.0.ends_with(LEFT_OUT) && !told.text.0.contains('\u{1}'));
            crate::transcripts::stored::encode(None, crate::transcripts::State::AwaitingRecording, &told).unwrap();
        }
    }

    #[test]
    fn an_id_has_one_text_and_sorts_by_its_time() {
        let early = TranscriptId::new(at("2026-11-22T08:15:02.123Z"), u128::MAX);
        let late = TranscriptId::new(at("2026-11-22T08:15:02.124Z"), 0);
        assert!(early < late && early.to_string() < late.to_string() && early.to_bytes() < late.to_bytes());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(TranscriptId::from_bytes(early.to_bytes()), early);
        for wrong in ["", "01JD", &early.to_string().to_lowercase(), "not a transcript's id at all", "é"] {
            assert_eq!(wrong.parse::<TranscriptId>(), Err(NotATranscriptId), "{wrong}");
        }
        // A clock before 1970 still gives an id.
        assert_eq!(TranscriptId::new(Timestamp::MIN, 1), TranscriptId::new(Timestamp::UNIX_EPOCH, 1));
    }
}
