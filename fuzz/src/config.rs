//! The configuration: three sections between lines of `%%`: the file, the environment, the credentials. The last two
//! have a `NAME=VALUE` on each line.

use std::collections::BTreeMap;

use kolbox::{
    config::{
        Config, ConfigError, Place, TlsMode,
        load::{Sources, load},
    },
    server::public_host::PublicHost,
    status::hosts::Hosts,
};

use hyper::{
    HeaderMap, Uri,
    header::{HOST, HeaderValue},
};
use secrecy::ExposeSecret;

use super::text::sections;

/// Mistakes that show only when all values are known.
const JOINT_MISTAKES_MAX: usize = 16;
const SECRET: &str = "KOLBOX_SYNC__TOKEN";
/// Refused, for it has a control character; the word in it is in no other text.
const SECRET_VALUE: &str = "\u{1}hush-9f3c71";
const SECRET_WORD: &str = "9f3c71";

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let sections = sections(&text, "%%");
    let pairs = |index: usize| -> BTreeMap<String, String> {
        let lines = sections.get(index).copied().unwrap_or_default().lines();
        lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
    };
    let (mut environment, credentials) = (pairs(1), pairs(2));
    let file = Some(("kolbox.toml", sections[0]));
    let sources = Sources { file, environment: &environment, credentials: &credentials };
    match load(sources) {
        Ok(config) => check_config(&config),
        Err(error) => check_error(&error, sources, text.len()),
    }
    if data.len().is_multiple_of(4) && !text.contains(SECRET_WORD) {
        environment.insert(SECRET.to_owned(), SECRET_VALUE.to_owned());
        let sources = Sources { file, environment: &environment, credentials: &credentials };
        let error = load(sources).expect_err("a secret with a control character");
        check_error(&error, sources, text.len() + SECRET_VALUE.len());
        assert!(!format!("{error} {error:?}").contains(SECRET_WORD), "a secret is repeated: {error}");
    }
}

/// Every mistake has its place, and a line of its own in the message.
fn check_error(error: &ConfigError, sources: Sources<'_>, bytes: usize) {
    let lines = 1 + sources.file.map_or(0, |(_, text)| text.matches('\n').count());
    assert!((1..=bytes + JOINT_MISTAKES_MAX).contains(&error.mistakes.len()));
    for mistake in &error.mistakes {
        assert!(!mistake.remedy.is_empty());
        match &mistake.place {
            Place::File { line, key, .. } => {
                assert!((1..=lines).contains(line), "line {line} of {lines}");
                assert_ne!(key.as_deref(), Some(""));
            }
            Place::Environment { name } => assert!(sources.environment.contains_key(name)),
            Place::Credential { name } => assert!(sources.credentials.contains_key(name)),
            Place::Default { key, .. } => assert!(!key.is_empty()),
            Place::Unreadable { .. } => panic!("nothing was to be read"),
        }
    }
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1 + error.mistakes.len(), "{message}");
    assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
}

/// What was accepted can be served with.
fn check_config(config: &Config) {
    let Config { public, status, twilio, fallback, sync, watchdog, .. } = config;
    assert!(!twilio.validate_signatures || !twilio.auth_token.expose_secret().is_empty());
    assert_eq!(twilio.api_key_sid.is_empty(), twilio.api_key_secret.expose_secret().is_empty());
    let is_plain = twilio.api_base.starts_with("http://");
    assert!(is_plain || twilio.api_base.starts_with("https://"));
    assert!(twilio.api_base.parse::<Uri>().is_ok_and(|base| base.host().is_some()), "{}", twilio.api_base);
    assert!(sync.retry_min <= sync.retry_max && sync.retry_min.as_millis() >= 100);
    assert!(sync.url.as_ref().is_none_or(|url| url.as_str().parse::<Uri>().is_ok()), "{:?}", sync.url);
    assert!(watchdog.start_timeout.as_millis() >= 200 && watchdog.no_media_timeout.as_millis() >= 200);
    assert!(fallback.timeout.as_secs() >= 1 && fallback.timeout.subsec_nanos() == 0);
    assert!(public.tls.mode != TlsMode::Files || !public.tls.certificate.as_os_str().is_empty());
    assert!(public.listen.port() == 0 || public.listen != status.listen);
    if let Some(host) = &public.host {
        check_public_host(host);
    }
    let hosts = Hosts::new(status.hosts.iter().map(String::as_str), "");
    for host in &status.hosts {
        assert!(hosts.allow(host), "{host:?} is configured");
    }
}

/// A request to the configured name is understood, and its name is the configured one.
fn check_public_host(host: &str) {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(host).expect("a name is a header's value"));
    let (peer, uri) = ([203, 0, 113, 9].into(), Uri::from_static("/"));
    let learnt = PublicHost::new(None, Vec::new()).origin(peer, true, &uri, &headers);
    assert_eq!(learnt.map(|origin| origin.host.to_string()), Ok(host.to_ascii_lowercase()));
}
