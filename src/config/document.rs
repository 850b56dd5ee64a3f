//! The file: TOML into entries, each with its line; what is no key, and what is no TOML, into mistakes.

use std::{collections::BTreeSet, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    mistake::{Mistake, Place},
    reader::{Entry, Given, Key},
    spelling::{self, Unknown},
    syntax::{self, Explained},
};
use crate::limits::CONFIG_MISTAKES_MAX;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub entries: Vec<(&'static str, Entry)>,
    /// What stands under misspelt names, as what these were probably meant to be: to be checked, never to be used.
    pub guesses: Vec<(&'static str, Entry)>,
    pub mistakes: Vec<Mistake>,
    /// Keys and sections that unknown names were probably meant to be.
    pub meant: Vec<&'static str>,
    /// It could be read to its end: what is missing in it was really left out.
    pub whole: bool,
}

/// Reads the text of a file. `path` is for messages only.
pub(super) fn read(path: &str, text: &str, keys: &[Key]) -> Document {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk {
        path,
        text,
        keys,
        line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
        broken_lines: BTreeSet::new(),
        is_guess: false,
        document: Document::default(),
    };
    for error in &errors {
        walk.syntax_error(error);
    }
    walk.table("", "", table.get_ref());
    walk.document.whole = errors.is_empty();
    walk.document
}

struct Walk<'a> {
    path: &'a str,
    text: &'a str,
    keys: &'a [Key],
    /// Where each line ends, in bytes.
    line_ends: Vec<usize>,
    /// What the parser made of these lines is not what was meant.
    broken_lines: BTreeSet<usize>,
    /// A name above was misspelt.
    is_guess: bool,
    document: Document,
}

impl Walk<'_> {
    /// Once a line: the parser's second complaint about it is a consequence of the first.
    fn syntax_error(&mut self, error: &toml::de::Error) {
        let line = self.line(error.span().unwrap_or(0..0));
        if !self.broken_lines.insert(line) || self.is_full() {
            return;
        }
        let Explained { key, remedy } = syntax::explain(self.text, line, error.message(), self.keys);
        self.document.mistakes.push(Mistake { place: self.place(line, key), value: None, remedy });
    }

    /// `section` is the name that the table should have, `written` the one that it has.
    fn table(&mut self, section: &str, written: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let below = |section: &str| match section {
                "" => key.get_ref().to_string(),
                section => format!("{section}.{}", key.get_ref()),
            };
            let (name, written) = (below(section), below(written));
            let line = self.line(key.span());
            if self.broken_lines.contains(&line) {
                continue;
            }
            if let Some(known) = self.keys.iter().find(|known| known.name == name) {
                self.entry(known.name, line, &written, value);
            } else if spelling::is_section(&name, self.keys) {
                self.section(&name, &written, line, value);
            } else {
                self.unknown(&name, &written, line, value);
            }
        }
    }

    fn entry(&mut self, name: &'static str, line: usize, written: &str, value: &Spanned<DeValue<'_>>) {
        let place = self.place(line, Some(written.to_owned()));
        let entries = if self.is_guess { &mut self.document.guesses } else { &mut self.document.entries };
        entries.push((name, Entry { place, given: given(value) }));
    }

    fn section(&mut self, name: &str, written: &str, line: usize, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(name, written, table),
            DeValue::Array(items) if items.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_))) => {
                self.refuse(line, written, format!("expected a section in single brackets, written [{name}]"));
            }
            _ => self.refuse(line, written, format!("expected a section, written [{name}], with its keys below it")),
        }
    }

    /// What stands below a misspelt section, and in a misspelt key of the right section, is checked as what it was
    /// probably meant to be.
    fn unknown(&mut self, name: &str, written: &str, line: usize, value: &Spanned<DeValue<'_>>) {
        if self.is_full() {
            return;
        }
        let table = match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => None,
        };
        let Unknown { remedy, meant } = spelling::unknown(name, table.is_some(), self.keys);
        self.refuse(line, written, remedy);
        self.document.meant.extend(&meant);
        let [meant] = meant[..] else { return };
        let section = |name: &str| name.rsplit_once('.').map(|(section, _)| section.to_owned());
        let is_guess = std::mem::replace(&mut self.is_guess, true);
        match table {
            Some(table) if spelling::is_section(meant, self.keys) => self.table(meant, written, table),
            _ if section(meant) == section(name) => self.entry(meant, line, written, value),
            _ => {}
        }
        self.is_guess = is_guess;
    }

    /// Without the value: it may be a secret that was written in the wrong place.
    fn refuse(&mut self, line: usize, key: &str, remedy: String) {
        let place = self.place(line, Some(key.to_owned()));
        self.document.mistakes.push(Mistake { place, value: None, remedy });
    }

    fn place(&self, line: usize, key: Option<String>) -> Place {
        Place::File { path: self.path.to_owned(), line, key }
    }

    fn is_full(&self) -> bool {
        self.document.mistakes.len() >= CONFIG_MISTAKES_MAX
    }

    /// Counted from 1.
    fn line(&self, span: Range<usize>) -> usize {
        1 + self.line_ends.partition_point(|end| *end < span.start)
    }
}

fn given(value: &Spanned<DeValue<'_>>) -> Given {
    match value.get_ref() {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Boolean(value) => Given::Boolean(*value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Given::Integer(value),
            Err(_) => Given::Other(number.as_str().to_owned()),
        },
        DeValue::Float(number) => Given::Other(number.as_str().to_owned()),
        DeValue::Datetime(time) => Given::Other(time.to_string()),
        DeValue::Array(items) => Given::List(items.iter().map(given).collect()),
        DeValue::Table(_) => Given::Other("{…}".to_owned()),
    }
}
