//! `kolbox transcribe`: a sound file through the configured engine.

use std::{
    error::Error,
    fmt, fs,
    io::{self, BufWriter, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{ConfigOption, FAILED, UNUSABLE, complain};
use crate::{
    limits::RECORDING_BYTES_MAX,
    speech::{
        decode::{DecodeError, decode_to_recognize},
        engine::{self, EngineError},
        recognizer::{Pcm, Question, Recognizer, RecognizerError, Transcript},
    },
};

/// What an engine is given, and so many times the sound's length more: the slowest box with its largest model.
const PATIENCE_MIN: Duration = Duration::from_secs(120);
const PATIENCE_PER_SOUND: u32 = 10;

/// Turn a sound file into text with the configured speech engine
#[derive(Debug, Args)]
pub struct TranscribeArguments {
    /// A WAV (8 or 16 kHz, PCM or μ-law, and others) or MP3 file, of at most half an hour
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// One JSON object with the times of each piece, in place of one line for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigOption,
}

/// Why there is no text.
#[derive(Debug)]
enum TranscribeError {
    Read(PathBuf, io::Error),
    TooLarge(PathBuf),
    Decode(PathBuf, DecodeError),
    Engine(EngineError),
    Recognize(RecognizerError),
    Output(io::Error),
}

/// As the records have it.
#[derive(Serialize)]
struct Told<'a> {
    duration_ms: u64,
    language: &'a str,
    engine: &'a str,
    text: &'a str,
    segments: Vec<ToldSegment<'a>>,
}

#[derive(Serialize)]
struct ToldSegment<'a> {
    start_ms: u64,
    end_ms: u64,
    text: &'a str,
}

/// The text on stdout: 0, also when nothing was said; 1 when the engine gave none; 2 for a file or a configuration that
/// cannot be used.
pub async fn run(arguments: TranscribeArguments) -> ExitCode {
    let (speech, store) = match arguments.config.find().speech() {
        Ok(found) => found,
        Err(error) => {
            complain(&error);
            return ExitCode::from(UNUSABLE);
        }
    };
    let outcome = async {
        let sound = read(&arguments.file)?;
        let engine = engine::ready(&speech, &store).map_err(TranscribeError::Engine)?;
        let transcript = recognize(engine.as_ref(), &sound).await.map_err(TranscribeError::Recognize)?;
        if transcript.segments.is_empty() {
            anstream::eprintln!("kolbox: nothing was said in it");
        }
        let mut out = BufWriter::new(io::stdout().lock());
        let written = match arguments.json {
            true => write_json(&mut out, &transcript, &sound, engine.name(), &speech.language),
            false => write_lines(&mut out, &transcript),
        };
        written.and_then(|()| out.flush()).map_err(TranscribeError::Output)
    };
    match outcome.await {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough is no mistake.
        Err(TranscribeError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            if let Some(remedy) = error.remedy() {
                anstream::eprintln!("  {remedy}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn read(path: &Path) -> Result<Pcm, TranscribeError> {
    let failed = |error| TranscribeError::Read(path.to_owned(), error);
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(RECORDING_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > RECORDING_BYTES_MAX {
        return Err(TranscribeError::TooLarge(path.to_owned()));
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    decode_to_recognize(&bytes, extension).map_err(|error| TranscribeError::Decode(path.to_owned(), error))
}

/// Asks, and meanwhile shows on a terminal that it waits.
async fn recognize(engine: &dyn Recognizer, sound: &Pcm) -> Result<Transcript, RecognizerError> {
    let began = Instant::now();
    let length = sound.duration();
    let deadline = began + PATIENCE_MIN + length * PATIENCE_PER_SOUND;
    let mut answer = engine.recognize(Question { sound: sound.clone(), deadline });
    if !io::stderr().is_terminal() {
        return answer.await;
    }
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            answer = &mut answer => {
                anstream::eprint!("\r\x1b[K");
                return answer;
            }
            _ = seconds.tick() => anstream::eprint!(
                "\r\x1b[K{}: {:.1} s of sound, for {} s now",
                engine.name(), length.as_secs_f32(), began.elapsed().as_secs()
            ),
        }
    }
}

/// A line for each piece.
fn write_lines(out: &mut impl Write, transcript: &Transcript) -> io::Result<()> {
    transcript.segments.iter().try_for_each(|segment| writeln!(out, "{}", segment.text))
}

fn write_json(
    out: &mut impl Write,
    transcript: &Transcript,
    sound: &Pcm,
    engine: &str,
    language: &str,
) -> io::Result<()> {
    let segments = transcript.segments.iter();
    let told = Told {
        duration_ms: sound.duration().as_millis() as u64,
        language: transcript.language.as_deref().unwrap_or(language),
        engine,
        text: &transcript.text,
        segments: segments
            .map(|segment| ToldSegment { start_ms: segment.start_ms, end_ms: segment.end_ms, text: &segment.text })
            .collect(),
    };
    serde_json::to_writer(&mut *out, &told)?;
    out.write_all(b"\n")
}

impl TranscribeError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Read(..) | Self::TooLarge(_) | Self::Decode(..) | Self::Engine(_) => UNUSABLE,
            Self::Recognize(_) | Self::Output(_) => FAILED,
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Engine(error) => Some(error.remedy()),
            Self::Recognize(error) => Some(error.remedy()),
            Self::TooLarge(_) => Some("give it a piece of the sound, or an MP3 of it"),
            Self::Decode(..) => Some("give it a WAV or an MP3 file of at most half an hour"),
            Self::Read(..) | Self::Output(_) => None,
        }
    }
}

impl fmt::Display for TranscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, _) => write!(f, "{} cannot be read", path.display()),
            Self::TooLarge(path) => write!(f, "{} has more than {} MiB", path.display(), RECORDING_BYTES_MAX >> 20),
            Self::Decode(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Engine(error) => error.fmt(f),
            Self::Recognize(error) => error.fmt(f),
            Self::Output(_) => f.write_str("the output cannot be written"),
        }
    }
}

impl Error for TranscribeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(_, error) | Self::Output(error) => Some(error),
            Self::TooLarge(_) => None,
            Self::Decode(_, error) => error.source(),
            Self::Engine(error) => error.source(),
            Self::Recognize(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::recognizer::Segment;

    #[test]
    fn text_is_a_line_a_piece_and_json_has_the_times() {
        let sound = Pcm { samples: vec![0; 16_000].into(), rate_hz: 8_000 };
        let segment = |start_ms, end_ms, text: &str| Segment { start_ms, end_ms, text: text.into() };
        let transcript = Transcript::of([segment(0, 900, "שלום."), segment(900, 2_000, "Hi")], &sound, None);
        let mut lines = Vec::new();
        write_lines(&mut lines, &transcript).unwrap();
        assert_eq!(String::from_utf8(lines).unwrap(), "שלום.\nHi\n");
        let mut json = Vec::new();
        write_json(&mut json, &transcript, &sound, "openai x", "he").unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let expected = serde_json::json!({
            "duration_ms": 2_000, "language": "he", "engine": "openai x", "text": "שלום. Hi",
            "segments": [{"start_ms": 0, "end_ms": 900, "text": "שלום."}, {"start_ms": 900, "end_ms": 2_000, "text": "Hi"}]
        });
        assert_eq!(json, expected);
    }
}
