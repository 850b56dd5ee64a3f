//! What Twilio's answers to the keeper's errands come to.

use std::path::PathBuf;

use crate::{
    transcripts::{
        pending::{Fetched, Listed},
        recordings,
    },
    twilio::{
        rest::{CallLookup, ListedRecording, RestFailure, RestReply},
        sid::{CallSid, RecordingSid},
    },
};

/// Keeps the audio of an answer; blocks no task.
pub(super) async fn keep_recording(
    store: PathBuf,
    call_sid: CallSid,
    recording_sid: RecordingSid,
    answer: Result<RestReply, RestFailure>,
) -> Fetched {
    let kept = tokio::task::spawn_blocking(move || recordings::keep(&store, call_sid, recording_sid, answer));
    kept.await.unwrap_or(Fetched::Unreachable)
}

/// What a list of a call's recordings says.
pub(super) fn read_listing(answer: Result<Vec<ListedRecording>, CallLookup>) -> Listed {
    match answer {
        // Twilio lists the newest first.
        Ok(recordings) => Listed::Recordings(
            recordings.into_iter().rev().map(|recording| (recording.recording_sid, recording.status)).collect(),
        ),
        // 404 is a wrong account or region: no sign that there is no recording.
        Err(_) => Listed::Unreachable,
    }
}
