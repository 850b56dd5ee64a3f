//! What is set where nothing was said: the default of each key.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::*;

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
        Self { mode: TlsMode::SelfSigned, certificate: PathBuf::new(), key: PathBuf::new() }
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
            hints: Vec::new(),
            mask_digits: false,
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
