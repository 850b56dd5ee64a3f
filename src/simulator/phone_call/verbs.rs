//! A simulated call runs documents, verb by verb. Pure.

use std::time::{Duration, Instant};

use super::{Expects, Output, PhoneCall, Stage};
use crate::{
    simulator::{
        document::{Document, DocumentError, Verb, resolve},
        forms::Fields,
        report::{Ending, Met},
        streaming::Connect,
    },
    twilio::webhook::CallStatus,
};

/// Documents that one call may run; beyond it Twilio's patience with a loop is over.
const DOCUMENTS_MAX: u32 = 100;
/// How long a text of a `<Say>` takes, a character.
const SAY_CHARACTER: Duration = Duration::from_millis(70);

impl PhoneCall {
    pub(super) fn ask(&mut self, url: String, form: Fields, now: Instant) {
        if self.status != CallStatus::Ringing {
            self.story.meet(Met::Silence, now);
        }
        let ticket = self.request(url, form, Expects::Twiml);
        self.stage = Stage::Asking(ticket);
    }

    pub(super) fn run_text(&mut self, text: &str, url: String, now: Instant) {
        self.tally.documents += 1;
        let document = if self.tally.documents > DOCUMENTS_MAX {
            Err(DocumentError::Unusable("documents without end".to_owned()))
        } else {
            Document::parse(text)
        };
        match document {
            Ok(document) => self.run_document(document, Some(url), now),
            Err(error) => {
                self.story.note(error.to_string());
                self.fail(error.code(), &url, now);
            }
        }
    }

    pub(super) fn run_document(&mut self, document: Document, base: Option<String>, now: Instant) {
        for warning in &document.warnings {
            self.story.note(format!("12200: unknown {warning}"));
        }
        self.verbs = document.verbs.into();
        self.base = base;
        self.run_next(now);
    }

    pub(super) fn run_next(&mut self, now: Instant) {
        let Some(verb) = self.verbs.pop_front() else { return self.end(Ending::HungUp, now) };
        if verb != Verb::Reject {
            self.answer(now);
        }
        if let Err(error) = self.run_verb(verb, now) {
            self.story.note(error.to_string());
            let url = self.base.clone().unwrap_or_default();
            self.fail(error.code(), &url, now);
        }
    }

    pub(super) fn run_verb(&mut self, verb: Verb, now: Instant) -> Result<(), DocumentError> {
        match verb {
            Verb::Play { url, times } => {
                let url = self.resolve(&url)?;
                let ticket = self.ticket();
                self.story.meet(Met::Silence, now);
                self.stage = Stage::Fetching { ticket, times };
                self.outputs.push_back(Output::FetchPrompt { ticket, url });
            }
            Verb::Say { text, times } => {
                let length = SAY_CHARACTER * text.chars().count().min(4096) as u32;
                self.wait(length * repeats(times), Met::Prompt, now);
            }
            Verb::Pause { length } => self.wait(length, Met::Silence, now),
            Verb::Connect { action, mut stream } => {
                let action = action.map(|action| self.resolve(&action)).transpose()?;
                stream.url = self.resolve(&stream.url)?;
                stream.status_callback = stream.status_callback.map(|url| self.resolve(&url)).transpose()?;
                self.connect(Connect { action, stream }, now);
            }
            Verb::Record(mut record) => {
                // Without an action Twilio asks for the current document again.
                let action = record.action.as_deref().or(self.base.as_deref()).unwrap_or_default();
                record.action = Some(self.resolve(action)?);
                record.status_callback = record.status_callback.map(|url| self.resolve(&url)).transpose()?;
                self.begin_record(record, now);
            }
            Verb::Redirect { url } => {
                let url = self.resolve(&url)?;
                self.verbs.clear();
                self.ask(url, self.plan.parties.voice(self.status), now);
            }
            Verb::Hangup => self.end(Ending::HungUp, now),
            Verb::Reject if self.status == CallStatus::Ringing => self.end(Ending::Rejected, now),
            Verb::Reject => self.end(Ending::HungUp, now),
        }
        Ok(())
    }

    pub(super) fn resolve(&self, address: &str) -> Result<String, DocumentError> {
        resolve(self.base.as_deref(), address)
    }

    pub(super) fn answer(&mut self, now: Instant) {
        if self.status == CallStatus::Ringing {
            self.status = CallStatus::InProgress;
            self.answered_at = Some(now);
            self.story.meet(Met::Silence, now);
            self.outputs.push_back(Output::NoteStatus(self.status));
        }
    }

    pub(super) fn wait(&mut self, length: Duration, met: Met, now: Instant) {
        self.story.meet(met, now);
        self.stage = Stage::Waiting { until: now + length };
    }

    /// What cannot be fetched or run goes to the number's fallback, once; without one the caller hears an apology.
    pub(super) fn fail(&mut self, code: u32, url: &str, now: Instant) {
        match self.plan.number.fallback_url.clone() {
            Some(fallback) if !self.fallback_tried => {
                self.fallback_tried = true;
                let mut form = self.plan.parties.voice(self.status);
                form.push(("ErrorCode".to_owned(), code.to_string()));
                form.push(("ErrorUrl".to_owned(), url.to_owned()));
                self.verbs.clear();
                self.ask(fallback, form, now);
            }
            _ => self.end(Ending::ApplicationError(code), now),
        }
    }
}

/// `loop`: zero means until the caller hangs up, which Twilio cuts at a thousand times.
pub(super) fn repeats(times: u32) -> u32 {
    if times == 0 { 1000 } else { times.min(1000) }
}
