//! A simulated call comes to its end: when the caller leaves, what is still told, what it amounted to. Pure.

use std::time::{Duration, Instant};

use super::{Expects, Output, PhoneCall, Stage};
use crate::{
    simulator::{
        recorder::RecordEnd,
        report::{Ending, Met, Outcome},
        streaming::Connect,
    },
    twilio::webhook::CallStatus,
};

impl PhoneCall {
    /// What the caller meets now.
    pub fn met(&self) -> Met {
        self.story.met().0
    }

    /// Whether what was planned to go wrong has begun to.
    pub fn has_fault_begun(&self) -> bool {
        self.tally.fault_began.is_some()
    }

    /// How it ended; `None`: it goes on.
    pub fn ending(&self) -> Option<Ending> {
        self.ended.map(|(ending, _)| ending)
    }

    pub(super) fn leaves_at(&self) -> Option<(Instant, Ending)> {
        if self.ended.is_some() {
            return None;
        }
        let caller = &self.plan.caller;
        let planned = self.answered_at.unwrap_or(self.placed_at) + caller.leaves_after;
        let said_all = match &self.stage {
            Stage::Streaming { streaming, .. } if streaming.is_live() => streaming.said_all_at(),
            _ => None,
        };
        let said = said_all.zip(caller.leaves_after_saying).map(|(at, pause)| at + pause);
        let (met, since) = self.story.met();
        let patience = matches!(met, Met::Silence | Met::Ringing).then(|| since + caller.patience);
        let left = [Some(planned), said].into_iter().flatten().min().map(|due| (due, Ending::CallerLeft));
        let gave_up = patience.map(|due| (due, Ending::CallerGaveUp));
        [left, gave_up].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    pub(super) fn leave_if_due(&mut self, now: Instant) {
        if let Some((due, ending)) = self.leaves_at()
            && due <= now
        {
            self.end(ending, now);
        }
    }

    /// The call is over, and every callback that belongs to its end goes out.
    pub(super) fn end(&mut self, ending: Ending, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        self.status = if ending == Ending::Rejected { CallStatus::Busy } else { CallStatus::Completed };
        self.outputs.push_back(Output::NoteStatus(self.status));
        let live = self.story.met().0 == Met::Stream;
        self.story.close(now);
        if let Some(Connect { action: Some(action), .. }) = self.stop_stream(now)
            && self.plan.number.connect_action_after_hang_up
        {
            self.request(action, self.plan.parties.voice(self.status), Expects::Nothing);
        }
        self.end_record(RecordEnd::HungUp, now);
        self.verbs.clear();
        self.stage = Stage::Over;
        self.ended = Some((ending, self.outcome(ending, live)));
        if let Some(url) = self.plan.number.status_callback.clone() {
            let lasted = self.answered_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            let form = self.plan.parties.call_status(self.status, lasted, &self.timestamp(now));
            self.call_back(url, form);
        }
    }

    pub(super) fn outcome(&self, ending: Ending, live: bool) -> Outcome {
        if let Some(recording_sid) = self.tally.recording_sid {
            return Outcome::Recorded(recording_sid);
        }
        let heard_out = self.tally.heard_out || (live && (ending == Ending::CallerLeft || self.voice.has_said_all()));
        match ending {
            Ending::CallerLeft | Ending::HungUp | Ending::EndedByRest if heard_out => Outcome::Streamed,
            Ending::CallerLeft => Outcome::NoMessage,
            Ending::HungUp if self.tally.silent_record => Outcome::NoMessage,
            _ => Outcome::Lost,
        }
    }

    pub(super) fn finish_if_done(&mut self) {
        let idle = self.pending.is_empty() && self.late_recordings.is_empty() && self.held_answers.is_empty();
        if self.ended.is_some() && idle && !self.finished {
            self.finished = true;
            self.outputs.push_back(Output::Finish);
        }
    }
}
