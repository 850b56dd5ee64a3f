//! Which lamp is lit when: a pure function of the box's state over time.
//!
//! | lamp | off | steady | slow blink | fast blink |
//! | --- | --- | --- | --- | --- |
//! | STREAM | no caller is heard live | at least one is | | |
//! | FALLBACK | nobody is in the recorder | | a call is on its way to it, or in it | something needs a person |
//! | INBOX | all transcripts were delivered | some wait | some wait and nothing moves them | |
//!
//! POWER is never steady while the box lives: a double blink every two seconds. A box that died keeps its last
//! level for ever, and only a lamp that must move shows that. While the box finishes its last calls before a stop,
//! POWER blinks slowly.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A lamp by what it says; where it is wired is the board file's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Lamp {
    Stream,
    Fallback,
    Power,
    Inbox,
}

impl Lamp {
    /// All of them, in the order in which they stand on the board and on the page.
    pub const ALL: [Lamp; 4] = [Lamp::Power, Lamp::Stream, Lamp::Fallback, Lamp::Inbox];

    /// The name in board files, in the log and in `/api/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "STREAM",
            Self::Fallback => "FALLBACK",
            Self::Power => "POWER",
            Self::Inbox => "INBOX",
        }
    }
}

/// How a lamp behaves over time. Blinking begins lit, so that a change is seen at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    Off,
    Steady,
    /// One second lit, one second dark.
    SlowBlink,
    /// Four times a second.
    FastBlink,
    /// Two short flashes every two seconds.
    Heartbeat,
}

impl Pattern {
    /// The word in the log and in `/api/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Steady => "steady",
            Self::SlowBlink => "slow_blink",
            Self::FastBlink => "fast_blink",
            Self::Heartbeat => "heartbeat",
        }
    }

    /// Milliseconds lit, dark, lit, dark … of one round; empty for a pattern that stands still.
    fn round(self) -> &'static [u64] {
        match self {
            Self::Off | Self::Steady => &[],
            Self::SlowBlink => &[1000, 1000],
            Self::FastBlink => &[125, 125],
            Self::Heartbeat => &[80, 160, 80, 1680],
        }
    }

    /// Lit or not this long after the pattern began, and for how long it stays so (`None`: for good).
    fn level(self, elapsed: Duration) -> (bool, Option<Duration>) {
        let round: u64 = self.round().iter().sum();
        let Some(nanos) = elapsed.as_nanos().checked_rem(Duration::from_millis(round).as_nanos()) else {
            return (self == Self::Steady, None);
        };
        let mut rest = Duration::from_nanos(nanos as u64); // a round is seconds: it fits
        let mut lit = true;
        for lasts in self.round().iter().copied().map(Duration::from_millis) {
            if rest < lasts {
                return (lit, Some(lasts - rest));
            }
            rest -= lasts;
            lit = !lit;
        }
        (false, None)
    }
}

/// All that the lamps depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inputs {
    /// Calls whose caller is heard live.
    pub streaming: usize,
    /// Calls on their way to the recorder, or in it.
    pub fallback: usize,
    /// Transcripts that the office's system has not acknowledged, parked ones included.
    pub waiting: u64,
    /// Waiting transcripts do not move by themselves as they should: one is parked, or sending fails.
    pub stuck: bool,
    /// Something needs a person.
    pub trouble: bool,
    /// The box takes no new streams and stops soon.
    pub draining: bool,
}

impl Inputs {
    fn pattern(&self, lamp: Lamp) -> Pattern {
        match lamp {
            Lamp::Stream if self.streaming > 0 => Pattern::Steady,
            Lamp::Fallback if self.trouble => Pattern::FastBlink,
            Lamp::Fallback if self.fallback > 0 => Pattern::SlowBlink,
            Lamp::Inbox if self.waiting > 0 && self.stuck => Pattern::SlowBlink,
            Lamp::Inbox if self.waiting > 0 => Pattern::Steady,
            Lamp::Power if self.draining => Pattern::SlowBlink,
            Lamp::Power => Pattern::Heartbeat,
            Lamp::Stream | Lamp::Fallback | Lamp::Inbox => Pattern::Off,
        }
    }
}

/// Set this lamp now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetLamp {
    pub lamp: Lamp,
    pub on: bool,
    pub pattern: Pattern,
    /// The pattern itself is new, which is worth a line in the log; else it is only the next edge of a blink.
    pub pattern_changed: bool,
}

/// A lamp as the status page shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LampView {
    pub lamp: Lamp,
    pub on: bool,
    pub pattern: Pattern,
}

/// Every lamp, in the order of [`Lamp::ALL`].
pub type LampsView = [LampView; Lamp::ALL.len()];

/// The machine: inputs and time go in, changes of lamps come out. It holds no queue: a change that nobody fetched is
/// replaced by the next one.
#[derive(Debug, Clone)]
pub struct Lamps {
    lights: [Light; Lamp::ALL.len()],
}

#[derive(Debug, Clone, Copy)]
struct Light {
    now: LampView,
    began: Instant,
    edge: Option<Instant>,
    told: Option<LampView>,
}

impl Lamps {
    /// A box that has just come up and has nothing to do. Every lamp is told once.
    pub fn new(now: Instant) -> Self {
        Self { lights: Lamp::ALL.map(|lamp| Light::new(lamp, Inputs::default().pattern(lamp), now)) }
    }

    /// The box's state is (still, or from now on) this.
    pub fn handle_inputs(&mut self, inputs: Inputs, now: Instant) {
        for light in &mut self.lights {
            let pattern = inputs.pattern(light.now.lamp);
            if pattern != light.now.pattern {
                light.now.pattern = pattern;
                light.began = now;
            }
            light.advance(now);
        }
    }

    /// Time passed. Edges that were missed are skipped, not made up for.
    pub fn handle_timeout(&mut self, now: Instant) {
        for light in &mut self.lights {
            light.advance(now);
        }
    }

    /// When a blinking lamp has its next edge.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.lights.iter().filter_map(|light| light.edge).min().map(|at| (at, "lamp edge"))
    }

    /// A lamp that differs from what was last told of it.
    pub fn poll_output(&mut self) -> Option<SetLamp> {
        let light = self.lights.iter_mut().find(|light| light.told != Some(light.now))?;
        // A lamp that begins dark has not changed: it was dark before the box woke.
        let before = light.told.map_or(Pattern::Off, |told| told.pattern);
        light.told = Some(light.now);
        let LampView { lamp, on, pattern } = light.now;
        Some(SetLamp { lamp, on, pattern, pattern_changed: pattern != before })
    }

    /// What each lamp shows now.
    pub fn view(&self) -> LampsView {
        self.lights.map(|light| light.now)
    }
}

impl Light {
    fn new(lamp: Lamp, pattern: Pattern, now: Instant) -> Self {
        let mut light = Self { now: LampView { lamp, on: false, pattern }, began: now, edge: None, told: None };
        light.advance(now);
        light
    }

    fn advance(&mut self, now: Instant) {
        let (on, lasts) = self.now.pattern.level(now.saturating_duration_since(self.began));
        self.now.on = on;
        self.edge = lasts.map(|lasts| now + lasts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Inputs =
        Inputs { streaming: 0, fallback: 0, waiting: 0, stuck: false, trouble: false, draining: false };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn outputs(lamps: &mut Lamps) -> Vec<SetLamp> {
        std::iter::from_fn(|| lamps.poll_output()).collect()
    }

    /// Follows the machine by its own time-outs and notes the edges of one lamp, in ms since `from`.
    fn edges(lamps: &mut Lamps, lamp: Lamp, from: Instant, until: Duration) -> Vec<(u64, bool)> {
        let mut edges = Vec::new();
        let mut now = from;
        loop {
            for output in outputs(lamps).into_iter().filter(|output| output.lamp == lamp) {
                edges.push(((now - from).as_millis() as u64, output.on));
            }
            match lamps.poll_timeout() {
                Some((at, _)) if at <= from + until => now = at,
                _ => return edges,
            }
            lamps.handle_timeout(now);
        }
    }

    fn view_of(lamps: &Lamps, lamp: Lamp) -> (bool, Pattern) {
        let view = lamps.view().into_iter().find(|view| view.lamp == lamp).unwrap();
        (view.on, view.pattern)
    }

    #[test]
    fn every_lamp_is_told_at_the_start_and_only_power_is_news() {
        let mut lamps = Lamps::new(Instant::now());
        let told = outputs(&mut lamps);
        assert_eq!(told.len(), Lamp::ALL.len());
        for output in told {
            assert_eq!(output.pattern_changed, output.lamp == Lamp::Power, "{output:?}");
            assert_eq!(output.on, output.lamp == Lamp::Power);
        }
    }

    #[test]
    fn power_beats_twice_in_two_seconds_for_as_long_as_the_box_lives() {
        let start = Instant::now();
        let mut lamps = Lamps::new(start);
        let beat = [(0, true), (80, false), (240, true), (320, false), (2000, true), (2080, false), (2240, true)];
        assert_eq!(edges(&mut lamps, Lamp::Power, start, ms(2300)), beat);
    }

    #[test]
    fn stream_is_steady_while_anyone_is_heard_and_a_second_caller_is_no_news() {
        let start = Instant::now();
        let mut lamps = Lamps::new(start);
        outputs(&mut lamps);
        lamps.handle_inputs(Inputs { streaming: 1, ..CALM }, start);
        let lit = SetLamp { lamp: Lamp::Stream, on: true, pattern: Pattern::Steady, pattern_changed: true };
        assert_eq!(outputs(&mut lamps), [lit]);
        lamps.handle_inputs(Inputs { streaming: 2, ..CALM }, start);
        assert_eq!(outputs(&mut lamps), []);
        lamps.handle_inputs(CALM, start);
        let dark = SetLamp { lamp: Lamp::Stream, on: false, pattern: Pattern::Off, pattern_changed: true };
        assert_eq!(outputs(&mut lamps), [dark]);
    }

    #[test]
    fn fallback_blinks_slowly_from_the_moment_a_call_goes_to_the_recorder() {
        let start = Instant::now();
        let mut lamps = Lamps::new(start);
        outputs(&mut lamps);
        let from = start + ms(333);
        lamps.handle_inputs(Inputs { fallback: 1, ..CALM }, from);
        let blink = [(0, true), (1000, false), (2000, true), (3000, false)];
        assert_eq!(edges(&mut lamps, Lamp::Fallback, from, ms(3500)), blink);
    }

    #[test]
    fn trouble_outshines_a_call_in_the_recorder_and_is_news_even_while_the_lamp_is_lit() {
        let start = Instant::now();
        let mut lamps = Lamps::new(start);
        lamps.handle_inputs(Inputs { fallback: 1, ..CALM }, start);
        outputs(&mut lamps);
        lamps.handle_inputs(Inputs { fallback: 1, trouble: true, ..CALM }, start);
        let news = SetLamp { lamp: Lamp::Fallback, on: true, pattern: Pattern::FastBlink, pattern_changed: true };
        assert_eq!(outputs(&mut lamps), [news]);
        let quarter = [(125, false), (250, true), (375, false), (500, true)];
        assert_eq!(edges(&mut lamps, Lamp::Fallback, start, ms(500)), quarter);
    }

    #[test]
    fn the_edges_of_a_blink_are_no_news() {
        let start = Instant::now();
        let mut lamps = Lamps::new(start);
        outputs(&mut lamps);
        lamps.handle_timeout(start + ms(80));
        let edge = SetLamp { lamp: Lamp::Power, on: false, pattern: Pattern::Heartbeat, pattern_changed: false };
        assert_eq!(outputs(&mut lamps), [edge]);
    }

    #[test]
    fn inbox_is_steady_while_transcripts_wait_and_blinks_when_nothing_moves_them() {
        let start = Instant::now();
        let mut lamps = Lamps::new(start);
        lamps.handle_inputs(Inputs { waiting: 3, ..CALM }, start);
        assert_eq!(view_of(&lamps, Lamp::Inbox), (true, Pattern::Steady));
        lamps.handle_inputs(Inputs { waiting: 3, stuck: true, ..CALM }, start);
        assert_eq!(view_of(&lamps, Lamp::Inbox), (true, Pattern::SlowBlink));
        lamps.handle_inputs(Inputs { waiting: 0, stuck: true, ..CALM }, start);
        assert_eq!(view_of(&lamps, Lamp::Inbox), (false, Pattern::Off));
    }

    #[test]
    fn a_box_that_stops_soon_beats_no_more() {
        let start = Instant::now();
        let mut lamps = Lamps::new(start);
        lamps.handle_inputs(Inputs { draining: true, ..CALM }, start);
        assert_eq!(view_of(&lamps, Lamp::Power), (true, Pattern::SlowBlink));
    }

    #[test]
    fn a_late_wake_up_shows_the_present_and_makes_no_burst() {
        let start = Instant::now();
        let mut lamps = Lamps::new(start);
        outputs(&mut lamps);
        let late = start + Duration::from_secs(86_400) + ms(250); // within the second flash
        lamps.handle_timeout(late);
        assert_eq!(outputs(&mut lamps), []);
        assert_eq!(view_of(&lamps, Lamp::Power), (true, Pattern::Heartbeat));
        assert_eq!(lamps.poll_timeout(), Some((late + ms(70), "lamp edge")));
    }

    #[test]
    fn the_same_state_again_never_restarts_a_blink() {
        let start = Instant::now();
        let mut lamps = Lamps::new(start);
        lamps.handle_inputs(Inputs { fallback: 1, ..CALM }, start);
        lamps.handle_inputs(Inputs { fallback: 2, ..CALM }, start + ms(1500));
        assert_eq!(view_of(&lamps, Lamp::Fallback), (false, Pattern::SlowBlink));
    }
}
