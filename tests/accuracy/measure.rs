//! One engine, one sound: the words that it gets wrong, its time, and the most memory that its process took meanwhile.

use std::{
    error::Error,
    fmt, fs,
    time::{Duration, Instant},
};

use kolbox::speech::recognizer::{Question, Recognizer};
use serde::{Deserialize, Serialize};

use super::{
    sounds::Sound,
    words::{words, wrong_words},
};

/// For an answer; as good as for ever.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// A row of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    engine: String,
    sound: String,
    said: usize,
    wrong: usize,
    /// Seconds that it works for a second of sound.
    real_time_factor: f64,
    peak_memory_bytes: u64,
    text: String,
}

/// Asks once, for what an engine does but the first time, and then so often as said. The words are those of the last answer.
pub fn measure(engine: &dyn Recognizer, process: u32, sound: &Sound, runs: u32) -> Result<Row, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = || {
        let question = Question { sound: sound.pcm.clone(), deadline: tokio::time::Instant::now() + PATIENCE };
        let begin = Instant::now();
        runtime.block_on(engine.recognize(question)).map(|transcript| (begin.elapsed(), transcript.text))
    };
    let (_, mut text) = ask()?;
    forget_peak(process)?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let (time, heard) = ask()?;
        times.push(time);
        text = heard;
    }
    times.sort_unstable();
    Ok(Row {
        engine: engine.name().to_owned(),
        sound: sound.name.clone(),
        said: sound.said.len(),
        wrong: wrong_words(&sound.said, &words(&text)),
        real_time_factor: times[times.len() / 2].as_secs_f64() / sound.pcm.duration().as_secs_f64(),
        peak_memory_bytes: peak(process)?,
        text,
    })
}

/// proc(5): a 5 in `clear_refs` sets the peak back to what is taken now.
fn forget_peak(process: u32) -> Result<(), String> {
    fs::write(format!("/proc/{process}/clear_refs"), "5").map_err(|error| format!("its memory: {error}"))
}

fn peak(process: u32) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(value.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
}

impl Row {
    /// Says what was heard, while the others are still waited for.
    pub fn tell(&self) {
        println!("{}, {}: {}", self.engine, self.sound, self.text);
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engine, sound, said, wrong, real_time_factor, peak_memory_bytes, text: _ } = self;
        let (rate, megabytes) = (*wrong as f64 / (*said).max(1) as f64, peak_memory_bytes / (1024 * 1024));
        write!(f, "| {engine} | {sound} | {said} | {wrong} | {rate:.2} | {real_time_factor:.2} | {megabytes} MiB |")
    }
}
