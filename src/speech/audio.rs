//! Telephone audio: G.711 μ-law to and from linear samples, its level, and tones.

use std::{array, f32::consts::TAU, sync::LazyLock, time::Duration};

use audio_codec_algorithms::{decode_ulaw, encode_ulaw};

/// Samples a second of everything that goes over a media stream.
pub const SAMPLE_RATE_HZ: u32 = 8_000;
/// Samples of 20 ms: the grain in which voice activity is judged.
pub const FRAME_SAMPLES: usize = 160;

/// The pitch of dial, busy and congestion tone in Israel and most of Europe (ITU-T E.180), in hertz.
const PROGRESS_TONE_HZ: f32 = 425.0;
/// The part of a frame's energy that must lie at that pitch; voices stay well below.
const PROGRESS_TONE_SHARE: f32 = 0.85;
/// A tone's edges are ramped this long, so that they do not click.
const TONE_RAMP_SAMPLES: usize = 40;

/// How loud a sound is: root mean square in decibels below full scale, from [`Level::SILENCE`] to 0.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Level(f32);

impl Level {
    /// Nothing at all. Below what 16 bits can hold, so every other level is higher.
    pub const SILENCE: Self = Self(-96.0);

    /// A level in decibels, brought into range.
    pub const fn from_db(db: f32) -> Self {
        Self(db.clamp(Self::SILENCE.0, 0.0))
    }

    /// Decibels, 0 at most.
    pub const fn db(self) -> f32 {
        self.0
    }
}

/// What is judged of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sound {
    pub level: Level,
    /// It is nearly nothing but the telephone network's own tone: dial tone, or busy tone of a line that was hung up.
    pub is_progress_tone: bool,
}

/// Decodes as many bytes as `pcm` holds samples; the part that was filled is returned.
pub fn decode<'a>(ulaw: &[u8], pcm: &'a mut [i16]) -> &'a [i16] {
    let samples = ulaw.len().min(pcm.len());
    for (sample, byte) in pcm.iter_mut().zip(ulaw) {
        *sample = decode_ulaw(*byte);
    }
    &pcm[..samples]
}

/// One μ-law byte a sample.
pub fn encode(pcm: &[i16]) -> Vec<u8> {
    pcm.iter().map(|sample| encode_ulaw(*sample)).collect()
}

/// How long so many samples (or μ-law bytes) last.
pub const fn duration(samples: usize) -> Duration {
    Duration::from_micros(samples as u64 * 1_000_000 / SAMPLE_RATE_HZ as u64)
}

/// The level of these samples; [`Level::SILENCE`] if there are none.
pub fn level(pcm: &[i16]) -> Level {
    level_of(energy(pcm), pcm.len())
}

/// Level and kind of a frame of at most [`FRAME_SAMPLES`]: of more, only so many are judged.
pub fn measure(pcm: &[i16]) -> Sound {
    let sums = Sums::of(&pcm[..pcm.len().min(FRAME_SAMPLES)]);
    Sound { level: sums.level(), is_progress_tone: sums.is_progress_tone() }
}

/// A sine of this pitch and length; `amplitude` is a part of full scale, 0 to 1.
pub fn tone(hz: f32, length: Duration, amplitude: f32) -> Vec<i16> {
    let samples = (length.as_secs_f32() * SAMPLE_RATE_HZ as f32) as usize;
    let peak = amplitude.clamp(0.0, 1.0) * f32::from(i16::MAX);
    (0..samples)
        .map(|index| {
            let from_edge = index.min(samples - 1 - index);
            let ramp = (from_edge as f32 / TONE_RAMP_SAMPLES as f32).min(1.0);
            ((TAU * hz * index as f32 / SAMPLE_RATE_HZ as f32).sin() * peak * ramp) as i16
        })
        .collect()
}

/// The sum of the squares.
fn energy(pcm: &[i16]) -> f32 {
    pcm.iter().map(|sample| f32::from(*sample) * f32::from(*sample)).sum()
}

fn level_of(energy: f32, samples: usize) -> Level {
    if energy == 0.0 {
        return Level::SILENCE;
    }
    let full_scale = 32_768.0_f32 * 32_768.0;
    Level::from_db(10.0 * (energy / samples as f32 / full_scale).log10())
}

/// Sums that are made side by side: as many as a vector register holds, since one sum is a chain of additions that each
/// wait for the one before.
const LANES: usize = 8;

/// The progress tone's pitch as a wave: cosine and sine of each sample of a frame.
static WAVES: LazyLock<[Wave; FRAME_SAMPLES / LANES]> = LazyLock::new(|| {
    let phase = |at: usize| TAU * PROGRESS_TONE_HZ * at as f32 / SAMPLE_RATE_HZ as f32;
    array::from_fn(|begin| Wave {
        cosine: array::from_fn(|lane| phase(begin * LANES + lane).cos()),
        sine: array::from_fn(|lane| phase(begin * LANES + lane).sin()),
    })
});

struct Wave {
    cosine: [f32; LANES],
    sine: [f32; LANES],
}

/// A frame's energy, and what of it lies at the progress tone's pitch: one term of the discrete Fourier transform.
#[derive(Default)]
struct Sums {
    samples: usize,
    energy: [f32; LANES],
    cosine: [f32; LANES],
    sine: [f32; LANES],
}

impl Sums {
    fn of(pcm: &[i16]) -> Self {
        let mut sums = Self { samples: pcm.len(), ..Self::default() };
        let (whole, rest) = pcm.as_chunks();
        let mut padded = [0; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        for (samples, wave) in whole.iter().chain([&padded]).zip(&*WAVES) {
            sums.add(samples, wave);
        }
        sums
    }

    fn add(&mut self, samples: &[i16; LANES], wave: &Wave) {
        for (lane, sample) in samples.iter().enumerate() {
            let sample = f32::from(*sample);
            self.energy[lane] += sample * sample;
            self.cosine[lane] += sample * wave.cosine[lane];
            self.sine[lane] += sample * wave.sine[lane];
        }
    }

    fn level(&self) -> Level {
        level_of(self.energy.iter().sum(), self.samples)
    }

    fn is_progress_tone(&self) -> bool {
        let sum = |lanes: &[f32; LANES]| lanes.iter().sum::<f32>();
        let (energy, cosine, sine) = (sum(&self.energy), sum(&self.cosine), sum(&self.sine));
        let at_pitch = cosine * cosine + sine * sine;
        energy > 0.0 && at_pitch * 2.0 / (self.samples as f32 * energy) > PROGRESS_TONE_SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut pcm = [0; 256];
        let mut back = encode(decode(&bytes, &mut pcm));
        // The two zeros of G.711 are one number.
        back[0x7f] = 0x7f;
        assert_eq!(back, bytes);
    }

    #[test]
    fn decodes_no_more_than_there_is_room_for() {
        let mut pcm = [0; 4];
        assert_eq!(decode(&[0xff; 9], &mut pcm).len(), 4);
        assert_eq!(decode(&[0xff; 2], &mut pcm).len(), 2);
        assert_eq!(decode(&[], &mut pcm), &[] as &[i16]);
    }

    #[test]
    fn levels_are_those_of_the_textbook() {
        assert_eq!(level(&[]), Level::SILENCE);
        assert_eq!(level(&[0; FRAME_SAMPLES]), Level::SILENCE);
        let full = level(&tone(1_000.0, Duration::from_secs(1), 1.0)).db();
        assert!((-3.1..-2.9).contains(&full), "a full sine has -3 dB, not {full}");
        let tenth = level(&tone(1_000.0, Duration::from_secs(1), 0.1)).db();
        assert!((-23.1..-22.9).contains(&tenth), "{tenth}");
        assert_eq!(level(&[i16::MIN; 8]).db(), 0.0);
    }

    #[test]
    fn knows_the_networks_tone_even_through_g711_and_takes_nothing_else_for_it() {
        let through_g711 = |hz| {
            let ulaw = encode(&tone(hz, Duration::from_millis(100), 0.2)[FRAME_SAMPLES..2 * FRAME_SAMPLES]);
            let mut pcm = [0; FRAME_SAMPLES];
            measure(decode(&ulaw, &mut pcm)).is_progress_tone
        };
        assert!(through_g711(425.0));
        for other in [200.0, 300.0, 550.0, 1_000.0] {
            assert!(!through_g711(other), "{other}");
        }
        assert!(!measure(&[0; FRAME_SAMPLES]).is_progress_tone);
        assert!(!measure(&[]).is_progress_tone);
    }

    #[test]
    fn a_tone_has_its_length_and_soft_edges() {
        let beep = tone(1_000.0, Duration::from_millis(250), 0.5);
        assert_eq!(beep.len(), 2_000);
        assert_eq!(duration(beep.len()), Duration::from_millis(250));
        assert!(beep[..4].iter().chain(&beep[1_996..]).all(|sample| sample.abs() < 2_000));
        assert!(tone(1_000.0, Duration::ZERO, 1.0).is_empty());
    }
}
