//! A client in another language: the example of docs/control.md, as it stands there, by python-varlink against the real
//! supervisor.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::Device;
use serde_json::json;

const DOCUMENT: &str = include_str!("../../docs/control.md");
/// The package that the document names, from PyPI.
const VARLINK: &str = "varlink==31.0.0";

/// The examples of the document in Python.
fn examples() -> Vec<&'static str> {
    DOCUMENT.split("```python\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// A Python that has the package: a virtual environment in the target folder, made once.
fn python() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = target.join(format!("python-{VARLINK}"));
    let python = folder.join("bin/python3");
    let run = |command: &mut Command| -> Result<(), String> {
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("{command:?} ended with {}: {}", output.status, said()))
        }
    };
    if run(Command::new(&python).args(["-c", "import varlink"])).is_err() {
        // Debian's, whose package python3-venv it is.
        run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&folder))
            .map_err(|error| format!("install python3-venv: {error}"))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", VARLINK]))?;
    }
    Ok(python)
}

#[test]
fn the_documents_example_in_python_does_what_it_says() {
    let python = match python() {
        Ok(python) => python,
        Err(error) => return skip::because(error),
    };
    let [example] = examples()[..] else { panic!("docs/control.md has one example in Python") };
    let device = Device::new(&[
        (
            "memory-test.service",
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo testing; echo 512 MiB are good; test -e DIR/good'\n",
        ),
        ("broken.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n[X-MMOS]\nStart=auto\n"),
    ]);
    let _svcmgr = device.start();
    let path = format!("unix:{}", device.run().join("control").display());
    assert!(example.contains("unix:/run/mmos/control"), "{example}");
    let run = || {
        let output =
            Command::new(&python).arg("-c").arg(example.replace("unix:/run/mmos/control", &path)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // What failed at boot; what came of the start, as an error with its parameters; the log, line by line.
    let said = run();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert_eq!(lines[0], "broken.service exited with code 1");
    assert!(lines[1].starts_with("org.mmos.Manager.JobFailed {"), "{said}");
    assert!(lines[1].contains("'name': 'memory-test.service'") && lines[1].contains("exited with code 1"), "{said}");
    let texts: Vec<&str> = lines[2..].iter().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(texts, ["testing", "512 MiB are good"]);
    // And where nothing fails, none of that.
    device.file("good", "");
    let said = run();
    assert_eq!(said.lines().count(), 5, "{said}");
    assert_eq!(device.client().call("GetUnit", json!({"name": "memory-test"})).unwrap()["unit"]["state"], "done");
}
