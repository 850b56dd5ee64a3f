//! A call's audio on the disk, read utterance by utterance: what its streams brought, in their order, then its recording.
//!
//! Nothing is held in memory between two utterances but where the last one ended, so a call of hours costs no more than
//! one of seconds, and one that has to be asked for again is read again.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    audio::{FRAME_SAMPLES, SAMPLE_RATE_HZ, decode},
    decode::decode_voice,
    recognizer::Pcm,
    utterance::{Cutter, Place, Utterance},
};
use crate::{
    limits::{RECORDING_BYTES_MAX, SPOOL_PARTS_PER_CALL_MAX},
    twilio::sid::CallSid,
};

const SAMPLES_PER_MS: u64 = SAMPLE_RATE_HZ as u64 / 1_000;
const READ_BYTES: usize = 64 * 1024;

/// Where a call's audio lies.
#[derive(Debug, Clone)]
pub struct CallAudio {
    /// Where the spool writes.
    pub folder: Arc<Path>,
    pub call_sid: CallSid,
    pub recording: Option<PathBuf>,
}

/// How far it was read.
#[derive(Debug, Clone)]
pub struct Cursor {
    part: Part,
    place: Place,
    /// How long the parts before it are, in samples.
    before: u64,
    has_sound: bool,
    is_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Stream(u32),
    Recording,
    Over,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    Utterance(Spoken),
    /// Nobody says anything more. `is_whole`: there is audio, and all of it could be read.
    End {
        is_whole: bool,
    },
}

/// A piece in which somebody speaks.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// From the begin of the call's audio, one part after the other.
    pub begin_ms: u64,
    pub sound: Pcm,
    /// Where to go on.
    pub then: Cursor,
}

impl Cursor {
    /// At the begin of all of it.
    pub fn begin() -> Self {
        Self { part: Part::Stream(1), place: Place::begin(), before: 0, has_sound: false, is_whole: true }
    }

    fn go_on(&mut self, part: Part, length: u64) {
        self.part = part;
        self.before += length;
        self.place = Place::begin();
        self.has_sound = true;
    }
}

impl CallAudio {
    /// The next utterance from there. Blocks on the disk.
    pub fn next(&self, mut cursor: Cursor) -> Next {
        loop {
            let read = match cursor.part {
                Part::Stream(part) => self.in_stream(part, &cursor.place),
                Part::Recording if let Some(path) = &self.recording => in_recording(path, &cursor.place),
                Part::Recording | Part::Over => return Next::End { is_whole: cursor.has_sound && cursor.is_whole },
            };
            let after = match cursor.part {
                Part::Stream(part) if part < SPOOL_PARTS_PER_CALL_MAX => Part::Stream(part + 1),
                Part::Stream(_) => Part::Recording,
                Part::Recording | Part::Over => Part::Over,
            };
            match read {
                Ok(InPart::Utterance(Utterance { begin, pcm, then })) => {
                    let begin_ms = (cursor.before + begin) / SAMPLES_PER_MS;
                    let sound = Pcm { samples: pcm.into(), rate_hz: SAMPLE_RATE_HZ };
                    return Next::Utterance(Spoken { begin_ms, sound, then: Cursor { place: then, ..cursor } });
                }
                Ok(InPart::Over(length)) => cursor.go_on(after, length),
                // Parts are counted without a gap: there is none behind it.
                Err(error) if error.kind() == ErrorKind::NotFound && matches!(cursor.part, Part::Stream(_)) => {
                    cursor.part = Part::Recording;
                }
                Err(error) => {
                    tracing::warn!(call_sid = %self.call_sid, part = ?cursor.part, %error, "audio cannot be transcribed");
                    cursor.is_whole = false;
                    cursor.go_on(after, 0);
                }
            }
        }
    }

    fn in_stream(&self, part: u32, place: &Place) -> io::Result<InPart> {
        let file = File::open(self.folder.join(format!("{}.{part}.ulaw", self.call_sid)))?;
        let length = file.metadata()?.len();
        let mut file = BufReader::with_capacity(READ_BYTES, file);
        file.seek(SeekFrom::Start(place.at))?;
        let (mut cutter, mut pcm) = (Cutter::new(place), [0; FRAME_SAMPLES]);
        let mut ulaw = Vec::with_capacity(FRAME_SAMPLES);
        loop {
            ulaw.clear();
            file.by_ref().take(FRAME_SAMPLES as u64).read_to_end(&mut ulaw)?;
            let found = match ulaw.is_empty() {
                true => return Ok(cutter.finish().map_or(InPart::Over(length), InPart::Utterance)),
                false => cutter.handle_frame(decode(&ulaw, &mut pcm)),
            };
            if let Some(utterance) = found {
                return Ok(InPart::Utterance(utterance));
            }
        }
    }
}

fn in_recording(path: &Path, place: &Place) -> io::Result<InPart> {
    let mut bytes = Vec::new();
    File::open(path)?.take(RECORDING_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    let pcm = decode_voice(&bytes, "wav").map_err(io::Error::other)?;
    drop(bytes);
    let mut cutter = Cutter::new(place);
    let rest = pcm.get(usize::try_from(place.at).unwrap_or(usize::MAX)..).unwrap_or_default();
    let found = rest.chunks(FRAME_SAMPLES).find_map(|frame| cutter.handle_frame(frame));
    Ok(found.or_else(|| cutter.finish()).map_or(InPart::Over(pcm.len() as u64), InPart::Utterance))
}

/// What a part has behind a place.
enum InPart {
    Utterance(Utterance),
    /// Nothing more. It is so long, in samples.
    Over(u64),
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::speech::audio::{encode, tone};

    const CALL: u128 = 7;

    fn audio(folder: &Path, recording: Option<PathBuf>) -> CallAudio {
        CallAudio { folder: folder.into(), call_sid: CallSid::from_number(CALL), recording }
    }

    fn voice(seconds: u64) -> Vec<i16> {
        tone(300.0, Duration::from_secs(seconds), 0.3)
    }

    fn silence(seconds: usize) -> Vec<i16> {
        vec![0; 8_000 * seconds]
    }

    fn spool(folder: &Path, part: u32, pcm: &[i16]) {
        fs::write(folder.join(format!("{}.{part}.ulaw", CallSid::from_number(CALL))), encode(pcm)).unwrap();
    }

    fn recording(folder: &Path, pcm: &[i16]) -> PathBuf {
        let path = folder.join("recording.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        pcm.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
        path
    }

    /// Each utterance's begin and length, in milliseconds; and whether all could be read.
    fn read(audio: &CallAudio) -> (Vec<(u64, u128)>, bool) {
        let (mut cursor, mut found) = (Cursor::begin(), Vec::new());
        loop {
            match audio.next(cursor) {
                Next::Utterance(spoken) => {
                    found.push((spoken.begin_ms, spoken.sound.duration().as_millis()));
                    cursor = spoken.then;
                }
                Next::End { is_whole } => return (found, is_whole),
            }
        }
    }

    #[test]
    fn streams_and_the_recording_follow_each_other_on_one_scale_of_time() {
        let folder = tempfile::tempdir().unwrap();
        spool(folder.path(), 1, &[silence(1), voice(2), silence(5), voice(1), silence(1)].concat());
        spool(folder.path(), 2, &voice(1));
        let path = recording(folder.path(), &[voice(1), silence(4), voice(2)].concat());
        let (found, is_whole) = read(&audio(folder.path(), Some(path)));
        assert!(is_whole);
        let begins: Vec<_> = found.iter().map(|(begin, _)| *begin).collect();
        assert_eq!(begins, [800, 7_800, 10_000, 11_000, 15_800], "{found:?}");
        assert_eq!(found[4].1, 2_200);
    }

    #[test]
    fn a_call_without_audio_is_not_one_in_which_nobody_spoke() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&audio(folder.path(), None)), (vec![], false));
        spool(folder.path(), 1, &silence(3));
        assert_eq!(read(&audio(folder.path(), None)), (vec![], true));
        let gone = folder.path().join("gone.wav");
        assert_eq!(read(&audio(folder.path(), Some(gone))), (vec![], false));
    }

    #[test]
    fn a_part_that_cannot_be_read_keeps_no_other_from_being_heard() {
        let folder = tempfile::tempdir().unwrap();
        spool(folder.path(), 1, &voice(1));
        let path = folder.path().join("broken.wav");
        fs::write(&path, b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\x84").unwrap();
        assert_eq!(read(&audio(folder.path(), Some(path))), (vec![(0, 1_000)], false));
    }
}
