//! When silence counts: the deadlines of a call that may stream, and what is decided when one comes.
//!
//! | the call                                   | looked at                                   | reason            |
//! | ------------------------------------------ | ------------------------------------------- | ----------------- |
//! | answered, no `start` yet                   | `start_timeout`, not before greeting + 3 s  | `no_stream_start` |
//! | streaming                                  | `no_media_timeout` after the last frame     | `no_media`        |
//! | `stream-error` reported, nothing heard since | 1 s after it (no floor)                   | `stream_error`    |
//! | socket lost without `stop`                 | the shorter of 2 s and `no_media_timeout`   | `socket_lost`     |
//! | `stop`, and Twilio asked for nothing since | `no_media_timeout` after it                 | `no_media`, or `ended_without_media` |
//!
//! Only media frames of the current stream count as life: no status field and no callback does.

use std::time::{Duration, Instant};

use super::FallbackReason;

/// What the greeting's own length is exceeded by before a missing `start` counts.
const GREETING_MARGIN: Duration = Duration::from_secs(3);
/// From a reported stream error to the redirect: Twilio usually goes on by itself within this time.
const STREAM_ERROR_GRACE: Duration = Duration::from_secs(1);
/// From a lost socket to the redirect: likewise.
const SOCKET_LOST_GRACE: Duration = Duration::from_secs(2);

/// The watchdog's times.
#[derive(Debug, Clone, Copy)]
pub struct Watchdog {
    /// `watchdog.start_timeout`
    pub start_timeout: Duration,
    /// `watchdog.no_media_timeout`
    pub no_media_timeout: Duration,
    /// The greeting's own length.
    pub greeting: Duration,
}

/// When to look at a call, and why it goes to the recorder if nothing better is seen then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    pub at: Instant,
    pub reason: FallbackReason,
}

/// What a look at a streaming call shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It lives: look again then.
    Alive(Watch),
    /// It has been silent since this instant.
    Silent { since: Instant, reason: FallbackReason },
}

impl Watchdog {
    /// The start deadline of a call that was just answered with a stream.
    pub fn after_answer(&self, answered: Instant) -> Watch {
        let wait = self.start_timeout.max(self.greeting + GREETING_MARGIN);
        Watch { at: answered + wait, reason: FallbackReason::NoStreamStart }
    }

    /// The first look at a stream that has just started, or was last heard at this instant.
    pub fn after_media(&self, heard: Instant) -> Watch {
        Watch { at: heard + self.no_media_timeout, reason: FallbackReason::NoMedia }
    }

    /// A look brought forward by a reported stream error; never later than what was planned.
    pub fn after_stream_error(&self, planned: Option<Watch>, reported: Instant) -> Watch {
        let sooner = Watch { at: reported + STREAM_ERROR_GRACE, reason: FallbackReason::StreamError };
        planned.filter(|watch| watch.at <= sooner.at).unwrap_or(sooner)
    }

    /// A stream's connection vanished without `stop`.
    pub fn after_loss(&self, lost: Instant) -> Watch {
        Watch { at: lost + SOCKET_LOST_GRACE.min(self.no_media_timeout), reason: FallbackReason::SocketLost }
    }

    /// A stream said `stop`, and the call may go on without one.
    pub fn after_stop(&self, stopped: Instant, had_media: bool) -> Watch {
        let reason = if had_media { FallbackReason::NoMedia } else { FallbackReason::EndedWithoutMedia };
        Watch { at: stopped + self.no_media_timeout, reason }
    }

    /// The look at a streaming call, when its deadline has come.
    ///
    /// `started` is when its stream was accepted, `heard` its last media frame, `error` the last reported stream error.
    pub fn look(&self, started: Instant, heard: Option<Instant>, error: Option<Instant>, now: Instant) -> Look {
        let since = heard.unwrap_or(started);
        let media = self.after_media(since);
        // An error that was followed by media was about something else, or is over.
        let watch = match error.filter(|&error| since <= error) {
            Some(error) => self.after_stream_error(Some(media), error),
            None => media,
        };
        if watch.at <= now { Look::Silent { since, reason: watch.reason } } else { Look::Alive(watch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watchdog(greeting: Duration) -> Watchdog {
        Watchdog { start_timeout: 8 * SECOND, no_media_timeout: 6 * SECOND, greeting }
    }

    #[test]
    fn a_missing_start_counts_after_its_time_out_but_never_within_the_greeting() {
        let now = Instant::now();
        assert_eq!(watchdog(4 * SECOND).after_answer(now).at, now + 8 * SECOND);
        assert_eq!(watchdog(20 * SECOND).after_answer(now).at, now + 23 * SECOND);
    }

    #[test]
    fn a_stream_lives_as_long_as_frames_come() {
        let now = Instant::now();
        let watchdog = watchdog(SECOND);
        let heard = now + 5 * SECOND;
        assert_eq!(watchdog.look(now, Some(heard), None, now + 6 * SECOND), Look::Alive(watchdog.after_media(heard)));
        assert_eq!(
            watchdog.look(now, Some(heard), None, now + 11 * SECOND),
            Look::Silent { since: heard, reason: FallbackReason::NoMedia }
        );
        assert_eq!(
            watchdog.look(now, None, None, now + 6 * SECOND),
            Look::Silent { since: now, reason: FallbackReason::NoMedia }
        );
    }

    #[test]
    fn a_reported_error_counts_only_if_nothing_was_heard_since() {
        let now = Instant::now();
        let watchdog = watchdog(SECOND);
        let error = now + 2 * SECOND;
        let alive = watchdog.look(now, Some(error + SECOND / 2), Some(error), error + SECOND);
        assert_eq!(alive, Look::Alive(watchdog.after_media(error + SECOND / 2)));
        assert_eq!(
            watchdog.look(now, Some(now + SECOND), Some(error), error + SECOND),
            Look::Silent { since: now + SECOND, reason: FallbackReason::StreamError }
        );
    }

    #[test]
    fn a_reported_error_never_puts_a_look_off() {
        let now = Instant::now();
        let watchdog = watchdog(SECOND);
        let lost = watchdog.after_loss(now);
        assert_eq!(watchdog.after_stream_error(Some(lost), now + 2 * SECOND), lost);
        let start = watchdog.after_answer(now);
        assert_eq!(watchdog.after_stream_error(Some(start), now).at, now + SECOND);
    }
}
