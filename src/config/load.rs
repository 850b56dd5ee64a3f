//! Joins the layers (file, credentials, environment, classic names) into one checked configuration.

use std::{collections::BTreeMap, path::PathBuf};

use secrecy::ExposeSecret;

use super::{
    Config, ConfigError, Mistake, Place, Speech, SpeechEngine, Store, TlsMode, accept, document, keys,
    reader::{Entries, Entry, Given, Key, Reader},
    refusal::Refusal,
    spelling::{self, Unknown},
};
use crate::limits::SPEECH_HINTS_CHARS_MAX;

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
    load_beside(sources, Vec::new(), |_, _| {})
}

/// The same, where something was found wrong before; nothing is then said about values that are missing. `look` may
/// find more, in what the values name.
pub(super) fn load_beside(
    sources: Sources<'_>,
    found: Vec<Mistake>,
    look: impl FnOnce(&Config, &mut Reader),
) -> Result<Config, ConfigError> {
    let Gathered { mut reader, mut mistakes, complete, guesses, .. } = gather(sources, found);
    guesses.into_iter().for_each(|(key, entry)| reader.guess(key, entry));
    let mut config = keys::read(&mut reader);
    mistakes.extend(replace_port(&mut config, sources.environment));
    if complete {
        check_together(&config, &mut reader);
    }
    look(&config, &mut reader);
    mistakes.extend(reader.into_parts().1);
    if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::new(mistakes)) }
}

/// Where the store is, for whoever reads it and nothing else: a gateway's other settings do not matter to them.
///
/// # Errors
/// What is wrong with `store.path`; where nothing names it, also all behind which it could stand.
pub(super) fn store_path_beside(sources: Sources<'_>, found: Vec<Mistake>) -> Result<PathBuf, ConfigError> {
    let Gathered { mut reader, mut mistakes, names_store, .. } = gather(sources, found);
    let unreadable = Place::Environment { name: keys::STORE_PATH.environment_name() };
    mistakes.retain(|mistake| !names_store || mistake.place == unreadable);
    let mut path = Store::default().path;
    keys::read_store_path(&mut reader, &mut path);
    mistakes.extend(reader.into_parts().1);
    if mistakes.is_empty() { Ok(path) } else { Err(ConfigError::new(mistakes)) }
}

/// Who turns voice into text, and where the store with the models is: for whoever recognizes and answers no calls. What
/// the other sections say is not looked at.
///
/// # Errors
/// What is wrong with these, and whatever could hide what they say.
pub(super) fn speech_beside(sources: Sources<'_>, found: Vec<Mistake>) -> Result<(Speech, PathBuf), ConfigError> {
    let Gathered { mut reader, mut mistakes, complete, guesses, .. } = gather(sources, found);
    guesses.into_iter().for_each(|(key, entry)| reader.guess(key, entry));
    let (mut speech, mut store) = (Speech::default(), Store::default().path);
    keys::read_speech(&mut reader, &mut speech);
    keys::read_store_path(&mut reader, &mut store);
    if complete {
        check_speech(&speech, &mut reader);
    }
    mistakes.extend(reader.into_parts().1);
    if mistakes.is_empty() { Ok((speech, store)) } else { Err(ConfigError::new(mistakes)) }
}

/// What all layers say, before anybody looked at what it means.
struct Gathered {
    reader: Reader,
    mistakes: Vec<Mistake>,
    /// Every layer could be read to its end: what is missing was really left out.
    complete: bool,
    /// What stands under misspelt names of the file.
    guesses: Vec<(&'static str, Entry)>,
    /// Some layer says where the store is.
    names_store: bool,
}

fn gather(sources: Sources<'_>, found: Vec<Mistake>) -> Gathered {
    let keys = keys::all();
    let mut mistakes = found;
    let mut complete = mistakes.is_empty();
    let mut entries = Entries::new();
    let mut meant = Vec::new();
    let mut guesses = Vec::new();
    if let Some((path, text)) = sources.file {
        let document = document::read(path, text, &keys);
        complete &= document.whole;
        mistakes.extend(document.mistakes);
        meant.extend(document.meant);
        guesses = document.guesses;
        document.entries.into_iter().for_each(|(key, entry)| entries.entry(key).or_default().push(entry));
    }
    add_credentials(&mut entries, sources.credentials, &keys);
    add_environment(&mut entries, sources.environment, &keys);
    for (place, Unknown { remedy, meant: alike }) in unknown_names(sources.environment, &keys) {
        mistakes.push(Mistake { place, value: None, remedy });
        meant.extend(alike);
    }
    add_classic_names(&mut entries, sources.environment);
    let names_store = entries.get(keys::STORE_PATH.name).is_some_and(|entries| !entries.is_empty());
    let reader = Reader::new(entries, sources.file.map(|(path, _)| path), meant);
    Gathered { reader, mistakes, complete, guesses, names_store }
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

fn add_environment(entries: &mut Entries, environment: &BTreeMap<String, String>, keys: &[Key]) {
    for key in keys {
        let name = key.environment_name();
        let Some(value) = environment.get(&name) else { continue };
        let entry = Entry { place: Place::Environment { name }, given: Given::Plain(value.clone()) };
        entries.entry(key.name).or_default().push(entry);
    }
}

/// Variables that begin as ours do and are none.
fn unknown_names(environment: &BTreeMap<String, String>, keys: &[Key]) -> Vec<(Place, Unknown)> {
    let ours = environment.keys().filter(|name| name.starts_with("KOLBOX_"));
    let is_known = |name: &str| OTHER_NAMES.contains(&name) || keys.iter().any(|key| key.environment_name() == name);
    let unknown = ours.filter(|name| !is_known(name));
    unknown.map(|name| (Place::Environment { name: name.clone() }, spelling::unknown_environment(name, keys))).collect()
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
        Err(refusal) => {
            let place = Place::Environment { name: CLASSIC_PORT.to_owned() };
            Some(refusal.at(place, Some(&Given::Plain(value.clone())), false))
        }
    }
}

/// What single values cannot show.
fn check_together(config: &Config, reader: &mut Reader) {
    check_listeners(config, reader);
    check_twilio(config, reader);
    check_speech(&config.speech, reader);
    let sync = &config.sync;
    if sync.retry_min > sync.retry_max {
        reader
            .refuse("sync.retry_max", format!("must not be below sync.retry_min, {}", accept::written(sync.retry_min)));
    }
}

fn check_listeners(config: &Config, reader: &mut Reader) {
    let Config { public, status, .. } = config;
    let (listen, other) = (public.listen, status.listen);
    let same_address = listen.ip() == other.ip() || listen.ip().is_unspecified() || other.ip().is_unspecified();
    if listen.port() != 0 && listen.port() == other.port() && same_address {
        reader.refuse("status.listen", format!("must not be the address of public.listen, {listen}: use another port"));
    }
    if public.tls.mode == TlsMode::Files {
        for (key, path, example) in [
            ("public.tls.certificate", &public.tls.certificate, "/etc/kolbox/fullchain.pem"),
            ("public.tls.key", &public.tls.key, "/etc/kolbox/key.pem"),
        ] {
            if path.as_os_str().is_empty() {
                let reason = format!("must name a PEM file, such as \"{example}\", since public.tls.mode is \"files\"");
                reader.refuse(key, reason);
            }
        }
    }
}

fn check_twilio(config: &Config, reader: &mut Reader) {
    let twilio = &config.twilio;
    if twilio.validate_signatures && twilio.auth_token.expose_secret().is_empty() {
        reader.refuse(
            "twilio.auth_token",
            "must be Twilio's auth token, since twilio.validate_signatures is true: auth_token = \"...\" below [twilio] \
             in the file, or TWILIO_AUTH_TOKEN in the environment, or the credential twilio_auth_token",
        );
    }
    match (twilio.api_key_sid.is_empty(), twilio.api_key_secret.expose_secret().is_empty()) {
        (false, true) => reader.refuse("twilio.api_key_secret", "must be given too, since twilio.api_key_sid is"),
        (true, false) => reader.refuse("twilio.api_key_sid", "must be given too, since twilio.api_key_secret is"),
        _ => {}
    }
}

fn check_speech(speech: &Speech, reader: &mut Reader) {
    let (needs_model, scheme) = match speech.engine {
        SpeechEngine::None => (false, None),
        SpeechEngine::Whisper => (true, None),
        SpeechEngine::OpenAi => (true, Some("http")),
        SpeechEngine::Wyoming => (false, Some("tcp://")),
    };
    if needs_model && speech.model.is_empty() {
        reader.refuse("speech.model", "must not be empty with this speech.engine");
    }
    if let Some(scheme) = scheme.filter(|scheme| !speech.url.starts_with(scheme)) {
        let refusal = Refusal::new(format!("must begin with {scheme} with this speech.engine"));
        let rest = speech.url.split_once("://").map(|(_, rest)| Given::Text(format!("{scheme}{rest}")));
        reader.refuse("speech.url", refusal.perhaps(rest.filter(|_| scheme.ends_with("://"))));
    }
    if speech.hints.iter().map(|hint| hint.chars().count() + 2).sum::<usize>() > SPEECH_HINTS_CHARS_MAX {
        let reason = format!(
            "must not be longer than {SPEECH_HINTS_CHARS_MAX} characters together, so that engines read all of them"
        );
        reader.refuse("speech.hints", reason);
    }
}
