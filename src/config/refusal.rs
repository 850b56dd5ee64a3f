//! Why a value is refused, and what was probably meant: told so that it can be typed instead.

use super::{
    marks,
    mistake::{Mistake, Place},
    reader::Given,
};

/// Longest part of a value that a mistake repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    /// What is wrong, and what is accepted.
    pub reason: String,
    /// What was probably meant.
    pub instead: Option<Given>,
}

impl Refusal {
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), instead: None }
    }

    /// With what to write instead.
    pub fn instead(mut self, given: Given) -> Self {
        self.instead = Some(given);
        self
    }

    /// With what to write instead, where that could be guessed.
    pub fn perhaps(mut self, given: Option<Given>) -> Self {
        self.instead = given;
        self
    }

    /// The same as a mistake at a place. Of a secret, and of what may be one that stands in the wrong place, nothing is
    /// repeated.
    pub fn at(self, place: Place, given: Option<&Given>, secret: bool) -> Mistake {
        let mut remedy = self.reason;
        let hidden = match given {
            Some(_) if secret => " (the value is not shown: it is a secret)",
            Some(given) if may_hold_secret(given) => " (the value is not shown: it may be a secret)",
            _ => "",
        };
        if let Some(instead) = self.instead.filter(|instead| !secret && !may_hold_secret(instead)) {
            remedy.push_str(&format!("; did you mean {}?", typed(&instead, &place)));
        }
        remedy.push_str(hidden);
        Mistake { place, value: given.filter(|_| hidden.is_empty()).map(shown), remedy }
    }
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(reason: T) -> Self {
        Self::new(reason)
    }
}

/// One item of a list, as a reason repeats it.
pub(super) fn shown_item(item: &Given, index: usize) -> String {
    if may_hold_secret(item) { format!("item {}", index + 1) } else { shown(item) }
}

fn may_hold_secret(given: &Given) -> bool {
    match given {
        Given::Plain(text) | Given::Text(text) | Given::Other(text) => marks::may_hold_secret(text),
        Given::List(items) => items.iter().any(may_hold_secret),
        Given::Integer(_) | Given::Boolean(_) => false,
    }
}

/// A value as a message repeats it: quoted if it is text, on one line, not too long, without a URL's user and password.
fn shown(given: &Given) -> String {
    let text = match given {
        Given::Plain(text) | Given::Text(text) => format!("{:?}", without_user(text)),
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

fn without_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://"));
            format!("{}…@{host}", scheme.unwrap_or_default())
        }
        None => text.to_owned(),
    }
}

/// A value as it is typed at a place: with quotes in the file, without them elsewhere.
fn typed(given: &Given, place: &Place) -> String {
    let in_file = matches!(place, Place::File { .. } | Place::Default { .. });
    match given {
        Given::Plain(text) | Given::Text(text) if in_file => quoted(text),
        Given::Plain(text) | Given::Text(text) | Given::Other(text) => text.clone(),
        Given::Integer(number) => number.to_string(),
        Given::Boolean(value) => value.to_string(),
        Given::List(items) => {
            let items: Vec<_> = items.iter().map(|item| typed(item, place)).collect();
            if in_file { format!("[{}]", items.join(", ")) } else { items.join(",") }
        }
    }
}

/// A text as TOML writes it; as it stands where that is possible.
pub(super) fn quoted(text: &str) -> String {
    if text.contains(['\\', '"']) && !text.contains('\'') {
        format!("'{text}'")
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
