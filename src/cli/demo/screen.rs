//! Writes the story: lines with their seconds, and below them on a terminal a line that lives, with the lamps.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use super::tale::{Sentence, Who};
use crate::{
    board::lamps::{Lamp, LampView, Pattern},
    status::snapshot::Snapshot,
};

pub const BOLD: Style = Style::new().bold();
pub const FAINT: Style = Style::new().dimmed();
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
pub const BAD: Style = AnsiColor::Red.on_default().bold();

/// A line that is too long for a narrow terminal is cut, so that it can be drawn over.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";
const CLEAR_LINE: &str = "\r\x1b[K";

/// How often the living line is drawn anew: half a period of a lamp that blinks fast.
pub const DRAW_EVERY: Duration = Duration::from_millis(125);
/// Where there is no living line, a sign of life stands in the story after this long without one.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// Standard output, in colours where it is a terminal that has them.
#[derive(Debug)]
pub struct Screen {
    out: AutoStream<io::Stdout>,
    began: Instant,
    told_at: Instant,
    /// Whether lines can be drawn over.
    lives: bool,
    is_drawn: bool,
}

impl Screen {
    /// The story begins now.
    pub fn new(now: Instant) -> Self {
        let out = anstream::stdout();
        // What takes no colours (NO_COLOR, a dumb terminal) takes no line that is drawn over, either.
        let lives = out.is_terminal() && out.current_choice() != ColorChoice::Never;
        Self { out, began: now, told_at: now, lives, is_drawn: false }
    }

    /// Writes text as it is.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.clear()?;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes a line of the story.
    pub fn tell(&mut self, sentence: &Sentence) -> io::Result<()> {
        self.told_at = sentence.at.max(self.told_at);
        let (name, text) = (sentence.who.name(), &sentence.text);
        let (who, what) = (colour(sentence.who), if sentence.is_bad { BAD } else { Style::new() });
        let line = format!("{}{who}{name:<7}{who:#} {what}{text}{what:#}\n", self.seconds(sentence.at));
        self.write(&line)
    }

    /// Shows that time passes: the lamps and the calls of this moment.
    pub fn draw(&mut self, now: Instant, seen: &Snapshot) -> io::Result<()> {
        let state = format!("{FAINT}{} calls, {} waiting{FAINT:#}", seen.calls.len(), seen.transcripts.unsynced);
        let seconds = self.seconds(now);
        if !self.lives {
            if now.saturating_duration_since(self.told_at) < QUIET_MAX {
                return Ok(());
            }
            self.told_at = now;
            return self.write(&format!("{seconds}...     {state}\n"));
        }
        let elapsed = now.saturating_duration_since(self.began);
        let lamps: String = seen.lamps.iter().map(|lamp| draw_lamp(lamp, elapsed)).collect();
        self.clear()?;
        write!(self.out, "{NO_WRAP}{seconds}{lamps} {state}{WRAP}")?;
        self.is_drawn = true;
        self.out.flush()
    }

    fn clear(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_drawn) {
            self.out.write_all(CLEAR_LINE.as_bytes())?;
        }
        Ok(())
    }

    fn seconds(&self, at: Instant) -> String {
        format!("{FAINT}{:>6.1} s{FAINT:#}  ", at.saturating_duration_since(self.began).as_secs_f64())
    }
}

fn colour(who: Who) -> Style {
    match who {
        Who::Caller(_) | Who::Crowd => AnsiColor::Cyan.on_default(),
        Who::Box => AnsiColor::Green.on_default(),
        Who::Lamps => AnsiColor::Yellow.on_default(),
        Who::Office => AnsiColor::Magenta.on_default(),
    }
}

fn draw_lamp(lamp: &LampView, elapsed: Duration) -> String {
    let millis = elapsed.as_millis();
    let is_lit = match lamp.pattern {
        Pattern::Off => false,
        Pattern::Steady => true,
        Pattern::SlowBlink => millis % 2000 < 1000,
        Pattern::FastBlink => millis % 250 < 125,
        // Two short flashes, as long as the line takes to be drawn anew.
        Pattern::Heartbeat => matches!(millis % 2000, 0..125 | 250..375),
    };
    let style = match lamp.lamp {
        _ if !is_lit => FAINT,
        Lamp::Fallback => AnsiColor::Red.on_default().bold(),
        Lamp::Inbox => AnsiColor::Yellow.on_default().bold(),
        Lamp::Power | Lamp::Stream => GOOD,
    };
    let sign = if is_lit { '●' } else { '○' };
    format!("{style}{sign} {}{style:#}  ", lamp.lamp.as_str())
}
