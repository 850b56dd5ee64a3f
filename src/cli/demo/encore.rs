//! The last act: a second box, a real process, is killed in the middle of a call while the office's system is down, and
//! started again.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    box_log::News,
    cast::{ENCORE, Line, Role},
    play::{CURTAIN, tell},
    second_box::SecondBox,
    stage::{DemoError, Stage},
    tale::{Sentence, Who},
};
use crate::{
    simulator::{plan::Plan, report::CallReport},
    twilio::sid::CallSid,
};

/// How long Ruth stays: she hears the greeting and says her first words.
const RUTH_STAYS: Duration = Duration::from_millis(8_500);
/// How long Yael is heard before the plug is pulled: until then Ruth's record is on the disk.
const YAEL_IS_HEARD: Duration = Duration::from_secs(5);
/// How long the box stays away; systemd takes as long.
const AWAY: Duration = Duration::from_secs(1);
/// How long each thing that is waited for may take, far beyond what any takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Any port of loopback.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Plays it. `news` tells of the second box, `cues` of what is done to it.
pub async fn encore(
    stage: &Stage,
    news: mpsc::Sender<News>,
    cues: mpsc::Sender<Sentence>,
) -> Result<Vec<(Role, CallReport)>, DemoError> {
    stage.upstream.set_down(true);
    tell(&cues, Who::Office, "is down once more").await;
    let site = stage.second_site();
    let mut second = SecondBox::start(&site, ANYWHERE, news.clone()).await.map_err(DemoError::SecondBox)?;
    let address = second.public;
    tell(&cues, Who::Box, format!("a second box answers calls, process {} of this computer", second.process())).await;

    let line = Line::new(address, stage.account_sid);
    let [ruth, yael] = &ENCORE;
    let mut short = line.plan(ruth);
    short.caller.leaves_after = RUTH_STAYS;
    let mut long = line.plan(yael);
    long.faults.after = YAEL_IS_HEARD;
    let calls = [(*ruth, ring(stage, short)), (*yael, ring(stage, long))];

    // Her connection is gone without a word, as when the plug is pulled: so it is pulled now.
    let (mut is_stored, mut is_cut_off) = (false, false);
    let wanted = |news: &News| {
        is_stored |= is_of(news, "TRANSCRIPT_STORED", ruth.call_sid());
        is_cut_off |= is_of(news, "WS_CLOSED", yael.call_sid());
        is_stored && is_cut_off
    };
    second.wait_for(PATIENCE, wanted).await;
    second.kill();
    bad(&cues, "SIGKILL: the box is gone, and nothing of it was brought to an end").await;
    bad_lamps(&cues).await;
    sleep(AWAY).await;
    tell(&cues, Who::Box, "is started again, over what lies on the disk").await;
    let mut second = SecondBox::start(&site, address, news).await.map_err(DemoError::SecondBox)?;
    second.wait_for(PATIENCE, |news| is_of(news, "WD_REDIRECTED", yael.call_sid())).await;
    stage.upstream.set_down(false);
    tell(&cues, Who::Office, "is up again").await;
    let mut synced = 0;
    let wanted = |news: &News| {
        synced += usize::from(news.field("event") == "TRANSCRIPT_SYNCED");
        synced == ENCORE.len()
    };
    second.wait_for(PATIENCE, wanted).await;
    let mut reports = Vec::new();
    for (role, call) in calls {
        // A caller leaves at last, whatever happens; one without a report is missed when it is judged.
        if let Ok(Ok(report)) = timeout(PATIENCE, call).await {
            reports.push((role, report));
        }
    }
    // What it still has to say: that the last lamp is dark.
    second.wait_for(CURTAIN, |_| false).await;
    Ok(reports)
}

fn ring(stage: &Stage, plan: Plan) -> tokio::task::JoinHandle<CallReport> {
    let twilio = stage.twilio.clone();
    tokio::spawn(async move { twilio.call(plan).await })
}

fn is_of(news: &News, event: &str, call_sid: CallSid) -> bool {
    news.field("event") == event && news.call_sid() == Some(call_sid)
}

async fn bad(cues: &mpsc::Sender<Sentence>, text: &str) {
    let _ = cues.send(Sentence::bad(Instant::now(), Who::Box, text)).await;
}

async fn bad_lamps(cues: &mpsc::Sender<Sentence>) {
    let _ = cues.send(Sentence::bad(Instant::now(), Who::Lamps, "all dark")).await;
}
