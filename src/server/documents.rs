//! What the desk decided, as the TwiML that Twilio runs: every URL absolute, on the box's public host, over TLS.

use std::{sync::Arc, time::Duration};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::prompts::{Prompt, Prompts};
use crate::{
    calls::{Answer, PromptForm},
    config,
    limits::REST_TWIML_CHARS_MAX,
    twilio::twiml::{ConnectStream, Record, Twiml},
};

/// The path of the media sockets; the same with a final slash is served too.
pub const MEDIA_PATH: &str = "/ws/twilio-media";
/// Where prompts are served, up to their name.
pub const PROMPTS_PATH: &str = "/static/tts/";

/// The prompts' only language.
const LANGUAGE: &str = "he-IL";
/// What may not stand in a path's segment as it is (RFC 3986 §3.3).
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Writes documents; the same for the life of the box.
#[derive(Debug, Clone)]
pub struct Documents {
    prompts: Arc<Prompts>,
    say_voice: String,
    record_timeout_s: u32,
    record_max_length_s: u32,
    play_beep: bool,
}

impl Documents {
    pub fn new(prompts: Arc<Prompts>, calls: &config::Calls, fallback: &config::Fallback) -> Self {
        Self {
            prompts,
            say_voice: calls.say_voice.clone(),
            // To Twilio 0 seconds of silence mean "never", and a length must be above 1.
            record_timeout_s: whole_seconds(fallback.timeout).max(1),
            record_max_length_s: whole_seconds(fallback.max_length).max(2),
            play_beep: fallback.play_beep,
        }
    }

    /// The answer to a webhook that came in on `host`; `None`: 204, no document is expected.
    pub fn answer(&self, answer: &Answer, host: &str) -> Option<String> {
        let twiml = Twiml::new();
        let twiml = match answer {
            Answer::Stream { call_sid, token } => {
                self.prompt(twiml, &self.prompts.greeting, PromptForm::Play, host).connect_stream(ConnectStream {
                    action: &webhook(host, "stream_ended"),
                    url: &format!("wss://{host}{MEDIA_PATH}"),
                    status_callback: &webhook(host, "stream_status"),
                    parameters: &[("call_sid", call_sid.as_str()), ("token", &token.0)],
                })
            }
            Answer::Record(form) => self.record(*form, host),
            Answer::Goodbye(form) => self.prompt(twiml, &self.prompts.goodbye, *form, host).hangup(),
            Answer::NoMessage(form) => self.prompt(twiml, &self.prompts.no_message, *form, host).hangup(),
            Answer::Hangup => twiml.hangup(),
            Answer::Nothing => twiml,
            Answer::NoContent => return None,
        };
        Some(twiml.into_string())
    }

    /// The document that a live call is redirected to: prompt, `<Record>`, and what follows if nothing was recorded.
    /// Below Twilio's 4000 characters: texts too long for that are left away.
    pub fn redirect(&self, form: PromptForm, host: &str) -> String {
        let document = self.record(form, host).into_string();
        if document.chars().count() <= REST_TWIML_CHARS_MAX {
            return document;
        }
        tracing::warn!("the prompts' texts are too long for a redirect: sent without prompts");
        self.record(PromptForm::Bare, host).into_string()
    }

    /// A prompt stands before the `<Record>`, since what follows is reached only if Twilio had nothing to record.
    fn record(&self, form: PromptForm, host: &str) -> Twiml {
        let twiml = self.prompt(Twiml::new(), &self.prompts.fallback, form, host).record(Record {
            action: &webhook(host, "handle_recording"),
            recording_status_callback: &webhook(host, "recording_status"),
            timeout_s: self.record_timeout_s,
            max_length_s: self.record_max_length_s,
            play_beep: self.play_beep,
        });
        self.prompt(twiml, &self.prompts.no_message, form, host).hangup()
    }

    fn prompt(&self, twiml: Twiml, prompt: &Prompt, form: PromptForm, host: &str) -> Twiml {
        match (form, &prompt.name) {
            (PromptForm::Bare, _) => twiml,
            (PromptForm::Play, Some(name)) => {
                twiml.play(&format!("https://{host}{PROMPTS_PATH}{}", utf8_percent_encode(name, SEGMENT)))
            }
            (PromptForm::Play, None) | (PromptForm::Say, _) => twiml.say(LANGUAGE, &self.say_voice, &prompt.text),
        }
    }
}

fn webhook(host: &str, name: &str) -> String {
    format!("https://{host}/webhook/{name}")
}

/// Rounded up: a started second counts.
fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{calls::StreamToken, twilio::sid::CallSid};

    const HOST: &str = "gw.example.co.il:8443";

    fn documents(change: impl FnOnce(&mut config::Calls)) -> Documents {
        let mut calls = config::Calls::default();
        change(&mut calls);
        let prompts = Arc::new(Prompts::load(&calls).unwrap());
        Documents::new(prompts, &calls, &config::Fallback::default())
    }

    fn body(document: &str) -> &str {
        let body = document.strip_prefix(r#"<?xml version="1.0" encoding="UTF-8"?><Response>"#).unwrap();
        body.strip_suffix("</Response>").unwrap()
    }

    fn answer(answer: Answer) -> String {
        body(&documents(|_| {}).answer(&answer, HOST).unwrap()).to_owned()
    }

    #[test]
    fn a_streamed_call_is_greeted_and_connected_with_its_own_parameters() {
        let (call_sid, token) = (CallSid::from_number(1), StreamToken("abc".try_into().unwrap()));
        let expected = [
            "<Play>https://gw.example.co.il:8443/static/tts/greeting_he.mp3</Play>",
            r#"<Connect action="https://gw.example.co.il:8443/webhook/stream_ended" method="POST">"#,
            r#"<Stream url="wss://gw.example.co.il:8443/ws/twilio-media" "#,
            r#"statusCallback="https://gw.example.co.il:8443/webhook/stream_status" statusCallbackMethod="POST">"#,
            r#"<Parameter name="call_sid" value="CA00000000000000000000000000000001"/>"#,
            r#"<Parameter name="token" value="abc"/></Stream></Connect>"#,
        ];
        assert_eq!(answer(Answer::Stream { call_sid, token }), expected.concat());
    }

    #[test]
    fn the_recorder_comes_after_its_prompt_and_before_what_follows_silence() {
        let expected = [
            "<Play>https://gw.example.co.il:8443/static/tts/fallback_he.mp3</Play>",
            r#"<Record action="https://gw.example.co.il:8443/webhook/handle_recording" method="POST" "#,
            r#"recordingStatusCallback="https://gw.example.co.il:8443/webhook/recording_status" "#,
            r#"recordingStatusCallbackMethod="POST" recordingStatusCallbackEvent="in-progress completed absent" "#,
            r##"timeout="4" maxLength="30" finishOnKey="#" playBeep="false" trim="do-not-trim"/>"##,
            "<Play>https://gw.example.co.il:8443/static/tts/no_message_he.mp3</Play><Hangup/>",
        ];
        assert_eq!(answer(Answer::Record(PromptForm::Play)), expected.concat());
        assert_eq!(body(&documents(|_| {}).redirect(PromptForm::Play, HOST)), expected.concat());
    }

    #[test]
    fn the_ends_of_a_call_are_polite_short_or_empty() {
        let play = |name| format!("<Play>https://gw.example.co.il:8443/static/tts/{name}_he.mp3</Play><Hangup/>");
        assert_eq!(answer(Answer::Goodbye(PromptForm::Play)), play("goodbye"));
        assert_eq!(answer(Answer::NoMessage(PromptForm::Play)), play("no_message"));
        assert_eq!(answer(Answer::Hangup), "<Hangup/>");
        assert_eq!(answer(Answer::Nothing), "");
        assert_eq!(documents(|_| {}).answer(&Answer::NoContent, HOST), None);
    }

    #[test]
    fn a_redirect_speaks_its_texts_or_nothing_at_all() {
        let documents = documents(|_| {});
        let spoken = documents.redirect(PromptForm::Say, HOST);
        assert!(!spoken.contains("<Play>"), "nothing has to be fetched: {spoken}");
        assert_eq!(spoken.matches(r#"<Say language="he-IL" voice="Google.he-IL-Wavenet-A">"#).count(), 2);
        let bare = documents.redirect(PromptForm::Bare, HOST);
        assert!(body(&bare).starts_with("<Record ") && bare.ends_with("/><Hangup/></Response>"), "{bare}");
    }

    #[test]
    fn a_prompt_given_as_text_is_spoken_also_where_others_are_played() {
        let spoken = documents(|calls| calls.goodbye_prompt = "say:תודה & שלום".into());
        let document = spoken.answer(&Answer::Goodbye(PromptForm::Play), HOST).unwrap();
        assert!(document.contains(">תודה &amp; שלום</Say><Hangup/>"), "{document}");
    }

    #[test]
    fn a_redirect_stays_below_twilios_limit_whatever_the_texts() {
        let long = documents(|calls| calls.fallback_prompt = format!("say:{}", "מ".repeat(5000)));
        let document = long.redirect(PromptForm::Say, &"h".repeat(crate::limits::HOST_BYTES_MAX));
        assert!(document.chars().count() <= REST_TWIML_CHARS_MAX && document.contains("<Record "));
    }

    #[test]
    fn a_redirect_names_only_absolute_urls_on_the_public_host() {
        let documents = documents(|_| {});
        for form in [PromptForm::Play, PromptForm::Say, PromptForm::Bare] {
            let document = documents.redirect(form, HOST);
            let attributes = ["action=\"", "recordingStatusCallback=\"", "<Play>"];
            let urls = attributes.iter().flat_map(|begin| document.split(begin).skip(1));
            let urls: Vec<&str> = urls.filter_map(|rest| rest.split(['"', '<']).next()).collect();
            assert_eq!(urls.len(), if form == PromptForm::Play { 4 } else { 2 }, "{document}");
            assert!(urls.iter().all(|url| url.starts_with(&format!("https://{HOST}/"))), "{urls:?}");
        }
    }

    #[test]
    fn answers_of_a_box_that_drains_have_nothing_to_be_fetched() {
        let say = PromptForm::Say;
        for spoken in [Answer::Record(say), Answer::Goodbye(say), Answer::NoMessage(say)] {
            let document = answer(spoken);
            assert!(document.contains("<Say ") && !document.contains("<Play>"), "{document}");
        }
    }

    #[test]
    fn seconds_are_rounded_up_to_what_twilio_takes() {
        assert_eq!(whole_seconds(Duration::from_millis(200)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(4)), 4);
        assert_eq!(whole_seconds(Duration::from_millis(4001)), 5);
        let short = config::Fallback { timeout: Duration::ZERO, max_length: Duration::ZERO, ..Default::default() };
        let calls = config::Calls::default();
        let documents = Documents::new(Arc::new(Prompts::load(&calls).unwrap()), &calls, &short);
        assert!(documents.redirect(PromptForm::Bare, HOST).contains(r#"timeout="1" maxLength="2""#));
    }
}
