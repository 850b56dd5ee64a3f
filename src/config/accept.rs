//! What each kind of value may look like: from what was written to what is meant, or to what would be accepted.

use std::{ops::RangeInclusive, path::PathBuf};

use secrecy::SecretString;

use super::{
    marks,
    reader::Given,
    refusal::{Refusal, shown_item},
    spelling,
};

mod addresses;
mod amounts;
mod twilio_values;

pub(super) use addresses::{address, api_base, host_name, network, port, public_host, speech_url, sync_url};
pub(super) use amounts::{bytes, duration, duration_or_zero, keep_audio, whole_seconds, written};
pub(super) use twilio_values::{account_sid, api_key_sid, auth_token, prompt};

/// Longest text but that of a prompt, in characters.
const TEXT_CHARS_MAX: usize = 1_024;
/// Longest of `speech.hints`: a name, not a sentence.
const HINT_CHARS_MAX: usize = 64;

/// Text without control and invisible characters; it may be empty.
pub(super) fn text(given: &Given) -> Result<String, Refusal> {
    let text = line(given)?;
    match marks::invisible_in(&text) {
        None => Ok(text),
        Some(mark) => {
            let reason = format!("has an invisible character in it, {mark}, as mails and web pages put it");
            Err(Refusal::new(reason).instead(Given::Text(marks::plain(&text))))
        }
    }
}

/// Text on one line.
fn line(given: &Given) -> Result<String, Refusal> {
    match given {
        Given::Plain(text) | Given::Text(text) => {
            if text.chars().any(char::is_control) || text.chars().count() > TEXT_CHARS_MAX {
                return Err(format!("expected text on one line, of at most {TEXT_CHARS_MAX} characters").into());
            }
            Ok(text.clone())
        }
        Given::Integer(number) => Err(in_quotes(number.to_string())),
        Given::Boolean(value) => Err(in_quotes(value.to_string())),
        Given::List(items) => {
            let only = items.first().filter(|_| items.len() == 1).cloned();
            Err(Refusal::new("expected one text in \"quotes\", not a list").perhaps(only))
        }
        Given::Other(_) => Err("expected text in \"quotes\"".into()),
    }
}

fn in_quotes(written: String) -> Refusal {
    Refusal::new("expected text: put it in \"quotes\"").instead(Given::Text(written))
}

/// Text that says something.
pub(super) fn filled_text(given: &Given) -> Result<String, Refusal> {
    let text = text(given)?;
    if text.trim().is_empty() { Err("must not be empty".into()) } else { Ok(text) }
}

/// A secret. What is wrong with it is said without repeating it.
pub(super) fn secret(given: &Given) -> Result<SecretString, Refusal> {
    let text = text(given).map_err(|refusal| Refusal::new(refusal.reason))?;
    if text.trim() != text {
        return Err("has a space at its beginning or end: take it away".into());
    }
    let is_quote = |c: char| c == '"' || c == '\'' || marks::is_curly_quote(c);
    if text.chars().count() > 1 && text.starts_with(is_quote) && text.ends_with(is_quote) {
        return Err("has quotes that would be part of it: write it without them here, with one pair in the file".into());
    }
    Ok(text.into())
}

pub(super) fn boolean(given: &Given) -> Result<bool, Refusal> {
    let written = match given {
        Given::Boolean(value) => return Ok(*value),
        Given::Plain(text) if text == "true" => return Ok(true),
        Given::Plain(text) if text == "false" => return Ok(false),
        Given::Plain(text) | Given::Text(text) => marks::plain(text).to_lowercase(),
        Given::Integer(number) => number.to_string(),
        Given::List(_) | Given::Other(_) => String::new(),
    };
    let meant = match &written[..] {
        "true" | "yes" | "on" | "1" | "כן" => Some(true),
        "false" | "no" | "off" | "0" | "לא" => Some(false),
        _ => None,
    };
    Err(Refusal::new("expected true or false, without quotes").perhaps(meant.map(Given::Boolean)))
}

pub(super) fn integer(range: RangeInclusive<usize>) -> impl Fn(&Given) -> Result<usize, Refusal> {
    move |given| {
        let read = |text: &str| text.parse().ok().filter(|number| range.contains(number));
        let (number, meant) = match given {
            Given::Integer(number) => (usize::try_from(*number).ok().filter(|number| range.contains(number)), None),
            Given::Plain(text) => (read(text), read(&marks::plain(text))),
            Given::Text(text) => (None, read(&marks::plain(text))),
            Given::Boolean(_) | Given::List(_) | Given::Other(_) => (None, None),
        };
        number.ok_or_else(|| {
            let reason = format!("expected a whole number from {} to {}, without quotes", range.start(), range.end());
            Refusal::new(reason).perhaps(meant.and_then(|number| i64::try_from(number).ok()).map(Given::Integer))
        })
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Fn(&Given) -> Result<T, Refusal> {
    move |given| {
        let written = match given {
            Given::Plain(text) | Given::Text(text) => text.clone(),
            Given::Boolean(value) => value.to_string(),
            Given::Integer(_) | Given::List(_) | Given::Other(_) => String::new(),
        };
        let found = choices.iter().find(|(name, _)| *name == written && !matches!(given, Given::Boolean(_)));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            let nearest = spelling::nearest(&marks::plain(&written), choices.iter().map(|(name, _)| *name));
            Refusal::new(format!("expected {}", names.join(" or ")))
                .perhaps(nearest.map(|name| Given::Text(name.to_owned())))
        })
    }
}

/// A list; from the environment its items stand between commas. Every item that is wrong is told.
pub(super) fn list<T>(item: impl Fn(&Given) -> Result<T, Refusal>) -> impl Fn(&Given) -> Result<Vec<T>, Refusal> {
    move |given| {
        let items = match given {
            Given::Plain(text) if text.trim().is_empty() => Vec::new(),
            Given::Plain(text) => text.split(',').map(|item| Given::Plain(item.trim().to_owned())).collect(),
            Given::List(items) => items.clone(),
            Given::Text(text) => {
                let items = text.split([',', ' ']).map(marks::plain).filter(|item| !item.is_empty());
                let meant = Given::List(items.map(Given::Text).collect());
                return Err(Refusal::new("expected a list, written like [\"one\", \"two\"]").instead(meant));
            }
            _ => return Err("expected a list, written like [\"one\", \"two\"]".into()),
        };
        let mut accepted = Vec::new();
        let mut wrong = Vec::new();
        let mut meant = Some(Vec::new());
        for (index, given) in items.iter().enumerate() {
            match item(given) {
                Ok(value) => {
                    accepted.push(value);
                    meant.iter_mut().for_each(|meant| meant.push(given.clone()));
                }
                Err(refusal) => {
                    wrong.push(format!("{}: {}", shown_item(given, index), refusal.reason));
                    meant = meant.zip(refusal.instead).map(|(mut meant, instead)| {
                        meant.push(instead);
                        meant
                    });
                }
            }
        }
        if wrong.is_empty() {
            return Ok(accepted);
        }
        Err(Refusal::new(wrong.join("; ")).perhaps(meant.map(Given::List)))
    }
}

/// A word or a name, as one part of a list.
pub(super) fn hint(given: &Given) -> Result<String, Refusal> {
    let text = filled_text(given)?;
    if text.trim() != text {
        return Err(Refusal::new("has a space at its beginning or end").instead(Given::Text(text.trim().to_owned())));
    }
    if text.chars().count() > HINT_CHARS_MAX {
        return Err(format!("expected a name or a product, of at most {HINT_CHARS_MAX} characters").into());
    }
    Ok(text)
}

/// A path as it is meant: nothing here stands for the home directory.
pub(super) fn path(given: &Given) -> Result<PathBuf, Refusal> {
    let text = text(given)?;
    if text.trim() != text {
        return Err(Refusal::new("has a space at its beginning or end").instead(Given::Text(text.trim().to_owned())));
    }
    if text.starts_with('~') || text.starts_with('$') {
        return Err("expected a whole path, such as \"/var/lib/kolbox\": ~ and $ stand for nothing here".into());
    }
    Ok(text.into())
}

pub(super) fn filled_path(given: &Given) -> Result<PathBuf, Refusal> {
    let path = path(given)?;
    if path.as_os_str().is_empty() { Err("must not be empty".into()) } else { Ok(path) }
}

/// A path, or nothing.
pub(super) fn optional_path(given: &Given) -> Result<Option<PathBuf>, Refusal> {
    path(given).map(|path| (!path.as_os_str().is_empty()).then_some(path))
}

/// A language tag such as `he`, `he-IL`, or `auto`.
pub(super) fn language(given: &Given) -> Result<String, Refusal> {
    let text = text(given)?;
    let good = |text: &str| {
        (2..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if good(&text) {
        return Ok(text);
    }
    let plain = marks::plain(&text).replace('_', "-");
    let meant = match &plain[..] {
        "עברית" => Some("he".to_owned()),
        _ => Some(plain).filter(|plain| good(plain)),
    };
    let reason = "expected a language such as \"he\", \"en\" or \"auto\"";
    Err(Refusal::new(reason).perhaps(meant.map(Given::Text)))
}

/// A level, or directives with targets. A misspelt level would be read as a target and silence everything.
pub(super) fn log_level(given: &Given) -> Result<String, Refusal> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text(given)?;
    let is_target = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
    };
    let good = text.split(',').all(|directive| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && LEVELS.contains(&level),
        None => LEVELS.contains(&directive),
    });
    if good {
        return Ok(text);
    }
    let written = marks::plain(&text).to_lowercase();
    let meant = match &written[..] {
        "warning" => Some("warn"),
        _ => spelling::nearest(&written, LEVELS.into_iter()),
    };
    let reason = "expected off, error, warn, info, debug or trace, or several such as \"info,kolbox::calls=debug\"";
    Err(Refusal::new(reason).perhaps(meant.map(|level| Given::Text(level.to_owned()))))
}
