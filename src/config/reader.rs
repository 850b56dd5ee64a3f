//! Reads key by key: takes what was given for a key in each layer, checks it, and notes what is wrong with it.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::{
    mistake::{Mistake, Place},
    refusal::Refusal,
};

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
    file: Option<String>,
    /// Keys and sections that an unknown name was probably meant to be: they are misspelt, not left out.
    meant: Vec<&'static str>,
    keys: Vec<Key>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// `file` is the one that was read, for messages about what could stand in it.
    pub fn new(entries: Entries, file: Option<&str>, meant: Vec<&'static str>) -> Self {
        Self { entries, file: file.map(str::to_owned), meant, ..Self::default() }
    }

    /// Adds what stands under a misspelt name, below every layer: so its value is checked too.
    pub fn guess(&mut self, name: &'static str, entry: Entry) {
        self.entries.entry(name).or_default().insert(0, entry);
    }

    /// Reads one key. Each layer's value is checked, also one that a higher layer replaces: a mistake that shows only
    /// when an environment variable goes away would show at the worst time.
    pub fn read<T>(&mut self, name: &'static str, target: &mut T, accept: impl Fn(&Given) -> Result<T, Refusal>) {
        self.read_key(Key { name, secret: false }, target, accept);
    }

    /// Reads a key whose value no message ever repeats.
    pub fn read_secret(
        &mut self,
        name: &'static str,
        target: &mut SecretString,
        accept: impl Fn(&Given) -> Result<SecretString, Refusal>,
    ) {
        self.read_key(Key { name, secret: true }, target, accept);
    }

    fn read_key<T>(&mut self, key: Key, target: &mut T, accept: impl Fn(&Given) -> Result<T, Refusal>) {
        self.keys.push(key);
        for entry in self.entries.get(key.name).into_iter().flatten() {
            match accept(&entry.given) {
                Ok(value) => *target = value,
                Err(refusal) => {
                    let instead = refusal.instead.and_then(|instead| acceptable(instead, &accept));
                    let refusal = Refusal { reason: refusal.reason, instead };
                    self.mistakes.push(refusal.at(entry.place.clone(), Some(&entry.given), key.secret));
                }
            }
        }
    }

    /// Notes a mistake that one value alone does not show, at the place of the key named. Silent when that key's own value
    /// was refused already, or its name misspelt: one mistake, one line.
    pub fn refuse(&mut self, name: &str, refusal: impl Into<Refusal>) {
        let entry = self.entries.get(name).and_then(|entries| entries.last());
        let section = name.rsplit_once('.').map_or("", |(section, _)| section);
        if entry.is_none() && (self.meant.contains(&name) || self.meant.contains(&section)) {
            return;
        }
        let unset = || Place::Default { key: name.to_owned(), file: self.file.clone() };
        let place = entry.map_or_else(unset, |entry| entry.place.clone());
        if self.mistakes.iter().any(|mistake| mistake.place == place) {
            return;
        }
        let secret = self.keys.iter().any(|key| key.name == name && key.secret);
        // An empty secret hides nothing, and to say that it is not shown would be odd.
        let given = entry.map(|entry| &entry.given).filter(|_| !secret);
        let mistake = refusal.into().at(place, given, false);
        self.mistakes.push(mistake);
    }

    /// Every key that was read, in order, and every mistake that was noted.
    pub fn into_parts(self) -> (Vec<Key>, Vec<Mistake>) {
        (self.keys, self.mistakes)
    }
}

/// A suggestion, or what is suggested in its place; none that would be refused in its turn.
fn acceptable<T>(instead: Given, accept: &impl Fn(&Given) -> Result<T, Refusal>) -> Option<Given> {
    match accept(&instead) {
        Ok(_) => Some(instead),
        Err(refusal) => refusal.instead.filter(|instead| accept(instead).is_ok()),
    }
}
