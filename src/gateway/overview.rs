//! The box at a glance: joins what desk, keeper and lamps say into one snapshot, and tells the lamps and the desk of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{certificate, texts::Transcribing};
use crate::{
    board::lamps::{Inputs, LampsView},
    calls::{CallView, DeskView, Event, RestTrouble},
    server::{desk_port::DeskPort, tls::CertificateState},
    speech::transcriber::LastWords,
    status::{
        caller::Caller,
        snapshot::{
            AudioUse, CallNow, RecentCall, Snapshot, SpeechState, Storage, SyncError, SyncState, TranscriptCounts,
            WatchdogCounts,
        },
        trouble::TroubleCode,
    },
    system::clock::Clock,
    transcripts::{self, AudioView, KeeperView, StoreTrouble, Words},
    twilio::sid::CallSid,
};

/// The page's clock: what grows older is shown anew this often.
const BEAT: Duration = Duration::from_secs(1);
/// Changes that come closer together than this are shown together.
const GATHER: Duration = Duration::from_millis(50);

/// What the snapshot is made of.
pub(super) struct Overview {
    pub clock: Clock,
    pub began: Instant,
    pub board_profile: String,
    pub sync_configured: bool,
    /// Troubles that were there from the start and stay.
    pub standing: Vec<TroubleCode>,
    /// What is wrong with it comes and goes.
    pub certificate: watch::Receiver<CertificateState>,
    pub desk: DeskPort,
    pub desk_view: watch::Receiver<DeskView>,
    pub keeper_view: watch::Receiver<KeeperView>,
    pub audio: watch::Receiver<AudioView>,
    pub lamps: watch::Receiver<LampsView>,
    /// What the files take.
    pub storage: watch::Receiver<Option<Storage>>,
    /// `None`: no speech engine is configured.
    pub speech: Option<Transcribing>,
}

impl Overview {
    /// Runs until the desk or the keeper is gone. `lamp_inputs` drops then, and the lamps go dark.
    pub(super) async fn run(mut self, snapshot: watch::Sender<Arc<Snapshot>>, lamp_inputs: watch::Sender<Inputs>) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut could_keep = true;
        loop {
            let can_keep = self.keeper_view.borrow().can_keep;
            if can_keep != could_keep {
                could_keep = can_keep;
                self.desk.tell(Event::StoreChanged { can_keep }).await;
            }
            let now = self.snapshot();
            let inputs = now.lamp_inputs();
            lamp_inputs.send_if_modified(|old| std::mem::replace(old, inputs) != inputs);
            snapshot.send_replace(Arc::new(now));
            let changed = tokio::select! {
                changed = self.desk_view.changed() => changed,
                changed = self.keeper_view.changed() => changed,
                _ = beat.tick() => Ok(()),
            };
            if changed.is_err() {
                return;
            }
            sleep(GATHER).await;
        }
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let desk = self.desk_view.borrow_and_update().clone();
        let keeper = self.keeper_view.borrow_and_update().clone();
        let lamps = *self.lamps.borrow_and_update();
        let now = self.clock.now();
        let mut calls: Vec<&CallView> = desk.calls.iter().collect();
        calls.sort_by_key(|call| call.since);
        Snapshot {
            at: self.clock.wall(now),
            uptime: now.saturating_duration_since(self.began),
            version: env!("CARGO_PKG_VERSION"),
            board_profile: self.board_profile.clone(),
            lamps,
            draining: desk.draining,
            calls: calls.into_iter().map(|call| self.call_now(call, now)).collect(),
            active: desk.active,
            capacity: desk.capacity,
            watchdog: WatchdogCounts { redirects: desk.redirects, failed: desk.failed },
            transcripts: TranscriptCounts {
                stored: keeper.stored,
                unsynced: keeper.unsynced + keeper.parked,
                parked: keeper.parked,
                awaiting_recording: keeper.awaiting_recording,
                damaged: keeper.damaged,
                missing: keeper.missing,
            },
            sync: SyncState {
                configured: self.sync_configured,
                last_ok: keeper.last_ok,
                last_error: keeper.last_error.clone().map(|error| SyncError { at: error.at, message: error.message }),
                waiting_since: keeper.oldest_unsynced,
            },
            storage: *self.storage.borrow(),
            audio: self.audio_use(),
            speech: self.speech(&keeper),
            troubles: self.troubles(&desk, &keeper),
            recent: keeper.recent.into_iter().map(recent_call).collect(),
        }
    }

    fn call_now(&self, call: &CallView, now: Instant) -> CallNow {
        let since: Timestamp = self.clock.wall(call.since);
        CallNow {
            call_sid: call.call_sid.to_string(),
            from: Caller::new(call.from.whole()),
            state: call.state,
            since,
            last_media_ago: call.last_media.map(|heard| now.saturating_duration_since(heard)),
            last_words: self.last_words(call.call_sid),
        }
    }

    fn last_words(&self, call_sid: CallSid) -> Option<Words> {
        let live = self.speech.as_ref()?.words.borrow();
        live.get(&call_sid).map(|LastWords(words)| Words(words.clone()))
    }

    fn speech(&self, keeper: &KeeperView) -> Option<SpeechState> {
        let engine = self.speech.as_ref()?.engine.borrow().clone();
        Some(SpeechState {
            engine: engine.name,
            silent_since: engine.silent_since.map(|since| self.clock.wall(since)),
            last_error: engine.last_error,
            calls_waiting: keeper.awaiting_text,
            waiting_since: keeper.oldest_awaiting_text,
        })
    }

    fn audio_use(&self) -> AudioUse {
        let AudioView { bytes, files, is_full, .. } = *self.audio.borrow();
        AudioUse { bytes, files, full: is_full }
    }

    fn is_engine_silent(&self) -> bool {
        self.speech.as_ref().is_some_and(|speech| speech.engine.borrow().silent_since.is_some())
    }

    /// The worst first.
    fn troubles(&self, desk: &DeskView, keeper: &KeeperView) -> Vec<TroubleCode> {
        let rest = desk.rest_trouble.map(|trouble| match trouble {
            RestTrouble::Unauthorized => TroubleCode::TwilioCredentials,
            RestTrouble::NotFound => TroubleCode::TwilioWrongAccount,
            RestTrouble::Refused { .. } => TroubleCode::TwilioRefused,
            RestTrouble::Unreachable => TroubleCode::TwilioUnreachable,
        });
        let mut troubles: Vec<TroubleCode> = [
            keeper.store_trouble.map(store_trouble),
            (keeper.quarantined > 0).then_some(TroubleCode::StoreDamaged),
            rest,
            keeper.sync_trouble.then_some(TroubleCode::SyncFailing),
            (keeper.parked > 0).then_some(TroubleCode::TranscriptsParked),
            self.audio.borrow().is_full.then_some(TroubleCode::AudioFull),
            self.is_engine_silent().then_some(TroubleCode::SpeechSilent),
        ]
        .into_iter()
        .flatten()
        .chain(self.standing.iter().copied())
        .chain(certificate::troubles(&self.certificate.borrow()))
        .collect();
        troubles.sort_unstable();
        troubles
    }
}

fn store_trouble(trouble: StoreTrouble) -> TroubleCode {
    match trouble {
        StoreTrouble::Opening => TroubleCode::StoreOpening,
        StoreTrouble::DiskFull => TroubleCode::StoreDiskFull,
        StoreTrouble::NotWritable => TroubleCode::StoreNotWritable,
        StoreTrouble::Failing => TroubleCode::StoreFailing,
        StoreTrouble::FullOfUnsynced => TroubleCode::StoreFull,
    }
}

fn recent_call(call: transcripts::RecentCall) -> RecentCall {
    RecentCall {
        parked: call.is_parked(),
        id: call.id.to_string(),
        call_sid: call.call_sid.to_string(),
        from: Caller::new(call.from.whole()),
        started_at: call.started_at,
        lasted: Duration::from_millis(call.duration_ms),
        outcome: call.outcome,
        source: call.source,
        reason: call.reason,
        synced: call.synced,
    }
}
