//! What was heard of one call so far, and the text that becomes of it.

use std::{fmt, time::Instant};

use tokio::sync::oneshot;

use super::{
    call_audio::{CallAudio, Cursor, End, Spoken, ToCome},
    marks::{self, UNHEARD},
    mask::{Ends, mask_digits},
    recognizer::{Segment, Transcript},
};
use crate::limits::{FOLLOWED_KEPT, LAST_WORDS_CHARS_MAX, UTTERANCE_TEXT_BYTES_MAX};

/// A number that is said in pieces is looked for in so many of the last.
const PIECES_READ: usize = 16;

/// As the engine's name: none was needed.
pub(crate) const NOBODY: &str = "none";

/// What a call's audio says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallText {
    /// Times are from the begin of the call's audio. `engine`: who wrote it down.
    Words { engine: String, segments: Vec<Segment> },
    /// All of it could be read, and nobody says anything. `engine`: who says so; `none` if the sound alone did.
    NoSpeech { engine: String },
    /// There is no audio, or none that the engine takes.
    Unusable,
}

/// What was said last in a call that goes on. `Debug` tells its length alone.
#[derive(Clone, PartialEq, Eq)]
pub struct LastWords(pub String);

impl fmt::Debug for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LastWords({} characters)", self.0.chars().count())
    }
}

/// A call that is being transcribed.
pub(super) struct Hearing {
    pub(super) audio: CallAudio,
    /// Where its next utterance is.
    pub(super) cursor: Cursor,
    /// The utterance that was asked for last and has no text: what stands for it if it is skipped, and what is behind it.
    pub(super) failed: Option<(Segment, Cursor)>,
    pub(super) segments: Vec<Segment>,
    pub(super) is_anything_unheard: bool,
    pub(super) engine: String,
    /// Who waits for the text, and for how long; `None`: the call goes on, as far as is known.
    pub(super) reply: Option<Reply>,
    /// Since when none of its streams is being written, while it goes on.
    pub(super) quiet_since: Option<Instant>,
}

pub(super) struct Reply {
    pub(super) to: oneshot::Sender<CallText>,
    pub(super) until: Instant,
}

impl Hearing {
    pub(super) fn new(audio: CallAudio, reply: Option<Reply>) -> Self {
        Self {
            audio,
            cursor: Cursor::begin(),
            failed: None,
            segments: Vec::new(),
            is_anything_unheard: false,
            engine: NOBODY.to_owned(),
            reply,
            quiet_since: None,
        }
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.to.is_closed())
    }

    /// Nothing more was said by now. Whether that has been so for long after its last stream, and nobody has asked for it.
    pub(super) fn is_forgotten(&mut self, to_come: ToCome, now: Instant) -> bool {
        if self.reply.is_some() || to_come == ToCome::Sound {
            self.quiet_since = None;
            return false;
        }
        now - *self.quiet_since.get_or_insert(now) >= FOLLOWED_KEPT
    }

    /// An utterance's text, on the call's scale of time. What nobody can say in that time is left out.
    pub(super) fn take(&mut self, spoken: &Spoken, transcript: Transcript) {
        self.failed = None;
        let mut bytes = 0;
        for mut segment in transcript.segments {
            bytes += segment.text.len();
            if bytes > UTTERANCE_TEXT_BYTES_MAX {
                segment.text = UNHEARD.to_owned();
                self.is_anything_unheard = true;
            }
            segment.start_ms += spoken.begin_ms;
            segment.end_ms += spoken.begin_ms;
            self.segments.push(segment);
            if bytes > UTTERANCE_TEXT_BYTES_MAX {
                break;
            }
        }
    }

    /// The end of what was said so far, while the call goes on.
    pub(super) fn last_words(&self, is_masked: bool) -> Option<LastWords> {
        if self.reply.is_some() {
            return None;
        }
        let mut pieces = self.segments[self.segments.len().saturating_sub(PIECES_READ)..].to_vec();
        if is_masked {
            mask_digits(&mut pieces, Ends::Open);
        }
        let mut words: Vec<&str> = pieces.iter().flat_map(|piece| piece.text.split_whitespace()).collect();
        let (mut length, all) = (0, words.len());
        let kept = words.iter().rev().take_while(|word| {
            length += word.chars().count() + 1;
            length <= LAST_WORDS_CHARS_MAX
        });
        let kept = kept.count();
        words.drain(..all - kept);
        let is_cut = kept < all || pieces.len() < self.segments.len();
        let told = if is_cut { format!("… {}", words.join(" ")) } else { words.join(" ") };
        (kept > 0).then_some(LastWords(told))
    }

    /// Tells whoever waits what there is of the text, with what was besides sound among it.
    pub(super) fn tell(self, End { is_whole, marks }: &End, is_masked: bool) {
        let mut said = self.segments;
        if is_masked {
            mask_digits(&mut said, Ends::Closed);
        }
        let has_words = said.iter().any(|segment| segment.text != UNHEARD);
        let is_all_heard = *is_whole && !self.is_anything_unheard && !marks::has_gap(marks);
        let mut segments = marks::insert(said, marks);
        let text = match (has_words, is_all_heard) {
            (true, _) => {
                if !is_whole {
                    let end_ms = segments.last().map_or(0, |last| last.end_ms);
                    segments.push(Segment { start_ms: end_ms, end_ms, text: UNHEARD.to_owned() });
                }
                CallText::Words { engine: self.engine, segments }
            }
            // Keys alone.
            (false, true) if !segments.is_empty() => CallText::Words { engine: self.engine, segments },
            (false, true) => CallText::NoSpeech { engine: self.engine },
            (false, false) => CallText::Unusable,
        };
        // Whoever does not want it any more has what it takes to do without.
        let _ = self.reply.map(|reply| reply.to.send(text));
    }
}
