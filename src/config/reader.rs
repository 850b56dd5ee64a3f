//! Reads key by key: takes what was given for a key in each layer, checks it, and notes what is wrong with it.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::mistake::{Mistake, Place};

/// Longest part of a value that a mistake repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// A value as it was written, before anybody looked at what it means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given {
    /// From the environment or a credential, where everything is text.
    Plain(String),
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Given>),
    /// A table, a date or a number that no key takes: how it was written.
    Other(String),
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub place: Place,
    pub given: Given,
}

/// A key that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// With its section: `watchdog.start_timeout`.
    pub name: &'static str,
    pub secret: bool,
}

impl Key {
    /// `KOLBOX_WATCHDOG__START_TIMEOUT`
    pub fn environment_name(&self) -> String {
        format!("KOLBOX_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// `twilio_auth_token`; only secrets come as credentials.
    pub fn credential_name(&self) -> Option<String> {
        self.secret.then(|| self.name.replace('.', "_"))
    }
}

/// What every layer gave for each key: lowest layer first.
pub(super) type Entries = BTreeMap<&'static str, Vec<Entry>>;

/// Reads entries into the fields of a configuration.
#[derive(Debug, Default)]
pub(super) struct Reader {
    entries: Entries,
    keys: Vec<Key>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    pub fn new(entries: Entries) -> Self {
        Self { entries, ..Self::default() }
    }

    /// Reads one key. Each layer's value is checked, also one that a higher layer replaces: a mistake that shows only
    /// when an environment variable goes away would show at the worst time.
    pub fn read<T>(&mut self, name: &'static str, target: &mut T, accept: impl Fn(&Given) -> Result<T, String>) {
        self.read_key(Key { name, secret: false }, target, accept);
    }

    /// Reads a key whose value no message ever repeats.
    pub fn read_secret(&mut self, name: &'static str, target: &mut SecretString) {
        self.read_key(Key { name, secret: true }, target, super::accept::secret);
    }

    fn read_key<T>(&mut self, key: Key, target: &mut T, accept: impl Fn(&Given) -> Result<T, String>) {
        self.keys.push(key);
        for entry in self.entries.get(key.name).into_iter().flatten() {
            match accept(&entry.given) {
                Ok(value) => *target = value,
                Err(remedy) => self.mistakes.push(Mistake {
                    place: entry.place.clone(),
                    value: (!key.secret).then(|| shown(&entry.given)),
                    remedy,
                }),
            }
        }
    }

    /// Notes a mistake that concerns several keys, at the place of the one named. Silent when that key's own value was
    /// refused already: one mistake, one line.
    pub fn refuse(&mut self, name: &str, remedy: impl Into<String>) {
        let entry = self.entries.get(name).and_then(|entries| entries.last());
        let place = entry.map_or_else(|| Place::Default { key: name.to_owned() }, |entry| entry.place.clone());
        if self.mistakes.iter().any(|mistake| mistake.place == place) {
            return;
        }
        let secret = self.keys.iter().any(|key| key.name == name && key.secret);
        let value = entry.filter(|_| !secret).map(|entry| shown(&entry.given));
        self.mistakes.push(Mistake { place, value, remedy: remedy.into() });
    }

    /// Every key that was read, in order, and every mistake that was noted.
    pub fn into_parts(self) -> (Vec<Key>, Vec<Mistake>) {
        (self.keys, self.mistakes)
    }
}

/// A value as a message repeats it: quoted if it is text, on one line, not too long.
pub(super) fn shown(given: &Given) -> String {
    let text = match given {
        Given::Plain(text) | Given::Text(text) => format!("{text:?}"),
        Given::Integer(number) => number.to_string(),
        Given::Boolean(value) => value.to_string(),
        Given::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Given::Other(written) => written.clone(),
    };
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
