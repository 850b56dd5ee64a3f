//! The box's log during the demo: written to a file, and followed so that the story can be told from it.

use std::{
    fmt,
    fs::File,
    io,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::LevelFilter,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::{system::log, twilio::sid::CallSid};

/// Lines that may wait to be told; beyond it the story has a gap, and the file has not.
const NEWS_MAX: usize = 4096;

/// One line of the log.
#[derive(Debug, Clone)]
pub struct News {
    pub at: Instant,
    fields: Vec<(&'static str, String)>,
}

impl News {
    /// A line with these fields.
    pub fn new(at: Instant, fields: Vec<(&'static str, String)>) -> Self {
        Self { at, fields }
    }

    /// A field's value; empty if the line does not have it.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// Whose call it is about.
    pub fn call_sid(&self) -> Option<CallSid> {
        self.field("call_sid").parse().ok()
    }

    /// A length of time; zero if the line does not have it.
    pub fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.field(name).parse().unwrap_or(0))
    }
}

/// Logs to a new file from here on, for the whole program; others may add their news to it.
///
/// # Errors
/// The file cannot be made, or something logs already.
pub fn follow(file: &Path) -> io::Result<(mpsc::Sender<News>, mpsc::Receiver<News>)> {
    let (sender, news) = mpsc::channel(NEWS_MAX);
    let file = log::json(Mutex::new(File::create_new(file)?));
    tracing_subscriber::registry()
        .with(file.with_filter(LevelFilter::INFO))
        .with(Follower { sender: sender.clone() })
        .try_init()
        .map_err(io::Error::other)?;
    Ok((sender, news))
}

struct Follower {
    sender: mpsc::Sender<News>,
}

impl<S: Subscriber> Layer<S> for Follower {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::INFO || !event.metadata().target().starts_with("kolbox") {
            return;
        }
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        let _ = self.sender.try_send(News::new(Instant::now(), fields.0));
    }
}

struct Fields(Vec<(&'static str, String)>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}
