//! The REST side of a simulated Twilio account: requests become answers, or an update for a running call. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use audio_codec_algorithms::decode_ulaw;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::forms::whole_seconds;
use crate::twilio::{
    sid::{AccountSid, CallSid, RecordingSid},
    webhook::{CallStatus, RecordingStatus},
};

/// Calls that the account remembers; beyond it the one with the smallest CallSid is forgotten.
const CALLS_MAX: usize = 100_000;
/// Recordings that the account keeps; likewise.
const RECORDINGS_MAX: usize = 10_000;
/// Numbers in one list, however many are asked for: so that a client meets a second one.
const NUMBERS_PAGE_MAX: usize = 2;
/// Recordings of the account in one list; likewise.
const RECORDINGS_PAGE_MAX: usize = 2;

/// What a REST client sent.
#[derive(Debug, Clone, Copy)]
pub struct ApiRequest<'a> {
    pub method: &'a str,
    /// Without query.
    pub path: &'a str,
    /// What stands behind the path's `?`; empty without.
    pub query: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    pub body: &'a [u8],
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiReply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Reply(ApiReply),
    /// For the call itself to decide; its decision becomes a reply through [`Account::update_reply`].
    Update {
        call_sid: CallSid,
        update: Update,
    },
}

/// A change of a live call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Run this document.
    Twiml(String),
    /// Fetch a document there and run it.
    Url(String),
    /// End the call.
    Complete,
}

/// An error of Twilio's REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    pub code: u32,
    pub message: String,
}

impl ApiError {
    /// An error with Twilio's code.
    pub fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn not_found(path: &str) -> Self {
        Self::new(404, 20404, format!("The requested resource {path} was not found"))
    }
}

/// Where a recording stands at Twilio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    pub recording_sid: RecordingSid,
    pub call_sid: CallSid,
    pub state: RecordingState,
}

/// The states that a recording goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordingState {
    Running,
    /// Ended, but its media cannot be fetched yet.
    Processing,
    /// μ-law audio, served as WAV.
    Completed {
        audio: Arc<[u8]>,
        length: Duration,
    },
    /// Nothing was recorded.
    Absent,
}

/// Whose call it was, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallNote {
    pub from: String,
    pub to: String,
    pub started_at: Timestamp,
    /// `None` while it goes on.
    pub ended_at: Option<Timestamp>,
}

/// A number of the account, and where its calls lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumberSettings {
    pub phone_number: String,
    pub voice_url: String,
    pub voice_fallback_url: String,
    pub status_callback: String,
}

/// One account, its calls, its recordings and its numbers.
#[derive(Debug)]
pub struct Account {
    account_sid: AccountSid,
    credentials: Vec<String>,
    calls: BTreeMap<CallSid, CallStatus>,
    /// Of the calls that somebody told more of.
    notes: BTreeMap<CallSid, CallNote>,
    recordings: BTreeMap<RecordingSid, Recording>,
    /// When each was made; one without a date counts as made in 1970.
    made: BTreeMap<RecordingSid, Timestamp>,
    numbers: Vec<NumberSettings>,
    /// Recordings whose audio was fetched at least once.
    fetched: BTreeSet<RecordingSid>,
    deleted: u64,
}

impl Account {
    /// An account without calls. Its requests carry the auth token.
    pub fn new(account_sid: AccountSid, auth_token: &str) -> Self {
        let mut account = Self {
            account_sid,
            credentials: Vec::new(),
            calls: BTreeMap::new(),
            notes: BTreeMap::new(),
            recordings: BTreeMap::new(),
            made: BTreeMap::new(),
            numbers: Vec::new(),
            fetched: BTreeSet::new(),
            deleted: 0,
        };
        account.allow(account_sid.as_str(), auth_token);
        account
    }

    /// Lets an API key in too.
    pub fn allow(&mut self, user: &str, password: &str) {
        self.credentials.push(BASE64_STANDARD.encode(format!("{user}:{password}")));
    }

    /// The account's name.
    pub fn account_sid(&self) -> AccountSid {
        self.account_sid
    }

    /// A call is there, or changed.
    pub fn note_call(&mut self, call_sid: CallSid, status: CallStatus) {
        self.calls.insert(call_sid, status);
        if self.calls.len() > CALLS_MAX {
            self.calls.pop_first();
        }
    }

    /// What more is known of a call.
    pub fn note_parties(&mut self, call_sid: CallSid, note: CallNote) {
        self.notes.insert(call_sid, note);
        if self.notes.len() > CALLS_MAX {
            self.notes.pop_first();
        }
    }

    /// A call is over since then.
    pub fn note_end(&mut self, call_sid: CallSid, at: Timestamp) {
        if let Some(note) = self.notes.get_mut(&call_sid) {
            note.ended_at.get_or_insert(at);
        }
    }

    /// When a recording was made; the first date stays.
    pub fn date_recording(&mut self, recording_sid: RecordingSid, at: Timestamp) {
        self.made.entry(recording_sid).or_insert(at);
        if self.made.len() > RECORDINGS_MAX {
            self.made.pop_first();
        }
    }

    /// A recording is there, or changed.
    pub fn note_recording(&mut self, recording: Recording) {
        self.recordings.insert(recording.recording_sid, recording);
        if self.recordings.len() > RECORDINGS_MAX
            && let Some((oldest, _)) = self.recordings.pop_first()
        {
            self.fetched.remove(&oldest);
        }
    }

    /// The account buys a number.
    pub fn add_number(&mut self, number: NumberSettings) {
        self.numbers.push(number);
    }

    /// How many recordings are there whose audio nobody has fetched.
    pub fn recordings_unfetched(&self) -> usize {
        let completed = self.recordings.values().filter(|recording| {
            matches!(recording.state, RecordingState::Completed { .. })
                && !self.fetched.contains(&recording.recording_sid)
        });
        completed.count()
    }

    /// How many recordings clients have removed.
    pub fn recordings_deleted(&self) -> u64 {
        self.deleted
    }

    /// Answers a request, or hands an update on.
    pub fn handle_request(&mut self, request: ApiRequest<'_>) -> Verdict {
        self.decide(request).unwrap_or_else(|error| Verdict::Reply(error_reply(&error)))
    }

    /// The answer to an update, after the call has decided.
    pub fn update_reply(&self, call_sid: CallSid, decision: &Result<CallStatus, ApiError>) -> ApiReply {
        match decision {
            Ok(status) => json_reply(200, &self.call_json(call_sid, *status)),
            Err(error) => error_reply(error),
        }
    }

    fn decide(&mut self, request: ApiRequest<'_>) -> Result<Verdict, ApiError> {
        let not_found = || ApiError::not_found(request.path);
        if !self.is_authorized(request.authorization) {
            return Err(ApiError::new(401, 20003, "Authenticate"));
        }
        let own = format!("/2010-04-01/Accounts/{}", self.account_sid);
        if (request.method, request.path) == ("GET", &format!("{own}.json")) {
            return Ok(Verdict::Reply(self.account_json()));
        }
        let prefix = format!("{own}/");
        let resource = request.path.strip_prefix(&prefix).ok_or_else(not_found)?;
        let parts: Vec<&str> = resource.split('/').collect();
        let reply = match (request.method, parts.as_slice()) {
            ("POST", ["Calls", name]) => {
                let call_sid = self.known_call(name, ".json").ok_or_else(not_found)?;
                return Ok(Verdict::Update { call_sid, update: read_update(request.body)? });
            }
            ("GET", ["Calls", name]) => {
                let call_sid = self.known_call(name, ".json").ok_or_else(not_found)?;
                let status = self.calls.get(&call_sid).copied().ok_or_else(not_found)?;
                json_reply(200, &self.call_json(call_sid, status))
            }
            ("GET", ["Calls", name, "Recordings.json"]) => {
                let call_sid = self.known_call(name, "").ok_or_else(not_found)?;
                self.list(call_sid)
            }
            ("GET", ["Recordings.json"]) => self.list_recordings(request.path, request.query),
            ("GET", ["IncomingPhoneNumbers.json"]) => self.list_numbers(request.path, request.query),
            ("GET", ["Recordings", name]) if name.ends_with(".json") => {
                let recording = self.known_recording(name, ".json").ok_or_else(not_found)?;
                json_reply(200, &self.recording_json(recording))
            }
            ("GET", ["Recordings", name]) => {
                let recording = self.known_recording(name, ".wav").or_else(|| self.known_recording(name, ""));
                let Some(Recording { state: RecordingState::Completed { audio, .. }, recording_sid, .. }) = recording
                else {
                    return Err(not_found());
                };
                let (recording_sid, body) = (*recording_sid, wav(audio));
                self.fetched.insert(recording_sid);
                ApiReply { status: 200, content_type: "audio/x-wav", body }
            }
            ("DELETE", ["Recordings", name]) => {
                let recording = self.known_recording(name, ".json").or_else(|| self.known_recording(name, ""));
                let recording_sid = recording.ok_or_else(not_found)?.recording_sid;
                self.recordings.remove(&recording_sid);
                self.fetched.remove(&recording_sid);
                self.deleted += 1;
                ApiReply { status: 204, content_type: "application/json", body: Vec::new() }
            }
            _ => return Err(not_found()),
        };
        Ok(Verdict::Reply(reply))
    }

    fn is_authorized(&self, authorization: Option<&str>) -> bool {
        let given = authorization.and_then(|header| header.split_once(' '));
        given.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case("basic") && self.credentials.iter().any(|known| known == given.trim())
        })
    }

    fn known_call(&self, name: &str, extension: &str) -> Option<CallSid> {
        let call_sid = name.strip_suffix(extension)?.parse().ok()?;
        self.calls.contains_key(&call_sid).then_some(call_sid)
    }

    fn known_recording(&self, name: &str, extension: &str) -> Option<&Recording> {
        self.recordings.get(&name.strip_suffix(extension)?.parse().ok()?)
    }

    fn list(&self, call_sid: CallSid) -> ApiReply {
        let recordings: Vec<Value> = self
            .recordings
            .values()
            .filter(|recording| recording.call_sid == call_sid)
            .map(|recording| self.recording_json(recording))
            .collect();
        json_reply(200, &json!({"page": 0, "page_size": 50, "next_page_uri": null, "recordings": recordings}))
    }

    /// The newest first. `DateCreated>=` takes a day; the token is the last recording of the page before.
    fn list_recordings(&self, path: &str, query: &str) -> ApiReply {
        let asked = |name: &str| {
            form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let since = asked("DateCreated>").unwrap_or_default();
        let page: usize = asked("Page").and_then(|page| page.parse().ok()).unwrap_or(0);
        let mut recordings: Vec<_> =
            self.recordings.values().map(|recording| (self.made_at(recording.recording_sid), recording)).collect();
        recordings.sort_by_key(|(made, recording)| std::cmp::Reverse((*made, recording.recording_sid)));
        recordings.retain(|(made, _)| made.to_zoned(TimeZone::UTC).date().to_string() >= since);
        if let Some(token) = asked("PageToken") {
            let last = recordings.iter().position(|(_, recording)| format!("PA{}", recording.recording_sid) == token);
            recordings.drain(..last.map_or(0, |last| last + 1));
        }
        let next = (recordings.len() > RECORDINGS_PAGE_MAX).then(|| {
            let token = format!("PA{}", recordings[RECORDINGS_PAGE_MAX - 1].1.recording_sid);
            let filter: String =
                form_urlencoded::Serializer::new(String::new()).append_pair("DateCreated>", &since).finish();
            format!("{path}?{filter}&PageSize={RECORDINGS_PAGE_MAX}&Page={}&PageToken={token}", page + 1)
        });
        let shown = recordings.iter().take(RECORDINGS_PAGE_MAX);
        let shown: Vec<Value> = shown.map(|(_, recording)| self.recording_json(recording)).collect();
        json_reply(200, &json!({"page": page, "next_page_uri": next, "recordings": shown}))
    }

    fn made_at(&self, recording_sid: RecordingSid) -> Timestamp {
        self.made.get(&recording_sid).copied().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn account_json(&self) -> ApiReply {
        let account_sid = self.account_sid;
        json_reply(200, &json!({"sid": account_sid, "friendly_name": "Simulated", "status": "active", "type": "Full"}))
    }

    fn list_numbers(&self, path: &str, query: &str) -> ApiReply {
        let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "Page");
        let page: usize = asked.and_then(|(_, page)| page.parse().ok()).unwrap_or(0);
        let mut pages = self.numbers.chunks(NUMBERS_PAGE_MAX).skip(page);
        let number = |(index, number): (usize, &NumberSettings)| {
            let NumberSettings { phone_number, voice_url, voice_fallback_url, status_callback } = number;
            let sid = format!("PN{:032x}", page * NUMBERS_PAGE_MAX + index + 1);
            json!({
                "sid": sid, "account_sid": self.account_sid, "phone_number": phone_number, "voice_url": voice_url,
                "voice_method": "POST", "voice_fallback_url": voice_fallback_url, "status_callback": status_callback,
                "voice_application_sid": "", "trunk_sid": null,
            })
        };
        let numbers: Vec<Value> = pages.next().unwrap_or_default().iter().enumerate().map(number).collect();
        let next = pages.next().map(|_| format!("{path}?PageSize={NUMBERS_PAGE_MAX}&Page={}", page + 1));
        json_reply(200, &json!({"page": page, "next_page_uri": next, "incoming_phone_numbers": numbers}))
    }

    fn call_json(&self, call_sid: CallSid, status: CallStatus) -> Value {
        let note = self.notes.get(&call_sid);
        let (from, to) = (note.map(|note| note.from.as_str()), note.map(|note| note.to.as_str()));
        json!({
            "sid": call_sid, "account_sid": self.account_sid, "status": status.as_str(), "direction": "inbound",
            "from": from, "to": to, "start_time": note.map(|note| rfc2822(note.started_at)),
            "end_time": note.and_then(|note| note.ended_at).map(rfc2822),
            "api_version": "2010-04-01", "parent_call_sid": null, "duration": null, "price": null,
            "uri": format!("/2010-04-01/Accounts/{}/Calls/{call_sid}.json", self.account_sid),
        })
    }

    fn recording_json(&self, recording: &Recording) -> Value {
        let Recording { recording_sid, call_sid, state } = recording;
        let (status, duration) = match state {
            RecordingState::Running => (RecordingStatus::InProgress.as_str(), None),
            RecordingState::Processing => ("processing", None),
            RecordingState::Completed { length, .. } => {
                (RecordingStatus::Completed.as_str(), Some(whole_seconds(*length)))
            }
            RecordingState::Absent => (RecordingStatus::Absent.as_str(), None),
        };
        json!({
            "sid": recording_sid, "account_sid": self.account_sid, "call_sid": call_sid, "status": status,
            "date_created": rfc2822(self.made_at(*recording_sid)), "duration": duration, "channels": 1, "source": "RecordVerb", "api_version": "2010-04-01",
            "uri": format!("/2010-04-01/Accounts/{}/Recordings/{recording_sid}.json", self.account_sid),
        })
    }
}

/// As in `Sun, 22 Nov 2026 08:15:02 +0000`: whole seconds.
fn rfc2822(at: Timestamp) -> String {
    jiff::fmt::rfc2822::to_string(&at.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

fn read_update(body: &[u8]) -> Result<Update, ApiError> {
    let mut update = None;
    for (name, value) in form_urlencoded::parse(body) {
        match &*name {
            "Twiml" => update = Some(Update::Twiml(value.into_owned())),
            "Url" => update = Some(Update::Url(value.into_owned())),
            "Status" if value == "completed" => return Ok(Update::Complete),
            _ => {}
        }
    }
    update.ok_or_else(|| ApiError::new(400, 20001, "Twiml, Url or Status is required"))
}

fn json_reply(status: u16, value: &Value) -> ApiReply {
    ApiReply { status, content_type: "application/json", body: value.to_string().into_bytes() }
}

fn error_reply(error: &ApiError) -> ApiReply {
    let ApiError { status, code, message } = error;
    let more_info = format!("https://www.twilio.com/docs/errors/{code}");
    json_reply(*status, &json!({"code": code, "message": message, "more_info": more_info, "status": status}))
}

/// μ-law audio as a WAV file of 16-bit samples, as Twilio serves it.
pub fn wav(ulaw: &[u8]) -> Vec<u8> {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut file = std::io::Cursor::new(Vec::with_capacity(44 + 2 * ulaw.len()));
    // Writing to memory fails only beyond 4 GiB, and a recording is bounded far below.
    let _ = hound::WavWriter::new(&mut file, spec).and_then(|mut writer| {
        ulaw.iter().try_for_each(|&byte| writer.write_sample(decode_ulaw(byte)))?;
        writer.finalize()
    });
    file.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "secret";

    fn account() -> Account {
        let mut account = Account::new(AccountSid::from_number(1), TOKEN);
        account.note_call(CallSid::from_number(2), CallStatus::InProgress);
        account
    }

    fn ask(account: &mut Account, method: &str, resource: &str, token: &str, body: &str) -> Verdict {
        let path = format!("/2010-04-01/Accounts/{}/{resource}", AccountSid::from_number(1));
        let credentials = BASE64_STANDARD.encode(format!("{}:{token}", AccountSid::from_number(1)));
        account.handle_request(ApiRequest {
            method,
            path: &path,
            query: "",
            authorization: Some(&format!("Basic {credentials}")),
            body: body.as_bytes(),
        })
    }

    fn status_and_code(verdict: Verdict) -> (u16, u64) {
        let Verdict::Reply(reply) = verdict else { panic!("a reply: {verdict:?}") };
        let json: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        (reply.status, json["code"].as_u64().unwrap_or(0))
    }

    #[test]
    fn strangers_get_20003_and_what_is_unknown_20404() {
        let mut account = account();
        let known = format!("Calls/{}.json", CallSid::from_number(2));
        let unknown = format!("Calls/{}.json", CallSid::from_number(3));
        assert_eq!(status_and_code(ask(&mut account, "GET", &known, "wrong", "")), (401, 20003));
        assert_eq!(status_and_code(ask(&mut account, "GET", &unknown, TOKEN, "")), (404, 20404));
        assert_eq!(status_and_code(ask(&mut account, "GET", "Else.json", TOKEN, "")), (404, 20404));
        assert_eq!(status_and_code(ask(&mut account, "GET", &known, TOKEN, "")), (200, 0));
    }

    #[test]
    fn an_update_is_for_the_call_to_decide() {
        let mut account = account();
        let call = format!("Calls/{}.json", CallSid::from_number(2));
        assert_eq!(
            ask(&mut account, "POST", &call, TOKEN, "Twiml=%3CResponse%2F%3E"),
            Verdict::Update { call_sid: CallSid::from_number(2), update: Update::Twiml("<Response/>".to_owned()) }
        );
        assert_eq!(status_and_code(ask(&mut account, "POST", &call, TOKEN, "")), (400, 20001));
        let refusal = Err(ApiError::new(400, 21220, "Call is not in-progress. Cannot redirect."));
        assert_eq!(
            status_and_code(Verdict::Reply(account.update_reply(CallSid::from_number(2), &refusal))),
            (400, 21220)
        );
    }

    #[test]
    fn the_accounts_recordings_are_listed_from_a_day_on_newest_first_in_pages() {
        let mut account = account();
        let sid = |number: i64| RecordingSid::from_number(number as u128);
        let begin = Timestamp::from_second(1_800_000_000).unwrap();
        for day in [3, 1, 4, 0, 2] {
            let recording_sid = sid(day);
            account.date_recording(recording_sid, begin + Duration::from_secs(86_400 * day as u64));
            account.note_recording(Recording {
                recording_sid,
                call_sid: CallSid::from_number(2),
                state: RecordingState::Absent,
            });
        }
        let path = format!("/2010-04-01/Accounts/{}/Recordings.json", AccountSid::from_number(1));
        let since = (begin + Duration::from_secs(86_400)).to_zoned(TimeZone::UTC).date();
        let (mut query, mut listed) = (format!("PageSize=50&DateCreated%3E={since}"), Vec::new());
        for _ in 0..2 {
            let credentials = BASE64_STANDARD.encode(format!("{}:{TOKEN}", AccountSid::from_number(1)));
            let verdict = account.handle_request(ApiRequest {
                method: "GET",
                path: &path,
                query: &query,
                authorization: Some(&format!("Basic {credentials}")),
                body: b"",
            });
            let Verdict::Reply(reply) = verdict else { panic!("a reply") };
            let page: Value = serde_json::from_slice(&reply.body).unwrap();
            for recording in page["recordings"].as_array().unwrap() {
                listed.push(recording["sid"].as_str().unwrap().to_owned());
            }
            query =
                page["next_page_uri"].as_str().unwrap_or_default().split_once('?').map_or("", |(_, q)| q).to_owned();
        }
        assert_eq!(listed, [4, 3, 2, 1].map(|day| sid(day).to_string()));
        assert_eq!(query, "", "the second page is the last");
    }

    #[test]
    fn a_recordings_audio_is_there_only_once_it_is_completed_and_until_it_is_deleted() {
        let mut account = account();
        let (call_sid, recording_sid) = (CallSid::from_number(2), RecordingSid::from_number(4));
        let media = format!("Recordings/{recording_sid}.wav");
        let note = |account: &mut Account, state| {
            account.note_recording(Recording { recording_sid, call_sid, state });
        };
        note(&mut account, RecordingState::Processing);
        assert_eq!(status_and_code(ask(&mut account, "GET", &media, TOKEN, "")), (404, 20404));
        let audio: Arc<[u8]> = vec![0xffu8; 8000].into();
        note(&mut account, RecordingState::Completed { audio, length: Duration::from_millis(1000) });
        let Verdict::Reply(reply) = ask(&mut account, "GET", &media, TOKEN, "") else { panic!("a reply") };
        assert_eq!((reply.status, reply.body.len(), &reply.body[..4]), (200, 44 + 16_000, &b"RIFF"[..]));
        let listed = ask(&mut account, "GET", &format!("Calls/{call_sid}/Recordings.json"), TOKEN, "");
        let Verdict::Reply(listed) = listed else { panic!("a reply") };
        let listed: Value = serde_json::from_slice(&listed.body).unwrap();
        assert_eq!(listed["recordings"][0]["duration"], "1");
        let gone = format!("Recordings/{recording_sid}.json");
        assert_eq!(status_and_code(ask(&mut account, "DELETE", &gone, TOKEN, "")).0, 204);
        assert_eq!(status_and_code(ask(&mut account, "DELETE", &gone, TOKEN, "")).0, 404);
    }
}
