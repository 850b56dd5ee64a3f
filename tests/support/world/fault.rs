//! What goes wrong around the calls, and when: plain data, each part of which can be taken out alone.

use std::time::Duration;

/// What becomes of one REST request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestFate {
    Served,
    /// No connection.
    Unreachable,
    /// 503 from a proxy on the way.
    Unavailable,
    /// 429.
    Throttled,
    /// It is carried out, and the answer never comes.
    AnswerLost,
}

/// How the office's system fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamFate {
    Unreachable,
    /// 500.
    Fails,
    /// 429 with a `Retry-After` of so many seconds.
    Throttles(u64),
    /// It has the record, and its answer never comes.
    AnswerLost,
}

/// A stretch of time since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub from: Duration,
    pub until: Duration,
}

impl Window {
    pub fn holds(self, at: Duration) -> bool {
        self.from <= at && at < self.until
    }

    pub fn meets(self, from: Duration, until: Duration) -> bool {
        self.from <= until && from < self.until
    }

    pub fn length(self) -> Duration {
        self.until.saturating_sub(self.from)
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The plug is pulled: what was not on the disk is gone. It is put in again after so long.
    Killed { at: Duration, back_after: Duration },
    /// `systemctl restart`: a drain, an end, and a start so much later.
    Restarted { at: Duration, back_after: Duration },
    /// So many of a hundred REST requests fail.
    Rest { window: Window, percent: u32 },
    /// Nothing gets through in either direction; it arrives all at once afterwards.
    Stalled(Window),
    /// Every media connection breaks, and both sides see it.
    SocketsReset { at: Duration },
    /// The office's system.
    Upstream { window: Window, fate: UpstreamFate },
    /// The disk takes nothing: it is full, or broken.
    DiskRefuses(Window),
    /// The time of day is set forward, or back, by so many seconds.
    ClockSet { at: Duration, by_s: i64 },
}

/// How the network behaves, all the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub delay_max: Duration,
    /// How many of a hundred webhooks are delivered twice.
    pub repeated_percent: u32,
    /// How late status callbacks may be besides.
    pub callbacks_late_max: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self { delay_max: Duration::from_millis(80), repeated_percent: 0, callbacks_late_max: Duration::ZERO }
    }
}
