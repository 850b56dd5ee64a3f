//! The task that turns the box's state into light: watches the state, keeps the blinking going, sets the lamps.

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    LampDriver,
    lamps::{Inputs, Lamp, Lamps, LampsView, SetLamp},
};

/// What [`run`] shows before its first turn: nothing but the heartbeat, as [`Lamps::new`] says.
pub fn first_view() -> LampsView {
    Lamps::new(Instant::now().into_std()).view()
}

/// Runs until the state's sender is gone, then darkens the lamps. `view` always holds what they show.
pub async fn run(
    mut driver: Box<dyn LampDriver + Send>,
    mut inputs: watch::Receiver<Inputs>,
    view: watch::Sender<LampsView>,
) {
    let mut lamps = Lamps::new(now());
    let first = *inputs.borrow_and_update();
    lamps.handle_inputs(first, now());
    loop {
        while let Some(change) = lamps.poll_output() {
            apply(driver.as_mut(), change);
        }
        view.send_replace(lamps.view());
        tokio::select! {
            changed = inputs.changed() => match changed {
                Ok(()) => {
                    let inputs = *inputs.borrow_and_update();
                    lamps.handle_inputs(inputs, now());
                }
                Err(_) => break,
            },
            () = next_edge(&lamps) => lamps.handle_timeout(now()),
        }
    }
    for lamp in Lamp::ALL {
        driver.set(lamp, false);
    }
}

fn apply(driver: &mut dyn LampDriver, change: SetLamp) {
    let SetLamp { lamp, on, pattern, pattern_changed } = change;
    driver.set(lamp, on);
    if pattern_changed {
        tracing::info!(event = "LED", lamp = lamp.as_str(), on, pattern = pattern.as_str());
    }
}

async fn next_edge(lamps: &Lamps) {
    match lamps.poll_timeout() {
        Some((at, _)) => sleep_until(Instant::from_std(at)).await,
        None => std::future::pending().await,
    }
}

/// tokio's clock, so that a test can turn it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{lamps::Pattern, simulated::SimulatedLamps};

    #[tokio::test]
    async fn the_lamps_follow_the_state_and_go_dark_at_the_end() {
        let board = SimulatedLamps::default();
        let (state, inputs) = watch::channel(Inputs { streaming: 1, ..Inputs::default() });
        let (view, mut shown) = watch::channel(first_view());
        let task = tokio::spawn(run(Box::new(board.clone()), inputs, view));

        shown.wait_for(|lamps| lamps.iter().any(|l| l.lamp == Lamp::Stream && l.on)).await.unwrap();
        assert!(board.is_lit(Lamp::Stream));

        state.send_replace(Inputs { trouble: true, ..Inputs::default() });
        let fast = |lamps: &LampsView| lamps.iter().any(|l| l.pattern == Pattern::FastBlink);
        shown.wait_for(fast).await.unwrap();
        assert!(!board.is_lit(Lamp::Stream));

        drop(state);
        task.await.unwrap();
        assert!(Lamp::ALL.iter().all(|&lamp| !board.is_lit(lamp)));
    }
}
