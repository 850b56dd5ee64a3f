//! Board files: which lamp hangs on which pin, and which way round.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{BoardError, lamps::Lamp};
use crate::limits::BOARD_FILE_BYTES_MAX;

/// The boards that are compiled in, by the name that `[board] profile` gives.
const BUILT_IN: [(&str, &str); 2] =
    [("simulated", include_str!("../../board/simulated.toml")), ("rpi", include_str!("../../board/rpi.toml"))];

/// Pins of the Raspberry Pi's 40-pin header that are free for use, by Broadcom's numbers. 0 and 1 belong to the
/// identification of add-on boards (<https://github.com/raspberrypi/hats>).
const HEADER_PINS: std::ops::RangeInclusive<u8> = 2..=27;

/// A board, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub driver: Driver,
    /// Empty for the simulated board, which has every lamp.
    pub wiring: BTreeMap<Lamp, Wire>,
}

/// What sets the lamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Nothing: they are only shown.
    Simulated,
    /// The GPIO of a Raspberry Pi.
    Rpi,
}

/// Where a lamp is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    /// Broadcom's number of the pin.
    pub bcm: u8,
    /// The lamp is lit while the pin is low.
    #[serde(default)]
    pub active_low: bool,
}

impl Profile {
    /// The board that `[board] profile` names: a built-in one, or the path of a board file.
    ///
    /// # Errors
    /// [`BoardError`] names the file, the key and what is accepted.
    pub fn load(name: &str) -> Result<Self, BoardError> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Self::parse(text, Path::new(name));
        }
        let path = Path::new(name);
        if path.components().count() < 2 && path.extension().is_none() {
            return Err(BoardError::UnknownProfile { name: name.into() });
        }
        Self::parse(&read(path)?, path)
    }

    /// The names that `[board] profile` may give beside a path.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, BoardError> {
        let malformed = |source| BoardError::Malformed { path: path.into(), source: Box::new(source) };
        let document: Document = toml::from_str(text).map_err(malformed)?;
        let mut taken: BTreeMap<u8, Lamp> = BTreeMap::new();
        for (&lamp, wire) in &document.lamps {
            if !HEADER_PINS.contains(&wire.bcm) {
                return Err(BoardError::NoSuchPin { path: path.into(), lamp, bcm: wire.bcm });
            }
            if let Some(other) = taken.insert(wire.bcm, lamp) {
                return Err(BoardError::PinTwice { path: path.into(), lamps: [other, lamp], bcm: wire.bcm });
            }
        }
        if document.driver == Driver::Rpi && document.lamps.is_empty() {
            return Err(BoardError::NoLamps { path: path.into() });
        }
        Ok(Self { driver: document.driver, wiring: document.lamps })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    driver: Driver,
    #[serde(default)]
    lamps: BTreeMap<Lamp, Wire>,
}

fn read(path: &Path) -> Result<String, BoardError> {
    let unreadable = |source| BoardError::Unreadable { path: PathBuf::from(path), source };
    let mut text = String::new();
    let limit = BOARD_FILE_BYTES_MAX as u64 + 1;
    File::open(path).map_err(unreadable)?.take(limit).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() > BOARD_FILE_BYTES_MAX {
        return Err(BoardError::TooLarge { path: path.into() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Profile, BoardError> {
        Profile::parse(text, Path::new("own.toml"))
    }

    fn message(text: &str) -> String {
        let error = parse(text).unwrap_err();
        assert!(error.is_setting());
        error.to_string()
    }

    #[test]
    fn every_built_in_board_can_be_used() {
        for name in Profile::built_in() {
            Profile::load(name).unwrap();
        }
        assert_eq!(Profile::load("simulated").unwrap().driver, Driver::Simulated);
    }

    #[test]
    fn the_raspberry_pi_has_every_lamp_on_a_pin_that_boots_low() {
        let profile = Profile::load("rpi").unwrap();
        assert_eq!(profile.driver, Driver::Rpi);
        assert_eq!(profile.wiring.keys().copied().collect::<std::collections::BTreeSet<_>>(), Lamp::ALL.into());
        // BCM2835 ARM Peripherals, table 6-31: GPIO 0-8 are pulled up at reset, 9-27 down.
        assert!(profile.wiring.values().all(|wire| wire.bcm >= 9 && !wire.active_low));
    }

    #[test]
    fn a_board_file_is_read_from_its_path_and_may_leave_lamps_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("two-lamps.toml");
        std::fs::write(&path, "driver = \"rpi\"\n[lamps]\nPOWER = { bcm = 5, active_low = true }\n").unwrap();
        let profile = Profile::load(path.to_str().unwrap()).unwrap();
        assert_eq!(profile.wiring, BTreeMap::from([(Lamp::Power, Wire { bcm: 5, active_low: true })]));
    }

    #[test]
    fn an_unknown_board_is_answered_with_the_known_ones() {
        let message = Profile::load("rpi5").unwrap_err().to_string();
        assert!(message.contains("rpi5") && message.contains("simulated, rpi"), "{message}");
    }

    #[test]
    fn a_board_file_that_is_missing_or_huge_is_named() {
        let message = Profile::load("/nonexistent/board.toml").unwrap_err().to_string();
        assert!(message.contains("/nonexistent/board.toml"), "{message}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("huge.toml");
        std::fs::write(&path, "#".repeat(BOARD_FILE_BYTES_MAX + 1)).unwrap();
        assert!(matches!(Profile::load(path.to_str().unwrap()), Err(BoardError::TooLarge { .. })));
    }

    #[test]
    fn wrong_wiring_is_refused_with_the_lamp_and_the_pin() {
        let twice = message("driver = \"rpi\"\n[lamps]\nPOWER = { bcm = 22 }\nINBOX = { bcm = 22 }\n");
        assert!(twice.contains("POWER") && twice.contains("INBOX") && twice.contains("22"), "{twice}");
        let outside = message("driver = \"rpi\"\n[lamps]\nPOWER = { bcm = 40 }\n");
        assert!(outside.contains("POWER") && outside.contains("40") && outside.contains("2 to 27"), "{outside}");
        assert!(message("driver = \"rpi\"\n").contains("no lamp"));
    }

    #[test]
    fn misspelt_keys_and_lamps_are_refused() {
        assert!(message("driver = \"rpi\"\n[lamps]\nGLOW = { bcm = 22 }\n").contains("own.toml"));
        assert!(message("driver = \"rpi\"\n[lamps]\nPOWER = { bcm = 22, active_hihg = true }\n").contains("own.toml"));
        assert!(message("driver = \"pi\"\n").contains("own.toml"));
    }
}
