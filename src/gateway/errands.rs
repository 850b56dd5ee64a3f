//! What the desk and the keeper want of others: REST requests to Twilio, and records to keep. One task an errand.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    calls::{Answer, AttemptId, EndedCall, Event, LiveCall, PromptForm},
    limits::JOURNAL_WAIT_MAX,
    server::{desk_port::DeskPort, documents::Documents, public_host::PublicHost, rest_client::RestClient},
    transcripts::{Errand, KeeperPort},
    twilio::{
        rest::{
            CallLookup, ListedRecording, RestFailure, RestReply, RestRequest, UpdateOutcome, read_call,
            read_recordings, read_update,
        },
        sid::{AccountSid, CallSid, RecordingSid},
        webhook::RecordingStatus,
    },
};

/// Everything an errand needs. Errands are bounded by the calls that cause them.
pub(super) struct Errands {
    pub desk: DeskPort,
    pub twilio: TwilioApi,
    pub documents: Documents,
    pub public_host: Arc<PublicHost>,
    pub keeper: KeeperPort,
    pub keeping: Keeping,
    /// Held by each record on its way to the disk: the other end is closed when the last is there. What is asked of
    /// Twilio holds nothing up: a box that leaves does not wait for an answer that it has no use for.
    pub running: mpsc::Sender<Infallible>,
}

/// Records on their way to the disk, and the webhooks that are answered once they are there. Bounded by the connections
/// that the listener admits.
#[derive(Default)]
pub(super) struct Keeping(Mutex<HashMap<CallSid, Vec<oneshot::Sender<Answer>>>>);

/// Twilio's REST API with our account. Without one every request is answered as if the credentials were refused.
#[derive(Clone)]
pub(super) struct TwilioApi {
    pub rest: Arc<RestClient>,
    pub account_sid: Option<AccountSid>,
}

impl Errands {
    /// Notes a live call in the journal.
    pub(super) fn remember(&self, live: Box<LiveCall>) -> oneshot::Receiver<()> {
        self.keeper.remember(live, self.public_host.known())
    }

    /// Sends a live call to the recorder once the journal has `noted` it, and tells the desk what became of it. A slow
    /// disk is not waited for longer than [`JOURNAL_WAIT_MAX`]: a caller is in silence. Once it is seen to be `taken` it is
    /// not repeated, whatever becomes of its answer: that would break off the caller's message and begin it anew.
    pub(super) fn redirect(
        &self,
        attempt: AttemptId,
        call_sid: CallSid,
        prompt: PromptForm,
        noted: Option<oneshot::Receiver<()>>,
        taken: oneshot::Receiver<()>,
    ) {
        let (desk, twilio, documents) = (self.desk.clone(), self.twilio.clone(), self.documents.clone());
        // Every call came in by a webhook, and that named a host, if only to the run before.
        let host = self.public_host.known();
        tokio::spawn(async move {
            if let Some(noted) = noted {
                let _ = timeout(JOURNAL_WAIT_MAX, noted).await;
            }
            let outcome = match host {
                Some(host) => twilio.redirect(call_sid, documents.redirect(prompt, &host), taken).await,
                None => UpdateOutcome::Unavailable,
            };
            desk.tell(Event::RedirectAnswered { attempt, outcome }).await;
        });
    }

    /// Asks Twilio about a call, and tells the desk.
    pub(super) fn look_up(&self, attempt: AttemptId, call_sid: CallSid, recordings: bool) {
        let (desk, twilio) = (self.desk.clone(), self.twilio.clone());
        tokio::spawn(async move {
            let outcome = twilio.look_up(call_sid, recordings).await.unwrap_or_else(|failure| failure);
            desk.tell(Event::CallLookedUp { attempt, outcome }).await;
        });
    }

    /// Keeps an ended call's record; webhooks that wait for it are answered once it is on disk, and 503 if it is not.
    pub(super) fn keep(self: &Arc<Self>, ended: Box<EndedCall>, reply: Option<oneshot::Sender<Answer>>) {
        let (errands, running, call_sid) = (self.clone(), self.running.clone(), ended.call_sid);
        self.keeping.begin(call_sid, reply);
        tokio::spawn(async move {
            let kept = errands.keeper.keep(*ended).await;
            let waiting = errands.keeping.end(call_sid);
            match kept {
                Ok(()) => waiting.into_iter().for_each(|reply| drop(reply.send(Answer::NoContent))),
                Err(error) => tracing::error!(%error, "a record is not safe"),
            }
            drop(running);
        });
    }

    /// Answers a webhook that says again what an earlier one said: together with that one.
    pub(super) fn answer_once_kept(&self, call_sid: CallSid, reply: oneshot::Sender<Answer>) {
        self.keeping.join(call_sid, reply);
    }
}

impl Keeping {
    fn begin(&self, call_sid: CallSid, reply: Option<oneshot::Sender<Answer>>) {
        self.lock().entry(call_sid).or_default().extend(reply);
    }

    fn end(&self, call_sid: CallSid) -> Vec<oneshot::Sender<Answer>> {
        self.lock().remove(&call_sid).unwrap_or_default()
    }

    fn join(&self, call_sid: CallSid, reply: oneshot::Sender<Answer>) {
        match self.lock().get_mut(&call_sid) {
            Some(waiting) => waiting.push(reply),
            None => drop(reply.send(Answer::NoContent)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CallSid, Vec<oneshot::Sender<Answer>>>> {
        // No code that holds it can panic half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TwilioApi {
    async fn redirect(&self, call_sid: CallSid, twiml: String, taken: oneshot::Receiver<()>) -> UpdateOutcome {
        let Some(account_sid) = &self.account_sid else { return UpdateOutcome::Unauthorized };
        let request = RestRequest::redirect(account_sid, &call_sid, twiml);
        // A desk that is gone wants nothing repeated either.
        let moot = async { _ = taken.await };
        read_update(&self.rest.send_unless_moot(request, moot).await)
    }

    async fn look_up(&self, call_sid: CallSid, recordings: bool) -> Result<CallLookup, CallLookup> {
        let account_sid = self.account_sid.as_ref().ok_or(CallLookup::Unauthorized)?;
        let status = read_call(&self.rest.send(RestRequest::fetch_call(account_sid, &call_sid)).await)?;
        if status.is_final() || !recordings {
            return Ok(CallLookup::Found { status, has_recording: false });
        }
        let taken = |recording: &ListedRecording| {
            matches!(recording.status, RecordingStatus::InProgress | RecordingStatus::Completed)
        };
        Ok(CallLookup::Found { status, has_recording: self.list(call_sid).await?.iter().any(taken) })
    }

    async fn list(&self, call_sid: CallSid) -> Result<Vec<ListedRecording>, CallLookup> {
        let account_sid = self.account_sid.as_ref().ok_or(CallLookup::Unauthorized)?;
        read_recordings(&self.rest.send(RestRequest::list_call_recordings(account_sid, &call_sid)).await)
    }

    async fn fetch(&self, recording_sid: RecordingSid) -> Result<RestReply, RestFailure> {
        let account_sid = self.account_sid.as_ref().ok_or(RestFailure::Connect)?;
        self.rest.send(RestRequest::recording_media(account_sid, &recording_sid)).await
    }

    /// Serves the keeper's errands until it is gone. A keeper that has stopped waiting for an answer needs none.
    pub(super) async fn serve(self, mut errands: mpsc::Receiver<Errand>, public_host: Arc<PublicHost>) {
        while let Some(errand) = errands.recv().await {
            let (this, host) = (self.clone(), public_host.known());
            tokio::spawn(async move {
                match errand {
                    Errand::FetchRecording { recording_sid, reply } => {
                        drop(reply.send(this.fetch(recording_sid).await))
                    }
                    Errand::ListRecordings { call_sid, reply } => drop(reply.send(this.list(call_sid).await)),
                    Errand::ListAccount { since, next, reply } => {
                        drop(reply.send(this.list_account(since, next).await))
                    }
                    Errand::FetchCall { call_sid, reply } => drop(reply.send(this.fetch_call(call_sid).await)),
                    Errand::ListNumbers { reply } => drop(reply.send(this.own_numbers(host.as_deref()).await)),
                    Errand::DeleteRecording { recording_sid, reply } => {
                        drop(reply.send(this.delete(recording_sid).await))
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_that_comes_again_is_answered_with_the_first_and_after_that_at_once() {
        let (keeping, call_sid) = (Keeping::default(), CallSid::from_number(1));
        let (first, mut first_answer) = oneshot::channel();
        let (again, mut again_answer) = oneshot::channel();
        keeping.begin(call_sid, Some(first));
        keeping.join(call_sid, again);
        assert!(first_answer.try_recv().is_err() && again_answer.try_recv().is_err(), "nothing is on the disk yet");
        for reply in keeping.end(call_sid) {
            reply.send(Answer::NoContent).unwrap();
        }
        assert_eq!((first_answer.try_recv(), again_answer.try_recv()), (Ok(Answer::NoContent), Ok(Answer::NoContent)));
        let (late, mut late_answer) = oneshot::channel();
        keeping.join(call_sid, late);
        assert_eq!(late_answer.try_recv(), Ok(Answer::NoContent));
    }

    #[test]
    fn a_webhook_that_comes_again_fails_with_the_first() {
        let (keeping, call_sid) = (Keeping::default(), CallSid::from_number(1));
        let (again, mut again_answer) = oneshot::channel();
        keeping.begin(call_sid, None);
        keeping.join(call_sid, again);
        drop(keeping.end(call_sid));
        assert_eq!(again_answer.try_recv(), Err(oneshot::error::TryRecvError::Closed), "503");
    }
}
