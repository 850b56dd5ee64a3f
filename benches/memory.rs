//! What a stream takes of the box's memory: the real `kolbox serve` with TLS, nothing of it replaced.
//!
//! An idle stream is a call that was answered, whose stream was believed, and on which nothing was said yet; a busy one is
//! spoken on. The figure is the growth of the process's memory (`RssAnon`, the kernel's own socket buffers are not in it)
//! over so many of them, divided by their number.

use std::{error::Error, process::ExitCode, time::Instant};

use kolbox::limits::CALLS_MAX;
use tokio::task::JoinSet;

use self::{
    line::Line,
    support::{
        figures::Table,
        gateway::Gateway,
        phone::{CallError, Phone},
        wire::Wire,
    },
};

#[allow(dead_code)]
#[path = "support/line.rs"]
mod line;
#[allow(dead_code)]
mod support;

/// In KiB.
const BUSY_STREAM_MAX: f64 = 48.0;
/// Of each stream: two seconds, in which its audio's first pieces are handed to the disk.
const FRAMES: u32 = 100;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a busy stream takes more than {BUSY_STREAM_MAX} KiB");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("nothing was measured: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut table = Table::new(&["streams", "KiB each, idle", "KiB each, busy"]);
    let mut is_small = true;
    for count in [64, 256, 1_024].into_iter().filter(|count| *count <= CALLS_MAX) {
        let (idle, busy) = runtime.block_on(grown(count))?;
        is_small &= busy <= BUSY_STREAM_MAX;
        table.row([count.to_string(), format!("{idle:.1}"), format!("{busy:.1}")]);
    }
    print!("{table}");
    println!("at most {BUSY_STREAM_MAX} KiB for a busy stream; more than {CALLS_MAX} at once: KOLBOX_CALLS_MAX");
    Ok(is_small)
}

/// So many streams that are silent yet, and the same ones once they were spoken on at the pace of speech: KiB of each.
async fn grown(count: usize) -> Result<(f64, f64), Failure> {
    let settings = [
        ("KOLBOX_PUBLIC__MAX_CONNECTIONS", (2 * count + 64).to_string()),
        // The first stream is silent until the last one is there.
        ("KOLBOX_WATCHDOG__NO_MEDIA_TIMEOUT", "5m".to_owned()),
    ];
    let gateway = Gateway::start(&settings.map(|(name, value)| (name.to_owned(), value)))?;
    let phone = Phone::new(Wire::new(gateway.public).map_err(|error| error.to_string())?.into());
    warm_up(&phone).await.map_err(|error| error.to_string())?;
    let before = gateway.memory()?.anonymous;
    let mut lines = Vec::new();
    for _ in 0..count {
        lines.push(Line::to_box(&phone).await?);
    }
    let idle = each(before, &gateway, count)?;
    let mut talking = JoinSet::new();
    for mut line in lines.drain(..) {
        talking.spawn(async move { line.talk(FRAMES).await.map(|()| line) });
    }
    // All are held to the end: a stream that is closed is busy no more.
    while let Some(line) = talking.join_next().await {
        lines.push(line??);
    }
    Ok((idle, each(before, &gateway, count)?))
}

/// A box that has had some calls: what it takes once is not counted.
async fn warm_up(phone: &Phone) -> Result<(), CallError> {
    for _ in 0..4 {
        let call = phone.call(Instant::now()).await?;
        phone.stream(&call, FRAMES).await?;
        phone.complete(&call, Instant::now()).await?;
    }
    Ok(())
}

fn each(before: u64, gateway: &Gateway, count: usize) -> Result<f64, Failure> {
    let grown = gateway.memory()?.anonymous.saturating_sub(before);
    Ok(grown as f64 / 1024.0 / count as f64)
}
