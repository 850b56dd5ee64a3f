//! A simulated call inside `<Record>`, and what becomes of the recording. Pure.

use std::time::{Duration, Instant};

use super::{Expects, LateRecording, Output, PhoneCall, Stage};
use crate::{
    simulator::{
        account::{Recording, RecordingState},
        document::RecordVerb,
        recorder::{RecordEnd, Recorder},
        report::Met,
    },
    twilio::{sid::RecordingSid, webhook::RecordingStatus},
};

impl PhoneCall {
    pub(super) fn begin_record(&mut self, verb: RecordVerb, now: Instant) {
        let recording_sid = RecordingSid::from_number(self.number());
        self.voice.restart();
        self.tally.heard_out = false;
        self.story.meet(Met::Recorder, now);
        self.note_recording(recording_sid, RecordingState::Running);
        self.recording_callback(&verb, recording_sid, RecordingStatus::InProgress, Duration::ZERO);
        self.stage = Stage::Recording(Box::new(Recorder::begin(verb, recording_sid, self.plan.timing.frame, now)));
    }

    /// The recording is over, and the call goes on with its action; with the next verb where nothing was said.
    pub(super) fn end_record(&mut self, end: RecordEnd, now: Instant) {
        let Some((verb, recording_sid, length, heard)) = self.close_record(now) else { return };
        let action = verb.action.unwrap_or_default();
        let pressed = match end {
            RecordEnd::Key(key) => Some(key.to_string()),
            RecordEnd::HungUp => Some("hangup".to_owned()),
            RecordEnd::Silence | RecordEnd::MaxLength => None,
        };
        let form = self.plan.parties.record_action(self.status, recording_sid, length, pressed.as_deref());
        if end == RecordEnd::HungUp {
            self.request(action, form, Expects::Nothing);
        } else if heard || self.plan.number.silent_record_calls_action {
            self.verbs.clear();
            self.ask(action, form, now);
        } else {
            self.run_next(now);
        }
    }

    /// Takes the recorder out of the call; what it heard comes to the account a little later.
    pub(super) fn close_record(&mut self, now: Instant) -> Option<(RecordVerb, RecordingSid, Duration, bool)> {
        if !matches!(self.stage, Stage::Recording(_)) {
            return None;
        }
        let Stage::Recording(recorder) = std::mem::replace(&mut self.stage, Stage::Over) else { return None };
        let (verb, recording_sid) = (recorder.verb.clone(), recorder.recording_sid);
        let (heard, length) = (recorder.has_heard(), recorder.length());
        self.tally.silent_record = !heard;
        if heard || self.plan.number.silent_record_calls_action {
            if heard {
                self.tally.recorded += length;
                self.tally.recording_sid = Some(recording_sid);
            }
            self.note_recording(recording_sid, RecordingState::Processing);
            let due = now + self.plan.timing.recording_late;
            let audio = recorder.into_audio().into();
            self.late_recordings.push(LateRecording { due, recording_sid, audio, length, verb: verb.clone() });
        } else {
            self.note_recording(recording_sid, RecordingState::Absent);
            self.recording_callback(&verb, recording_sid, RecordingStatus::Absent, Duration::ZERO);
        }
        Some((verb, recording_sid, length, heard))
    }

    pub(super) fn publish_recordings(&mut self, now: Instant) {
        while let Some(index) = self.late_recordings.iter().position(|late| late.due <= now) {
            let LateRecording { recording_sid, audio, length, verb, .. } = self.late_recordings.swap_remove(index);
            self.note_recording(recording_sid, RecordingState::Completed { audio, length });
            self.recording_callback(&verb, recording_sid, RecordingStatus::Completed, length);
        }
    }

    pub(super) fn note_recording(&mut self, recording_sid: RecordingSid, state: RecordingState) {
        let call_sid = self.plan.parties.call_sid;
        self.outputs.push_back(Output::NoteRecording(Recording { recording_sid, call_sid, state }));
    }

    pub(super) fn recording_callback(
        &mut self,
        verb: &RecordVerb,
        sid: RecordingSid,
        status: RecordingStatus,
        length: Duration,
    ) {
        let Some(url) = verb.status_callback.clone().filter(|_| verb.announces(status)) else { return };
        let form = self.plan.parties.recording_status(sid, status, length);
        self.call_back(url, form);
    }
}
