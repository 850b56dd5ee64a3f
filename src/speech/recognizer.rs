//! What turns a voice into text: one small trait, what goes in, what comes out, and why nothing does.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::limits::{LOGGED_TEXT_CHARS_MAX, RECOGNIZED_AUDIO_MAX, SPEECH_SEGMENTS_MAX};

/// One channel of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pcm {
    pub samples: Arc<[i16]>,
    /// Samples a second; 8,000 from the telephone.
    pub rate_hz: u32,
}

impl Pcm {
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.duration_us())
    }

    fn duration_us(&self) -> u64 {
        self.samples.len() as u64 * 1_000_000 / u64::from(self.rate_hz.max(1))
    }
}

/// An utterance, or a whole recording, and by when its text is worth anything.
#[derive(Debug, Clone)]
pub struct Question {
    pub sound: Pcm,
    /// What has not come by then is [`RecognizerError::TimedOut`].
    pub deadline: Instant,
}

/// What was said. No text and no segments: nothing was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transcript {
    /// The segments' texts, joined by spaces.
    pub text: String,
    /// In the order of their begin. An engine that tells no times gives one, as long as the sound.
    pub segments: Vec<Segment>,
    /// As the engine names it, where it does; `None` where it was told what to expect.
    pub language: Option<String>,
}

/// A piece of text, and when it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// From the begin of the sound; never beyond its end.
    pub start_ms: u64,
    /// Never before `start_ms`.
    pub end_ms: u64,
    /// Never empty, no space around it.
    pub text: String,
}

impl Transcript {
    /// Of what an engine told, whatever its times are worth: they are brought into the sound and in order, empty texts
    /// are left out, and what is more than [`SPEECH_SEGMENTS_MAX`] is added to the last one.
    pub fn of(told: impl IntoIterator<Item = Segment>, sound: &Pcm, language: Option<String>) -> Self {
        let end = sound.duration_us().div_ceil(1_000);
        let mut segments: Vec<Segment> = Vec::new();
        for Segment { start_ms, end_ms, text } in told {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let earliest = segments.last().map_or(0, |last| last.start_ms);
            let start_ms = start_ms.clamp(earliest, end.max(earliest));
            let end_ms = end_ms.clamp(start_ms, end.max(start_ms));
            let kept = segments.len();
            match segments.last_mut() {
                Some(last) if kept >= SPEECH_SEGMENTS_MAX => {
                    last.text.push(' ');
                    last.text.push_str(text);
                    last.end_ms = end_ms;
                }
                _ => segments.push(Segment { start_ms, end_ms, text: text.to_owned() }),
            }
        }
        let text = segments.iter().map(|segment| &segment.text[..]).collect::<Vec<_>>().join(" ");
        Self { text, segments, language: language.filter(|language| !language.is_empty()) }
    }

    /// Of an engine that tells no times.
    pub fn without_times(text: &str, sound: &Pcm, language: Option<String>) -> Self {
        Self::of([Segment { start_ms: 0, end_ms: u64::MAX, text: text.to_owned() }], sound, language)
    }
}

/// What comes of a question. Dropping it cancels: the connection is closed, and a computation stops within a second; so
/// there is no answer "cancelled" that somebody would have to wait for.
pub type Recognizing<'a> = Pin<Box<dyn Future<Output = Result<Transcript, RecognizerError>> + Send + 'a>>;

/// An engine. To ask it twice does no harm: nothing is kept of a question, in this program.
pub trait Recognizer: Send + Sync + fmt::Debug {
    /// What a record says of who made its text: `whisper ggml-base-q5_1.bin`.
    fn name(&self) -> &str;

    /// The text of a sound. Several may be asked at once; how many are worked on at once is the engine's affair.
    fn recognize(&self, question: Question) -> Recognizing<'_>;
}

/// Why there is no text. No variant repeats what was said, nor a key.
#[derive(Debug)]
pub enum RecognizerError {
    /// No connection came about: it is off, or the address is wrong.
    Unreachable(Box<dyn Error + Send + Sync>),
    /// It does not accept who we are.
    Credentials,
    /// It has too much to do, and perhaps says for how long.
    Busy(Option<Duration>),
    /// It says that it failed, in its own words.
    Failed(String),
    /// It does not take this question, in its own words: a model that it does not have, a sound that it cannot read.
    NotTaken(String),
    /// What came is no answer of such an engine.
    BadAnswer(String),
    /// The connection ended before the answer did.
    Broken,
    /// The deadline came first.
    TimedOut,
    /// There is nothing in it, or more than [`RECOGNIZED_AUDIO_MAX`].
    Length(Duration),
}

/// What comes of asking the same again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing else, before a person has changed something.
    Useless,
    /// Perhaps text, not before so long.
    After(Duration),
    /// Perhaps text.
    MayHelp,
}

impl RecognizerError {
    /// Whether asking again may help. It is harmless always.
    pub fn repeat(&self) -> Repeat {
        match self {
            Self::Credentials | Self::NotTaken(_) | Self::Length(_) => Repeat::Useless,
            Self::Busy(Some(pause)) => Repeat::After(*pause),
            Self::Unreachable(_)
            | Self::Busy(None)
            | Self::Failed(_)
            | Self::BadAnswer(_)
            | Self::Broken
            | Self::TimedOut => Repeat::MayHelp,
        }
    }

    /// Whether it says something about the engine, not about the one question.
    pub fn is_the_engines(&self) -> bool {
        !matches!(self, Self::NotTaken(_) | Self::Length(_))
    }

    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "look whether the engine runs, and whether speech.url is its address",
            Self::Credentials => "set speech.api_key, or the credential speech_api_key, to a key that it accepts",
            Self::Busy(_) => "try again later",
            Self::Failed(_) => "look into the engine's own log; try again",
            Self::NotTaken(_) => "look whether speech.model and speech.language are names that it knows",
            Self::BadAnswer(_) => "look whether speech.url is the address of such an engine, and of nothing else",
            Self::Broken => "try again; look into the engine's own log if it happens again",
            Self::TimedOut => "try again; if it happens again, the engine is too slow for its model",
            Self::Length(_) => "give it a piece of the sound",
        }
    }
}

impl fmt::Display for RecognizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(_) => f.write_str("the speech engine cannot be reached"),
            Self::Credentials => f.write_str("the speech engine does not accept our key"),
            Self::Busy(None) => f.write_str("the speech engine is busy"),
            Self::Busy(Some(pause)) => write!(f, "the speech engine is busy, for {} s", pause.as_secs()),
            Self::Failed(said) => write!(f, "the speech engine failed: {said}"),
            Self::NotTaken(said) => write!(f, "the speech engine does not take this: {said}"),
            Self::BadAnswer(what) => write!(f, "this is no answer of a speech engine: {what}"),
            Self::Broken => f.write_str("the speech engine's connection ended before its answer did"),
            Self::TimedOut => f.write_str("the speech engine gave no answer in time"),
            Self::Length(Duration::ZERO) => f.write_str("there is no sound to recognize"),
            Self::Length(length) => write!(f, "{} s of sound are more than is recognized in one go", length.as_secs()),
        }
    }
}

impl Error for RecognizerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable(source) => Some(source.as_ref()),
            _ => None,
        }
    }
}

/// Refuses what no engine is asked for.
pub(super) fn check_length(sound: &Pcm) -> Result<(), RecognizerError> {
    let length = sound.duration();
    let fits = !length.is_zero() && length <= RECOGNIZED_AUDIO_MAX;
    if fits { Ok(()) } else { Err(RecognizerError::Length(length)) }
}

/// What a peer wrote, as it may stand in a message: on one line and not too long.
pub(super) fn told(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.trim().chars().take(LOGGED_TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second() -> Pcm {
        Pcm { samples: vec![0; 8_000].into(), rate_hz: 8_000 }
    }

    fn segment(start_ms: u64, end_ms: u64, text: &str) -> Segment {
        Segment { start_ms, end_ms, text: text.to_owned() }
    }

    #[test]
    fn times_are_brought_into_the_sound_and_in_order() {
        let told =
            [segment(0, 300, " one "), segment(900, 400, "two"), segment(100, 9_999_999, "three"), segment(5, 6, " ")];
        let transcript = Transcript::of(told, &second(), Some(String::new()));
        let expected = vec![segment(0, 300, "one"), segment(900, 900, "two"), segment(900, 1_000, "three")];
        assert_eq!(transcript.segments, expected);
        assert_eq!((&transcript.text[..], transcript.language), ("one two three", None));
        let whole = Transcript::without_times("all of it", &second(), Some("en".into()));
        assert_eq!(whole.segments, [segment(0, 1_000, "all of it")]);
        assert_eq!(Transcript::without_times(" \n", &second(), None), Transcript::default());
    }

    #[test]
    fn what_is_more_than_all_segments_is_kept_in_the_last() {
        let many = (0..SPEECH_SEGMENTS_MAX + 3).map(|at| segment(0, 10, &at.to_string()));
        let transcript = Transcript::of(many, &second(), None);
        assert_eq!(transcript.segments.len(), SPEECH_SEGMENTS_MAX);
        assert!(transcript.segments.last().unwrap().text.ends_with("4097 4098"));
        assert!(transcript.text.ends_with(" 4097 4098"));
    }

    #[test]
    fn each_cause_says_whether_asking_again_may_help_and_what_to_do() {
        use RecognizerError::*;
        let pause = Duration::from_secs(7);
        for (error, repeat, engines) in [
            (Unreachable("refused".into()), Repeat::MayHelp, true),
            (Credentials, Repeat::Useless, true),
            (Busy(Some(pause)), Repeat::After(pause), true),
            (Busy(None), Repeat::MayHelp, true),
            (Failed("out of memory".into()), Repeat::MayHelp, true),
            (NotTaken("no such model".into()), Repeat::Useless, false),
            (BadAnswer("HTTP 302".into()), Repeat::MayHelp, true),
            (Broken, Repeat::MayHelp, true),
            (TimedOut, Repeat::MayHelp, true),
            (Length(Duration::ZERO), Repeat::Useless, false),
        ] {
            assert_eq!((error.repeat(), error.is_the_engines()), (repeat, engines), "{error}");
            assert!(!error.to_string().is_empty() && !error.remedy().is_empty());
        }
    }

    #[test]
    fn no_sound_and_too_much_of_it_are_refused() {
        let of = |samples: usize| check_length(&Pcm { samples: vec![0; samples].into(), rate_hz: 100 });
        assert!(matches!(of(0), Err(RecognizerError::Length(Duration::ZERO))));
        assert!(of(1).is_ok() && of(180_000).is_ok());
        assert!(matches!(of(180_001), Err(RecognizerError::Length(_))));
    }

    #[test]
    fn a_peers_words_stay_on_one_line() {
        assert_eq!(told(" a\r\nb\u{1b}[31m "), "a  b [31m");
        assert_eq!(told(&"x".repeat(5_000)).len(), LOGGED_TEXT_CHARS_MAX);
    }
}
