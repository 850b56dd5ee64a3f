//! One channel of sound from one rate to another.

use std::error::Error;

use rubato::{Fft, FixedSync, Resampler, audioadapter_buffers::direct::InterleavedSlice};

use super::{
    WIDE_RATE_HZ,
    recognizer::{Pcm, RecognizerError},
};

const CHUNK_FRAMES: usize = 1_024;

/// The same sound, as long as before; what the lower of the two rates cannot carry is left out. Samples are between
/// -1 and 1.
///
/// # Errors
/// Rates that cannot be converted, zero above all.
pub fn resample(mono: &[f32], from_hz: u32, to_hz: u32) -> Result<Vec<f32>, Box<dyn Error + Send + Sync>> {
    if from_hz == to_hz || mono.is_empty() {
        return Ok(mono.to_vec());
    }
    let mut resampler = Fft::<f32>::new(from_hz as usize, to_hz as usize, CHUNK_FRAMES, 1, FixedSync::Input)?;
    let input = InterleavedSlice::new(mono, 1, mono.len()).map_err(|error| error.to_string())?;
    Ok(resampler.process_all(&input, mono.len(), None)?.take_data())
}

/// A sound at the rate that engines are trained on, as numbers between -1 and 1.
pub(super) fn wide_float(sound: &Pcm) -> Result<Vec<f32>, RecognizerError> {
    resample(&to_float(&sound.samples), sound.rate_hz, WIDE_RATE_HZ)
        .map_err(|error| RecognizerError::NotTaken(format!("a sample rate of {} Hz: {error}", sound.rate_hz)))
}

/// The same as samples of 16 bits.
pub(super) fn wide(sound: &Pcm) -> Result<Vec<i16>, RecognizerError> {
    wide_float(sound).map(|mono| to_pcm(&mono))
}

/// Samples of 16 bits as numbers between -1 and 1.
pub fn to_float(pcm: &[i16]) -> Vec<f32> {
    pcm.iter().map(|sample| f32::from(*sample) / 32_768.0).collect()
}

/// And back; what is louder than can be is cut.
pub fn to_pcm(mono: &[f32]) -> Vec<i16> {
    mono.iter().map(|sample| (sample * 32_768.0) as i16).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::speech::audio::{level, tone};

    #[test]
    fn telephone_sound_keeps_its_length_and_level_at_16_khz() {
        let telephone = tone(1_000.0, Duration::from_secs(1), 0.5);
        let wide = to_pcm(&resample(&to_float(&telephone), 8_000, 16_000).unwrap());
        assert_eq!(wide.len(), 16_000);
        let level = level(&wide[1_600..14_400]).db();
        assert!((-9.6..-8.6).contains(&level), "{level}");
    }

    #[test]
    fn the_same_rate_is_the_same_sound_and_nothing_stays_nothing() {
        let loud = [i16::MIN, -1, 0, 1, i16::MAX];
        assert_eq!(to_pcm(&resample(&to_float(&loud), 8_000, 8_000).unwrap()), loud);
        assert!(resample(&[], 8_000, 16_000).unwrap().is_empty());
        assert!(resample(&[0.0], 0, 16_000).is_err());
        assert_eq!(to_pcm(&[2.0, -2.0]), [i16::MAX, i16::MIN]);
    }
}
