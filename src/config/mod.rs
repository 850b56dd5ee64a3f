//! What may be set: every key of `kolbox.toml`, its default and its reason.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use secrecy::SecretString;

use crate::twilio::sid::AccountSid;

pub mod load;

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
    pub listen: SocketAddr,
    /// `PUBLIC_HOST`: `name` or `name:port`, without scheme and slash. `None`: the validated request's own host is used.
    pub host: Option<String>,
    pub trusted_proxies: Vec<IpNet>,
    pub max_connections: usize,
    pub tls: Tls,
}

/// `[public.tls]`
#[derive(Debug, Clone)]
pub struct Tls {
    pub mode: TlsMode,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    Files,
    SelfSigned,
    Off,
}

/// `[status]`: the side staff look at.
#[derive(Debug, Clone)]
pub struct Status {
    pub listen: SocketAddr,
    /// Empty: transcripts and phone numbers are hidden from everybody.
    pub password: SecretString,
    pub hosts: Vec<String>,
}

/// `[twilio]`
#[derive(Debug, Clone)]
pub struct Twilio {
    /// `None` only where nothing is asked of Twilio (empty in the file).
    pub account_sid: Option<AccountSid>,
    pub auth_token: SecretString,
    pub auth_token_secondary: SecretString,
    pub api_key_sid: String,
    pub api_key_secret: SecretString,
    /// `https://…` without a final slash; `http://` only on loopback.
    pub api_base: String,
    pub validate_signatures: bool,
}

/// `[calls]`. A prompt is a file's name, or `say:TEXT`.
#[derive(Debug, Clone)]
pub struct Calls {
    /// A directory whose files replace the built-in ones of the same name; `None`: built-in only.
    pub prompts: Option<PathBuf>,
    pub greeting: String,
    pub fallback_prompt: String,
    pub no_message_prompt: String,
    pub goodbye_prompt: String,
    pub say_voice: String,
    /// Zero: never.
    pub caller_silence: Duration,
    pub max_duration: Duration,
    pub drain: Duration,
}

/// `[watchdog]`
#[derive(Debug, Clone)]
pub struct Watchdog {
    pub start_timeout: Duration,
    pub no_media_timeout: Duration,
}

/// `[fallback]`: the `<Record>` that a call is sent to.
#[derive(Debug, Clone)]
pub struct Fallback {
    pub timeout: Duration,
    pub max_length: Duration,
    pub play_beep: bool,
    pub delete_at_twilio: bool,
}

/// `[speech]`
#[derive(Debug, Clone)]
pub struct Speech {
    pub engine: SpeechEngine,
    pub language: String,
    pub model: String,
    pub url: String,
    pub api_key: SecretString,
    pub wait: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechEngine {
    None,
    Whisper,
    OpenAi,
    Wyoming,
}

/// `[audio]`
#[derive(Debug, Clone)]
pub struct Audio {
    pub keep: KeepAudio,
    pub max_age: Duration,
    pub max_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAudio {
    Never,
    UntilTranscribed,
    For(Duration),
}

/// `[store]`
#[derive(Debug, Clone)]
pub struct Store {
    pub path: PathBuf,
    pub max_bytes: u64,
    pub keep_synced: Duration,
}

/// `[sync]`
#[derive(Debug, Clone)]
pub struct Sync {
    /// `None`: transcripts stay on the box.
    pub url: Option<url::Url>,
    pub token: SecretString,
    pub timeout: Duration,
    pub retry_min: Duration,
    pub retry_max: Duration,
}

/// `[board]`
#[derive(Debug, Clone)]
pub struct Board {
    /// `simulated`, a name under `board/` without `.toml`, or a path.
    pub profile: String,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    pub format: LogFormat,
    /// A tracing filter: `info`, `debug`, `kolbox=debug,info`.
    pub level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
    Journald,
}

impl Default for Public {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], 8443).into(),
            host: None,
            trusted_proxies: Vec::new(),
            max_connections: 512,
            tls: Tls::default(),
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            mode: TlsMode::SelfSigned,
            certificate: "/etc/kolbox/fullchain.pem".into(),
            key: "/etc/kolbox/key.pem".into(),
        }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self { listen: ([0, 0, 0, 0], 8080).into(), password: SecretString::default(), hosts: Vec::new() }
    }
}

impl Default for Twilio {
    fn default() -> Self {
        Self {
            account_sid: None,
            auth_token: SecretString::default(),
            auth_token_secondary: SecretString::default(),
            api_key_sid: String::new(),
            api_key_secret: SecretString::default(),
            api_base: "https://api.twilio.com".into(),
            validate_signatures: true,
        }
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            prompts: None,
            greeting: "greeting_he.mp3".into(),
            fallback_prompt: "fallback_he.mp3".into(),
            no_message_prompt: "no_message_he.mp3".into(),
            goodbye_prompt: "goodbye_he.mp3".into(),
            say_voice: "Google.he-IL-Wavenet-A".into(),
            caller_silence: Duration::from_secs(30),
            max_duration: Duration::from_secs(4 * 3600),
            drain: Duration::from_secs(5),
        }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self { start_timeout: Duration::from_secs(8), no_media_timeout: Duration::from_secs(6) }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(4),
            max_length: Duration::from_secs(30),
            play_beep: false,
            delete_at_twilio: false,
        }
    }
}

impl Default for Speech {
    fn default() -> Self {
        Self {
            engine: SpeechEngine::None,
            language: "he".into(),
            model: String::new(),
            url: String::new(),
            api_key: SecretString::default(),
            wait: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Audio {
    fn default() -> Self {
        Self { keep: KeepAudio::UntilTranscribed, max_age: Duration::from_secs(30 * 86_400), max_bytes: 1 << 30 }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { path: "/var/lib/kolbox".into(), max_bytes: 512 << 20, keep_synced: Duration::from_secs(7 * 86_400) }
    }
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            url: None,
            token: SecretString::default(),
            timeout: Duration::from_secs(10),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(300),
        }
    }
}

impl Default for Board {
    fn default() -> Self {
        Self { profile: "simulated".into() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: "info".into() }
    }
}
