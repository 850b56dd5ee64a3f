//! Entries of systemd's journal, in its native protocol, so that `journalctl EVENT=WD_NO_MEDIA` finds them.
//!
//! `journalctl` passes over entries without a `MESSAGE`, and the box's events are fields without a message: here each
//! entry gets one that is made of its fields. <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>

use std::{
    fmt::{self, Write},
    io,
    os::unix::net::UnixDatagram,
    path::Path,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::log::printable;

const SOCKET: &str = "/run/systemd/journal/socket";
/// Longest value of a field, in bytes: an entry must fit into one datagram.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// Connects to the journal of this machine.
    ///
    /// # Errors
    /// There is none.
    pub fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A full journal must not hold up a call: what does not fit is lost.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        entry.put("PRIORITY", priority(event.metadata().level()));
        entry.put("SYSLOG_IDENTIFIER", "kolbox");
        entry.put("TARGET", event.metadata().target());
        event.record(&mut entry);
        // There is nobody left to tell when this fails.
        let _ = self.socket.send(&entry.finish());
    }
}

/// syslog's severities: err, warning, info, debug.
fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

#[derive(Default)]
struct Entry {
    bytes: Vec<u8>,
    /// What `journalctl` shows: the event's name or message first, then its other fields.
    message: String,
}

impl Entry {
    fn put(&mut self, name: &str, value: &str) {
        let value = cut(value, VALUE_BYTES_MAX);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }

    fn add(&mut self, name: &str, value: &str) {
        let space = if self.message.is_empty() { "" } else { " " };
        // Writing into a string cannot fail.
        let _ = match name {
            "message" | "event" => write!(self.message, "{space}{value}"),
            name => write!(self.message, "{space}{name}={value}"),
        };
        if name != "message" {
            self.put(&name.replace('.', "_").to_ascii_uppercase(), value);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        // `journalctl` shows a message with control characters as a blob, and one with line ends as several lines.
        let message = std::mem::take(&mut self.message);
        self.put("MESSAGE", &printable(&message));
        self.bytes
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format!("{value:?}"));
    }
}

/// So much of a text as fits, cut between characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The fields of one entry, as the journal reads them.
    fn parse(mut bytes: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let (length, rest) = bytes[end + 1..].split_first_chunk::<8>().unwrap();
            let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
            fields.push((name, String::from_utf8(value.to_vec()).unwrap()));
            bytes = rest.strip_prefix(b"\n").unwrap();
        }
        assert!(bytes.is_empty());
        fields
    }

    #[test]
    fn an_event_without_a_message_is_shown_by_journalctl_and_found_by_its_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal::at(&path).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(event = "WD_NO_MEDIA", call_sid = %"CA1", text = "two\nlines", long = "א".repeat(3_000));
        });
        let mut bytes = vec![0; 64 * 1024];
        let length = journal.recv(&mut bytes).unwrap();
        let fields = parse(&bytes[..length]);
        let value = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
        assert_eq!(value("EVENT"), Some("WD_NO_MEDIA"));
        assert_eq!(value("PRIORITY"), Some("4"));
        assert_eq!(value("CALL_SID"), Some("CA1"));
        assert_eq!(value("TEXT"), Some("two\nlines"));
        assert!(value("LONG").unwrap().len() <= VALUE_BYTES_MAX);
        assert!(value("MESSAGE").unwrap().starts_with("WD_NO_MEDIA call_sid=CA1 text=two\\nlines"));
    }
}
