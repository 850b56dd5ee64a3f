//! The keeper over a real store on a disk, a real upstream on loopback, and a Twilio that the test plays.

use std::{path::Path, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    keeper::{Errand, KeepError, Keeper, KeeperError, KeeperOptions, KeeperPort, RetryError, Started},
    memory_store_tests::MemoryStore,
    read::read,
    record::{
        Outcome, Source,
        samples::{box_identity, ended_call},
    },
    recordings::{
        self,
        samples::{reply, wav},
    },
    store::StoreError,
    upstream::samples,
    view::KeeperView,
};
use crate::{
    calls::{EndedCall, Fallback, FallbackReason, LiveCall, Memo},
    config,
    system::clock::Clock,
    twilio::{
        rest::RestFailure,
        sid::{CallSid, RecordingSid},
        webhook::RecordingStatus,
    },
};

/// Far beyond what anything here takes; only a failing test ever waits so long.
const TOO_LONG: Duration = Duration::from_secs(60);

fn options(directory: &Path, sync: config::Sync) -> KeeperOptions {
    KeeperOptions {
        store: config::Store { path: directory.to_owned(), ..config::Store::default() },
        sync,
        language: "he".into(),
        made_by: box_identity(),
        clock: Clock,
        housekeeping: None,
        texts: None,
    }
}

struct Running {
    port: KeeperPort,
    task: JoinHandle<()>,
    errands: mpsc::Receiver<Errand>,
    left: Vec<LiveCall>,
}

impl Running {
    fn start(directory: &Path, sync: config::Sync) -> Self {
        let (sender, errands) = mpsc::channel(16);
        let Started { port, task, left, .. } = Keeper::start(options(directory, sync), sender).unwrap();
        Self { port, task, errands, left: left.calls }
    }

    async fn stop(self) {
        self.port.stop().await;
        self.task.await.unwrap();
    }

    async fn errand(&mut self) -> Errand {
        tokio::time::timeout(TOO_LONG, self.errands.recv()).await.expect("an errand in time").unwrap()
    }

    async fn seen(&self, what: impl FnMut(&KeeperView) -> bool) -> KeeperView {
        let mut view = self.port.view();
        tokio::time::timeout(TOO_LONG, view.wait_for(what)).await.expect("seen in time").unwrap().clone()
    }

    async fn announce(&self, number: u128, recording: u128, status: RecordingStatus) {
        let (call_sid, recording_sid) = (CallSid::from_number(number), RecordingSid::from_number(recording));
        self.port.recording_announced(call_sid, Some(recording_sid), status).await;
    }
}

fn streamed(number: u128) -> EndedCall {
    ended_call(number, None, true)
}

fn recorded(number: u128) -> EndedCall {
    ended_call(number, Some(FallbackReason::NoStreamStart), false)
}

/// What was sent, as the numbers of the calls.
fn numbers(received: &samples::Received) -> Vec<u128> {
    let number = |body: &serde_json::Value| u128::from_str_radix(&body["call_sid"].as_str().unwrap()[2..], 16).unwrap();
    received.lock().unwrap().iter().map(|(_, body)| number(body)).collect()
}

#[tokio::test]
async fn a_kept_record_reaches_the_upstream_and_stays_synced_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (sync, received) = samples::start(&[]).await;
    let keeper = Running::start(directory.path(), sync.clone());
    for number in 1..=3 {
        keeper.port.keep(streamed(number)).await.unwrap();
    }
    let view = keeper.seen(|view| view.unsynced == 0 && view.recent.iter().all(|call| call.synced)).await;
    assert_eq!((view.stored, view.recent.len(), view.can_keep, view.sync_trouble), (3, 3, true, false));
    assert!(view.last_ok.is_some() && view.last_error.is_none());
    keeper.stop().await;

    let keeper = Running::start(directory.path(), sync);
    keeper.port.keep(streamed(4)).await.unwrap();
    keeper.seen(|view| view.recent.len() == 4 && view.recent.iter().all(|call| call.synced)).await;
    assert_eq!(numbers(&received), [1, 2, 3, 4]);
    keeper.stop().await;
}

#[tokio::test]
async fn records_kept_while_the_upstream_is_away_are_sent_in_order_by_the_next_run() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Running::start(directory.path(), config::Sync::default());
    for number in [3, 1, 2] {
        keeper.port.keep(streamed(number)).await.unwrap();
    }
    keeper.stop().await;

    let (sync, received) = samples::start(&["HTTP/1.1 503 Not now", "", "HTTP/1.1 401 Who"]).await;
    let keeper = Running::start(directory.path(), sync);
    let view = keeper.seen(|view| view.stored == 3 && view.unsynced == 0).await;
    assert_eq!(view.last_error.unwrap().message, "HTTP 401");
    assert_eq!(numbers(&received), [3, 3, 3, 3, 1, 2]);
    let received = received.lock().unwrap().clone();
    let key = |head: &str| head.lines().find(|line| line.starts_with("idempotency-key")).unwrap().to_owned();
    assert_eq!(key(&received[0].0), key(&received[3].0));
    keeper.stop().await;
}

#[tokio::test]
async fn a_refused_record_is_parked_and_sent_again_when_somebody_asks() {
    let directory = tempfile::tempdir().unwrap();
    let (sync, received) = samples::start(&["HTTP/1.1 422 No"]).await;
    let keeper = Running::start(directory.path(), sync);
    keeper.port.keep(streamed(1)).await.unwrap();
    keeper.port.keep(streamed(2)).await.unwrap();
    let view = keeper.seen(|view| view.parked == 1 && view.unsynced == 0).await;
    let parked = view.recent.iter().find(|call| call.is_parked()).unwrap().id;
    keeper.port.retry(parked).await.unwrap();
    keeper.seen(|view| view.parked == 0 && view.unsynced == 0 && view.recent.iter().all(|call| call.synced)).await;
    assert!(matches!(keeper.port.retry(parked).await, Err(RetryError::NotParked)));
    assert_eq!(numbers(&received), [1, 2, 1]);
    keeper.stop().await;
}

#[tokio::test]
async fn a_call_is_kept_once_however_often_its_end_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut keeper = Running::start(directory.path(), config::Sync::default());
    for _ in 0..2 {
        keeper.port.keep(streamed(1)).await.unwrap();
        keeper.port.keep(recorded(2)).await.unwrap();
    }
    keeper.announce(2, 7, RecordingStatus::Completed).await;
    let Errand::FetchRecording { reply: answer, .. } = keeper.errand().await else { panic!("a fetch") };
    answer.send(reply(200, wav(800))).unwrap();
    keeper.seen(|view| view.unsynced == 2 && view.awaiting_recording == 0).await;
    keeper.port.keep(recorded(2)).await.unwrap();
    assert_eq!(keeper.port.view().borrow().stored, 2);
    keeper.stop().await;
}

#[tokio::test]
async fn a_recording_becomes_part_of_the_record_and_holds_up_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (sync, received) = samples::start(&[]).await;
    let mut keeper = Running::start(directory.path(), sync);
    keeper.announce(1, 7, RecordingStatus::Completed).await;
    keeper.port.keep(recorded(1)).await.unwrap();
    let Errand::FetchRecording { recording_sid, reply: answer } = keeper.errand().await else { panic!("a fetch") };
    assert_eq!(recording_sid, RecordingSid::from_number(7));

    keeper.port.keep(streamed(2)).await.unwrap();
    let view = keeper.seen(|view| view.recent.iter().any(|call| call.synced)).await;
    assert_eq!(view.awaiting_recording, 1);

    answer.send(reply(200, wav(800))).unwrap();
    keeper.announce(1, 7, RecordingStatus::Completed).await;
    let view = keeper.seen(|view| view.recent.len() == 2 && view.recent.iter().all(|call| call.synced)).await;
    let call = view.recent.iter().find(|call| call.call_sid == CallSid::from_number(1)).unwrap();
    assert_eq!((call.source, call.outcome), (Source::Recording, Outcome::Untranscribed));
    assert_eq!(numbers(&received), [2, 1]);
    let kept = recordings::path(directory.path(), call.call_sid, recording_sid, recordings::Kind::Whole);
    assert_eq!(std::fs::read(kept).unwrap(), wav(800));
    assert!(keeper.errands.try_recv().is_err());
    keeper.stop().await;
}

#[tokio::test]
async fn a_draft_survives_a_restart_and_goes_on_waiting_for_its_recording() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Running::start(directory.path(), config::Sync::default());
    keeper.port.keep(recorded(1)).await.unwrap();
    keeper.stop().await;

    let mut keeper = Running::start(directory.path(), config::Sync::default());
    assert_eq!(keeper.port.view().borrow().awaiting_recording, 1);
    keeper.announce(1, 7, RecordingStatus::Completed).await;
    let Errand::FetchRecording { recording_sid, reply: answer } = keeper.errand().await else { panic!("a fetch") };
    assert_eq!(recording_sid, RecordingSid::from_number(7));
    answer.send(reply(200, wav(800))).unwrap();
    keeper.seen(|view| view.awaiting_recording == 0 && view.unsynced == 1).await;
    keeper.stop().await;

    let read: Vec<_> = read(directory.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].record.recording_sid, Some(recording_sid));
}

#[tokio::test]
async fn a_twilio_that_cannot_be_reached_costs_no_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut keeper = Running::start(directory.path(), config::Sync::default());
    keeper.announce(1, 7, RecordingStatus::Completed).await;
    keeper.port.keep(recorded(1)).await.unwrap();
    for failure in [Some(RestFailure::TimedOut), None] {
        let Errand::FetchRecording { reply: answer, .. } = keeper.errand().await else { panic!("a fetch") };
        match failure {
            Some(failure) => answer.send(Err(failure)).unwrap(),
            None => drop(answer),
        }
    }
    let Errand::FetchRecording { reply: answer, .. } = keeper.errand().await else { panic!("a fetch") };
    answer.send(reply(200, wav(800))).unwrap();
    keeper.seen(|view| view.unsynced == 1).await;
    keeper.stop().await;
}

#[tokio::test]
async fn a_call_that_nothing_sent_to_the_recorder_is_final_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Running::start(directory.path(), config::Sync::default());
    let mut ended = recorded(1);
    ended.fallback = None;
    keeper.port.keep(ended).await.unwrap();
    let view = keeper.seen(|view| view.stored == 1).await;
    assert_eq!((view.awaiting_recording, view.unsynced), (0, 1));
    assert_eq!((view.recent[0].outcome, view.recent[0].reason), (Outcome::NoSpeech, None));
    keeper.stop().await;
}

#[tokio::test]
async fn a_call_whose_redirect_may_have_been_applied_waits_for_its_recording() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Running::start(directory.path(), config::Sync::default());
    let mut ended = recorded(1);
    ended.fallback = Some(Fallback { reason: FallbackReason::NoStreamStart, redirected_at: None });
    keeper.port.keep(ended).await.unwrap();
    let view = keeper.seen(|view| view.stored == 1).await;
    assert_eq!((view.awaiting_recording, view.unsynced), (1, 0));
    keeper.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_told_at_once_and_the_record_is_sent_when_it_takes_again() {
    let directory = tempfile::tempdir().unwrap();
    let (sync, received) = samples::start(&[]).await;
    let memory = MemoryStore::default();
    let opened = memory.clone();
    let (sender, errands) = mpsc::channel(16);
    let Started { port, task, left, .. } =
        Keeper::start_over(options(directory.path(), sync), sender, Box::new(move |_| Ok(Box::new(opened.clone()))))
            .unwrap();
    let keeper = Running { port, task, errands, left: left.calls };
    memory.set_failing(true);
    assert!(matches!(keeper.port.keep(streamed(1)).await, Err(KeepError::NotKept(_))));
    let view = keeper.seen(|view| !view.can_keep).await;
    assert!(view.store_error.unwrap().contains("disk"));
    memory.set_failing(false);
    keeper.seen(|view| view.can_keep && view.recent.iter().any(|call| call.synced)).await;
    assert_eq!(numbers(&received), [1]);
    keeper.stop().await;
}

#[tokio::test]
async fn a_second_keeper_on_the_same_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Running::start(directory.path(), config::Sync::default());
    let (sender, _errands) = mpsc::channel(16);
    let second = Keeper::start(options(directory.path(), config::Sync::default()), sender);
    assert!(matches!(second, Err(KeeperError::Store(StoreError::InUse(_)))));
    assert!(matches!(read(directory.path()), Err(StoreError::InUse(_))));
    keeper.stop().await;
    assert!(read(directory.path()).is_ok());
}

#[tokio::test]
async fn what_was_told_before_the_stop_is_kept_and_after_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Running::start(directory.path(), config::Sync::default());
    let port = keeper.port.clone();
    let (kept, ()) = tokio::join!(port.keep(streamed(1)), keeper.port.stop());
    kept.unwrap();
    keeper.task.await.unwrap();
    assert!(matches!(port.keep(streamed(2)).await, Err(KeepError::Stopped)));
    assert_eq!(read(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_call_that_lived_when_the_box_died_is_found_by_the_next_run_and_one_that_ended_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = Running::start(directory.path(), config::Sync::default());
    assert_eq!(keeper.left, []);
    for number in [1, 2] {
        keeper.port.remember(Box::new(live(&recorded(number), None)), None).await.unwrap();
    }
    let told = recorded(2);
    keeper.port.remember(Box::new(live(&told, told.fallback)), None).await.unwrap();
    keeper.port.keep(recorded(1)).await.unwrap();
    keeper.stop().await;

    let keeper = Running::start(directory.path(), config::Sync::default());
    let [left] = keeper.left.as_slice() else { panic!("{:?}", keeper.left) };
    assert_eq!((left.call_sid, &left.from), (CallSid::from_number(2), &told.from));
    assert_eq!(left.memo.fallback.map(|fallback| fallback.reason), Some(FallbackReason::NoStreamStart));
    keeper.port.keep(recorded(2)).await.unwrap();
    // Too late: its record is there.
    keeper.port.remember(Box::new(live(&told, None)), None).await.unwrap();
    keeper.stop().await;
    let keeper = Running::start(directory.path(), config::Sync::default());
    assert_eq!(keeper.left, []);
    keeper.stop().await;
}

/// The call as the journal has it while it lives.
fn live(ended: &EndedCall, fallback: Option<Fallback>) -> LiveCall {
    LiveCall {
        call_sid: ended.call_sid,
        from: ended.from.clone(),
        to: ended.to.clone(),
        direction: ended.direction,
        answered_at: ended.answered_at,
        memo: Memo { stream_sid: ended.stream_sid, fallback },
    }
}
