//! Lamps of a box without lamps: a laptop, a server, a test.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{LampDriver, lamps::Lamp};

/// Remembers each lamp's level; clones look at the same lamps.
#[derive(Debug, Clone, Default)]
pub struct SimulatedLamps {
    levels: Arc<[AtomicBool; Lamp::ALL.len()]>,
}

impl SimulatedLamps {
    /// Whether this lamp is lit now.
    pub fn is_lit(&self, lamp: Lamp) -> bool {
        self.level(lamp).load(Ordering::Relaxed)
    }

    fn level(&self, lamp: Lamp) -> &AtomicBool {
        let [power, stream, fallback, inbox] = &*self.levels;
        match lamp {
            Lamp::Power => power,
            Lamp::Stream => stream,
            Lamp::Fallback => fallback,
            Lamp::Inbox => inbox,
        }
    }
}

impl LampDriver for SimulatedLamps {
    fn set(&mut self, lamp: Lamp, on: bool) {
        self.level(lamp).store(on, Ordering::Relaxed);
    }
}
