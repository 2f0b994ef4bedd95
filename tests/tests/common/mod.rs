//! What the whole-system tests share: asking the supervisor in the guest about its units.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod root;

use std::time::Instant;

use serde_json::Value;
use vm::Vm;
use vm::machine::PATIENCE;

/// A unit as `mmosctl status NAME --json` in the guest gives it.
pub fn unit(vm: &mut Vm, name: &str) -> Value {
    let text = vm.must(&format!("mmosctl status {name} --json")).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// All units, by name.
pub fn units(vm: &mut Vm) -> Vec<Value> {
    let text = vm.must("mmosctl status --json").unwrap();
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    all["units"].as_array().unwrap().clone()
}

/// The state of a unit.
pub fn state(vm: &mut Vm, name: &str) -> String {
    unit(vm, name)["state"].as_str().unwrap().to_owned()
}

/// The main process of a unit.
pub fn pid(vm: &mut Vm, name: &str) -> i64 {
    unit(vm, name)["pid"].as_i64().unwrap_or_else(|| panic!("{name} has no process"))
}

/// Asks again until `is_it` says yes; each question is a round trip to the guest, which paces it.
pub fn eventually(what: &str, mut is_it: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_it() {
        assert!(Instant::now() < deadline, "{what}: not after {} s", PATIENCE.as_secs());
    }
}

/// The process ID of the supervisor: the child of PID 1 of that name.
pub fn supervisor(vm: &mut Vm) -> i64 {
    vm.must("pidof svcmgr").unwrap().trim().parse().unwrap()
}
