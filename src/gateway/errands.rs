//! What the desk and the keeper want of others: REST requests to Twilio, and records to keep. One task an errand.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::sites::Sites;
use crate::{
    calls::{Answer, AttemptId, EndedCall, Event, PromptForm},
    server::{desk_port::DeskPort, rest_client::RestClient},
    transcripts::keeper::KeeperPort,
    twilio::{
        rest::{CallLookup, RestRequest, UpdateOutcome, read_call, read_recordings, read_update},
        sid::{AccountSid, CallSid},
        webhook::RecordingStatus,
    },
};

/// Everything an errand needs.
pub(super) struct Errands {
    pub desk: DeskPort,
    pub rest: RestClient,
    /// Without an account nothing can be asked of Twilio: every errand there is answered with 401.
    pub account_sid: Option<AccountSid>,
    pub sites: Sites,
    pub keeper: KeeperPort,
}

impl Errands {
    /// Sends a live call to the recorder, and tells the desk what became of it.
    pub(super) fn redirect(self: &Arc<Self>, attempt: AttemptId, call_sid: CallSid, prompt: PromptForm) {
        let this = self.clone();
        tokio::spawn(async move {
            let outcome = this.update(call_sid, prompt).await;
            this.desk.tell(Event::RedirectAnswered { attempt, outcome }).await;
        });
    }

    async fn update(&self, call_sid: CallSid, prompt: PromptForm) -> UpdateOutcome {
        let Some(account_sid) = &self.account_sid else { return UpdateOutcome::Unauthorized };
        // Every call came in by a webhook, and that named a host.
        let Some(twiml) = self.sites.redirect(prompt) else { return UpdateOutcome::Unavailable };
        read_update(&self.rest.send(RestRequest::redirect(account_sid, &call_sid, twiml)).await)
    }

    /// Asks Twilio about a call, and tells the desk.
    pub(super) fn look_up(self: &Arc<Self>, attempt: AttemptId, call_sid: CallSid, recordings: bool) {
        let this = self.clone();
        tokio::spawn(async move {
            let outcome = this.ask(call_sid, recordings).await.unwrap_or_else(|failure| failure);
            this.desk.tell(Event::CallLookedUp { attempt, outcome }).await;
        });
    }

    async fn ask(&self, call_sid: CallSid, recordings: bool) -> Result<CallLookup, CallLookup> {
        let account_sid = self.account_sid.as_ref().ok_or(CallLookup::Unauthorized)?;
        let status = read_call(&self.rest.send(RestRequest::fetch_call(account_sid, &call_sid)).await)?;
        if status.is_final() || !recordings {
            return Ok(CallLookup::Found { status, has_recording: false });
        }
        let listed = read_recordings(&self.rest.send(RestRequest::list_call_recordings(account_sid, &call_sid)).await)?;
        let has_recording = listed.iter().any(|recording| {
            matches!(recording.status, RecordingStatus::InProgress | RecordingStatus::Completed)
        });
        Ok(CallLookup::Found { status, has_recording })
    }

    /// Keeps an ended call's record; a webhook that waits for it is answered once it is on disk, and 503 if it is not.
    pub(super) fn keep(self: &Arc<Self>, ended: Box<EndedCall>, reply: Option<oneshot::Sender<Answer>>) {
        let this = self.clone();
        tokio::spawn(async move {
            match this.keeper.keep(*ended).await {
                Ok(()) => {
                    if let Some(reply) = reply {
                        let _ = reply.send(Answer::NoContent);
                    }
                }
                Err(error) => tracing::error!(%error, "a record could not be kept"),
            }
        });
    }
}
