//! What is wrong with a configuration: every mistake with its place, its value and what would be accepted.

use std::{
    error::Error,
    fmt::{self, Write},
};

/// A configuration that cannot be used. It names all of its mistakes, since nobody likes to restart once for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Never empty; files that cannot be read first, then the file's lines in order, then the other layers.
    pub mistakes: Vec<Mistake>,
}

impl ConfigError {
    pub(super) fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| mistake.place.order());
        Self { mistakes }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub place: Place,
    /// As it was written, shortened; `None` for a secret, and where there is no value to show.
    pub value: Option<String>,
    /// What is wrong, what is accepted, and where it can be guessed what to type instead.
    pub remedy: String,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, with the key if one could be read.
    File { path: String, line: usize, key: Option<String> },
    /// An environment variable.
    Environment { name: String },
    /// A file of that name in `$CREDENTIALS_DIRECTORY`.
    Credential { name: String },
    /// Nowhere: the key was left at its default. The file is the one in which it could stand.
    Default { key: String, file: Option<String> },
    /// A file or directory that could not be read at all.
    Unreadable { path: String },
}

impl Place {
    fn order(&self) -> (u8, usize) {
        match self {
            Self::Unreadable { .. } => (0, 0),
            Self::File { line, .. } => (1, *line),
            Self::Default { .. } => (2, 0),
            Self::Credential { .. } => (3, 0),
            Self::Environment { .. } => (4, 0),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => write!(f, "the configuration cannot be used:")?,
            count => write!(f, "the configuration cannot be used, for {count} mistakes:")?,
        }
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl Error for ConfigError {}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if let Some(value) = &self.value {
            write!(f, " = {}", OneLine(value))?;
        }
        write!(f, ": {}", OneLine(&self.remedy))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, key: Some(key) } => write!(f, "{path}:{line}: {}", OneLine(key)),
            Self::File { path, line, key: None } => write!(f, "{path}:{line}"),
            Self::Environment { name } => write!(f, "{} (environment)", OneLine(name)),
            Self::Credential { name } => write!(f, "{name} (credential)"),
            Self::Default { key, file: Some(path) } => write!(f, "{path}: {key} (not set)"),
            Self::Default { key, file: None } => write!(f, "{key} (not set)"),
            Self::Unreadable { path } => f.write_str(path),
        }
    }
}

/// What somebody wrote: TOML's quoted keys, a number that is none and the environment's names can hold line breaks and
/// worse.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_line_breaks_and_terminal_codes_stays_on_its_line() {
        let name = "KOLBOX_\u{1b}[2J\nשם".to_owned();
        let in_file = Place::File { path: "kolbox.toml".into(), line: 3, key: Some(name.clone()) };
        assert_eq!(in_file.to_string(), "kolbox.toml:3: KOLBOX_\\u{1b}[2J\\nשם");
        assert_eq!(Place::Environment { name }.to_string(), "KOLBOX_\\u{1b}[2J\\nשם (environment)");
        let value = Some("8\u{1}".to_owned());
        let mistake = Mistake { place: in_file, value, remedy: "not \u{12}".into() };
        assert!(mistake.to_string().ends_with(" = 8\\u{1}: not \\u{12}"), "{mistake}");
    }
}
