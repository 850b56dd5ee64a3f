//! Where a caller speaks: cuts a call's sound into utterances, each as long as an engine likes it. Pure.
//!
//! An utterance ends at a pause, at [`UTTERANCE_MAX`], or at the end of the sound. A question costs an engine nearly the
//! same however short it is, and words without their neighbours are misheard: so short ones are taken together unless the
//! pause between them is long. One that is too long is cut where it is quietest.

use std::time::Duration;

use super::{
    audio::{FRAME_SAMPLES, Level, SAMPLE_RATE_HZ, duration, measure},
    endpoint::VoiceActivity,
};
use crate::limits::UTTERANCE_MAX;

/// What comes before a voice is noticed belongs to it: the breath of a word.
const LEAD: usize = samples(Duration::from_millis(240));
/// And so much after it.
const TRAIL: usize = samples(Duration::from_millis(200));
/// This pause ends an utterance,
const PAUSE: usize = samples(Duration::from_millis(700));
/// once it is so long;
const LONG: usize = samples(Duration::from_secs(14));
/// before, it takes this one.
const LONG_PAUSE: usize = samples(Duration::from_secs(3));
/// One that is too long is cut in its last so many samples.
const CUT_WITHIN: usize = samples(Duration::from_secs(6));
const MOST: usize = samples(UTTERANCE_MAX);

const fn samples(length: Duration) -> usize {
    (length.as_millis() as usize * SAMPLE_RATE_HZ as usize) / 1_000
}

/// Where in a sound the next utterance is looked for, and what is known of the line by then.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// In samples from the begin of the sound.
    pub at: u64,
    activity: VoiceActivity,
}

impl Place {
    /// The begin of a sound.
    pub fn begin() -> Self {
        Self::default()
    }
}

/// A piece of sound with a voice in it.
#[derive(Debug, Clone)]
pub struct Utterance {
    /// When it begins, in samples from the begin of the sound.
    pub begin: u64,
    /// 8,000 a second.
    pub pcm: Vec<i16>,
    /// Where the next one is looked for.
    pub then: Place,
}

/// Looks for one utterance, frame by frame.
#[derive(Debug)]
pub struct Cutter {
    activity: VoiceActivity,
    /// How much was heard, in samples from the begin of the sound.
    heard: u64,
    /// The last of what was heard: the lead, and from the first voice on all of it.
    pcm: Vec<i16>,
    has_voice: bool,
    /// Since the voice was heard last.
    pause: usize,
    /// Where it is quietest within the last part: how much is before it.
    quietest: Option<(Level, usize, VoiceActivity)>,
}

impl Cutter {
    /// From this place on.
    pub fn new(place: &Place) -> Self {
        Self {
            activity: place.activity.clone(),
            heard: place.at,
            pcm: Vec::new(),
            has_voice: false,
            pause: 0,
            quietest: None,
        }
    }

    /// The next [`FRAME_SAMPLES`], or fewer at the end of the sound. `Some`: this was the utterance's last.
    pub fn handle_frame(&mut self, pcm: &[i16]) -> Option<Utterance> {
        let sound = measure(pcm);
        let is_speaking = self.activity.handle_frame(sound, duration(pcm.len()));
        self.heard += pcm.len() as u64;
        self.pcm.extend_from_slice(pcm);
        if !self.has_voice && !is_speaking {
            let surplus = self.pcm.len().saturating_sub(LEAD);
            self.pcm.drain(..surplus);
            return None;
        }
        self.has_voice = true;
        self.pause = if is_speaking { 0 } else { self.pause + pcm.len() };
        let enough = if self.pcm.len() - self.pause >= LONG { PAUSE } else { LONG_PAUSE };
        if self.pause >= enough {
            return self.finish();
        }
        if self.pcm.len() + CUT_WITHIN > MOST && self.quietest.as_ref().is_none_or(|(level, ..)| sound.level <= *level)
        {
            self.quietest = Some((sound.level, self.pcm.len(), self.activity.clone()));
        }
        if self.pcm.len() + FRAME_SAMPLES > MOST { self.cut() } else { None }
    }

    /// The sound is over. `None`: nobody has spoken since the last utterance.
    pub fn finish(&mut self) -> Option<Utterance> {
        if !self.has_voice {
            return None;
        }
        let begin = self.heard - self.pcm.len() as u64;
        let surplus = self.pause.saturating_sub(TRAIL);
        let mut pcm = std::mem::take(&mut self.pcm);
        pcm.truncate(pcm.len() - surplus);
        Some(Utterance { begin, pcm, then: Place { at: self.heard, activity: self.activity.clone() } })
    }

    fn cut(&mut self) -> Option<Utterance> {
        let Some((_, length, activity)) = self.quietest.take() else { return self.finish() };
        let begin = self.heard - self.pcm.len() as u64;
        let mut pcm = std::mem::take(&mut self.pcm);
        pcm.truncate(length);
        Some(Utterance { begin, pcm, then: Place { at: begin + length as u64, activity } })
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
        let mut place = Place::begin();
        let mut found = Vec::new();
        while let Some(utterance) = next(sound, &place) {
            assert!(utterance.then.at > place.at, "it goes forward");
            assert!(utterance.pcm.len() <= MOST);
            let end = utterance.begin + utterance.pcm.len() as u64;
            assert_eq!(utterance.pcm, sound[utterance.begin as usize..end as usize], "the sound as it is");
            found.push((utterance.begin / 800, end / 800));
            place = utterance.then;
        }
        found
    }

    fn next(sound: &[i16], place: &Place) -> Option<Utterance> {
        let mut cutter = Cutter::new(place);
        sound[place.at as usize..]
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
