//! Which audio may go: the files on the box, how old they are and where their calls' records stand, against `[audio]`.
//! Pure.
//!
//! | the call | its audio |
//! | --- | --- |
//! | lives, waits for its recording, or is unsynced and without all of its text | stays: it is the only copy |
//! | has its text, or an engine heard nobody | goes at once, or after `keep`; earlier where `max_bytes` is reached, the oldest first |
//! | is synced with a text that leaves something out, or is silent by the level of its sound alone | stays for `keep` and `max_age`; where `max_bytes` is reached it goes after those that have their text |
//! | is synced without text | stays for `keep` and `max_age`: without an engine that is all there will be |
//! | is not known | stays for `max_age` |
//!
//! Without an upstream a final record counts as synced: nothing waits for it.
//!
//! Age is never taken from the wall clock, which may be set. A file's age begins when it is first seen at rest while the
//! time is known from Twilio; within one run it grows only as fast as the monotonic clock. While the time is not known,
//! nothing goes by its age.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::record::{Outcome, Record};
use crate::{
    config::{Audio, KeepAudio},
    limits::SPOOL_CHUNK_BYTES,
    twilio::sid::CallSid,
};

/// A file of the audio folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelved {
    pub name: String,
    pub bytes: u64,
    /// By its own time and Twilio's; `None`: not known.
    pub age: Option<Duration>,
    pub standing: Standing,
}

/// Where the record of a file's call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// The call lives, or the file still grows.
    Live,
    /// A draft: it waits for its recording or its text.
    Waiting,
    /// Final, and not acknowledged, though there is an upstream.
    Unsynced(Text),
    /// Final, and nothing more is to happen to it.
    Done(Text),
    /// No record tells of this file.
    Unknown,
}

/// What a final record has of a file's sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Text {
    /// All of it: the words, or that an engine heard none.
    Heard,
    /// Not surely all of it: a piece is left out, or no engine heard any of it, and nobody speaks by the level of the sound
    /// alone.
    Partly,
    None,
}

impl Text {
    /// What this final record has.
    pub fn of(record: &Record) -> Self {
        match record.outcome {
            Outcome::Untranscribed => Self::None,
            Outcome::Transcribed | Outcome::NoSpeech if record.names_engine() && record.is_complete() => Self::Heard,
            Outcome::Transcribed | Outcome::NoSpeech => Self::Partly,
        }
    }
}

/// What is to be done about them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Files to delete.
    pub delete: Vec<String>,
    /// What the others take.
    pub bytes: u64,
    /// How much may be added.
    pub room_bytes: u64,
}

impl Verdict {
    /// Whether new audio finds no room.
    pub fn is_full(&self) -> bool {
        self.room_bytes < SPOOL_CHUNK_BYTES as u64
    }
}

/// The rule of `[audio]` over all files. `free_bytes`: what the disk has left for audio.
pub fn judge(rules: &Audio, files: &[Shelved], free_bytes: u64) -> Verdict {
    let (gone, mut kept): (Vec<_>, Vec<_>) = files.iter().partition(|file| is_over(rules, file));
    let mut verdict = Verdict { delete: gone.iter().map(|file| file.name.clone()).collect(), ..Verdict::default() };
    verdict.bytes = kept.iter().map(|file| file.bytes).sum();
    // The oldest first; what has no age yet is young.
    kept.sort_by(|one, other| other.age.cmp(&one.age).then_with(|| one.name.cmp(&other.name)));
    // Some room is made, not only what is missing: else every chunk would cost a look.
    let aim = rules.max_bytes - rules.max_bytes / 64;
    if verdict.bytes > aim {
        let of = |wanted: fn(Standing) -> bool| kept.iter().filter(move |file| wanted(file.standing));
        let is_heard = |standing| matches!(standing, Standing::Unsynced(Text::Heard) | Standing::Done(Text::Heard));
        for file in of(is_heard).chain(of(|standing| standing == Standing::Done(Text::Partly))) {
            if verdict.bytes <= aim {
                break;
            }
            verdict.bytes -= file.bytes;
            verdict.delete.push(file.name.clone());
        }
    }
    verdict.room_bytes = rules.max_bytes.saturating_sub(verdict.bytes).min(free_bytes);
    verdict
}

/// Whether its time is over, however much room there is.
fn is_over(rules: &Audio, file: &Shelved) -> bool {
    let is_older_than = |longest: Duration| file.age.is_some_and(|age| age > longest);
    match file.standing {
        // The only copy.
        Standing::Live | Standing::Waiting | Standing::Unsynced(Text::None | Text::Partly) => false,
        Standing::Unknown => is_older_than(rules.max_age),
        Standing::Unsynced(text) | Standing::Done(text) => match rules.keep {
            KeepAudio::Never => true,
            KeepAudio::UntilTranscribed => text == Text::Heard || is_older_than(rules.max_age),
            KeepAudio::For(longest) => is_older_than(longest.min(rules.max_age)),
        },
    }
}

/// What a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    pub call_sid: CallSid,
    /// A recording that came after its call's record was final.
    pub is_late: bool,
}

/// Whose audio a file is: `<CallSid>.<part>.ulaw` of a stream, `<CallSid>.<RecordingSid>[.late|.cut].wav` of a recording.
/// `None`: it belongs to no call.
pub fn read_name(name: &str) -> Option<Named> {
    let (call_sid, rest) = name.split_once('.')?;
    Some(Named { call_sid: call_sid.parse().ok()?, is_late: rest.split('.').any(|word| word == "late") })
}

/// Ages within one run: however the time is corrected, a file grows older only as fast as the monotonic clock.
#[derive(Debug, Default)]
pub struct Ages(BTreeMap<String, (Duration, Instant)>);

impl Ages {
    /// The age to go by, where file times and the known time make it `age`.
    pub fn bounded(&mut self, name: &str, age: Duration, now: Instant) -> Duration {
        let (first, at) = *self.0.entry(name.to_owned()).or_insert((age, now));
        age.min(first + now.saturating_duration_since(at))
    }

    /// Forgets the files that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_there(name));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transcripts::record::{self, Heard, LEFT_OUT, Segment, Words};

    const DAY: Duration = Duration::from_secs(86_400);

    fn rules(keep: KeepAudio) -> Audio {
        Audio { keep, max_age: 30 * DAY, max_bytes: 64_000 }
    }

    fn file(name: &str, days: Option<u32>, standing: Standing) -> Shelved {
        Shelved { name: name.into(), bytes: 1_000, age: days.map(|days| days * DAY), standing }
    }

    const ALL: [Standing; 9] = [
        Standing::Live,
        Standing::Waiting,
        Standing::Unsynced(Text::None),
        Standing::Unsynced(Text::Partly),
        Standing::Unsynced(Text::Heard),
        Standing::Done(Text::None),
        Standing::Done(Text::Partly),
        Standing::Done(Text::Heard),
        Standing::Unknown,
    ];

    #[test]
    fn each_standing_has_its_rule() {
        use KeepAudio::{For, Never, UntilTranscribed};
        // A letter a standing, in the order of `ALL`: goes, or stays.
        for (keep, days, expected) in [
            (UntilTranscribed, Some(1), "ssssgssgs"),
            (UntilTranscribed, Some(31), "ssssggggg"),
            (UntilTranscribed, None, "ssssgssgs"),
            (Never, Some(1), "ssssggggs"),
            (Never, None, "ssssggggs"),
            (For(7 * DAY), Some(6), "sssssssss"),
            (For(7 * DAY), Some(8), "ssssggggs"),
            (For(7 * DAY), Some(31), "ssssggggg"),
            (For(7 * DAY), None, "sssssssss"),
            (For(90 * DAY), Some(31), "ssssggggg"),
        ] {
            let gone: String = ALL
                .iter()
                .map(|standing| {
                    let verdict = judge(&rules(keep), &[file("a", days, *standing)], u64::MAX);
                    if verdict.delete.is_empty() { 's' } else { 'g' }
                })
                .collect();
            assert_eq!(gone, expected, "{keep:?} {days:?}");
        }
    }

    #[test]
    fn a_record_that_leaves_anything_out_has_not_all_of_its_sound() {
        let record = || record::samples::record(1);
        let said = |text: &str| Segment { start_ms: 0, end_ms: 9, text: Words(text.into()) };
        let words = |segments| record().with_text(Some(Heard::Words { engine: "e".into(), segments }));
        assert_eq!(Text::of(&record()), Text::None);
        assert_eq!(Text::of(&words(vec![said("hello")])), Text::Heard);
        assert_eq!(Text::of(&words(vec![said("hello"), said(LEFT_OUT)])), Text::Partly);
        for (engine, text) in [("e", Text::Heard), ("none", Text::Partly)] {
            assert_eq!(Text::of(&record().with_text(Some(Heard::NoSpeech { engine: engine.into() }))), text);
        }
    }

    #[test]
    fn where_there_is_no_room_the_oldest_transcribed_goes_first_and_then_none_is_left() {
        let rules = Audio { max_bytes: 3_000, ..rules(KeepAudio::For(7 * DAY)) };
        let text = Standing::Done(Text::Heard);
        let only_copy = Standing::Unsynced(Text::None);
        let files = [
            file("young", Some(1), text),
            file("old", Some(3), text),
            file("only", Some(6), only_copy),
            file("untimed", None, text),
        ];
        let verdict = judge(&rules, &files, u64::MAX);
        assert_eq!(
            (verdict.delete, verdict.bytes, verdict.room_bytes),
            (vec!["old".into(), "young".into()], 2_000, 1_000)
        );
        let files = [
            file("old part", Some(5), Standing::Done(Text::Partly)),
            file("part", Some(9), Standing::Unsynced(Text::Partly)),
            file("text", Some(1), text),
            file("only", Some(6), only_copy),
        ];
        let verdict = judge(&rules, &files, u64::MAX);
        assert_eq!(verdict.delete, ["text", "old part"]);
        let files = [0, 1, 2, 3].map(|number| file(&number.to_string(), Some(9), only_copy));
        let verdict = judge(&rules, &files, u64::MAX);
        assert_eq!((verdict.delete.len(), verdict.bytes, verdict.is_full()), (0, 4_000, true));
    }

    #[test]
    fn a_full_disk_leaves_no_room_whatever_max_bytes_says() {
        let verdict = judge(&rules(KeepAudio::UntilTranscribed), &[], 100);
        assert_eq!((verdict.room_bytes, verdict.is_full()), (100, true));
        assert!(!judge(&rules(KeepAudio::UntilTranscribed), &[], 1 << 20).is_full());
    }

    #[test]
    fn names_say_whose_audio_it_is() {
        let (call, recording) = (CallSid::from_number(7), crate::twilio::sid::RecordingSid::from_number(9));
        for (name, is_late) in [
            (format!("{call}.1.ulaw"), false),
            (format!("{call}.{recording}.wav"), false),
            (format!("{call}.{recording}.cut.wav"), false),
            (format!("{call}.{recording}.late.wav"), true),
        ] {
            assert_eq!(read_name(&name), Some(Named { call_sid: call, is_late }), "{name}");
        }
        for name in [format!("{recording}.wav"), "MZ1.ulaw".into(), "notes.txt".into(), call.to_string(), String::new()]
        {
            assert_eq!(read_name(&name), None, "{name}");
        }
    }

    #[test]
    fn a_clock_that_jumps_makes_no_file_older_than_it_can_be() {
        let (mut ages, begin) = (Ages::default(), Instant::now());
        assert_eq!(ages.bounded("a", DAY, begin), DAY);
        assert_eq!(ages.bounded("a", 9_000 * DAY, begin + DAY), 2 * DAY, "set forward by decades");
        assert_eq!(ages.bounded("a", Duration::ZERO, begin + DAY), Duration::ZERO, "set back");
        ages.retain(|name| name != "a");
        assert_eq!(ages.bounded("a", 5 * DAY, begin + DAY), 5 * DAY);
    }

    proptest! {
        #[test]
        fn the_only_copy_of_a_call_never_goes(
            keep in prop_oneof![
                Just(KeepAudio::Never),
                Just(KeepAudio::UntilTranscribed),
                (0_u64..100).prop_map(|days| KeepAudio::For(Duration::from_secs(days * 86_400))),
            ],
            max_bytes in 0_u64..20_000,
            free in 0_u64..20_000,
            files in proptest::collection::vec((0_usize..ALL.len(), proptest::option::of(0_u32..100), 0_u64..2_000), 0..20),
        ) {
            let rules = Audio { max_bytes, ..rules(keep) };
            let files: Vec<Shelved> = files
                .into_iter()
                .enumerate()
                .map(|(number, (standing, days, bytes))| {
                    Shelved { bytes, ..file(&number.to_string(), days, ALL[standing]) }
                })
                .collect();
            let verdict = judge(&rules, &files, free);
            for file in &files {
                if matches!(
                    file.standing,
                    Standing::Live | Standing::Waiting | Standing::Unsynced(Text::None | Text::Partly)
                ) {
                    prop_assert!(!verdict.delete.contains(&file.name));
                }
            }
            let left: u64 = files.iter().filter(|file| !verdict.delete.contains(&file.name)).map(|file| file.bytes).sum();
            prop_assert_eq!(left, verdict.bytes);
            prop_assert!(verdict.room_bytes <= free && verdict.room_bytes <= max_bytes);
            // What is still too much is nothing that may go.
            let has_text = |standing| {
                matches!(standing, Standing::Unsynced(Text::Heard) | Standing::Done(Text::Heard | Text::Partly))
            };
            let may_go = |file: &Shelved| has_text(file.standing) && !verdict.delete.contains(&file.name);
            prop_assert!(verdict.bytes <= max_bytes || !files.iter().any(may_go));
        }
    }
}
