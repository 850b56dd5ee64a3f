//! The two clocks: the monotonic one that everything is decided on, and the wall's, for what people read.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Where time comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// The monotonic time: never set, never going back. Every deadline stands on it.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// The time of day at that instant, by what the wall clock says *now*: a box without a battery learns the time
    /// minutes after its start, and what happened before is then dated rightly too.
    pub fn wall(&self, at: Instant) -> Timestamp {
        wall_at(at, Instant::now(), Timestamp::now())
    }
}

fn wall_at(at: Instant, now: Instant, wall_now: Timestamp) -> Timestamp {
    let distance = |from: Instant, to: Instant| -> Duration { to.saturating_duration_since(from) };
    match at <= now {
        true => wall_now.saturating_sub(distance(at, now)),
        false => wall_now.saturating_add(distance(now, at)),
    }
    // Refused only for spans of calendar units, which these are not.
    .unwrap_or(wall_now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_dated_by_the_wall_clock_of_now_on_both_sides_of_it() {
        let now = Instant::now() + Duration::from_secs(3_600);
        let wall: Timestamp = "2026-11-22T08:15:02.5Z".parse().unwrap();
        let before = wall_at(now - Duration::from_millis(1_500), now, wall);
        let after = wall_at(now + Duration::from_secs(60), now, wall);
        assert_eq!(before.to_string(), "2026-11-22T08:15:01Z");
        assert_eq!(after.to_string(), "2026-11-22T08:16:02.5Z");
        assert_eq!(wall_at(now, now, wall), wall);
    }
}
