//! What a frame costs the whole process over real sockets with TLS: the real `kolbox serve` beside a bare server, in
//! turns, in one run.
//!
//! First 8 streams as fast as they are taken, then 64, 256 and 1,024 at the pace of speech, as many of these as the box is
//! built for. The figure is the CPU time of the process for each frame, in the program and in the system.

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use kolbox::limits::CALLS_MAX;

use self::{
    bare::Bare,
    line::{FRAME, Line, Pace, speak},
    paired::Timed,
    process::cpu_time,
    support::{figures, gateway::Gateway, phone::Phone, wire::Wire},
};

#[path = "streams/bare.rs"]
mod bare;
#[path = "support/line.rs"]
mod line;
#[allow(dead_code)]
#[path = "support/paired.rs"]
mod paired;
#[path = "support/process.rs"]
mod process;
#[allow(dead_code)]
mod support;

const RATIO_MAX: f64 = 1.5;
/// Of all streams together in a round of [`Pace::Unbounded`].
const POURED: u32 = 200_000;
const POURING: usize = 8;
const POURED_ROUNDS: u32 = 7;
/// Of each stream in a round of [`Pace::Speech`]: four seconds.
const SPOKEN: u32 = 200;
const SPOKEN_ROUNDS: u32 = 5;
/// 20 ms of μ-law.
const FRAME_BYTES: u32 = 160;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let answer = if std::env::args().any(|argument| argument == bare::ARGUMENT) {
        bare::serve().map(|()| true).map_err(|error| error.to_string())
    } else {
        measure().map_err(|error| error.to_string())
    };
    match answer {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a frame costs more than it may");
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
    runtime.block_on(async {
        let mut is_fast = compare(POURING, Pace::Unbounded).await?;
        for streams in [64, 256, 1_024] {
            if streams > CALLS_MAX {
                println!(
                    "\n{streams} streams: left out, this box is built for {CALLS_MAX} (KOLBOX_CALLS_MAX={streams})"
                );
            } else {
                is_fast &= compare(streams, Pace::Speech).await?;
            }
        }
        Ok(is_fast)
    })
}

/// So many streams to each of both, round by round.
async fn compare(streams: usize, pace: Pace) -> Result<bool, Failure> {
    let settings = [
        ("KOLBOX_PUBLIC__MAX_CONNECTIONS", (2 * streams + 64).to_string()),
        // While the bare server has its turn, nobody speaks to the box.
        ("KOLBOX_WATCHDOG__NO_MEDIA_TIMEOUT", "5m".to_owned()),
    ];
    let gateway = Gateway::start(&settings.map(|(name, value)| (name.to_owned(), value)))?;
    let phone = Phone::new(Wire::new(gateway.public).map_err(|error| error.to_string())?.into());
    let bare = Bare::start()?;
    let wire = Wire::new(bare.address).map_err(|error| error.to_string())?;
    let (mut to_box, mut to_bare) = (Vec::new(), Vec::new());
    for _ in 0..streams {
        to_box.push(Line::to_box(&phone).await?);
        to_bare.push(Line::to_bare(&wire).await?);
    }
    let (rounds, frames) = match pace {
        Pace::Unbounded => (POURED_ROUNDS, POURED / streams as u32),
        Pace::Speech => (SPOKEN_ROUNDS, SPOKEN),
    };
    let (mut ours, mut plain) = (Timed::default(), Timed::default());
    let mut lasted = Vec::new();
    for _ in 0..rounds {
        for (lines, process_id, timed) in
            [(&mut to_box, gateway.process_id(), &mut ours), (&mut to_bare, bare.process_id(), &mut plain)]
        {
            let begin = Instant::now();
            timed.add(round(lines, pace, frames, process_id).await?, frames * streams as u32);
            lasted.push(begin.elapsed().as_secs_f64());
        }
    }
    println!("\n{streams} streams, {}: CPU time of the process for each frame", pace.as_str());
    for (complaint, times) in gateway.complaints() {
        println!("kolbox warned {times} times: {complaint}");
    }
    let (_, kept) = gateway.stored()?;
    let heard = f64::from(frames * rounds) * streams as f64 * f64::from(FRAME_BYTES);
    println!(
        "{:.1} % of the audio is on its disk: what still gathers is not, nor what its queue had no room for",
        100.0 * kept as f64 / heard
    );
    let is_fast =
        paired::tell(("kolbox serve", &ours), ("TLS, WebSocket, serde_json, base64, and no more", &plain), RATIO_MAX);
    if let Pace::Speech = pace {
        let speech = (FRAME * frames).as_secs_f64();
        println!("a round took {} times as long as its speech", figures::ratio(paired::median(lasted), speech));
        let second = streams as f64 * ours.median() / FRAME.as_nanos() as f64;
        println!("kolbox takes {:.1} % of one core for them", 100.0 * second);
    }
    Ok(is_fast)
}

/// Every stream's frames, and the CPU time that they took the process.
async fn round(lines: &mut Vec<Line>, pace: Pace, frames: u32, process_id: u32) -> Result<Duration, Failure> {
    let before = cpu_time(process_id)?;
    speak(lines, pace, frames).await?;
    Ok(cpu_time(process_id)? - before)
}
