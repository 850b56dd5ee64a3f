//! What a stream had besides sound: keys that the caller pressed, and sound that is missing. Kept beside the audio, put into
//! the text.
//!
//! A file is `<CallSid>.<part>.marks`, next to the part's audio: a line for each mark, in the order of the sound,
//! `<samples before it> key 5` or `<samples before it> gap 240` (milliseconds). Who reads it leaves out what is no such
//! line: a crash may have cut the last one.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{mask::MASK, recognizer::Segment};
use crate::{limits::MARKS_FILE_BYTES_MAX, twilio::sid::CallSid};

/// Stands in the text for what is missing, or what the engine could not be brought to write down.
pub const UNHEARD: &str = "[…]";

/// Less than a syllable that is missing does not show in the text.
const GAP_TOLD_MIN: Duration = Duration::from_millis(200);

/// No gap is read as a longer one (49 days): timestamps are the peer's.
const GAP_READ_MAX_MS: u128 = u32::MAX as u128;

/// Something besides sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A key: `0` to `9`, `*`, `#`, `A` to `D`, or [`MASK`].
    Key(char),
    /// So much sound is missing here.
    Gap(Duration),
}

impl Mark {
    /// The key that a telephone names so; `None`: no telephone has it.
    pub fn key(name: char) -> Option<Self> {
        matches!(name, '0'..='9' | '*' | '#' | 'A'..='D').then_some(Self::Key(name))
    }

    /// The same, without telling which key it was.
    #[must_use]
    pub fn masked(self) -> Self {
        match self {
            Self::Key(_) => Self::Key(MASK),
            Self::Gap(_) => self,
        }
    }
}

/// A mark, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    /// How many samples of the sound are before it.
    pub at: u64,
    pub mark: Mark,
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mark {
            Mark::Key(key) => writeln!(f, "{} key {key}", self.at),
            Mark::Gap(length) => writeln!(f, "{} gap {}", self.at, length.as_millis()),
        }
    }
}

/// Writes the marks of one part of a call's audio; nothing is on the disk before the first.
#[derive(Debug, Default)]
pub(super) struct MarksFile {
    file: Option<File>,
    is_unsynced: bool,
}

impl MarksFile {
    /// Appends them.
    pub(super) fn append(&mut self, path: &Path, marks: impl Iterator<Item = Marked>) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?),
        };
        let lines: String = marks.map(|mark| mark.to_string()).collect();
        self.is_unsynced = true;
        file.write_all(lines.as_bytes())
    }

    /// What was appended would survive pulling the plug.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &self.file {
            Some(file) if std::mem::take(&mut self.is_unsynced) => file.sync_all(),
            _ => Ok(()),
        }
    }
}

/// Where the marks of one part of a call's audio are.
pub fn path(folder: &Path, call_sid: CallSid, part: u32) -> PathBuf {
    folder.join(format!("{call_sid}.{part}.marks"))
}

/// The marks of one part of a call's audio; none where there is no file. Blocks on the disk.
///
/// # Errors
/// The file cannot be read.
pub fn read(folder: &Path, call_sid: CallSid, part: u32) -> io::Result<Vec<Marked>> {
    let mut text = Vec::new();
    match File::open(path(folder, call_sid, part)) {
        Ok(file) => file.take(MARKS_FILE_BYTES_MAX as u64).read_to_end(&mut text)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // What is behind the last end of a line was cut.
    let text = String::from_utf8_lossy(&text);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Ok(whole.lines().filter_map(read_line).collect())
}

fn read_line(line: &str) -> Option<Marked> {
    let mut words = line.split(' ');
    let (at, kind, value) = (words.next()?, words.next()?, words.next()?);
    let mark = match kind {
        "key" if value.chars().eq([MASK]) => Mark::Key(MASK),
        "key" if value.len() == 1 => Mark::key(value.chars().next()?)?,
        "gap" => Mark::Gap(Duration::from_millis(value.parse::<u128>().ok()?.min(GAP_READ_MAX_MS) as u64)),
        _ => return None,
    };
    words.next().is_none().then_some(Marked { at: at.parse().ok()?, mark })
}

/// Whether something is missing that shows in the text.
pub fn has_gap(marks: &[(u64, Mark)]) -> bool {
    marks.iter().any(|(_, mark)| matches!(mark, Mark::Gap(length) if *length >= GAP_TOLD_MIN))
}

/// The segments with the marks among them, which are given by the milliseconds of sound before each. What follows a gap was
/// said so much later.
pub fn insert(segments: Vec<Segment>, marks: &[(u64, Mark)]) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::with_capacity(segments.len() + marks.len());
    let (mut marks, mut missing_ms) = (marks.iter().peekable(), 0);
    // Keys are one segment until somebody speaks, or something is missing.
    let mut keys: Option<Segment> = None;
    let mut place = |merged: &mut Vec<Segment>, before: u64, missing_ms: &mut u64| {
        while let Some((at_ms, mark)) = marks.next_if(|(at_ms, _)| *at_ms < before) {
            let start_ms = at_ms + *missing_ms;
            match mark {
                Mark::Key(key) => {
                    let keys = keys.get_or_insert_with(|| Segment { start_ms, end_ms: start_ms, text: String::new() });
                    keys.text.push(*key);
                    keys.end_ms = start_ms;
                }
                Mark::Gap(length) => {
                    *missing_ms += u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
                    if *length >= GAP_TOLD_MIN {
                        merged.extend(keys.take().map(told));
                        merged.push(Segment { start_ms, end_ms: at_ms + *missing_ms, text: UNHEARD.to_owned() });
                    }
                }
            }
        }
        merged.extend(keys.take().map(told));
    };
    for mut segment in segments {
        place(&mut merged, segment.start_ms.saturating_add(1), &mut missing_ms);
        segment.start_ms += missing_ms;
        segment.end_ms += missing_ms;
        merged.push(segment);
    }
    place(&mut merged, u64::MAX, &mut missing_ms);
    merged
}

fn told(keys: Segment) -> Segment {
    Segment { text: format!("[DTMF {}]", keys.text), ..keys }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const fn gap(ms: u64) -> Mark {
        Mark::Gap(Duration::from_millis(ms))
    }

    fn said(start_ms: u64, end_ms: u64, text: &str) -> Segment {
        Segment { start_ms, end_ms, text: text.to_owned() }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_no_mark_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let call = CallSid::from_number(1);
        assert_eq!(read(folder.path(), call, 1).unwrap(), []);
        let marks = [Mark::Key('#'), gap(240), Mark::Key('5').masked(), gap(7).masked()];
        let marks: Vec<_> = (0..).zip(marks).map(|(at, mark)| Marked { at, mark }).collect();
        let text: String = marks.iter().map(ToString::to_string).collect();
        let path = path(folder.path(), call, 1);
        fs::write(&path, &text).unwrap();
        assert_eq!(read(folder.path(), call, 1).unwrap(), marks);
        fs::write(&path, text + "x key 1\n1 key\n1 key 12\n1 key é\n1 gap -1\n1 beep 2\n1 gap 1 2\n\n\u{0}\n9 gap 24")
            .unwrap();
        assert_eq!(read(folder.path(), call, 1).unwrap(), marks);
        fs::write(&path, Marked { at: 1, mark: Mark::Gap(Duration::MAX) }.to_string()).unwrap();
        let longest = Mark::Gap(Duration::from_millis(u32::MAX.into()));
        assert_eq!(read(folder.path(), call, 1).unwrap(), [Marked { at: 1, mark: longest }]);
        fs::write(&path, [0xff; 9]).unwrap();
        assert_eq!(read(folder.path(), call, 1).unwrap(), []);
    }

    #[test]
    fn a_telephone_has_sixteen_keys() {
        let keys: String = ('\0'..='\u{ff}').filter(|name| Mark::key(*name).is_some()).collect();
        assert_eq!(keys, "#*0123456789ABCD");
    }

    #[test]
    fn keys_and_gaps_stand_where_they_were_and_what_follows_a_gap_is_later() {
        let segments = vec![said(0, 900, "hello"), said(1_000, 2_000, "goodbye")];
        let marks = [(950, Mark::Key('1')), (960, Mark::Key('2')), (1_500, gap(100)), (1_600, gap(3_000))];
        let merged = insert(segments.clone(), &marks);
        let expected = [
            said(0, 900, "hello"),
            said(950, 960, "[DTMF 12]"),
            said(1_000, 2_000, "goodbye"),
            said(1_700, 4_700, UNHEARD),
        ];
        assert_eq!(merged, expected);
        let marks = [(0, gap(500)), (0, Mark::Key('*')), (950, gap(60)), (2_500, Mark::Key('#'))];
        let expected = [
            said(0, 500, UNHEARD),
            said(500, 500, "[DTMF *]"),
            said(500, 1_400, "hello"),
            said(1_560, 2_560, "goodbye"),
            said(3_060, 3_060, "[DTMF #]"),
        ];
        assert_eq!(insert(segments.clone(), &marks), expected);
        assert!(has_gap(&marks) && !has_gap(&marks[1..]));
        assert_eq!(insert(segments.clone(), &[]), segments);
        assert_eq!(insert(Vec::new(), &[(7, Mark::Key('9'))]), [said(7, 7, "[DTMF 9]")]);
    }

    #[test]
    fn keys_with_something_missing_between_are_told_apart() {
        let merged = insert(Vec::new(), &[(0, Mark::Key('1')), (10, gap(300)), (10, Mark::Key('2'))]);
        assert_eq!(merged, [said(0, 0, "[DTMF 1]"), said(10, 310, UNHEARD), said(310, 310, "[DTMF 2]")]);
    }
}
