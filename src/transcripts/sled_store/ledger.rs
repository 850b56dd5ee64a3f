//! What is known of the store without reading all of it: in sled, in the same batch as what it counts, and once more in a
//! file beside sled.
//!
//! That file, the mark, is written after every sync and never synced itself: it says what was durable at some moment, and
//! never more. So a store that knows less than its mark has lost something.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::transcripts::{
    store::Counts,
    stored::{FORM_VERSION, Sequence},
};

/// The mark's name in the store's directory.
const MARK: &str = "records.mark";
/// The mark is always so long, in bytes: one sector, which a disk writes whole or not at all.
const MARK_BYTES: usize = 512;

/// The store's own book-keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub next_sequence: Sequence,
    /// Calls that were given a record since the store was made, whatever became of it. Stores of before it was counted
    /// begin at 0.
    #[serde(default)]
    pub kept: u64,
    /// Changes of any kind since the store was made.
    #[serde(default)]
    pub changes: u64,
    pub counts: Counts,
}

impl Ledger {
    pub const EMPTY: Self = Self {
        next_sequence: Sequence(1),
        kept: 0,
        changes: 0,
        counts: Counts { awaiting_recording: 0, unsynced: 0, parked: 0, synced: 0, bytes: 0, damaged: 0, missing: 0 },
    };

    /// `version (1) | CRC-32 (4) | JSON`
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        [&[FORM_VERSION][..], &crc32fast::hash(&json).to_be_bytes(), &json].concat()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (checksum, json) = bytes.get(1..)?.split_first_chunk::<4>()?;
        (crc32fast::hash(json) == u32::from_be_bytes(*checksum)).then(|| serde_json::from_slice(json).ok()).flatten()
    }

    /// Whether this one has seen changes that `other` knows nothing of.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        self.changes > other.changes || self.kept > other.kept || self.next_sequence > other.next_sequence
    }
}

/// Writes the mark. Only what is durable may be said in it.
pub(super) fn write_mark(directory: &Path, ledger: &Ledger) -> io::Result<()> {
    let mut bytes = ledger.encode();
    // Blanks follow the JSON, so that its checksum is of the JSON alone and the length of each mark the same.
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    bytes.splice(0..0, length.to_be_bytes());
    bytes.resize(MARK_BYTES, b' ');
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(directory.join(MARK))?;
    file.write_all(&bytes)
}

/// The mark, if there is one that can be believed.
pub(super) fn read_mark(directory: &Path) -> Option<Ledger> {
    let bytes = fs::read(directory.join(MARK)).ok()?;
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    Ledger::decode(rest.get(..usize::from(u16::from_be_bytes(*length)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_or_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read_mark(directory.path()), None);
        let counts = Counts { unsynced: u64::MAX, bytes: u64::MAX, missing: u64::MAX, ..Counts::default() };
        let long = Ledger { next_sequence: Sequence(u64::MAX), kept: u64::MAX, changes: u64::MAX, counts };
        for ledger in [long, Ledger::EMPTY] {
            write_mark(directory.path(), &ledger).unwrap();
            assert_eq!(read_mark(directory.path()), Some(ledger));
        }
        let path = directory.path().join(MARK);
        let sound = fs::read(&path).unwrap();
        assert_eq!(sound.len(), MARK_BYTES);
        for byte in 3..40 {
            let mut damaged = sound.clone();
            damaged[byte] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(read_mark(directory.path()), None, "byte {byte}");
        }
        fs::write(&path, &sound[..20]).unwrap();
        assert_eq!(read_mark(directory.path()), None);
    }

    #[test]
    fn the_ledger_of_the_first_day_is_read() {
        let json = br#"{"next_sequence":3,"counts":{"awaiting_recording":0,"unsynced":2,"parked":0,"synced":0,"bytes":900,"damaged":0,"missing":0}}"#;
        let bytes = [&[1][..], &crc32fast::hash(json).to_be_bytes(), json].concat();
        let ledger = Ledger::decode(&bytes).unwrap();
        assert_eq!((ledger.next_sequence, ledger.kept, ledger.counts.unsynced), (Sequence(3), 0, 2));
    }
}
