//! Finds records in the bytes of a store that nobody can open any more. Each stored part has its own checksum, so what is
//! found is what was written, or it is not found. Records of more than one part are not looked for.
//!
//! Where sled finds a byte that it did not write, it overwrites what follows in that segment of its file while it opens.
//! So the last segments are read before ([`last_segments`]).

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek},
    os::unix::fs::FileExt,
    path::Path,
};

use serde::de::IgnoredAny;

use crate::{
    limits::{STORE_SALVAGED_MAX, STORED_VALUE_BYTES_MAX},
    transcripts::{
        record::TranscriptId,
        stored::{HEAD_BYTES, PLAIN_FORM, Sequence, State, Stored, decode, lone_part},
    },
};

/// How the JSON of every record of the first form begins.
const BEGIN: &[u8] = b"{\"state\":";
/// The file is read in pieces of so many bytes,
const PIECE_BYTES: usize = 4 << 20;
/// each of which overlaps the one before, so that no record lies across an edge of both.
const OVERLAP_BYTES: usize = 2 * STORED_VALUE_BYTES_MAX;

/// sled writes its file in segments of so many bytes,
const SEGMENT_BYTES: u64 = 512 * 1024;
/// each of which begins with a checksum (4), its place in the log (8, little-endian, the lower 63 bits turned) and more.
const SEGMENT_HEAD_BYTES: usize = 12;
/// So many of those that were written last are kept.
const LAST_SEGMENTS: usize = 4;

/// The segments that were written last, as they are now.
pub(super) fn last_segments(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut segments = Vec::new();
    for begin in (0..file.metadata()?.len()).step_by(SEGMENT_BYTES as usize) {
        let mut head = [0; SEGMENT_HEAD_BYTES];
        if file.read_exact_at(&mut head, begin).is_err() {
            break;
        }
        let [.., p0, p1, p2, p3, p4, p5, p6, p7] = head;
        let place = i64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]) ^ i64::MAX;
        // One that is free has no head.
        if head != [0; SEGMENT_HEAD_BYTES] {
            segments.push((place, begin));
        }
    }
    segments.sort_unstable_by_key(|&(place, _)| std::cmp::Reverse(place));
    let mut bytes = Vec::new();
    for (_, begin) in segments.into_iter().take(LAST_SEGMENTS) {
        (&file).seek(io::SeekFrom::Start(begin))?;
        (&file).take(SEGMENT_BYTES).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// The furthest known form of each record in these bytes.
pub(super) fn records_among(bytes: &[u8]) -> impl Iterator<Item = Stored> {
    let mut best: HashMap<TranscriptId, Stored> = HashMap::new();
    for (_, _, stored) in records_in(bytes) {
        let known = best.get(&stored.record.id);
        if known.is_none_or(|known| rank(known.state) < rank(stored.state)) {
            best.insert(stored.record.id, stored);
        }
    }
    let mut records: Vec<_> = best.into_values().collect();
    records.sort_unstable_by_key(|stored| (stored.sequence.is_none(), stored.sequence));
    records.into_iter()
}

/// Where the furthest known form of each record lies.
#[derive(Debug)]
pub(super) struct Salvage {
    file: File,
    finds: Vec<Find>,
}

#[derive(Debug, Clone, Copy)]
struct Find {
    sequence: Option<Sequence>,
    rank: u8,
    at: u64,
    bytes: usize,
}

impl Salvage {
    /// Looks through the whole file.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut best: HashMap<TranscriptId, Find> = HashMap::new();
        let (mut piece, mut begin) = (Vec::with_capacity(PIECE_BYTES), 0);
        loop {
            let read = (&mut file).take((PIECE_BYTES - piece.len()) as u64).read_to_end(&mut piece)?;
            for (at, bytes, stored) in records_in(&piece) {
                let find = Find { sequence: stored.sequence, rank: rank(stored.state), at: begin + at as u64, bytes };
                let known = best.get(&stored.record.id).map(|known| known.rank);
                let is_room = known.is_some() || best.len() < STORE_SALVAGED_MAX;
                if known.is_none_or(|known| known < find.rank) && is_room {
                    best.insert(stored.record.id, find);
                }
            }
            if read == 0 || piece.len() < PIECE_BYTES {
                break;
            }
            let done = piece.len() - OVERLAP_BYTES;
            piece.drain(..done);
            begin += done as u64;
        }
        let mut finds: Vec<_> = best.into_values().collect();
        // Drafts last: they have no place in the order.
        finds.sort_unstable_by_key(|find| (find.sequence.is_none(), find.sequence, find.at));
        Ok(Self { file, finds })
    }

    /// The records, final ones in their order and then the drafts.
    pub fn records(&self) -> impl Iterator<Item = Stored> {
        self.finds.iter().filter_map(|find| {
            let mut bytes = vec![0; find.bytes];
            self.file.read_exact_at(&mut bytes, find.at).ok()?;
            decode([bytes.as_slice()]).ok()
        })
    }
}

/// What lies furthest on a record's way is believed: handing one over twice, under its own key, is better than never.
fn rank(state: State) -> u8 {
    match state {
        State::AwaitingRecording => 0,
        State::Parked { .. } => 1,
        State::Unsynced => 2,
        State::Synced { .. } => 3,
    }
}

/// Every whole record in these bytes, with its place and length.
fn records_in(bytes: &[u8]) -> impl Iterator<Item = (usize, usize, Stored)> {
    (0..bytes.len()).filter_map(|at| {
        let part = lone_part(&bytes[at..]).or_else(|| plain_part(&bytes[at..]))?;
        Some((at, part.len(), decode([part]).ok()?))
    })
}

/// The part of the first form that begins here. It does not say how long it is: its JSON does.
fn plain_part(bytes: &[u8]) -> Option<&[u8]> {
    let json = bytes.get(HEAD_BYTES..).filter(|json| bytes[0] == PLAIN_FORM && json.starts_with(BEGIN))?;
    let mut values = serde_json::Deserializer::from_slice(json.get(..STORED_VALUE_BYTES_MAX).unwrap_or(json))
        .into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    bytes.get(..HEAD_BYTES + values.byte_offset())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use jiff::Timestamp;

    use super::*;
    use crate::transcripts::{record::samples::record, stored::encode};

    #[test]
    fn records_are_found_among_anything_else_and_across_the_edges_of_pieces() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let synced = State::Synced { at: Timestamp::UNIX_EPOCH };
        let part = |number: u128, sequence: Option<u64>, state| {
            encode(sequence.map(Sequence), state, &record(number)).unwrap().remove(0)
        };
        let mut bytes = b"noise {\"state\": {\"state\":".to_vec();
        bytes.extend(part(2, Some(2), State::Unsynced));
        bytes.extend(part(1, Some(1), synced));
        bytes.extend(part(1, Some(1), State::Unsynced));
        let mut damaged = part(3, Some(3), State::Unsynced);
        damaged[60] ^= 1;
        bytes.extend(damaged);
        bytes.extend(include_bytes!("../../../tests/data/stored_form_1.bin"));
        bytes.extend(part(6, None, State::AwaitingRecording));
        bytes.extend([2, 0, 0, 0, 1]);
        bytes.resize(PIECE_BYTES - 100, 0xee);
        bytes.extend(part(4, Some(4), State::Unsynced));
        file.write_all(&bytes).unwrap();
        let salvage = Salvage::of(file.path()).unwrap();
        let found: Vec<_> =
            salvage.records().map(|stored| (stored.sequence, stored.state.as_str(), stored.record)).collect();
        assert_eq!(
            found,
            [
                (Some(Sequence(1)), "synced", record(1)),
                (Some(Sequence(2)), "unsynced", record(2)),
                (Some(Sequence(4)), "unsynced", record(4)),
                (Some(Sequence(42)), "synced", record(5)),
                (None, "awaiting_recording", record(6)),
            ]
        );
    }

    #[test]
    fn an_empty_file_holds_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Salvage::of(file.path()).unwrap().records().count(), 0);
    }
}
