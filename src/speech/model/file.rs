//! A ggml file of Whisper's, looked through without loading it: what it holds, and whether it is whole.
//!
//! whisper.cpp ends the whole program on some files that are damaged. So nothing is given to it that was not looked
//! through: each length is followed to the next, and the last must end where the file does.

use std::{
    error::Error,
    fmt,
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::limits::MODEL_FILE_BYTES_MAX;

const MAGIC: u32 = 0x6767_6d6c;
/// Words of a vocabulary from which on it is that of all languages; smaller ones know English alone.
const MULTILINGUAL_WORDS: i32 = 51_865;
/// The languages of the first such vocabulary; later ones have a word more for each further language.
const FIRST_LANGUAGES: i32 = 99;
/// Counts in a header beyond these are damage; the largest model has 51,866 words, 1,280 states, 32 layers and 128 mels.
const COUNTS_MAX: [i32; 10] = [100_000, 10_000, 8_192, 128, 128, 10_000, 8_192, 128, 128, 1_024];
const WORD_BYTES_MAX: u32 = 1_024;
const NAME_BYTES_MAX: i32 = 256;
const DIMENSIONS_MAX: i32 = 4;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub bytes: u64,
    /// `tiny`, `base`, `small`, `medium`, `large`, `large turbo`, or how many layers it has.
    pub kind: String,
    /// How its numbers are shortened: `q5_1`, `f16`.
    pub weights: &'static str,
    /// How many languages it knows; 1 is English.
    pub languages: u32,
}

/// Why it is no model that can be used.
#[derive(Debug)]
pub enum ModelError {
    Io(io::Error),
    /// It begins otherwise than every ggml file.
    NotGgml,
    /// It ends before it should.
    Truncated,
    /// Something in it cannot be.
    Damaged(&'static str),
    /// Larger than any model.
    TooLarge(u64),
}

/// Looks through the file at a path.
pub fn examine(path: &Path) -> Result<Model, ModelError> {
    let file = File::open(path).map_err(ModelError::Io)?;
    let metadata = file.metadata().map_err(ModelError::Io)?;
    if metadata.is_dir() {
        return Err(ModelError::Io(io::ErrorKind::IsADirectory.into()));
    }
    if metadata.len() > MODEL_FILE_BYTES_MAX {
        return Err(ModelError::TooLarge(metadata.len()));
    }
    look_through(file, metadata.len())
}

/// The hash of a whole file, in hexadecimal.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            bytes => hash.update(&piece[..bytes]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Looks through a model of so many bytes.
fn look_through(file: impl Read + Seek, bytes: u64) -> Result<Model, ModelError> {
    let mut walk = Walk { file: BufReader::new(file), at: 0, end: bytes };
    if walk.u32().map_err(|_| ModelError::NotGgml)? != MAGIC {
        return Err(ModelError::NotGgml);
    }
    let mut counts = [0; 11];
    for count in &mut counts {
        *count = walk.i32()?;
    }
    let [words, .., mels, format] = counts;
    let (encoder, decoder) = (counts[4], counts[8]);
    if counts.iter().zip(COUNTS_MAX).any(|(count, most)| !(1..=most).contains(count)) {
        return Err(ModelError::Damaged("its header counts what cannot be"));
    }
    if mels != walk.i32()? {
        return Err(ModelError::Damaged("its filters are not those of its header"));
    }
    let filter_bytes = u64::from(walk.count(10_000)?) * u64::from(mels.unsigned_abs()) * 4;
    walk.pass_over(filter_bytes)?;
    // Words beyond those listed have no text: time stamps and the like.
    for _ in 0..walk.count(words.unsigned_abs())? {
        let word_bytes = walk.count(WORD_BYTES_MAX)?;
        walk.pass_over(word_bytes.into())?;
    }
    let expected = 11 + 15 * encoder.unsigned_abs() + 24 * decoder.unsigned_abs();
    for _ in 0..expected {
        walk.pass_over_tensor()?;
    }
    if walk.at != walk.end {
        return Err(ModelError::Damaged("it goes on behind its end"));
    }
    let languages = if words < MULTILINGUAL_WORDS { 1 } else { FIRST_LANGUAGES + words - MULTILINGUAL_WORDS };
    Ok(Model {
        bytes,
        kind: kind(encoder, decoder),
        weights: weights(format).ok_or(ModelError::Damaged("its weights are of an unknown kind"))?,
        languages: languages.unsigned_abs(),
    })
}

fn kind(encoder: i32, decoder: i32) -> String {
    let name = match (encoder, decoder) {
        (4, 4) => "tiny",
        (6, 6) => "base",
        (12, 12) => "small",
        (24, 24) => "medium",
        (32, 32) => "large",
        (32, 4) => "large turbo",
        _ => return format!("of {encoder} and {decoder} layers"),
    };
    name.to_owned()
}

/// The format of a file (`ggml_ftype`); thousands are the version of the quantization.
fn weights(format: i32) -> Option<&'static str> {
    Some(match format % 1_000 {
        0 => "f32",
        1 => "f16",
        2 => "q4_0",
        3 => "q4_1",
        7 => "q8_0",
        8 => "q5_0",
        9 => "q5_1",
        _ => return None,
    })
}

/// Numbers in a block of a tensor (`ggml_type`), and the block's bytes.
fn block(kind: i32) -> Option<(u64, u64)> {
    Some(match kind {
        0 => (1, 4),
        1 => (1, 2),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        _ => return None,
    })
}

/// A place in the file, and its end.
struct Walk<R> {
    file: BufReader<R>,
    at: u64,
    end: u64,
}

impl<R: Read + Seek> Walk<R> {
    fn u32(&mut self) -> Result<u32, ModelError> {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ModelError::Truncated,
            _ => ModelError::Io(error),
        })?;
        self.at += 4;
        Ok(u32::from_le_bytes(bytes))
    }

    fn i32(&mut self) -> Result<i32, ModelError> {
        self.u32().map(u32::cast_signed)
    }

    fn count(&mut self, most: u32) -> Result<u32, ModelError> {
        let count = self.u32()?;
        if count <= most { Ok(count) } else { Err(ModelError::Damaged("it counts what cannot be")) }
    }

    fn pass_over(&mut self, bytes: u64) -> Result<(), ModelError> {
        let at = self.at.checked_add(bytes).filter(|at| *at <= self.end).ok_or(ModelError::Truncated)?;
        self.file.seek_relative(bytes.cast_signed()).map_err(ModelError::Io)?;
        self.at = at;
        Ok(())
    }

    fn pass_over_tensor(&mut self) -> Result<(), ModelError> {
        let (dimensions, name_bytes, kind) = (self.i32()?, self.i32()?, self.i32()?);
        if !(1..=DIMENSIONS_MAX).contains(&dimensions) || !(1..=NAME_BYTES_MAX).contains(&name_bytes) {
            return Err(ModelError::Damaged("a part of it has a shape that cannot be"));
        }
        let mut numbers = 1_u64;
        for _ in 0..dimensions {
            let more = u64::from(self.count(i32::MAX.unsigned_abs())?);
            numbers = numbers.checked_mul(more).filter(|numbers| *numbers <= MODEL_FILE_BYTES_MAX * 2).unwrap_or(0);
        }
        let (block_numbers, block_bytes) =
            block(kind).ok_or(ModelError::Damaged("a part of it is of an unknown kind"))?;
        if numbers == 0 || !numbers.is_multiple_of(block_numbers) {
            return Err(ModelError::Damaged("a part of it has a size that cannot be"));
        }
        self.pass_over(name_bytes.unsigned_abs().into())?;
        self.pass_over(numbers / block_numbers * block_bytes)
    }
}

impl Model {
    /// `base, q5_1, 99 languages, 57 MiB`
    pub fn in_words(&self) -> String {
        let languages = match self.languages {
            1 => "English only".to_owned(),
            languages => format!("{languages} languages"),
        };
        format!("{}, {}, {languages}, {}", self.kind, self.weights, bytesize::ByteSize::b(self.bytes).display().iec())
    }

    /// What whisper.cpp takes of memory with it, at most, in bytes: the weights, and what it computes in. That was measured
    /// for base (235 MB with five beams); of the others its own README tells, and a third is added.
    pub fn memory_bytes(&self) -> u64 {
        let megabytes = match &self.kind[..] {
            "tiny" | "base" => 320,
            "small" => 520,
            "medium" | "large turbo" => 760,
            _ => 1_100,
        };
        self.bytes + megabytes * 1_000_000
    }

    /// Whether it was trained on a language; models know all or English.
    pub fn knows(&self, language: &str) -> bool {
        self.languages > 1 || language.is_empty() || language == "en"
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => f.write_str("there is no such file"),
            Self::Io(_) => f.write_str("it cannot be read"),
            Self::NotGgml => f.write_str("it is no ggml file; models for other programs cannot be used"),
            Self::Truncated => f.write_str("it ends too early: it was not copied or downloaded to its end"),
            Self::Damaged(what) => write!(f, "it is damaged: {what}"),
            Self::TooLarge(bytes) => {
                write!(f, "{} is more than any model has", bytesize::ByteSize::b(*bytes).display().iec())
            }
        }
    }
}

impl Error for ModelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) if error.kind() != io::ErrorKind::NotFound => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! A file with the shape of a model, and nothing learnt in it.

    /// Of so many words, with one layer on each side, in f16.
    pub fn model(words: i32) -> Vec<u8> {
        let mut file = Vec::new();
        let mut put = |numbers: &[i32]| numbers.iter().for_each(|number| file.extend(number.to_le_bytes()));
        put(&[0x6767_6d6c, words, 1_500, 64, 1, 1, 448, 64, 1, 1, 80, 1]);
        put(&[80, 2]);
        put(&[0; 160]);
        put(&[2, 4, 0x6161_6161, 0]);
        for _ in 0..11 + 15 + 24 {
            put(&[2, 4, 1, 8, 2, 0x6161_6161]);
            put(&[0; 8]);
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn look(file: &[u8]) -> Result<Model, ModelError> {
        look_through(Cursor::new(file), file.len() as u64)
    }

    #[test]
    fn a_header_tells_what_a_model_is() {
        let model = look(&samples::model(51_865)).unwrap();
        assert_eq!((model.languages, model.weights, &model.kind[..]), (99, "f16", "of 1 and 1 layers"));
        assert!(model.knows("he") && model.in_words().contains("99 languages"));
        assert_eq!(look(&samples::model(51_866)).unwrap().languages, 100);
        let english = look(&samples::model(51_864)).unwrap();
        assert!(english.languages == 1 && english.knows("en") && !english.knows("he"));
        assert_eq!([kind(6, 6), kind(32, 4)], ["base", "large turbo"]);
        let base = Model { bytes: 59_707_625, kind: kind(6, 6), ..english };
        assert!((300 << 20..400 << 20).contains(&base.memory_bytes()), "{}", base.memory_bytes());
        assert_eq!([weights(2_009), weights(1), weights(12)], [Some("q5_1"), Some("f16"), None]);
    }

    #[test]
    fn wherever_it_is_cut_it_is_not_taken() {
        let whole = samples::model(51_865);
        for length in 0..whole.len() {
            match look(&whole[..length]) {
                Err(ModelError::NotGgml) => assert!(length < 4),
                Err(ModelError::Truncated) => {}
                other => panic!("{length}: {other:?}"),
            }
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(matches!(look(&longer), Err(ModelError::Damaged("it goes on behind its end"))));
    }

    #[test]
    fn no_byte_in_it_makes_the_walk_panic_or_run_away() {
        let whole = samples::model(51_865);
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut file = whole.clone();
                file[at] = value;
                let _ = look(&file);
            }
        }
        assert!(matches!(look(b"RIFF and so on"), Err(ModelError::NotGgml)));
    }

    #[test]
    fn what_is_no_file_is_told_with_its_cause() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(examine(folder.path()), Err(ModelError::Io(_))));
        let missing = examine(&folder.path().join("none.bin")).unwrap_err();
        assert_eq!(missing.to_string(), "there is no such file");
        let path = folder.path().join("model.bin");
        std::fs::write(&path, samples::model(51_865)).unwrap();
        assert_eq!(examine(&path).unwrap().bytes, std::fs::metadata(&path).unwrap().len());
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
