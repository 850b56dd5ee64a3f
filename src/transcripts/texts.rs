//! Ended calls whose record waits for its text: whose is asked for, and when the wait is over. Pure.
//!
//! - a record is asked about once, when its wait begins; who answers may take as long as it likes;
//! - it becomes final with the text, or at the end of `[speech] wait` with what there is of it, and once in either case;
//! - it holds up no other; when more wait than may, the oldest becomes final without.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::record::{Heard, Record};
use crate::{
    limits::{AWAITING_TEXT_MAX, TEXT_GRACE, TEXT_WAIT_LEAST},
    twilio::sid::{CallSid, RecordingSid},
};

/// What the wait goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOptions {
    /// `speech.wait`, from the call's end.
    pub wait: Duration,
    /// `speech.engine`: who is to write the text, as the drafts name it.
    pub engine: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Have the call's audio transcribed; then [`Texts::handle_heard`], at `until` with what there is by then.
    Transcribe { call_sid: CallSid, recording_sid: Option<RecordingSid>, until: Instant },
    /// The wait is over: keep this record as final.
    Finalize(Box<Record>),
}

/// The table of those that wait.
#[derive(Debug)]
pub struct Texts {
    options: TextOptions,
    /// In the order in which they began to wait.
    waiting: VecDeque<Waiting>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    until: Instant,
}

impl Texts {
    /// A table in which nothing waits.
    pub fn new(options: TextOptions) -> Self {
        Self { options, waiting: VecDeque::new(), outputs: VecDeque::new() }
    }

    /// Who is to write the texts.
    pub fn engine(&self) -> &str {
        &self.options.engine
    }

    /// How many records wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the call ended that has waited longest.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.waiting.iter().map(|waiting| waiting.record.ended_at).min()
    }

    /// A record begins to wait, whose call ended so long `ago`.
    pub fn handle_waiting(&mut self, record: Record, ago: Duration, now: Instant) {
        let call_sid = record.call_sid;
        if self.waiting.iter().any(|waiting| waiting.record.call_sid == call_sid) {
            return;
        }
        if self.waiting.len() >= AWAITING_TEXT_MAX {
            self.finalize(0, None);
        }
        let left = self.options.wait.saturating_sub(ago).max(TEXT_WAIT_LEAST.min(self.options.wait));
        let until = now + left;
        self.outputs.push_back(Output::Transcribe { call_sid, recording_sid: record.recording_sid, until });
        self.waiting.push_back(Waiting { record, until: until + TEXT_GRACE });
    }

    /// What the call's audio says. Of a call that waits no longer it is nobody's.
    pub fn handle_heard(&mut self, call_sid: CallSid, heard: Heard) {
        if let Some(index) = self.waiting.iter().position(|waiting| waiting.record.call_sid == call_sid) {
            self.finalize(index, Some(heard));
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(index) = self.waiting.iter().position(|waiting| waiting.until <= now) {
            self.finalize(index, None);
        }
    }

    /// When the next wait is over.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let until = self.waiting.iter().map(|waiting| waiting.until).min()?;
        Some((until, "a record has waited long enough for its text"))
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn finalize(&mut self, index: usize, heard: Option<Heard>) {
        let Some(waiting) = self.waiting.remove(index) else { return };
        self.outputs.push_back(Output::Finalize(Box::new(waiting.record.with_text(heard))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcripts::record::{Outcome, Segment, Words, samples::record};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn texts() -> Texts {
        Texts::new(TextOptions { wait: 24 * HOUR, engine: "openai".into() })
    }

    fn drain(texts: &mut Texts) -> Vec<Output> {
        std::iter::from_fn(|| texts.poll_output()).collect()
    }

    fn asked(number: u128, until: Instant) -> Output {
        Output::Transcribe { call_sid: record(number).call_sid, recording_sid: None, until }
    }

    fn hello() -> Heard {
        let segments = vec![Segment { start_ms: 0, end_ms: 9, text: Words("hello".into()) }];
        Heard::Words { engine: "openai whisper-1".into(), segments }
    }

    fn draft(number: u128) -> Record {
        record(number).to_be_heard_by("openai")
    }

    #[test]
    fn each_is_asked_about_once_and_becomes_final_when_its_text_comes_in_any_order() {
        let (mut texts, now) = (texts(), Instant::now());
        for number in [1, 2, 2, 1] {
            texts.handle_waiting(draft(number), Duration::ZERO, now);
        }
        assert_eq!(drain(&mut texts), [1, 2].map(|number| asked(number, now + 24 * HOUR)));
        for _ in 0..2 {
            texts.handle_heard(record(2).call_sid, hello());
        }
        assert_eq!(drain(&mut texts), [Output::Finalize(Box::new(record(2).with_text(Some(hello()))))]);
        assert_eq!((texts.len(), texts.oldest()), (1, Some(record(1).ended_at)));
        texts.handle_heard(record(9).call_sid, hello());
        assert_eq!(drain(&mut texts), []);
    }

    #[test]
    fn one_whose_text_does_not_come_is_final_without_it_at_the_end_of_the_wait() {
        let (mut texts, now) = (texts(), Instant::now());
        texts.handle_waiting(draft(1), HOUR, now);
        texts.handle_waiting(draft(2), Duration::ZERO, now);
        drain(&mut texts);
        let (until, _) = texts.poll_timeout().unwrap();
        assert_eq!(until, now + 23 * HOUR + TEXT_GRACE);
        texts.handle_timeout(until - Duration::from_millis(1));
        assert_eq!(drain(&mut texts), []);
        texts.handle_timeout(until);
        assert_eq!(drain(&mut texts), [Output::Finalize(Box::new(record(1)))], "as without an engine");
        texts.handle_heard(record(1).call_sid, hello());
        assert_eq!((drain(&mut texts), texts.len()), (Vec::new(), 1));
    }

    #[test]
    fn a_box_that_was_off_for_longer_than_the_wait_still_asks_the_engine() {
        let (mut texts, now) = (texts(), Instant::now());
        texts.handle_waiting(draft(1), 100 * HOUR, now);
        assert_eq!(drain(&mut texts), [asked(1, now + TEXT_WAIT_LEAST)]);
        let mut hasty = Texts::new(TextOptions { wait: Duration::from_secs(1), engine: "e".into() });
        hasty.handle_waiting(draft(1), HOUR, now);
        assert_eq!(drain(&mut hasty), [asked(1, now + Duration::from_secs(1))]);
    }

    #[test]
    fn when_more_wait_than_may_the_oldest_is_final_without() {
        let (mut texts, now) = (texts(), Instant::now());
        for number in 1..=AWAITING_TEXT_MAX as u128 + 1 {
            texts.handle_waiting(draft(number), Duration::ZERO, now);
        }
        let last: Vec<_> =
            drain(&mut texts).into_iter().filter(|output| matches!(output, Output::Finalize(_))).collect();
        let [Output::Finalize(oldest)] = last.as_slice() else { panic!("{last:?}") };
        assert_eq!((oldest.call_sid, oldest.outcome), (record(1).call_sid, Outcome::Untranscribed));
        assert_eq!(texts.len(), AWAITING_TEXT_MAX);
    }
}
