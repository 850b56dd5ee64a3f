//! Sound files to samples: MP3 and WAV of any rate, one or more channels, in memory and bounded.

use std::{fmt, io::Cursor, time::Duration};

use symphonia::core::{
    codecs::audio::{AudioDecoder, AudioDecoderOptions},
    errors::Error as SymphoniaError,
    formats::{FormatOptions, FormatReader, TrackType, probe::Hint},
    io::MediaSourceStream,
    meta::MetadataOptions,
};

use super::{
    WIDE_RATE_HZ,
    audio::{SAMPLE_RATE_HZ, duration},
    recognizer::Pcm,
    resample::{resample, to_pcm},
};
use crate::limits::{DECODED_AUDIO_MAX, RECOGNIZED_AUDIO_MAX, SOUND_CHANNELS_MAX};

/// Rates that sound files really have; others are a damaged header.
const RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=192_000;

/// A file's beginning in which symphonia looks for what it is.
const RIFF_WITHIN: usize = 1024 * 1024;

/// A decoded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// One channel of 8,000 samples a second.
    pub pcm8k: Vec<i16>,
    /// How long it plays: counted, not read from a header.
    pub duration: Duration,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub enum DecodeError {
    /// Neither MP3 nor WAV, or a codec in it that is not known.
    Unsupported(SymphoniaError),
    /// No sound track, or nothing in it could be decoded.
    Empty,
    /// The header names a rate outside of 4 to 192 kHz.
    Rate(u32),
    /// The header names none, or more than [`SOUND_CHANNELS_MAX`] channels.
    Channels(u16),
    /// It plays longer than is decoded for its purpose.
    TooLong(Duration),
    /// The rate could not be converted.
    Resample(Box<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(_) => f.write_str("neither an MP3 nor a WAV file that can be read"),
            Self::Empty => f.write_str("no sound in the file"),
            Self::Rate(hz) => write!(f, "a sample rate of {hz} Hz"),
            Self::Channels(channels) => write!(f, "{channels} channels"),
            Self::TooLong(most) => write!(f, "longer than {} s", most.as_secs()),
            Self::Resample(_) => f.write_str("the sample rate cannot be converted"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsupported(source) => Some(source),
            Self::Resample(source) => Some(source.as_ref()),
            Self::Empty | Self::Rate(_) | Self::Channels(_) | Self::TooLong(_) => None,
        }
    }
}

/// Decodes a whole file of at most [`DECODED_AUDIO_MAX`] for the telephone. `extension` (`mp3`, `wav`) is only a hint;
/// what the bytes say counts.
pub fn decode(bytes: &[u8], extension: &str) -> Result<Sound, DecodeError> {
    let (mono, rate_hz) = decode_file(bytes, extension, DECODED_AUDIO_MAX)?;
    let mono = resample(&mono, rate_hz, SAMPLE_RATE_HZ).map_err(DecodeError::Resample)?;
    let pcm8k = to_pcm(&mono);
    Ok(Sound { duration: duration(pcm8k.len()), pcm8k })
}

/// Decodes a whole file of at most [`RECOGNIZED_AUDIO_MAX`] for a speech engine: what has the telephone's rate keeps it,
/// all else gets 16 kHz.
pub fn decode_to_recognize(bytes: &[u8], extension: &str) -> Result<Pcm, DecodeError> {
    let (mono, rate_hz) = decode_file(bytes, extension, RECOGNIZED_AUDIO_MAX)?;
    let wanted_hz = if rate_hz == SAMPLE_RATE_HZ { SAMPLE_RATE_HZ } else { WIDE_RATE_HZ };
    let mono = resample(&mono, rate_hz, wanted_hz).map_err(DecodeError::Resample)?;
    Ok(Pcm { samples: to_pcm(&mono).into(), rate_hz: wanted_hz })
}

/// Decodes a whole file of at most [`RECOGNIZED_AUDIO_MAX`] to the telephone's rate, to look for voices in it.
pub fn decode_voice(bytes: &[u8], extension: &str) -> Result<Vec<i16>, DecodeError> {
    let (mono, rate_hz) = decode_file(bytes, extension, RECOGNIZED_AUDIO_MAX)?;
    let mono = resample(&mono, rate_hz, SAMPLE_RATE_HZ).map_err(DecodeError::Resample)?;
    Ok(to_pcm(&mono))
}

fn decode_file(bytes: &[u8], extension: &str, longest: Duration) -> Result<(Vec<f32>, u32), DecodeError> {
    check_channels(bytes)?;
    let source = MediaSourceStream::new(Box::new(Cursor::new(bytes.to_vec())), Default::default());
    let mut hint = Hint::new();
    hint.with_extension(extension);
    let format = symphonia::default::get_probe()
        .probe(&hint, source, FormatOptions::default(), MetadataOptions::default())
        .map_err(DecodeError::Unsupported)?;
    decode_mono(format, longest)
}

/// Refuses a WAV whose format names channels that no sound has: symphonia multiplies them with the size of a sample before
/// it judges them, in 16 bits.
fn check_channels(bytes: &[u8]) -> Result<(), DecodeError> {
    let Some(riff) = bytes.windows(4).take(RIFF_WITHIN).position(|four| four == b"RIFF") else { return Ok(()) };
    let mut chunks = bytes.get(riff + 12..).unwrap_or_default();
    while let Some((head, rest)) = chunks.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if head.starts_with(b"fmt ")
            && let Some(&[low, high]) = rest.get(2..4)
        {
            let channels = u16::from_le_bytes([low, high]);
            if !(1..=SOUND_CHANNELS_MAX).contains(&channels) {
                return Err(DecodeError::Channels(channels));
            }
        }
        // Chunks begin at even places.
        chunks = rest.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    Ok(())
}

/// The first sound track, its channels mixed to one, at its own rate.
fn decode_mono(mut format: Box<dyn FormatReader + '_>, longest: Duration) -> Result<(Vec<f32>, u32), DecodeError> {
    let track = format.default_track(TrackType::Audio).ok_or(DecodeError::Empty)?;
    let track_id = track.id;
    let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio()).ok_or(DecodeError::Empty)?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(DecodeError::Unsupported)?;
    let mut track = Track { mono: Vec::new(), rate_hz: None, interleaved: Vec::new(), longest };
    // A file that breaks off is played as far as it goes: a player would do the same.
    while let Ok(Some(packet)) = format.next_packet() {
        if packet.track_id == track_id && !track.append(decoder.as_mut(), &packet)? {
            break;
        }
    }
    match track.rate_hz {
        Some(rate_hz) if !track.mono.is_empty() => Ok((track.mono, rate_hz)),
        _ => Err(DecodeError::Empty),
    }
}

/// What was decoded of a track so far.
struct Track {
    mono: Vec<f32>,
    rate_hz: Option<u32>,
    interleaved: Vec<f32>,
    longest: Duration,
}

impl Track {
    /// Decodes one packet more; false when nothing useful can follow. A damaged packet is skipped.
    fn append(
        &mut self,
        decoder: &mut dyn AudioDecoder,
        packet: &symphonia::core::packet::Packet,
    ) -> Result<bool, DecodeError> {
        let decoded = match decoder.decode(packet) {
            Ok(decoded) => decoded,
            Err(SymphoniaError::DecodeError(_) | SymphoniaError::IoError(_)) => return Ok(true),
            Err(_) => return Ok(false),
        };
        let rate_hz = decoded.spec().rate();
        let channels = decoded.spec().channels().count();
        if !RATES_HZ.contains(&rate_hz) {
            return Err(DecodeError::Rate(rate_hz));
        }
        if *self.rate_hz.get_or_insert(rate_hz) != rate_hz || channels == 0 {
            return Ok(false);
        }
        decoded.copy_to_vec_interleaved(&mut self.interleaved);
        let frames = self.interleaved.chunks_exact(channels);
        self.mono.extend(frames.map(|frame| frame.iter().sum::<f32>() / channels as f32));
        if self.mono.len() as u64 > self.longest.as_secs() * u64::from(rate_hz) {
            return Err(DecodeError::TooLong(self.longest));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::audio::{level, tone};

    /// A WAV of a sine at half of full scale, the same on each channel.
    fn wav(rate_hz: u32, channels: u16, seconds: f32, hz: f32) -> Vec<u8> {
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate_hz,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for index in 0..(seconds * rate_hz as f32) as usize {
            let phase = std::f32::consts::TAU * hz * index as f32 / rate_hz as f32;
            for _ in 0..channels {
                writer.write_sample((phase.sin() * 16_384.0) as i16).unwrap();
            }
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    fn difference_ms(a: Duration, b: Duration) -> u128 {
        a.abs_diff(b).as_millis()
    }

    #[test]
    fn telephone_rate_comes_out_as_it_went_in() {
        let sound = decode(&wav(8_000, 1, 0.5, 1_000.0), "wav").unwrap();
        assert_eq!(sound.duration, Duration::from_millis(500));
        let expected = tone(1_000.0, Duration::from_millis(500), 0.5);
        for (sample, expected) in sound.pcm8k[100..3_900].iter().zip(&expected[100..3_900]) {
            assert!((sample - expected).abs() <= 2, "{sample} {expected}");
        }
    }

    #[test]
    fn other_rates_and_channels_keep_length_and_level() {
        for (rate_hz, channels) in [(44_100, 2), (48_000, 1), (22_050, 1), (16_000, 6), (11_025, 2), (6_000, 1)] {
            let sound = decode(&wav(rate_hz, channels, 1.0, 1_000.0), "wav").unwrap();
            assert!(difference_ms(sound.duration, Duration::from_secs(1)) <= 1, "{rate_hz}: {:?}", sound.duration);
            let level = level(&sound.pcm8k[800..7_200]).db();
            assert!((-9.6..-8.6).contains(&level), "{rate_hz} Hz, {channels} channels: {level}");
        }
    }

    #[test]
    fn what_a_telephone_cannot_carry_does_not_fold_back() {
        let sound = decode(&wav(48_000, 1, 1.0, 7_000.0), "wav").unwrap();
        assert!(level(&sound.pcm8k[800..7_200]).db() < -60.0);
    }

    #[test]
    fn the_built_in_prompts_can_be_read() {
        let bytes = include_bytes!("../../static/tts/greeting_he.mp3");
        let sound = decode(bytes, "mp3").unwrap();
        assert!(
            sound.duration > Duration::from_secs(2) && sound.duration < Duration::from_secs(6),
            "{:?}",
            sound.duration
        );
        assert!(level(&sound.pcm8k).db() > -40.0);
    }

    #[test]
    fn for_recognition_the_telephones_rate_is_kept_and_others_become_16_khz() {
        let recognized = |rate_hz| {
            let pcm = decode_to_recognize(&wav(rate_hz, 1, 1.0, 1_000.0), "wav").unwrap();
            assert!(difference_ms(pcm.duration(), Duration::from_secs(1)) <= 1, "{rate_hz}: {:?}", pcm.duration());
            pcm.rate_hz
        };
        assert_eq!([8_000, 16_000, 44_100, 6_000].map(recognized), [8_000, 16_000, 16_000, 16_000]);
        let longer = decode_to_recognize(&wav(4_000, 1, DECODED_AUDIO_MAX.as_secs_f32() + 1.0, 500.0), "wav");
        assert!(longer.is_ok());
    }

    #[test]
    fn the_extension_is_only_a_hint() {
        assert!(decode(&wav(8_000, 1, 0.1, 500.0), "mp3").is_ok());
    }

    #[test]
    fn rubbish_is_refused_and_never_a_panic() {
        assert!(decode(b"", "mp3").is_err());
        assert!(decode(b"no sound at all, only text".repeat(50).as_slice(), "wav").is_err());
        let whole = wav(44_100, 2, 0.2, 500.0);
        for length in (0..whole.len().min(200)).chain([whole.len() - 1]) {
            let _ = decode(&whole[..length], "wav");
        }
        assert!(matches!(decode(&wav(8_000, 1, 0.0, 500.0), "wav"), Err(DecodeError::Empty)));
    }

    #[test]
    fn channels_that_no_sound_has_are_refused_wherever_the_format_stands() {
        let mut file = wav(8_000, 1, 0.2, 500.0);
        assert_eq!(&file[12..16], b"fmt ");
        let size = u32::from_le_bytes(file[4..8].try_into().unwrap()) + 12;
        file[4..8].copy_from_slice(&size.to_le_bytes());
        let before = [&file[..12], b"JUNK\x03\0\0\0abc\0", &file[12..]].concat();
        assert_eq!(decode_voice(&before, "wav").unwrap().len(), 1_600);
        for channels in [0, 9, 33_793, u16::MAX] {
            file[22..24].copy_from_slice(&channels.to_le_bytes());
            let before = [&file[..12], b"JUNK\x03\0\0\0abc\0", &file[12..]].concat();
            for bytes in [&file, &before, &[b"xyz", &file[..]].concat()] {
                let refused = decode_to_recognize(bytes, "wav");
                assert!(matches!(refused, Err(DecodeError::Channels(named)) if named == channels), "{refused:?}");
            }
        }
    }

    #[test]
    fn a_file_that_plays_too_long_is_refused() {
        let seconds = DECODED_AUDIO_MAX.as_secs_f32() + 1.0;
        assert!(matches!(decode(&wav(4_000, 1, seconds, 500.0), "wav"), Err(DecodeError::TooLong(DECODED_AUDIO_MAX))));
    }
}
