//! A simulated call is changed by REST: its running document is abandoned for another. Pure.

use std::time::Instant;

use super::{Output, PhoneCall, Stage};
use crate::{
    limits::REST_TWIML_CHARS_MAX,
    simulator::{
        account::{ApiError, Update},
        document::{Document, DocumentError, resolve},
        report::Ending,
        streaming::Connect,
    },
    twilio::webhook::CallStatus,
};

impl PhoneCall {
    pub(super) fn note_redirect(&mut self, now: Instant) {
        let since = |moment: Option<Instant>| moment.map(|moment| now.saturating_duration_since(moment));
        let tally = &mut self.tally;
        tally.redirect_after_answer = tally.redirect_after_answer.or(since(tally.last_document_at));
        tally.redirect_after_fault = tally.redirect_after_fault.or(since(tally.fault_began));
    }

    pub(super) fn decide_update(&mut self, update: Update, now: Instant) -> Result<CallStatus, ApiError> {
        if !self.plan.faults.rest_refusals.is_empty() {
            let (status, code) = self.plan.faults.rest_refusals.remove(0);
            return Err(ApiError::new(status, code, "refused by the simulation's plan"));
        }
        if self.status != CallStatus::InProgress {
            return Err(ApiError::new(400, 21220, "Call is not in-progress. Cannot redirect."));
        }
        match update {
            Update::Complete => self.end(Ending::EndedByRest, now),
            Update::Url(url) => {
                resolve(None, &url).map_err(refuse)?;
                self.interrupt(now);
                self.ask(url, self.plan.parties.voice(self.status), now);
            }
            Update::Twiml(text) => {
                if text.chars().count() > REST_TWIML_CHARS_MAX {
                    return Err(ApiError::new(400, 32018, "Twiml must be at most 4000 characters"));
                }
                let document = Document::parse(&text).map_err(refuse)?;
                document.check_without_base().map_err(refuse)?;
                self.interrupt(now);
                self.run_document(document, None, now);
            }
        }
        Ok(self.status)
    }

    /// The running document is abandoned: a stream is stopped and its socket closed by Twilio, a recording is kept.
    pub(super) fn interrupt(&mut self, now: Instant) {
        self.verbs.clear();
        self.stop_stream(now);
        self.close_record(now);
        self.stage = Stage::Over;
    }

    /// Twilio ends the stream: `stop`, then it closes the socket. Gives back its `<Connect>`.
    pub(super) fn stop_stream(&mut self, now: Instant) -> Option<Connect> {
        if let Stage::Streaming { ticket, streaming } = &mut self.stage
            && !streaming.is_dropped()
        {
            if streaming.has_started() {
                self.outputs.push_back(Output::Send { ticket: *ticket, text: streaming.peer.stop() });
            }
            self.outputs.push_back(Output::CloseSocket { ticket: *ticket, abort: false });
        }
        self.close_stream("stream-stopped", None, now)
    }
}

fn refuse(error: DocumentError) -> ApiError {
    ApiError::new(400, error.code(), error.to_string())
}
