//! Which records `kolbox transcripts list` and `export` write: by the time of the call, the call, and the record's state.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use crate::{
    transcripts::{State, Stored},
    twilio::sid::CallSid,
};

/// What a record must be to be written; nothing said: all that are final.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Filters {
    /// Only calls that began then or later: a time, such as 2026-11-22T08:00:00+02:00, or how long ago, such as 7d
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub since: Option<Timestamp>,
    /// Only calls that began before then
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub until: Option<Timestamp>,
    /// Only this call
    #[arg(long, value_name = "CALL_SID")]
    pub call: Option<CallSid>,
    /// Only records in this state, or in one of several with commas between them
    #[arg(long, value_name = "STATE", value_enum, value_delimiter = ',')]
    pub state: Vec<Standing>,
}

/// How a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Standing {
    /// Its call went to the recorder, and it waits for the recording: not final yet
    Awaiting,
    /// Not taken by the office's system yet
    Unsynced,
    /// Refused by the office's system, and kept
    Parked,
    /// Taken by the office's system
    Synced,
}

impl Standing {
    fn of(state: State) -> Self {
        match state {
            State::AwaitingRecording => Self::Awaiting,
            State::Unsynced => Self::Unsynced,
            State::Parked { .. } => Self::Parked,
            State::Synced { .. } => Self::Synced,
        }
    }
}

impl Filters {
    /// Whether time and call fit, whatever the state.
    pub(super) fn fit(&self, stored: &Stored) -> bool {
        let began = stored.record.started_at;
        self.since.is_none_or(|since| since <= began)
            && self.until.is_none_or(|until| began < until)
            && self.call.is_none_or(|call| call == stored.record.call_sid)
    }

    /// Whether a record of this state is wanted.
    pub(super) fn want(&self, state: State) -> bool {
        match self.state.as_slice() {
            [] => state != State::AwaitingRecording,
            wanted => wanted.contains(&Standing::of(state)),
        }
    }

    /// Whether any call could lie between both times.
    pub(super) fn leave_something(&self) -> bool {
        self.since.zip(self.until).is_none_or(|(since, until)| since < until)
    }
}

/// A time, or how long ago.
fn when(text: &str) -> Result<Timestamp, String> {
    read_when(text, Timestamp::now())
}

fn read_when(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = humantime::parse_duration(text).ok().filter(|ago| *ago <= Duration::from_secs(100 * 366 * 86_400));
    ago.and_then(|ago| now.checked_sub(ago).ok()).ok_or_else(|| {
        "expected a time with its zone, such as 2026-11-22T08:00:00+02:00 or 2026-11-22T06:00:00Z, or how long ago, such \
         as 7d, 12h or 90m"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcripts::record::samples::{at, record};

    fn stored(number: u128, state: State) -> Stored {
        Stored { sequence: None, state, record: record(number) }
    }

    #[test]
    fn a_time_is_read_as_such_or_as_how_long_ago() {
        let now = at("2026-11-22T12:00:00Z");
        for (text, expected) in [
            ("2026-11-22T08:00:00+02:00", "2026-11-22T06:00:00Z"),
            ("2026-11-22 06:00:00Z", "2026-11-22T06:00:00Z"),
            ("7d", "2026-11-15T12:00:00Z"),
            ("1h 30m", "2026-11-22T10:30:00Z"),
            ("0s", "2026-11-22T12:00:00Z"),
        ] {
            assert_eq!(read_when(text, now), Ok(at(expected)), "{text}");
        }
        for wrong in ["", "yesterday", "2026-11-22", "2026-11-22T08:00:00", "-7d", "7", "999999999999d"] {
            assert!(read_when(wrong, now).is_err_and(|why| why.contains("7d")), "{wrong}");
        }
    }

    #[test]
    fn each_filter_narrows_and_without_one_all_that_is_final_is_wanted() {
        let (one, begins) = (stored(1, State::Unsynced), record(1).started_at);
        let all = Filters::default();
        assert!(all.fit(&one) && all.leave_something());
        let second = Duration::from_secs(1);
        for (since, until, fits) in [
            (Some(begins), None, true),
            (Some(begins + second), None, false),
            (None, Some(begins), false),
            (None, Some(begins + second), true),
            (Some(begins), Some(begins + second), true),
        ] {
            assert_eq!(Filters { since, until, ..Filters::default() }.fit(&one), fits, "{since:?} {until:?}");
        }
        let of_call = |number| Filters { call: Some(CallSid::from_number(number)), ..Filters::default() };
        assert!(of_call(1).fit(&one) && !of_call(2).fit(&one));
        let upside_down = Filters { since: Some(begins), until: Some(begins), ..Filters::default() };
        assert!(!upside_down.leave_something());
    }

    #[test]
    fn a_state_is_wanted_when_it_is_named() {
        let now = at("2026-11-22T12:00:00Z");
        let states = [
            State::AwaitingRecording,
            State::Unsynced,
            State::Parked { status: 422, at: now },
            State::Synced { at: now },
        ];
        let wanted = |state: &[Standing]| {
            let filters = Filters { state: state.to_vec(), ..Filters::default() };
            states.map(|state| filters.want(state))
        };
        assert_eq!(wanted(&[]), [false, true, true, true]);
        assert_eq!(wanted(&[Standing::Awaiting]), [true, false, false, false]);
        assert_eq!(wanted(&[Standing::Unsynced, Standing::Parked]), [false, true, true, false]);
        assert_eq!(wanted(&[Standing::Synced]), [false, false, false, true]);
    }
}
