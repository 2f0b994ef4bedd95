//! The machine's watchdog, `/dev/watchdog`: hardware that resets a machine which no longer feeds it. PID 1 does, while
//! the supervisor answers ([`super::pulse`]). See `Documentation/watchdog/watchdog-api.rst`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::pulse::Pulse;
use crate::params::Watch;
use crate::sys::watchdog as ioctl;

/// The first watchdog of a machine.
const DEVICE: &str = "/dev/watchdog";
/// A device that is not there yet, or is taken, is looked for this often.
const LOOK: Duration = Duration::from_secs(15);
/// What closes the device and has it stop, where the driver allows that; "magic close".
const STOP: &[u8] = b"V";

/// The device, or the wait for it.
#[derive(Debug)]
pub struct Watchdog {
    /// `None`: it is left alone.
    wanted: Option<u16>,
    device: Option<Device>,
    next: Instant,
    starving: bool,
    taken_told: bool,
}

#[derive(Debug)]
struct Device {
    file: File,
    timeout: Duration,
}

impl Watchdog {
    /// Not opened yet; due at once.
    pub fn new(watch: Watch, now: Instant) -> Watchdog {
        let wanted = match watch {
            Watch::Off => None,
            Watch::Seconds(seconds) => Some(seconds),
        };
        Watchdog { wanted, device: None, next: now, starving: false, taken_told: false }
    }

    /// When it is to be fed, or looked for.
    pub fn due(&self) -> Option<Instant> {
        self.wanted.map(|_| self.next)
    }

    /// Feeds it if that is due and `alive` says that all is well, or looks for it.
    pub fn turn(&mut self, alive: bool, now: Instant) {
        if self.due().is_none_or(|at| at > now) {
            return;
        }
        if self.device.is_none() {
            self.look(Path::new(DEVICE));
        }
        let wait = self.device.as_ref().map_or(LOOK, |device| Pulse::interval(device.timeout));
        self.next = now.checked_add(wait).unwrap_or(now);
        if alive {
            self.starving = false;
            self.feed();
        } else if let Some(device) = &self.device
            && !std::mem::replace(&mut self.starving, true)
        {
            let seconds = device.timeout.as_secs();
            log::error!("svcmgr does not answer: the machine is reset by its watchdog within {seconds} s");
        }
    }

    /// Feeds it now.
    pub fn feed(&mut self) {
        if let Some(device) = &mut self.device
            && let Err(error) = device.file.write_all(b"\0")
        {
            log::error!("the watchdog cannot be fed: {error}; it resets the machine");
        }
    }

    /// Lets it go: the machine is to stand still, for as long as it takes.
    pub fn release(&mut self) {
        self.wanted = None;
        if let Some(mut device) = self.device.take()
            && let Err(error) = device.file.write_all(STOP)
        {
            log::error!("the watchdog cannot be stopped: {error}; it resets the machine");
        }
    }

    fn look(&mut self, path: &Path) {
        let Some(seconds) = self.wanted else { return };
        match Device::open(path, seconds) {
            Ok(device) => self.device = Some(device),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A test of the integrator may have it.
            Err(error) => {
                if !std::mem::replace(&mut self.taken_told, true) {
                    log::warn!("{}: {error}; nothing resets a machine that hangs", path.display());
                }
            }
        }
    }
}

impl Device {
    fn open(path: &Path, seconds: u16) -> io::Result<Device> {
        // From here on it runs.
        let file = OpenOptions::new().write(true).open(path)?;
        // What the driver makes of it: it may round, or know one time only.
        let timeout = ioctl::set_timeout(&file, seconds.into()).or_else(|_| ioctl::timeout(&file))?;
        let timeout = Duration::from_secs(u64::try_from(timeout).unwrap_or(0).max(1));
        let name = ioctl::identity(&file).unwrap_or_else(|_| "unknown".into());
        log::info!("watchdog {name}: resets a machine that hangs for {} s", timeout.as_secs());
        match ioctl::reset_the_machine(&file) {
            Ok(true) => log::warn!("this boot follows a reset by the watchdog: the system before this one hung"),
            Ok(false) => {}
            Err(error) => log::debug!("the watchdog does not say whether it reset the machine: {error}"),
        }
        Ok(Device { file, timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switched_off_it_is_never_opened() {
        let now = Instant::now();
        let mut watchdog = Watchdog::new(Watch::Off, now);
        assert_eq!(watchdog.due(), None);
        watchdog.turn(true, now);
        assert!(watchdog.device.is_none());
    }

    #[test]
    fn what_is_missing_is_looked_for_again_and_what_is_no_watchdog_is_not_fed() {
        let now = Instant::now();
        let mut watchdog = Watchdog::new(Watch::Seconds(60), now);
        watchdog.look(Path::new("/nonexistent/watchdog"));
        assert!(watchdog.device.is_none() && !watchdog.taken_told);
        watchdog.look(Path::new("/dev/null"));
        assert!(watchdog.device.is_none() && watchdog.taken_told);
    }
}
