//! What the keeper and its housekeeper have to do with each other: what the one tells, and what the other shows.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    books::{Writing, Written},
    deletions::deletable,
    housekeeper::Housekeeper,
    keeper::{Command, Errand, KeeperOptions},
    writer::StorePort,
};
use crate::{
    config,
    limits::KEEPER_QUEUE_MAX,
    twilio::sid::{CallSid, RecordingSid},
};

/// What the housekeeper goes by.
#[derive(Debug, Clone)]
pub struct HousekeepingOptions {
    pub audio: config::Audio,
    /// `fallback.delete_at_twilio`
    pub delete_at_twilio: bool,
    /// How many bytes of audio may still be added: said anew at each look, and taken off by whoever adds some.
    pub room: Arc<AtomicU64>,
}

impl HousekeepingOptions {
    /// Takes room for so many bytes. `false`: there is not so much.
    pub(super) fn take_room(&self, bytes: u64) -> bool {
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes)).is_ok()
    }
}

/// How the audio stands, for staff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AudioView {
    pub bytes: u64,
    pub files: u64,
    /// New audio finds no room, and nothing that is kept may go.
    pub is_full: bool,
    /// Recordings that Twilio has yet to be asked to delete.
    pub to_delete: u64,
}

/// What the keeper tells.
#[derive(Debug)]
pub(super) enum Told {
    /// This box answered a call to this number.
    Answered { to: String },
    /// A finished recording was announced.
    Announced { recording_sid: RecordingSid, call_sid: CallSid },
    /// Twilio did not give this recording in time for its call's record.
    Missing { recording_sid: RecordingSid, call_sid: CallSid },
    /// A call's record is final, with this recording.
    Final { recording_sid: RecordingSid, call_sid: CallSid },
    /// A record is acknowledged, and its recording not needed any more.
    Deletable { recording_sid: RecordingSid },
}

/// The keeper's end of it.
#[derive(Debug)]
pub(super) struct House(Option<(mpsc::Sender<Told>, JoinHandle<()>)>);

impl House {
    /// Starts the housekeeper, where one is wanted.
    pub fn start(
        options: &KeeperOptions,
        store: &StorePort,
        errands: &mpsc::Sender<Errand>,
        keeper: mpsc::WeakSender<Command>,
        has_upstream: bool,
        view: watch::Sender<AudioView>,
    ) -> Self {
        Self(options.housekeeping.clone().map(|housekeeping| {
            let (telling, told) = mpsc::channel(KEEPER_QUEUE_MAX);
            let housekeeper = Housekeeper {
                options: housekeeping,
                directory: options.store.path.clone(),
                has_upstream,
                clock: options.clock,
                store: store.clone(),
                errands: errands.clone(),
                keeper,
                told,
                view,
            };
            (telling, tokio::spawn(housekeeper.run()))
        }))
    }

    /// A housekeeper with its hands full hears nothing: what it missed is in the account's list.
    pub fn tell(&self, told: Told) {
        if let Some((telling, _)) = &self.0 {
            let _ = telling.try_send(told);
        }
    }

    /// Twilio did not give this recording in time for its call's record.
    pub fn tell_missing(&self, call_sid: CallSid, recording_sid: RecordingSid) {
        self.tell(Told::Missing { recording_sid, call_sid });
    }

    /// What became of a record means something for its recording.
    pub fn tell_written(&self, writing: &Writing, written: Written) {
        let told = match (writing, written) {
            (Writing::Final(record), Written::Durable) => {
                record.recording_sid.map(|recording_sid| Told::Final { recording_sid, call_sid: record.call_sid })
            }
            (Writing::Synced { record, .. }, Written::Durable | Written::Already) => {
                deletable(record).map(|recording_sid| Told::Deletable { recording_sid })
            }
            _ => None,
        };
        if let Some(told) = told {
            self.tell(told);
        }
    }

    /// Ends the housekeeper and waits for it: it holds a way to the store.
    pub async fn end(self) {
        if let Some((telling, task)) = self.0 {
            drop(telling);
            let _ = task.await;
        }
    }
}
