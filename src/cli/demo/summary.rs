//! What the demo came to: a table of what each caller met, one of what reached the office, and the verdict.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::Value;

use super::{
    cast::Role,
    play::Played,
    screen::{BAD, BOLD, FAINT, GOOD},
};
use crate::{
    simulator::{
        report::{CallReport, Outcome},
        upstream::{Transcript, Upstream},
    },
    twilio::sid::CallSid,
};

/// What is shown of a text.
const SAID_CHARS_MAX: usize = 64;

/// What reached the office.
#[derive(Debug)]
pub struct Delivered {
    pub transcripts: Vec<Transcript>,
    /// Records that came again.
    pub repeated: u64,
    /// Deliveries that were refused while it was down.
    pub turned_away: u64,
}

impl Delivered {
    /// All of it, until now.
    pub fn to(upstream: &Upstream) -> Self {
        Self { transcripts: upstream.transcripts(), repeated: upstream.repeated(), turned_away: upstream.turned_away() }
    }

    fn of(&self, call_sid: CallSid) -> impl Iterator<Item = &Transcript> {
        self.transcripts.iter().filter(move |transcript| transcript.body["call_sid"] == call_sid.as_str())
    }
}

/// What is not as it was promised; empty: the promise was kept.
pub fn judge(played: &Played, delivered: &Delivered) -> Vec<String> {
    let mut failures = Vec::new();
    for (role, report) in &played.cast {
        if !report.outcome.is_kept() {
            failures.push(format!("{}'s call ended in neither a stream nor a recording: {report}", role.name));
        }
        judge_record(role.name, report, delivered, &mut failures);
    }
    for report in &played.crowd {
        if report.outcome == Outcome::Lost {
            failures.push(format!("one of the crowd was lost: {report}"));
        }
        judge_record("one of the crowd", report, delivered, &mut failures);
    }
    let reports = played.cast.len() + played.crowd.len();
    if reports != played.placed {
        failures.push(format!("{} calls were placed, and {reports} came to an end", played.placed));
    }
    if delivered.transcripts.len() > played.placed {
        failures.push(format!("{} records reached the office, too many", delivered.transcripts.len()));
    }
    if delivered.repeated > 0 {
        failures.push(format!("{} records reached the office twice", delivered.repeated));
    }
    failures
}

fn judge_record(name: &str, report: &CallReport, delivered: &Delivered, failures: &mut Vec<String>) {
    let records: Vec<&Transcript> = delivered.of(report.call_sid).collect();
    let [record] = records.as_slice() else {
        return failures.push(format!("{name}: {} records of {} reached the office", records.len(), report.call_sid));
    };
    let recording = match report.outcome {
        Outcome::Recorded(recording_sid) => Some(recording_sid),
        _ => None,
    };
    if record.body["recording_sid"].as_str() != recording.as_ref().map(|recording_sid| recording_sid.as_str()) {
        let known = &record.body["recording_sid"];
        failures.push(format!("{name}: the record names the recording {known}, Twilio took {recording:?}"));
    }
}

/// Both tables and the verdict.
pub fn text(played: &Played, delivered: &Delivered, failures: &[String]) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write_callers(&mut text, played);
    let _ = write_records(&mut text, played, delivered);
    let _ = write_verdict(&mut text, played, failures);
    text
}

fn write_callers(text: &mut String, played: &Played) -> std::fmt::Result {
    writeln!(text, "\n{BOLD}What each caller met{BOLD:#}\n")?;
    let head =
        format!("{:<7} {:<36} {:>8} {:>8} {:>12}", "caller", "what happens", "streamed", "recorded", "in silence");
    writeln!(text, "  {FAINT}{head}{FAINT:#}")?;
    for (role, report) in &played.cast {
        let [streamed, recorded, silence] = [report.streamed, report.recorded, report.longest_silence].map(seconds);
        writeln!(text, "  {:<7} {:<36} {streamed:>8} {recorded:>8} {silence:>12}", role.name, role.story)?;
    }
    let silence = played.crowd.iter().map(|report| report.longest_silence).max().unwrap_or_default();
    let streamed: Duration = played.crowd.iter().map(|report| report.streamed).sum();
    let recorded: Duration = played.crowd.iter().map(|report| report.recorded).sum();
    let [streamed, recorded, silence] = [streamed, recorded, silence].map(seconds);
    let story = format!("{} people; hang up in the greeting", played.crowd.len());
    writeln!(text, "  {:<7} {story:<36} {streamed:>8} {recorded:>8} {silence:>12}", "crowd")?;
    writeln!(text, "\n  {FAINT}in silence: the longest time that nobody spoke and nobody listened{FAINT:#}")
}

fn write_records(text: &mut String, played: &Played, delivered: &Delivered) -> std::fmt::Result {
    writeln!(text, "\n{BOLD}What reached the office's system{BOLD:#}\n")?;
    let head = format!("{:<7} {:<26}  {:<9}  {:<13}  {}", "caller", "id", "source", "outcome", "reason");
    writeln!(text, "  {FAINT}{head}{FAINT:#}")?;
    for (role, _) in &played.cast {
        write_records_of(text, role, delivered)?;
    }
    write_records_of_crowd(text, delivered)?;
    let turned_away = delivered.turned_away;
    writeln!(text, "\n  {FAINT}in the order of the calls; {turned_away} deliveries were turned away before{FAINT:#}")
}

fn write_records_of(text: &mut String, role: &Role, delivered: &Delivered) -> std::fmt::Result {
    let mut records = delivered.of(role.call_sid()).peekable();
    if records.peek().is_none() {
        return writeln!(text, "  {:<7} {BAD}nothing{BAD:#}", role.name);
    }
    for Transcript { key, body } in records {
        let [source, outcome, reason] = words(body);
        writeln!(text, "  {:<7} {key:<26}  {source:<9}  {outcome:<13}  {reason}", role.name)?;
        if let Some(said) = body["text"].as_str().filter(|said| !said.is_empty()) {
            writeln!(text, "  {:<7} {FAINT}“{}”{FAINT:#}", "", in_short(said))?;
        }
    }
    Ok(())
}

/// Records that are alike but for their ids share a line.
fn write_records_of_crowd(text: &mut String, delivered: &Delivered) -> std::fmt::Result {
    let mut kinds: BTreeMap<[&str; 3], usize> = BTreeMap::new();
    for transcript in delivered.transcripts.iter().filter(|transcript| caller(transcript).is_none()) {
        *kinds.entry(words(&transcript.body)).or_default() += 1;
    }
    for ([source, outcome, reason], count) in kinds {
        let count = format!("{count} records");
        writeln!(text, "  {:<7} {count:<26}  {source:<9}  {outcome:<13}  {reason}", "crowd")?;
    }
    Ok(())
}

fn write_verdict(text: &mut String, played: &Played, failures: &[String]) -> std::fmt::Result {
    if failures.is_empty() {
        let count = played.placed;
        return writeln!(
            text,
            "\n{GOOD}KEPT{GOOD:#}  {count} of {count} calls, two outages and one SIGKILL: no caller ended in\n      \
             silence, and every record reached the office exactly once.\n"
        );
    }
    writeln!(text, "\n{BAD}NOT KEPT{BAD:#}")?;
    failures.iter().try_for_each(|failure| writeln!(text, "  - {failure}"))?;
    writeln!(text)
}

fn caller(transcript: &Transcript) -> Option<&'static Role> {
    Role::of(transcript.body["call_sid"].as_str()?.parse().ok()?)
}

/// On one line of a terminal.
fn in_short(said: &str) -> String {
    let mut line: String = said.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
    if said.chars().count() > SAID_CHARS_MAX {
        line.push('…');
    }
    line
}

/// Source, outcome and reason.
fn words(body: &Value) -> [&str; 3] {
    [&body["source"], &body["outcome"], &body["fallback"]["reason"]].map(|value| value.as_str().unwrap_or("-"))
}

fn seconds(length: Duration) -> String {
    if length.is_zero() { "-".to_owned() } else { format!("{:.1} s", length.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{cli::demo::cast::ROLES, simulator::report::Ending, twilio::sid::RecordingSid};

    fn report(call_sid: CallSid, outcome: Outcome) -> CallReport {
        CallReport {
            call_sid,
            ending: Some(Ending::CallerLeft),
            outcome,
            spans: Vec::new(),
            streamed: Duration::ZERO,
            recorded: Duration::from_secs(9),
            longest_silence: Duration::ZERO,
            streams_started: 0,
            marks_echoed: 0,
            tone_heard: false,
            rest_updates: 1,
            rest_refused: 0,
            redirect_after_answer: None,
            redirect_after_fault: None,
            debugger: Vec::new(),
        }
    }

    fn recorded() -> Played {
        let call_sid = ROLES[2].call_sid();
        let report = report(call_sid, Outcome::Recorded(RecordingSid::from_number(7)));
        Played { cast: vec![(ROLES[2], report)], crowd: Vec::new(), placed: 1 }
    }

    fn transcript(key: &str, recording_sid: Option<RecordingSid>) -> Transcript {
        let recording_sid = recording_sid.map(|recording_sid| recording_sid.to_string());
        let body = json!({
            "call_sid": ROLES[2].call_sid().as_str(), "recording_sid": recording_sid, "source": "recording",
            "outcome": "untranscribed", "fallback": {"reason": "no_stream_start"},
        });
        Transcript { key: key.to_owned(), body }
    }

    fn delivered(transcripts: Vec<Transcript>) -> Delivered {
        Delivered { transcripts, repeated: 0, turned_away: 3 }
    }

    #[test]
    fn kept_is_a_call_with_its_voice_and_exactly_one_record_that_names_it() {
        let whole = delivered(vec![transcript("A", Some(RecordingSid::from_number(7)))]);
        assert_eq!(judge(&recorded(), &whole), [""; 0]);
        let shown = text(&recorded(), &whole, &[]);
        let line = shown.lines().rfind(|line| line.contains("Gil")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["Gil", "A", "recording", "untranscribed", "no_stream_start"]);
    }

    #[test]
    fn what_is_missing_double_or_lost_is_named() {
        let one = transcript("A", Some(RecordingSid::from_number(7)));
        for (transcripts, named) in [
            (vec![], "0 records"),
            (vec![one.clone(), transcript("B", Some(RecordingSid::from_number(7)))], "2 records"),
            (vec![transcript("A", None)], "names the recording null"),
        ] {
            let failures = judge(&recorded(), &delivered(transcripts));
            assert!(failures.iter().any(|failure| failure.contains(named)), "{named}: {failures:?}");
        }
        let repeated = Delivered { repeated: 1, ..delivered(vec![one.clone()]) };
        assert_eq!(judge(&recorded(), &repeated), ["1 records reached the office twice"]);
        let mut lost = recorded();
        lost.cast[0].1.outcome = Outcome::Lost;
        let failures = judge(&lost, &delivered(vec![one]));
        assert!(failures[0].starts_with("Gil's call ended in neither"), "{failures:?}");
        assert!(text(&lost, &delivered(vec![]), &failures).contains("NOT KEPT"));
    }
}
