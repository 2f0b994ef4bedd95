//! What the supervisor before this one wrote down.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::RealHost;
use crate::host::Host;
use crate::insist::insist;
use crate::machine::{BootSummary, UnitState};

impl RealHost {
    /// The states that the supervisor before this one wrote down, by unit.
    pub fn states(&self) -> BTreeMap<String, UnitState> {
        let mut states = BTreeMap::new();
        let folder = self.run.join("state");
        let entries = insist(|| fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()).unwrap_or_else(|error| {
            log::error!("{}: {error}; what runs already is not known", folder.display());
            Vec::new()
        });
        for entry in entries {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let read = insist(|| fs::read(entry.path())).map_err(|error| error.to_string());
            match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
                Ok(state) => {
                    states.insert(name, state);
                }
                Err(error) => log::error!("{}: not a unit's state: {error}", entry.path().display()),
            }
        }
        states
    }

    /// When the first supervisor of this boot began (`CLOCK_MONOTONIC`): now, if this is the first.
    pub fn startup(&self) -> u64 {
        let path = self.run.join("startup");
        if let Some(known) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
            return known;
        }
        let now = self.now().mono;
        if let Err(error) = fs::write(&path, format!("{now}\n")) {
            log::warn!("when the supervisor began cannot be written down: {error}; OnStartupSec= counts from its next");
        }
        now
    }

    /// How the boot went, if it was complete before the supervisor died.
    pub fn boot_summary(&self) -> Option<BootSummary> {
        let bytes = insist(|| fs::read(self.run.join("boot-complete"))).ok()?;
        serde_json::from_slice(&bytes).inspect_err(|error| log::error!("how the boot went is lost: {error}")).ok()
    }
}
