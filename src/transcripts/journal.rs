//! The journal of live calls: one entry a call, from its answer until its record is kept. What the next run finds in it,
//! this one left behind. Pure.
//!
//! An entry is `form (1) | CRC-32 (4) | JSON`, under the call's sid. A damaged one is not believed: Twilio then asks
//! what follows the call's stream, or says that it is over, as it does for any call that we do not know.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    record::{milliseconds, optional_milliseconds},
    stored::FORM_VERSION,
};
use crate::{
    calls::{Fallback, FallbackReason, LiveCall, Memo, Party},
    twilio::{
        sid::{CallSid, StreamSid},
        webhook::Direction,
    },
};

/// A live call as it is stored: with the time of day in place of instants, which mean nothing to the next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    pub call_sid: CallSid,
    pub from: Party,
    pub to: Party,
    pub direction: Direction,
    #[serde(with = "milliseconds")]
    pub answered_at: Timestamp,
    pub stream_sid: Option<StreamSid>,
    pub fallback: Option<FallbackReason>,
    #[serde(with = "optional_milliseconds")]
    pub redirected_at: Option<Timestamp>,
    /// The public host that Twilio asked for, on which a redirect's addresses stand.
    pub host: Option<String>,
}

impl JournalEntry {
    /// What is to be stored of a call that Twilio reached the box for under `host`; `wall` gives the time of day at an
    /// instant.
    pub fn new(live: &LiveCall, host: Option<String>, wall: impl Fn(Instant) -> Timestamp) -> Self {
        let LiveCall { call_sid, from, to, direction, answered_at, memo } = live;
        Self {
            call_sid: *call_sid,
            from: from.clone(),
            to: to.clone(),
            direction: *direction,
            answered_at: wall(*answered_at),
            stream_sid: memo.stream_sid,
            fallback: memo.fallback.map(|fallback| fallback.reason),
            redirected_at: memo.fallback.and_then(|fallback| fallback.redirected_at).map(wall),
            host,
        }
    }

    /// The call as this run takes it up. `wall` is the time of day at `now`; what seems to lie ahead of it, since the
    /// clock was set meanwhile, counts as now.
    pub fn resumed(self, wall: Timestamp, now: Instant) -> LiveCall {
        let instant = |at: Timestamp| {
            let ago = Duration::try_from(wall.duration_since(at)).unwrap_or_default();
            now.checked_sub(ago).unwrap_or(now)
        };
        let redirected_at = self.redirected_at.map(instant);
        LiveCall {
            call_sid: self.call_sid,
            from: self.from,
            to: self.to,
            direction: self.direction,
            answered_at: instant(self.answered_at),
            memo: Memo {
                stream_sid: self.stream_sid,
                fallback: self.fallback.map(|reason| Fallback { reason, redirected_at }),
            },
        }
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        // Strings only: writing them as JSON into memory cannot fail.
        let json = serde_json::to_vec(self).unwrap_or_default();
        [&[FORM_VERSION][..], &crc32fast::hash(&json).to_be_bytes(), &json].concat()
    }

    /// `None` where the bytes are damaged, or a newer kolbox's.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        let (checksum, json) = rest.split_first_chunk::<4>()?;
        let is_sound = *form == FORM_VERSION && crc32fast::hash(json) == u32::from_be_bytes(*checksum);
        is_sound.then(|| serde_json::from_slice(json).ok()).flatten()
    }
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use crate::transcripts::record::samples::ended_call;

    /// The entry of the call that [`ended_call`] makes of this number.
    pub fn entry(number: u128) -> JournalEntry {
        let ended = ended_call(number, None, true);
        JournalEntry {
            call_sid: ended.call_sid,
            from: ended.from,
            to: ended.to,
            direction: ended.direction,
            answered_at: Timestamp::UNIX_EPOCH,
            stream_sid: ended.stream_sid,
            fallback: Some(FallbackReason::NoMedia),
            redirected_at: None,
            host: Some("gw.example".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::entry, *};

    #[test]
    fn an_entry_comes_back_or_is_not_believed() {
        let entry = entry(3);
        let bytes = entry.encode();
        assert_eq!(JournalEntry::decode(&bytes), Some(entry));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 4;
            assert_eq!(JournalEntry::decode(&damaged), None);
            assert_eq!(JournalEntry::decode(&bytes[..place]), None);
        }
    }

    #[test]
    fn the_next_run_takes_a_call_up_with_its_times() {
        let (now, wall) =
            (Instant::now() + Duration::from_secs(1_000), Timestamp::UNIX_EPOCH + Duration::from_secs(90));
        let mut entry = entry(3);
        entry.redirected_at = Some(Timestamp::UNIX_EPOCH + Duration::from_secs(60));
        let live = entry.clone().resumed(wall, now);
        assert_eq!(live.answered_at, now - Duration::from_secs(90));
        let redirected_at = Some(now - Duration::from_secs(30));
        assert_eq!(live.memo.fallback, Some(Fallback { reason: FallbackReason::NoMedia, redirected_at }));
        let at = |instant: Instant| wall.saturating_sub(now - instant).unwrap();
        assert_eq!(JournalEntry::new(&live, entry.host.clone(), at), entry);
    }

    #[test]
    fn a_clock_that_was_set_back_puts_nothing_ahead_of_now() {
        let now = Instant::now();
        let mut entry = entry(3);
        entry.answered_at = Timestamp::UNIX_EPOCH + Duration::from_secs(3_600);
        assert_eq!(entry.resumed(Timestamp::UNIX_EPOCH, now).answered_at, now);
    }
}
