//! The lamps on the box: what each shows, where it is wired, and what sets it.

use std::{fmt, io, path::PathBuf};

use crate::config;

pub mod gpio;
pub mod lamps;
pub mod panel;
pub mod profile;
pub mod simulated;

use lamps::Lamp;
use profile::{Driver, Profile};

/// What sets real (or simulated) lamps. Neither can fail once it was opened: a pin is a register in memory.
pub trait LampDriver {
    /// Lights the lamp or darkens it; a lamp that the board does not have is ignored.
    fn set(&mut self, lamp: Lamp, on: bool);
}

/// Opens the configured board, with every lamp dark.
///
/// # Errors
/// A wrong setting ([`BoardError::is_setting`]) or hardware that cannot be used; the message says what to do.
pub fn open(settings: &config::Board) -> Result<Box<dyn LampDriver + Send>, BoardError> {
    let profile = Profile::load(&settings.profile)?;
    Ok(match profile.driver {
        Driver::Simulated => Box::new(simulated::SimulatedLamps::default()),
        Driver::Rpi => Box::new(gpio::GpioLamps::open(&profile)?),
    })
}

/// Why a board cannot be used.
#[derive(Debug)]
pub enum BoardError {
    /// No built-in board of that name, and not a path.
    UnknownProfile {
        name: String,
    },
    Unreadable {
        path: PathBuf,
        source: io::Error,
    },
    TooLarge {
        path: PathBuf,
    },
    Malformed {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    NoSuchPin {
        path: PathBuf,
        lamp: Lamp,
        bcm: u8,
    },
    PinTwice {
        path: PathBuf,
        lamps: [Lamp; 2],
        bcm: u8,
    },
    NoLamps {
        path: PathBuf,
    },
    /// This machine is not a Raspberry Pi that the GPIO library knows.
    NotARaspberryPi,
    /// A device file may not be opened for reading and writing.
    Forbidden {
        device: String,
    },
    /// The pin does not exist on this model, or something else in this process holds it.
    PinUnavailable {
        lamp: Lamp,
        bcm: u8,
        source: rppal::gpio::Error,
    },
    Gpio {
        source: rppal::gpio::Error,
    },
}

impl BoardError {
    /// The configuration is wrong (refuse to start), rather than the hardware (start, and tell staff).
    pub fn is_setting(&self) -> bool {
        !matches!(
            self,
            Self::NotARaspberryPi | Self::Forbidden { .. } | Self::PinUnavailable { .. } | Self::Gpio { .. }
        )
    }
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProfile { name } => {
                let known = Profile::built_in().collect::<Vec<_>>().join(", ");
                write!(f, "board.profile = {name:?}: accepted are {known}, or the path of a board file")
            }
            Self::Unreadable { path, .. } => {
                write!(f, "board file {}: cannot be read; check board.profile and the file's rights", path.display())
            }
            Self::TooLarge { path } => write!(f, "board file {}: too large to be one", path.display()),
            Self::Malformed { path, source } => write!(f, "board file {}: {}", path.display(), source.message()),
            Self::NoSuchPin { path, lamp, bcm } => write!(
                f,
                "board file {}: lamps.{} bcm = {bcm}: accepted are 2 to 27 (Broadcom's numbers)",
                path.display(),
                lamp.as_str()
            ),
            Self::PinTwice { path, lamps: [one, other], bcm } => write!(
                f,
                "board file {}: lamps.{} and lamps.{} both have bcm = {bcm}; give each its own pin",
                path.display(),
                one.as_str(),
                other.as_str()
            ),
            Self::NoLamps { path } => {
                write!(f, "board file {}: no lamp is wired; name at least one under [lamps]", path.display())
            }
            Self::NotARaspberryPi => f.write_str(
                "this machine is not a Raspberry Pi that the GPIO library knows; set board.profile = \"simulated\"",
            ),
            Self::Forbidden { device } => write!(
                f,
                "{device} may not be opened; add the service's user to the group gpio \
                 (systemd: SupplementaryGroups=gpio, and DeviceAllow= for /dev/gpiomem* and /dev/gpiochip*)"
            ),
            Self::PinUnavailable { lamp, bcm, .. } => write!(
                f,
                "the pin of lamp {} (bcm = {bcm}) cannot be had; give it another one in the board file",
                lamp.as_str()
            ),
            Self::Gpio { .. } => f.write_str(
                "the GPIO cannot be opened; check that /dev/gpiomem* and /dev/gpiochip* exist and that \
                 no overlay in config.txt takes them",
            ),
        }
    }
}

impl std::error::Error for BoardError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Malformed { source, .. } => Some(source),
            Self::PinUnavailable { source, .. } | Self::Gpio { source } => Some(source),
            _ => None,
        }
    }
}
