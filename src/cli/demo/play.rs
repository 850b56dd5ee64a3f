//! The demo's acts: who calls when, when the office's system comes back, and until when is waited.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    join,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    cast::{ROLES, Role},
    stage::Stage,
    tale::{Sentence, Who},
};
use crate::{simulator::report::CallReport, status::snapshot::Snapshot, twilio::sid::CallSid};

/// Between two callers who begin: so that their stories can be told apart.
const RINGS_EVERY: Duration = Duration::from_millis(600);
/// When the crowd calls: the others hear the greeting then.
const CROWD_RINGS: Duration = Duration::from_millis(3500);
/// How long it stays once every place is taken and one more has called.
const CROWD_STAYS: Duration = Duration::from_secs(1);
/// How long the box may take to answer the crowd, and then the caller who finds no place.
const FILL_MAX: Duration = Duration::from_secs(15);
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// When the office's system comes back. By then its trouble has been shown, too.
const OFFICE_BACK: Duration = Duration::from_secs(21);
/// How long records may take to the office after the last call.
const DELIVERY_MAX: Duration = Duration::from_secs(60);
/// So that the last lamp and the last line are seen.
pub const CURTAIN: Duration = Duration::from_millis(400);

/// What became of the calls.
#[derive(Debug, Default)]
pub struct Played {
    /// Of those with a name, in the order in which they are listed.
    pub cast: Vec<(Role, CallReport)>,
    pub crowd: Vec<CallReport>,
    /// How many calls were placed.
    pub placed: usize,
}

/// Plays everything. What is done to the box, rather than by a caller, is told to `cues`.
pub async fn play(stage: &Stage, cues: mpsc::Sender<Sentence>) -> Played {
    let [early @ .., late] = &ROLES;
    let (mut cast, (late, crowd, crowd_size), ()) =
        join!(callers(stage, early), crowd(stage, late, &cues), office(stage, &cues));
    cast.extend(late);
    let played = Played { placed: ROLES.len() + crowd_size, cast, crowd };
    delivered(stage, played.placed).await;
    sleep(CURTAIN).await;
    played
}

async fn callers(stage: &Stage, roles: &'static [Role]) -> Vec<(Role, CallReport)> {
    let mut calls = JoinSet::new();
    let mut rings_after = Duration::ZERO;
    for role in roles {
        let (twilio, plan, wait) = (stage.twilio.clone(), stage.line.plan(role), rings_after);
        calls.spawn(async move {
            sleep(wait).await;
            (*role, twilio.call(plan).await)
        });
        rings_after += RINGS_EVERY;
    }
    let mut reports = calls.join_all().await;
    reports.sort_by_key(|(role, _)| role.call_sid());
    reports
}

/// Takes every free place, lets one more caller come, and gives the places back. The crowd hangs up in the greeting.
async fn crowd(
    stage: &Stage,
    late: &Role,
    cues: &mpsc::Sender<Sentence>,
) -> (Option<(Role, CallReport)>, Vec<CallReport>, usize) {
    sleep(CROWD_RINGS).await;
    let mut box_seen = stage.gateway.snapshot();
    let free = {
        let now = box_seen.borrow();
        now.capacity.saturating_sub(now.active)
    };
    tell(cues, Who::Crowd, format!("{free} more people call at once, for all the places that are left")).await;
    let plans: Vec<_> = (0..free).map(|nth| stage.line.plan_of_crowd(nth)).collect();
    let call_sids: Vec<CallSid> = plans.iter().map(|plan| plan.parties.call_sid).collect();
    let mut calls = JoinSet::new();
    for plan in plans {
        let twilio = stage.twilio.clone();
        calls.spawn(async move { twilio.call(plan).await });
    }
    see(&mut box_seen, FILL_MAX, |now| now.active >= now.capacity).await;
    let (twilio, plan) = (stage.twilio.clone(), stage.line.plan(late));
    let late_call = tokio::spawn(async move { twilio.call(plan).await });
    let late_sid = late.call_sid().to_string();
    see(&mut box_seen, ANSWER_MAX, |now| now.calls.iter().any(|call| call.call_sid == late_sid)).await;
    sleep(CROWD_STAYS).await;
    tell(cues, Who::Crowd, "hangs up in the middle of the greeting").await;
    for call_sid in call_sids {
        stage.twilio.hang_up(call_sid).await;
    }
    (late_call.await.ok().map(|report| (*late, report)), calls.join_all().await, free)
}

async fn office(stage: &Stage, cues: &mpsc::Sender<Sentence>) {
    sleep(OFFICE_BACK).await;
    stage.upstream.set_down(false);
    let turned_away = stage.upstream.turned_away();
    tell(cues, Who::Office, format!("is up again, after it turned {turned_away} deliveries away")).await;
}

/// Waits until the office has that many records and the box knows it.
async fn delivered(stage: &Stage, records: usize) {
    let until = Instant::now() + DELIVERY_MAX;
    let mut count = stage.upstream.watch();
    let _ = timeout(DELIVERY_MAX, count.wait_for(|count| *count >= records)).await;
    let left = until.saturating_duration_since(Instant::now());
    let all = |now: &Snapshot| {
        let awaiting_text = now.speech.as_ref().map_or(0, |speech| speech.calls_waiting as u64);
        now.transcripts.unsynced + now.transcripts.awaiting_recording + awaiting_text == 0
    };
    see(&mut stage.gateway.snapshot(), left, all).await;
}

async fn see(box_seen: &mut watch::Receiver<Arc<Snapshot>>, most: Duration, wanted: impl Fn(&Snapshot) -> bool) {
    let _ = timeout(most, box_seen.wait_for(|now| wanted(now))).await;
}

/// Says what is done, rather than what happens by itself.
pub async fn tell(cues: &mpsc::Sender<Sentence>, who: Who, text: impl Into<String>) {
    // Nobody listens any more: the demo was ended.
    let _ = cues.send(Sentence::new(Instant::now(), who, text)).await;
}
