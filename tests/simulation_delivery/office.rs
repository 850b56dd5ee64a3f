//! The office's system as a reference: what it has, and how it answers in which weather.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use kolbox::{
    transcripts::{Record, TranscriptId},
    twilio::sid::CallSid,
};

/// How the upstream is for a while.
#[derive(Debug, Clone, Copy)]
pub enum Weather {
    Fine,
    /// Answers everything with this status, and asks for so much patience.
    Answers(u16, Option<Duration>),
    /// The request never arrives.
    Away,
    /// Takes the record, and its answer never arrives.
    Unanswered,
    /// Will not take every third record.
    Picky,
    /// Any of the above, anew with each request.
    Flaps,
}

/// What became of a request.
pub enum Answer {
    Status(u16, Option<Duration>),
    Nothing,
}

#[derive(Default)]
pub struct Office {
    /// Until when which weather holds; then it is fine.
    pub forecast: Vec<(Instant, Weather)>,
    /// In the order of their first arrival.
    pub taken: Vec<TranscriptId>,
    pub by_call: HashMap<CallSid, Arc<Record>>,
    pub requests: usize,
    /// Records that came again.
    pub repeated: usize,
}

impl Office {
    /// Weather for some minutes.
    pub fn forecast(rng: &mut Rng, from: Instant) -> Vec<(Instant, Weather)> {
        let mut until = from;
        let mut spell = || {
            until += Duration::from_millis(rng.u64(0..40_000));
            (until, Weather::any(rng))
        };
        (0..8).map(|_| spell()).collect()
    }

    /// A request arrives.
    pub fn take(&mut self, record: &Record, now: Instant, rng: &mut Rng) -> Answer {
        self.requests += 1;
        let weather =
            self.forecast.iter().find(|(until, _)| now < *until).map_or(Weather::Fine, |(_, weather)| *weather);
        let weather = if matches!(weather, Weather::Flaps) { Weather::any(rng) } else { weather };
        match weather {
            Weather::Answers(status, retry_after) => Answer::Status(status, retry_after),
            Weather::Away => Answer::Nothing,
            Weather::Unanswered => {
                self.accept(record);
                Answer::Nothing
            }
            Weather::Picky if !self.has(record) && record.id.to_bytes()[15].is_multiple_of(3) => {
                Answer::Status(422, None)
            }
            Weather::Fine | Weather::Picky | Weather::Flaps => Answer::Status(self.accept(record), None),
        }
    }

    fn has(&self, record: &Record) -> bool {
        self.by_call.contains_key(&record.call_sid)
    }

    /// One record a call, always under the same key and with the same content.
    fn accept(&mut self, record: &Record) -> u16 {
        match self.by_call.get(&record.call_sid) {
            Some(known) => {
                self.repeated += 1;
                assert_eq!(**known, *record, "a call has one record, under one key, and a final one never changes");
                409
            }
            None => {
                self.by_call.insert(record.call_sid, Arc::new(record.clone()));
                self.taken.push(record.id);
                201
            }
        }
    }
}

impl Weather {
    fn any(rng: &mut Rng) -> Self {
        let wait = rng.bool().then(|| Duration::from_secs(rng.u64(0..900)));
        match rng.u8(0..12) {
            0..3 => Self::Fine,
            3 => Self::Answers(*rng.choice(&[500, 502, 503, 599]).unwrap_or(&500), wait),
            4 => Self::Answers(429, wait),
            5 => Self::Answers(*rng.choice(&[301, 302, 307, 401, 403, 404, 405, 408, 425]).unwrap_or(&302), None),
            6 | 7 => Self::Away,
            8 | 9 => Self::Unanswered,
            10 => Self::Picky,
            _ => Self::Flaps,
        }
    }
}
