//! The person on the line: what they say, how long they bear silence, and when they hang up. Pure.

use std::{sync::Arc, time::Duration};

use audio_codec_algorithms::decode_ulaw;

/// Bytes of G.711 audio in a millisecond.
pub const BYTES_PER_MS: u64 = 8;
/// A μ-law byte of silence.
const SILENCE: u8 = 0xff;
/// Mean amplitude above which a stretch of audio counts as sound (of 32,767).
const SOUND_MEAN: u32 = 250;

/// What a caller does.
#[derive(Debug, Clone)]
pub struct Caller {
    /// All they have to say, in μ-law at 8 kHz. They say it from the beginning to whoever listens: a stream, a recorder.
    pub speech: Arc<[u8]>,
    /// They hang up this long after having said it all on a stream; `None`: they wait to be hung up on.
    pub leaves_after_saying: Option<Duration>,
    /// They hang up this long after the call was answered, whatever happens.
    pub leaves_after: Duration,
    /// They hang up after this long in silence, heard by nobody.
    pub patience: Duration,
}

/// How far the caller has come with what they have to say.
#[derive(Debug, Clone)]
pub struct Voice {
    speech: Arc<[u8]>,
    said_bytes: usize,
}

impl Voice {
    /// A caller who has said nothing yet.
    pub fn new(speech: Arc<[u8]>) -> Self {
        Self { speech, said_bytes: 0 }
    }

    /// Begins again: somebody else listens now.
    pub fn restart(&mut self) {
        self.said_bytes = 0;
    }

    /// The next piece of their voice, padded with silence; only silence when all is said.
    pub fn speak(&mut self, length: Duration) -> Vec<u8> {
        let rest = self.speech.get(self.said_bytes..).unwrap_or_default();
        let wanted = bytes_in(length);
        let mut frame = rest.get(..wanted.min(rest.len())).unwrap_or_default().to_vec();
        self.said_bytes += frame.len();
        frame.resize(wanted, SILENCE);
        frame
    }

    /// Whether nothing is left to say.
    pub fn has_said_all(&self) -> bool {
        self.said_bytes >= self.speech.len()
    }
}

/// Silence of this length.
pub fn silence(length: Duration) -> Vec<u8> {
    vec![SILENCE; bytes_in(length)]
}

/// Whether a stretch of μ-law audio holds sound.
pub fn is_sound(ulaw: &[u8]) -> bool {
    let sum: u64 = ulaw.iter().map(|&byte| u64::from(decode_ulaw(byte).unsigned_abs())).sum();
    sum > u64::from(SOUND_MEAN) * ulaw.len() as u64
}

/// How long a stretch of μ-law audio lasts.
pub fn duration_of(bytes: usize) -> Duration {
    Duration::from_micros(bytes as u64 * 1000 / BYTES_PER_MS)
}

fn bytes_in(length: Duration) -> usize {
    (length.as_millis() as u64 * BYTES_PER_MS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voice_ends_in_silence_and_can_begin_again() {
        let frame = Duration::from_millis(20);
        let mut voice = Voice::new(vec![0u8; 200].into());
        assert!(is_sound(&voice.speak(frame)));
        let last = voice.speak(frame);
        assert_eq!((last[39], last[40], last.len()), (0, SILENCE, 160));
        assert!(voice.has_said_all());
        assert!(!is_sound(&voice.speak(frame)));
        voice.restart();
        assert!(!voice.has_said_all() && is_sound(&voice.speak(frame)));
    }
}
