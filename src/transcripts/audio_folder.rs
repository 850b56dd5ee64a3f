//! The audio folder on the disk: what is in it, what is taken out of it, and how old it is.
//!
//! A file's age begins when it is first seen at rest while the time is known from Twilio. It then gets that time as its
//! own, and is made read-only: that is the sign, which survives restarts, that its time can be believed. The time that the
//! system gave it cannot: a Raspberry Pi has no clock of its own, and files of its first minutes may be dated years ago.

use std::{
    collections::BTreeMap,
    fs::{self, File, FileTimes, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;

use super::shelf::Ages;
use crate::limits::{AUDIO_FILES_MAX, AUDIO_FREE_BYTES_MIN};

/// Read-only: its time can be believed.
const DATED: u32 = 0o400;

/// The folder, and what is remembered of its files from one look to the next.
#[derive(Debug)]
pub struct AudioFolder {
    path: PathBuf,
    /// How long each file was at the last look: one that grew is still being written.
    lengths: BTreeMap<String, u64>,
    ages: Ages,
}

/// A file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    pub name: String,
    pub bytes: u64,
    /// `None`: not known.
    pub age: Option<Duration>,
    /// It is new, or has grown since the last look.
    pub grows: bool,
}

impl AudioFolder {
    pub fn new(path: PathBuf) -> Self {
        Self { path, lengths: BTreeMap::new(), ages: Ages::default() }
    }

    /// Looks at every file, [`AUDIO_FILES_MAX`] at most. `time`: what Twilio's clock says at `now`, where that is known.
    ///
    /// # Errors
    /// The folder cannot be read. A file that cannot be looked at is left out.
    pub fn look(&mut self, time: Option<Timestamp>, now: Instant) -> io::Result<Vec<FoundFile>> {
        let mut files = Vec::new();
        let mut lengths = BTreeMap::new();
        for entry in fs::read_dir(&self.path)?.take(AUDIO_FILES_MAX) {
            let entry = entry?;
            let (Ok(name), Ok(data)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
            if !data.is_file() {
                continue;
            }
            let bytes = data.len();
            let grows = self.lengths.get(&name) != Some(&bytes);
            lengths.insert(name.clone(), bytes);
            let is_dated = data.permissions().mode() & 0o777 == DATED;
            let age = match (time, is_dated) {
                (Some(time), true) => data.modified().ok().and_then(|begun| age(begun, time)),
                (Some(time), false) if !grows => match date(&entry.path(), time) {
                    Ok(()) => Some(Duration::ZERO),
                    Err(error) => {
                        tracing::debug!(%error, "an audio file cannot be dated");
                        None
                    }
                },
                _ => None,
            };
            let age = age.map(|age| self.ages.bounded(&name, age, now));
            files.push(FoundFile { name, bytes, age, grows });
        }
        self.ages.retain(|name| lengths.contains_key(name));
        self.lengths = lengths;
        Ok(files)
    }

    /// Deletes a file. One that is gone already is no error.
    pub fn delete(&mut self, name: &str) -> io::Result<()> {
        self.lengths.remove(name);
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            deleted => deleted,
        }
    }

    /// What the disk has left for audio: the last [`AUDIO_FREE_BYTES_MIN`] are the records'.
    pub fn free_bytes(&self) -> u64 {
        // A disk that does not say is not called full.
        fs2::available_space(&self.path).map_or(u64::MAX, |free| free.saturating_sub(AUDIO_FREE_BYTES_MIN))
    }
}

fn age(begun: SystemTime, time: Timestamp) -> Option<Duration> {
    let time: SystemTime = time.into();
    // What seems to lie ahead is new.
    Some(time.duration_since(begun).unwrap_or_default())
}

/// The file's time is `time`, and then believed: in this order, so that a crash between leaves it undated.
fn date(path: &Path, time: Timestamp) -> io::Result<()> {
    // Read-only is enough for its owner to set times.
    let file = File::open(path)?;
    file.set_times(FileTimes::new().set_modified(time.into()))?;
    file.set_permissions(Permissions::from_mode(DATED))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(days: u32) -> Option<Timestamp> {
        Some(Timestamp::from_second(1_800_000_000).unwrap() + days * DAY)
    }

    fn age_of(files: &[FoundFile]) -> Option<Duration> {
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].age
    }

    #[test]
    fn a_file_grows_old_from_when_it_was_first_at_rest_in_known_time_also_across_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.ulaw");
        fs::write(&file, [1; 100]).unwrap();
        let begin = Instant::now();
        let mut folder = AudioFolder::new(directory.path().to_owned());
        assert!(folder.look(at(0), begin).unwrap()[0].grows);
        fs::write(&file, [1; 200]).unwrap();
        let files = folder.look(at(0), begin).unwrap();
        assert_eq!((files[0].grows, files[0].bytes, files[0].age), (true, 200, None));
        // At rest; but nobody knows the time.
        assert_eq!(age_of(&folder.look(None, begin).unwrap()), None);
        assert_eq!(age_of(&folder.look(at(1), begin + DAY).unwrap()), Some(Duration::ZERO));
        assert_eq!(age_of(&folder.look(at(3), begin + 3 * DAY).unwrap()), Some(2 * DAY));
        assert_eq!(age_of(&folder.look(at(9_000), begin + 3 * DAY).unwrap()), Some(2 * DAY), "a clock that jumps");
        assert_eq!(age_of(&folder.look(None, begin + 9 * DAY).unwrap()), None);

        let mut folder = AudioFolder::new(directory.path().to_owned());
        assert_eq!(age_of(&folder.look(at(5), begin).unwrap()), Some(4 * DAY));
        folder.delete("a.ulaw").unwrap();
        folder.delete("a.ulaw").unwrap();
        assert_eq!(folder.look(at(5), begin).unwrap(), []);
    }

    #[test]
    fn the_time_that_the_system_gave_a_file_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.ulaw");
        fs::write(&file, [1; 100]).unwrap();
        File::open(&file).unwrap().set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
        let mut folder = AudioFolder::new(directory.path().to_owned());
        let begin = Instant::now();
        folder.look(at(0), begin).unwrap();
        assert_eq!(age_of(&folder.look(at(0), begin).unwrap()), Some(Duration::ZERO));
    }
}
