//! The box's side of the world: starts, dies, drains; hands what arrives to the real machines and does what they say.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use kolbox::{
    calls::{Desk, Event, Pulses, RequestId, SocketId},
    config,
    gateway::{desk_options, media_options},
    limits::DRAIN_END_MAX,
    server::{documents::Documents, media_session::MediaOptions, prompts::Prompts},
    simulator::phone_call::WebhookReply,
    transcripts::{
        Record, Sequence, State, books,
        journal::JournalEntry,
        outbox::Delivery,
        pending::{Fetched, Listed},
    },
    twilio::{
        rest::{CallLookup, RestRequest, read_recordings},
        sid::CallSid,
    },
};

use super::{
    Arrival, DiskFate, Fault, Post, RestFate, UpstreamFate, Window, World, account_sid,
    ledger::Ledger,
    office::{Change, Office, Told},
    sockets::Socket,
};

/// How long the upstream is waited for.
const UPSTREAM_MAX: Duration = Duration::from_secs(10);
/// How long a group takes to the disk.
const DISK_MAX: Duration = Duration::from_millis(30);
/// The same where the disk is slow.
const SLOW_DISK_MAX: Duration = Duration::from_secs(4);
/// After this silence of the caller the box says goodbye: shorter than its default, so that worlds see many of them.
const CALLER_SILENCE: Duration = Duration::from_secs(10);

/// Made once for all worlds.
pub(super) struct Fixed {
    pub config: config::Config,
    pub prompts: Arc<Prompts>,
    pub documents: Documents,
    pub media: Arc<MediaOptions>,
}

pub(super) static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let mut config = config::Config::default();
    config.twilio.account_sid = Some(account_sid());
    config.calls.caller_silence = CALLER_SILENCE;
    let prompts = Arc::new(Prompts::load(&config.calls).expect("the built-in prompts"));
    let documents = Documents::new(prompts.clone(), &config.calls, &config.fallback);
    let media = Arc::new(media_options(&config, &prompts));
    Fixed { config, prompts, documents, media }
});

pub(super) fn prompt_length(name: &str) -> Duration {
    let prompts = &FIXED.prompts;
    let all = [&prompts.greeting, &prompts.fallback, &prompts.no_message, &prompts.goodbye];
    let found = all.into_iter().find(|prompt| prompt.name.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("no prompt is called {name}")).duration
}

/// A webhook that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub post: Post,
    /// It says that its call is over.
    pub says_over: bool,
}

/// A box that runs.
pub(super) struct TheBox {
    pub desk: Desk,
    pub pulses: Pulses,
    pub office: Office,
    could_keep: bool,
    pub draining: bool,
    pub requests: BTreeMap<RequestId, Waiting>,
    pub sockets: BTreeMap<SocketId, Socket>,
    /// When what was last noted of a call will be on the disk.
    pub noted_at: BTreeMap<CallSid, Instant>,
}

impl TheBox {
    pub fn poll_timeout(&self) -> Option<Instant> {
        let desk = self.desk.poll_timeout().map(|(at, _)| at);
        let sockets = self.sockets.values().filter_map(|socket| socket.session.poll_timeout()).map(|(at, _)| at);
        sockets.chain(desk).chain(self.office.poll_timeout()).min()
    }

    pub fn is_at_rest(&self) -> bool {
        self.desk.view().calls.is_empty() && self.office.is_idle()
    }
}

impl World {
    pub(super) fn start_box(&mut self) {
        if self.running.is_some() {
            return;
        }
        self.life += 1;
        self.ledger = Ledger::default();
        let now = self.now;
        let pulses = Pulses::new(now);
        let desk = Desk::new(desk_options(&FIXED.config, &FIXED.prompts), pulses.clone());
        let wall = self.wall(now);
        let office = Office::new(&self.disk, self.seed, wall, now);
        let left: Vec<JournalEntry> = self.disk.live.values().cloned().collect();
        self.running = Some(TheBox {
            desk,
            pulses,
            office,
            could_keep: true,
            draining: false,
            requests: BTreeMap::new(),
            sockets: BTreeMap::new(),
            noted_at: BTreeMap::new(),
        });
        self.note(|| format!("!! the box starts; {} calls are in its journal", left.len()));
        for entry in left {
            let live = entry.resumed(wall, now);
            self.tell(Event::CallRemembered(Box::new(live)));
        }
        self.attend_office(Vec::new());
    }

    /// The plug is pulled. Of what was on its way to the disk, the first part may have got there, and nobody was told.
    pub(super) fn kill_box(&mut self, back_after: Duration) {
        self.reset_sockets();
        let writes = !self.disk_refuses();
        if let Some(mut running) = self.running.take() {
            let reached = self.random.usize(0..=running.office.under_way());
            if writes {
                running.office.tear(&mut self.disk, reached);
            }
            self.leave_unanswered(&running);
            self.away_for(back_after);
        }
    }

    /// Ended by a second signal while it drains.
    pub(super) fn end_at_once(&mut self) {
        if self.running.as_ref().is_some_and(|running| running.draining) {
            let back_after = self.back_after();
            self.kill_box(back_after);
        }
    }

    /// Drained as `calls.drain` says, 5 s, and then ended at the latest when the gateway would give up.
    pub(super) fn drain_box(&mut self) {
        let until = self.now + FIXED.config.calls.drain;
        if let Some(running) = self.running.as_mut().filter(|running| !running.draining) {
            running.draining = true;
            self.tell(Event::DrainStarted { until });
            self.at(until + DRAIN_END_MAX, Arrival::Stopped { life: self.life });
        }
    }

    /// The end of a drain: what was given to the keeper is on the disk.
    pub(super) fn stop_box(&mut self) {
        let refuses = self.disk_refuses();
        let Some(mut running) = self.running.take() else { return };
        let told = running.office.finish(&mut self.disk, refuses);
        self.running = Some(running);
        self.answer_told(told);
        self.reset_sockets();
        if let Some(running) = self.running.take() {
            self.leave_unanswered(&running);
        }
        let back_after = self.back_after();
        self.away_for(back_after);
    }

    /// As the latest restart says.
    fn back_after(&self) -> Duration {
        let at = self.since_start();
        let begun = self.faults.iter().filter_map(|fault| match fault {
            Fault::Restarted { at: begun, back_after } if *begun <= at => Some((*begun, *back_after)),
            _ => None,
        });
        begun.max().map(|(_, back_after)| back_after).unwrap_or_default()
    }

    /// Who waits for an answer waits in vain.
    fn leave_unanswered(&mut self, running: &TheBox) {
        for waiting in running.requests.values() {
            self.reply(waiting.post, WebhookReply::NoAnswer);
        }
    }

    fn away_for(&mut self, back_after: Duration) {
        let from = self.since_start();
        self.away.push(Window { from, until: from + back_after });
        self.at(self.now + back_after, Arrival::Back);
    }

    pub(super) fn box_timeouts(&mut self) {
        let now = self.now;
        let refuses = self.disk_refuses();
        let Some(running) = &mut self.running else { return };
        if running.desk.poll_timeout().is_some_and(|(at, _)| at <= now) {
            running.desk.handle_timeout(now);
            self.perform();
        }
        let Some(running) = &mut self.running else { return };
        if running.office.poll_timeout().is_some_and(|at| at <= now) {
            let told = running.office.handle_timeout(&mut self.disk, refuses, now);
            self.attend_office(told);
        }
        let Some(running) = &mut self.running else { return };
        let due = |socket: &Socket| socket.session.poll_timeout().is_some_and(|(at, _)| at <= now);
        let sockets: Vec<_> = running.sockets.iter().filter(|(_, socket)| due(socket)).map(|(id, _)| *id).collect();
        for socket in sockets {
            self.with_session(socket, |session| session.handle_timeout(now));
        }
    }

    /// What arrives at the box; what is for one that is no more is lost.
    pub(super) fn arrive_at_box(&mut self, arrival: Arrival) {
        let now = self.now;
        let life = self.life;
        match arrival {
            Arrival::TextAtBox { socket, text } => self.text_at_box(socket, &text),
            Arrival::GoneAtBox { socket } => self.gone_at_box(socket),
            Arrival::Order { socket, order } => self.order_at_box(socket, order),
            Arrival::AnswerDue { life: of, request } if of == life => self.answer_is_due(request),
            Arrival::RedirectAnswered { number, answer } => self.redirect_is_answered(number, &answer),
            Arrival::LookUp { life: of, attempt, call_sid, recordings, fate } if of == life => {
                let outcome = match fate {
                    RestFate::Served | RestFate::AnsweredLate(_) | RestFate::CarriedOutLate(_) => {
                        self.look_up(call_sid, recordings).unwrap_or_else(|failure| failure)
                    }
                    RestFate::Unauthorized => CallLookup::Unauthorized,
                    RestFate::NotFound => CallLookup::NotFound,
                    _ => CallLookup::Unavailable,
                };
                let late = if let RestFate::AnsweredLate(late) = fate { late } else { Duration::ZERO };
                let at = now + late + self.delay();
                self.at(at, Arrival::LookedUp { life, attempt, outcome });
            }
            Arrival::LookedUp { life: of, attempt, outcome } if of == life => {
                self.tell(Event::CallLookedUp { attempt, outcome });
            }
            arrival => self.arrive_at_office(arrival),
        }
    }

    fn arrive_at_office(&mut self, arrival: Arrival) {
        let (now, life, refuses) = (self.now, self.life, self.disk_refuses());
        if let Arrival::Send { sequence, record, life } = arrival {
            return self.send_upstream(life, sequence, record);
        }
        let wall = self.wall(now);
        let Some(running) = &mut self.running else { return };
        let office = &mut running.office;
        match arrival {
            Arrival::Load { life: of } if of == life => office.loaded(&self.disk, refuses, now),
            Arrival::Sent { life: of, sequence, record, delivery } if of == life => {
                office.books.handle_sent(sequence, record, delivery, wall, now);
            }
            Arrival::Fetched { life: of, call_sid, recording_sid, fetched } if of == life => {
                office.books.handle_fetched(call_sid, recording_sid, fetched, now);
            }
            Arrival::Listed { life: of, call_sid, listed } if of == life => {
                office.books.handle_listed(call_sid, listed, now);
            }
            _ => {}
        }
        self.attend_office(Vec::new());
    }

    /// Does what the books say, answers who waited for a record, and tells the desk how the store is.
    pub(super) fn attend_office(&mut self, told: Vec<Told>) {
        self.answer_told(told);
        self.perform_books();
        let can_keep = !self.disk_refuses();
        if let Some(running) = &mut self.running
            && running.could_keep != can_keep
        {
            running.could_keep = can_keep;
            self.tell(Event::StoreChanged { can_keep });
        }
    }

    /// Whether it takes nothing at this moment.
    pub(super) fn disk_refuses(&self) -> bool {
        match self.disk_fate() {
            Some(DiskFate::Refuses) => true,
            Some(DiskFate::Fills { .. }) => self.disk.writes >= self.disk_full_at,
            Some(DiskFate::Slow) | None => false,
        }
    }

    /// How long a group takes.
    pub(super) fn disk_takes(&mut self) -> Duration {
        let most = if self.disk_fate() == Some(DiskFate::Slow) { SLOW_DISK_MAX } else { DISK_MAX };
        most.mul_f64(self.random.f64())
    }

    fn perform_books(&mut self) {
        let (now, life) = (self.now, self.life);
        while let Some(output) = self.running.as_mut().and_then(|running| running.office.poll_output()) {
            self.note(|| format!("<- books {output:?}"));
            match output {
                books::Output::Write { writing, asker } => {
                    let takes = self.disk_takes();
                    if let Some(running) = &mut self.running {
                        running.office.write(Change::Write(writing, asker), takes, now);
                    }
                }
                books::Output::Load => self.at(now, Arrival::Load { life }),
                books::Output::Send { sequence, record } => self.later(Arrival::Send { life, sequence, record }),
                books::Output::Fetch { call_sid, recording_sid, .. } => {
                    let fetched = match self.rest_fate() {
                        RestFate::Served | RestFate::AnsweredLate(_) | RestFate::CarriedOutLate(_) => {
                            match self.rest(&RestRequest::recording_media(&account_sid(), &recording_sid)) {
                                Ok(reply) if reply.status == 200 => Fetched::Saved { silent: false },
                                Ok(reply) if reply.status == 404 => Fetched::NotThere,
                                _ => Fetched::Unreachable,
                            }
                        }
                        _ => Fetched::Unreachable,
                    };
                    self.later(Arrival::Fetched { life, call_sid, recording_sid, fetched });
                }
                books::Output::Transcribe { .. } => unreachable!("this office has no speech engine"),
                books::Output::List { call_sid } => {
                    let listed = match self.rest_fate() {
                        RestFate::Served | RestFate::AnsweredLate(_) | RestFate::CarriedOutLate(_) => {
                            read_recordings(&self.rest(&RestRequest::list_call_recordings(&account_sid(), &call_sid)))
                                .map_or(Listed::Unreachable, |listed| {
                                    let newest_last = listed.into_iter().rev();
                                    Listed::Recordings(newest_last.map(|it| (it.recording_sid, it.status)).collect())
                                })
                        }
                        _ => Listed::Unreachable,
                    };
                    self.later(Arrival::Listed { life, call_sid, listed });
                }
                // What a housekeeper does later is not in this world.
                books::Output::Missing { .. } => {}
            }
        }
    }

    fn send_upstream(&mut self, life: u32, sequence: Sequence, record: Box<Record>) {
        let fate = self.upstream_fate();
        let arrives = matches!(fate, None | Some(UpstreamFate::AnswerLost));
        if arrives {
            if matches!(self.disk.state_of(record.id), Some(State::Synced { .. })) {
                self.break_rule("sent again after its answer was noted", Some(record.call_sid), || {
                    "a second time".into()
                });
            }
            let known = self.upstream.had.iter().any(|(id, _, _)| *id == record.id);
            if known && !self.upstream.unanswered.contains(&record.id) && self.away.is_empty() {
                self.break_rule("sent twice without need", Some(record.call_sid), || format!("{sequence:?}"));
            }
            self.upstream.take(&record);
        }
        let (delivery, after) = match fate {
            None => (Delivery::Acknowledged, Duration::ZERO),
            Some(UpstreamFate::AnswerLost) => {
                self.upstream.unanswered.insert(record.id);
                (Delivery::Failed { retry_after: None }, UPSTREAM_MAX)
            }
            Some(UpstreamFate::Unreachable) => (Delivery::Failed { retry_after: None }, Duration::ZERO),
            Some(UpstreamFate::Fails) => (Delivery::of_status(500, None), Duration::ZERO),
            Some(UpstreamFate::Throttles(seconds)) => {
                (Delivery::of_status(429, Some(Duration::from_secs(seconds))), Duration::ZERO)
            }
        };
        let at = self.now + after + self.delay();
        self.at(at, Arrival::Sent { life, sequence, record, delivery });
    }
}
