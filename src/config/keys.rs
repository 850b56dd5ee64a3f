//! Every key that exists, with what it accepts. The order is that of the example file and of the README.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    Audio, Calls, Config, Fallback, LogFormat, Public, Speech, SpeechEngine, Status, Store, Sync, TlsMode, Twilio,
    Watchdog,
    accept::{self, boolean, bytes, choice, duration, duration_or_zero, filled_text, integer, list, whole_seconds},
    reader::{Key, Reader},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Time-outs: below 200 ms a healthy network would trip them.
const TIME_OUT: RangeInclusive<Duration> = Duration::from_millis(200)..=HOUR;
const DISK_BYTES: RangeInclusive<u64> = (64 << 10)..=(16 << 40);

/// Where records are kept: all that a reader of the store needs to know.
pub(super) const STORE_PATH: Key = Key { name: "store.path", secret: false };

/// The names of all keys.
pub(super) fn all() -> Vec<Key> {
    let mut reader = Reader::default();
    read(&mut reader);
    reader.into_parts().0
}

/// Reads every key over its default.
pub(super) fn read(reader: &mut Reader) -> Config {
    let mut config = Config::default();
    read_public(reader, &mut config.public);
    read_status(reader, &mut config.status);
    read_twilio(reader, &mut config.twilio);
    read_calls(reader, &mut config.calls);
    read_watchdog(reader, &mut config.watchdog);
    read_fallback(reader, &mut config.fallback);
    read_speech(reader, &mut config.speech);
    read_audio(reader, &mut config.audio);
    read_store(reader, &mut config.store);
    read_sync(reader, &mut config.sync);
    reader.read("board.profile", &mut config.board.profile, filled_text);
    let formats = &[("json", LogFormat::Json), ("text", LogFormat::Text), ("journald", LogFormat::Journald)];
    reader.read("log.format", &mut config.log.format, choice(formats));
    reader.read("log.level", &mut config.log.level, accept::log_level);
    config
}

fn read_public(reader: &mut Reader, public: &mut Public) {
    let modes = &[("files", TlsMode::Files), ("self-signed", TlsMode::SelfSigned), ("off", TlsMode::Off)];
    reader.read("public.listen", &mut public.listen, accept::address("0.0.0.0:8443"));
    reader.read("public.host", &mut public.host, accept::public_host);
    reader.read("public.trusted_proxies", &mut public.trusted_proxies, list(accept::network));
    reader.read("public.max_connections", &mut public.max_connections, integer(2..=65_536));
    reader.read("public.tls.mode", &mut public.tls.mode, choice(modes));
    reader.read("public.tls.certificate", &mut public.tls.certificate, accept::path);
    reader.read("public.tls.key", &mut public.tls.key, accept::path);
}

fn read_status(reader: &mut Reader, status: &mut Status) {
    reader.read("status.listen", &mut status.listen, accept::address("0.0.0.0:8080"));
    reader.read_secret("status.password", &mut status.password, accept::secret);
    reader.read("status.hosts", &mut status.hosts, list(accept::host_name));
}

fn read_twilio(reader: &mut Reader, twilio: &mut Twilio) {
    reader.read("twilio.account_sid", &mut twilio.account_sid, accept::account_sid);
    reader.read_secret("twilio.auth_token", &mut twilio.auth_token, accept::auth_token);
    reader.read_secret("twilio.auth_token_secondary", &mut twilio.auth_token_secondary, accept::auth_token);
    reader.read("twilio.api_key_sid", &mut twilio.api_key_sid, accept::api_key_sid);
    reader.read_secret("twilio.api_key_secret", &mut twilio.api_key_secret, accept::secret);
    reader.read("twilio.api_base", &mut twilio.api_base, accept::api_base);
    reader.read("twilio.validate_signatures", &mut twilio.validate_signatures, boolean);
}

fn read_calls(reader: &mut Reader, calls: &mut Calls) {
    reader.read("calls.prompts", &mut calls.prompts, accept::optional_path);
    reader.read("calls.greeting", &mut calls.greeting, accept::prompt);
    reader.read("calls.fallback_prompt", &mut calls.fallback_prompt, accept::prompt);
    reader.read("calls.no_message_prompt", &mut calls.no_message_prompt, accept::prompt);
    reader.read("calls.goodbye_prompt", &mut calls.goodbye_prompt, accept::prompt);
    reader.read("calls.say_voice", &mut calls.say_voice, filled_text);
    reader.read("calls.caller_silence", &mut calls.caller_silence, duration_or_zero(TIME_OUT));
    // Twilio ends a call after 24 hours at the latest.
    reader.read("calls.max_duration", &mut calls.max_duration, duration(*TIME_OUT.start()..=DAY));
    reader.read("calls.drain", &mut calls.drain, duration(Duration::ZERO..=10 * MINUTE));
}

fn read_watchdog(reader: &mut Reader, watchdog: &mut Watchdog) {
    reader.read("watchdog.start_timeout", &mut watchdog.start_timeout, duration(TIME_OUT));
    reader.read("watchdog.no_media_timeout", &mut watchdog.no_media_timeout, duration(TIME_OUT));
}

fn read_fallback(reader: &mut Reader, fallback: &mut Fallback) {
    // https://www.twilio.com/docs/voice/twiml/record: timeout, and maxLength greater than 1 and up to 4 hours.
    reader.read("fallback.timeout", &mut fallback.timeout, whole_seconds(SECOND..=10 * MINUTE));
    reader.read("fallback.max_length", &mut fallback.max_length, whole_seconds(2 * SECOND..=4 * HOUR));
    reader.read("fallback.play_beep", &mut fallback.play_beep, boolean);
    reader.read("fallback.delete_at_twilio", &mut fallback.delete_at_twilio, boolean);
}

/// Also read alone, by whoever recognizes and answers no calls.
pub(super) fn read_speech(reader: &mut Reader, speech: &mut Speech) {
    let engines = &[
        ("none", SpeechEngine::None),
        ("whisper", SpeechEngine::Whisper),
        ("openai", SpeechEngine::OpenAi),
        ("wyoming", SpeechEngine::Wyoming),
    ];
    reader.read("speech.engine", &mut speech.engine, choice(engines));
    reader.read("speech.language", &mut speech.language, accept::language);
    reader.read("speech.model", &mut speech.model, accept::text);
    reader.read("speech.url", &mut speech.url, accept::speech_url);
    reader.read_secret("speech.api_key", &mut speech.api_key, accept::secret);
    reader.read("speech.hints", &mut speech.hints, list(accept::hint));
    reader.read("speech.wait", &mut speech.wait, duration(Duration::ZERO..=YEAR));
    reader.read("speech.mask_digits", &mut speech.mask_digits, boolean);
}

fn read_audio(reader: &mut Reader, audio: &mut Audio) {
    reader.read("audio.keep", &mut audio.keep, accept::keep_audio(10 * YEAR));
    reader.read("audio.max_age", &mut audio.max_age, duration(MINUTE..=10 * YEAR));
    reader.read("audio.max_bytes", &mut audio.max_bytes, bytes(DISK_BYTES));
}

fn read_store(reader: &mut Reader, store: &mut Store) {
    read_store_path(reader, &mut store.path);
    reader.read("store.max_bytes", &mut store.max_bytes, bytes(DISK_BYTES));
    reader.read("store.keep_synced", &mut store.keep_synced, duration(Duration::ZERO..=10 * YEAR));
}

/// The one key that is also read alone.
pub(super) fn read_store_path(reader: &mut Reader, path: &mut PathBuf) {
    reader.read(STORE_PATH.name, path, accept::filled_path);
}

fn read_sync(reader: &mut Reader, sync: &mut Sync) {
    let retry = Duration::from_millis(100)..=DAY;
    reader.read("sync.url", &mut sync.url, accept::sync_url);
    reader.read_secret("sync.token", &mut sync.token, accept::secret);
    reader.read("sync.timeout", &mut sync.timeout, duration(TIME_OUT));
    reader.read("sync.retry_min", &mut sync.retry_min, duration(retry.clone()));
    reader.read("sync.retry_max", &mut sync.retry_max, duration(retry));
}
