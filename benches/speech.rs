//! What a frame costs the whole process when a speech engine is configured: the real `kolbox serve` with `engine = "openai"`
//! beside another without one, at the same time, over real sockets with TLS. Both write the callers' audio to the disk.
//!
//! Two engines that give the box nothing to read: one that takes every question and says nothing, so that the queue before
//! it stands, and one that is away. The figure is the CPU time of the process for each frame, in the program and in the
//! system. Judged are frames that come as fast as they are taken: they cost a tenth of those at the pace of speech, most of
//! which goes to waking the process, so that what is added to each shows ten times as much, and two boxes alike differ by
//! 1 % and not by 7 %. The others are told, and beside them what it costs when an engine answers at once: then each
//! utterance is read from the disk and sent to it, which is a question's work and not a frame's. Told too is what it costs
//! to follow a call on the disk, a second of it at a time, for each frame.

use std::{
    error::Error,
    fs::File,
    io::Write,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kolbox::{
    speech::{
        audio::{FRAME_SAMPLES, encode, tone},
        call_audio::{CallAudio, Cursor, Next, ToCome},
    },
    twilio::sid::CallSid,
};
use tokio::{
    io::{AsyncReadExt, BufReader},
    net::TcpListener,
};

use self::{
    line::{Line, Pace, speak},
    paired::Timed,
    process::cpu_time,
    support::{gateway::Gateway, phone::Phone, wire::Wire},
};

#[allow(dead_code)]
#[path = "support/line.rs"]
mod line;
#[allow(dead_code)]
#[path = "../tests/support/openai_peer.rs"]
mod openai_peer;
#[allow(dead_code)]
#[path = "support/paired.rs"]
mod paired;
#[allow(dead_code)]
#[path = "support/process.rs"]
mod process;
#[allow(dead_code)]
mod support;

const RATIO_MAX: f64 = 1.05;
const ROUNDS: u32 = 5;
/// Of all streams together in a round, as fast as they are taken.
const POURED: u32 = 800_000;
const POURING: usize = 8;
/// Of each stream in a round at the pace of speech: ten seconds, for the kernel tells CPU time in hundredths.
const SPOKEN: u32 = 500;
const SPEAKING: usize = 64;
/// Seconds of a call that is followed.
const FOLLOWED: usize = 300;

type Failure = Box<dyn Error + Send + Sync>;

/// A box, and those who speak to it.
struct Side {
    gateway: Gateway,
    lines: Vec<Line>,
    timed: Timed,
}

fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a speech engine makes a frame cost more than it may");
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
        let away = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let [silent, answering] = [Engine::start(false).await?, Engine::start(true).await?];
        let engines = [
            ("an engine that says nothing", silent.url.clone()),
            ("an engine that is away", format!("http://{away}")),
            ("an engine that answers at once", answering.url.clone()),
        ];
        let mut is_cheap = true;
        for (engine, url) in &engines[..2] {
            println!("\n{POURING} streams, as fast as they are taken: CPU time of the process for each frame");
            let (with, without) = compare(url, Pace::Unbounded, POURING, POURED / POURING as u32).await?;
            is_cheap &= paired::tell((engine, &with), ("none", &without), RATIO_MAX);
        }
        for (engine, url) in &engines {
            let (with, without) = compare(url, Pace::Speech, SPEAKING, SPOKEN).await?;
            println!(
                "\n{SPEAKING} streams at the pace of speech: {:.0} ns with {engine}, {:.0} ns with none, ratio {:.2}",
                with.median(),
                without.median(),
                paired::ratio(&with, &without)
            );
        }
        let [unanswered, answered] = [silent, answering].map(|engine| engine.asked.load(Ordering::Relaxed));
        println!(
            "the engine that says nothing was asked {unanswered} times in all, the one that answers {answered} times"
        );
        println!("to follow a caller who speaks costs {:.0} ns a frame", follow()?.as_nanos());
        Ok(is_cheap)
    })
}

/// Reads a call as the transcriber does while it lasts: each second what has come to its file. The median of the looks,
/// for each frame.
fn follow() -> Result<Duration, Failure> {
    let (folder, call_sid) = (tempfile::tempdir()?, CallSid::from_number(1));
    let audio = CallAudio { folder: folder.path().into(), call_sid, recording: None };
    let second = encode(&tone(300.0, Duration::from_secs(1), 0.3));
    let mut file = File::create(folder.path().join(format!("{call_sid}.1.ulaw")))?;
    let (mut cursor, mut looks) = (Cursor::begin(), Vec::new());
    for _ in 0..FOLLOWED {
        file.write_all(&second)?;
        let begun = Instant::now();
        cursor = match audio.next(cursor, ToCome::Sound) {
            Next::NotYet(cursor) => cursor,
            Next::Utterance(spoken) => spoken.then,
            Next::End(_) => return Err("a call that goes on has no end".into()),
        };
        looks.push(begun.elapsed());
    }
    looks.sort_unstable();
    Ok(looks[looks.len() / 2] / (second.len() / FRAME_SAMPLES) as u32)
}

/// An engine on loopback that takes every question.
struct Engine {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Engine {
    async fn start(answers: bool) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    if openai_peer::read(&mut stream).await.is_err() {
                        return;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    match answers {
                        true => openai_peer::answer(&mut stream, "200 OK", r#"{"text": "so it is"}"#).await,
                        // Until whoever asked gives it up.
                        false => drop(stream.read_u8().await),
                    }
                });
            }
        });
        Ok(Self { url, asked })
    }
}

/// So many frames of each stream to each of both, round by round; what they took with the engine, and without one.
async fn compare(url: &str, pace: Pace, streams: usize, frames: u32) -> Result<(Timed, Timed), Failure> {
    let attached =
        [("KOLBOX_SPEECH__ENGINE", "openai"), ("KOLBOX_SPEECH__MODEL", "whisper-1"), ("KOLBOX_SPEECH__URL", url)];
    let mut with = Side::start(&attached, streams).await?;
    let mut without = Side::start(&[], streams).await?;
    for _ in 0..ROUNDS {
        // Both at the same time: what else this machine does, and how warm it is, meets both alike.
        tokio::try_join!(with.round(pace, frames), without.round(pace, frames))?;
    }
    for (complaint, times) in [with.gateway.complaints(), without.gateway.complaints()].concat() {
        println!("kolbox warned {times} times: {complaint}");
    }
    Ok((with.timed, without.timed))
}

impl Side {
    async fn start(speech: &[(&str, &str)], streams: usize) -> Result<Self, Failure> {
        let settings: Vec<_> = speech.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let gateway = Gateway::start(&settings)?;
        let phone = Phone::new(Wire::new(gateway.public).map_err(|error| error.to_string())?.into());
        let mut lines = Vec::new();
        for _ in 0..streams {
            lines.push(Line::to_box(&phone).await?);
        }
        Ok(Self { gateway, lines, timed: Timed::default() })
    }

    /// Every stream's frames, and the CPU time that they took the process.
    async fn round(&mut self, pace: Pace, frames: u32) -> Result<(), Failure> {
        let before = self.cpu_time()?;
        let streams = self.lines.len() as u32;
        speak(&mut self.lines, pace, frames).await?;
        self.timed.add(self.cpu_time()? - before, frames * streams);
        Ok(())
    }

    fn cpu_time(&self) -> Result<Duration, Failure> {
        Ok(cpu_time(self.gateway.process_id())?)
    }
}
