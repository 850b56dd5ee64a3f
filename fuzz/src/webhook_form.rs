//! Webhook forms: the first line is what follows `/webhook/` in the path, the rest a body as it is posted.

use kolbox::{
    calls::{Event, RequestId, StreamToken},
    limits::{FORM_PAIRS_MAX, PARTY_BYTES_MAX},
    server::webhooks::{self, News, Question, Webhook},
    twilio::{
        sid::AccountSid,
        webhook::{self, Form, FormError},
    },
};

use super::text::first_line;

const REQUEST: RequestId = RequestId(7);

pub fn run(data: &[u8]) {
    let (name, body) = first_line(data);
    let form = Form::parse(body);
    check_form(&form, body);
    check_facts(&form);
    if let Some(webhook) = std::str::from_utf8(name).ok().and_then(|name| Webhook::at(&format!("/webhook/{name}"))) {
        check_webhook(webhook, &form);
    }
}

/// Bounded by the body and the limit, and the same after writing and reading it once more.
fn check_form(form: &Form, body: &[u8]) {
    assert!(form.pairs().count() <= FORM_PAIRS_MAX);
    let bytes: usize = form.pairs().map(|(name, value)| name.len() + value.len()).sum();
    // One bad byte becomes U+FFFD, of three.
    assert!(bytes <= 3 * body.len());
    assert_eq!(&Form::parse(form.encode().as_bytes()), form, "written and read again");
    for (name, _) in form.pairs().take(8) {
        assert_eq!(form.first(name), form.pairs().find(|(other, _)| *other == name).map(|(_, value)| value));
    }
}

fn check_facts(form: &Form) {
    let named = form.first("CallSid");
    match webhook::facts(form) {
        Ok(facts) => assert_eq!(Some(facts.call_sid.as_str()), named),
        Err(FormError::CallSidMissing) => assert_eq!(named, None),
        Err(FormError::CallSidMalformed) => assert!(named.is_some()),
    }
    let end = webhook::record_end(form);
    assert_eq!(end.hung_up, form.first("Digits") == Some("hangup"));
    if let Some(report) = webhook::recording_report(form) {
        assert_eq!(form.first("RecordingStatus"), Some(report.status.as_str()));
        assert_eq!((report.recording_sid, report.duration_s), (end.recording_sid, end.duration_s));
    }
    if let Some(report) = webhook::stream_report(form) {
        assert_eq!(form.first("StreamEvent"), Some(report.event.as_str()));
    }
}

/// What a route makes of a form: only about the call that the form names, and only of our account.
fn check_webhook(webhook: Webhook, form: &Form) {
    let ours = AccountSid::from_number(0xaa);
    let Ok(facts) = webhooks::facts(form, Some(&ours)) else { return };
    assert!(form.first("AccountSid").is_none_or(|named| named == ours.as_str()), "another account's");
    assert_eq!(form.first("CallSid"), Some(facts.call_sid.as_str()));
    assert!([&facts.from, &facts.to].iter().all(|party| party.whole().len() <= PARTY_BYTES_MAX));
    let call_sid = facts.call_sid;
    let announced = webhook.announcement(call_sid, form);
    assert!(announced.is_none_or(|announced| announced.call_sid == call_sid));
    let event = match webhook {
        Webhook::Asks(question) => {
            let token = StreamToken("t".try_into().expect("one character fits"));
            Some(question.event(REQUEST, facts.clone(), form, token))
        }
        Webhook::Tells(news) => news.event(facts.clone(), form),
    };
    // What the desk is told of a recording, those who collect recordings are told too.
    let told = match (webhook, event) {
        (Webhook::Asks(Question::HandleRecording), Some(Event::RecordEnded { recording, facts: told, .. })) => {
            assert_eq!(told, facts);
            recording
        }
        (Webhook::Tells(News::RecordingStatus), Some(Event::RecordingStatusReported { recording, status, .. })) => {
            assert_eq!(announced.map(|announced| announced.status), Some(status));
            recording
        }
        (_, _) => return assert_eq!(announced, None),
    };
    assert_eq!(announced.and_then(|announced| announced.recording_sid), told);
}
