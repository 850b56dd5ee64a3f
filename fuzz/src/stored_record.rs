//! Stored records: the input as it stands is one stored part, and a call's entry; what is behind its first line is also
//! the JSON of a record that is sealed with a right checksum, so that what lies behind the checksum is reached.
//!
//! The first line is `SEQUENCE STEP`: the place in the order, and the bytes of each part of the sealed record.

use kolbox::transcripts::{
    Record, Stored, TranscriptId,
    record::FallbackNote,
    rows::CallEntry,
    stored::{self, FORM_VERSION, State},
};

use super::text::first_line;

pub fn run(data: &[u8]) {
    if let Ok(stored) = stored::decode([data]) {
        check_round_trip(&stored);
    }
    if let Some(entry) = CallEntry::decode(data) {
        assert_eq!(entry.encode(), data);
    }
    let (line, body) = first_line(data);
    let line = String::from_utf8_lossy(line);
    if let Ok(id) = line.parse::<TranscriptId>() {
        assert_eq!((id.to_string().as_str(), TranscriptId::from_bytes(id.to_bytes())), (&*line, id));
    }
    let (sequence, step) = line.split_once(' ').unwrap_or((&line, ""));
    let sequence = sequence.parse().unwrap_or(1);
    let step = step.parse().unwrap_or(usize::MAX).clamp(16, 16_000);
    check_sealed(body, sequence, step);
    if let Ok(record) = serde_json::from_slice::<Record>(body) {
        let written = serde_json::to_vec(&record).expect("a record can be written");
        let again: Record = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(with_times_of(again, &record), record);
    }
}

/// A record behind right checksums: the same however it is cut, and noticed when a byte of it is damaged.
fn check_sealed(body: &[u8], sequence: u64, step: usize) {
    let mut parts = sealed(body, sequence, step);
    let read = stored::decode(parts.iter().map(Vec::as_slice));
    if let Ok(stored) = &read {
        check_round_trip(stored);
        let otherwise = sealed(body, sequence, step / 2 + 8);
        let otherwise = stored::decode(otherwise.iter().map(Vec::as_slice)).expect("cut otherwise");
        assert_eq!(&otherwise, stored);
        assert_eq!(stored.sequence.is_none(), stored.state == State::AwaitingRecording);
    }
    let damaged = sequence as usize % parts.len();
    let part = &mut parts[damaged];
    let place = (step + body.len()) % part.len();
    part[place] ^= 1 << (step % 8);
    assert!(stored::decode(parts.iter().map(Vec::as_slice)).is_err(), "byte {place} of part {damaged} was damaged");
}

/// Writing what was read gives what reads the same, and is written the same. Finer times than milliseconds are cut.
fn check_round_trip(stored: &Stored) {
    let encode = |stored: &Stored| stored::encode(stored.sequence, stored.state, &stored.record);
    let parts = encode(stored).expect("it was stored before");
    let again = stored::decode(parts.iter().map(Vec::as_slice)).expect("what was written can be read");
    assert_eq!(encode(&again), Ok(parts));
    assert_eq!(again.sequence, stored.sequence);
    assert_eq!(std::mem::discriminant(&again.state), std::mem::discriminant(&stored.state));
    assert_eq!(with_times_of(again.record, &stored.record), stored.record);
}

fn with_times_of(record: Record, other: &Record) -> Record {
    let note = FallbackNote { redirected_at: other.fallback.redirected_at, ..record.fallback };
    Record { started_at: other.started_at, ended_at: other.ended_at, fallback: note, ..record }
}

/// Parts as `stored` describes them.
fn sealed(body: &[u8], sequence: u64, step: usize) -> Vec<Vec<u8>> {
    let pieces: Vec<&[u8]> = if body.is_empty() { vec![body] } else { body.chunks(step).collect() };
    let seal = |(index, piece): (usize, &&[u8])| {
        let mut head = vec![FORM_VERSION];
        head.extend_from_slice(&(index as u16).to_be_bytes());
        head.extend_from_slice(&(pieces.len() as u16).to_be_bytes());
        head.extend_from_slice(&sequence.to_be_bytes());
        let checksum = crc32fast::hash(&[&head, *piece].concat());
        [&head, &checksum.to_be_bytes()[..], piece].concat()
    };
    pieces.iter().enumerate().map(seal).collect()
}
