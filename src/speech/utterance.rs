//! Where a caller speaks: cuts a call's sound into utterances, each as long as an engine likes it. Pure.
//!
//! An utterance ends at a pause, at [`UTTERANCE_MAX`], or at the end of the sound. A question costs an engine nearly the
//! same however short it is, and words without their neighbours are misheard: so short ones are taken together unless the
//! pause between them is long. One that is too long is cut where it is quietest.
//!
//! It keeps nothing of the sound, only where in it what was: a call that is followed while it lasts costs no memory.

use std::time::Duration;

use super::{
    audio::{FRAME_SAMPLES, Level, SAMPLE_RATE_HZ, duration, measure},
    endpoint::VoiceActivity,
};
use crate::limits::UTTERANCE_MAX;

/// What comes before a voice is noticed belongs to it: the breath of a word.
const LEAD: u64 = samples(Duration::from_millis(240));
/// And so much after it.
const TRAIL: u64 = samples(Duration::from_millis(200));
/// This pause ends an utterance,
const PAUSE: u64 = samples(Duration::from_millis(700));
/// once it is so long;
const LONG: u64 = samples(Duration::from_secs(14));
/// before, it takes this one.
const LONG_PAUSE: u64 = samples(Duration::from_secs(3));
/// One that is too long is cut in its last so many samples.
const CUT_WITHIN: u64 = samples(Duration::from_secs(6));
const MOST: u64 = samples(UTTERANCE_MAX);

const fn samples(length: Duration) -> u64 {
    (length.as_millis() as u64 * SAMPLE_RATE_HZ as u64) / 1_000
}

/// A piece of sound with a voice in it.
#[derive(Debug, Clone)]
pub struct Utterance {
    /// When it begins, in samples from the begin of the sound.
    pub begin: u64,
    /// When it ends; at most [`UTTERANCE_MAX`] later.
    pub end: u64,
    /// Looks for the next one.
    pub then: Cutter,
}

/// Looks for one utterance, frame by frame.
#[derive(Debug, Clone)]
pub struct Cutter {
    activity: VoiceActivity,
    /// Where it began to look, in samples from the begin of the sound,
    from: u64,
    /// and how far it has heard it.
    heard: u64,
    voice: Option<Voice>,
}

/// A voice was heard.
#[derive(Debug, Clone)]
struct Voice {
    /// Its lead included.
    begin: u64,
    /// Since it was heard last.
    pause: u64,
    /// Where it is quietest within the last part, and what is known of the line by then.
    quietest: Option<(Level, u64, VoiceActivity)>,
}

impl Cutter {
    /// From the begin of a sound.
    pub fn new() -> Self {
        Self::at(0, VoiceActivity::new())
    }

    fn at(from: u64, activity: VoiceActivity) -> Self {
        Self { activity, from, heard: from, voice: None }
    }

    /// Where in the sound the frame is that it wants next, in samples.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// The next [`FRAME_SAMPLES`], or fewer at the end of the sound. `Some`: this was the utterance's last.
    pub fn handle_frame(&mut self, pcm: &[i16]) -> Option<Utterance> {
        let (sound, length) = (measure(pcm), pcm.len() as u64);
        let is_speaking = self.activity.handle_frame(sound, duration(pcm.len()));
        let frame_begin = self.heard;
        self.heard += length;
        if self.voice.is_none() && !is_speaking {
            return None;
        }
        let begin = frame_begin.saturating_sub(LEAD).max(self.from);
        let voice = self.voice.get_or_insert(Voice { begin, pause: 0, quietest: None });
        voice.pause = if is_speaking { 0 } else { voice.pause + length };
        let so_far = self.heard - voice.begin;
        let enough = if so_far - voice.pause >= LONG { PAUSE } else { LONG_PAUSE };
        if voice.pause >= enough {
            return self.finish();
        }
        if so_far + CUT_WITHIN > MOST && voice.quietest.as_ref().is_none_or(|(level, ..)| sound.level <= *level) {
            voice.quietest = Some((sound.level, self.heard, self.activity.clone()));
        }
        if so_far + FRAME_SAMPLES as u64 > MOST { self.cut() } else { None }
    }

    /// The sound is over. `None`: nobody has spoken since the last utterance.
    pub fn finish(&mut self) -> Option<Utterance> {
        let Voice { begin, pause, .. } = self.voice.take()?;
        let end = self.heard - pause.saturating_sub(TRAIL);
        Some(Utterance { begin, end, then: Self::at(self.heard, self.activity.clone()) })
    }

    fn cut(&mut self) -> Option<Utterance> {
        let Some((_, end, activity)) = self.voice.as_mut()?.quietest.take() else { return self.finish() };
        let Voice { begin, .. } = self.voice.take()?;
        Some(Utterance { begin, end, then: Self::at(end, activity) })
    }
}

impl Default for Cutter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::audio::tone;

    const NOTHING: i16 = 0;

    fn voice(seconds: f32) -> Vec<i16> {
        tone(300.0, Duration::from_secs_f32(seconds), 0.3)
    }

    fn silence(seconds: f32) -> Vec<i16> {
        vec![NOTHING; (seconds * 8_000.0) as usize]
    }

    /// All utterances of a sound, as tenths of a second from where to where.
    fn cut(sound: &[i16]) -> Vec<(u64, u64)> {
        let (mut cutter, mut heard) = (Cutter::new(), 0);
        let mut found = Vec::new();
        while let Some(Utterance { begin, end, then }) = next(sound, cutter) {
            assert!(then.heard() > heard, "it goes forward");
            assert!(begin < end && end <= then.heard() && end - begin <= MOST, "{begin} to {end}");
            found.push((begin / 800, end / 800));
            (heard, cutter) = (then.heard(), then);
        }
        found
    }

    fn next(sound: &[i16], mut cutter: Cutter) -> Option<Utterance> {
        sound[cutter.heard() as usize..]
            .chunks(FRAME_SAMPLES)
            .find_map(|frame| cutter.handle_frame(frame))
            .or_else(|| cutter.finish())
    }

    #[test]
    fn silence_and_tones_are_no_utterances() {
        assert_eq!(cut(&[]), []);
        assert_eq!(cut(&silence(60.0)), []);
        let busy = [tone(425.0, Duration::from_millis(500), 0.5), silence(0.5)].concat().repeat(20);
        assert_eq!(cut(&busy), []);
    }

    #[test]
    fn an_utterance_has_its_first_and_its_last_sounds() {
        assert_eq!(cut(&[silence(2.0), voice(3.0), silence(9.0)].concat()), [(18, 54)]);
        assert_eq!(cut(&[silence(2.0), voice(3.0)].concat()), [(18, 50)], "the call ends in the middle of a word");
        assert_eq!(cut(&voice(0.3)), [(0, 3)]);
    }

    #[test]
    fn short_ones_are_taken_together_and_a_long_one_ends_at_the_next_pause() {
        let words = [voice(1.0), silence(1.0)].concat().repeat(3);
        assert_eq!(cut(&words).len(), 1);
        let apart = [voice(1.0), silence(4.0)].concat().repeat(3);
        assert_eq!(cut(&apart).len(), 3);
        let speech = [voice(9.0), silence(1.5), voice(9.0), silence(1.5), voice(2.0)].concat();
        assert_eq!(cut(&speech), [(0, 199), (208, 230)]);
    }

    #[test]
    fn who_speaks_without_a_pause_is_cut_where_it_is_quietest_and_nothing_is_lost() {
        // Somebody who talks and talks: four syllables, and a tenth of a second between them.
        let talk = |seconds| [voice(0.7), tone(300.0, Duration::from_millis(100), 0.02)].concat().repeat(seconds);
        let found = cut(&talk(80));
        assert!(found.len() >= 3, "{found:?}");
        assert!(found.windows(2).all(|two| two[0].1 == two[1].0), "{found:?}");
        assert_eq!((found[0].0, found[found.len() - 1].1), (0, 640));
        // In one of the pauses.
        assert!(found[..found.len() - 1].iter().all(|(_, end)| matches!(end % 8, 7 | 0)), "{found:?}");
    }

    #[test]
    fn a_noise_that_stays_is_speech_for_some_seconds_only_however_it_is_cut() {
        let mut noise = 1_u32;
        let noise: Vec<i16> = (0..8_000 * 120)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 16) as i16 / 40
            })
            .collect();
        let spoken: u64 = cut(&noise).iter().map(|(begin, end)| end - begin).sum();
        assert!(spoken < 200, "{spoken} tenths of a second");
    }
}
