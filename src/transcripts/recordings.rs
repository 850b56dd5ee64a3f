//! Recordings on the disk: what Twilio's answer means, and the file that is there whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Cursor, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::pending::Fetched;
use crate::twilio::{
    rest::{RestFailure, RestReply},
    sid::RecordingSid,
};

/// The folder below the store's directory that holds audio.
pub const FOLDER: &str = "audio";

/// Where a recording's audio is kept.
pub fn path(store: &Path, recording_sid: RecordingSid) -> PathBuf {
    store.join(FOLDER).join(format!("{recording_sid}.wav"))
}

/// Makes the folder for audio, readable by its owner alone.
pub fn prepare(store: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(store.join(FOLDER))
}

/// Keeps the audio of an answer and says what became of it. `Saved` only when the file would survive pulling the plug.
/// Blocks on the disk.
pub fn keep(store: &Path, recording_sid: RecordingSid, answer: Result<RestReply, RestFailure>) -> Fetched {
    let body = match read_media(answer) {
        Ok(body) => body,
        Err(fetched) => return fetched,
    };
    match save(&path(store, recording_sid), &body) {
        Ok(()) => Fetched::Saved { silent: is_silent(&body) },
        Err(error) => {
            tracing::error!(%recording_sid, %error, "the disk did not take a recording; it is tried again");
            Fetched::Unreachable
        }
    }
}

/// The audio in an answer to the question for it.
fn read_media(answer: Result<RestReply, RestFailure>) -> Result<Vec<u8>, Fetched> {
    match answer {
        Ok(RestReply { status: 200..=299, body, .. }) if is_wav(&body) => Ok(body),
        Ok(RestReply { status: 200..=299, .. }) | Err(RestFailure::TooLarge) => Err(Fetched::Unusable),
        Ok(RestReply { status: 404, .. }) => Err(Fetched::NotThere),
        // Deleted at Twilio.
        Ok(RestReply { status: 410, .. }) => Err(Fetched::Unusable),
        // Credentials, throttling, redirects, their trouble or the network's: the recording is there all the same.
        Ok(_) | Err(_) => Err(Fetched::Unreachable),
    }
}

fn is_wav(body: &[u8]) -> bool {
    body.len() >= 12 && body.starts_with(b"RIFF") && &body[8..12] == b"WAVE"
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

    #[test]
    fn a_recording_is_kept_whole_under_its_own_name_however_often_it_comes() {
        let store = tempfile::tempdir().unwrap();
        prepare(store.path()).unwrap();
        let sid = RecordingSid::from_number(7);
        for _ in 0..2 {
            assert_eq!(keep(store.path(), sid, reply(200, wav(800))), Fetched::Saved { silent: false });
        }
        assert_eq!(fs::read(path(store.path(), sid)).unwrap(), wav(800));
        assert_eq!(fs::read_dir(store.path().join(FOLDER)).unwrap().count(), 1);
        assert_eq!(keep(store.path(), sid, reply(200, wav(0))), Fetched::Saved { silent: true });
    }

    #[test]
    fn what_is_no_audio_is_not_kept() {
        let store = tempfile::tempdir().unwrap();
        prepare(store.path()).unwrap();
        let sid = RecordingSid::from_number(7);
        for (answer, fetched) in [
            (reply(404, vec![]), Fetched::NotThere),
            (reply(200, b"<html>please log in</html>".to_vec()), Fetched::Unusable),
            (reply(200, vec![]), Fetched::Unusable),
            (reply(410, vec![]), Fetched::Unusable),
            (reply(302, vec![]), Fetched::Unreachable),
            (reply(401, vec![]), Fetched::Unreachable),
            (reply(429, vec![]), Fetched::Unreachable),
            (reply(503, vec![]), Fetched::Unreachable),
            (Err(RestFailure::Connect), Fetched::Unreachable),
            (Err(RestFailure::Broken), Fetched::Unreachable),
            (Err(RestFailure::TooLarge), Fetched::Unusable),
        ] {
            assert_eq!(keep(store.path(), sid, answer.clone()), fetched, "{answer:?}");
        }
        assert!(!path(store.path(), sid).exists());
    }

    #[test]
    fn a_disk_that_does_not_take_it_is_no_reason_to_give_up() {
        let store = tempfile::tempdir().unwrap();
        // The folder for audio is missing.
        let sid = RecordingSid::from_number(7);
        assert_eq!(keep(store.path(), sid, reply(200, wav(800))), Fetched::Unreachable);
    }
}
