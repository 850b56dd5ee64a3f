//! What the box's files take on the disk: measured seldom, off the paths of calls.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::{status::snapshot::Storage, system::disk_use, transcripts::recordings};

/// How long a measure holds. A walk over a full audio folder takes a card some tenths of a second.
const EVERY: Duration = Duration::from_secs(60);

/// Measures the store's directory for ever.
pub(super) async fn watch(store: PathBuf, seen: watch::Sender<Option<Storage>>) {
    while !seen.is_closed() {
        let store = store.clone();
        if let Ok(measured) = spawn_blocking(move || measure(&store)).await {
            seen.send_replace(Some(measured));
        }
        sleep(EVERY).await;
    }
}

fn measure(store: &Path) -> Storage {
    let audio = store.join(recordings::FOLDER);
    Storage {
        records_bytes: disk_use::below_except(store, Some(&audio)),
        audio_bytes: disk_use::below(&audio),
        free_bytes: disk_use::free(store).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn records_and_audio_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let audio = folder.path().join(recordings::FOLDER);
        std::fs::create_dir(&audio).unwrap();
        for (file, length) in [(audio.join("call"), 200_000), (folder.path().join("records"), 9_000)] {
            std::fs::write(&file, vec![1; length]).unwrap();
            std::fs::File::open(&file).unwrap().sync_all().unwrap();
        }
        let (seen, mut measured) = watch::channel(None);
        let task = tokio::spawn(watch(folder.path().to_owned(), seen));
        let storage = measured.wait_for(Option::is_some).await.unwrap().unwrap();
        assert!((9_000..100_000).contains(&storage.records_bytes), "{storage:?}");
        assert!((200_000..300_000).contains(&storage.audio_bytes), "{storage:?}");
        assert!(storage.free_bytes.is_some());
        task.abort();
    }
}
