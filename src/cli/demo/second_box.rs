//! A box in a process of its own, so that it can be killed: the same program's `serve`, followed by its log.

use std::{
    env,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{sync::mpsc, time::timeout_at};

use super::box_log::News;

/// How long it may take until it answers calls.
const START_MAX: Duration = Duration::from_secs(30);
/// Lines of its log that may wait to be looked at.
const LINES_MAX: usize = 4096;
/// What the story is told from.
const FIELDS: [&str; 13] = [
    "event",
    "message",
    "public",
    "call_sid",
    "recording_sid",
    "with",
    "after_ms",
    "silent_ms",
    "reason",
    "outcome",
    "answer",
    "lamp",
    "pattern",
];

/// Where it finds what it needs.
#[derive(Debug, Clone)]
pub struct Site {
    pub configuration: PathBuf,
    pub log: PathBuf,
    /// What it says beside its log.
    pub said: PathBuf,
    /// The configuration but for `[public]`.
    pub settings: String,
}

/// A running box; dropped, it is killed.
#[derive(Debug)]
pub struct SecondBox {
    child: Child,
    lines: mpsc::Receiver<News>,
    /// Where it is told of.
    news: mpsc::Sender<News>,
    /// Where it serves Twilio.
    pub public: SocketAddr,
}

impl SecondBox {
    /// Starts it at this address (port 0: any), and returns once it answers calls.
    ///
    /// # Errors
    /// It cannot be started, or does not answer calls in time.
    pub async fn start(site: &Site, public: SocketAddr, news: mpsc::Sender<News>) -> io::Result<Self> {
        fs::write(&site.configuration, format!("[public]\nlisten = \"{public}\"\n{}", site.settings))?;
        let mut command = Command::new(env::current_exe()?);
        // Nothing of whoever shows the demo is to change what this box does.
        command.args(["serve", "--config"]).arg(&site.configuration).env_clear().stdin(Stdio::null());
        let append = |path| File::options().create(true).append(true).open(path);
        let (log, said) = (append(&site.log)?, append(&site.said)?);
        let mut child = command.stdout(Stdio::piped()).stderr(said).spawn()?;
        let (sender, lines) = mpsc::channel(LINES_MAX);
        if let Some(out) = child.stdout.take() {
            thread::spawn(move || read(out, log, &sender));
        }
        let mut started = Self { child, lines, news, public };
        let answers = |news: &News| news.field("message") == "calls are answered";
        let ready = started.wait_for(START_MAX, answers).await;
        let address = ready.and_then(|ready| ready.field("public").parse().ok());
        started.public = address.ok_or_else(|| io::Error::other("it does not answer calls"))?;
        Ok(started)
    }

    /// Waits for a line of the log; everything is told meanwhile. `None`: it did not come in time.
    pub async fn wait_for(&mut self, most: Duration, mut wanted: impl FnMut(&News) -> bool) -> Option<News> {
        let until = Instant::now() + most;
        while let Ok(Some(news)) = timeout_at(until.into(), self.lines.recv()).await {
            // Whoever does not listen any more misses the end of the story, and nothing else.
            let _ = self.news.try_send(news.clone());
            if wanted(&news) {
                return Some(news);
            }
        }
        None
    }

    /// Its process, by number.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing is brought to an end.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for SecondBox {
    fn drop(&mut self) {
        // One that is gone already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(out: ChildStdout, mut log: File, lines: &mpsc::Sender<News>) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let at = Instant::now();
        // A log that cannot be written is missed by whoever looks for a fault, and not by the story.
        let _ = writeln!(log, "{line}");
        if let Some(news) = news_of(&line, at) {
            let _ = lines.try_send(news);
        }
    }
}

/// A line of the log; `None`: it was cut off.
fn news_of(line: &str, at: Instant) -> Option<News> {
    let line: Value = serde_json::from_str(line).ok()?;
    let field = |name: &'static str| match line.get(name)? {
        Value::String(text) => Some((name, text.clone())),
        other => Some((name, other.to_string())),
    };
    Some(News::new(at, FIELDS.into_iter().filter_map(field).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_news_and_half_a_line_is_none() {
        let line = r#"{"timestamp":"x","level":"WARN","event":"WD_NO_MEDIA","silent_ms":6021,"reason":"no_media"}"#;
        let news = news_of(line, Instant::now()).unwrap();
        assert_eq!((news.field("event"), news.field("reason")), ("WD_NO_MEDIA", "no_media"));
        assert_eq!(news.millis("silent_ms"), Duration::from_millis(6021));
        assert_eq!(news.field("level"), "");
        assert!(news_of(&line[..40], Instant::now()).is_none());
    }
}
