//! How records lie in sled's one tree: a letter for the state, the place in the order, the part.
//!
//! | key | value |
//! | --- | --- |
//! | `L` CallSid (34) | a live call's entry in the journal |
//! | `M` | the ledger: next sequence and counts |
//! | `a` id (16) part (2) | a draft that awaits its recording |
//! | `f` sequence (8) part (2) | a final record, unsynced |
//! | `p` sequence (8) part (2) | a parked record |
//! | `s` sequence (8) part (2) | a synced record |
//! | `c` CallSid (34) | which record the call has: id (16), kind (1), a final one's sequence (8), CRC-32 (4) |
//! | `x` and an older key | bytes that were found damaged, set aside |
//!
//! A state is a range of keys, so the next record to send is the first of a range, and nothing is ever searched for.
//!
//! sled writes a page of up to 16 neighbours anew after ten changes to any of them. So what is small and changes with
//! every call, the journal and the ledger, lies before all records: at `l` and `m`, where it was once and is still looked
//! for, the last records beside it were written three times as often as they changed.

use std::iter::Peekable;

use jiff::Timestamp;
use sled::IVec;

use super::{
    record::TranscriptId,
    store::StoreError,
    stored::{Damage, Sequence, State, Stored, decode},
};
use crate::twilio::sid::CallSid;

pub(super) const DRAFTS: u8 = b'a';
pub(super) const UNSYNCED: u8 = b'f';
pub(super) const PARKED: u8 = b'p';
pub(super) const SYNCED: u8 = b's';
pub(super) const LEDGER_KEY: &[u8] = b"M";
/// Where the ledger was before.
pub(super) const OLD_LEDGER_KEY: &[u8] = b"m";
const CALLS: u8 = b'c';
/// The journal of live calls.
pub(super) const LIVE: u8 = b'L';
/// Where the journal was before.
pub(super) const OLD_LIVE: u8 = b'l';
const DAMAGED: u8 = b'x';
const PART_BYTES: usize = 2;

/// One record as it lies in the tree: all parts of one place.
pub(super) struct Row {
    parts: Vec<(IVec, IVec)>,
}

impl Row {
    /// The record, if the bytes are one, and the one that belongs at this place.
    pub fn read(&self) -> Result<Stored, Damage> {
        let stored = decode(self.parts.iter().map(|(_, value)| &value[..]))?;
        let place = place(stored.sequence, stored.state, stored.record.id);
        let at_its_place = self.parts.iter().enumerate().all(|(part, (key, _))| key[..] == part_key(&place, part));
        if at_its_place { Ok(stored) } else { Err(Damage::Inconsistent) }
    }

    pub fn keys(&self) -> impl Iterator<Item = &IVec> {
        self.parts.iter().map(|(key, _)| key)
    }

    /// The same bytes under keys where nothing looks for a record.
    pub fn set_aside(&self) -> impl Iterator<Item = (Vec<u8>, &IVec)> {
        self.parts.iter().map(|(key, value)| ([&[DAMAGED], &key[..]].concat(), value))
    }

    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

/// The rows of one state, in the order of their places.
pub(super) fn rows(tree: &sled::Tree, letter: u8) -> Rows<sled::Iter> {
    Rows { tree: tree.clone(), pairs: tree.scan_prefix([letter]).peekable() }
}

/// The rows of one state, the last place first.
pub(super) fn rows_backwards(tree: &sled::Tree, letter: u8) -> Rows<std::iter::Rev<sled::Iter>> {
    Rows { tree: tree.clone(), pairs: tree.scan_prefix([letter]).rev().peekable() }
}

/// The row of one place; without parts if nothing is there.
pub(super) fn row_at(tree: &sled::Tree, place: &[u8]) -> Result<Row, StoreError> {
    Ok(Row { parts: tree.scan_prefix(place).collect::<Result<_, _>>()? })
}

/// Gathers the parts that lie side by side.
///
/// Each row is looked up once more. sled lets a page go only when its shard of the cache, one of 256, has seen 64
/// look-ups; an iterator looks once a page, so that 16,384 pages, more than all of a week's records, stayed in memory.
pub(super) struct Rows<I: Iterator<Item = sled::Result<(IVec, IVec)>>> {
    tree: sled::Tree,
    pairs: Peekable<I>,
}

impl<I: Iterator<Item = sled::Result<(IVec, IVec)>>> Iterator for Rows<I> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = match self.pairs.next()? {
            Ok(first) => first,
            Err(error) => return Some(Err(error.into())),
        };
        if let Err(error) = self.tree.contains_key(&first.0) {
            return Some(Err(error.into()));
        }
        let place = place_of(&first.0).to_vec();
        let mut parts = vec![first];
        while let Some(Ok(next)) = self.pairs.next_if(|next| next.as_ref().is_ok_and(|(key, _)| place_of(key) == place))
        {
            parts.push(next);
        }
        parts.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Some(Ok(Row { parts }))
    }
}

/// A place without its part.
pub(super) fn place(sequence: Option<Sequence>, state: State, id: TranscriptId) -> Vec<u8> {
    let letter = match state {
        State::AwaitingRecording => DRAFTS,
        State::Unsynced => UNSYNCED,
        State::Parked { .. } => PARKED,
        State::Synced { .. } => SYNCED,
    };
    let mut place = vec![letter];
    match sequence {
        Some(sequence) => place.extend_from_slice(&sequence.0.to_be_bytes()),
        None => place.extend_from_slice(&id.to_bytes()),
    }
    place
}

pub(super) fn part_key(place: &[u8], part: usize) -> Vec<u8> {
    [place, &(part as u16).to_be_bytes()].concat()
}

fn place_of(key: &[u8]) -> &[u8] {
    &key[..key.len().saturating_sub(PART_BYTES)]
}

/// Which record a call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallEntry {
    pub id: TranscriptId,
    /// Whether that record is final, and no draft any more.
    pub is_final: bool,
    /// A final record's place in the order; entries of the first form do not know it.
    pub sequence: Option<Sequence>,
}

/// The kinds of a call's entry: a draft; a final record of the first form; a final record with its sequence.
const DRAFT: u8 = 0;
const FINAL: u8 = 1;
const FINAL_AT: u8 = 2;

/// The row of a call's record; `None` where the entry does not lead to one.
pub(super) fn row_of(tree: &sled::Tree, entry: CallEntry) -> Result<Option<Row>, StoreError> {
    let (sequence, at) = (entry.sequence, Timestamp::UNIX_EPOCH);
    let states: &[State] = match (entry.is_final, sequence) {
        (false, _) => &[State::AwaitingRecording],
        (true, Some(_)) => &[State::Unsynced, State::Parked { status: 0, at }, State::Synced { at }],
        (true, None) => &[],
    };
    for &state in states {
        let row = row_at(tree, &place(sequence, state, entry.id))?;
        if !row.parts.is_empty() {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

pub(super) fn call_key(call_sid: &CallSid) -> Vec<u8> {
    [&[CALLS], call_sid.as_str().as_bytes()].concat()
}

pub(super) fn live_key(call_sid: &CallSid) -> Vec<u8> {
    [&[LIVE], call_sid.as_str().as_bytes()].concat()
}

impl CallEntry {
    /// The stored form: `id (16) | kind (1) | sequence (8), of a final record | CRC-32 (4)`.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = self.id.to_bytes().to_vec();
        match (self.is_final, self.sequence) {
            (false, _) => bytes.push(DRAFT),
            (true, None) => bytes.push(FINAL),
            (true, Some(sequence)) => {
                bytes.push(FINAL_AT);
                bytes.extend_from_slice(&sequence.0.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// `None` where the bytes are damaged: then the call counts as new, since two records are better than none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        let (id, rest) = body.split_first_chunk::<16>()?;
        let (is_final, sequence) = match rest {
            [DRAFT] => (false, None),
            [FINAL] => (true, None),
            [FINAL_AT, sequence @ ..] => (true, Some(Sequence(u64::from_be_bytes(sequence.try_into().ok()?)))),
            _ => return None,
        };
        (crc32fast::hash(body) == u32::from_be_bytes(*checksum)).then_some(Self {
            id: TranscriptId::from_bytes(*id),
            is_final,
            sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcripts::record::samples::record;

    #[test]
    fn a_calls_entry_comes_back_or_is_not_believed() {
        let id = record(3).id;
        for (is_final, sequence) in [(false, None), (true, None), (true, Some(Sequence(0x0102_0304)))] {
            let entry = CallEntry { id, is_final, sequence };
            let bytes = entry.encode();
            assert_eq!(CallEntry::decode(&bytes), Some(entry));
            for place in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[place] ^= 4;
                assert_eq!(CallEntry::decode(&damaged), None);
                assert_eq!(CallEntry::decode(&bytes[..place]), None);
            }
        }
    }

    #[test]
    fn places_sort_in_the_order_of_becoming_final() {
        let id = record(1).id;
        let keys: Vec<_> = [1, 2, 255, 256, u64::MAX]
            .map(|sequence| part_key(&place(Some(Sequence(sequence)), State::Unsynced, id), 0))
            .into();
        assert!(keys.is_sorted());
        assert_eq!(place_of(&keys[0]), place(Some(Sequence(1)), State::Unsynced, id));
    }
}
