//! How well each speech engine hears the telephone, how fast, and in how much memory.
//!
//! `cargo run --release --features whisper --example accuracy -- --help`

use std::{
    error::Error,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio, id},
};

use clap::Parser;
use engines::{Kind, Prepared, Server, named};
use kolbox::{
    config::{Speech, SpeechEngine},
    speech::engine::{self, HAS_WHISPER},
};
use measure::{Row, measure};
use sounds::{Sound, in_folder};

#[path = "../support/engines.rs"]
#[allow(dead_code, reason = "the tests do more with them")]
mod engines;
mod measure;
mod sounds;
#[path = "../support/words.rs"]
mod words;

/// The callers that the project brings: a computer's voices.
const CALLERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/static/speech");

/// Measures speech engines on sounds whose words are known, each as a telephone carries it: 8 kHz, μ-law
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo run --release --features whisper --example accuracy --",
    after_help = "eval \"$(tests/support/speech_engines.sh)\" prepares the engines and a clip of a real voice.\n\
                  An engine that is not at hand is said to be skipped."
)]
struct Arguments {
    /// A folder with sounds (NAME_LANGUAGE.wav or .mp3) and their words (NAME_LANGUAGE.txt), beside those at hand
    #[arg(long, value_name = "FOLDER")]
    audio: Vec<PathBuf>,
    /// A ggml file for the engine whisper [default: the one that SPEECH_TEST_MODEL names]
    #[arg(long, value_name = "FILE")]
    model: Vec<PathBuf>,
    /// How often each is asked for each sound; the time is the median
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Measures whisper in this process, in this language, and writes rows for the process that started it
    #[arg(long, hide = true, requires = "model")]
    child: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.child {
        Some(language) => measure_here(&arguments, language),
        None => measure_all(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("accuracy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let sounds = sounds(arguments)?;
    let mut skipped = Vec::new();
    let mut rows = Vec::new();
    match models(arguments) {
        Ok(models) => {
            for model in models {
                rows.extend(measure_whisper(arguments, &model, &sounds)?);
            }
        }
        Err(why) => skipped.push(format!("SKIPPED whisper: {why}")),
    }
    for kind in [Kind::Wyoming, Kind::OpenAi] {
        match Prepared::find() {
            Ok(prepared) => rows.extend(measure_server(kind, &prepared, &sounds, arguments.runs)?),
            Err(why) => skipped.push(format!("SKIPPED {}: {why}", kind.name())),
        }
    }
    println!("\n| engine | sound | its words | wrong | word error rate | real-time factor | peak memory |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    rows.iter().for_each(|row| println!("{row}"));
    skipped.iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// Those that the project brings, those that were prepared, and those that were asked for.
fn sounds(arguments: &Arguments) -> Result<Vec<Sound>, Box<dyn Error>> {
    let mut sounds = in_folder(Path::new(CALLERS))?;
    match named("SPEECH_TEST_AUDIO", "folder of sounds") {
        Ok(folder) => sounds.extend(in_folder(&folder)?),
        Err(why) => println!("SKIPPED voice: {why}"),
    }
    for folder in &arguments.audio {
        sounds.extend(in_folder(folder)?);
    }
    sounds.sort_by(|one, other| (&one.language, &one.name).cmp(&(&other.language, &other.name)));
    Ok(sounds)
}

fn models(arguments: &Arguments) -> Result<Vec<PathBuf>, String> {
    if !HAS_WHISPER {
        return Err("built without --features whisper".to_owned());
    }
    if arguments.model.is_empty() {
        Ok(vec![named("SPEECH_TEST_MODEL", "model")?])
    } else {
        Ok(arguments.model.clone())
    }
}

/// In a process of its own for each language, so that it is this engine's memory alone that is measured.
fn measure_whisper(arguments: &Arguments, model: &Path, sounds: &[Sound]) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut languages: Vec<_> = sounds.iter().map(|sound| &*sound.language).collect();
    languages.dedup();
    let mut rows = Vec::new();
    for language in languages {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--child", language, "--runs", &arguments.runs.to_string(), "--model"]).arg(model);
        for folder in &arguments.audio {
            command.arg("--audio").arg(folder);
        }
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        for line in BufReader::new(child.stdout.take().ok_or("no output")?).lines() {
            // Beside the rows it says what it skips, which was said already.
            rows.extend(serde_json::from_str::<Row>(&line?).ok().inspect(Row::tell));
        }
        if !child.wait()?.success() {
            return Err("whisper could not be measured".into());
        }
    }
    Ok(rows)
}

/// The child's part.
fn measure_here(arguments: &Arguments, language: &str) -> Result<(), Box<dyn Error>> {
    let model = arguments.model.first().ok_or("no model")?;
    let speech = Speech {
        engine: SpeechEngine::Whisper,
        model: model.to_str().ok_or("a model's path that is no text")?.to_owned(),
        language: language.to_owned(),
        ..Speech::default()
    };
    let engine = engine::ready(&speech, Path::new("")).map_err(|error| format!("{error}; {}", error.remedy()))?;
    for sound in sounds(arguments)?.iter().filter(|sound| sound.language == language) {
        println!("{}", serde_json::to_string(&measure(engine.as_ref(), id(), sound, arguments.runs)?)?);
    }
    Ok(())
}

/// A server reads the language of each question.
fn measure_server(kind: Kind, prepared: &Prepared, sounds: &[Sound], runs: u32) -> Result<Vec<Row>, Box<dyn Error>> {
    let server = Server::start(kind, prepared, free_address()?, "en");
    let mut rows = Vec::new();
    for sound in sounds {
        let speech = Speech {
            engine: if kind == Kind::Wyoming { SpeechEngine::Wyoming } else { SpeechEngine::OpenAi },
            model: "base".to_owned(),
            url: kind.url(server.address),
            language: sound.language.clone(),
            ..Speech::default()
        };
        let row = measure(engine::ready(&speech, Path::new(""))?.as_ref(), server.id(), sound, runs)?;
        row.tell();
        rows.push(row);
    }
    Ok(rows)
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
