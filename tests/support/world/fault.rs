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
    /// 401: the wrong region, or a token that was changed.
    Unauthorized,
    /// 404: the wrong account or region.
    NotFound,
    /// It is carried out, and the answer never comes.
    AnswerLost,
    /// It is carried out, and answered so much later.
    AnsweredLate(Duration),
    /// It is carried out so much later.
    CarriedOutLate(Duration),
}

/// In which way REST fails for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestTrouble {
    /// No connection, 503, 429, or an answer that is lost.
    Fails,
    /// Up to 12 s before it is carried out, or answered.
    Slow,
    Unauthorized,
    NotFound,
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

/// How the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFate {
    /// It neither takes nor gives anything.
    Refuses,
    /// It has room for so many more writes.
    Fills { room: u32 },
    /// Each group takes seconds.
    Slow,
}

/// Who no longer receives anything over a connection that looks open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deaf {
    TheBox,
    Twilio,
    Both,
}

impl Deaf {
    pub fn to_box(self) -> bool {
        self != Self::Twilio
    }

    pub fn to_twilio(self) -> bool {
        self != Self::TheBox
    }
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
    /// The plug is pulled, in whatever state the box is: what was not on the disk is gone, and what was just being written
    /// may be there or not. It is put in again after so long.
    Killed {
        at: Duration,
        back_after: Duration,
    },
    /// `systemctl restart`: a drain, an end, and a start so much later.
    Restarted {
        at: Duration,
        back_after: Duration,
    },
    /// A second signal to a box that drains: it ends at once.
    SecondSignal {
        at: Duration,
    },
    /// So many of a hundred REST requests fail.
    Rest {
        window: Window,
        percent: u32,
        trouble: RestTrouble,
    },
    /// Nothing gets through in either direction; it arrives all at once afterwards.
    Stalled(Window),
    /// Every media connection breaks, and both sides see it.
    SocketsReset {
        at: Duration,
    },
    /// Every media connection is cut, and a side does not learn of it.
    HalfOpen {
        at: Duration,
        deaf: Deaf,
    },
    /// Every media connection is cut unseen by the box, and what stands between opens it anew: the same `start` comes
    /// again, and takes over.
    Reconnected {
        at: Duration,
    },
    /// The office's system.
    Upstream {
        window: Window,
        fate: UpstreamFate,
    },
    Disk {
        window: Window,
        fate: DiskFate,
    },
    /// The time of day is set forward, or back, by so many seconds.
    ClockSet {
        at: Duration,
        by_s: i64,
    },
}

impl Fault {
    /// When something has to be done about it at once.
    pub fn moment(&self) -> Option<Duration> {
        match *self {
            Self::Killed { at, .. }
            | Self::Restarted { at, .. }
            | Self::SecondSignal { at }
            | Self::SocketsReset { at }
            | Self::HalfOpen { at, .. }
            | Self::Reconnected { at }
            | Self::ClockSet { at, .. }
            | Self::Disk { window: Window { from: at, .. }, .. } => Some(at),
            Self::Rest { .. } | Self::Stalled(_) | Self::Upstream { .. } => None,
        }
    }
}

/// How the network behaves, all the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Each message takes up to this; webhooks overtake each other, messages of one connection do not.
    pub delay_max: Duration,
    /// How many of a hundred webhooks are delivered twice.
    pub repeated_percent: u32,
    /// How many of a hundred webhooks are lost, or their answers.
    pub lost_percent: u32,
    /// How late status callbacks may be besides.
    pub callbacks_late_max: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay_max: Duration::from_millis(80),
            repeated_percent: 0,
            lost_percent: 0,
            callbacks_late_max: Duration::ZERO,
        }
    }
}
