//! What is missing of a stream's audio, by its timestamps.

use std::time::Duration;

/// Timestamps that are off by less than this are jitter, not missing audio.
const GAP_MIN: Duration = Duration::from_millis(60);

/// Follows the timestamps of one stream.
#[derive(Debug, Clone, Default)]
pub struct StreamClock {
    /// Where the audio heard last ended, in milliseconds since the stream's start; `None`: nothing with a timestamp yet.
    end_ms: Option<u64>,
}

impl StreamClock {
    /// The next audio is so long, and begins so many milliseconds after the stream's start. Returns how much is missing
    /// before it: zero, or at least 60 ms.
    pub fn handle_audio(&mut self, timestamp_ms: Option<u64>, length: Duration) -> Duration {
        let missing = match (timestamp_ms, self.end_ms) {
            (Some(begin_ms), Some(end_ms)) => Duration::from_millis(begin_ms.saturating_sub(end_ms)),
            _ => Duration::ZERO,
        };
        let length_ms = length.as_millis() as u64;
        self.end_ms = timestamp_ms.map(|begin_ms| begin_ms.saturating_add(length_ms));
        if missing < GAP_MIN { Duration::ZERO } else { missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    /// What is missing before each of these, in milliseconds.
    fn missing(timestamps: &[Option<u64>]) -> Vec<u128> {
        let mut clock = StreamClock::default();
        timestamps.iter().map(|timestamp| clock.handle_audio(*timestamp, FRAME).as_millis()).collect()
    }

    #[test]
    fn frames_that_follow_each_other_miss_nothing_and_jitter_is_no_gap() {
        assert_eq!(missing(&[5_000, 5_020, 5_040, 5_075, 5_090, 5_169].map(Some)), [0; 6]);
    }

    #[test]
    fn what_is_left_out_is_missing_once_and_a_clock_that_jumps_back_misses_nothing() {
        assert_eq!(missing(&[0, 20, 100, 120, 5_140, 0, 20].map(Some)), [0, 0, 60, 0, 5_000, 0, 0]);
        assert_eq!(missing(&[Some(0), None, Some(9_000), Some(u64::MAX), Some(u64::MAX)])[..3], [0, 0, 0]);
    }
}
