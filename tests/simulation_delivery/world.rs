//! The real books over a disk that can crash and an upstream that can do anything, in virtual time. What they may never
//! do is looked at with every step.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use jiff::Timestamp;
use kolbox::{
    calls::{EndCause, EndedCall, Fallback, FallbackReason, Party},
    limits::RETRY_AFTER_MAX,
    transcripts::{
        BoxIdentity, Heard, Record, Sequence, TranscriptId,
        books::{Asker, Books, Next, Output, Writing, Written},
        outbox::{Delivery, OutboxOptions},
        pending::{Fetched, Listed},
        record::{Segment, Words},
        texts::TextOptions,
    },
    twilio::{
        sid::{CallSid, RecordingSid, StreamSid},
        webhook::{CallStatus, Direction, RecordingStatus},
    },
};

use crate::{
    disk::{Change, Disk},
    office::{Answer, Office},
};

const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// `sync.timeout`.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries of a disk that refuses.
const DISK_PAUSE: Duration = Duration::from_secs(1);
const RESTART: Duration = Duration::from_secs(2);

/// What happens later. Whatever belongs to the box belongs to one of its lives, and ends with it.
enum Event {
    CallEnds(u128),
    Crash,
    Start,
    /// The staff send every refused record again.
    Retry,
    DiskBegins {
        life: u32,
    },
    DiskEnds {
        life: u32,
        group: Vec<Job>,
        found: Vec<Found>,
    },
    Arrives {
        life: u32,
        sequence: Sequence,
        record: Box<Record>,
    },
    Answered {
        life: u32,
        sequence: Sequence,
        record: Box<Record>,
        delivery: Delivery,
    },
    Listed {
        life: u32,
        call_sid: CallSid,
        listed: Listed,
    },
    Fetched {
        life: u32,
        call_sid: CallSid,
        recording_sid: RecordingSid,
    },
    Heard {
        life: u32,
        call_sid: CallSid,
        heard: Heard,
    },
}

/// What waits for the disk.
enum Job {
    /// `true`: whoever asked was told that it is not durable yet.
    Write(Writing, Change, bool),
    Unpark(TranscriptId),
    Load,
}

enum Found {
    Changed(bool),
    Next(Next),
}

struct Due {
    at: Instant,
    nth: u64,
    event: Event,
}

/// How a run goes.
pub struct Plan {
    pub calls: u128,
    /// From one call's end to the next one's: at most, or always.
    pub every: Duration,
    pub is_steady: bool,
    /// When the box dies, from the beginning.
    pub crashes: Vec<Duration>,
    /// The disk refuses between these moments.
    pub disk_fails: Vec<(Duration, Duration)>,
    /// When the staff send every refused record again; they do in the end, too.
    pub retries: Vec<Duration>,
    /// One in so many calls goes to the recorder; 0: none.
    pub recorded: u128,
    /// There is a speech engine, and records wait so long for it.
    pub hears: Option<Duration>,
}

pub struct World {
    pub office: Office,
    pub disk: Disk,
    pub now: Instant,
    began: Instant,
    rng: Rng,
    plan: Plan,
    books: Option<Books>,
    life: u32,
    due: BinaryHeap<Reverse<Due>>,
    nth: u64,
    waiting: VecDeque<Job>,
    is_disk_busy: bool,
    was_disk_failing: bool,
    /// Calls whose record counts as kept.
    pub kept: BTreeSet<CallSid>,
    ended: BTreeMap<CallSid, u128>,
    /// Acknowledgements that were noted durably.
    noted: BTreeSet<TranscriptId>,
    ever_parked: BTreeSet<u64>,
    sent: BTreeMap<u64, TranscriptId>,
    is_sending: bool,
    /// No further request before this.
    not_before: Option<Instant>,
    /// Failures in a row, and since when, in this life.
    failing: Option<(u32, Instant)>,
    steps: u64,
}

impl World {
    pub fn new(seed: u64, plan: Plan, began: Instant) -> Self {
        let mut rng = Rng::with_seed(seed);
        let office = Office { forecast: Office::forecast(&mut rng, began), ..Office::default() };
        let mut world = Self {
            office,
            disk: Disk::default(),
            now: began,
            began,
            rng,
            plan,
            books: None,
            life: 0,
            due: BinaryHeap::new(),
            nth: 0,
            waiting: VecDeque::new(),
            is_disk_busy: false,
            was_disk_failing: false,
            kept: BTreeSet::new(),
            ended: BTreeMap::new(),
            noted: BTreeSet::new(),
            ever_parked: BTreeSet::new(),
            sent: BTreeMap::new(),
            is_sending: false,
            not_before: None,
            failing: None,
            steps: 0,
        };
        for at in world.plan.crashes.clone() {
            world.at(began + at, Event::Crash);
        }
        for at in world.plan.retries.clone() {
            world.at(began + at, Event::Retry);
        }
        world.at(began, Event::Start);
        world.at(began + Duration::from_millis(1), Event::CallEnds(1));
        world
    }

    /// Whether there is a speech engine.
    pub fn hears(&self) -> bool {
        self.plan.hears.is_some()
    }

    /// Until nothing is left to happen.
    pub fn run(&mut self) {
        loop {
            let timer = self.books.as_ref().and_then(Books::poll_timeout).map(|(at, _)| at.max(self.now));
            let next = self.due.peek().map(|Reverse(due)| due.at);
            match (timer, next) {
                (None, None) if self.has_refused() => self.after(Duration::from_secs(1), Event::Retry),
                (None, None) => return,
                (Some(timer), next) if next.is_none_or(|next| timer <= next) => {
                    self.now = timer;
                    let now = self.now;
                    self.with_books(|books| books.handle_timeout(now));
                }
                _ => {
                    let Some(Reverse(due)) = self.due.pop() else { return };
                    self.now = due.at;
                    self.happen(due.event);
                }
            }
            self.perform();
            self.look();
        }
    }

    fn has_refused(&self) -> bool {
        !self.disk.durable.parked.is_empty()
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::CallEnds(number) => self.call_ends(number),
            Event::Crash => self.crash(),
            Event::Start => self.start(),
            Event::Retry => {
                let parked = &self.disk.live.parked;
                let ids: Vec<_> = parked.iter().map(|sequence| self.disk.live.finals[sequence].0.id).collect();
                for id in ids {
                    self.want(Job::Unpark(id));
                }
            }
            Event::Arrives { life, sequence, record } => self.arrives(life, sequence, record),
            Event::DiskBegins { life } if life == self.life => self.disk_begins(),
            Event::DiskEnds { life, group, found } if life == self.life => self.disk_ends(group, found),
            Event::Answered { life, sequence, record, delivery } if life == self.life => {
                self.answered(delivery);
                let wall = self.wall();
                self.with_books(|books| books.handle_sent(sequence, record, delivery, wall, now));
            }
            Event::Listed { life, call_sid, listed } if life == self.life => {
                self.with_books(|books| books.handle_listed(call_sid, listed, now));
            }
            Event::Fetched { life, call_sid, recording_sid } if life == self.life => {
                let saved = Fetched::Saved { silent: false };
                self.with_books(|books| books.handle_fetched(call_sid, recording_sid, saved, now));
            }
            Event::Heard { life, call_sid, heard } if life == self.life => {
                self.with_books(|books| books.handle_heard(call_sid, heard));
            }
            // Of a life that is over.
            _ => {}
        }
    }

    fn call_ends(&mut self, number: u128) {
        let call_sid = CallSid::from_number(number);
        if self.ended.insert(call_sid, number).is_none() && number < self.plan.calls {
            let every = self.plan.every.as_millis() as u64;
            let pause = if self.plan.is_steady { every } else { self.rng.u64(0..=every) };
            self.after(Duration::from_millis(pause), Event::CallEnds(number + 1));
        }
        let was_recorded = self.plan.recorded > 0 && number.is_multiple_of(self.plan.recorded);
        let (wall, random) = (self.wall(), self.rng.u128(..));
        let record = Box::new(record(number, was_recorded, wall, random, self.now));
        // While the box is down, the call is found in the journal by its next life.
        self.with_books(|books| books.handle_ended(record, Some(Asker(1))));
    }

    fn start(&mut self) {
        let options = OutboxOptions { retry_min: RETRY_MIN, retry_max: RETRY_MAX, seed: self.rng.u64(..) };
        let drafts = self.disk.live.stored_drafts();
        let texts = self.plan.hears.map(|wait| TextOptions { wait, engine: "openai".into() });
        self.books = Some(Books::with_texts(texts, Some(options), drafts, Vec::new(), self.wall(), self.now));
        let unkept: Vec<u128> = self
            .ended
            .iter()
            .filter(|(call_sid, _)| !self.kept.contains(call_sid))
            .map(|(_, number)| *number)
            .collect();
        for number in unkept {
            let pause = Duration::from_millis(self.rng.u64(0..5_000));
            self.after(pause, Event::CallEnds(number));
        }
    }

    fn crash(&mut self) {
        if self.books.take().is_none() {
            return;
        }
        self.life += 1;
        let rng = &mut self.rng;
        self.disk.forget(|undone| rng.usize(0..=undone));
        self.note_durable();
        self.waiting.clear();
        (self.is_disk_busy, self.is_sending, self.not_before, self.failing) = (false, false, None, None);
        self.after(RESTART, Event::Start);
    }

    fn with_books(&mut self, tell: impl FnOnce(&mut Books)) {
        if let Some(books) = &mut self.books {
            tell(books);
        }
    }

    /// Does what the books say.
    fn perform(&mut self) {
        while let Some(output) = self.books.as_mut().and_then(Books::poll_output) {
            let life = self.life;
            match output {
                Output::Write { writing, .. } => {
                    let change = change_of(&writing);
                    self.want(Job::Write(writing, change, false));
                }
                // No housekeeper lives here.
                Output::Missing { .. } => {}
                Output::Load => self.want(Job::Load),
                Output::Send { sequence, record } => {
                    self.looks_right(sequence, &record);
                    self.is_sending = true;
                    let way = Duration::from_millis(self.rng.u64(1..50));
                    self.after(way, Event::Arrives { life, sequence, record });
                }
                Output::List { call_sid } => {
                    let listed = match self.rng.u8(0..4) {
                        0 => Listed::Unreachable,
                        1 => Listed::Recordings(Vec::new()),
                        _ => Listed::Recordings(vec![(recording_of(call_sid), RecordingStatus::Completed)]),
                    };
                    let pause = Duration::from_millis(self.rng.u64(10..20_000));
                    self.after(pause, Event::Listed { life, call_sid, listed });
                }
                Output::Transcribe { call_sid, .. } => {
                    // Seconds where the engine is there, hours where it is away: then the wait may be over before.
                    let most = if self.rng.u8(0..3) == 0 { 7_200_000 } else { 60_000 };
                    let pause = Duration::from_millis(self.rng.u64(10..most));
                    let heard = heard(self.rng.u8(0..8));
                    self.after(pause, Event::Heard { life, call_sid, heard });
                }
                Output::Fetch { call_sid, recording_sid, .. } => {
                    let pause = Duration::from_millis(self.rng.u64(10..9_000));
                    self.after(pause, Event::Fetched { life, call_sid, recording_sid });
                }
            }
        }
    }

    /// A request goes out: may it?
    fn looks_right(&mut self, sequence: Sequence, record: &Record) {
        assert!(!self.noted.contains(&record.id), "sent again after its acknowledgement was noted");
        assert!(!self.is_sending, "one request at a time");
        assert!(self.not_before.is_none_or(|at| at <= self.now), "sooner than it was asked to");
        let known = self.sent.insert(sequence.0, record.id);
        assert!(known.is_none_or(|known| known == record.id), "a place in the order is one record's");
        if !self.ever_parked.contains(&sequence.0) {
            let unsynced = &self.disk.durable.unsynced;
            let first = unsynced.iter().find(|sequence| !self.ever_parked.contains(sequence));
            assert_eq!(first, Some(&sequence.0), "in the order in which they became final, and none is passed over");
        }
    }

    fn arrives(&mut self, life: u32, sequence: Sequence, record: Box<Record>) {
        let answer = self.office.take(&record, self.now, &mut self.rng);
        let (delivery, way) = match answer {
            Answer::Status(status, retry_after) => (Delivery::of_status(status, retry_after), self.rng.u64(1..200)),
            Answer::Nothing => (Delivery::Failed { retry_after: None }, TIMEOUT.as_millis() as u64),
        };
        self.after(Duration::from_millis(way), Event::Answered { life, sequence, record, delivery });
    }

    fn answered(&mut self, delivery: Delivery) {
        self.is_sending = false;
        let Delivery::Failed { retry_after } = delivery else {
            (self.failing, self.not_before) = (None, None);
            return;
        };
        let (failures, since) = self.failing.unwrap_or((0, self.now));
        self.failing = Some((failures + 1, since));
        self.not_before = Some(self.now + RETRY_MIN.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)));
    }

    fn want(&mut self, job: Job) {
        self.waiting.push_back(job);
        self.wake_disk(Duration::ZERO);
    }

    fn wake_disk(&mut self, pause: Duration) {
        if !self.is_disk_busy {
            self.is_disk_busy = true;
            self.after(pause, Event::DiskBegins { life: self.life });
        }
    }

    fn does_disk_fail(&self) -> bool {
        let at = self.now - self.began;
        self.plan.disk_fails.iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    fn disk_begins(&mut self) {
        let most = self.rng.usize(1..=8);
        let group: Vec<Job> = self.waiting.drain(..most.min(self.waiting.len())).collect();
        let found =
            if self.does_disk_fail() { Vec::new() } else { group.iter().map(|job| self.disk.does(job)).collect() };
        let pause = Duration::from_micros(self.rng.u64(500..20_000));
        self.after(pause, Event::DiskEnds { life: self.life, group, found });
    }

    fn disk_ends(&mut self, group: Vec<Job>, found: Vec<Found>) {
        self.is_disk_busy = false;
        if self.does_disk_fail() || found.len() < group.len() {
            return self.put_off(group);
        }
        self.disk.make_durable();
        self.note_durable();
        let now = self.now;
        for (job, found) in group.into_iter().zip(found) {
            match (job, found) {
                (Job::Load, Found::Next(next)) => self.with_books(|books| books.handle_loaded(next, now)),
                (Job::Unpark(id), Found::Changed(true)) => self.with_books(|books| books.handle_unparked(id)),
                (Job::Write(writing, _, false), Found::Changed(changed)) => {
                    let is_note = matches!(writing, Writing::Synced { .. } | Writing::Parked { .. });
                    let written = if changed || is_note { Written::Durable } else { Written::Already };
                    self.with_books(|books| books.handle_written(writing, written, now));
                }
                _ => {}
            }
        }
        if std::mem::take(&mut self.was_disk_failing) && !self.disk.live.unsynced.is_empty() {
            self.with_books(Books::handle_unsynced);
        }
        if !self.waiting.is_empty() {
            self.wake_disk(Duration::ZERO);
        }
    }

    /// As the store's thread does: records are told to be late and tried again in their order, notes wait.
    fn put_off(&mut self, group: Vec<Job>) {
        let rng = &mut self.rng;
        self.disk.forget(|undone| rng.usize(0..=undone));
        self.note_durable();
        self.was_disk_failing = true;
        let now = self.now;
        let mut again = VecDeque::new();
        for job in group.into_iter().chain(std::mem::take(&mut self.waiting)) {
            match job {
                Job::Load => self.with_books(|books| books.handle_loaded(Next::Unavailable, now)),
                Job::Unpark(_) => {}
                Job::Write(writing @ (Writing::Draft(_) | Writing::Final(_)), change, false) => {
                    again.push_back(Job::Write(writing.clone(), change, true));
                    self.with_books(|books| books.handle_written(writing, Written::NotYet, now));
                }
                job => again.push_back(job),
            }
        }
        self.waiting = again;
        self.wake_disk(DISK_PAUSE);
    }

    /// What counts from here on, whatever comes.
    fn note_durable(&mut self) {
        for change in self.disk.newly_durable() {
            match change {
                Change::Draft(record) | Change::Final(record) => {
                    self.kept.insert(record.call_sid);
                }
                Change::Synced(sequence, _) => {
                    self.noted.insert(self.disk.durable.finals[&sequence].0.id);
                }
                Change::Parked(sequence, ..) => {
                    self.ever_parked.insert(sequence);
                }
                Change::Unpark(_) => {}
            }
        }
    }

    fn look(&mut self) {
        self.steps += 1;
        assert!(self.steps < 20_000_000, "it goes round in circles");
        let Some(books) = &self.books else { return };
        let is_due = |(failures, since): (u32, Instant)| failures >= 3 || since + Duration::from_secs(10) <= self.now;
        assert_eq!(
            books.is_in_trouble(),
            self.failing.is_some_and(is_due),
            "staff are told when it is due, and no longer"
        );
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(1_795_000_000) + (self.now - self.began)
    }

    fn after(&mut self, pause: Duration, event: Event) {
        self.at(self.now + pause, event);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.nth += 1;
        self.due.push(Reverse(Due { at, nth: self.nth, event }));
    }
}

impl Disk {
    fn does(&mut self, job: &Job) -> Found {
        match job {
            Job::Write(_, change, _) => Found::Changed(self.apply(change.clone())),
            Job::Unpark(id) => Found::Changed(self.apply(Change::Unpark(*id))),
            Job::Load => Found::Next(Next::Found(self.first_unsynced())),
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.nth).cmp(&(other.at, other.nth))
    }
}

fn change_of(writing: &Writing) -> Change {
    match writing {
        Writing::Draft(record) => Change::Draft(Arc::new(Record::clone(record))),
        Writing::Final(record) => Change::Final(Arc::new(Record::clone(record))),
        Writing::Synced { sequence, at, .. } => Change::Synced(sequence.0, *at),
        Writing::Parked { sequence, status, at, .. } => Change::Parked(sequence.0, *status, *at),
    }
}

fn heard(nth: u8) -> Heard {
    let engine = "openai whisper-1".to_owned();
    match nth {
        0 => Heard::Unusable,
        1 => Heard::NoSpeech { engine },
        _ => {
            let segments = vec![Segment { start_ms: 0, end_ms: 900, text: Words("shalom".into()) }];
            Heard::Words { engine, segments }
        }
    }
}

fn recording_of(call_sid: CallSid) -> RecordingSid {
    RecordingSid::from_number(u128::from_str_radix(&call_sid.as_str()[2..], 16).unwrap_or(0))
}

fn record(number: u128, was_recorded: bool, wall: Timestamp, random: u128, now: Instant) -> Record {
    let ended = EndedCall {
        call_sid: CallSid::from_number(number),
        stream_sid: (!was_recorded).then(|| StreamSid::from_number(number)),
        from: Party::new("+972501234567"),
        to: Party::new("+97235550100"),
        direction: Direction::Inbound,
        answered_at: now,
        ended_at: now,
        cause: EndCause::Status(CallStatus::Completed),
        fallback: was_recorded.then_some(Fallback { reason: FallbackReason::NoStreamStart, redirected_at: Some(now) }),
        had_media: !was_recorded,
    };
    let made_by = BoxIdentity { id: "01JD0000000000000000000000".into(), version: "0.1.0".into() };
    Record::of_ended(TranscriptId::new(wall, random), &ended, |_| wall, &made_by, "he")
}
