//! The analysis of a real boot: what took how long, what waited for what, and the picture of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::eventually;
use serde_json::Value;
use vm::{Case, Vm};

fn json(vm: &mut Vm, line: &str) -> Value {
    let text = vm.must(line).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
}

fn names(rows: &Value) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_boot_is_told_from_the_kernel_to_its_last_service_also_by_the_next_supervisor() {
    let mut vm = Case::new("services").machine().unwrap().boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let boot = json(&mut vm, "mmosctl boot-chart --json");
    assert_eq!(boot["complete"], true);

    // Each step begins where the one before it ended, and the supervisor after the last.
    let stages = boot["stages"].as_array().unwrap();
    let steps = ["early", "settings", "modules", "find-root", "verify", "memory", "unpack", "switch-root", "stage2"];
    assert_eq!(names(&boot["stages"]), steps);
    let time = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("no time: {value}"));
    for pair in stages.windows(2) {
        assert!(time(&pair[0]["begin"]) > 0 && time(&pair[0]["end"]) == time(&pair[1]["begin"]), "{stages:?}");
    }
    let own = &boot["supervisor"];
    let order = [&stages[8]["end"], &own["beganAt"], &own["loadedAt"], &own["bootedAt"], &boot["upAt"]].map(time);
    assert!(order.is_sorted(), "{order:?}");

    let units = boot["units"].as_array().unwrap();
    let unit = |name: &str| units.iter().find(|unit| unit["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    for name in ["worker.service", "once.service", "chain-3.service"] {
        let unit = unit(name);
        let order = [&own["loadedAt"], &unit["queuedAt"], &unit["runnableAt"], &unit["readyAt"]].map(time);
        assert!(order.is_sorted(), "{name}: {order:?}");
    }
    // What nobody started has no times.
    assert!(units.iter().all(|unit| unit["name"] != "demand.service"));
    assert!(time(&unit("chain-2.service")["runnableAt"]) >= time(&unit("chain-1.service")["readyAt"]));

    let chain = json(&mut vm, "mmosctl critical-chain chain-3 --json");
    assert_eq!(names(&chain), ["chain-3.service", "chain-2.service", "chain-1.service"]);
    let text = vm.must("mmosctl critical-chain").unwrap();
    assert!(text.starts_with("kernel ") && text.contains("stage 1 ") && text.contains("services "), "{text}");
    let blame = json(&mut vm, "mmosctl blame --json");
    let took: Vec<i64> = blame.as_array().unwrap().iter().filter_map(|row| row["took"].as_i64()).collect();
    assert!(took.len() >= 6 && took.is_sorted_by(|a, b| a >= b), "{blame}");

    let svg = vm.must("mmosctl boot-chart").unwrap();
    // To be looked at.
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/boot.svg"), &svg).unwrap();
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"), "{svg}");
    for name in ["kernel", "unpack", "reads the units", "chain-3.service", "once.service"] {
        assert!(svg.contains(&format!(">{name}</text>")), "{name} is missing: {svg}");
    }

    // Ordinary users may look, too.
    vm.must("busybox su test -c 'mmosctl blame' > /dev/null").unwrap();

    // The boot is what it was, whoever is asked, and whatever is started later.
    vm.must("mmosctl start demand").unwrap();
    vm.must("kill -9 $(pidof svcmgr)").unwrap();
    eventually("the next supervisor tells the same times", || {
        let Ok(output) = vm.run("mmosctl boot-chart --json") else { return false };
        let Ok(again) = serde_json::from_str::<Value>(&output.text) else { return false };
        again["supervisor"] == boot["supervisor"] && again["stages"] == boot["stages"]
    });
    let again = json(&mut vm, "mmosctl boot-chart --json");
    let times = |boot: &Value, name: &str| {
        let units = boot["units"].as_array().unwrap();
        let unit = units.iter().find(|unit| unit["name"] == name).unwrap_or_else(|| panic!("no {name}: {boot}"));
        ["queuedAt", "runnableAt", "readyAt"].map(|key| unit[key].clone())
    };
    for name in ["worker.service", "chain-3.service"] {
        assert_eq!(times(&again, name), times(&boot, name), "{name}");
    }
    assert!(!vm.must("mmosctl blame").unwrap().contains("demand.service"));
}
