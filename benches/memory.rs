//! What a connection and a stream take of the box's memory: the real `kolbox serve` with TLS, nothing of it replaced.
//!
//! An idle connection has its TLS, its signed handshake and its WebSocket, and has not said `start`. A busy stream is a call
//! that is spoken on. The figure is the growth of the process's memory (`RssAnon`, the kernel's own socket buffers are not
//! in it) over so many of them, divided by their number.

use std::{error::Error, process::ExitCode, sync::Arc, time::Instant};

use kolbox::limits::CALLS_MAX;
use tokio::task::JoinSet;

use self::{
    line::Line,
    support::{
        figures::Table,
        gateway::{AUTH_TOKEN, Gateway},
        phone::Phone,
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
    let mut table = Table::new(&["at once", "KiB each, idle", "KiB each, busy"]);
    let mut is_small = true;
    for count in [64, 256, 1_024].into_iter().filter(|count| *count <= CALLS_MAX) {
        let idle = runtime.block_on(idle(count))?;
        let busy = runtime.block_on(busy(count))?;
        is_small &= busy <= BUSY_STREAM_MAX;
        table.row([count.to_string(), format!("{idle:.1}"), format!("{busy:.1}")]);
    }
    print!("{table}");
    println!("at most {BUSY_STREAM_MAX} KiB for a busy stream; more than {CALLS_MAX} at once: KOLBOX_CALLS_MAX");
    Ok(is_small)
}

/// Media sockets that say nothing.
async fn idle(count: usize) -> Result<f64, Failure> {
    let (gateway, wire) = start(count).await?;
    let before = gateway.memory()?.anonymous;
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(wire.open_media(AUTH_TOKEN).await?);
    }
    each(before, &gateway, count)
}

/// Calls that are spoken on, at the pace of speech.
async fn busy(count: usize) -> Result<f64, Failure> {
    let (gateway, wire) = start(count).await?;
    let before = gateway.memory()?.anonymous;
    let phone = Phone::new(wire);
    let mut talking = JoinSet::new();
    for _ in 0..count {
        let mut line = Line::to_box(&phone).await?;
        talking.spawn(async move { line.talk(FRAMES).await.map(|()| line) });
    }
    let mut lines = Vec::new();
    while let Some(line) = talking.join_next().await {
        lines.push(line??);
    }
    each(before, &gateway, count)
}

/// A box that has had a call already: what it takes once is not counted.
async fn start(count: usize) -> Result<(Gateway, Arc<Wire>), Failure> {
    let settings = [("KOLBOX_PUBLIC__MAX_CONNECTIONS".to_owned(), (2 * count + 64).to_string())];
    let gateway = Gateway::start(&settings)?;
    let wire = Arc::new(Wire::new(gateway.public).map_err(|error| error.to_string())?);
    let phone = Phone::new(wire.clone());
    for _ in 0..4 {
        let call = phone.call(Instant::now()).await.map_err(|error| error.to_string())?;
        phone.stream(&call, FRAMES).await.map_err(|error| error.to_string())?;
        phone.complete(&call, Instant::now()).await.map_err(|error| error.to_string())?;
    }
    Ok((gateway, wire))
}

fn each(before: u64, gateway: &Gateway, count: usize) -> Result<f64, Failure> {
    let grown = gateway.memory()?.anonymous.saturating_sub(before);
    Ok(grown as f64 / 1024.0 / count as f64)
}
