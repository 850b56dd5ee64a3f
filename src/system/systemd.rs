//! What is told to systemd: that we are ready, alive, or on our way out. Nothing, where systemd did not start us.

use std::time::Duration;

use sd_notify::NotifyState;

/// Calls are answered from now on.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One sentence for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// The drain begins, and all of it takes at most so long: systemd waits, whatever the unit's `TimeoutStopSec=`.
pub fn stopping(at_most: Duration) {
    let usec = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(usec)]);
}

/// Every part has proved that it turns. To be said only then: the silence of this is what restarts a stuck box.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often to say [`alive`]: half of the unit's `WatchdogSec=`, as sd_watchdog_enabled(3) advises. `None` where no
/// watchdog waits for it.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|period| period / 2).filter(|interval| !interval.is_zero())
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}
