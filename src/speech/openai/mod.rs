//! An engine over HTTP that speaks as OpenAI's does: `POST /v1/audio/transcriptions` with the sound as a file.
//!
//! Served so by OpenAI and Groq, and on the LAN by whisper.cpp's server, faster-whisper's servers and vLLM. What is read
//! of an answer: `text`, `language`, and each segment's `start`, `end`, `text`.

use std::{error::Error, fmt, io::Cursor, time::Duration};

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, InvalidHeaderValue, USER_AGENT},
    http::uri::InvalidUri,
};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::recognizer::{
    Pcm, Question, Recognizer, RecognizerError, Recognizing, Segment, Transcript, check_length, told,
};
use crate::{
    config,
    limits::{SPEECH_ANSWER_BYTES_MAX, SPEECH_CONNECT_MAX},
    system::http_client::{BodyFailure, Failure, HttpClient, Roots, RootsError},
};

mod multipart;

const PATH: &str = "/v1/audio/transcriptions";
const MODELS_PATH: &str = "/v1/models";

/// Such an engine, and how it is asked.
#[derive(Debug)]
pub struct OpenAi {
    name: String,
    url: Uri,
    models_url: Uri,
    authorization: Option<HeaderValue>,
    fields: Vec<(&'static str, String)>,
    client: HttpClient,
}

/// Why it cannot be asked at all.
#[derive(Debug)]
pub enum OpenAiError {
    Url(InvalidUri),
    /// `speech.api_key` holds bytes that no HTTP header can.
    Key(InvalidHeaderValue),
    Roots(RootsError),
}

/// What such an engine says of the models that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelsThere {
    /// By their names; some engines take others, too.
    Listed(Vec<String>),
    /// It has no such list.
    NoList,
    /// It does not show it to us; sound it may take all the same.
    Forbidden,
}

/// The answer to [`MODELS_PATH`].
#[derive(Deserialize)]
struct Models {
    data: Vec<ModelNamed>,
}

#[derive(Deserialize)]
struct ModelNamed {
    id: String,
}

/// What is read of an answer with `response_format=verbose_json`. Some servers leave out all but the text.
#[derive(Deserialize)]
struct Answer {
    text: String,
    language: Option<String>,
    segments: Option<Vec<AnswerSegment>>,
}

#[derive(Deserialize)]
struct AnswerSegment {
    /// In seconds.
    start: f64,
    end: f64,
    text: String,
}

/// OpenAI's own form of a refusal.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalText,
}

#[derive(Deserialize)]
struct RefusalText {
    message: String,
}

impl OpenAi {
    /// The engine at `speech.url`. A base that ends with `/v1`, as client libraries want it, is taken too.
    pub fn new(speech: &config::Speech) -> Result<Self, OpenAiError> {
        let base = speech.url.trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        let key = speech.api_key.expose_secret();
        let authorization = (!key.is_empty())
            .then(|| HeaderValue::try_from(format!("Bearer {key}")))
            .transpose()
            .map_err(OpenAiError::Key)?
            .map(|mut value| {
                value.set_sensitive(true);
                value
            });
        let mut fields = vec![("model", speech.model.clone()), ("response_format", "verbose_json".to_owned())];
        if speech.language != super::ANY_LANGUAGE {
            fields.push(("language", super::primary_language(&speech.language)));
        }
        if !speech.hints.is_empty() {
            fields.push(("prompt", speech.hints.join(", ")));
        }
        Ok(Self {
            name: format!("openai {}", speech.model),
            url: format!("{base}{PATH}").parse().map_err(OpenAiError::Url)?,
            models_url: format!("{base}{MODELS_PATH}").parse().map_err(OpenAiError::Url)?,
            authorization,
            fields,
            client: HttpClient::new(&Roots::Public, SPEECH_CONNECT_MAX).map_err(OpenAiError::Roots)?,
        })
    }

    /// The models that it says it has: whether it answers at all, and takes our key, without a sound.
    ///
    /// # Errors
    /// As a question has them.
    pub async fn models(&self, deadline: tokio::time::Instant) -> Result<ModelsThere, RecognizerError> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.models_url.clone();
        self.introduce(request.headers_mut());
        let total = deadline.saturating_duration_since(tokio::time::Instant::now());
        let reply = self.client.send(request, total, SPEECH_ANSWER_BYTES_MAX).await.map_err(failed)?;
        match reply.status {
            200 => {
                let models: Models = serde_json::from_slice(&reply.body)
                    .map_err(|_| RecognizerError::BadAnswer("no list of models".to_owned()))?;
                Ok(ModelsThere::Listed(models.data.iter().map(|model| told(&model.id)).collect()))
            }
            404 | 405 | 501 => Ok(ModelsThere::NoList),
            403 => Ok(ModelsThere::Forbidden),
            status => Err(refused(status, reply.retry_after, &reply.body)),
        }
    }

    fn request(&self, sound: &Pcm) -> Result<Request<Bytes>, RecognizerError> {
        let wav = wav(sound).map_err(|error| RecognizerError::NotTaken(error.to_string()))?;
        let fields: Vec<_> = self.fields.iter().map(|(name, value)| (*name, &value[..])).collect();
        let (body, kind) = multipart::encode(&fields, ("file", "call.wav", &wav));
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        if let Ok(kind) = HeaderValue::try_from(kind) {
            headers.insert(CONTENT_TYPE, kind);
        }
        self.introduce(headers);
        Ok(request)
    }

    fn introduce(&self, headers: &mut HeaderMap) {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("kolbox/", env!("CARGO_PKG_VERSION"))));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
    }

    async fn ask(&self, question: Question) -> Result<Transcript, RecognizerError> {
        check_length(&question.sound)?;
        let request = self.request(&question.sound)?;
        let total = question.deadline.saturating_duration_since(tokio::time::Instant::now());
        let reply = self.client.send(request, total, SPEECH_ANSWER_BYTES_MAX).await.map_err(failed)?;
        match reply.status {
            200 => transcript(&reply.body, &question.sound),
            status => Err(refused(status, reply.retry_after, &reply.body)),
        }
    }
}

impl Recognizer for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn recognize(&self, question: Question) -> Recognizing<'_> {
        Box::pin(self.ask(question))
    }
}

/// 16 bits a sample at the sound's own rate: what every server can read. μ-law would be half as long, and not all can.
fn wav(sound: &Pcm) -> Result<Vec<u8>, hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: sound.rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::with_capacity(sound.samples.len() * 2 + 44));
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    for sample in sound.samples.iter() {
        writer.write_sample(*sample)?;
    }
    writer.finalize()?;
    Ok(bytes.into_inner())
}

fn transcript(body: &[u8], sound: &Pcm) -> Result<Transcript, RecognizerError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        let begin = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        RecognizerError::BadAnswer(format!("no JSON with a text in it: {:?}", told(&begin)))
    })?;
    // `as` brings what is no number, negative or beyond all bounds to the nearest that can be.
    let milliseconds = |seconds: f64| (seconds * 1_000.0).round() as u64;
    match answer.segments.filter(|segments| !segments.is_empty()) {
        Some(segments) => {
            let segments = segments.into_iter().map(|segment| Segment {
                start_ms: milliseconds(segment.start),
                end_ms: milliseconds(segment.end),
                text: segment.text,
            });
            Ok(Transcript::of(segments, sound, answer.language))
        }
        None => Ok(Transcript::without_times(&answer.text, sound, answer.language)),
    }
}

fn refused(status: u16, retry_after: Option<Duration>, body: &[u8]) -> RecognizerError {
    let said = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.error.message,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(1_024)]).into_owned(),
    };
    let said = format!("HTTP {status} {}", told(&said));
    match status {
        401 | 403 => RecognizerError::Credentials,
        429 | 503 => RecognizerError::Busy(retry_after),
        408 | 500..=599 => RecognizerError::Failed(said),
        400..=499 => RecognizerError::NotTaken(said),
        _ => RecognizerError::BadAnswer(said),
    }
}

fn failed(failure: Failure) -> RecognizerError {
    match failure {
        Failure::Connect(source) => RecognizerError::Unreachable(source),
        Failure::TimedOut | Failure::Body { why: BodyFailure::TimedOut, .. } => RecognizerError::TimedOut,
        Failure::Body { why: BodyFailure::TooLarge, .. } => RecognizerError::BadAnswer("it is too long".to_owned()),
        Failure::Broken(_) | Failure::Body { why: BodyFailure::Broken(_), .. } => RecognizerError::Broken,
    }
}

impl fmt::Display for OpenAiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url(_) => "speech.url cannot be asked",
            Self::Key(_) => "speech.api_key holds characters that HTTP does not allow",
            Self::Roots(_) => "no HTTPS client for speech.url",
        })
    }
}

impl Error for OpenAiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Url(error) => Some(error),
            Self::Key(error) => Some(error),
            Self::Roots(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Pcm {
        Pcm { samples: vec![0; 16_000].into(), rate_hz: 8_000 }
    }

    #[test]
    fn segments_are_read_with_their_times_and_whatever_they_are_worth() {
        let answer = r#"{"task":"transcribe","language":"hebrew","duration":2.0,"text":"שלום לכם",
            "segments":[{"id":0,"start":0.0,"end":0.52,"text":" שלום","tokens":[1]},{"id":1,"start":-3,"end":1e300,"text":" לכם"}]}"#;
        let transcript = transcript(answer.as_bytes(), &sound()).unwrap();
        assert_eq!((&transcript.text[..], transcript.language.as_deref()), ("שלום לכם", Some("hebrew")));
        let times: Vec<_> = transcript.segments.iter().map(|segment| (segment.start_ms, segment.end_ms)).collect();
        assert_eq!(times, [(0, 520), (0, 2_000)]);
    }

    #[test]
    fn a_text_alone_is_one_segment_and_no_text_is_none() {
        for body in [
            r#"{"text":"Hello."}"#,
            r#"{"text":" Hello. ","segments":null,"x":{}}"#,
            r#"{"text":"Hello.","segments":[]}"#,
        ] {
            let transcript = transcript(body.as_bytes(), &sound()).unwrap();
            assert_eq!(transcript.segments, [Segment { start_ms: 0, end_ms: 2_000, text: "Hello.".into() }], "{body}");
        }
        assert_eq!(transcript(br#"{"text":""}"#, &sound()).unwrap(), Transcript::default());
        for body in ["", "<html>", "{\"txt\":1}", "[]", "{\"text\":null}"] {
            assert!(matches!(transcript(body.as_bytes(), &sound()), Err(RecognizerError::BadAnswer(_))), "{body}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_cause_in_the_engines_own_words() {
        let body = br#"{"error":{"message":"model 'x' not found","type":"invalid_request_error"}}"#;
        let said = refused(404, None, body).to_string();
        assert_eq!(said, "the speech engine does not take this: HTTP 404 model 'x' not found");
        let pause = Some(Duration::from_secs(3));
        assert!(matches!(refused(429, pause, b""), RecognizerError::Busy(kept) if kept == pause));
        assert!(matches!(refused(401, None, body), RecognizerError::Credentials));
        assert!(matches!(refused(500, None, b"oh"), RecognizerError::Failed(said) if said == "HTTP 500 oh"));
        assert!(matches!(refused(302, None, b""), RecognizerError::BadAnswer(_)));
    }

    #[test]
    fn the_request_has_what_is_configured_and_a_key_that_no_message_shows() {
        let speech = config::Speech {
            model: "whisper-1".into(),
            url: "http://127.0.0.1:9/v1".into(),
            api_key: "hunter2".to_owned().into(),
            language: "he-IL".into(),
            hints: vec!["Dana".into(), "מקווה ישראל".into()],
            ..config::Speech::default()
        };
        let engine = OpenAi::new(&speech).unwrap();
        assert!(!format!("{engine:?}").contains("hunter2"));
        let request = engine.request(&sound()).unwrap();
        assert_eq!(request.uri(), "http://127.0.0.1:9/v1/audio/transcriptions");
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer hunter2");
        let text = String::from_utf8_lossy(request.body()).into_owned();
        for part in [
            "name=\"model\"\r\n\r\nwhisper-1\r\n",
            "\r\n\r\nverbose_json\r\n",
            "name=\"language\"\r\n\r\nhe\r\n",
            "Dana, מקווה ישראל",
        ] {
            assert!(text.contains(part), "{part}");
        }
        let any = OpenAi::new(&config::Speech { language: "auto".into(), hints: Vec::new(), ..speech }).unwrap();
        let text = String::from_utf8_lossy(any.request(&sound()).unwrap().body()).into_owned();
        assert!(!text.contains("name=\"language\"") && !text.contains("name=\"prompt\""));
    }
}
