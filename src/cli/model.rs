//! `kolbox model`: which speech model is in use, whether a file is a good one, and how to get one.

use std::{
    ffi::OsStr,
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use url::Url;

use super::{ConfigOption, FAILED, UNUSABLE, complain, with_causes};
use crate::{
    config::{Speech, SpeechEngine},
    limits::{DIRECTORY_ENTRIES_MAX, SPEECH_CONNECT_MAX},
    speech::{
        engine::HAS_WHISPER,
        model::{
            self, PUBLISHED, Published, SOURCE,
            fetch::{FetchError, Wanted, fetch},
            file::{examine, sha256},
        },
        wyoming::Wyoming,
    },
    system::http_client::{HttpClient, Roots},
};

/// How often progress is written anew on a terminal.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Which speech model is in use; check one, or download one
#[derive(Debug, Args)]
pub struct ModelArguments {
    #[command(subcommand)]
    what: Option<Model>,
    #[command(flatten)]
    config: ConfigOption,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Model {
    /// What is in use, what lies there, and what can be downloaded
    List,
    /// Whether a file is a whole model, and which
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Fetch a published model; begun again it goes on where it stopped
    Download {
        /// As `list` shows it: base-q5_1
        name: String,
        /// Another place that has the same files, such as the office's own: an http:// or https:// address of a folder
        #[arg(long, value_name = "URL", default_value = SOURCE, hide_default_value = true)]
        from: Url,
    },
}

/// Answers on stdout: 0 when all is well, 1 when the model in use, or the one that was asked for, is not.
pub async fn run(arguments: ModelArguments) -> ExitCode {
    if let Some(Model::Check { file }) = &arguments.what {
        return check(file);
    }
    let (speech, store) = match arguments.config.find().speech() {
        Ok(found) => found,
        Err(error) => {
            complain(&error);
            return ExitCode::from(UNUSABLE);
        }
    };
    match arguments.what {
        Some(Model::Download { name, from }) => download(&name, from, &store).await,
        _ => list(&speech, &store).await,
    }
}

async fn list(speech: &Speech, store: &Path) -> ExitCode {
    let well = in_use(speech, store).await;
    let directory = model::directory(store);
    let used = model::path(store, &speech.model);
    let others: Vec<_> = files(&directory).into_iter().filter(|path| *path != used).collect();
    if !others.is_empty() {
        anstream::println!("\nin {}:", directory.display());
    }
    for path in others {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let what = examine(&path).map_or_else(|error| with_causes(&error), |model| model.in_words());
        anstream::println!("  {name}: {what}");
    }
    anstream::println!("\nkolbox model download NAME, with NAME one of");
    for Published { name, bytes, purpose, .. } in PUBLISHED {
        anstream::println!("  {name:<20} {:>9}  {purpose}", size(bytes));
    }
    anstream::println!(
        "\nWithout a network: download {SOURCE}/ggml-NAME.bin elsewhere, and put it into {}",
        directory.display()
    );
    if well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// What is configured; false when it cannot be used as it is.
async fn in_use(speech: &Speech, store: &Path) -> bool {
    match speech.engine {
        SpeechEngine::None => {
            anstream::println!("in use: none (speech.engine is \"none\")");
            true
        }
        SpeechEngine::OpenAi => {
            anstream::println!("in use: {} at {}", speech.model, speech.url);
            true
        }
        SpeechEngine::Wyoming => there(speech).await,
        SpeechEngine::Whisper => {
            let path = model::path(store, &speech.model);
            anstream::print!("in use: ");
            let well = describe(&path);
            if !HAS_WHISPER {
                anstream::println!("  but this program was built without the speech engine \"whisper\"");
            }
            well && HAS_WHISPER
        }
    }
}

/// What an engine on the LAN says it has.
async fn there(speech: &Speech) -> bool {
    let asked = match Wyoming::new(speech) {
        Ok(engine) => engine.models(tokio::time::Instant::now() + 2 * SPEECH_CONNECT_MAX).await,
        Err(error) => {
            anstream::println!("in use: none: {error}");
            return false;
        }
    };
    match asked {
        Ok(models) => {
            anstream::println!(
                "in use: {} at {}, which has",
                if speech.model.is_empty() { "its own choice" } else { &speech.model },
                speech.url
            );
            for model in models {
                let hebrew = model.languages.iter().any(|language| language == "he" || language == "iw");
                let languages =
                    format!("{} languages{}", model.languages.len(), if hebrew { ", Hebrew among them" } else { "" });
                anstream::println!("  {}: {languages}", model.name);
            }
            true
        }
        Err(error) => {
            anstream::println!("in use: {}, but {}\n  {}", speech.url, with_causes(&error), error.remedy());
            false
        }
    }
}

fn check(path: &Path) -> ExitCode {
    if describe(path) { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// A file's path, what is in it, and whether it is a published one; false when it cannot be used.
fn describe(path: &Path) -> bool {
    anstream::println!("{}", path.display());
    let model = match examine(path) {
        Ok(model) => model,
        Err(error) => {
            anstream::println!("  cannot be used: {}", with_causes(&error));
            return false;
        }
    };
    anstream::println!("  {}", model.in_words());
    match sha256(path) {
        Ok(hash) => {
            let published = PUBLISHED.iter().find(|published| published.sha256 == hash);
            let whose = published.map_or("none of those that can be downloaded by name", |published| published.name);
            anstream::println!("  sha256 {hash} ({whose})");
            // One that has a published name and other bytes was changed, or broken on its way.
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let fits = Published::named(name).is_none_or(|named| named.sha256 == hash);
            if !fits {
                anstream::println!("  it has the name of a published model, and is not that model");
            }
            fits
        }
        Err(error) => {
            anstream::println!("  cannot be read to its end: {error}");
            false
        }
    }
}

async fn download(name: &str, from: Url, store: &Path) -> ExitCode {
    let Some(published) = Published::named(name) else {
        let names: Vec<_> = PUBLISHED.iter().map(|published| published.name).collect();
        anstream::eprintln!("kolbox: there is no model {name:?}; expected one of {}", names.join(", "));
        return ExitCode::from(UNUSABLE);
    };
    let path = model::directory(store).join(published.file_name());
    let folder = format!("{}/", from.as_str().trim_end_matches('/'));
    let url = Url::parse(&folder).and_then(|folder| folder.join(&published.file_name()));
    let Some(url) = url.ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
        anstream::eprintln!("kolbox: --from {from}: expected an address that begins with https:// or http://");
        return ExitCode::from(UNUSABLE);
    };
    if sha256(&path).is_ok_and(|hash| hash == published.sha256) {
        anstream::println!("{} is there already", path.display());
        return ExitCode::SUCCESS;
    }
    let client = match HttpClient::new(&Roots::Public, SPEECH_CONNECT_MAX) {
        Ok(client) => client,
        Err(error) => {
            complain(&error);
            return ExitCode::from(FAILED);
        }
    };
    let wanted = Wanted { url, bytes: published.bytes, sha256: published.sha256.to_owned(), path };
    let outcome = fetch(&client, &wanted, progress(published.bytes)).await;
    if io::stderr().is_terminal() {
        anstream::eprint!("\r\x1b[K");
    }
    match outcome {
        Ok(()) => {
            anstream::println!(
                "{}\nin the configuration:\n\n[speech]\nengine = \"whisper\"\nmodel = \"{name}\"",
                wanted.path.display()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            explain(&error, &wanted);
            ExitCode::from(FAILED)
        }
    }
}

fn explain(error: &FetchError, wanted: &Wanted) {
    anstream::eprintln!("  {}", error.remedy());
    anstream::eprintln!("  the file:  {}\n  its place: {}", wanted.url, wanted.path.display());
    anstream::eprintln!("  then:      kolbox model check {}", wanted.path.display());
}

/// Writes how far it is, on a terminal.
fn progress(all: u64) -> impl FnMut(u64) {
    let lives = io::stderr().is_terminal();
    let mut drawn: Option<Instant> = None;
    move |bytes| {
        if !lives || drawn.is_some_and(|at| at.elapsed() < DRAW_EVERY) {
            return;
        }
        drawn = Some(Instant::now());
        anstream::eprint!("\r\x1b[K{} of {} ({} %)", size(bytes), size(all), bytes * 100 / all.max(1));
    }
}

/// The models in a directory, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.take(DIRECTORY_ENTRIES_MAX).filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = paths.filter(|path| path.extension() == Some(OsStr::new("bin"))).collect();
    files.sort();
    files
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}
