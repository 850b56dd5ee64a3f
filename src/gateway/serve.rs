//! The gateway as a service: started, kept alive for systemd, and drained on a signal.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{interval, timeout},
};

use super::{Gateway, StartError};
use crate::{config::Config, limits::STOP_MAX, system::systemd};

/// The desk answers within milliseconds; one that takes this long is stuck.
const PING_MAX: Duration = Duration::from_secs(2);

/// How a service came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every stream was given its time, and what could be done for its caller was done.
    Drained,
    /// A second signal: callers may have been left in silence.
    AtOnce,
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends at once.
pub async fn serve(config: Config) -> Result<Ended, StartError> {
    // First of all: one that comes while the parts are being built is not lost, and none between two of them is.
    let mut signals = Signals::listen();
    let drain = config.calls.drain;
    let gateway = Gateway::start(config).await?;
    tracing::info!(public = %gateway.public, status = %gateway.status, "calls are answered");
    systemd::ready(&format!("answering calls on {}", gateway.public));
    tokio::select! {
        () = signals.next() => {}
        () = prove_alive(&gateway) => {}
        () = reload_when_asked(&gateway) => {}
    }
    systemd::stopping(drain + STOP_MAX);
    tracing::info!("draining: running streams go on for a moment, new calls go to the recorder");
    tokio::select! {
        () = gateway.drain() => {
            tracing::info!("drained");
            Ok(Ended::Drained)
        }
        () = signals.next() => {
            tracing::warn!("stopped at once by a second signal");
            Ok(Ended::AtOnce)
        }
    }
}

/// Feeds systemd's watchdog for as long as the desk turns. Never returns: a stuck desk is systemd's to restart.
async fn prove_alive(gateway: &Gateway) {
    let Some(period) = systemd::watchdog_interval() else { return std::future::pending().await };
    let mut beat = interval(period);
    loop {
        beat.tick().await;
        if timeout(PING_MAX, gateway.ping()).await == Ok(true) {
            systemd::alive();
        }
    }
}

/// SIGHUP, which would otherwise end the program, has the certificate's files looked at. Never returns.
async fn reload_when_asked(gateway: &Gateway) {
    let Ok(mut hang_up) = signal(SignalKind::hangup()) else { return std::future::pending().await };
    while hang_up.recv().await.is_some() {
        tracing::info!("asked to look at the certificate's files (SIGHUP)");
        gateway.reload_certificate();
    }
    std::future::pending().await
}

/// SIGTERM and SIGINT, heard from the beginning to the end.
struct Signals(Option<(Signal, Signal)>);

impl Signals {
    fn listen() -> Self {
        let both = || -> io::Result<_> { Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)) };
        Self(
            both().inspect_err(|error| tracing::error!(%error, "signals cannot be heard: only SIGKILL ends this")).ok(),
        )
    }

    async fn next(&mut self) {
        let Some((terminate, interrupt)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
