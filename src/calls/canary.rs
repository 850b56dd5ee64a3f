//! Deliberate mistakes, for the tests that show that they would be noticed. None of this is in a box:
//! in a release build without the feature `canaries` the question is a constant.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// The watchdog's deadlines pass unnoticed.
    WatchdogOff,
    /// A stream that was found alive is never looked at again.
    DeadlineNotRearmed,
    /// Each redirect goes out twice.
    RedirectTwice,
    /// A call that is over keeps its slot.
    SlotNotFreed,
    /// Twilio is told that a record is safe before it is on the disk.
    AnsweredBeforeKept,
    /// A record that the upstream did not take is passed over for the next.
    OutboxPassesOver,
    /// The upstream's word counts before it is on the disk.
    NoteNotAwaited,
    /// `stream_ended` always hangs up.
    StreamEndedHangsUp,
    /// Live calls are not written into the journal.
    JournalNotWritten,
    /// A silent socket is closed, and nothing is redirected.
    CloseWithoutRedirect,
    /// A newer stream of the same call is welcome, and the older one goes on being the one that counts.
    TakeOverIgnored,
    /// The store counts as durable what only the engine has flushed: for tests/store/power_cut.rs.
    SyncLeftOut,
}

impl Canary {
    /// Every one that the simulation can notice.
    pub const ALL: [Self; 11] = [
        Self::WatchdogOff,
        Self::DeadlineNotRearmed,
        Self::RedirectTwice,
        Self::SlotNotFreed,
        Self::AnsweredBeforeKept,
        Self::OutboxPassesOver,
        Self::NoteNotAwaited,
        Self::StreamEndedHangsUp,
        Self::JournalNotWritten,
        Self::CloseWithoutRedirect,
        Self::TakeOverIgnored,
    ];
}

#[cfg(any(debug_assertions, feature = "canaries"))]
thread_local! {
    static SINGING: std::cell::Cell<Option<Canary>> = const { std::cell::Cell::new(None) };
}

/// Whether this mistake is to be made now.
#[cfg(any(debug_assertions, feature = "canaries"))]
pub(crate) fn sings(canary: Canary) -> bool {
    SINGING.get() == Some(canary)
}

/// Whether this mistake is to be made now: never.
#[cfg(not(any(debug_assertions, feature = "canaries")))]
pub(crate) const fn sings(_: Canary) -> bool {
    false
}

/// Runs something on this thread with a box that makes this mistake.
#[cfg(any(debug_assertions, feature = "canaries"))]
pub fn with<T>(canary: Canary, run: impl FnOnce() -> T) -> T {
    let before = SINGING.replace(Some(canary));
    let result = run();
    SINGING.set(before);
    result
}
