//! An engine on the LAN that speaks Wyoming, as Home Assistant's speech boxes do: events over TCP, one connection a question.
//!
//! `transcribe`, `audio-start`, `audio-chunk`…, `audio-stop`, and a `transcript` comes back. It has a text and no times.
//! The protocol knows neither keys nor TLS: the LAN must be the office's own.

use std::{error::Error, fmt};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use url::Url;

use self::event::{Event, EventError};
use super::{
    WIDE_RATE_HZ,
    recognizer::{Pcm, Question, Recognizer, RecognizerError, Recognizing, Transcript, check_length, told},
    resample::wide,
};
use crate::{
    config,
    limits::{SPEECH_CONNECT_MAX, WYOMING_CHUNK_BYTES, WYOMING_EVENTS_MAX},
};

mod event;

/// Such an engine, and how it is asked.
#[derive(Debug)]
pub struct Wyoming {
    name: String,
    host: String,
    port: u16,
    transcribe: Value,
}

/// A model that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelThere {
    pub name: String,
    /// As the engine names them; many engines name every one.
    pub languages: Vec<String>,
}

/// `speech.url` is not `tcp://host:port`.
#[derive(Debug)]
pub struct NoAddress;

impl Wyoming {
    /// The engine at `speech.url`. Without `speech.model` it takes its own choice.
    pub fn new(speech: &config::Speech) -> Result<Self, NoAddress> {
        let url = Url::parse(&speech.url).map_err(|_| NoAddress)?;
        let host = url.host_str().ok_or(NoAddress)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port().ok_or(NoAddress)?;
        let mut transcribe = serde_json::Map::new();
        if speech.language != super::ANY_LANGUAGE {
            transcribe.insert("language".to_owned(), super::primary_language(&speech.language).into());
        }
        if !speech.model.is_empty() {
            transcribe.insert("name".to_owned(), speech.model.clone().into());
        }
        let name = format!("wyoming {}", speech.model).trim_end().to_owned();
        Ok(Self { name, host, port, transcribe: transcribe.into() })
    }

    /// The models that it says it has.
    ///
    /// # Errors
    /// As a question has them.
    pub async fn models(&self, deadline: Instant) -> Result<Vec<ModelThere>, RecognizerError> {
        let asked = async {
            let mut connection = self.connect().await?;
            connection.send(event::encode("describe", &json!({}), &[])).await?;
            Ok(models(&connection.await_event("info").await?))
        };
        timeout_at(deadline, asked).await.unwrap_or(Err(RecognizerError::TimedOut))
    }

    async fn ask(&self, question: Question) -> Result<Transcript, RecognizerError> {
        let Question { sound, deadline } = question;
        check_length(&sound)?;
        let said = timeout_at(deadline, self.talk(&sound)).await.unwrap_or(Err(RecognizerError::TimedOut))?;
        let text = said.text("text").ok_or_else(|| RecognizerError::BadAnswer("a transcript without a text".into()))?;
        Ok(Transcript::without_times(text, &sound, said.text("language").map(told)))
    }

    async fn talk(&self, sound: &Pcm) -> Result<Event, RecognizerError> {
        let sound = wide(sound)?;
        let mut connection = self.connect().await?;
        match connection.say(&self.transcribe, &sound).await {
            // An engine that says why it closes has said it before.
            Err(RecognizerError::Broken) => match connection.await_event("transcript").await {
                Err(error @ RecognizerError::Failed(_)) => Err(error),
                _ => Err(RecognizerError::Broken),
            },
            Err(error) => Err(error),
            Ok(()) => connection.await_event("transcript").await,
        }
    }

    async fn connect(&self) -> Result<Connection, RecognizerError> {
        let connecting = TcpStream::connect((&self.host[..], self.port));
        match timeout(SPEECH_CONNECT_MAX, connecting).await {
            Ok(Ok(stream)) => Ok(Connection { stream: BufReader::new(stream) }),
            Ok(Err(error)) => Err(RecognizerError::Unreachable(error.into())),
            Err(_) => Err(RecognizerError::Unreachable("no connection in time".into())),
        }
    }
}

impl Recognizer for Wyoming {
    fn name(&self) -> &str {
        &self.name
    }

    fn recognize(&self, question: Question) -> Recognizing<'_> {
        Box::pin(self.ask(question))
    }
}

struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    async fn say(&mut self, transcribe: &Value, sound: &[i16]) -> Result<(), RecognizerError> {
        let format = json!({ "rate": WIDE_RATE_HZ, "width": 2, "channels": 1 });
        self.send(event::encode("transcribe", transcribe, &[])).await?;
        self.send(event::encode("audio-start", &format, &[])).await?;
        let mut bytes = Vec::with_capacity(WYOMING_CHUNK_BYTES);
        for chunk in sound.chunks(WYOMING_CHUNK_BYTES / 2) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|sample| sample.to_le_bytes()));
            self.send(event::encode("audio-chunk", &format, &bytes)).await?;
        }
        self.send(event::encode("audio-stop", &json!({}), &[])).await
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), RecognizerError> {
        self.stream.get_mut().write_all(&bytes).await.map_err(|_| RecognizerError::Broken)
    }

    /// Reads up to the event that is waited for; others, of which newer engines send some on the way, are passed over.
    async fn await_event(&mut self, kind: &str) -> Result<Event, RecognizerError> {
        for _ in 0..WYOMING_EVENTS_MAX {
            let event = event::read(&mut self.stream).await.map_err(|error| match error {
                EventError::Io(_) | EventError::Ended => RecognizerError::Broken,
                EventError::TooLong | EventError::NotAnEvent(_) => RecognizerError::BadAnswer(error.to_string()),
            })?;
            if event.kind == kind {
                return Ok(event);
            }
            if event.kind == "error" {
                return Err(RecognizerError::Failed(told(event.text("text").unwrap_or("it does not say why"))));
            }
        }
        Err(RecognizerError::BadAnswer(format!("{WYOMING_EVENTS_MAX} events, and none is a {kind}")))
    }
}

/// What an `info` says of recognizers that are installed; what it does not say is left out.
fn models(info: &Event) -> Vec<ModelThere> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let programs = list(info.data.get("asr"));
    let models = programs.iter().flat_map(|program| list(program.get("models")));
    let text = |value: &Value| value.as_str().map(told);
    models
        .filter(|model| model.get("installed").and_then(Value::as_bool) != Some(false))
        .filter_map(|model| {
            let languages = list(model.get("languages")).iter().filter_map(text).collect();
            Some(ModelThere { name: text(model.get("name")?)?, languages })
        })
        .collect()
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("speech.url is not an address as tcp://host:port")
    }
}

impl Error for NoAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(url: &str) -> config::Speech {
        config::Speech { url: url.into(), ..config::Speech::default() }
    }

    #[test]
    fn an_address_is_a_name_or_a_number_with_a_port() {
        for (url, host, port) in [
            ("tcp://speech.lan:10300", "speech.lan", 10_300),
            ("tcp://192.168.7.3:1", "192.168.7.3", 1),
            ("tcp://[fd00::7]:10300", "fd00::7", 10_300),
        ] {
            let engine = Wyoming::new(&speech(url)).unwrap();
            assert_eq!((&engine.host[..], engine.port), (host, port));
        }
        for url in ["", "tcp://speech.lan", "speech.lan:1"] {
            assert!(Wyoming::new(&speech(url)).is_err(), "{url}");
        }
    }

    #[test]
    fn language_and_model_are_sent_where_they_are_set() {
        let engine = Wyoming::new(&speech("tcp://h:1")).unwrap();
        assert_eq!((engine.name(), &engine.transcribe), ("wyoming", &json!({"language": "he"})));
        let any = config::Speech { language: "auto".into(), model: "turbo".into(), ..speech("tcp://h:1") };
        let engine = Wyoming::new(&any).unwrap();
        assert_eq!((engine.name(), &engine.transcribe), ("wyoming turbo", &json!({"name": "turbo"})));
    }

    #[test]
    fn the_models_of_an_info_are_those_that_are_installed() {
        let data = json!({"asr": [{"name": "faster-whisper", "models": [
            {"name": "base", "languages": ["en", "he", 7], "installed": true},
            {"name": "large", "languages": [], "installed": false},
            {"languages": ["en"]}]}, {"models": "none"}], "tts": []});
        let Value::Object(data) = data else { panic!() };
        let found = models(&Event { kind: "info".into(), data });
        assert_eq!(found, [ModelThere { name: "base".into(), languages: vec!["en".into(), "he".into()] }]);
    }
}
