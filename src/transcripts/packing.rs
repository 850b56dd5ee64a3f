//! A record's JSON made small: LZ4 with a dictionary of what every record says. Pure.
//!
//! Of a record without text three quarters are names of fields; with text, its segments say it all a second time. Packed,
//! a record takes less than half of the disk, and of the memory that sled's pages take.
//!
//! The packed form is `bytes of the JSON (4, big-endian) | an LZ4 block`.

use lz4_flex::block;

use crate::limits::{RECORD_PARTS_MAX, STORED_VALUE_BYTES_MAX};

/// What blocks refer to as if it stood before them. Part of the stored form: a byte of it changed, and no stored record
/// can be read any more.
const DICTIONARY: &[u8] = br#"awaiting_recording"},"synced","at":"parked","status":422,"at":"no_speech","transcribed","source":"recording","outcome":"no_stream_start"no_media"stream_error"socket_lost"ended_without_media"no_capacity"draining"trouble"unknown_call","redirected_at":"2026-},{"start_ms":,"end_ms":,"text":"outbound-api","recording_sid":"RE{"state":{"name":"synced","at":"2026-11-22T08:15:02.123Z"},{"state":{"name":"unsynced"},"record":{"id":"01K","version":1,"call_sid":"CA","stream_sid":"MZ","stream_sid":null,"recording_sid":null,"from":"+9725","to":"+9723","direction":"inbound","source":"stream","outcome":"untranscribed","started_at":"2026-11-22T08:15:02.123Z","ended_at":"2026-11-22T08:15:02.123Z","duration_ms":1,"language":"he","engine":"none","text":"","segments":[{"start_ms":0,"segments":[],"fallback":{"reason":null,"redirected_at":null},"box":{"id":"01K","version":"0.1.0"}}}"#;

/// The longest JSON that is packed, in bytes.
pub(super) const UNPACKED_BYTES_MAX: usize = RECORD_PARTS_MAX * STORED_VALUE_BYTES_MAX;

const LENGTH_BYTES: usize = 4;

pub(super) fn pack(json: &[u8]) -> Vec<u8> {
    let block = block::compress_with_dict(json, DICTIONARY);
    [&(json.len() as u32).to_be_bytes()[..], &block].concat()
}

/// `None`: these bytes are not what [`pack`] gave. Never panics, and never takes more memory than the longest JSON.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let (length, block) = packed.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length <= UNPACKED_BYTES_MAX)?;
    let mut json = vec![0; length];
    let written = block::decompress_into_with_dict(block, &mut json, DICTIONARY).ok()?;
    (written == length).then_some(json)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_the_one_that_the_first_packed_record_was_made_with() {
        assert_eq!((DICTIONARY.len(), crc32fast::hash(DICTIONARY)), (871, 0xec11c8ca));
    }

    #[test]
    fn what_is_too_long_or_short_is_nothing() {
        let packed = pack(b"{\"state\":{\"name\":\"unsynced\"}}");
        for wrong in [0, 28, 30, UNPACKED_BYTES_MAX as u32 + 1, u32::MAX] {
            assert_eq!(unpack(&[&wrong.to_be_bytes()[..], &packed[LENGTH_BYTES..]].concat()), None, "{wrong}");
        }
        assert_eq!(unpack(&packed[..3]), None);
    }

    proptest! {
        #[test]
        fn it_comes_back(json in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(unpack(&pack(&json)), Some(json));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(&[&[0, 0, 1][..], &bytes].concat());
        }
    }
}
