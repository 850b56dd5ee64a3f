//! The engine's work, shared out, in virtual time: calls of every length, followed from their begin, over an engine that is
//! killed, paused, talks nonsense, is busy or never answers, and a box that dies. Every utterance gets its text, once and
//! in its place.
//!
//! `KOLBOX_SEEDS=100000 cargo test --release --locked --test simulation_speech` for the long form; `KOLBOX_SEED=17` for
//! one seed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use fastrand::Rng;
use kolbox::{
    limits::{UTTERANCE_FAILURES_MAX, UTTERANCES_IN_A_ROW_MAX},
    speech::{
        recognizer::RecognizerError,
        transcription::{Output, Transcription},
    },
    twilio::sid::CallSid,
};

const SEEDS: u64 = 200;
const SECOND: Duration = Duration::from_secs(1);
/// What an utterance's question is given.
const PATIENCE: Duration = Duration::from_secs(130);
/// After it the engine is well, and the box lives on.
const CALM: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Well,
    /// It is not there.
    Away,
    /// It takes a question and says nothing.
    Silent,
    Nonsense,
    /// It does what it can, and refuses the rest.
    Overrun,
    /// It dies with every other question, and is back at once.
    Unsteady,
}

/// A call, as the box finds it on its disk.
#[derive(Debug)]
struct Call {
    began: Instant,
    utterances: usize,
    /// The engine dies of this one.
    poison: Option<usize>,
    /// Its utterances are complete one after the other, in equal steps from its begin to its end.
    ended: Instant,
    /// Its text, once it is told: `true` for each utterance that has one.
    told: Option<Vec<bool>>,
}

struct World {
    rng: Rng,
    now: Instant,
    began: Instant,
    weather: Vec<(Duration, Weather)>,
    crashes: Vec<Duration>,
    calls: BTreeMap<CallSid, Call>,
    machine: Transcription,
    /// What this life of the box has heard of the calls that are not told.
    heard: BTreeMap<CallSid, Vec<bool>>,
    /// Whose end this life of the box knows.
    wanted: BTreeSet<CallSid>,
    /// Questions about calls that went on.
    live: usize,
    /// The question that is with the engine, whose it is, and what it comes to.
    out: Option<(Instant, Option<CallSid>, Result<(), RecognizerError>)>,
    steps: usize,
}

impl Call {
    /// How many utterances are complete by then.
    fn complete(&self, now: Instant) -> usize {
        let lasted = now.min(self.ended).saturating_duration_since(self.began);
        (self.utterances as f64 * lasted.div_duration_f64(self.ended - self.began)) as usize
    }
}

impl World {
    fn new(seed: u64, began: Instant) -> Self {
        use Weather::{Away, Nonsense, Overrun, Silent, Unsteady, Well};
        let mut rng = Rng::with_seed(seed);
        let mut at = Duration::ZERO;
        let mut weather = Vec::new();
        while at < CALM {
            weather.push((at, rng.choice([Well, Well, Away, Silent, Nonsense, Overrun, Unsteady]).unwrap_or(Well)));
            at += Duration::from_secs(rng.u64(5..900));
        }
        weather.push((CALM, Well));
        let mut crashes: Vec<_> = (0..rng.usize(0..4)).map(|_| SECOND * rng.u32(1..3_600)).collect();
        crashes.sort_unstable();
        let calls = (1..=rng.u128(1..20)).map(|number| {
            let utterances = if rng.u8(0..8) == 0 { rng.usize(20..80) } else { rng.usize(0..8) };
            let poison = (rng.u8(0..10) == 0 && utterances > 0).then(|| rng.usize(0..utterances));
            let call_began = began + SECOND * rng.u32(0..1_500);
            let ended = call_began + SECOND * (rng.u32(1..30) + 10 * utterances as u32);
            (CallSid::from_number(number), Call { began: call_began, utterances, poison, ended, told: None })
        });
        let calls = calls.collect();
        let (machine, heard) = (Transcription::new(1), BTreeMap::new());
        let wanted = BTreeSet::new();
        Self { rng, now: began, began, weather, crashes, calls, machine, heard, wanted, live: 0, out: None, steps: 0 }
    }

    fn run(&mut self) {
        while self.calls.values().any(|call| call.told.is_none()) {
            self.steps += 1;
            assert!(self.steps < 100_000, "it goes round in circles");
            let begins = self.calls.iter().filter(|(sid, call)| call.told.is_none() && !self.heard.contains_key(sid));
            let begins = begins.map(|(sid, call)| (call.began.max(self.now), *sid)).min();
            let ends = self.calls.iter().filter(|(sid, call)| call.told.is_none() && !self.wanted.contains(sid));
            let ends = ends.map(|(sid, call)| (call.ended.max(self.now), *sid)).min();
            let crash = self.crashes.first().map(|at| self.began + *at);
            let timer = self.machine.poll_timeout().map(|(at, _)| at.max(self.now));
            let answer = self.out.as_ref().map(|(at, ..)| *at);
            let calls = begins.into_iter().chain(ends).map(|(at, _)| at);
            let next =
                calls.chain(crash).chain(timer).chain(answer).min().expect("something happens until all is told");
            self.now = next;
            if crash == Some(next) {
                self.crashes.remove(0);
                (self.machine, self.out) = (Transcription::new(1), None);
                self.heard.clear();
                self.wanted.clear();
            } else if answer == Some(next) {
                self.answered();
            } else if timer == Some(next) {
                self.machine.handle_timeout(next);
            } else if let Some((_, sid)) = begins.filter(|(at, sid)| *at == next && self.calls[sid].ended > next) {
                self.heard.insert(sid, Vec::new());
                self.machine.handle_followed(sid, next);
            } else {
                // A box that was dead while it lasted finds it on its disk.
                let (_, sid) = ends.expect("a call whose end it was");
                self.heard.entry(sid).or_default();
                self.wanted.insert(sid);
                self.machine.handle_wanted(sid, next);
            }
            self.perform();
        }
    }

    fn answered(&mut self) {
        let Some((_, sid, answer)) = self.out.take() else { return };
        let Some(sid) = sid else { return self.machine.handle_probed(answer.as_ref().map(drop), self.now) };
        match answer {
            Ok(()) => {
                self.heard.entry(sid).or_default().push(true);
                self.machine.handle_answer(sid, self.now);
            }
            Err(error) => self.machine.handle_failure(sid, &error, self.now),
        }
    }

    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Skip(sid) => self.heard.entry(sid).or_default().push(false),
                Output::Ask(sid) => {
                    assert!(self.out.is_none(), "one question at a time");
                    let (call, heard) = (self.calls.get_mut(&sid).expect("a call"), &self.heard[&sid]);
                    if call.complete(self.now) == heard.len() && !self.wanted.contains(&sid) {
                        self.machine.handle_not_yet(sid, self.now);
                        continue;
                    }
                    self.live += usize::from(!self.wanted.contains(&sid));
                    if heard.len() == call.utterances {
                        assert!(call.told.replace(heard.clone()).is_none(), "told once");
                        self.machine.handle_finished(sid, self.now);
                        continue;
                    }
                    let is_poison = call.poison == Some(heard.len());
                    let (pause, answer) = self.engine(is_poison);
                    self.out = Some((self.now + pause, Some(sid), answer));
                }
                Output::Probe => {
                    assert!(self.out.is_none(), "one question at a time");
                    let (pause, answer) = self.engine(false);
                    self.out = Some((self.now + pause, None, answer));
                }
            }
        }
    }

    /// What the engine makes of a question that reaches it now, and after how long.
    fn engine(&mut self, is_poison: bool) -> (Duration, Result<(), RecognizerError>) {
        let at = self.now - self.began;
        let today =
            self.weather.iter().rev().find(|(from, _)| *from <= at).map_or(Weather::Well, |(_, weather)| *weather);
        let well = (Duration::from_millis(self.rng.u64(200..6_000)), Ok(()));
        let soon = Duration::from_millis(self.rng.u64(1..50));
        match today {
            Weather::Away => (soon, Err(RecognizerError::Unreachable("refused".into()))),
            Weather::Silent => (PATIENCE, Err(RecognizerError::TimedOut)),
            Weather::Nonsense => (soon, Err(RecognizerError::BadAnswer("no JSON".into()))),
            _ if is_poison => (SECOND, Err(RecognizerError::Broken)),
            Weather::Overrun if self.rng.bool() => (soon, Err(RecognizerError::Busy(None))),
            Weather::Unsteady if self.rng.bool() => (SECOND, Err(RecognizerError::Broken)),
            Weather::Well | Weather::Overrun | Weather::Unsteady => well,
        }
    }
}

#[test]
fn every_utterance_gets_its_text_once_and_in_its_place_whatever_the_engine_and_the_box_go_through() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (first, count) = match number("KOLBOX_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("KOLBOX_SEEDS").unwrap_or(SEEDS)),
    };
    let (began, mut utterances, mut skipped, mut poisoned, mut live) = (Instant::now(), 0, 0, 0, 0);
    for seed in first..first + count {
        let mut world = World::new(seed, began);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            world.run();
            for call in world.calls.values() {
                assert_eq!(call.told.as_ref().map(Vec::len), Some(call.utterances), "{call:?}");
            }
        }));
        if ran.is_err() {
            panic!("seed {seed}: KOLBOX_SEED={seed} cargo test --locked --test simulation_speech");
        }
        live += world.live;
        for call in world.calls.values() {
            let told = call.told.iter().flatten();
            utterances += call.utterances;
            poisoned += usize::from(call.poison.is_some());
            skipped += told.enumerate().filter(|(nth, has_text)| !**has_text && call.poison != Some(*nth)).count();
        }
    }
    println!("{count} seeds: {utterances} utterances, {poisoned} that kill the engine, {skipped} others without text");
    println!("{live} questions while their call went on");
    assert!(4 * live > utterances, "most are asked about while people speak");
    // An engine that dies with every other question may die of the same one each time: one in 2 to the power of that.
    assert!(skipped <= (3 * utterances) >> UTTERANCE_FAILURES_MAX, "{skipped} of {utterances}");
    assert!(count < SEEDS || poisoned > 50, "{poisoned}");
}

/// Eight calls that end close to each other, and an engine that has one place, which somebody else takes now and then.
struct Crowd {
    rng: Rng,
    now: Instant,
    machine: Transcription,
    callers: Vec<Waiting>,
    /// When the question that is with the engine has its answer, and whose it is: the box's own if nobody's.
    out: Option<(Instant, Option<usize>, Result<(), RecognizerError>)>,
}

struct Waiting {
    ends: Instant,
    utterances: usize,
    done: usize,
    /// What each of the others was answered since this one was asked last, or since its call ended.
    others: Vec<u32>,
    is_over: bool,
}

impl Crowd {
    const CALLERS: usize = 8;

    fn new(seed: u64, began: Instant) -> Self {
        let mut rng = Rng::with_seed(seed);
        let waiting = |rng: &mut Rng| Waiting {
            ends: began + Duration::from_millis(rng.u64(0..20_000)),
            utterances: if rng.bool() { rng.usize(1..5) } else { rng.usize(1..50) },
            done: 0,
            others: vec![0; Self::CALLERS],
            is_over: false,
        };
        let callers = (0..Self::CALLERS).map(|_| waiting(&mut rng)).collect();
        Self { rng, now: began, machine: Transcription::new(1), callers, out: None }
    }

    /// Until all have their text. The most that one was asked for while another waited, and questions in all.
    fn run(&mut self) -> (u32, usize) {
        let (mut most, mut questions) = (0, 0);
        let mut is_known = [false; Self::CALLERS];
        while self.callers.iter().any(|caller| !caller.is_over) {
            let unknown = (0..Self::CALLERS).filter(|number| !is_known[*number]);
            let ends = unknown.map(|number| (self.callers[number].ends, Some(number))).min();
            let timer = self.machine.poll_timeout().map(|(at, _)| (at.max(self.now), None));
            let answer = self.out.as_ref().map(|(at, ..)| (*at, None));
            let (next, ended) = ends.into_iter().chain(timer).chain(answer).min().expect("something happens");
            self.now = next;
            if let Some(number) = ended {
                is_known[number] = true;
                self.machine.handle_wanted(CallSid::from_number(number as u128), next);
            } else if answer.is_some_and(|(at, _)| at == next) {
                self.answered();
            } else {
                self.machine.handle_timeout(next);
            }
            while let Some(output) = self.machine.poll_output() {
                assert!(self.out.is_none(), "the engine has one place");
                let number = match output {
                    Output::Ask(sid) => (0..Self::CALLERS).find(|number| CallSid::from_number(*number as u128) == sid),
                    Output::Probe => None,
                    Output::Skip(sid) => panic!("{sid} is skipped, and the engine is only busy"),
                };
                if let Some(number) = number {
                    let caller = &mut self.callers[number];
                    most = most.max(caller.others.iter().copied().max().unwrap_or(0));
                    if caller.done == caller.utterances {
                        caller.is_over = true;
                        self.machine.handle_finished(CallSid::from_number(number as u128), self.now);
                        continue;
                    }
                    caller.others.fill(0);
                    questions += 1;
                }
                let takes = Duration::from_millis(self.rng.u64(200..6_000));
                let answer = if self.rng.u8(0..10) == 0 { Err(RecognizerError::Busy(None)) } else { Ok(()) };
                self.out = Some((self.now + takes, number, answer));
            }
        }
        (most, questions)
    }

    fn answered(&mut self) {
        let Some((_, number, answer)) = self.out.take() else { return };
        let Some(number) = number else { return self.machine.handle_probed(answer.as_ref().map(drop), self.now) };
        let sid = CallSid::from_number(number as u128);
        if let Err(error) = answer {
            return self.machine.handle_failure(sid, &error, self.now);
        }
        for (other, caller) in self.callers.iter_mut().enumerate() {
            if other != number && caller.ends <= self.now && !caller.is_over {
                caller.others[number] += 1;
            }
        }
        self.callers[number].done += 1;
        self.machine.handle_answer(sid, self.now);
    }
}

#[test]
fn eight_calls_take_turns_at_an_engine_with_one_place_and_none_waits_for_more_than_a_turn_of_each_other() {
    let began = Instant::now();
    let (mut most, mut questions, mut utterances) = (0, 0, 0);
    for seed in 0..env::var("KOLBOX_SEEDS").ok().map_or(10 * SEEDS, |text| text.parse().expect("a number")) {
        let mut crowd = Crowd::new(seed, began);
        let (of_one, asked) = crowd.run();
        assert!(of_one <= UTTERANCES_IN_A_ROW_MAX, "seed {seed}: a call waits for {of_one} questions of another one");
        assert!(crowd.callers.iter().all(|caller| caller.done == caller.utterances), "seed {seed}");
        utterances += crowd.callers.iter().map(|caller| caller.utterances).sum::<usize>();
        (most, questions) = (most.max(of_one), questions + asked);
    }
    println!("{utterances} utterances, {questions} questions; {most} of one call at most while another one waited");
    assert!(
        most == UTTERANCES_IN_A_ROW_MAX && questions > utterances,
        "turns are taken, and the engine is busy at times"
    );
}
