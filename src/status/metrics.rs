//! The snapshot as figures for Prometheus, and all figures of the box as OpenMetrics text. Nothing in them is personal.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use tokio::sync::watch;

use super::{
    snapshot::{CALL_STATES, Snapshot, call_state_word},
    trouble::TroubleCode,
};

/// What [`render`] gives (OpenMetrics 1.0, "Protocol Negotiation").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is registered, as OpenMetrics text.
///
/// # Errors
/// Only when a value cannot be formatted, which none of ours does.
pub fn render(registry: &Registry) -> Result<String, fmt::Error> {
    let mut out = String::new();
    text::encode(&mut out, registry)?;
    Ok(out)
}

/// The latest snapshot's figures, read when they are asked for.
#[derive(Debug)]
pub struct SnapshotFigures(pub watch::Receiver<Arc<Snapshot>>);

impl Collector for SnapshotFigures {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let snapshot = Arc::clone(&self.0.borrow());
        let mut figures = Figures(encoder);
        figures.running(&snapshot)?;
        figures.calls(&snapshot)?;
        figures.transcripts(&snapshot)?;
        figures.delivery(&snapshot)?;
        figures.storage(&snapshot)?;
        figures.speech(&snapshot)?;
        figures.troubles(&snapshot)
    }
}

struct Figures<'a>(DescriptorEncoder<'a>);

impl Figures<'_> {
    fn running(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let help = "Always 1; the labels say which program runs.";
        let labels = [("version", snapshot.version), ("revision", env!("KOLBOX_REVISION"))];
        self.gauge("kolbox_build_info", help, None)?.encode_family(&labels)?.encode_gauge(&1_i64)?;
        let help = "Time since the start.";
        self.one("kolbox_uptime", help, Some(Unit::Seconds), &snapshot.uptime.as_secs_f64())?;
        let help = "1 while the box finishes its calls before it stops.";
        self.one("kolbox_draining", help, None, &i64::from(snapshot.draining))
    }

    fn calls(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let unit = of("calls");
        let mut states = self.gauge("kolbox", "Live calls by their state.", Some(&unit))?;
        for state in CALL_STATES {
            let calls = snapshot.calls.iter().filter(|call| call.state == state).count();
            states.encode_family(&[("state", call_state_word(state))])?.encode_gauge(&calls)?;
        }
        let help = "Calls that hold a place; the others were sent straight to the recorder.";
        self.one("kolbox_active", help, Some(unit.clone()), &snapshot.active)?;
        self.one("kolbox_capacity", "Places for calls.", Some(unit.clone()), &snapshot.capacity)?;
        let help = "Calls sent to the recorder by REST, since the start.";
        self.counter("kolbox_redirected", help, &unit, snapshot.watchdog.redirects)?;
        let help = "Calls given up since the start: Twilio would not take them to the recorder.";
        self.counter("kolbox_given_up", help, &unit, snapshot.watchdog.failed)
    }

    fn transcripts(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let counts = snapshot.transcripts;
        for (name, help, count) in [
            ("kolbox_stored", "Records on the box, handed over or not.", counts.stored),
            ("kolbox_unsynced", "Records not yet taken by the upstream, parked ones included.", counts.unsynced),
            ("kolbox_parked", "Records that the upstream refused; they are kept.", counts.parked),
            ("kolbox_awaiting_recording", "Records that wait for a recording.", counts.awaiting_recording),
            ("kolbox_damaged", "Records found damaged since the store was made; they are set aside.", counts.damaged),
            ("kolbox_missing", "Records gone without trace since the store was made.", counts.missing),
        ] {
            self.one(name, help, Some(of("transcripts")), &count)?;
        }
        Ok(())
    }

    fn delivery(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let sync = &snapshot.sync;
        let help = "When the upstream took a record last, in Unix time; missing until it has.";
        let at = sync.last_ok.map(|at| at.as_millisecond() as f64 / 1000.0);
        self.perhaps("kolbox_sync_last_ok_timestamp", help, Unit::Seconds, at)?;
        let help = "When a delivery to the upstream failed last, in Unix time; missing until one has.";
        let at = sync.last_error.as_ref().map(|error| error.at.as_millisecond() as f64 / 1000.0);
        self.perhaps("kolbox_sync_last_error_timestamp", help, Unit::Seconds, at)?;
        let help = "How long ago the call ended whose record is the first to be delivered; 0 while nothing waits.";
        let age = sync.waiting_since.map_or(0.0, |since| snapshot.at.duration_since(since).as_secs_f64().max(0.0));
        self.one("kolbox_oldest_unsynced_age", help, Some(Unit::Seconds), &age)
    }

    /// Missing until it was measured.
    fn storage(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let storage = snapshot.storage;
        for (name, help, bytes) in [
            ("kolbox_records_disk", "What records take on the disk.", storage.map(|used| used.records_bytes)),
            ("kolbox_audio_disk", "What audio takes on the disk.", storage.map(|used| used.audio_bytes)),
            ("kolbox_free_disk", "What could still be written there.", storage.and_then(|used| used.free_bytes)),
        ] {
            self.perhaps(name, help, Unit::Bytes, bytes)?;
        }
        Ok(())
    }

    /// Missing where no engine is configured.
    fn speech(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let Some(speech) = &snapshot.speech else { return Ok(()) };
        let help = "Records that wait for their text.";
        self.one("kolbox_awaiting_text", help, Some(of("transcripts")), &speech.calls_waiting)?;
        let help = "How long ago the call ended that has waited longest for its text; 0 while none waits.";
        let age = speech.longest_wait(snapshot.at).as_secs_f64();
        self.one("kolbox_oldest_awaiting_text_age", help, Some(Unit::Seconds), &age)?;
        let help = "1 while the speech engine does not answer.";
        self.one("kolbox_speech_engine_silent", help, None, &i64::from(speech.silent_since.is_some()))
    }

    fn troubles(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let help = "1 for what needs a person now; the codes are those of /api/status.";
        let mut troubles = self.gauge("kolbox_trouble", help, None)?;
        for code in TroubleCode::ALL {
            let stands = i64::from(snapshot.troubles.contains(&code));
            troubles.encode_family(&[("code", code.as_str())])?.encode_gauge(&stands)?;
        }
        Ok(())
    }

    /// A figure without labels.
    fn one(&mut self, name: &str, help: &str, unit: Option<Unit>, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.gauge(name, help, unit.as_ref())?.encode_gauge(value)
    }

    /// A figure without labels that is not always there.
    fn perhaps(&mut self, name: &str, help: &str, unit: Unit, value: Option<impl EncodeGaugeValue>) -> fmt::Result {
        let mut gauge = self.gauge(name, help, Some(&unit))?;
        value.map_or(Ok(()), |value| gauge.encode_gauge(&value))
    }

    fn gauge<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)
    }

    fn counter(&mut self, name: &str, help: &str, unit: &Unit, value: u64) -> fmt::Result {
        let mut counter = self.0.encode_descriptor(name, help, Some(unit), MetricType::Counter)?;
        counter.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }
}

/// A unit that OpenMetrics has no name for. It ends the figure's own name.
fn of(things: &str) -> Unit {
    Unit::Other(things.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::samples;

    fn text_of(snapshot: Snapshot) -> String {
        let (_, seen) = watch::channel(Arc::new(snapshot));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(SnapshotFigures(seen)));
        render(&registry).unwrap()
    }

    #[test]
    fn every_figure_of_the_snapshot_is_there() {
        let text = text_of(samples::fallback());
        for line in [
            "kolbox_calls{state=\"streaming\"} 1",
            "kolbox_calls{state=\"falling_back\"} 1",
            "kolbox_calls{state=\"recording\"} 1",
            "kolbox_calls{state=\"awaiting_stream\"} 1",
            "kolbox_calls{state=\"ending\"} 0",
            "kolbox_active_calls 4",
            "kolbox_capacity_calls 64",
            "kolbox_redirected_calls_total 3",
            "kolbox_given_up_calls_total 0",
            "kolbox_stored_transcripts 41",
            "kolbox_unsynced_transcripts 2",
            "kolbox_parked_transcripts 0",
            "kolbox_awaiting_recording_transcripts 1",
            "kolbox_damaged_transcripts 0",
            "kolbox_missing_transcripts 0",
            "kolbox_oldest_unsynced_age_seconds 0.0",
            "kolbox_records_disk_bytes 12582912",
            "kolbox_audio_disk_bytes 310000000",
            "kolbox_free_disk_bytes 21474836480",
            "kolbox_sync_last_ok_timestamp_seconds 1795336035.25",
            "kolbox_uptime_seconds 266500.0",
            "kolbox_draining 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("kolbox_build_info{version=\"0.1.0\",revision=\""), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn troubles_stand_under_their_codes_and_a_box_that_never_delivered_names_no_time() {
        let text = text_of(samples::trouble());
        assert!(text.contains("kolbox_trouble{code=\"sync_failing\"} 1\n"), "{text}");
        assert!(text.contains("kolbox_trouble{code=\"store_failing\"} 0\n"));
        assert!(text.contains("\nkolbox_oldest_unsynced_age_seconds 9000.0\n"), "{text}");
        assert!(text.contains("\nkolbox_sync_last_error_timestamp_seconds 1795336295.25\n"), "{text}");
        assert!(text.contains("\nkolbox_damaged_transcripts 1\n"), "{text}");
        assert!(!text_of(Snapshot { storage: None, ..samples::idle() }).contains("\nkolbox_records_disk"));
        assert!(!text_of(samples::idle()).contains("\nkolbox_sync_last_ok"));
    }

    #[test]
    fn what_waits_for_its_text_is_told_where_there_is_an_engine() {
        let text = text_of(samples::unheard());
        for line in [
            "kolbox_awaiting_text_transcripts 3",
            "kolbox_oldest_awaiting_text_age_seconds 3725.0",
            "kolbox_speech_engine_silent 1",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
        }
        assert!(!text_of(samples::idle()).contains("speech_engine"));
    }

    #[test]
    fn every_figure_says_what_it_is_and_in_which_unit() {
        let text = text_of(samples::fallback());
        let described =
            |what: &str, name: &str| text.lines().any(|line| line.starts_with(&format!("# {what} {name} ")));
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().unwrap();
            let name = name.strip_suffix("_total").unwrap_or(name);
            assert!(described("HELP", name) && described("TYPE", name), "{name}");
            let is_flag = ["kolbox_build_info", "kolbox_draining", "kolbox_trouble"].contains(&name);
            assert!(is_flag || described("UNIT", name), "{name}");
        }
    }

    #[test]
    fn no_figure_tells_who_called() {
        for snapshot in [samples::fallback(), samples::trouble()] {
            let text = text_of(snapshot);
            for personal in ["972", "567", "CA0123", "01JD", "office.example"] {
                assert!(!text.contains(personal), "{personal}\n{text}");
            }
        }
    }
}
