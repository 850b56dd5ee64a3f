//! What may be set: every key of `kolbox.toml`, with its meaning. Defaults stand in `defaults`, ranges in `keys`.
//!
//! A value comes from the file, from a systemd credential, from `KOLBOX_<SECTION>__<KEY>` or from one of the four
//! classic names, the later of these winning; [`load`] joins them, and [`world`] finds them on this machine.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use secrecy::SecretString;

use crate::twilio::sid::AccountSid;

mod accept;
mod defaults;
mod document;
mod keys;
pub mod load;
mod marks;
mod mistake;
mod named_files;
mod reader;
mod refusal;
mod spelling;
mod syntax;
pub mod world;

#[cfg(test)]
mod every_key_tests;
#[cfg(test)]
mod tests;

pub use mistake::{ConfigError, Mistake, Place};

/// The whole configuration, checked: a value of this type can be served with.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub public: Public,
    pub status: Status,
    pub twilio: Twilio,
    pub calls: Calls,
    pub watchdog: Watchdog,
    pub fallback: Fallback,
    pub speech: Speech,
    pub audio: Audio,
    pub store: Store,
    pub sync: Sync,
    pub board: Board,
    pub log: Log,
}

/// `[public]`: the side Twilio talks to.
#[derive(Debug, Clone)]
pub struct Public {
    /// Where webhooks, media streams and prompts are served. The classic name `PORT` replaces its port alone.
    pub listen: SocketAddr,
    /// The name under which Twilio reaches this box: `name` or `name:port`, without scheme and slash, in the case it
    /// was written in (to be compared without regard to case). `None`: the validated request's own host is used.
    pub host: Option<String>,
    /// Whose `X-Forwarded-Host`, `-Proto` and `-For` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections open at once; those beyond it are refused.
    pub max_connections: usize,
    pub tls: Tls,
}

/// `[public.tls]`
#[derive(Debug, Clone)]
pub struct Tls {
    /// Who ends TLS, and with whose certificate.
    pub mode: TlsMode,
    /// The certificate and what leads from it to a known root, in PEM. Empty unless `mode` is `files`.
    pub certificate: PathBuf,
    /// The certificate's private key, in PEM. Empty unless `mode` is `files`.
    pub key: PathBuf,
}

/// `public.tls.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// From `certificate` and `key`.
    Files,
    /// Made at the start. Twilio refuses such a certificate: for trials, and behind a proxy that accepts it.
    SelfSigned,
    /// Plain HTTP: something in front ends TLS.
    Off,
}

/// `[status]`: the side staff look at; never reachable through `[public]`.
#[derive(Debug, Clone)]
pub struct Status {
    /// Where the page for staff, its JSON and the metrics are served, in plain HTTP.
    pub listen: SocketAddr,
    /// Empty: transcripts and phone numbers are hidden from everybody; the state is shown.
    pub password: SecretString,
    /// Further `Host` names to answer to. IP addresses, localhost, the machine's name and `*.local` always are.
    pub hosts: Vec<String>,
}

/// `[twilio]`: one account; several numbers share it.
#[derive(Debug, Clone)]
pub struct Twilio {
    /// `None` only where nothing is asked of Twilio (empty in the file).
    pub account_sid: Option<AccountSid>,
    /// Signs webhooks, and opens REST unless an API key is given.
    pub auth_token: SecretString,
    /// Accepted for signatures too, while a token is being rotated. Empty: none.
    pub auth_token_secondary: SecretString,
    /// With `api_key_secret`: REST with this key in place of the auth token. Both empty: none.
    pub api_key_sid: String,
    pub api_key_secret: SecretString,
    /// `https://…` without a final slash; `http://` only on loopback. Another one for a region or an edge.
    pub api_base: String,
    /// Off only behind something that checks signatures itself: anybody can send webhooks then.
    pub validate_signatures: bool,
}

/// `[calls]`. A prompt is a file's name, or `say:TEXT` for Twilio's own voice.
#[derive(Debug, Clone)]
pub struct Calls {
    /// A directory whose files replace the built-in ones of the same name; `None`: built-in only.
    pub prompts: Option<PathBuf>,
    /// What a caller hears first.
    pub greeting: String,
    /// Before the `<Record>`.
    pub fallback_prompt: String,
    /// After a `<Record>` in which nothing was said.
    pub no_message_prompt: String,
    /// After a message was taken, and at the end of a conversation.
    pub goodbye_prompt: String,
    /// Twilio's name of the voice that speaks `say:` texts.
    pub say_voice: String,
    /// Goodbye and end after this long without speech on a live stream. Zero: never.
    pub caller_silence: Duration,
    /// A call that lasts longer counts as ended.
    pub max_duration: Duration,
    /// After SIGTERM running streams go on this long, and are then sent to the recorder.
    pub drain: Duration,
}

/// `[watchdog]`: when a call without voice is sent to the recorder.
#[derive(Debug, Clone)]
pub struct Watchdog {
    /// From the latest answer to the stream's `start`; never earlier than the greeting's own length and 3 s.
    pub start_timeout: Duration,
    /// Since the last media frame, at any time in the call.
    pub no_media_timeout: Duration,
}

/// `[fallback]`: the `<Record>` that a call is sent to.
#[derive(Debug, Clone)]
pub struct Fallback {
    /// Silence that ends the recording; whole seconds, since Twilio takes nothing else.
    pub timeout: Duration,
    /// The longest message; whole seconds.
    pub max_length: Duration,
    /// Twilio's own beep. Off: the fallback prompt ends with a tone.
    pub play_beep: bool,
    /// Remove the recording at Twilio once its text is acknowledged; never that of an untranscribed record.
    pub delete_at_twilio: bool,
}

/// `[speech]`: who turns voice into text.
#[derive(Debug, Clone)]
pub struct Speech {
    pub engine: SpeechEngine,
    /// The callers' language, as the engine names it: `he`, `en`, `auto`.
    pub language: String,
    /// whisper: a ggml file, by its path or by its name below the store's `models`; openai, wyoming: the model's name
    /// there.
    pub model: String,
    /// openai: the base URL; wyoming: `tcp://host:port`.
    pub url: String,
    pub api_key: SecretString,
    /// Names and products that callers say, so that the engine knows how they are written.
    pub hints: Vec<String>,
    /// How long a record may wait for its text before it is sent without.
    pub wait: Duration,
    /// Keys, and spoken numbers of six digits and more, are taken out of the text before anything is stored.
    pub mask_digits: bool,
}

/// `speech.engine`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechEngine {
    /// Records are kept without text.
    None,
    Whisper,
    OpenAi,
    Wyoming,
}

/// `[audio]`: how long the callers' voices are kept on the box.
#[derive(Debug, Clone)]
pub struct Audio {
    pub keep: KeepAudio,
    /// Nothing is kept longer, transcribed or not.
    pub max_age: Duration,
    /// In bytes. The oldest transcribed audio goes first; when only untranscribed is left, no new audio is kept.
    pub max_bytes: u64,
}

/// `audio.keep`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAudio {
    Never,
    UntilTranscribed,
    /// So long after the call.
    For(Duration),
}

/// `[store]`: where records are kept.
#[derive(Debug, Clone)]
pub struct Store {
    /// A directory of the box's own; it is made if it is not there.
    pub path: PathBuf,
    /// In bytes. The oldest synced records go first; an unsynced one never goes.
    pub max_bytes: u64,
    /// How long a record stays on the box after the upstream took it.
    pub keep_synced: Duration,
}

/// `[sync]`: the upstream that takes the records.
#[derive(Debug, Clone)]
pub struct Sync {
    /// `None`: transcripts stay on the box.
    pub url: Option<url::Url>,
    /// Sent as `Authorization: Bearer`. Empty: none is sent.
    pub token: SecretString,
    /// From the request to its whole answer.
    pub timeout: Duration,
    /// The pause after the first failure; it grows from there.
    pub retry_min: Duration,
    /// The longest pause.
    pub retry_max: Duration,
}

/// `[board]`: the lamps.
#[derive(Debug, Clone)]
pub struct Board {
    /// `simulated`, a name under `board/` without `.toml`, or a path.
    pub profile: String,
}

/// `[log]`: what is written on stdout.
#[derive(Debug, Clone)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or several with targets: `info`, `debug`, `kolbox::calls=debug,info`.
    pub level: String,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people; in colours on a terminal.
    Text,
    /// To systemd's journal, with its own fields.
    Journald,
}
