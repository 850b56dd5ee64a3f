//! A call inside `<Record>`: the caller's voice is kept until silence, a key, the greatest length, or the end. Pure.

use std::time::{Duration, Instant};

use super::{
    caller::{Voice, duration_of, is_sound, silence},
    document::RecordVerb,
};
use crate::twilio::sid::RecordingSid;

/// How long Twilio's beep is.
const BEEP: Duration = Duration::from_secs(1);
/// How long a caller takes to begin after the line asks for a message.
const BREATH: Duration = Duration::from_millis(300);
/// Audio kept of one recording, in bytes (ten minutes); a longer one goes on, but its rest is silence to us.
const AUDIO_BYTES_MAX: usize = 10 * 60 * 8000;

/// Why a recording ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordEnd {
    /// Nothing was said for `timeout`.
    Silence,
    /// `maxLength` is reached.
    MaxLength,
    /// A finishing key.
    Key(char),
    /// The caller hung up.
    HungUp,
}

/// One running recording.
#[derive(Debug)]
pub struct Recorder {
    pub verb: RecordVerb,
    pub recording_sid: RecordingSid,
    begun_at: Instant,
    frame: Duration,
    next_frame: Instant,
    sound_at: Instant,
    heard: bool,
    length: Duration,
    audio: Vec<u8>,
}

impl Recorder {
    /// Begins to record, after the beep if there is one.
    pub fn begin(verb: RecordVerb, recording_sid: RecordingSid, frame: Duration, now: Instant) -> Self {
        let begun_at = if verb.play_beep { now + BEEP } else { now };
        Self {
            verb,
            recording_sid,
            begun_at,
            frame,
            next_frame: begun_at + frame,
            sound_at: begun_at,
            heard: false,
            length: Duration::ZERO,
            audio: Vec::new(),
        }
    }

    /// Records what is due; says when it is over.
    pub fn handle_timeout(&mut self, voice: &mut Voice, now: Instant) -> Option<RecordEnd> {
        while self.next_frame <= now {
            let due = self.next_frame;
            self.next_frame += self.frame;
            let piece = if due < self.begun_at + BREATH { silence(self.frame) } else { voice.speak(self.frame) };
            if is_sound(&piece) {
                self.heard = true;
                self.sound_at = due;
            }
            self.length += self.frame;
            if self.audio.len() + piece.len() <= AUDIO_BYTES_MAX {
                self.audio.extend(piece);
            }
            if self.length >= self.verb.max_length {
                return Some(RecordEnd::MaxLength);
            }
            let timeout = self.verb.timeout;
            if !timeout.is_zero() && due.saturating_duration_since(self.sound_at) >= timeout {
                return Some(RecordEnd::Silence);
            }
        }
        None
    }

    /// When the next piece is due.
    pub fn poll_timeout(&self) -> Instant {
        self.next_frame
    }

    /// Whether this key ends it.
    pub fn is_ended_by(&self, key: char) -> bool {
        self.verb.finish_on_key.contains(key)
    }

    /// Whether anything was said.
    pub fn has_heard(&self) -> bool {
        self.heard
    }

    /// How long it has run.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// What was recorded, in μ-law.
    pub fn into_audio(self) -> Vec<u8> {
        debug_assert!(duration_of(self.audio.len()) <= self.length + self.frame);
        self.audio
    }
}
