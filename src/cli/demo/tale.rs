//! The story of the demo: what happens in calls and in the box's log, as sentences. Reads no clock.

use std::{collections::HashMap, time::Instant};

use super::{box_log::News, cast::Role};
use crate::{
    config::Calls,
    simulator::{
        happening::{Happening, Told},
        report::{Ending, Met},
    },
    status::snapshot::CallNow,
};

/// Whom a sentence is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Caller(&'static str),
    Crowd,
    Box,
    Lamps,
    Office,
}

impl Who {
    /// As it stands before the sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Caller(name) => name,
            Self::Crowd => "crowd",
            Self::Box => "box",
            Self::Lamps => "lamps",
            Self::Office => "office",
        }
    }
}

/// A line of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    pub at: Instant,
    pub who: Who,
    pub text: String,
    /// Something goes wrong here.
    pub is_bad: bool,
}

impl Sentence {
    /// A sentence about something that is as it should be.
    pub fn new(at: Instant, who: Who, text: impl Into<String>) -> Self {
        Self { at, who, text: text.into(), is_bad: false }
    }

    /// A sentence about something that goes wrong.
    pub fn bad(at: Instant, who: Who, text: impl Into<String>) -> Self {
        Self { is_bad: true, ..Self::new(at, who, text) }
    }
}

/// Remembers what was told, so that nothing is told twice.
#[derive(Debug)]
pub struct Tale {
    prompts: Calls,
    capacity: usize,
    /// By RecordingSid.
    recordings: HashMap<String, &'static str>,
    /// What each caller was last read to have said, by CallSid.
    words: HashMap<String, String>,
    office_refuses: bool,
    /// Of the crowd: records on the disk, and records that the office has.
    stored: usize,
    synced: usize,
}

impl Tale {
    /// Nothing was told yet. The box plays these prompts, and can hold so many calls.
    pub fn new(prompts: Calls, capacity: usize) -> Self {
        Self {
            prompts,
            capacity,
            recordings: HashMap::new(),
            words: HashMap::new(),
            office_refuses: false,
            stored: 0,
            synced: 0,
        }
    }

    /// What happened in a call. The crowd's calls are told all at once by whoever places them.
    pub fn of_call(&mut self, told: &Told) -> Option<Sentence> {
        let role = Role::of(told.call_sid)?;
        let who = Who::Caller(role.name);
        let good = |text: &str| Some(Sentence::new(told.at, who, text));
        match &told.what {
            Happening::Webhook { path, .. } if path.ends_with("incoming_call") => good("calls"),
            Happening::Hears(path) => good(self.prompt(path)),
            Happening::Meets(Met::Stream) => good("speaks: the voice streams to the box"),
            Happening::Meets(Met::Recorder) => good("speaks to Twilio's recorder"),
            Happening::FaultBegan => Some(Sentence::bad(told.at, who, role.noticed)),
            Happening::RecordingBegan(recording_sid) => {
                self.recordings.insert(recording_sid.to_string(), role.name);
                None
            }
            Happening::Ended(Ending::CallerLeft) => good("hangs up"),
            Happening::Ended(Ending::HungUp) => good("is through: the box hangs up"),
            Happening::Ended(Ending::CallerGaveUp) => Some(Sentence::bad(told.at, who, "gives up in silence")),
            Happening::Ended(ending) => Some(Sentence::bad(told.at, who, ending.to_string())),
            _ => None,
        }
    }

    /// What was written down of a caller's words since it was told last.
    pub fn of_words(&mut self, call: &CallNow, at: Instant) -> Option<Sentence> {
        let words = &call.last_words.as_ref()?.0;
        if self.words.insert(call.call_sid.clone(), words.clone()).as_ref() == Some(words) {
            return None;
        }
        let name = call.call_sid.parse().ok().and_then(Role::of).map_or("one of the crowd", |role| role.name);
        Some(Sentence::new(at, Who::Box, format!("reads from {name}: {words}")))
    }

    /// What the box's log says.
    pub fn of_box(&mut self, news: &News) -> Option<Sentence> {
        let name = news.call_sid().map(|call_sid| Role::of(call_sid).map_or("one of the crowd", |role| role.name));
        let name = name.unwrap_or_default();
        let good = |text: String| Some(Sentence::new(news.at, Who::Box, text));
        let seconds = |field| news.millis(field).as_secs_f64();
        match news.field("event") {
            "CALL_ANSWERED" if news.field("with") == "no_capacity" => {
                good(format!("all {} places are taken: {name} goes to the recorder at once", self.capacity))
            }
            "WD_NO_STREAM_START" => {
                good(format!("{name}: no stream {:.1} s after the answer; to the recorder", seconds("after_ms")))
            }
            "WD_NO_MEDIA" => {
                let what = if news.field("reason") == "socket_lost" { "connection lost" } else { "no media" };
                good(format!("{name}: {what}, nothing heard for {:.1} s; to the recorder", seconds("silent_ms")))
            }
            "WD_REDIRECTED" => {
                let after = news.millis("after_ms").as_millis();
                good(format!("{name}: Twilio took the redirect {after} ms later"))
            }
            "WD_REDIRECT_FAILED" => {
                Some(Sentence::bad(news.at, Who::Box, format!("{name}: Twilio refused: {}", news.field("outcome"))))
            }
            "RECORDING_RECEIVED" => {
                let name = self.recordings.get(news.field("recording_sid")).copied().unwrap_or("somebody");
                good(format!("{name}'s recording is fetched from Twilio"))
            }
            "TRANSCRIPT_STORED" => self.of_stored(news),
            "TRANSCRIPT_SYNCED" => self.of_synced(news),
            "SYNC_FAILED" if !self.office_refuses => {
                self.office_refuses = true;
                let text = format!("answers {}: records wait on the disk and are tried again", news.field("answer"));
                Some(Sentence::bad(news.at, Who::Office, text))
            }
            "LED" => of_lamp(news),
            "" if !news.field("silent_ms").is_empty() => {
                good(format!("{name} has said nothing for {:.1} s: goodbye", seconds("silent_ms")))
            }
            _ => None,
        }
    }

    fn of_stored(&mut self, news: &News) -> Option<Sentence> {
        match Role::of(news.call_sid()?) {
            Some(role) => Some(Sentence::new(news.at, Who::Box, format!("{}'s record is on the disk", role.name))),
            None => {
                self.stored += 1;
                None
            }
        }
    }

    fn of_synced(&mut self, news: &News) -> Option<Sentence> {
        self.office_refuses = false;
        match Role::of(news.call_sid()?) {
            Some(role) => Some(Sentence::new(news.at, Who::Office, format!("has {}'s record", role.name))),
            None => {
                self.synced += 1;
                (self.synced == self.stored)
                    .then(|| Sentence::new(news.at, Who::Office, format!("has the crowd's {} records", self.synced)))
            }
        }
    }

    fn prompt(&self, path: &str) -> &'static str {
        let file = path.rsplit('/').next().unwrap_or_default();
        let prompts = &self.prompts;
        match file {
            _ if file == prompts.greeting => "hears the greeting",
            _ if file == prompts.fallback_prompt => "is asked to leave a message after the tone",
            _ if file == prompts.no_message_prompt => "hears that nothing was understood",
            _ if file == prompts.goodbye_prompt => "hears the thanks and the goodbye",
            _ => "hears something else",
        }
    }
}

fn of_lamp(news: &News) -> Option<Sentence> {
    let (lamp, pattern) = (news.field("lamp"), news.field("pattern"));
    let text = match (lamp, pattern) {
        ("POWER", "heartbeat") => "POWER beats: the box lives",
        ("STREAM", "steady") => "STREAM lit: a caller is heard live",
        ("STREAM", "off") => "STREAM dark: nobody is heard live",
        ("FALLBACK", "slow_blink") => "FALLBACK blinks slowly: a caller is with the recorder",
        ("FALLBACK", "fast_blink") => "FALLBACK blinks fast: somebody should look at the status page",
        ("FALLBACK", "off") => "FALLBACK dark: nobody is with the recorder",
        ("INBOX", "steady") => "INBOX lit: records wait for the office",
        ("INBOX", "slow_blink") => "INBOX blinks: records wait, and the office does not take them",
        ("INBOX", "off") => "INBOX dark: the office has everything",
        _ => return Some(Sentence::new(news.at, Who::Lamps, format!("{lamp} {pattern}"))),
    };
    let is_bad = pattern == "fast_blink" || (lamp, pattern) == ("INBOX", "slow_blink");
    Some(Sentence { is_bad, ..Sentence::new(news.at, Who::Lamps, text) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    use crate::{
        calls::CallState, cli::demo::cast::ROLES, status::caller::Caller, transcripts::Words, twilio::sid::CallSid,
    };

    fn news(fields: &[(&'static str, &str)]) -> News {
        News::new(Instant::now(), fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    }

    fn text(tale: &mut Tale, fields: &[(&'static str, &str)]) -> Option<String> {
        tale.of_box(&news(fields)).map(|sentence| sentence.text)
    }

    #[test]
    fn the_watchdog_is_told_with_its_reason_and_the_callers_name() {
        let mut tale = Tale::new(Calls::default(), 64);
        let gil = ROLES[2].call_sid().to_string();
        let fields = [("event", "WD_NO_STREAM_START"), ("call_sid", &gil), ("after_ms", "8688")];
        assert_eq!(text(&mut tale, &fields).as_deref(), Some("Gil: no stream 8.7 s after the answer; to the recorder"));
        assert_eq!(text(&mut tale, &[("event", "RES"), ("call_sid", &gil)]), None);
    }

    #[test]
    fn a_callers_words_are_told_as_they_come_and_each_once() {
        let (mut tale, now) = (Tale::new(Calls::default(), 64), Instant::now());
        let says = |words: &str| CallNow {
            call_sid: ROLES[0].call_sid().to_string(),
            from: Caller::new(""),
            state: CallState::Streaming,
            since: Timestamp::UNIX_EPOCH,
            last_media_ago: None,
            last_words: Some(Words(words.into())),
        };
        let mut told = |call: &CallNow| tale.of_words(call, now).map(|sentence| sentence.text);
        assert_eq!(told(&says("shalom")).as_deref(), Some("reads from Dana: shalom"));
        assert_eq!(told(&says("shalom")), None);
        assert_eq!(told(&says("shalom todah")).as_deref(), Some("reads from Dana: shalom todah"));
        assert_eq!(told(&CallNow { last_words: None, ..says("") }), None);
    }

    #[test]
    fn the_crowd_is_told_once_and_a_closed_office_once_until_it_takes_something() {
        let mut tale = Tale::new(Calls::default(), 64);
        let [one, other] = [1000, 1001].map(|number| CallSid::from_number(number).to_string());
        for call_sid in [&one, &other] {
            assert_eq!(text(&mut tale, &[("event", "TRANSCRIPT_STORED"), ("call_sid", call_sid)]), None);
        }
        let failed = [("event", "SYNC_FAILED"), ("call_sid", one.as_str()), ("answer", "HTTP 503")];
        assert!(text(&mut tale, &failed).is_some_and(|text| text.starts_with("answers HTTP 503")));
        assert_eq!(text(&mut tale, &failed), None);
        assert_eq!(text(&mut tale, &[("event", "TRANSCRIPT_SYNCED"), ("call_sid", &one)]), None);
        let last = [("event", "TRANSCRIPT_SYNCED"), ("call_sid", other.as_str())];
        assert_eq!(text(&mut tale, &last).as_deref(), Some("has the crowd's 2 records"));
        assert!(text(&mut tale, &failed).is_some());
    }

    #[test]
    fn a_caller_hears_prompts_by_their_meaning() {
        let mut tale = Tale::new(Calls::default(), 64);
        let what = Happening::Hears("static/tts/fallback_he.mp3".to_owned());
        let told = Told { call_sid: ROLES[3].call_sid(), at: Instant::now(), what };
        let sentence = tale.of_call(&told).unwrap();
        assert_eq!((sentence.who.name(), sentence.is_bad), ("Noa", false));
        assert_eq!(sentence.text, "is asked to leave a message after the tone");
    }
}
