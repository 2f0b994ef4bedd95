//! The real host makes real processes.

use std::path::Path;

use super::*;
use crate::unit::parse::parse;

const ID: UnitId = UnitId(0);

/// Whether the process of a service that says no more than its command shares our memory while it waits.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_plain_service_is_started_without_a_copy_of_the_supervisor_with_the_shield_too() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { unit: 1 << 16, all: 1 << 20 };
    let mut host = RealHost::new(Path::new("/"), dir.path(), None, bounds, None).unwrap();
    host.shield = Shield::raise();
    // What the supervisor of a device gives its services.
    host.descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.map(|soft| Limit {
        resource: crate::unit::limit::Resource::Nofile,
        soft,
        hard: soft,
    });
    let text = "[Service]\nExecStart=/bin/true\n";
    let unit = parse("a.service", Path::new("/u/a.service"), text, &Machine::default());
    let command = unit.service.start.first().unwrap();
    let launch =
        Launch { id: ID, unit: &unit, command, role: Role::Main, main_pid: None, sockets: vec![], ended: None };
    let process = host.spawn(&launch).unwrap();
    let shares = host.children[&(ID, Role::Main)].region.is_some();
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", process.pid)).unwrap();
    spawn::discard(process.pid);
    assert!(shares);
    assert_ne!(score.trim(), "-1000");
}
