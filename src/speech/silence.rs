//! For how long the caller has said nothing, by the stream's own clock.

use std::time::Duration;

use super::{
    audio::{FRAME_SAMPLES, decode, duration, measure},
    endpoint::VoiceActivity,
};

/// Missing audio counts as silence, but one jump of the timestamps by no more than this.
const GAP_MAX: Duration = Duration::from_secs(1);

/// Follows the audio of one stream.
///
/// Time is the media's: what arrives late or bunched was still said when it was said, and a stream from which nothing
/// arrives stands still. So a broken stream is never taken for a caller who has nothing to say: that is the watchdog's.
#[derive(Debug, Clone)]
pub struct CallerSilence {
    activity: VoiceActivity,
    silent: Duration,
    speaking: Duration,
}

impl CallerSilence {
    /// Nothing was heard yet.
    pub fn new() -> Self {
        Self { activity: VoiceActivity::new(), silent: Duration::ZERO, speaking: Duration::ZERO }
    }

    /// The next audio in μ-law, of any length, and how much is missing before it.
    pub fn handle_audio(&mut self, ulaw: &[u8], missing: Duration) {
        if missing > Duration::ZERO {
            self.pass_gap(missing.min(GAP_MAX));
        }
        let mut pcm = [0; FRAME_SAMPLES];
        for frame in ulaw.chunks(FRAME_SAMPLES) {
            let length = duration(frame.len());
            if self.activity.handle_frame(measure(decode(frame, &mut pcm)), length) {
                self.speaking = self.speaking.saturating_add(length);
                self.silent = Duration::ZERO;
            } else {
                self.speaking = Duration::ZERO;
                self.silent = self.silent.saturating_add(length);
            }
        }
    }

    /// Since the caller last spoke; zero while speaking.
    pub fn silent(&self) -> Duration {
        self.silent
    }

    /// For how long the caller has been speaking without a pause; zero while silent.
    pub fn speaking(&self) -> Duration {
        self.speaking
    }

    fn pass_gap(&mut self, gap: Duration) {
        self.activity.handle_gap(gap);
        self.speaking = Duration::ZERO;
        self.silent = self.silent.saturating_add(gap);
    }
}

impl Default for CallerSilence {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::audio::{encode, tone};

    const NOTHING: u8 = 0xff;

    /// A voice in the plainest sense: loud, and no tone of the network.
    fn voice(length: Duration) -> Vec<u8> {
        encode(&tone(300.0, length, 0.3))
    }

    #[test]
    fn silence_is_counted_by_what_was_heard_whatever_the_messages_sizes() {
        for bytes in [80, 160, 1_600, 8_000] {
            let mut silence = CallerSilence::new();
            for _ in 0..8_000 / bytes {
                silence.handle_audio(&vec![NOTHING; bytes], Duration::ZERO);
            }
            assert_eq!(silence.silent(), Duration::from_secs(1), "{bytes}");
        }
    }

    #[test]
    fn a_voice_ends_it_and_its_pauses_do_not_begin_it() {
        let mut silence = CallerSilence::new();
        silence.handle_audio(&[NOTHING; 8_000], Duration::ZERO);
        silence.handle_audio(&voice(Duration::from_millis(500)), Duration::ZERO);
        assert_eq!(silence.silent(), Duration::ZERO);
        assert!(silence.speaking() >= Duration::from_millis(400));
        silence.handle_audio(&[NOTHING; 1_600], Duration::ZERO);
        assert_eq!(silence.silent(), Duration::ZERO);
        silence.handle_audio(&[NOTHING; 8_000], Duration::ZERO);
        assert!(silence.silent() >= Duration::from_millis(800));
        assert_eq!(silence.speaking(), Duration::ZERO);
    }

    #[test]
    fn missing_audio_is_silence_and_a_wild_timestamp_is_not_an_hour_of_it() {
        let mut silence = CallerSilence::new();
        silence.handle_audio(&[NOTHING; 160], Duration::ZERO);
        silence.handle_audio(&[NOTHING; 160], Duration::from_millis(500));
        assert_eq!(silence.silent(), Duration::from_millis(540));
        silence.handle_audio(&[NOTHING; 160], Duration::MAX);
        assert_eq!(silence.silent(), Duration::from_millis(1_560));
    }
}
