//! Joins the layers (file, credentials, environment, classic names) into one checked configuration.

use std::{collections::BTreeMap, path::PathBuf};

use secrecy::ExposeSecret;

use super::{
    Config, ConfigError, Mistake, Place, SpeechEngine, Store, TlsMode, accept, document, keys,
    reader::{Entries, Entry, Given, Key, Reader},
    spelling,
};

/// Where values come from: texts only, so that loading is a function of them.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The file's path, for messages, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// All of it or the part that concerns us; other programs' variables are passed over.
    pub environment: &'a BTreeMap<String, String>,
    /// Content by name, as systemd puts it into `$CREDENTIALS_DIRECTORY`; unknown names are passed over.
    pub credentials: &'a BTreeMap<String, String>,
}

/// Joins and checks. Of several values for a key that of the later layer counts: file, credentials, `KOLBOX_*`,
/// classic names.
///
/// # Errors
/// Every mistake of every layer at once: unknown keys and names, wrong types, values out of range, values that do not
/// fit together.
pub fn load(sources: Sources<'_>) -> Result<Config, ConfigError> {
    load_beside(sources, Vec::new())
}

/// The same, where something was found wrong before; nothing is then said about values that are missing.
pub(super) fn load_beside(sources: Sources<'_>, found: Vec<Mistake>) -> Result<Config, ConfigError> {
    let Gathered { entries, mut mistakes, complete } = gather(sources, found);
    let mut reader = Reader::new(entries);
    let mut config = keys::read(&mut reader);
    mistakes.extend(replace_port(&mut config, sources.environment));
    if complete {
        check_together(&config, &mut reader);
    }
    mistakes.extend(reader.into_parts().1);
    if mistakes.is_empty() { Ok(config) } else { Err(ConfigError { mistakes }) }
}

/// Where the store is, for whoever reads it and nothing else: a gateway's other settings do not matter to them.
///
/// # Errors
/// What is wrong with `store.path`; where nothing names it, also all behind which it could stand.
pub(super) fn store_path_beside(sources: Sources<'_>, found: Vec<Mistake>) -> Result<PathBuf, ConfigError> {
    let Gathered { entries, mut mistakes, .. } = gather(sources, found);
    let is_named = entries.contains_key(keys::STORE_PATH.name);
    let unreadable = Place::Environment { name: keys::STORE_PATH.environment_name() };
    mistakes.retain(|mistake| !is_named || mistake.place == unreadable);
    let mut reader = Reader::new(entries);
    let mut path = Store::default().path;
    keys::read_store_path(&mut reader, &mut path);
    mistakes.extend(reader.into_parts().1);
    if mistakes.is_empty() { Ok(path) } else { Err(ConfigError { mistakes }) }
}

/// What all layers say, before anybody looked at what it means.
struct Gathered {
    entries: Entries,
    mistakes: Vec<Mistake>,
    /// Every layer could be read to its end: what is missing was really left out.
    complete: bool,
}

fn gather(sources: Sources<'_>, found: Vec<Mistake>) -> Gathered {
    let keys = keys::all();
    let mut mistakes = found;
    let mut complete = mistakes.is_empty();
    let mut entries = Entries::new();
    if let Some((path, text)) = sources.file {
        let document = document::read(path, text, &keys);
        complete &= document.whole;
        mistakes.extend(document.mistakes);
        document.entries.into_iter().for_each(|(key, entry)| entries.entry(key).or_default().push(entry));
    }
    add_credentials(&mut entries, sources.credentials, &keys);
    add_environment(&mut entries, &mut mistakes, sources.environment, &keys);
    add_classic_names(&mut entries, sources.environment);
    Gathered { entries, mistakes, complete }
}

fn add_credentials(entries: &mut Entries, credentials: &BTreeMap<String, String>, keys: &[Key]) {
    for key in keys {
        let Some(name) = key.credential_name() else { continue };
        let Some(content) = credentials.get(&name) else { continue };
        // Whoever writes such a file with echo or an editor leaves a line's end in it.
        let content = content.strip_suffix('\n').unwrap_or(content);
        let content = content.strip_suffix('\r').unwrap_or(content);
        let entry = Entry { place: Place::Credential { name }, given: Given::Plain(content.to_owned()) };
        entries.entry(key.name).or_default().push(entry);
    }
}

/// `KOLBOX_CONFIG` is read before there is a configuration, `KOLBOX_CALLS_MAX` only when the program is compiled.
const OTHER_NAMES: [&str; 2] = ["KOLBOX_CONFIG", "KOLBOX_CALLS_MAX"];

fn add_environment(
    entries: &mut Entries,
    mistakes: &mut Vec<Mistake>,
    environment: &BTreeMap<String, String>,
    keys: &[Key],
) {
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("KOLBOX_")) {
        let place = Place::Environment { name: name.clone() };
        if let Some(key) = keys.iter().find(|key| key.environment_name() == *name) {
            entries.entry(key.name).or_default().push(Entry { place, given: Given::Plain(value.clone()) });
        } else if !OTHER_NAMES.contains(&name.as_str()) {
            let remedy = spelling::unknown_environment(name, keys);
            mistakes.push(Mistake { place, value: None, remedy });
        }
    }
}

/// The names that Twilio's examples and hosting platforms use. Empty ones count as not set: that is how container
/// tools pass on a variable that nobody filled.
const CLASSIC_NAMES: [(&str, &str); 3] = [
    ("TWILIO_ACCOUNT_SID", "twilio.account_sid"),
    ("TWILIO_AUTH_TOKEN", "twilio.auth_token"),
    ("PUBLIC_HOST", "public.host"),
];
/// Replaces only the port of `public.listen`.
const CLASSIC_PORT: &str = "PORT";

/// Whether an environment variable concerns us.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with("KOLBOX_") || name == CLASSIC_PORT || CLASSIC_NAMES.iter().any(|(classic, _)| *classic == name)
}

fn add_classic_names(entries: &mut Entries, environment: &BTreeMap<String, String>) {
    for (name, key) in CLASSIC_NAMES {
        let Some(value) = environment.get(name).filter(|value| !value.is_empty()) else { continue };
        let place = Place::Environment { name: name.to_owned() };
        entries.entry(key).or_default().push(Entry { place, given: Given::Plain(value.clone()) });
    }
}

fn replace_port(config: &mut Config, environment: &BTreeMap<String, String>) -> Option<Mistake> {
    let value = environment.get(CLASSIC_PORT).filter(|value| !value.is_empty())?;
    match accept::port(value) {
        Ok(port) => {
            config.public.listen.set_port(port);
            None
        }
        Err(remedy) => Some(Mistake {
            place: Place::Environment { name: CLASSIC_PORT.to_owned() },
            value: Some(format!("{value:?}")),
            remedy,
        }),
    }
}

/// What single values cannot show.
fn check_together(config: &Config, reader: &mut Reader) {
    let Config { public, status, twilio, speech, sync, .. } = config;
    let (listen, other) = (public.listen, status.listen);
    let same_address = listen.ip() == other.ip() || listen.ip().is_unspecified() || other.ip().is_unspecified();
    if listen.port() != 0 && listen.port() == other.port() && same_address {
        reader.refuse("status.listen", format!("must not be the address of public.listen, {listen}: use another port"));
    }
    if public.tls.mode == TlsMode::Files {
        for (key, path) in [("public.tls.certificate", &public.tls.certificate), ("public.tls.key", &public.tls.key)] {
            if path.as_os_str().is_empty() {
                reader.refuse(key, "must name a PEM file, since public.tls.mode is \"files\"");
            }
        }
    }
    if twilio.validate_signatures && twilio.auth_token.expose_secret().is_empty() {
        reader.refuse(
            "twilio.auth_token",
            "must be Twilio's auth token (here, in TWILIO_AUTH_TOKEN or as the credential twilio_auth_token), since \
             twilio.validate_signatures is true",
        );
    }
    match (twilio.api_key_sid.is_empty(), twilio.api_key_secret.expose_secret().is_empty()) {
        (false, true) => reader.refuse("twilio.api_key_secret", "must be given too, since twilio.api_key_sid is"),
        (true, false) => reader.refuse("twilio.api_key_sid", "must be given too, since twilio.api_key_secret is"),
        _ => {}
    }
    let needs = match speech.engine {
        SpeechEngine::None => (false, None),
        SpeechEngine::Whisper => (true, None),
        SpeechEngine::OpenAi => (true, Some("http")),
        SpeechEngine::Wyoming => (false, Some("tcp://")),
    };
    if needs.0 && speech.model.is_empty() {
        reader.refuse("speech.model", "must not be empty with this speech.engine");
    }
    if let Some(scheme) = needs.1.filter(|scheme| !speech.url.starts_with(scheme)) {
        reader.refuse("speech.url", format!("must begin with {scheme} with this speech.engine"));
    }
    if sync.retry_min > sync.retry_max {
        reader
            .refuse("sync.retry_max", format!("must not be below sync.retry_min, {}", accept::written(sync.retry_min)));
    }
}
