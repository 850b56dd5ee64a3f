//! The stored form of a record: parts of at most 16 KiB, each with its version, place and checksum. Pure.
//!
//! A part is `version (1) | part (2) | parts (2) | sequence (8) | CRC-32 (4) | bytes of the piece (2) | piece`, numbers
//! big-endian; the checksum covers all the rest of the part. Its pieces are the JSON `{"state": …, "record": …}`, packed
//! (`packing`). Longer records are cut into parts because sled moves large values into files of their own, which
//! it never syncs.
//!
//! In form 1 a part had no length, and its pieces were the JSON itself.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    packing::{UNPACKED_BYTES_MAX, pack, unpack},
    record::{Record, milliseconds},
};
use crate::limits::{RECORD_PARTS_MAX, STORED_VALUE_BYTES_MAX};

/// The version of the form in which a record is written; every older one stays readable.
pub const RECORD_FORM: u8 = 2;
/// The first form.
pub(super) const PLAIN_FORM: u8 = 1;
/// The version of the form of all that is not a record: ledger, journal, notes.
pub const FORM_VERSION: u8 = 1;

const CRC_BEGIN: usize = 13;
/// What parts of both forms begin with.
pub(super) const HEAD_BYTES: usize = 17;
const LENGTH_BYTES: usize = 2;
const PIECE_BYTES_MAX: usize = STORED_VALUE_BYTES_MAX - HEAD_BYTES - LENGTH_BYTES;
const PLAIN_PIECE_BYTES_MAX: usize = STORED_VALUE_BYTES_MAX - HEAD_BYTES;

/// A final record's place in the order of becoming final, which is the order of sending. The first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// Where a stored record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum State {
    /// A draft: its call went to the recorder, and what that recorded is not known yet.
    AwaitingRecording,
    /// Final, and not acknowledged by the upstream.
    Unsynced,
    /// Acknowledged by the upstream.
    Synced {
        #[serde(with = "milliseconds")]
        at: Timestamp,
    },
    /// Refused by the upstream with this HTTP status: kept until somebody asks for another try.
    Parked {
        status: u16,
        #[serde(with = "milliseconds")]
        at: Timestamp,
    },
}

impl State {
    /// The state's stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingRecording => "awaiting_recording",
            Self::Unsynced => "unsynced",
            Self::Synced { .. } => "synced",
            Self::Parked { .. } => "parked",
        }
    }
}

/// A record as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// `None` for a draft only: the order is that of becoming final.
    pub sequence: Option<Sequence>,
    pub state: State,
    pub record: Record,
}

/// Why stored bytes are not a record.
#[derive(Debug)]
pub enum Damage {
    /// A part is shorter than its head, or too long.
    Length,
    /// A part's checksum does not fit its bytes.
    Checksum,
    /// Parts are missing, doubled or another record's; or the state and the sequence contradict each other.
    Inconsistent,
    /// It was written by a newer kolbox: in order, but not for us.
    NewerVersion(u8),
    /// The checksums fit, and yet it cannot be unpacked.
    Packing,
    /// The checksums fit, and yet it is not the JSON of a record.
    Json(serde_json::Error),
}

/// A record is longer than any may be; its JSON has so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong(pub usize);

#[derive(Serialize)]
struct BodyRef<'a> {
    state: State,
    record: &'a Record,
}

#[derive(Deserialize)]
struct Body {
    state: State,
    record: Record,
}

/// The parts to store, in their order.
pub fn encode(sequence: Option<Sequence>, state: State, record: &Record) -> Result<Vec<Vec<u8>>, TooLong> {
    // Strings, numbers and maps with string keys only: writing them as JSON into memory cannot fail.
    let json = serde_json::to_vec(&BodyRef { state, record }).unwrap_or_default();
    let body = if json.len() > UNPACKED_BYTES_MAX { Vec::new() } else { pack(&json) };
    let parts = body.len().div_ceil(PIECE_BYTES_MAX);
    if !(1..=RECORD_PARTS_MAX).contains(&parts) {
        return Err(TooLong(json.len()));
    }
    let sequence = sequence.map_or(0, |sequence| sequence.0);
    let part = |(index, piece): (usize, &[u8])| {
        let mut part = Vec::with_capacity(HEAD_BYTES + LENGTH_BYTES + piece.len());
        part.push(RECORD_FORM);
        part.extend_from_slice(&(index as u16).to_be_bytes());
        part.extend_from_slice(&(parts as u16).to_be_bytes());
        part.extend_from_slice(&sequence.to_be_bytes());
        part.extend_from_slice(&[0; 4]);
        part.extend_from_slice(&(piece.len() as u16).to_be_bytes());
        part.extend_from_slice(piece);
        let checksum = checksum(&part).to_be_bytes();
        part[CRC_BEGIN..HEAD_BYTES].copy_from_slice(&checksum);
        part
    };
    Ok(body.chunks(PIECE_BYTES_MAX).enumerate().map(part).collect())
}

/// The record that these parts, in their order, are. Never panics, whatever the bytes.
pub fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Stored, Damage> {
    let mut body = Vec::new();
    let mut first: Option<Head> = None;
    let mut count: u16 = 0;
    for part in parts {
        let (head, piece) = read_part(part)?;
        let first = first.get_or_insert(head);
        let is_of_first = (head.version, head.parts, head.sequence) == (first.version, first.parts, first.sequence);
        if head.part != count || !is_of_first {
            return Err(Damage::Inconsistent);
        }
        count = count.checked_add(1).ok_or(Damage::Inconsistent)?;
        body.extend_from_slice(piece);
    }
    let head = first.ok_or(Damage::Inconsistent)?;
    if count != head.parts {
        return Err(Damage::Inconsistent);
    }
    let json = if head.version == PLAIN_FORM { body } else { unpack(&body).ok_or(Damage::Packing)? };
    let Body { state, record } = serde_json::from_slice(&json).map_err(Damage::Json)?;
    if (head.sequence == 0) != (state == State::AwaitingRecording) {
        return Err(Damage::Inconsistent);
    }
    Ok(Stored { sequence: (head.sequence != 0).then_some(Sequence(head.sequence)), state, record })
}

#[derive(Clone, Copy)]
struct Head {
    version: u8,
    part: u16,
    parts: u16,
    sequence: u64,
}

fn read_part(bytes: &[u8]) -> Result<(Head, &[u8]), Damage> {
    let (head, piece) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(Damage::Length)?;
    let [version, p0, p1, n0, n1, s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, c3] = *head;
    // The version comes first: a newer form may have its checksum elsewhere.
    if version > RECORD_FORM {
        return Err(Damage::NewerVersion(version));
    }
    let piece = match version {
        PLAIN_FORM if piece.len() <= PLAIN_PIECE_BYTES_MAX => piece,
        RECORD_FORM => match piece.split_first_chunk::<LENGTH_BYTES>() {
            Some((length, piece)) if usize::from(u16::from_be_bytes(*length)) == piece.len() => piece,
            _ => return Err(Damage::Length),
        },
        _ => return Err(Damage::Length),
    };
    if checksum(bytes) != u32::from_be_bytes([c0, c1, c2, c3]) {
        return Err(Damage::Checksum);
    }
    let head = Head {
        version,
        part: u16::from_be_bytes([p0, p1]),
        parts: u16::from_be_bytes([n0, n1]),
        sequence: u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
    };
    Ok((head, piece))
}

/// The part that begins here, whole or not, if it begins as one in the present form that is its record's only one.
pub(super) fn lone_part(bytes: &[u8]) -> Option<&[u8]> {
    let [RECORD_FORM, 0, 0, 0, 1, ..] = bytes else { return None };
    let length = bytes.get(HEAD_BYTES..)?.first_chunk::<LENGTH_BYTES>()?;
    bytes.get(..HEAD_BYTES + LENGTH_BYTES + usize::from(u16::from_be_bytes(*length)))
}

/// Of a part that is at least its head long; the checksum's own place is left out.
fn checksum(part: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&part[..CRC_BEGIN]);
    hasher.update(&part[HEAD_BYTES..]);
    hasher.finalize()
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("a stored part has an impossible length"),
            Self::Checksum => f.write_str("a stored part does not fit its checksum"),
            Self::Inconsistent => f.write_str("the stored parts do not belong together"),
            Self::NewerVersion(version) => write!(f, "stored by a newer kolbox, in form {version}"),
            Self::Packing => f.write_str("its bytes cannot be unpacked"),
            Self::Json(_) => f.write_str("the stored JSON is not a record"),
        }
    }
}

impl std::error::Error for Damage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a record of {} bytes is more than the store takes", self.0)
    }
}

impl std::error::Error for TooLong {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transcripts::record::{
        Segment,
        samples::{at, noise, record},
    };

    fn decode_all(parts: &[Vec<u8>]) -> Result<Stored, Damage> {
        decode(parts.iter().map(Vec::as_slice))
    }

    #[test]
    fn every_state_comes_back_as_it_was() {
        let at = at("2026-11-22T08:15:02.123Z");
        for (sequence, state) in [
            (None, State::AwaitingRecording),
            (Some(Sequence(1)), State::Unsynced),
            (Some(Sequence(u64::MAX)), State::Synced { at }),
            (Some(Sequence(7)), State::Parked { status: 422, at }),
        ] {
            let parts = encode(sequence, state, &record(5)).unwrap();
            assert_eq!(parts.len(), 1);
            assert_eq!(decode_all(&parts).unwrap(), Stored { sequence, state, record: record(5) });
        }
    }

    #[test]
    fn a_long_record_is_cut_into_parts_that_sled_keeps_in_its_one_file() {
        let mut long = record(5);
        long.text.0 = noise(200_000);
        let parts = encode(Some(Sequence(3)), State::Unsynced, &long).unwrap();
        assert!(parts.len() > 10 && parts.iter().all(|part| part.len() <= STORED_VALUE_BYTES_MAX));
        assert_eq!(decode_all(&parts).unwrap().record, long);

        let mut swapped = parts.clone();
        swapped.swap(0, 1);
        assert!(matches!(decode_all(&swapped), Err(Damage::Inconsistent)));
        assert!(matches!(decode_all(&parts[..parts.len() - 1]), Err(Damage::Inconsistent)));
        assert!(matches!(decode_all(&[]), Err(Damage::Inconsistent)));
        let other = encode(Some(Sequence(4)), State::Unsynced, &long).unwrap();
        let mixed = [&parts[..2], &other[2..]].concat();
        assert!(matches!(decode_all(&mixed), Err(Damage::Inconsistent)));
    }

    #[test]
    fn a_record_beyond_every_bound_is_refused_not_cut() {
        let mut endless = record(5);
        endless.text.0 = "x".repeat(RECORD_PARTS_MAX * STORED_VALUE_BYTES_MAX);
        assert!(encode(Some(Sequence(3)), State::Unsynced, &endless).is_err());
    }

    #[test]
    fn a_draft_has_no_place_in_the_order_and_a_final_record_has_one() {
        let draft = encode(Some(Sequence(1)), State::AwaitingRecording, &record(5)).unwrap();
        assert!(matches!(decode_all(&draft), Err(Damage::Inconsistent)));
        let unplaced = encode(None, State::Unsynced, &record(5)).unwrap();
        assert!(matches!(decode_all(&unplaced), Err(Damage::Inconsistent)));
    }

    #[test]
    fn a_newer_form_is_named_as_such() {
        let mut parts = encode(Some(Sequence(3)), State::Unsynced, &record(5)).unwrap();
        parts[0][0] = RECORD_FORM + 1;
        assert!(matches!(decode_all(&parts), Err(Damage::NewerVersion(3))));
    }

    /// Bytes that kolbox wrote once: every later version reads them.
    #[test]
    fn every_form_stays_readable() {
        let forms: [&[u8]; 2] = [
            include_bytes!("../../tests/data/stored_form_1.bin"),
            include_bytes!("../../tests/data/stored_form_2.bin"),
        ];
        for written in forms {
            let stored = decode([written]).unwrap();
            assert_eq!(stored.sequence, Some(Sequence(42)));
            assert_eq!(stored.state, State::Synced { at: at("2026-11-22T08:16:00.500Z") });
            assert_eq!(stored.record, record(5));
        }
    }

    #[test]
    fn what_every_record_says_takes_little_and_what_is_said_twice_is_kept_once() {
        let plain = serde_json::to_vec(&BodyRef { state: State::Unsynced, record: &record(5) }).unwrap().len();
        let bytes = |record: &Record| encode(Some(Sequence(3)), State::Unsynced, record).unwrap().concat().len();
        assert!(2 * bytes(&record(5)) < plain, "{} of {plain}", bytes(&record(5)));
        let mut said = record(5);
        said.text.0 = "אני רוצה לקבוע תור ליום רביעי בבוקר".into();
        let once = bytes(&said);
        said.segments = vec![Segment { start_ms: 120, end_ms: 2_410, text: said.text.clone() }];
        assert!(bytes(&said) < once + 40, "{} after {once}", bytes(&said));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_passes_for_a_record(byte in 0usize..600, bit in 0u8..8) {
            let mut parts = encode(Some(Sequence(3)), State::Unsynced, &record(5)).unwrap();
            let place = byte % parts[0].len();
            parts[0][place] ^= 1 << bit;
            prop_assert!(decode_all(&parts).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4)) {
            prop_assert!(decode_all(&parts).is_err());
        }
    }
}
