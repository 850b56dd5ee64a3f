//! What to say about a line that is no TOML: which slip it probably is, and what to type instead.
//!
//! The parser's own words are for people who know TOML. A line is repeated only in the form of its own suggestion, and
//! nothing of it where it may hold a secret: a token without quotes stands in just such a line.

use toml::de::DeTable;

use super::{
    marks::{self, is_curly_quote, is_invisible},
    reader::Key,
    refusal::quoted,
    spelling,
};

/// Longest suggestion, in characters.
const SUGGESTION_CHARS_MAX: usize = 120;
/// What stands in a suggestion for a value that is not repeated.
const HIDDEN: &str = "\"...\"";

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Explained {
    /// The key that the line is about, if it is one that exists.
    pub key: Option<String>,
    pub remedy: String,
}

/// A line that the parser refused: its number, counted from 1, in the whole text, and what the parser said.
pub(super) fn explain(text: &str, number: usize, said: &str, keys: &[Key]) -> Explained {
    let written = text.lines().nth(number - 1).unwrap_or_default();
    let line = Line::of(written, keys);
    let (reason, suggestion) = slip(&line, text, number, said);
    let suggestion = suggestion.filter(|suggestion| suggestion.chars().count() <= SUGGESTION_CHARS_MAX);
    let mut remedy = format!("this is no TOML: {reason}");
    if let Some(suggestion) = suggestion {
        remedy.push_str(&format!("; did you mean {suggestion}?"));
    }
    Explained { key: line.key.map(|_| line.name), remedy }
}

/// A line, taken apart as far as it can be.
struct Line<'a> {
    /// Without space around it.
    whole: &'a str,
    /// What stands before `=` (or before `:`, as in YAML), without invisible characters.
    name: String,
    /// The key of that name.
    key: Option<&'a Key>,
    /// What separates name and value.
    separator: Option<char>,
    value: &'a str,
    keys: &'a [Key],
}

impl<'a> Line<'a> {
    fn of(written: &'a str, keys: &'a [Key]) -> Self {
        let whole = written.trim();
        let (name, separator, value) = match whole.split_once('=').or_else(|| whole.split_once(':')) {
            Some((name, value)) => (name, whole[name.len()..].chars().next(), value),
            None => {
                whole.split_once(char::is_whitespace).map_or((whole, None, ""), |(name, value)| (name, None, value))
            }
        };
        let name = marks::plain(name);
        let is_it = |key: &&Key| key.name == name || key.name.rsplit('.').next() == Some(&name);
        // Where one of several keys of this name is a secret, all of them count as such.
        let alike = || keys.iter().filter(is_it);
        let key = alike().find(|key| key.secret).or_else(|| alike().next());
        Self { whole, name, key, separator, value: value.trim(), keys }
    }

    /// `key = value` as it was probably meant, if that is TOML.
    fn mended(&self) -> Option<String> {
        let key = self.key?;
        let value = if key.secret { HIDDEN.to_owned() } else { self.mended_value()? };
        let mended = format!("{} = {value}", self.name);
        DeTable::parse(&mended).is_ok().then_some(mended)
    }

    fn mended_value(&self) -> Option<String> {
        let starts_quoted = self.value.starts_with(|c| c == '"' || c == '\'' || is_curly_quote(c));
        let value = if starts_quoted { self.value } else { self.value.split(" #").next().unwrap_or_default() };
        let value = value.trim_end_matches([';', ',', ' ']);
        if let Some(items) = value.strip_prefix('[') {
            let items = items.trim_end_matches(']').split(',').map(marks::plain).filter(|item| !item.is_empty());
            let items: Vec<_> = items.map(|item| quoted(&item)).collect();
            return is_harmless(value).then(|| format!("[{}]", items.join(", ")));
        }
        let core = marks::plain(value);
        if !is_harmless(&core) {
            return None;
        }
        Some(match core.to_lowercase().as_str() {
            "true" | "yes" | "on" => "true".to_owned(),
            "false" | "no" | "off" => "false".to_owned(),
            _ => quoted(&core),
        })
    }
}

/// Whether a value can be repeated: no second assignment on the line, no tab, nothing that looks like a token.
fn is_harmless(value: &str) -> bool {
    let plain = |c: char| !c.is_control() && !['=', '"', '@'].contains(&c);
    !value.is_empty() && value.chars().all(plain) && !marks::may_hold_secret(value)
}

/// The slip, and the suggestion for it.
fn slip(line: &Line<'_>, text: &str, number: usize, said: &str) -> (String, Option<String>) {
    if said.starts_with("duplicate key") {
        return (twice(line, text, number), None);
    }
    if let Some(slip) = foreign(line) {
        return slip;
    }
    if line.whole.starts_with('[') {
        return ("a section stands on a line of its own, written [name]".to_owned(), bracketed(line));
    }
    if let Some(mark) = marks::invisible_in(line.whole).filter(|_| !is_in_quotes(line.whole)) {
        let reason =
            format!("there is an invisible character, {mark}, as mails and web pages put it: type the line anew");
        return (reason, line.mended());
    }
    if line.key.is_some() {
        return (in_value(line, said), line.mended());
    }
    if let Some(known) = environment_name(line) {
        return known;
    }
    (said.lines().next().unwrap_or_default().to_owned(), None)
}

/// Other languages' habits.
fn foreign(line: &Line<'_>) -> Option<(String, Option<String>)> {
    let whole = line.whole;
    if whole.starts_with(';') || whole.starts_with("//") || whole.starts_with("--") {
        return Some(("a comment begins with #".to_owned(), None));
    }
    if whole.starts_with('{') || whole.starts_with('}') {
        let reason = "this looks like JSON; here a section is written [name], and below it stands key = \"value\"";
        return Some((reason.to_owned(), None));
    }
    if line.separator == Some(':') && line.value.is_empty() && spelling::is_section(&line.name, line.keys) {
        return Some(("a section is written in brackets".to_owned(), Some(format!("[{}]", line.name))));
    }
    None
}

/// `TWILIO_AUTH_TOKEN=…`, `export KOLBOX_…=…`.
fn environment_name(line: &Line<'_>) -> Option<(String, Option<String>)> {
    let name = line.name.strip_prefix("export ").unwrap_or(&line.name);
    let classic = [("TWILIO_ACCOUNT_SID", "twilio.account_sid"), ("TWILIO_AUTH_TOKEN", "twilio.auth_token")];
    let classic = classic.into_iter().chain([("PUBLIC_HOST", "public.host"), ("PORT", "public.listen")]);
    let meant = classic.into_iter().find(|(classic, _)| *classic == name).map(|(_, key)| key);
    let key = line.keys.iter().find(|key| Some(key.name) == meant || key.environment_name() == name)?;
    let (section, last) = key.name.rsplit_once('.')?;
    let reason = format!("{name} belongs into the environment; in this file it is {last} = \"...\" below [{section}]");
    Some((reason, None))
}

/// Where a section or key stands already.
fn twice(line: &Line<'_>, text: &str, number: usize) -> String {
    let earlier = |is_it: &dyn Fn(&str) -> bool| text.lines().take(number - 1).position(is_it).map(|index| index + 1);
    if line.whole.starts_with('[') {
        let found = earlier(&|other| header(other).is_some_and(|name| Some(name) == header(line.whole)));
        let first = found.map_or(String::new(), |found| format!(" in line {found}"));
        return format!("this section stands already{first}: put its keys together there");
    }
    let section = section_at(text, number);
    let mut other_section = None;
    let found = text.lines().take(number - 1).position(|other| {
        other_section = header(other).or(other_section);
        let is_same_name = || other.split_once('=').is_some_and(|(name, _)| name.trim() == line.name);
        other_section == section && is_same_name()
    });
    let first = found.map_or(String::new(), |index| format!(" in line {}", index + 1));
    format!("this is a duplicate key, it stands already{first}: keep one of the two")
}

fn header(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.split(']').next()
}

/// The section that a line stands in.
fn section_at(text: &str, number: usize) -> Option<&str> {
    text.lines().take(number).filter_map(header).last()
}

/// `[store` and `[store)`: the name alone, in brackets, if there is such a section.
fn bracketed(line: &Line<'_>) -> Option<String> {
    let inside: String = line.whole.trim_start_matches('[').chars().filter(|c| !is_invisible(*c)).collect();
    let name = inside.split(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).next().unwrap_or_default();
    spelling::is_section(name, line.keys).then(|| format!("[{name}]"))
}

/// What is wrong behind the name of a key that exists.
fn in_value(line: &Line<'_>, said: &str) -> String {
    let value = line.value;
    let opening = value.chars().next();
    let quotes = |quote: char| value.chars().filter(|c| *c == quote).count();
    match opening {
        _ if line.separator != Some('=') => "between key and value belongs =".to_owned(),
        None => "the value is missing; an empty one is written \"\"".to_owned(),
        Some(quote) if is_curly_quote(quote) => "the quotes must be the plain \"".to_owned(),
        Some('"') if quotes('"') % 2 == 1 && !value.starts_with("\"\"\"") => "the closing quote is missing".to_owned(),
        Some('\'') if quotes('\'') % 2 == 1 => "the closing quote is missing".to_owned(),
        Some('"') if said.contains("escape") => {
            "a \\ inside \"quotes\" begins an escape: write / in its place, or put the text in 'single quotes'"
                .to_owned()
        }
        Some('"' | '\'') if value.ends_with([';', ',']) => "nothing may follow the value".to_owned(),
        Some('[') => "a list is written [\"one\", \"two\"], on one line or with its bracket closed".to_owned(),
        Some('"' | '\'' | '{') => said.lines().next().unwrap_or_default().to_owned(),
        Some(_) if is_word(value) => "a yes or no is written true or false, in small letters".to_owned(),
        Some(_) => "text must stand in quotes".to_owned(),
    }
}

fn is_word(value: &str) -> bool {
    ["true", "false", "yes", "no", "on", "off"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Invisible characters inside a quoted value are TOML; its acceptance says more about them.
fn is_in_quotes(line: &str) -> bool {
    let outside = line.split('"').step_by(2);
    !outside.flat_map(str::chars).any(is_invisible)
}
