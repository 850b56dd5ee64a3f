//! `kolbox demo`: a gateway and a simulated Twilio on one computer, told as a story, with a verdict at the end.

use std::{
    io,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use self::{
    cast::{ENCORE, ROLES, Role},
    encore::encore,
    play::{Played, play},
    screen::{BOLD, DRAW_EVERY, FAINT, Screen},
    stage::{AUTH_TOKEN, CALLER_SILENCE, DemoError, RETRY_MAX, Sources, Stage},
    summary::Delivered,
    tale::{Sentence, Tale},
};
use super::{FAILED, complain};
use crate::{limits::CALLS_MAX, status::snapshot::Snapshot};

mod box_log;
mod cast;
mod encore;
mod folder;
mod play;
mod screen;
mod scribe;
mod second_box;
mod stage;
mod summary;
mod tale;

/// Sentences that may wait to be written.
const CUES_MAX: usize = 16;
/// About how long it takes, for whoever waits.
const TAKES: Duration = Duration::from_secs(85);

/// Everything on one laptop: a gateway, a simulated Twilio that places calls, a small upstream
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Stay up after the summary, with the status page
    #[arg(long)]
    pub keep_running: bool,
}

/// Shows everything at work: 0 when every call was kept and every record reached the upstream exactly once.
pub async fn run(arguments: DemoArguments) -> ExitCode {
    match perform(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        // Whoever read this has gone away: there is nobody to tell.
        Err(DemoError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

async fn perform(arguments: &DemoArguments) -> Result<bool, DemoError> {
    let (mut stage, sources) = Stage::build().await?;
    let shown = show(&mut stage, sources, arguments.keep_running).await;
    // Whatever came of it, the box stops before its directory goes.
    stage.gateway.stop().await;
    shown
}

async fn show(stage: &mut Stage, mut sources: Sources, keep_running: bool) -> Result<bool, DemoError> {
    let mut screen = Screen::new(Instant::now());
    screen.write(&introduction(stage))?;
    let mut interrupted = pin!(interrupted());
    let played = tokio::select! {
        played = tell(stage, &mut sources, &mut screen) => played?,
        () = &mut interrupted => {
            screen.write("\nInterrupted: the calls end here, and nothing is judged.\n")?;
            return Ok(false);
        }
    };
    let delivered = Delivered::to(&stage.upstream);
    let failures = summary::judge(&played, &delivered);
    screen.write(&summary::text(&played, &delivered, &failures))?;
    if !failures.is_empty() {
        let kept = stage.folder.keep();
        screen.write(&format!("The box's log and its records stay in {}\n", kept.display()))?;
    }
    if keep_running {
        screen.write(&still_running(stage))?;
        interrupted.await;
        screen.write("\n")?;
    }
    Ok(failures.is_empty())
}

/// Plays the acts, and tells what happens meanwhile.
async fn tell(stage: &Stage, sources: &mut Sources, screen: &mut Screen) -> Result<Played, DemoError> {
    let mut tale = Tale::new(stage.config.calls.clone(), CALLS_MAX);
    let (cues, mut cued) = mpsc::channel(CUES_MAX);
    let seen = stage.gateway.snapshot();
    let acts = play(stage, cues.clone());
    let mut played = follow(acts, &mut cued, sources, &mut tale, screen, Some(&seen)).await?;
    screen.write(&format!("\n{BOLD}And now somebody pulls the plug{BOLD:#}\n\n"))?;
    let last = encore(stage, sources.more_news.clone(), cues);
    let more = follow(last, &mut cued, sources, &mut tale, screen, None).await??;
    played.placed += ENCORE.len();
    played.cast.extend(more);
    Ok(played)
}

/// Tells the story until these acts are over. `seen`: the box whose lamps live below it.
async fn follow<T>(
    acts: impl Future<Output = T>,
    cued: &mut mpsc::Receiver<Sentence>,
    sources: &mut Sources,
    tale: &mut Tale,
    screen: &mut Screen,
    seen: Option<&watch::Receiver<Arc<Snapshot>>>,
) -> io::Result<T> {
    let mut acts = pin!(acts);
    let mut draw = interval(DRAW_EVERY);
    draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let sentence = tokio::select! {
            // All that happened is told before the end.
            biased;
            Some(sentence) = cued.recv() => Some(sentence),
            Some(told) = sources.told.recv() => tale.of_call(&told),
            Some(news) = sources.news.recv() => tale.of_box(&news),
            played = &mut acts => return Ok(played),
            _ = draw.tick() => {
                if let Some(seen) = seen {
                    let now = seen.borrow().clone();
                    for call in &now.calls {
                        if let Some(sentence) = tale.of_words(call, Instant::now()) {
                            screen.tell(&sentence)?;
                        }
                    }
                    screen.draw(Instant::now(), &now)?;
                }
                None
            }
        };
        if let Some(sentence) = sentence {
            screen.tell(&sentence)?;
        }
    }
}

fn introduction(stage: &Stage) -> String {
    let mut text = format!(
        "\n{BOLD}kolbox demo{BOLD:#}: an office's telephone, on this computer alone\n\n\
         The gateway as `kolbox serve` runs it, with lamps that are simulated; a Twilio in\n\
         small that rings it with recorded speech and obeys its TwiML; and the office's\n\
         system that takes the records, and is down at first. In the end a second box is\n\
         killed in the middle of a call, and started again. All is set as on a real box,\n\
         but for what nobody wants to wait for: a caller's silence is over after {} s\n\
         (30 s), and a delivery is tried again after {} s at the latest (5 min).\n\n\
         \x20 status page   {BOLD}http://{status}/?lang=en{BOLD:#}   (Hebrew: http://{status}/)\n\
         \x20 box's log     {}\n\
         \x20 text          {}\n\n",
        CALLER_SILENCE.as_secs(),
        RETRY_MAX.as_secs(),
        stage.folder.log().display(),
        scribe::told(&stage.config.speech),
        status = stage.gateway.status,
    );
    let callers = |roles: &[Role]| -> String {
        roles.iter().map(|role| format!("  {:<7} {}\n", role.name, role.story)).collect()
    };
    text.push_str(&callers(&ROLES));
    text.push_str(
        "  crowd   takes all places that are left, for a moment\n\n  and at a second box, a process of its own:\n\n",
    );
    text.push_str(&callers(&ENCORE));
    text.push('\n');
    text.push_str(&format!("{FAINT}This takes about {} s. Ctrl-C ends it.{FAINT:#}\n\n", TAKES.as_secs()));
    text
}

fn still_running(stage: &Stage) -> String {
    format!(
        "Everything stays up until Ctrl-C. Look at the status page, http://{}/?lang=en, or call:\n\n\
         \x20 kolbox call {} --auth-token {AUTH_TOKEN}\n",
        stage.gateway.status,
        stage.line.voice_url(),
    )
}

/// Ctrl-C, or SIGTERM.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        else => std::future::pending().await,
    }
}
