//! Logging: one line an event on stdout as JSON or text, or entries of systemd's journal.
//!
//! Lines come from kolbox itself. What libraries tell is passed on from `info` up, unless `log.level` names the library:
//! nobody here can promise what they print.

use std::{
    borrow::Cow,
    env,
    error::Error,
    ffi::OsStr,
    fmt,
    io::{self, IsTerminal},
};

use tracing::{field::Field, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    field::MakeExt,
    filter::Targets,
    fmt::{
        MakeWriter,
        format::{Writer, debug_fn},
    },
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

use super::journal::Journal;
use crate::{
    config::{Log, LogFormat},
    limits::LOGGED_TEXT_CHARS_MAX,
};

/// The beginning of this program's own targets.
const CRATE: &str = "kolbox";
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// Why nothing can be logged.
#[derive(Debug)]
pub enum LogError {
    /// `log.level` is no filter.
    Level(String),
    /// `log.format = "journald"`, and there is no journal.
    Journal(io::Error),
    /// Logging was started before.
    Started(TryInitError),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(level) => write!(f, "log.level: {level:?} is no level"),
            Self::Journal(_) => write!(f, "log.format is \"journald\", but the journal cannot be reached"),
            Self::Started(_) => write!(f, "logging was started twice"),
        }
    }
}

impl Error for LogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Level(_) => None,
            Self::Journal(error) => Some(error),
            Self::Started(error) => Some(error),
        }
    }
}

/// Starts logging, for the whole program and once.
///
/// # Errors
/// [`LogError`] by cause.
pub fn start(log: &Log) -> Result<(), LogError> {
    let targets = targets(&log.level).ok_or_else(|| LogError::Level(log.level.clone()))?;
    let layer = match log.format {
        LogFormat::Json => json(io::stdout),
        LogFormat::Text => text(io::stdout, colours(io::stdout().is_terminal(), env::var_os("NO_COLOR").as_deref())),
        LogFormat::Journald => Journal::open().map_err(LogError::Journal)?.boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init().map_err(LogError::Started)
}

/// Who may speak, from which level on.
fn targets(level: &str) -> Option<Targets> {
    let targets: Targets = level.parse().ok()?;
    let Some(default) = targets.default_level() else { return Some(targets) };
    let named = targets.iter().any(|(target, _)| target == CRATE);
    let targets = targets.with_default(default.min(LevelFilter::INFO));
    Some(if named { targets } else { targets.with_target(CRATE, default) })
}

/// On a terminal, unless the environment asks for none (<https://no-color.org>).
fn colours(terminal: bool, no_color: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty)
}

/// One object a line; the fields of an event (`event`, `call_sid`, ...) stand on its top level, beside `timestamp`,
/// `level` and `target`.
pub fn json<W>(writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
    layer.with_current_span(false).with_span_list(false).log_internal_errors(false).with_writer(writer).boxed()
}

/// A line for people.
fn text<W>(writer: W, colours: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_target(false).fmt_fields(debug_fn(field).delimited(" "));
    layer.with_ansi(colours).log_internal_errors(false).with_writer(writer).boxed()
}

/// One field of a line for people.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = printable(&value);
    match field.name() {
        "message" => writer.write_str(&value),
        name if writer.has_ansi_escapes() => write!(writer, "{DIM}{name}={DIM:#}{value}"),
        name => write!(writer, "{name}={value}"),
    }
}

/// A text in which nothing ends the line, moves the cursor or turns the direction of writing: what strangers wrote may be
/// in it.
pub fn printable(text: &str) -> Cow<'_, str> {
    let acts = |character: char| {
        character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(acts) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if acts(character) { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown.into()
}

/// The start of what a peer wrote: so much of it as a line takes.
pub fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(LOGGED_TEXT_CHARS_MAX).map_or(text.len(), |(index, _)| index);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn of(layer: impl FnOnce(Self) -> Box<dyn Layer<Registry> + Send + Sync>, log: impl FnOnce()) -> String {
            let lines = Self::default();
            let targets = targets("info,kolbox::quiet=error").unwrap();
            let layer = layer(lines.clone()).with_filter(targets);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
            let bytes = lines.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap()
        }
    }

    fn log_some() {
        tracing::info!(event = "REQ", method = %"POST", path = "/webhook/\n\u{1b}[31mx", status = 200);
        tracing::info!(error = %"one\r\nRES\u{1b}]0;x\u{7}\u{9b}2J\u{202e}ltr", "שלום {}", "a\nb");
        tracing::debug!("too quiet for this level");
        tracing::info!(target: "kolbox::quiet", "too quiet for its target");
        tracing::warn!("a plain message");
    }

    #[test]
    fn an_event_is_one_json_line_with_its_fields_on_the_top_level() {
        let written = Lines::of(|lines| json(move || lines.clone()), log_some);
        let lines: Vec<serde_json::Value> =
            written.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect();
        assert_eq!(lines.len(), 3, "{written}");
        assert_eq!(lines[0]["event"], "REQ");
        assert_eq!(lines[0]["method"], "POST");
        assert_eq!(lines[0]["path"], "/webhook/\n\u{1b}[31mx");
        assert_eq!(lines[0]["status"], 200);
        assert_eq!(lines[0]["level"], "INFO");
        assert!(lines[0]["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert_eq!(lines[1]["message"], "שלום a\nb");
        assert_eq!(lines[2]["message"], "a plain message");
    }

    #[test]
    fn text_for_people_lets_no_escape_sequence_of_a_caller_reach_the_terminal() {
        let written = Lines::of(|lines| text(move || lines.clone(), false), log_some);
        assert_eq!(written.lines().count(), 3, "{written}");
        assert!(!written.trim_end().replace('\n', "").contains(char::is_control), "{written:?}");
        for part in [
            r#"event="REQ" method=POST path="/webhook/\n\u{1b}[31mx" status=200"#,
            r"שלום a\nb error=one\r\nRES\u{1b}]0;x\u{7}\u{9b}2J\u{202e}ltr",
        ] {
            assert!(written.contains(part), "{part}: {written}");
        }
    }

    #[test]
    fn colours_are_for_terminals_and_for_those_who_want_them() {
        let coloured = Lines::of(|lines| text(move || lines.clone(), true), log_some);
        assert!(
            coloured.contains("\u{1b}[2mevent=\u{1b}[0m\"REQ\"") && !coloured.contains("\u{1b}[31mx"),
            "{coloured:?}"
        );
        assert!(colours(true, None) && colours(true, Some(OsStr::new(""))));
        assert!(!colours(false, None) && !colours(true, Some(OsStr::new("1"))));
    }

    #[test]
    fn libraries_tell_their_secrets_only_when_they_are_named() {
        let lets = |level: &str, target: &str, of: tracing::Level| targets(level).unwrap().would_enable(target, &of);
        for level in ["debug", "trace", "trace,kolbox::quiet=error"] {
            assert!(lets(level, "kolbox::server::router", tracing::Level::DEBUG), "{level}");
            assert!(lets(level, "hyper_util::client", tracing::Level::INFO), "{level}");
            assert!(!lets(level, "hyper_util::client", tracing::Level::DEBUG), "{level}");
        }
        assert!(lets("info,hyper_util=trace", "hyper_util::client", tracing::Level::TRACE));
        assert!(!lets("trace,kolbox=warn", "kolbox::server", tracing::Level::INFO));
        assert!(!lets("warn", "hyper_util::client", tracing::Level::INFO));
    }
}
