//! Logging: one line an event on stdout as JSON or text, or entries of systemd's journal.

use std::{
    env,
    error::Error,
    fmt,
    io::{self, IsTerminal},
};

use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

use super::journal::Journal;
use crate::config::{Log, LogFormat};

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
    let targets: Targets = log.level.parse().map_err(|_| LogError::Level(log.level.clone()))?;
    let layer = match log.format {
        LogFormat::Json => json(io::stdout),
        LogFormat::Text => text(io::stdout, io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none()),
        LogFormat::Journald => Journal::open().map_err(LogError::Journal)?.boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init().map_err(LogError::Started)
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
    let layer = tracing_subscriber::fmt::layer().with_target(false);
    layer.with_ansi(colours).log_internal_errors(false).with_writer(writer).boxed()
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
            let targets: Targets = "info,kolbox::quiet=error".parse().unwrap();
            let layer = layer(lines.clone()).with_filter(targets);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
            let bytes = lines.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap()
        }
    }

    fn log_some() {
        tracing::info!(event = "REQ", method = %"POST", path = "/webhook/\n\u{1b}[31mx", status = 200);
        tracing::debug!("too quiet for this level");
        tracing::info!(target: "kolbox::quiet", "too quiet for its target");
        tracing::warn!("a plain message");
    }

    #[test]
    fn an_event_is_one_json_line_with_its_fields_on_the_top_level() {
        let written = Lines::of(|lines| json(move || lines.clone()), log_some);
        let lines: Vec<serde_json::Value> =
            written.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect();
        assert_eq!(lines.len(), 2, "{written}");
        assert_eq!(lines[0]["event"], "REQ");
        assert_eq!(lines[0]["method"], "POST");
        assert_eq!(lines[0]["path"], "/webhook/\n\u{1b}[31mx");
        assert_eq!(lines[0]["status"], 200);
        assert_eq!(lines[0]["level"], "INFO");
        assert!(lines[0]["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert_eq!(lines[1]["message"], "a plain message");
    }

    #[test]
    fn text_for_people_lets_no_escape_sequence_of_a_caller_reach_the_terminal() {
        let written = Lines::of(|lines| text(move || lines.clone(), false), log_some);
        assert_eq!(written.lines().count(), 2, "{written}");
        assert!(written.contains("event=\"REQ\"") && !written.contains('\u{1b}'), "{written}");
    }
}
