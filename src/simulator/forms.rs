//! What a simulated Twilio writes into its webhooks. Pure.

use std::time::Duration;

use super::document::RecordVerb;
use crate::twilio::{
    sid::{AccountSid, CallSid, RecordingSid, StreamSid},
    webhook::{CallStatus, RecordingStatus},
};

/// A form: decoded names and values, in the order in which they are sent.
pub type Fields = Vec<(String, String)>;

/// Who calls whom, on whose account.
#[derive(Debug, Clone)]
pub struct Parties {
    pub account_sid: AccountSid,
    pub call_sid: CallSid,
    pub from: String,
    pub to: String,
}

impl Parties {
    /// What every voice webhook carries, empty geographic guesses among it.
    pub fn voice(&self, status: CallStatus) -> Fields {
        let mut fields = fields(&[
            ("AccountSid", self.account_sid.as_str()),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", self.call_sid.as_str()),
            ("CallStatus", status.as_str()),
            ("Direction", "inbound"),
            ("From", &self.from),
            ("To", &self.to),
            ("Caller", &self.from),
            ("Called", &self.to),
        ]);
        for party in ["From", "To", "Caller", "Called"] {
            for part in ["City", "State", "Zip"] {
                fields.push((format!("{party}{part}"), String::new()));
            }
            fields.push((format!("{party}Country"), "IL".to_owned()));
        }
        fields
    }

    /// The action of a `<Record>`. `pressed`: a key that ended it, or `hangup`.
    pub fn record_action(
        &self,
        status: CallStatus,
        recording_sid: RecordingSid,
        length: Duration,
        pressed: Option<&str>,
    ) -> Fields {
        let mut form = self.voice(status);
        form.extend(fields(&[
            ("RecordingSid", recording_sid.as_str()),
            ("RecordingUrl", &self.recording_url(recording_sid)),
            ("RecordingDuration", &whole_seconds(length)),
        ]));
        form.extend(pressed.map(|keys| ("Digits".to_owned(), keys.to_owned())));
        form
    }

    /// A recording's status callback. It names no parties: the receiver joins it by CallSid.
    pub fn recording_status(&self, recording_sid: RecordingSid, status: RecordingStatus, length: Duration) -> Fields {
        fields(&[
            ("AccountSid", self.account_sid.as_str()),
            ("CallSid", self.call_sid.as_str()),
            ("RecordingSid", recording_sid.as_str()),
            ("RecordingUrl", &self.recording_url(recording_sid)),
            ("RecordingStatus", status.as_str()),
            ("RecordingDuration", &whole_seconds(length)),
            ("RecordingChannels", "1"),
            ("RecordingSource", "RecordVerb"),
        ])
    }

    /// A stream's status callback. `error`: Twilio's text, for `stream-error` only.
    pub fn stream_status(
        &self,
        stream_sid: StreamSid,
        name: Option<&str>,
        event: &str,
        error: Option<&str>,
        timestamp: &str,
    ) -> Fields {
        let mut form = fields(&[
            ("AccountSid", self.account_sid.as_str()),
            ("CallSid", self.call_sid.as_str()),
            ("StreamSid", stream_sid.as_str()),
            ("StreamName", name.unwrap_or(stream_sid.as_str())),
            ("StreamEvent", event),
            ("Timestamp", timestamp),
        ]);
        form.extend(error.map(|text| ("StreamError".to_owned(), text.to_owned())));
        form
    }

    /// The number's status callback at the end of a call.
    pub fn call_status(&self, status: CallStatus, lasted: Duration, timestamp: &str) -> Fields {
        let mut form = self.voice(status);
        form.extend(fields(&[
            ("CallDuration", &whole_seconds(lasted)),
            ("Duration", &lasted.as_secs().div_ceil(60).to_string()),
            ("Timestamp", timestamp),
            ("CallbackSource", "call-progress-events"),
            ("SequenceNumber", "0"),
        ]));
        form
    }

    fn recording_url(&self, recording_sid: RecordingSid) -> String {
        format!("https://api.twilio.com/2010-04-01/Accounts/{}/Recordings/{recording_sid}", self.account_sid)
    }
}

impl RecordVerb {
    /// Whether its status callback was asked for this event.
    pub fn announces(&self, status: RecordingStatus) -> bool {
        match status {
            RecordingStatus::InProgress => self.callback_in_progress,
            RecordingStatus::Completed | RecordingStatus::Failed => self.callback_completed,
            RecordingStatus::Absent => self.callback_absent,
        }
    }
}

/// A length as Twilio counts it: begun seconds.
pub fn whole_seconds(length: Duration) -> String {
    length.as_millis().div_ceil(1000).to_string()
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}
