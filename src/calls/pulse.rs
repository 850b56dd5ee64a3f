//! When each stream was last heard: one atomic a slot, stamped by its media task, read by the watchdog.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::StreamKey;
use crate::limits::CALLS_MAX;

const MILLIS_BITS: u32 = 40;
const MILLIS_MASK: u64 = (1 << MILLIS_BITS) - 1;
const GENERATION_MASK: u64 = (1 << (64 - MILLIS_BITS)) - 1;

/// The table of stamps. A stamp is `generation << 40 | milliseconds since the epoch`, and only ever grows:
/// so a frame of an older stream that arrives late can never overwrite, or pass for, a newer stream's.
#[derive(Debug, Clone)]
pub struct Pulses {
    epoch: Instant,
    stamps: Arc<[AtomicU64]>,
}

impl Pulses {
    /// A table in which nothing was heard. `epoch` is an instant before every stamp.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, stamps: (0..CALLS_MAX).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A media frame of this stream arrived. One atomic operation: no lock, no allocation.
    pub fn stamp(&self, stream: StreamKey, now: Instant) {
        let millis = now.saturating_duration_since(self.epoch).as_millis() as u64;
        self.stamps[usize::from(stream.slot)].fetch_max(tag(stream) | (millis & MILLIS_MASK), Ordering::Relaxed);
    }

    /// When a media frame of just this stream was last heard, to the millisecond; `None` if never.
    pub fn last_heard(&self, stream: StreamKey) -> Option<Instant> {
        let stamp = self.stamps[usize::from(stream.slot)].load(Ordering::Relaxed);
        (stamp & !MILLIS_MASK == tag(stream)).then(|| self.epoch + Duration::from_millis(stamp & MILLIS_MASK))
    }
}

fn tag(stream: StreamKey) -> u64 {
    (u64::from(stream.generation) & GENERATION_MASK) << MILLIS_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_frame_of_an_older_stream_never_speaks_for_the_newer_one() {
        let epoch = Instant::now();
        let pulses = Pulses::new(epoch);
        let old = StreamKey { slot: 3, generation: 7 };
        let new = StreamKey { slot: 3, generation: 8 };
        pulses.stamp(old, epoch + Duration::from_millis(1_000));
        assert_eq!(pulses.last_heard(new), None);
        pulses.stamp(new, epoch + Duration::from_millis(1_020));
        pulses.stamp(old, epoch + Duration::from_millis(9_000));
        assert_eq!(pulses.last_heard(new), Some(epoch + Duration::from_millis(1_020)));
        assert_eq!(pulses.last_heard(old), None);
        assert_eq!(pulses.last_heard(StreamKey { slot: 2, generation: 8 }), None);
    }
}
