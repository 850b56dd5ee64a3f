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
    marks::{self, Mark},
    recognizer::Pcm,
    utterance::{Cutter, Utterance},
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

/// What is still to come of a call's audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToCome {
    /// A stream is being written: a file may grow.
    Sound,
    /// No stream is being written, and the call goes on: another one may begin.
    Streams,
    /// The call is over.
    Nothing,
}

/// How far it was read.
#[derive(Debug, Clone)]
pub struct Cursor {
    part: Part,
    cutter: Cutter,
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
    /// Nothing that is complete, and there is more to come: to be asked from there.
    NotYet(Cursor),
    /// Nobody says anything more.
    End(End),
}

/// All of a call's audio was read.
#[derive(Debug)]
pub struct End {
    /// There is audio, and all that is on the disk of it could be read.
    pub is_whole: bool,
    /// What was besides sound, by the milliseconds of sound before it.
    pub marks: Vec<(u64, Mark)>,
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
        Self { part: Part::Stream(1), cutter: Cutter::new(), before: 0, has_sound: false, is_whole: true }
    }

    fn go_on(&mut self, part: Part, length: u64) {
        self.part = part;
        self.before += length;
        self.cutter = Cutter::new();
        self.has_sound = true;
    }
}

impl CallAudio {
    /// The next utterance from there. Blocks on the disk.
    pub fn next(&self, mut cursor: Cursor, to_come: ToCome) -> Next {
        loop {
            let (read, after) = match (cursor.part, &self.recording) {
                (Part::Stream(part), _) => {
                    let after = if part < SPOOL_PARTS_PER_CALL_MAX { Part::Stream(part + 1) } else { Part::Recording };
                    (self.in_stream(part, &mut cursor.cutter, to_come), after)
                }
                _ if to_come != ToCome::Nothing => return Next::NotYet(cursor),
                (Part::Recording, Some(path)) => (in_recording(path, &mut cursor.cutter), Part::Over),
                (Part::Recording | Part::Over, _) => {
                    let (marks, has_all_marks) = self.marks();
                    let is_whole = cursor.has_sound && cursor.is_whole && has_all_marks;
                    return Next::End(End { is_whole, marks });
                }
            };
            match read {
                Ok(InPart::Utterance { begin, pcm, then }) => {
                    let begin_ms = (cursor.before + begin) / SAMPLES_PER_MS;
                    let sound = Pcm { samples: pcm.into(), rate_hz: SAMPLE_RATE_HZ };
                    return Next::Utterance(Spoken { begin_ms, sound, then: Cursor { cutter: then, ..cursor } });
                }
                Ok(InPart::NotYet) => return Next::NotYet(cursor),
                Ok(InPart::Over(length)) => cursor.go_on(after, length),
                // Parts are counted without a gap: there is none behind it.
                Err(error) if error.kind() == ErrorKind::NotFound && matches!(cursor.part, Part::Stream(_)) => {
                    if to_come != ToCome::Nothing {
                        return Next::NotYet(cursor);
                    }
                    cursor.part = Part::Recording;
                }
                Err(error) if to_come != ToCome::Nothing => {
                    tracing::debug!(call_sid = %self.call_sid, part = ?cursor.part, %error, "audio is read again later");
                    return Next::NotYet(cursor);
                }
                Err(error) => {
                    tracing::warn!(call_sid = %self.call_sid, part = ?cursor.part, %error, "audio cannot be transcribed");
                    cursor.is_whole = false;
                    cursor.go_on(after, 0);
                }
            }
        }
    }

    /// `cutter` is as far as the part was heard, also where no utterance is complete.
    fn in_stream(&self, part: u32, cutter: &mut Cutter, to_come: ToCome) -> io::Result<InPart> {
        let file = File::open(self.stream(part))?;
        let length = file.metadata()?.len();
        let mut file = BufReader::with_capacity(READ_BYTES, file);
        file.seek(SeekFrom::Start(cutter.heard()))?;
        let (mut ulaw, mut frame) = (Vec::with_capacity(FRAME_SAMPLES), [0; FRAME_SAMPLES]);
        let found = loop {
            ulaw.clear();
            file.by_ref().take(FRAME_SAMPLES as u64).read_to_end(&mut ulaw)?;
            if ulaw.len() < FRAME_SAMPLES && to_come == ToCome::Sound {
                return Ok(InPart::NotYet);
            }
            let found = match ulaw.is_empty() {
                true => break cutter.finish(),
                false => cutter.handle_frame(decode(&ulaw, &mut frame)),
            };
            if found.is_some() {
                break found;
            }
        };
        let Some(Utterance { begin, end, then }) = found else { return Ok(InPart::Over(length)) };
        file.seek(SeekFrom::Start(begin))?;
        ulaw.clear();
        file.take(end - begin).read_to_end(&mut ulaw)?;
        let mut pcm = vec![0; ulaw.len()];
        decode(&ulaw, &mut pcm);
        Ok(InPart::Utterance { begin, pcm, then })
    }

    fn stream(&self, part: u32) -> PathBuf {
        self.folder.join(format!("{}.{part}.ulaw", self.call_sid))
    }

    /// What was besides sound, by the milliseconds of sound before it; and whether all of it could be read. Blocks on the
    /// disk.
    pub fn marks(&self) -> (Vec<(u64, Mark)>, bool) {
        let (mut all, mut before, mut is_whole) = (Vec::new(), 0, true);
        for part in 1..=SPOOL_PARTS_PER_CALL_MAX {
            let Ok(stream) = self.stream(part).metadata() else { break };
            match marks::read(&self.folder, self.call_sid, part) {
                Ok(marks) => all.extend(marks.iter().map(|mark| ((before + mark.at) / SAMPLES_PER_MS, mark.mark))),
                Err(error) => {
                    tracing::warn!(call_sid = %self.call_sid, part, %error, "keys and gaps are missing in a text");
                    is_whole = false;
                }
            }
            before += stream.len();
        }
        (all, is_whole)
    }
}

fn in_recording(path: &Path, cutter: &mut Cutter) -> io::Result<InPart> {
    let mut bytes = Vec::new();
    File::open(path)?.take(RECORDING_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    let pcm = decode_voice(&bytes, "wav").map_err(io::Error::other)?;
    drop(bytes);
    let place = |samples: u64| usize::try_from(samples).unwrap_or(usize::MAX).min(pcm.len());
    let rest = &pcm[place(cutter.heard())..];
    let found = rest.chunks(FRAME_SAMPLES).find_map(|frame| cutter.handle_frame(frame)).or_else(|| cutter.finish());
    let Some(Utterance { begin, end, then }) = found else { return Ok(InPart::Over(pcm.len() as u64)) };
    Ok(InPart::Utterance { begin, pcm: pcm[place(begin)..place(end)].to_vec(), then })
}

/// What a part has behind a place.
enum InPart {
    Utterance {
        /// In samples from the begin of the part.
        begin: u64,
        pcm: Vec<i16>,
        then: Cutter,
    },
    /// Nothing that is complete yet.
    NotYet,
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
        let mut found = Vec::new();
        match go_on(audio, Cursor::begin(), ToCome::Nothing, &mut found) {
            Next::End(End { is_whole, .. }) => (found, is_whole),
            next => panic!("{next:?}"),
        }
    }

    /// All utterances from there, and what comes behind the last.
    fn go_on(audio: &CallAudio, mut cursor: Cursor, to_come: ToCome, found: &mut Vec<(u64, u128)>) -> Next {
        loop {
            match audio.next(cursor, to_come) {
                Next::Utterance(spoken) => {
                    found.push((spoken.begin_ms, spoken.sound.duration().as_millis()));
                    cursor = spoken.then;
                }
                next => return next,
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

    #[test]
    fn a_call_that_is_read_while_it_lasts_has_the_same_utterances_as_one_that_is_over() {
        let streams = [
            [silence(1), voice(2), silence(5), voice(9), silence(1), voice(9), silence(1), voice(3)].concat(),
            [voice(1), silence(4), voice(40)].concat(),
        ];
        let whole = tempfile::tempdir().unwrap();
        (1..).zip(&streams).for_each(|(part, pcm)| spool(whole.path(), part, pcm));
        let recorded = recording(whole.path(), &voice(2));
        let (expected, _) = read(&audio(whole.path(), Some(recorded.clone())));
        assert!(expected.len() == 6, "{expected:?}");

        // Pieces as the spool writes them, which are no whole number of frames.
        let folder = tempfile::tempdir().unwrap();
        let (mut live, mut found) = (audio(folder.path(), None), Vec::new());
        let mut cursor = Cursor::begin();
        for (part, pcm) in (1..).zip(&streams) {
            for to in (0..pcm.len()).step_by(4_001).chain([pcm.len()]) {
                let next = go_on(&live, cursor, ToCome::Sound, &mut found);
                let Next::NotYet(then) = next else { panic!("{next:?}") };
                cursor = then;
                spool(folder.path(), part, &pcm[..to]);
            }
            let next = go_on(&live, cursor, ToCome::Streams, &mut found);
            let Next::NotYet(then) = next else { panic!("{next:?}") };
            cursor = then;
        }
        assert_eq!(found, expected[..expected.len() - 1], "all but the recording");
        live.recording = Some(recorded);
        let next = go_on(&live, cursor, ToCome::Nothing, &mut found);
        assert!(matches!(next, Next::End(End { is_whole: true, .. })), "{next:?}");
        assert_eq!(found, expected);
    }

    #[test]
    fn what_cannot_be_read_while_the_call_lasts_is_read_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{}.1.ulaw", CallSid::from_number(CALL)));
        fs::create_dir(&path).unwrap();
        let (live, mut found) = (audio(folder.path(), None), Vec::new());
        let next = go_on(&live, Cursor::begin(), ToCome::Sound, &mut found);
        let Next::NotYet(cursor) = next else { panic!("{next:?}") };
        fs::remove_dir(&path).unwrap();
        spool(folder.path(), 1, &voice(1));
        let next = go_on(&live, cursor, ToCome::Nothing, &mut found);
        assert!(matches!(next, Next::End(End { is_whole: true, .. })), "{next:?}");
        assert_eq!(found, [(0, 1_000)]);
    }

    #[test]
    fn marks_are_on_the_same_scale_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let call_sid = CallSid::from_number(CALL);
        let mark = |part, text: &str| fs::write(marks::path(folder.path(), call_sid, part), text).unwrap();
        spool(folder.path(), 1, &silence(1));
        spool(folder.path(), 2, &silence(1));
        mark(1, "800 key 5\n");
        mark(2, "1600 key 7\n");
        let end = || match go_on(&audio(folder.path(), None), Cursor::begin(), ToCome::Nothing, &mut Vec::new()) {
            Next::End(end) => end,
            next => panic!("{next:?}"),
        };
        assert_eq!(end().marks, [(100, Mark::Key('5')), (1_200, Mark::Key('7'))]);
        assert!(end().is_whole);
        fs::remove_file(marks::path(folder.path(), call_sid, 1)).unwrap();
        fs::create_dir(marks::path(folder.path(), call_sid, 1)).unwrap();
        assert_eq!((end().marks, end().is_whole), (vec![(1_200, Mark::Key('7'))], false));
    }
}
