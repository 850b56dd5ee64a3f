//! Recordings on the disk: what Twilio's answer means, and the file that is there whole or not at all.
//!
//! A file is `<CallSid>.<RecordingSid>.wav`: its name says whose it is also where no record does. `….cut.wav` is one that
//! Twilio gave shorter than it said, `….late.wav` one that came when its call's record was final.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Cursor, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::pending::Fetched;
use crate::twilio::{
    rest::{RestFailure, RestReply},
    sid::{CallSid, RecordingSid},
};

/// The folder below the store's directory that holds audio.
pub const FOLDER: &str = "audio";

/// What is kept of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All of it.
    Whole,
    /// Its beginning: Twilio gave less than it said.
    Cut,
    /// It came when its call's record was final.
    Late,
}

/// Where a recording's audio is kept.
pub fn path(store: &Path, call_sid: CallSid, recording_sid: RecordingSid, kind: Kind) -> PathBuf {
    let word = match kind {
        Kind::Whole => "",
        Kind::Cut => ".cut",
        Kind::Late => ".late",
    };
    store.join(FOLDER).join(format!("{call_sid}.{recording_sid}{word}.wav"))
}

/// Makes the folder for audio, readable by its owner alone, and takes away what a crash left half written.
pub fn prepare(store: &Path) -> io::Result<()> {
    let folder = store.join(FOLDER);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "part") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Keeps the audio of an answer and says what became of it. `Saved` only when the file would survive pulling the plug.
/// Blocks on the disk.
pub fn keep(
    store: &Path,
    call_sid: CallSid,
    recording_sid: RecordingSid,
    answer: Result<RestReply, RestFailure>,
) -> Fetched {
    let (body, is_cut) = match read_media(answer) {
        Ok(media) => media,
        Err(fetched) => return fetched,
    };
    let place = |kind| path(store, call_sid, recording_sid, kind);
    match save(&place(if is_cut { Kind::Cut } else { Kind::Whole }), &body) {
        Ok(()) if is_cut => Fetched::Cut,
        Ok(()) => {
            // What was kept of an earlier try is in it.
            let _ = fs::remove_file(place(Kind::Cut));
            Fetched::Saved { silent: is_silent(&body) }
        }
        Err(error) => {
            tracing::error!(%call_sid, %recording_sid, %error, "the disk did not take a recording; it is tried again");
            Fetched::Unreachable
        }
    }
}

/// Keeps the audio of one that came too late for its call's record. `false`: it is to be asked for again. Blocks on the
/// disk.
pub fn keep_late(
    store: &Path,
    call_sid: CallSid,
    recording_sid: RecordingSid,
    answer: Result<RestReply, RestFailure>,
) -> bool {
    match read_media(answer) {
        Ok((body, _)) => match save(&path(store, call_sid, recording_sid, Kind::Late), &body) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%call_sid, %recording_sid, %error, "the disk did not take a late recording");
                false
            }
        },
        // Nothing waits for it: what is not there now is left at Twilio.
        Err(fetched) => fetched != Fetched::Unreachable,
    }
}

/// The audio in an answer to the question for it, and whether it ends before its time.
fn read_media(answer: Result<RestReply, RestFailure>) -> Result<(Vec<u8>, bool), Fetched> {
    match answer {
        Ok(RestReply { status: 200..=299, body, .. }) if is_wav(&body) => {
            let is_cut = is_cut(&body);
            Ok((body, is_cut))
        }
        // Nothing, a page of somebody on the way, another format than we asked for: not the recording as it will be.
        Ok(RestReply { status: 200..=299 | 404, .. }) => Err(Fetched::NotThere),
        // Deleted at Twilio, or larger than any may be.
        Ok(RestReply { status: 410, .. }) | Err(RestFailure::TooLarge) => Err(Fetched::Unusable),
        // Credentials, throttling, redirects, their trouble or the network's: the recording is there all the same.
        Ok(_) | Err(_) => Err(Fetched::Unreachable),
    }
}

fn is_wav(body: &[u8]) -> bool {
    body.len() >= 12 && body.starts_with(b"RIFF") && &body[8..12] == b"WAVE"
}

/// Whether the head promises more than there is. Writers that do not know the length leave it 0 or all ones.
fn is_cut(body: &[u8]) -> bool {
    let promised = body.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    !matches!(promised, 0 | u32::MAX) && promised as usize + 8 > body.len()
}

/// Whether it surely holds not one sample; an unknown kind of WAV may hold some.
fn is_silent(body: &[u8]) -> bool {
    hound::WavReader::new(Cursor::new(body)).is_ok_and(|wav| wav.duration() == 0)
}

/// Writes beside the file first: a file of that name is always whole.
fn save(path: &Path, body: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(body)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name stands in the directory, which is a file of its own to the disk.
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    /// A WAV as Twilio gives it: 8 kHz, 16 bit, mono.
    pub fn wav(samples: usize) -> Vec<u8> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for _ in 0..samples {
            writer.write_sample(7_i16).unwrap();
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    pub fn reply(status: u16, body: Vec<u8>) -> Result<RestReply, RestFailure> {
        Ok(RestReply { status, retry_after: None, body })
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::*, *};

    const CALL: u128 = 3;

    fn place(store: &Path, kind: Kind) -> PathBuf {
        path(store, CallSid::from_number(CALL), RecordingSid::from_number(7), kind)
    }

    fn kept(store: &Path, answer: Result<RestReply, RestFailure>) -> Fetched {
        keep(store, CallSid::from_number(CALL), RecordingSid::from_number(7), answer)
    }

    fn files(store: &Path) -> usize {
        fs::read_dir(store.join(FOLDER)).unwrap().count()
    }

    #[test]
    fn a_recording_is_kept_whole_under_its_calls_name_however_often_it_comes() {
        let store = tempfile::tempdir().unwrap();
        prepare(store.path()).unwrap();
        for _ in 0..2 {
            assert_eq!(kept(store.path(), reply(200, wav(800))), Fetched::Saved { silent: false });
        }
        assert_eq!(fs::read(place(store.path(), Kind::Whole)).unwrap(), wav(800));
        assert_eq!(files(store.path()), 1);
        assert_eq!(kept(store.path(), reply(200, wav(0))), Fetched::Saved { silent: true });
    }

    #[test]
    fn one_that_ends_before_its_time_is_kept_as_such_until_the_whole_one_comes() {
        let store = tempfile::tempdir().unwrap();
        prepare(store.path()).unwrap();
        let whole = wav(800);
        for length in [12, 44, 100, whole.len() - 1] {
            assert_eq!(kept(store.path(), reply(200, whole[..length].to_vec())), Fetched::Cut, "{length}");
            assert_eq!(fs::read(place(store.path(), Kind::Cut)).unwrap(), whole[..length]);
        }
        assert!(!place(store.path(), Kind::Whole).exists());
        assert_eq!(kept(store.path(), reply(200, whole.clone())), Fetched::Saved { silent: false });
        assert_eq!((fs::read(place(store.path(), Kind::Whole)).unwrap(), files(store.path())), (whole.clone(), 1));
        // A writer that did not know how long it would be.
        for unknown in [0, u32::MAX] {
            let mut streamed = whole.clone();
            streamed[4..8].copy_from_slice(&unknown.to_le_bytes());
            assert!(matches!(kept(store.path(), reply(200, streamed)), Fetched::Saved { .. }));
        }
    }

    #[test]
    fn what_is_no_audio_is_not_kept() {
        let store = tempfile::tempdir().unwrap();
        prepare(store.path()).unwrap();
        for (answer, fetched) in [
            (reply(404, vec![]), Fetched::NotThere),
            (reply(200, b"<html>please log in</html>".to_vec()), Fetched::NotThere),
            (reply(200, b"ID3\x04 and an MP3 after it".to_vec()), Fetched::NotThere),
            (reply(200, b"RIFF\x24\0\0\0AVI ".to_vec()), Fetched::NotThere),
            (reply(200, vec![]), Fetched::NotThere),
            (reply(410, vec![]), Fetched::Unusable),
            (reply(302, vec![]), Fetched::Unreachable),
            (reply(401, vec![]), Fetched::Unreachable),
            (reply(429, vec![]), Fetched::Unreachable),
            (reply(503, vec![]), Fetched::Unreachable),
            (Err(RestFailure::Connect), Fetched::Unreachable),
            (Err(RestFailure::Broken), Fetched::Unreachable),
            (Err(RestFailure::TooLarge), Fetched::Unusable),
        ] {
            assert_eq!(kept(store.path(), answer.clone()), fetched, "{answer:?}");
        }
        assert_eq!(files(store.path()), 0);
    }

    #[test]
    fn a_late_one_is_kept_beside_and_named_so() {
        let store = tempfile::tempdir().unwrap();
        prepare(store.path()).unwrap();
        let late = |answer| keep_late(store.path(), CallSid::from_number(CALL), RecordingSid::from_number(7), answer);
        assert!(!late(reply(503, vec![])), "to be asked for again");
        assert!(late(Err(RestFailure::TooLarge)) && late(reply(404, vec![])), "it stays at Twilio");
        assert_eq!(files(store.path()), 0);
        assert!(late(reply(200, wav(8))));
        assert_eq!(fs::read(place(store.path(), Kind::Late)).unwrap(), wav(8));
    }

    #[test]
    fn what_a_crash_left_half_written_is_taken_away_at_the_start() {
        let store = tempfile::tempdir().unwrap();
        prepare(store.path()).unwrap();
        fs::write(place(store.path(), Kind::Whole).with_extension("part"), b"RIFF").unwrap();
        fs::write(place(store.path(), Kind::Whole), wav(8)).unwrap();
        prepare(store.path()).unwrap();
        assert_eq!((files(store.path()), place(store.path(), Kind::Whole).exists()), (1, true));
    }

    #[test]
    fn a_disk_that_does_not_take_it_is_no_reason_to_give_up() {
        let store = tempfile::tempdir().unwrap();
        // The folder for audio is missing.
        assert_eq!(kept(store.path(), reply(200, wav(800))), Fetched::Unreachable);
    }
}
