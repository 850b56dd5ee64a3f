//! What the desk and the keeper want of others: REST requests to Twilio, and records to keep. One task an errand.

use std::{convert::Infallible, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use crate::{
    calls::{Answer, AttemptId, EndedCall, Event, PromptForm},
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
    /// Held by each running errand: the other end is closed when the last is done.
    pub running: mpsc::Sender<Infallible>,
}

/// Twilio's REST API with our account. Without one every request is answered as if the credentials were refused.
#[derive(Clone)]
pub(super) struct TwilioApi {
    pub rest: Arc<RestClient>,
    pub account_sid: Option<AccountSid>,
}

impl Errands {
    /// Sends a live call to the recorder, and tells the desk what became of it.
    pub(super) fn redirect(self: &Arc<Self>, attempt: AttemptId, call_sid: CallSid, prompt: PromptForm) {
        let errands = self.clone();
        self.run(async move {
            // Every call came in by a webhook, and that named a host.
            let outcome = match errands.public_host.known() {
                Some(host) => errands.twilio.redirect(call_sid, errands.documents.redirect(prompt, &host)).await,
                None => UpdateOutcome::Unavailable,
            };
            errands.desk.tell(Event::RedirectAnswered { attempt, outcome }).await;
        });
    }

    /// Asks Twilio about a call, and tells the desk.
    pub(super) fn look_up(self: &Arc<Self>, attempt: AttemptId, call_sid: CallSid, recordings: bool) {
        let errands = self.clone();
        self.run(async move {
            let outcome = errands.twilio.look_up(call_sid, recordings).await.unwrap_or_else(|failure| failure);
            errands.desk.tell(Event::CallLookedUp { attempt, outcome }).await;
        });
    }

    /// Keeps an ended call's record; a webhook that waits for it is answered once it is on disk, and 503 if it is not.
    pub(super) fn keep(self: &Arc<Self>, ended: Box<EndedCall>, reply: Option<oneshot::Sender<Answer>>) {
        let errands = self.clone();
        self.run(async move {
            match (errands.keeper.keep(*ended).await, reply) {
                (Ok(()), Some(reply)) => drop(reply.send(Answer::NoContent)),
                (Ok(()), None) => {}
                (Err(error), _) => tracing::error!(%error, "a record is not safe"),
            }
        });
    }

    fn run(&self, errand: impl Future<Output = ()> + Send + 'static) {
        let running = self.running.clone();
        tokio::spawn(async move {
            errand.await;
            drop(running);
        });
    }
}

impl TwilioApi {
    async fn redirect(&self, call_sid: CallSid, twiml: String) -> UpdateOutcome {
        let Some(account_sid) = &self.account_sid else { return UpdateOutcome::Unauthorized };
        read_update(&self.rest.send(RestRequest::redirect(account_sid, &call_sid, twiml)).await)
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
    pub(super) async fn serve(self, mut errands: mpsc::Receiver<Errand>) {
        while let Some(errand) = errands.recv().await {
            let this = self.clone();
            tokio::spawn(async move {
                match errand {
                    Errand::FetchRecording { recording_sid, reply } => {
                        drop(reply.send(this.fetch(recording_sid).await))
                    }
                    Errand::ListRecordings { call_sid, reply } => drop(reply.send(this.list(call_sid).await)),
                }
            });
        }
    }
}
