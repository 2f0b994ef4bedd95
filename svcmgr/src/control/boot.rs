//! `GetBoot`: how long the boot took, and where, as the protocol shows it.

use link::BootRecord;

use super::methods::{micros, start_type, state};
use super::protocol::{BootStage, BootSupervisor, BootUnit, GetBoot_Reply};
use crate::host::real::RealHost;
use crate::supervisor::Supervisor;

/// What is known so far: all of it, once the boot is complete.
pub fn report(supervisor: &Supervisor<RealHost>) -> GetBoot_Reply {
    let machine = &supervisor.machine;
    // Where another init than ours has booted there is none.
    let record = BootRecord::read(&supervisor.host.run().join("boot.json")).unwrap_or_default();
    let stages = record.stages.into_iter().map(|stage| BootStage {
        name: stage.name,
        begin: micros(stage.begin_us),
        end: micros(stage.end_us),
    });
    let own = machine.supervisor_times();
    let units = machine.units().filter_map(|(id, unit)| {
        let unit_state = machine.state(id)?;
        let first = unit_state.first;
        Some(BootUnit {
            name: unit.name.clone(),
            description: unit.description.clone(),
            start: start_type(machine.start_type(id).0),
            state: state(unit_state.phase),
            reason: unit_state.reason.clone(),
            queuedAt: micros(first.queued_at?),
            runnableAt: first.runnable_at.map(micros),
            readyAt: first.ready_at.map(micros),
            endedAt: first.ended_at.map(micros),
            after: machine.comes_after(id).map(str::to_owned).collect(),
        })
    });
    GetBoot_Reply {
        complete: machine.boot_summary().is_some(),
        upAt: micros(machine.boot_summary().map_or(0, |summary| summary.up_at)),
        stages: stages.collect(),
        supervisor: BootSupervisor {
            beganAt: micros(own.began_at),
            loadedAt: micros(own.loaded_at),
            bootedAt: micros(own.booted_at),
        },
        units: units.collect(),
    }
}
