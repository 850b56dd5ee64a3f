//! Whether the caller speaks: the level of each frame against a noise floor that follows the line.

use std::time::Duration;

use super::audio::{Level, Sound};

/// Speech stands out of the line's noise by this much, in decibels.
const MARGIN_DB: f32 = 12.0;
/// Nothing below this is taken for speech, however quiet the line.
const SPEECH_LEAST: Level = Level::from_db(-46.0);
/// What the noise floor is taken for until the line was heard.
const FLOOR_FIRST: Level = Level::from_db(-60.0);
/// How fast the floor climbs to a louder noise: a machine that starts is speech for some seconds only.
const FLOOR_RISE_DB_PER_SECOND: f32 = 3.0;
/// How much of the way to a quieter frame the floor falls at once: the pauses between words set it right again.
const FLOOR_FALL: f32 = 0.2;
/// Shorter noises (clicks, knocks) are no speech.
const ONSET: Duration = Duration::from_millis(60);
/// Pauses between words and syllables are speech still.
const HANGOVER: Duration = Duration::from_millis(300);

/// Follows one stream's frames.
///
/// Judged by energy alone, because it has to tell a silent line from one on which somebody speaks, not words from
/// coughs. The network's own tones are never speech: a busy tone after a hang-up would keep a call open for hours.
#[derive(Debug, Clone)]
pub struct VoiceActivity {
    floor: Level,
    /// How long it has been loud without a break.
    loud: Duration,
    /// How much of the hangover is left.
    hangover: Duration,
}

impl VoiceActivity {
    /// A line of which nothing was heard yet.
    pub fn new() -> Self {
        Self { floor: FLOOR_FIRST, loud: Duration::ZERO, hangover: Duration::ZERO }
    }

    /// The next frame: what it sounds like and how long it lasts. Returns whether the caller speaks.
    pub fn handle_frame(&mut self, sound: Sound, length: Duration) -> bool {
        let is_loud = !sound.is_progress_tone && sound.level > self.threshold();
        self.follow_floor(sound.level, length);
        if is_loud {
            self.loud = self.loud.saturating_add(length);
        } else {
            self.loud = Duration::ZERO;
            self.hangover = self.hangover.saturating_sub(length);
        }
        if self.loud >= ONSET {
            self.hangover = HANGOVER;
        }
        self.is_speaking()
    }

    /// Frames are missing: what came before says nothing about what comes next.
    pub fn handle_gap(&mut self, length: Duration) {
        self.loud = Duration::ZERO;
        self.hangover = self.hangover.saturating_sub(length);
    }

    /// Whether the caller speaks, short pauses included.
    pub fn is_speaking(&self) -> bool {
        self.hangover > Duration::ZERO
    }

    fn threshold(&self) -> Level {
        let above_noise = Level::from_db(self.floor.db() + MARGIN_DB);
        if above_noise > SPEECH_LEAST { above_noise } else { SPEECH_LEAST }
    }

    fn follow_floor(&mut self, level: Level, length: Duration) {
        let floor = self.floor.db();
        let away = level.db() - floor;
        let step =
            if away < 0.0 { away * FLOOR_FALL } else { away.min(FLOOR_RISE_DB_PER_SECOND * length.as_secs_f32()) };
        self.floor = Level::from_db(floor + step);
    }
}

impl Default for VoiceActivity {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    fn at(db: f32) -> Sound {
        Sound { level: Level::from_db(db), is_progress_tone: false }
    }

    /// Plays the same frame for so long; returns for how long of it the caller spoke.
    fn play(activity: &mut VoiceActivity, sound: Sound, seconds: f32) -> Duration {
        let frames = (seconds * 50.0).round() as usize;
        let spoken = (0..frames).filter(|_| activity.handle_frame(sound, FRAME)).count();
        FRAME * spoken as u32
    }

    #[test]
    fn a_silent_line_never_speaks() {
        let mut activity = VoiceActivity::new();
        assert_eq!(play(&mut activity, at(-96.0), 10.0), Duration::ZERO);
        assert_eq!(play(&mut activity, at(-55.0), 10.0), Duration::ZERO, "a line that hisses");
    }

    #[test]
    fn speech_begins_within_60_ms_and_ends_300_ms_after_the_last_loud_frame() {
        let mut activity = VoiceActivity::new();
        play(&mut activity, at(-65.0), 1.0);
        assert_eq!(play(&mut activity, at(-25.0), 0.5), Duration::from_millis(460));
        assert_eq!(play(&mut activity, at(-65.0), 1.0), Duration::from_millis(280));
        assert!(!activity.is_speaking());
    }

    #[test]
    fn a_click_is_no_speech() {
        let mut activity = VoiceActivity::new();
        for _ in 0..20 {
            assert_eq!(play(&mut activity, at(-10.0), 0.04), Duration::ZERO);
            assert_eq!(play(&mut activity, at(-70.0), 0.2), Duration::ZERO);
        }
    }

    #[test]
    fn a_noise_that_stays_becomes_the_floor_and_speech_still_stands_out_of_it() {
        let mut activity = VoiceActivity::new();
        play(&mut activity, at(-35.0), 10.0);
        assert_eq!(play(&mut activity, at(-35.0), 10.0), Duration::ZERO);
        assert!(play(&mut activity, at(-15.0), 1.0) > Duration::from_millis(900));
    }

    #[test]
    fn somebody_who_talks_for_minutes_is_heard_to_the_end() {
        let mut activity = VoiceActivity::new();
        for _ in 0..200 {
            play(&mut activity, at(-22.0), 0.8);
            play(&mut activity, at(-58.0), 0.2);
        }
        assert!(play(&mut activity, at(-22.0), 0.8) > Duration::from_millis(700));
    }

    #[test]
    fn a_busy_tone_is_no_speech() {
        let mut activity = VoiceActivity::new();
        let tone = Sound { level: Level::from_db(-12.0), is_progress_tone: true };
        for _ in 0..30 {
            // Where the tone sets in and breaks off, a frame is only half of it and looks like anything.
            assert_eq!(play(&mut activity, at(-15.0), 0.02), Duration::ZERO);
            assert_eq!(play(&mut activity, tone, 0.46), Duration::ZERO);
            assert_eq!(play(&mut activity, at(-15.0), 0.02), Duration::ZERO);
            assert_eq!(play(&mut activity, at(-80.0), 0.5), Duration::ZERO);
        }
    }

    #[test]
    fn two_loud_frames_on_both_sides_of_a_gap_are_no_onset() {
        let mut activity = VoiceActivity::new();
        play(&mut activity, at(-20.0), 0.04);
        activity.handle_gap(Duration::from_secs(1));
        assert_eq!(play(&mut activity, at(-20.0), 0.04), Duration::ZERO);
    }
}
