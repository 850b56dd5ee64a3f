//! What a caller met, from moment to moment, and what it amounted to. Pure.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::twilio::sid::{CallSid, RecordingSid};

/// Stretches kept of one call; what comes after is added to the last.
const SPANS_MAX: usize = 256;
/// Lines kept for the debugger of one call.
const DEBUGGER_LINES_MAX: usize = 64;

/// What the caller meets at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// It rings: the first document has not come.
    Ringing,
    /// A sound or a spoken text.
    Prompt,
    /// Their voice flows on a live stream.
    Stream,
    /// Their voice is being recorded.
    Recorder,
    /// Nobody speaks and nobody listens.
    Silence,
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ringing => "ringing",
            Self::Prompt => "prompt",
            Self::Stream => "stream",
            Self::Recorder => "recorder",
            Self::Silence => "silence",
        })
    }
}

/// A stretch of a call in which the caller met one thing; times since the call was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub met: Met,
    pub from: Duration,
    pub until: Duration,
}

/// How a call came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The caller had said all, or had planned to leave then.
    CallerLeft,
    /// The caller bore the silence no longer.
    CallerGaveUp,
    /// `<Hangup>`, or the document came to its end.
    HungUp,
    /// `Status=completed` by REST.
    EndedByRest,
    /// `<Reject>`.
    Rejected,
    /// "An application error has occurred": with Twilio's code.
    ApplicationError(u32),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CallerLeft => f.write_str("caller hung up"),
            Self::CallerGaveUp => f.write_str("caller gave up"),
            Self::HungUp => f.write_str("hung up on"),
            Self::EndedByRest => f.write_str("ended by REST"),
            Self::Rejected => f.write_str("rejected"),
            Self::ApplicationError(code) => write!(f, "application error {code}"),
        }
    }
}

/// What a call amounted to for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Heard to the end on a live stream.
    Streamed,
    /// Their message is in this recording.
    Recorded(RecordingSid),
    /// They left before they were heard, or said nothing to the recorder.
    NoMessage,
    /// They ended in silence, or were cut off.
    Lost,
}

impl Outcome {
    /// Whether the promise was kept: the call ended in a stream or a recording.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Streamed | Self::Recorded(_))
    }
}

/// All about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallReport {
    pub call_sid: CallSid,
    /// `None`: the call goes on.
    pub ending: Option<Ending>,
    pub outcome: Outcome,
    pub spans: Vec<Span>,
    /// Voice that flowed on live streams.
    pub streamed: Duration,
    /// Voice that the recorder took.
    pub recorded: Duration,
    /// The longest stretch of silence after the call was answered.
    pub longest_silence: Duration,
    pub streams_started: u32,
    pub marks_echoed: u32,
    /// The caller heard something through a stream.
    pub tone_heard: bool,
    /// REST updates that were taken.
    pub rest_updates: u32,
    /// REST updates that were refused.
    pub rest_refused: u32,
    /// From the latest document by webhook to the first REST update after it.
    pub redirect_after_answer: Option<Duration>,
    /// From the moment the fault began (the last sign of life of the stream) to the first REST update after it.
    pub redirect_after_fault: Option<Duration>,
    /// What Twilio's debugger would show, each with its code where it has one.
    pub debugger: Vec<String>,
}

/// Writes the story of one call down while it happens.
#[derive(Debug)]
pub struct Story {
    placed_at: Instant,
    met: Met,
    since: Instant,
    spans: Vec<Span>,
    debugger: Vec<String>,
}

impl Story {
    /// Begins with the first ring.
    pub fn new(now: Instant) -> Self {
        Self { placed_at: now, met: Met::Ringing, since: now, spans: Vec::new(), debugger: Vec::new() }
    }

    /// From now on the caller meets this.
    pub fn meet(&mut self, met: Met, now: Instant) {
        if met == self.met {
            return;
        }
        self.close(now);
        self.met = met;
        self.since = now;
    }

    /// What the caller meets, and since when.
    pub fn met(&self) -> (Met, Instant) {
        (self.met, self.since)
    }

    /// The call is over: the last stretch ends.
    pub fn close(&mut self, now: Instant) {
        let until = now.saturating_duration_since(self.placed_at);
        let from = self.since.saturating_duration_since(self.placed_at);
        if from == until {
            return;
        }
        self.since = now;
        let full = self.spans.len() >= SPANS_MAX;
        match self.spans.last_mut() {
            Some(last) if last.met == self.met || full => last.until = until,
            _ => self.spans.push(Span { met: self.met, from, until }),
        }
    }

    /// A line for the debugger.
    pub fn note(&mut self, line: String) {
        if self.debugger.len() < DEBUGGER_LINES_MAX {
            self.debugger.push(line);
        }
    }

    /// The stretches so far.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The debugger's lines so far.
    pub fn debugger(&self) -> &[String] {
        &self.debugger
    }

    /// How long this was met in all, and the longest single stretch of it.
    pub fn total(&self, met: Met) -> (Duration, Duration) {
        self.spans
            .iter()
            .filter(|span| span.met == met)
            .map(|span| span.until - span.from)
            .fold((Duration::ZERO, Duration::ZERO), |(total, longest), length| (total + length, longest.max(length)))
    }
}

impl fmt::Display for CallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Streamed => "streamed".to_owned(),
            Outcome::Recorded(recording_sid) => format!("recorded {recording_sid}"),
            Outcome::NoMessage => "NO MESSAGE".to_owned(),
            Outcome::Lost => "LOST".to_owned(),
        };
        write!(f, "{} {outcome}:", self.call_sid)?;
        for span in &self.spans {
            write!(f, " {} {:.2} s,", span.met, (span.until - span.from).as_secs_f64())?;
        }
        match self.ending {
            None => write!(f, " goes on")?,
            Some(ending) => write!(f, " {ending}")?,
        }
        write!(f, "; tone {}", if self.tone_heard { "heard" } else { "not heard" })?;
        write!(f, ", marks {}, rest_updates {}", self.marks_echoed, self.rest_updates)?;
        if self.rest_refused > 0 {
            write!(f, " (and {} refused)", self.rest_refused)?;
        }
        if let Some(after) = self.redirect_after_answer {
            write!(f, ", redirect {:.3} s after the answer", after.as_secs_f64())?;
        }
        if let Some(after) = self.redirect_after_fault {
            write!(f, ", {:.3} s after the fault", after.as_secs_f64())?;
        }
        self.debugger.iter().try_for_each(|line| write!(f, "\n    debugger: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_the_same_kind_are_one_and_empty_ones_are_none() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut story = Story::new(begin);
        story.meet(Met::Silence, begin);
        story.meet(Met::Prompt, begin);
        story.meet(Met::Stream, at(2));
        story.meet(Met::Stream, at(3));
        story.meet(Met::Silence, at(5));
        story.close(at(9));
        let spans: Vec<_> =
            story.spans().iter().map(|span| (span.met, span.from.as_secs(), span.until.as_secs())).collect();
        assert_eq!(spans, [(Met::Prompt, 0, 2), (Met::Stream, 2, 5), (Met::Silence, 5, 9)]);
        assert_eq!(story.total(Met::Stream), (Duration::from_secs(3), Duration::from_secs(3)));
    }
}
