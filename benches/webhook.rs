//! A signed `incoming_call` from its bytes to its TwiML, beside the least that any checked webhook costs.
//!
//! The box's way: the form read, the forms of the public URL made, the signature checked, the call's facts taken, a token
//! made, a slot given by the desk, the answer written as TwiML. The other way: the form read and sorted, one HMAC. What
//! HTTP and TLS cost is the same for both and not in it, nor is the call's end, which frees its slot.

use std::{
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use kolbox::{
    calls::{Answer, Desk, Event, Output, Pulses, RequestId, StreamToken},
    config::Config,
    gateway::desk_options,
    limits::CALLS_MAX,
    server::{
        documents::Documents,
        prompts::Prompts,
        webhooks::{Question, facts},
    },
    twilio::{
        sid::{AccountSid, CallSid},
        signature::{Body, Scheme, UrlParts, sign, verify},
        webhook::Form,
    },
};
use paired::Timed;
use sha1::Sha1;

#[allow(dead_code)]
#[path = "support/paired.rs"]
mod paired;
#[allow(dead_code)]
#[path = "support/process.rs"]
mod process;

const ROUNDS: u32 = 31;
/// One call for each.
const WEBHOOKS: u32 = 2_000;
const RATIO_MAX: f64 = 2.0;
/// Nobody looks at it here.
const REQUEST: RequestId = RequestId(1);
const HOST: &str = "gw.example.co.il";
const TARGET: &str = "/webhook/incoming_call";
const URL: &str = "https://gw.example.co.il/webhook/incoming_call";
const TOKEN: &str = "c0ffeec0ffeec0ffeec0ffeec0ffee00";

struct Webhook {
    body: String,
    signature: String,
    last: Form,
}

fn main() -> ExitCode {
    let config = Config::default();
    let prompts = Arc::new(Prompts::load(&config.calls).expect("the built-in prompts"));
    let documents = Documents::new(prompts.clone(), &config.calls, &config.fallback);
    let now = Instant::now();
    let mut desk = Desk::new(desk_options(&config, &prompts), Pulses::new(now));
    let account = AccountSid::from_number(1);
    let webhooks: Vec<_> = (1..=WEBHOOKS).map(|number| webhook(&account, u128::from(number))).collect();

    let (mut ours, mut plain) = (Timed::default(), Timed::default());
    for _ in 0..ROUNDS {
        let mut took = Duration::ZERO;
        // As many as there are slots; their calls' ends are not timed.
        for batch in webhooks.chunks(CALLS_MAX) {
            took += paired::time(batch.len() as u32, |turn| {
                let webhook = &batch[turn as usize];
                let form = Form::parse(black_box(webhook.body.as_bytes()));
                let forms = UrlParts { scheme: Scheme::Https, host: HOST, target: TARGET }.forms();
                assert!(verify(&[TOKEN, ""], forms.urls(), Body::Form(&form), &webhook.signature).is_some());
                let known = facts(&form, Some(&account)).expect("a sound form");
                desk.handle(Question::IncomingCall.event(REQUEST, known, &form, fresh_token()), now);
                let answer = answer_of(&mut desk).expect("an answer");
                black_box(documents.answer(&answer, HOST));
            });
            for webhook in batch {
                let ended = facts(&webhook.last, Some(&account)).expect("a sound form");
                desk.handle(Event::CallStatusReported { request: REQUEST, facts: ended }, now);
                while desk.poll_output().is_some() {}
            }
        }
        ours.add(took, WEBHOOKS);
        plain.add(paired::time(WEBHOOKS, |turn| plain_check(&webhooks[turn as usize])), WEBHOOKS);
    }
    let is_fast = paired::tell(
        ("a signed webhook as the box answers it, from its bytes to TwiML", &ours),
        ("form parse, sort, and one HMAC", &plain),
        RATIO_MAX,
    );
    if is_fast { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// As the router makes it.
fn fresh_token() -> StreamToken {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("random bytes");
    StreamToken(BASE64_URL_SAFE_NO_PAD.encode(bytes).as_str().try_into().expect("22 characters"))
}

fn answer_of(desk: &mut Desk) -> Option<Answer> {
    let mut answered = None;
    while let Some(output) = desk.poll_output() {
        if let Output::Answer { answer, .. } = output {
            answered = Some(answer);
        }
    }
    assert!(matches!(answered, Some(Answer::Stream { .. })), "every call has a slot");
    answered
}

/// What Twilio's libraries do.
fn plain_check(webhook: &Webhook) {
    let mut pairs: Vec<(String, String)> =
        form_urlencoded::parse(black_box(webhook.body.as_bytes())).into_owned().collect();
    pairs.sort();
    let mut mac = Hmac::<Sha1>::new_from_slice(TOKEN.as_bytes()).expect("a key");
    mac.update(URL.as_bytes());
    for (name, value) in &pairs {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    let signature = BASE64_STANDARD.decode(&webhook.signature).expect("base64");
    assert!(mac.verify_slice(&signature).is_ok());
}

/// The fields of a real one (docs: TwiML Voice, "Request parameters").
fn webhook(account: &AccountSid, number: u128) -> Webhook {
    let call_sid = CallSid::from_number(number);
    let form = |status: &str| {
        Form::from_pairs([
            ("AccountSid", account.as_str()),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", call_sid.as_str()),
            ("CallStatus", status),
            ("CallToken", "%7B%22parentCallInfoToken%22%3A%22eyJhbGciOiJFUzI1NiJ9.eyJjYWxsU2lkIjoiQ0EifQ%22%7D"),
            ("Called", "+97231234567"),
            ("CalledCity", ""),
            ("CalledCountry", "IL"),
            ("CalledState", ""),
            ("CalledZip", ""),
            ("Caller", "+972501234567"),
            ("CallerCity", ""),
            ("CallerCountry", "IL"),
            ("CallerState", ""),
            ("CallerZip", ""),
            ("Direction", "inbound"),
            ("From", "+972501234567"),
            ("FromCity", ""),
            ("FromCountry", "IL"),
            ("FromState", ""),
            ("FromZip", ""),
            ("StirVerstat", "TN-Validation-Passed-A"),
            ("To", "+97231234567"),
            ("ToCity", ""),
            ("ToCountry", "IL"),
            ("ToState", ""),
            ("ToZip", ""),
        ])
    };
    let first = form("ringing");
    Webhook { body: first.encode(), signature: sign(TOKEN, URL, Some(&first)), last: form("completed") }
}
