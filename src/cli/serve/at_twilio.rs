//! What has to be entered at Twilio for a number: the voice URL, what takes its place when the box is dead, and the
//! status callback.

use crate::config::Public;

/// Stands for the public name where none is set.
const NO_NAME: &str = "PUBLIC-NAME";

/// Tries after the first one (`rc`).
const RETRIES: u32 = 2;
/// For the TCP connection and TLS, in milliseconds (`ct`): one lost packet is sent again after a second.
const CONNECT_MS: u32 = 1_500;
/// For the first byte of the answer, in milliseconds (`rt`): the box answers a call within some.
const READ_MS: u32 = 3_000;
/// What Twilio takes for a call's webhook altogether, in milliseconds; no override lengthens it.
const TWILIO_TOTAL_MS: u32 = 15_000;

// Every try must have failed before Twilio gives up: only then the caller still gets to "Primary handler fails".
const _: () = assert!((RETRIES + 1) * (CONNECT_MS + READ_MS) < TWILIO_TOTAL_MS);

/// Connection overrides (<https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>). A caller listens to
/// nothing while Twilio waits, and its defaults are one more try, 5 s to connect and 15 s for the answer: a box that
/// accepts and says nothing would use up the whole time. Tried again is what another try may mend: no connection, no
/// answer, a proxy's 5xx while the box starts; not 4xx, which would be the same again. A call that is announced twice
/// gets the same answer and takes one slot.
///
/// Twilio keeps a fragment to itself: it reaches no server and is not signed.
fn overrides() -> String {
    format!("#rc={RETRIES}&ct={CONNECT_MS}&rt={READ_MS}&rp=ct,rt,5xx")
}

/// What is entered under "A call comes in".
pub fn voice_url(host: &str) -> String {
    format!("https://{host}/webhook/incoming_call{}", overrides())
}

/// What is entered under "Call status changes".
pub fn status_callback(host: &str) -> String {
    format!("https://{host}/webhook/call_status")
}

/// The values of all fields, for people.
pub(super) fn entries(public: &Public) -> String {
    let host = public.host.as_deref().unwrap_or(NO_NAME);
    let (voice_url, status_callback) = (voice_url(host), status_callback(host));
    let seconds = (RETRIES + 1) * (CONNECT_MS + READ_MS) / 1_000;
    format!(
        "Enter at Twilio, for each number (Phone Numbers > Active numbers > the number > Voice):\n\
         \x20 A call comes in        Webhook, HTTP POST  {voice_url}\n\
         \x20 Primary handler fails  TwiML Bin           takes a message without the box: a dead box must not be a dead \
         line\n\
         \x20 Call status changes    HTTP POST           {status_callback}\n\
         From # on it is for Twilio alone: {RETRIES} more tries, and after {seconds} s at most the TwiML Bin.\n\
         `kolbox serve --help` has the TwiML Bin, to be pasted. This box listens on {}.\n",
        public.listen
    )
}

/// The TwiML Bin that ends a call after its message.
pub(super) const GOODBYE_BIN: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Response>
  <Say language="he-IL" voice="Google.he-IL-Wavenet-A">תודה. ההודעה התקבלה, ונחזור אליכם בהקדם. להתראות.</Say>
  <Hangup/>
</Response>
"#;

/// The TwiML Bin for "Primary handler fails". Its `action` is the other one: without an `action` Twilio would play this
/// document again and again.
pub(super) const MESSAGE_BIN: &str = r##"<?xml version="1.0" encoding="UTF-8"?>
<Response>
  <Say language="he-IL" voice="Google.he-IL-Wavenet-A">כרגע איננו יכולים לענות. אנא השאירו הודעה אחרי הצליל, ונחזור אליכם בהקדם.</Say>
  <Record action="https://handler.twilio.com/twiml/GOODBYE-BIN" method="POST"
          recordingStatusCallback="https://gw.example.co.il/webhook/recording_status"
          recordingStatusCallbackEvent="in-progress completed absent"
          timeout="4" maxLength="120" finishOnKey="#" playBeep="true" trim="do-not-trim"/>
  <Say language="he-IL" voice="Google.he-IL-Wavenet-A">לא שמענו הודעה. אנא התקשרו שוב. להתראות.</Say>
  <Hangup/>
</Response>
"##;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twilio::{
        signature::{Body, Scheme, UrlForms, sign, verify},
        webhook::Form,
    };

    const README: &str = include_str!("../../../README.md");

    #[test]
    fn the_values_to_enter_stand_on_the_public_name() {
        let public = Public { host: Some("gw.example.co.il:8443".to_owned()), ..Public::default() };
        let text = entries(&public);
        for part in [
            " https://gw.example.co.il:8443/webhook/incoming_call#rc=2&ct=1500&rt=3000&rp=ct,rt,5xx\n",
            " https://gw.example.co.il:8443/webhook/call_status\n",
            "listens on 0.0.0.0:8443",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(entries(&Public::default()).contains("https://PUBLIC-NAME/webhook/incoming_call#"));
    }

    /// As Twilio's documentation of the overrides gives their names and ranges.
    #[test]
    fn the_overrides_are_such_as_twilio_reads() {
        let url = url::Url::parse(&voice_url("gw.example.co.il")).unwrap();
        let overrides: Vec<_> = url.fragment().unwrap().split('&').map(|part| part.split_once('=').unwrap()).collect();
        for (name, value) in &overrides {
            let number = || value.parse::<u32>().unwrap();
            assert!(match *name {
                "rc" => number() <= 5,
                "ct" => (100..=10_000).contains(&number()),
                "rt" => (100..=15_000).contains(&number()),
                "rp" => value.split(',').all(|policy| ["4xx", "5xx", "ct", "rt", "all"].contains(&policy)),
                _ => false,
            });
        }
        assert_eq!(overrides.len(), 4);
        assert_eq!((url.path(), url.query()), ("/webhook/incoming_call", None));
    }

    #[test]
    fn a_signature_over_the_voice_url_without_its_fragment_is_valid() {
        let entered = voice_url("gw.example.co.il");
        let form = Form::parse(b"CallSid=CA00000000000000000000000000000001&CallStatus=ringing");
        let signed = entered.split('#').next().unwrap();
        let as_received = UrlForms::new(Scheme::Https, "gw.example.co.il", "/webhook/incoming_call");
        let is_valid = |url, forms: &UrlForms| {
            verify(&["token"], forms.urls(), Body::Form(&form), &sign("token", url, Some(&form))).is_some()
        };
        assert!(is_valid(signed, &as_received));
        assert!(!is_valid(&entered, &as_received), "nothing is gained by signing what never arrives");
        assert!(
            is_valid(signed, &UrlForms::of_url(&entered).unwrap()),
            "a URL pasted from Twilio's console is explained"
        );
    }

    #[test]
    fn the_readme_has_the_same_to_paste() {
        for part in [GOODBYE_BIN, MESSAGE_BIN] {
            assert!(README.contains(part), "{part}");
        }
        assert!(README.contains(&voice_url("gw.example.co.il")));
        assert!(README.contains(&status_callback("gw.example.co.il")));
    }

    #[test]
    fn the_bins_are_whole_xml() {
        for bin in [GOODBYE_BIN, MESSAGE_BIN] {
            let opened = bin.matches("<Say").count() + bin.matches("<Response>").count();
            assert_eq!(opened, bin.matches("</").count(), "{bin}");
            assert!(bin.is_ascii() || bin.contains("language=\"he-IL\""));
        }
    }
}
