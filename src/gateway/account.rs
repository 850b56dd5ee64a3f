//! What the housekeeper asks of Twilio about the whole account: its recordings, its calls, its numbers.

use jiff::Timestamp;

use super::errands::TwilioApi;
use crate::{
    limits::NUMBERS_PAGES_MAX,
    transcripts::AccountList,
    twilio::{
        account::read_numbers,
        recording_list::{CallDetails, NextPage, read_call_details, read_page},
        rest::{CallLookup, RestFailure, RestReply, RestRequest, read_call},
        sid::{CallSid, RecordingSid},
    },
};

impl TwilioApi {
    pub(super) async fn list_account(&self, since: Timestamp, next: Option<NextPage>) -> AccountList {
        let Some(account_sid) = &self.account_sid else { return AccountList::default() };
        let request = match &next {
            Some(next) => RestRequest::next_recordings(next),
            None => RestRequest::list_recordings(account_sid, since),
        };
        let Ok(reply) = self.rest.exchange(request).await else { return AccountList::default() };
        let time = reply.date();
        AccountList { page: read_page(account_sid, &reply.into()), time }
    }

    pub(super) async fn fetch_call(&self, call_sid: CallSid) -> Result<CallDetails, CallLookup> {
        let account_sid = self.account_sid.as_ref().ok_or(CallLookup::Unauthorized)?;
        let answer = self.rest.send(RestRequest::fetch_call(account_sid, &call_sid)).await;
        // Whether there is a call at all is judged as ever.
        read_call(&answer)?;
        answer.ok().and_then(|reply| read_call_details(&reply)).ok_or(CallLookup::Unavailable)
    }

    /// The numbers whose voice URL leads to `host`. Without a host none is known to.
    pub(super) async fn own_numbers(&self, host: Option<&str>) -> Option<Vec<String>> {
        let account_sid = self.account_sid.as_ref()?;
        let Some(host) = host else { return Some(Vec::new()) };
        let (mut request, mut own) = (Some(RestRequest::list_numbers(account_sid)), Vec::new());
        for _ in 0..NUMBERS_PAGES_MAX {
            let Some(asked) = request.take() else { break };
            let reply = self.rest.send(asked).await.ok().filter(|reply| reply.status == 200)?;
            let page = read_numbers(account_sid, &reply)?;
            own.extend(
                page.numbers.into_iter().filter(|number| number.leads_to(host)).map(|number| number.phone_number),
            );
            request = page.next;
        }
        Some(own)
    }

    pub(super) async fn delete(&self, recording_sid: RecordingSid) -> Result<RestReply, RestFailure> {
        let account_sid = self.account_sid.as_ref().ok_or(RestFailure::Connect)?;
        self.rest.send(RestRequest::delete_recording(account_sid, &recording_sid)).await
    }
}
