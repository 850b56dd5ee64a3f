//! What callers are told: the four prompts, built in or from the office's own directory, each with its text beside it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    config,
    limits::{PROMPT_BYTES_MAX, PROMPT_TEXT_BYTES_MAX},
    speech::{
        audio,
        decode::{self, DecodeError},
    },
};

/// `say:TEXT` in the configuration: Twilio speaks the text.
const SAY: &str = "say:";
/// How fast Twilio's voices speak Hebrew, at the slowest: lengths of spoken texts are estimates, and rather too long.
const SAY_PER_CHARACTER: Duration = Duration::from_millis(100);

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The file to `<Play>`, under `/static/tts/`; `None`: the text is spoken by Twilio.
    pub name: Option<String>,
    /// What is said in it, for `<Say>`.
    pub text: String,
    /// How long it plays; an estimate where there is no file.
    pub duration: Duration,
    /// The same as telephone audio, to be played through a stream; `None` where there is no file.
    pub ulaw: Option<Arc<[u8]>>,
}

/// A file as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFile {
    pub bytes: Bytes,
    pub content_type: &'static str,
    /// A strong validator with its quotes: it changes exactly with the bytes.
    pub etag: String,
}

/// The four prompts of a call, and the files behind them.
#[derive(Debug, Clone)]
pub struct Prompts {
    /// Before the stream: asks to speak after the tone.
    pub greeting: Prompt,
    /// Before the recorder.
    pub fallback: Prompt,
    /// After a recording in which nothing was said.
    pub no_message: Prompt,
    /// After a message, and at the end of a conversation.
    pub goodbye: Prompt,
    files: BTreeMap<String, PromptFile>,
}

/// Why a prompt cannot be used. Each names the key of the configuration.
#[derive(Debug)]
pub enum PromptError {
    /// `calls.prompts` is no directory: without this, a spelling mistake would bring back the built-in voice unseen.
    Directory { path: PathBuf },
    /// A path, or another ending than `.mp3` and `.wav`.
    Name { key: &'static str, name: String },
    /// Neither in the directory nor built in.
    Missing { key: &'static str, name: String },
    /// The file is there and cannot be read.
    Read { key: &'static str, path: PathBuf, source: io::Error },
    /// The file is larger than may be.
    TooLarge { key: &'static str, path: PathBuf, bytes_max: usize },
    /// The text beside the file is not UTF-8.
    Text { key: &'static str, path: PathBuf },
    /// The file is no sound that can be played.
    Sound { key: &'static str, name: String, source: DecodeError },
    /// `say:` with nothing behind it.
    Silent { key: &'static str },
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path } => write!(f, "calls.prompts: {} is not a directory", path.display()),
            Self::Name { key, name } => {
                write!(f, "calls.{key}: {name:?} is not a file name that ends in .mp3 or .wav, nor say:TEXT")
            }
            Self::Missing { key, name } => {
                write!(f, "calls.{key}: there is no {name:?}, neither in the directory calls.prompts nor built in")
            }
            Self::Read { key, path, .. } => write!(f, "calls.{key}: cannot read {}", path.display()),
            Self::TooLarge { key, path, bytes_max } => {
                write!(f, "calls.{key}: {} has more than {bytes_max} bytes", path.display())
            }
            Self::Text { key, path } => write!(f, "calls.{key}: {} is not UTF-8", path.display()),
            Self::Sound { key, name, .. } => write!(f, "calls.{key}: {name:?} cannot be played"),
            Self::Silent { key } => write!(f, "calls.{key}: say: needs a text"),
        }
    }
}

impl std::error::Error for PromptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Sound { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Prompts {
    /// Reads all prompts into memory, once: no call ever waits for a disk.
    pub fn load(calls: &config::Calls) -> Result<Self, PromptError> {
        if let Some(path) = calls.prompts.as_deref().filter(|path| !path.is_dir()) {
            return Err(PromptError::Directory { path: path.to_owned() });
        }
        let mut shelf = Shelf { directory: calls.prompts.as_deref(), files: BTreeMap::new() };
        Ok(Self {
            greeting: shelf.prompt("greeting", &calls.greeting, &GREETING)?,
            fallback: shelf.prompt("fallback_prompt", &calls.fallback_prompt, &FALLBACK)?,
            no_message: shelf.prompt("no_message_prompt", &calls.no_message_prompt, &NO_MESSAGE)?,
            goodbye: shelf.prompt("goodbye_prompt", &calls.goodbye_prompt, &GOODBYE)?,
            files: shelf.files,
        })
    }

    /// The file of this name, if one of the four prompts plays it.
    pub fn file(&self, name: &str) -> Option<&PromptFile> {
        self.files.get(name)
    }
}

/// A prompt that is compiled in.
struct BuiltIn {
    name: &'static str,
    bytes: &'static [u8],
    text: &'static str,
}

macro_rules! built_in {
    ($stem:literal) => {
        BuiltIn {
            name: concat!($stem, ".mp3"),
            bytes: include_bytes!(concat!("../../static/tts/", $stem, ".mp3")),
            text: include_str!(concat!("../../static/tts/", $stem, ".txt")),
        }
    };
}

static GREETING: BuiltIn = built_in!("greeting_he");
static FALLBACK: BuiltIn = built_in!("fallback_he");
static NO_MESSAGE: BuiltIn = built_in!("no_message_he");
static GOODBYE: BuiltIn = built_in!("goodbye_he");
static ALL_BUILT_IN: [&BuiltIn; 4] = [&GREETING, &FALLBACK, &NO_MESSAGE, &GOODBYE];

/// Where prompts are looked for, and what was found.
struct Shelf<'a> {
    directory: Option<&'a Path>,
    files: BTreeMap<String, PromptFile>,
}

impl Shelf<'_> {
    /// The prompt that `value` of `key` names. `usual` is what the project has for this moment of a call: its text stands
    /// in where a file of the office's own has none beside it.
    fn prompt(&mut self, key: &'static str, value: &str, usual: &BuiltIn) -> Result<Prompt, PromptError> {
        if let Some(text) = value.strip_prefix(SAY) {
            return spoken(key, text);
        }
        let (stem, extension, content_type) = name_parts(key, value)?;
        let built_in = ALL_BUILT_IN.into_iter().find(|built_in| built_in.name == value);
        let bytes = match (self.read(key, value, PROMPT_BYTES_MAX)?, built_in) {
            (Some(own), _) => Bytes::from(own),
            (None, Some(built_in)) => Bytes::from_static(built_in.bytes),
            (None, None) => return Err(PromptError::Missing { key, name: value.to_owned() }),
        };
        let text = match self.read_text(key, &format!("{stem}.txt"))? {
            Some(own) => own,
            None => built_in.unwrap_or(usual).text.trim().to_owned(),
        };
        let sound = decode::decode(&bytes, extension).map_err(|source| PromptError::Sound {
            key,
            name: value.to_owned(),
            source,
        })?;
        let etag = etag(&bytes);
        self.files.insert(value.to_owned(), PromptFile { bytes, content_type, etag });
        Ok(Prompt {
            name: Some(value.to_owned()),
            text,
            duration: sound.duration,
            ulaw: Some(audio::encode(&sound.pcm8k).into()),
        })
    }

    /// A text of the directory without the white space around it; `None` if there is none, or nothing in it.
    fn read_text(&self, key: &'static str, name: &str) -> Result<Option<String>, PromptError> {
        let Some(bytes) = self.read(key, name, PROMPT_TEXT_BYTES_MAX)? else { return Ok(None) };
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(_) => Err(PromptError::Text { key, path: self.directory.unwrap_or(Path::new("")).join(name) }),
        }
    }

    /// A file of the directory; `None` if there is no directory or no such file.
    fn read(&self, key: &'static str, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, PromptError> {
        let Some(directory) = self.directory else { return Ok(None) };
        let path = directory.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PromptError::Read { key, path, source }),
        };
        let mut bytes = Vec::new();
        match file.take(bytes_max as u64 + 1).read_to_end(&mut bytes) {
            Ok(length) if length > bytes_max => Err(PromptError::TooLarge { key, path, bytes_max }),
            Ok(_) => Ok(Some(bytes)),
            Err(source) => Err(PromptError::Read { key, path, source }),
        }
    }
}

fn spoken(key: &'static str, text: &str) -> Result<Prompt, PromptError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(PromptError::Silent { key });
    }
    let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    let duration = SAY_PER_CHARACTER.saturating_mul(characters);
    Ok(Prompt { name: None, text: text.to_owned(), duration, ulaw: None })
}

/// Stem, extension and content type of a plain file name that Twilio can play.
fn name_parts<'a>(key: &'static str, name: &'a str) -> Result<(&'a str, &'static str, &'static str), PromptError> {
    let refused = || PromptError::Name { key, name: name.to_owned() };
    let is_plain = name.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character));
    let (stem, extension) = name.rsplit_once('.').ok_or_else(refused)?;
    match extension {
        _ if !is_plain || stem.is_empty() || stem.starts_with('.') => Err(refused()),
        "mp3" => Ok((stem, "mp3", "audio/mpeg")),
        "wav" => Ok((stem, "wav", "audio/wav")),
        _ => Err(refused()),
    }
}

fn etag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let mut etag = String::from("\"");
    for byte in digest.iter().take(16) {
        etag.push_str(&format!("{byte:02x}"));
    }
    etag.push('"');
    etag
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A beep of this length as a WAV file.
    fn beep(milliseconds: u64) -> Vec<u8> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: audio::SAMPLE_RATE_HZ,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut bytes = io::Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for sample in audio::tone(1_000.0, Duration::from_millis(milliseconds), 0.5) {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    fn office(files: &[(&str, &[u8])]) -> (tempfile::TempDir, config::Calls) {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        let calls = config::Calls { prompts: Some(directory.path().to_owned()), ..config::Calls::default() };
        (directory, calls)
    }

    #[test]
    fn the_built_in_ones_are_complete_and_the_greeting_is_short() {
        let prompts = Prompts::load(&config::Calls::default()).unwrap();
        for prompt in [&prompts.greeting, &prompts.fallback, &prompts.no_message, &prompts.goodbye] {
            let name = prompt.name.as_deref().unwrap();
            assert_eq!(prompts.file(name).unwrap().content_type, "audio/mpeg", "{name}");
            assert!(!prompt.text.is_empty() && prompt.text == prompt.text.trim(), "{name}");
            assert_eq!(audio::duration(prompt.ulaw.as_ref().unwrap().len()), prompt.duration, "{name}");
        }
        assert!(prompts.greeting.duration < Duration::from_secs(6), "every second of it hides a broken stream");
        assert!(prompts.file("greeting_he.txt").is_none());
    }

    #[test]
    fn a_file_of_the_office_replaces_the_built_in_one_of_the_same_name() {
        let wav = beep(700);
        let (_directory, calls) =
            office(&[("greeting_he.mp3", &wav), ("fallback_he.txt", "  הודעה אחרת\n".as_bytes())]);
        let prompts = Prompts::load(&calls).unwrap();
        assert_eq!(prompts.greeting.duration, Duration::from_millis(700));
        assert_eq!(prompts.file("greeting_he.mp3").unwrap().bytes, wav);
        assert_eq!(prompts.greeting.text, GREETING.text.trim(), "no text beside it: the usual one");
        assert_eq!(prompts.fallback.text, "הודעה אחרת", "a text alone can be replaced");
        assert_eq!(prompts.file("fallback_he.mp3").unwrap().bytes, FALLBACK.bytes);
    }

    #[test]
    fn a_name_of_ones_own_is_served_with_the_usual_text() {
        let (_directory, mut calls) = office(&[("my-goodbye.wav", &beep(300))]);
        calls.goodbye_prompt = "my-goodbye.wav".into();
        let prompts = Prompts::load(&calls).unwrap();
        assert_eq!(prompts.file("my-goodbye.wav").unwrap().content_type, "audio/wav");
        assert_eq!(prompts.goodbye.text, GOODBYE.text.trim());
        assert!(prompts.file("goodbye_he.mp3").is_none(), "what no call plays is not served");
    }

    #[test]
    fn a_spoken_prompt_has_no_file_and_a_length_that_is_rather_too_long() {
        let calls = config::Calls { greeting: "say: שלום לכם ".into(), ..config::Calls::default() };
        let greeting = Prompts::load(&calls).unwrap().greeting;
        let text = "שלום לכם".to_owned();
        assert_eq!(greeting, Prompt { name: None, text, duration: Duration::from_millis(800), ulaw: None });
    }

    #[test]
    fn a_directory_that_is_not_there_is_refused() {
        let calls = config::Calls { prompts: Some("no/such/place".into()), ..config::Calls::default() };
        assert!(matches!(Prompts::load(&calls), Err(PromptError::Directory { .. })));
    }

    #[test]
    fn equal_bytes_have_equal_etags_and_others_have_others() {
        assert_eq!(etag(b"a"), etag(b"a"));
        assert_ne!(etag(b"a"), etag(b"b"));
        assert_eq!(etag(b"").len(), 34);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_key() {
        let (_directory, calls) =
            office(&[("noise.mp3", b"not a sound"), ("large.wav", &vec![0; PROMPT_BYTES_MAX + 1])]);
        for (value, expected) in [
            ("say:  ", "calls.greeting: say: needs a text"),
            ("absent.mp3", "there is no \"absent.mp3\""),
            ("noise.mp3", "cannot be played"),
            ("large.wav", "more than"),
            ("../etc/passwd.mp3", "is not a file name"),
            ("greeting", "is not a file name"),
            ("greeting.ogg", "is not a file name"),
            (".mp3", "is not a file name"),
            ("a\"b.mp3", "is not a file name"),
        ] {
            let calls = config::Calls { greeting: value.into(), ..calls.clone() };
            let error = Prompts::load(&calls).unwrap_err().to_string();
            assert!(error.contains(expected) && error.starts_with("calls.greeting"), "{value}: {error}");
        }
    }
}
