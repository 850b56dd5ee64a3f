//! Lamps on the GPIO pins of a Raspberry Pi, through rppal.

use rppal::gpio::{Error, Gpio, OutputPin};

use super::{
    BoardError, LampDriver,
    lamps::Lamp,
    profile::{Profile, Wire},
};

/// The pins, held as outputs. Dropping it darkens every lamp and gives the pins back as they were found. After a
/// SIGKILL nothing is dropped and the pins keep their last level, which is why a healthy box must blink.
pub struct GpioLamps {
    lights: Vec<Light>,
}

struct Light {
    lamp: Lamp,
    active_low: bool,
    pin: OutputPin,
}

impl GpioLamps {
    /// Takes the pins of every wired lamp, dark.
    ///
    /// # Errors
    /// Off a Raspberry Pi, without the right to use its GPIO, or for a pin that cannot be had.
    pub fn open(profile: &Profile) -> Result<Self, BoardError> {
        let gpio = Gpio::new().map_err(unusable)?;
        let light = |(&lamp, wire): (&Lamp, &Wire)| {
            let unavailable = |source| BoardError::PinUnavailable { lamp, bcm: wire.bcm, source };
            let pin = gpio.get(wire.bcm).map_err(unavailable)?;
            // The level is set before the direction, so that a lamp never flashes at start.
            let pin = if wire.active_low { pin.into_output_high() } else { pin.into_output_low() };
            Ok(Light { lamp, active_low: wire.active_low, pin })
        };
        let lights = profile.wiring.iter().map(light).collect::<Result<_, _>>()?;
        Ok(Self { lights })
    }
}

impl LampDriver for GpioLamps {
    fn set(&mut self, lamp: Lamp, on: bool) {
        for light in self.lights.iter_mut().filter(|light| light.lamp == lamp) {
            light.set(on);
        }
    }
}

impl Drop for GpioLamps {
    fn drop(&mut self) {
        for light in &mut self.lights {
            light.set(false);
        }
    }
}

impl Light {
    fn set(&mut self, on: bool) {
        if on == self.active_low { self.pin.set_low() } else { self.pin.set_high() }
    }
}

fn unusable(error: Error) -> BoardError {
    match error {
        Error::UnknownModel => BoardError::NotARaspberryPi,
        Error::PermissionDenied(device) => BoardError::Forbidden { device },
        source => BoardError::Gpio { source },
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn hardware_errors_say_the_remedy_and_are_no_reason_to_refuse_calls() {
        let elsewhere = unusable(Error::UnknownModel);
        assert!(elsewhere.to_string().contains("board.profile = \"simulated\""), "{elsewhere}");
        let forbidden = unusable(Error::PermissionDenied("/dev/gpiomem".into()));
        assert!(forbidden.to_string().contains("/dev/gpiomem") && forbidden.to_string().contains("group gpio"));
        let broken = unusable(Error::Io(std::io::ErrorKind::NotFound.into()));
        assert!(broken.to_string().contains("/dev/gpiochip") && broken.source().is_some());
        assert!([elsewhere, forbidden, broken].iter().all(|error| !error.is_setting()));
    }
}
