//! The audio on the box as figures for Prometheus.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};
use tokio::sync::watch;

use crate::{speech::spool::SpoolLosses, transcripts::AudioView};

/// What is kept and what was lost, read when it is asked for.
#[derive(Debug)]
pub(super) struct AudioFigures {
    pub audio: watch::Receiver<AudioView>,
    pub losses: Arc<SpoolLosses>,
}

impl Collector for AudioFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let view = *self.audio.borrow();
        for (name, help, unit, value) in [
            ("kolbox_audio", "What the callers' voices on the box take.", Some(Unit::Bytes), view.bytes),
            ("kolbox_audio_files", "Files with callers' voices.", None, view.files),
            ("kolbox_audio_full", "1 while new audio finds no room, and none may go.", None, u64::from(view.is_full)),
            ("kolbox_recordings_to_delete", "Recordings yet to be deleted at Twilio.", None, view.to_delete),
        ] {
            encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let help =
            "Audio of streams that was not kept: queue (the disk was too slow), disk (it refused), room (none left).";
        let mut dropped =
            encoder.encode_descriptor("kolbox_audio_dropped", help, Some(&Unit::Bytes), MetricType::Counter)?;
        let losses = &self.losses;
        for (reason, bytes) in [("queue", &losses.queue), ("disk", &losses.disk), ("room", &losses.room)] {
            let bytes = bytes.load(Ordering::Relaxed);
            dropped.encode_family(&[("reason", reason)])?.encode_counter::<NoLabelSet, _, u64>(&bytes, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn what_is_kept_and_what_was_lost_are_figures() {
        let view = AudioView { bytes: 480_044, files: 2, is_full: true, to_delete: 1 };
        let losses = Arc::<SpoolLosses>::default();
        losses.room.store(4_096, Ordering::Relaxed);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(AudioFigures { audio: watch::channel(view).1, losses }));
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        for line in [
            "kolbox_audio_bytes 480044",
            "kolbox_audio_files 2",
            "kolbox_audio_full 1",
            "kolbox_recordings_to_delete 1",
            "kolbox_audio_dropped_bytes_total{reason=\"queue\"} 0",
            "kolbox_audio_dropped_bytes_total{reason=\"room\"} 4096",
        ] {
            assert!(out.contains(&format!("\n{line}\n")), "{line}: {out}");
        }
    }
}
