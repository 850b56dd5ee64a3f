//! The file: TOML into entries, each with its line; what is no key, and what is no TOML, into mistakes.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    mistake::{Mistake, Place},
    reader::{Entry, Given, Key},
    spelling,
};

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub entries: Vec<(&'static str, Entry)>,
    pub mistakes: Vec<Mistake>,
    /// It could be read to its end: what is missing in it was really left out.
    pub whole: bool,
}

/// Reads the text of a file. `path` is for messages only.
pub(super) fn read(path: &str, text: &str, keys: &[Key]) -> Document {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk { path, text, keys, broken_lines: Vec::new(), document: Document::default() };
    for error in &errors {
        walk.syntax_error(error);
    }
    walk.table("", table.get_ref());
    walk.document.whole = errors.is_empty();
    walk.document.mistakes.sort_by_key(|mistake| match &mistake.place {
        Place::File { line, .. } => *line,
        _ => 0,
    });
    walk.document
}

struct Walk<'a> {
    path: &'a str,
    text: &'a str,
    keys: &'a [Key],
    /// What the parser made of these lines is not what was meant.
    broken_lines: Vec<usize>,
    document: Document,
}

impl Walk<'_> {
    /// The parser's message, but never the line itself: a token without quotes stands in just such a line.
    fn syntax_error(&mut self, error: &toml::de::Error) {
        let line = self.line(error.span().unwrap_or(0..0));
        if self.broken_lines.contains(&line) {
            return;
        }
        self.broken_lines.push(line);
        let written = self.text.lines().nth(line - 1).and_then(|line| line.split_once('='));
        let key = written.and_then(|(name, _)| {
            let name = name.trim();
            let is_meant = |key: &Key| key.name.rsplit('.').next() == Some(name) || key.name == name;
            self.keys.iter().any(is_meant).then(|| name.to_owned())
        });
        let mut remedy = format!("this is no TOML: {}", error.message().lines().next().unwrap_or_default());
        if self.text.lines().nth(line - 1).is_some_and(|line| line.contains(['“', '”', '„', '״', '‘', '’']))
        {
            remedy.push_str(" (the quotes must be the plain \")");
        }
        self.document.mistakes.push(Mistake { place: self.place(line, key), value: None, remedy });
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = match section {
                "" => key.get_ref().to_string(),
                section => format!("{section}.{}", key.get_ref()),
            };
            let line = self.line(key.span());
            if self.broken_lines.contains(&line) {
                continue;
            }
            if let Some(known) = self.keys.iter().find(|known| known.name == name) {
                let place = self.place(line, Some(name));
                self.document.entries.push((known.name, Entry { place, given: given(value) }));
            } else if spelling::is_section(&name, self.keys) {
                match value.get_ref() {
                    DeValue::Table(table) => self.table(&name, table),
                    _ => self.refuse(line, &name, format!("expected a section, written [{name}]")),
                }
            } else {
                let remedy = spelling::unknown(&name, self.keys);
                self.refuse(line, &name, remedy);
            }
        }
    }

    /// Without the value: it may be a secret that was written in the wrong place.
    fn refuse(&mut self, line: usize, key: &str, remedy: String) {
        let place = self.place(line, Some(key.to_owned()));
        self.document.mistakes.push(Mistake { place, value: None, remedy });
    }

    fn place(&self, line: usize, key: Option<String>) -> Place {
        Place::File { path: self.path.to_owned(), line, key }
    }

    /// Counted from 1.
    fn line(&self, span: Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        1 + before.filter(|byte| **byte == b'\n').count()
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
