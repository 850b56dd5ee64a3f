//! The speech engine: the model's file, or whoever is to be asked, without a caller's voice.

use std::path::Path;

use tokio::{task::spawn_blocking, time::Instant};

use super::finding::Finding;
use crate::{
    cli::with_causes,
    config::{Config, Speech, SpeechEngine},
    limits::CHECK_SPEECH_MAX,
    speech::{
        engine::{EngineError, HAS_WHISPER, knows_language},
        model::{
            self, Published,
            file::{Model, examine as look_through, sha256},
        },
        openai::{ModelsThere, OpenAi},
        recognizer::RecognizerError,
        wyoming::{ModelThere, Wyoming},
    },
    system::memory,
};

const WHAT: &str = "speech";
/// Models of an engine that are named to the installer.
const NAMED_MAX: usize = 8;
/// What the unit file hides from the service (`ProtectHome=`).
const HIDDEN: [&str; 2] = ["/home/", "/root/"];

/// Looks at the configured engine. `gateway_runs`: it has its model in memory already.
pub(super) async fn examine(config: &Config, gateway_runs: bool, findings: &mut Vec<Finding>) {
    let (speech, store) = (config.speech.clone(), config.store.path.clone());
    findings.push(match speech.engine {
        SpeechEngine::None => Finding::note(WHAT, "no engine: records go without text; set speech.engine to have it"),
        SpeechEngine::Whisper => {
            let looked = spawn_blocking(move || whisper(&speech, &store, gateway_runs)).await;
            looked.unwrap_or_else(|error| Finding::note(WHAT, format!("not looked at: {error}")))
        }
        SpeechEngine::OpenAi => openai(&speech).await,
        SpeechEngine::Wyoming => wyoming(&speech).await,
    });
}

/// The model's file; blocks on the disk.
fn whisper(speech: &Speech, store: &Path, gateway_runs: bool) -> Finding {
    let refused = |error: EngineError| Finding::fix(WHAT, format!("{}; {}", with_causes(&error), error.remedy()));
    if !HAS_WHISPER {
        return refused(EngineError::NotBuiltIn);
    }
    let path = model::path(store, &speech.model);
    let model = match look_through(&path) {
        Ok(model) => model,
        Err(error) => return refused(EngineError::Model(path, error)),
    };
    if !knows_language(&model, speech) {
        return refused(EngineError::EnglishOnly(path));
    }
    judge_model(&path, &model, if gateway_runs { None } else { memory::free() })
}

/// A model that can be used: whether it is what its name says, whether the service sees it, whether it fits.
fn judge_model(path: &Path, model: &Model, free: Option<u64>) -> Finding {
    let shown = path.display();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let published = Published::named(name);
    if let Some(published) = published {
        let is_the_one = model.bytes == published.bytes && sha256(path).is_ok_and(|hash| hash == published.sha256);
        if !is_the_one {
            let text = format!(
                "{shown} has the name of a published model and is not that model: fetch it anew (kolbox model download \
                 {}), or give it a name of its own",
                published.name
            );
            return Finding::fix(WHAT, text);
        }
    }
    if HIDDEN.iter().any(|hidden| path.starts_with(hidden)) {
        let text = format!("{shown} is hidden from the service (ProtectHome=): move it into models/ of store.path");
        return Finding::fix(WHAT, text);
    }
    let needed = model.memory_bytes();
    if let Some(free) = free.filter(|free| *free < needed) {
        let size = |bytes| bytesize::ByteSize::b(bytes).display().iec();
        let (needed, free) = (size(needed), size(free));
        let text = format!("{shown} takes about {needed} of memory, and {free} are free: take a smaller model");
        return Finding::fix(WHAT, text);
    }
    let whose = published.map_or("no published one", |published| published.name);
    Finding::fine(WHAT, format!("{shown}: {} ({whose})", model.in_words()))
}

async fn openai(speech: &Speech) -> Finding {
    let asked = match OpenAi::new(speech) {
        Ok(engine) => engine.models(Instant::now() + CHECK_SPEECH_MAX).await,
        Err(error) => return Finding::fix(WHAT, with_causes(&error)),
    };
    let answers = format!("{} answers", speech.url);
    match asked {
        Ok(ModelsThere::Listed(models)) if models.contains(&speech.model) => {
            Finding::fine(WHAT, format!("{answers}, and has {}", speech.model))
        }
        Ok(ModelsThere::Listed(models)) => unlisted(&answers, &speech.model, models.iter().map(|model| &model[..])),
        Ok(ModelsThere::NoList) => {
            let text = format!("{answers}; it lists no models, so try {} with kolbox transcribe FILE", speech.model);
            Finding::fine(WHAT, text)
        }
        Ok(ModelsThere::Forbidden) => {
            let text = format!("{answers}, and the key may not list its models: try it with kolbox transcribe FILE");
            Finding::note(WHAT, text)
        }
        Err(error) => failed(&speech.url, &error),
    }
}

async fn wyoming(speech: &Speech) -> Finding {
    let asked = match Wyoming::new(speech) {
        Ok(engine) => engine.models(Instant::now() + CHECK_SPEECH_MAX).await,
        Err(error) => return Finding::fix(WHAT, format!("{error}: correct it in the configuration")),
    };
    match asked {
        Ok(models) => judge_models(speech, &models),
        Err(error) => failed(&speech.url, &error),
    }
}

fn judge_models(speech: &Speech, models: &[ModelThere]) -> Finding {
    let answers = format!("{} answers", speech.url);
    if models.is_empty() {
        let text = format!(
            "{answers}, and recognizes no speech: look whether speech.url is the address of a recognizer, and whether \
             that has a model"
        );
        return Finding::fix(WHAT, text);
    }
    let wanted = |model: &&ModelThere| speech.model.is_empty() || model.name == speech.model;
    match models.iter().find(wanted) {
        Some(model) => {
            let choice = if speech.model.is_empty() { "by its own choice " } else { "" };
            Finding::fine(WHAT, format!("{answers}, and has {choice}{}", model.name))
        }
        None => unlisted(&answers, &speech.model, models.iter().map(|model| &model.name[..])),
    }
}

/// Some engines take more names than they list.
fn unlisted<'a>(answers: &str, model: &str, models: impl Iterator<Item = &'a str>) -> Finding {
    let mut named: Vec<_> = models.take(NAMED_MAX + 1).collect();
    if named.len() > NAMED_MAX {
        named[NAMED_MAX] = "…";
    }
    let has = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
    Finding::note(
        WHAT,
        format!("{answers}, and does not list speech.model {model:?}: if no text comes, set it to one of {has}"),
    )
}

fn failed(url: &str, error: &RecognizerError) -> Finding {
    let text = format!("{url}: {}; {}", with_causes(error), error.remedy());
    match error {
        RecognizerError::Busy(_) => Finding::note(WHAT, text),
        _ => Finding::fix(WHAT, text),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, net::SocketAddr};

    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    use super::*;
    use crate::speech::model::file::samples;

    /// A peer that reads what it is asked, up to an empty or a whole line of it, and answers so.
    async fn peer(end: &'static str, answer: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let mut asked = String::new();
            while !asked.ends_with(end) {
                stream.read_line(&mut asked).await.unwrap();
            }
            assert!(asked.starts_with("GET /v1/models ") || asked.contains("describe"), "{asked}");
            assert_eq!(asked.contains("\r\n"), asked.to_ascii_lowercase().contains("authorization: bearer hunter2"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        address
    }

    async fn look(engine: SpeechEngine, url: String, model: &str) -> String {
        let api_key = "hunter2".to_owned().into();
        let speech = Speech { engine, url, model: model.into(), api_key, ..Speech::default() };
        let config = Config { speech, ..Config::default() };
        let mut findings = Vec::new();
        examine(&config, false, &mut findings).await;
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        let line = finding.to_string();
        assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
        line
    }

    async fn http(status: &str, body: &str) -> String {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let address = peer("\r\n\r\n", answer).await;
        look(SpeechEngine::OpenAi, format!("http://{address}/v1"), "whisper-1").await
    }

    #[tokio::test]
    async fn an_engine_over_http_is_asked_for_its_models() {
        let has = |names: &[&str]| {
            let data: Vec<_> = names.iter().map(|name| serde_json::json!({ "id": name })).collect();
            serde_json::json!({ "object": "list", "data": data }).to_string()
        };
        for (status, body, verdict, part) in [
            ("200 OK", has(&["tts-1", "whisper-1"]), "ok ", "/v1 answers, and has whisper-1"),
            (
                "200 OK",
                has(&["large-v3", "base"]),
                "note ",
                "does not list speech.model \"whisper-1\": if no text comes, set it to one of large-v3, base",
            ),
            ("200 OK", has(&["m"; 20]), "note ", "m, m, …"),
            ("200 OK", has(&[]), "note ", "one of none"),
            ("404 Not Found", String::new(), "ok ", "it lists no models, so try whisper-1 with kolbox transcribe"),
            ("405 Method Not Allowed", String::new(), "ok ", "it lists no models"),
            ("403 Forbidden", String::new(), "note ", "the key may not list its models"),
            ("401 Unauthorized", String::new(), "FIX ", "does not accept our key; set speech.api_key"),
            ("429 Too Many Requests", String::new(), "note ", "is busy; try again later"),
            ("500 Oh", String::new(), "FIX ", "the speech engine failed: HTTP 500"),
            ("200 OK", "<html>Log in to your router".into(), "FIX ", "look whether speech.url is the address"),
            ("302 Found", String::new(), "FIX ", "look whether speech.url is the address"),
        ] {
            let line = http(status, &body).await;
            assert!(line.starts_with(verdict) && line.contains(part), "{status}: {line}");
        }
    }

    async fn info(data: serde_json::Value, model: &str) -> String {
        let answer = serde_json::json!({ "type": "info", "data": data }).to_string() + "\n";
        let address = peer("\n", answer).await;
        look(SpeechEngine::Wyoming, format!("tcp://{address}"), model).await
    }

    #[tokio::test]
    async fn an_engine_that_speaks_wyoming_is_asked_what_it_is() {
        let has = |names: &[&str]| {
            let models: Vec<_> =
                names.iter().map(|name| serde_json::json!({ "name": name, "languages": ["he"] })).collect();
            serde_json::json!({ "asr": [{ "models": models }] })
        };
        for (data, model, verdict, part) in [
            (has(&["base", "turbo"]), "turbo", "ok ", "answers, and has turbo"),
            (has(&["base"]), "", "ok ", "answers, and has by its own choice base"),
            (
                has(&["base"]),
                "turbo",
                "note ",
                "does not list speech.model \"turbo\": if no text comes, set it to one of base",
            ),
            (serde_json::json!({ "tts": [{ "name": "piper" }] }), "", "FIX ", "recognizes no speech"),
        ] {
            let line = info(data, model).await;
            assert!(line.starts_with(verdict) && line.contains(part), "{line}");
        }
        let address = peer("\n", "HTTP/1.1 400 Bad Request\r\n".into()).await;
        let line = look(SpeechEngine::Wyoming, format!("tcp://{address}"), "").await;
        assert!(line.starts_with("FIX ") && line.contains("no answer of a speech engine"), "{line}");
    }

    #[tokio::test]
    async fn an_engine_that_is_away_and_none_at_all_are_told() {
        for (engine, url) in
            [(SpeechEngine::OpenAi, "http://127.0.0.1:1"), (SpeechEngine::Wyoming, "tcp://127.0.0.1:1")]
        {
            let line = look(engine, url.into(), "m").await;
            assert!(
                line.starts_with("FIX ") && line.contains("127.0.0.1:1: the speech engine cannot be reached"),
                "{line}"
            );
            assert!(line.contains("look whether the engine runs"), "{line}");
        }
        let none = look(SpeechEngine::None, String::new(), "").await;
        assert!(none.starts_with("note ") && none.contains("set speech.engine"), "{none}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_takes_the_question_and_says_nothing_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (engine, scheme) in [(SpeechEngine::OpenAi, "http"), (SpeechEngine::Wyoming, "tcp")] {
            let line = look(engine, format!("{scheme}://{address}"), "m").await;
            assert!(line.starts_with("FIX ") && line.contains(" in time"), "{line}");
        }
        assert!(CHECK_SPEECH_MAX < crate::limits::CHECK_MAX);
    }

    #[test]
    fn a_models_file_is_there_whole_what_its_name_says_and_within_the_memory() {
        let store = tempfile::tempdir().unwrap();
        let models = model::directory(store.path());
        fs::create_dir(&models).unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = models.join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let whole = samples::model(51_865);
        let judged = |path: &Path, free| {
            let model = look_through(path).unwrap();
            judge_model(path, &model, free).to_string()
        };
        let ours = file("ours.bin", &whole);
        let line = judged(&ours, None);
        assert!(
            line.starts_with("ok ") && line.contains("99 languages") && line.contains("no published one"),
            "{line}"
        );
        let line = judged(&ours, Some(1 << 20));
        assert!(line.starts_with("FIX ") && line.contains("1.0 MiB are free: take a smaller model"), "{line}");
        let line = judged(&file("ggml-base.bin", &whole), None);
        assert!(line.starts_with("FIX ") && line.contains("kolbox model download base)"), "{line}");
        let model = look_through(&ours).unwrap();
        let line = judge_model(Path::new("/root/m.bin"), &model, None).to_string();
        assert!(line.starts_with("FIX ") && line.contains("move it into models/"), "{line}");

        let speech = |model: &str| Speech { engine: SpeechEngine::Whisper, model: model.into(), ..Speech::default() };
        let line = whisper(&speech("nowhere.bin"), store.path(), false).to_string();
        let part = if HAS_WHISPER { "there is no such file; kolbox model tells" } else { "--features whisper" };
        assert!(line.starts_with("FIX ") && line.contains(part), "{line}");
        file("english.bin", &samples::model(51_864));
        let line = whisper(&speech("english.bin"), store.path(), false).to_string();
        assert_eq!(line.contains("it knows English only"), HAS_WHISPER, "{line}");
    }
}
