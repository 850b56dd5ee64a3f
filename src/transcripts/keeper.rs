//! The keeper's port: ended calls and announcements go in, and it is known when a record is safe.

use std::{fmt, io, sync::Arc, time::Instant};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    house::{AudioView, HousekeepingOptions},
    journal::JournalEntry,
    keeper_loop::KeeperLoop,
    record::{BoxIdentity, Heard, TranscriptId},
    recordings,
    sled_store::Openings,
    store::{Store, StoreError},
    texts::TextOptions,
    upstream::{Upstream, UpstreamError},
    view::KeeperView,
    writer::{NotKept, Opened, Opener, REOPEN_AFTER, StorePort},
};
use crate::{
    calls::{EndedCall, LiveCall},
    config,
    limits::{KEEPER_QUEUE_MAX, STORE_OPEN_MAX},
    system::clock::Clock,
    twilio::{
        recording_list::{CallDetails, NextPage, RecordingsPage},
        rest::{CallLookup, ListedRecording, RestFailure, RestReply},
        sid::{CallSid, RecordingSid},
        webhook::RecordingStatus,
    },
};

/// What the keeper needs to know.
#[derive(Debug, Clone)]
pub struct KeeperOptions {
    pub store: config::Store,
    pub sync: config::Sync,
    /// `speech.language`, for the records.
    pub language: String,
    /// Which box makes the records: [`super::identity::load`].
    pub made_by: BoxIdentity,
    pub clock: Clock,
    /// How audio and recordings are looked after; `None`: not at all.
    pub housekeeping: Option<HousekeepingOptions>,
    /// Who turns audio into text; `None`: nobody, and records are final without.
    pub texts: Option<TextPort>,
}

/// The way to a speech engine, and how long records wait for it.
#[derive(Debug, Clone)]
pub struct TextPort {
    pub options: TextOptions,
    /// Room for [`AWAITING_TEXT_MAX`](crate::limits::AWAITING_TEXT_MAX).
    pub wanted: mpsc::Sender<TextWanted>,
}

/// A call whose audio is to be transcribed. The answer may take hours; one that never comes is one that the record waited
/// for in vain.
#[derive(Debug)]
pub struct TextWanted {
    pub call_sid: CallSid,
    /// Its recording, which is on the disk too, if it is.
    pub recording_sid: Option<RecordingSid>,
    /// What there is of its text by then is the answer.
    pub until: Instant,
    pub reply: oneshot::Sender<Heard>,
}

/// What the keeper wants asked of Twilio. An answer that never comes counts as Twilio out of reach.
#[derive(Debug)]
pub enum Errand {
    /// The recording's audio ([`crate::twilio::rest::RestRequest::recording_media`]), whatever the answer's status.
    FetchRecording { recording_sid: RecordingSid, reply: oneshot::Sender<Result<RestReply, RestFailure>> },
    /// The call's recordings ([`crate::twilio::rest::read_recordings`]).
    ListRecordings { call_sid: CallSid, reply: oneshot::Sender<Result<Vec<ListedRecording>, CallLookup>> },
    /// A page of the account's recordings since that day ([`crate::twilio::recording_list`]).
    ListAccount { since: Timestamp, next: Option<NextPage>, reply: oneshot::Sender<AccountList> },
    /// What Twilio knows of a call.
    FetchCall { call_sid: CallSid, reply: oneshot::Sender<Result<CallDetails, CallLookup>> },
    /// The account's numbers whose voice URL leads to this box; `None`: no usable answer.
    ListNumbers { reply: oneshot::Sender<Option<Vec<String>>> },
    /// Delete the recording at Twilio.
    DeleteRecording { recording_sid: RecordingSid, reply: oneshot::Sender<Result<RestReply, RestFailure>> },
}

/// What came of [`Errand::ListAccount`].
#[derive(Debug, Clone, Default)]
pub struct AccountList {
    /// `None`: no usable answer.
    pub page: Option<RecordingsPage>,
    /// What Twilio's clock said, if it answered at all.
    pub time: Option<Timestamp>,
}

/// Starts the keeper.
pub struct Keeper;

impl Keeper {
    /// Opens the store, resumes what waits in it, and starts the task. It ends, with the store closed, when
    /// [`KeeperPort::stop`] was called or the last port is gone. A store that cannot be opened, or not within
    /// [`STORE_OPEN_MAX`], is opened later: until then nothing can be kept. To be called on a tokio runtime; blocks on the
    /// disk.
    pub fn start(options: KeeperOptions, errands: mpsc::Sender<Errand>) -> Result<Started, KeeperError> {
        let mut openings = Openings::new(options.store.path.clone());
        let open: Opener = Box::new(move |closed_by| Ok(Box::new(openings.open(closed_by)?) as Box<dyn Store>));
        Self::start_over(options, errands, open)
    }

    /// The same over any store.
    pub(super) fn start_over(
        options: KeeperOptions,
        errands: mpsc::Sender<Errand>,
        open: Opener,
    ) -> Result<Started, KeeperError> {
        let upstream = Upstream::new(&options.sync).map_err(KeeperError::Upstream)?;
        let mut starting =
            StorePort::start(open, options.store.max_bytes, REOPEN_AFTER).map_err(KeeperError::Thread)?;
        let clock = options.clock;
        let resumed = match starting.first.recv_timeout(STORE_OPEN_MAX) {
            Ok(Opened::Open) => starting.resumed.try_recv().ok(),
            Ok(Opened::Refused(error)) => return Err(KeeperError::Store(error)),
            Ok(Opened::NotYet(_)) | Err(_) => None,
        };
        if let Err(error) = recordings::prepare(&options.store.path) {
            tracing::error!(%error, "the folder for recordings cannot be made");
        }
        let (commands, receiver) = mpsc::channel(KEEPER_QUEUE_MAX);
        let weak = commands.downgrade();
        let (late_left, late) = oneshot::channel();
        let left = resumed.as_ref().map_or_else(Left::default, |resumed| Left::of(&resumed.live, clock));
        let store = (starting.port, starting.thread);
        let is_late = resumed.is_none();
        let (mut keeper, view, audio) =
            KeeperLoop::new(options, errands, (receiver, weak), upstream, store, resumed.unwrap_or_default());
        if is_late {
            keeper.resume_late(starting.resumed, late_left);
        }
        let port = KeeperPort { commands, view };
        Ok(Started { port, task: tokio::spawn(keeper.run()), left, late, audio })
    }
}

/// A keeper that runs.
#[derive(Debug)]
pub struct Started {
    pub port: KeeperPort,
    /// Ends when the keeper has.
    pub task: JoinHandle<()>,
    /// What the run before left.
    pub left: Left,
    /// The same, where the store is opened later than the keeper starts.
    pub late: oneshot::Receiver<Left>,
    /// How the audio stands, always.
    pub audio: watch::Receiver<AudioView>,
}

/// What the run before left to go on with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Left {
    /// Calls that lived when it ended.
    pub calls: Vec<LiveCall>,
    /// The public host that Twilio reached it under.
    pub host: Option<String>,
}

impl Left {
    pub(super) fn of(entries: &[JournalEntry], clock: Clock) -> Self {
        let resumed = |entry: &JournalEntry| entry.clone().resumed(clock.wall(clock.now()), clock.now());
        Self {
            calls: entries.iter().map(resumed).collect(),
            host: entries.iter().rev().find_map(|entry| entry.host.clone()),
        }
    }
}

/// The way to the keeper; cheap to clone.
#[derive(Debug, Clone)]
pub struct KeeperPort {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<KeeperView>,
}

impl KeeperPort {
    /// Keeps the record of an ended call; `Ok` only once it would survive pulling the plug. A call that has its record
    /// already gets no second one, which is `Ok` too.
    pub async fn keep(&self, ended: EndedCall) -> Result<(), KeepError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Keep { ended: Box::new(ended), reply };
        self.commands.send(command).await.map_err(|_| KeepError::Stopped)?;
        answer.await.unwrap_or(Err(KeepError::Stopped))
    }

    /// Notes a live call, and the public host that Twilio asked for, in the journal, behind what was given to the keeper
    /// before. What it returns is done once that is durable, or is known not to be: it is then tried again with what
    /// changes next.
    pub fn remember(&self, live: Box<LiveCall>, host: Option<Arc<str>>) -> oneshot::Receiver<()> {
        let (reply, answer) = oneshot::channel();
        // A keeper with its hands full drops it, and with it the reply.
        let _ = self.commands.try_send(Command::Remember { live, host, reply });
        answer
    }

    /// A recording of a call was announced, by `handle_recording` or by its status callback: before or after the
    /// call's end, once or more often.
    pub async fn recording_announced(
        &self,
        call_sid: CallSid,
        recording_sid: Option<RecordingSid>,
        status: RecordingStatus,
    ) {
        // A keeper that has stopped finds the recording by listing when it starts again.
        let _ = self.commands.send(Command::Announced { call_sid, recording_sid, status }).await;
    }

    /// Puts a parked record back in the queue, at its old place.
    pub async fn retry(&self, id: TranscriptId) -> Result<(), RetryError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Retry { id, reply }).await;
        match answer.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(RetryError::NotParked),
            Ok(Err(why)) => Err(RetryError::NotKept(why)),
            Err(_) => Err(RetryError::NotKept(NotKept::Stopped)),
        }
    }

    /// How the records stand, always.
    pub fn view(&self) -> watch::Receiver<KeeperView> {
        self.view.clone()
    }

    /// Asks the keeper to end: what was given to it before is brought to the disk first, and an upstream that has a
    /// record in its hands is given a moment to answer. The task's handle tells when it is done.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }
}

/// What reaches the keeper's task.
#[derive(Debug)]
pub(super) enum Command {
    Keep { ended: Box<EndedCall>, reply: oneshot::Sender<Result<(), KeepError>> },
    Remember { live: Box<LiveCall>, host: Option<Arc<str>>, reply: oneshot::Sender<()> },
    Announced { call_sid: CallSid, recording_sid: Option<RecordingSid>, status: RecordingStatus },
    Adopt { found: Box<Found>, reply: oneshot::Sender<Result<(), KeepError>> },
    Retry { id: TranscriptId, reply: oneshot::Sender<Result<bool, NotKept>> },
    Stop,
}

/// A recording of a call that only Twilio knows.
#[derive(Debug)]
pub(super) struct Found {
    pub call_sid: CallSid,
    pub recording_sid: RecordingSid,
    pub call: CallDetails,
    pub created_at: Timestamp,
}

/// Why the keeper cannot start.
#[derive(Debug)]
pub enum KeeperError {
    /// The store is another process's, or a newer kolbox's. Any other that cannot be opened keeps no box from starting.
    Store(StoreError),
    Upstream(UpstreamError),
    /// The store's thread cannot be started.
    Thread(io::Error),
}

/// Why a record is not safe.
#[derive(Debug, Clone)]
pub enum KeepError {
    /// The keeper has stopped.
    Stopped,
    /// The store does not take it now; [`NotKept::Later`] goes on trying.
    NotKept(NotKept),
}

/// Why a parked record is not back in the queue.
#[derive(Debug, Clone)]
pub enum RetryError {
    /// No record of this id is parked.
    NotParked,
    NotKept(NotKept),
}

impl fmt::Display for KeeperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(_) => f.write_str("the store of transcripts cannot be opened"),
            Self::Upstream(_) => f.write_str("transcripts cannot be sent"),
            Self::Thread(_) => f.write_str("the store's thread cannot be started"),
        }
    }
}

impl std::error::Error for KeeperError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Thread(error) => Some(error),
            Self::Upstream(error) => Some(error),
        }
    }
}

impl fmt::Display for KeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "the keeper has stopped",
            Self::NotKept(_) => "the record is not on the disk",
        })
    }
}

impl std::error::Error for KeepError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotKept(error) => Some(error),
            Self::Stopped => None,
        }
    }
}

impl fmt::Display for RetryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotParked => "no parked transcript has this id",
            Self::NotKept(_) => "the store did not take it",
        })
    }
}

impl std::error::Error for RetryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotKept(error) => Some(error),
            Self::NotParked => None,
        }
    }
}
