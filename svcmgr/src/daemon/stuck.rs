//! The loop's part of telling why a start or a stop takes long; see [`crate::stuck`].

use std::path::Path;

use super::Daemon;
use crate::host::{Host, sight};
use crate::stuck::{self, Job};

/// Processes of one unit that are looked at.
const PROCESSES: usize = 4;

impl Daemon {
    pub(super) fn tell_of_late_jobs(&mut self) {
        let now = self.supervisor.host.now();
        for late in self.supervisor.jobs.late(now.mono) {
            let Some(unit) = self.supervisor.machine.unit(late.id) else { continue };
            // One that waits has none.
            let mut processes = Vec::new();
            if late.job != Job::Waiting {
                let state = self.supervisor.machine.state(late.id);
                let known = state.into_iter().flat_map(|state| [state.control, state.main]).flatten();
                let mut pids: Vec<i32> = known.map(|process| process.pid).collect();
                for pid in self.supervisor.host.processes_of(unit) {
                    if !pids.contains(&pid) {
                        pids.push(pid);
                    }
                }
                let more = pids.len().saturating_sub(PROCESSES);
                pids.truncate(PROCESSES);
                processes.extend(pids.into_iter().filter_map(|pid| sight::of(Path::new("/proc"), pid)));
                processes.extend((more > 0).then(|| format!("and {more} more")));
            }
            let ring = self.supervisor.host.store.find(&unit.name);
            let last = ring.and_then(|ring| ring.last_line().ok().flatten()).map(|line| line.entry.text);
            // As an error: shown on the console by all kernels but those that are told to show none.
            for line in stuck::describe(&self.supervisor.machine, late, now, &processes, last.as_deref()) {
                log::error!("{line}");
            }
        }
    }
}
