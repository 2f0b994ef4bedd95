//! `mmosctl verify` on real files, with no supervisor at all: what it prints, and how it exits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// A folder with a root in which there is one program, and these files beside it.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tool = dir.path().join("root/usr/bin/tool");
    std::fs::create_dir_all(tool.parent().unwrap()).unwrap();
    std::fs::write(&tool, "").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn verify(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmosctl"));
    let Output { status, stdout, stderr } =
        command.args(["verify", "--root", "root"]).args(arguments).current_dir(dir).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

const GOOD: &str = "[Service]\nExecStart=/usr/bin/tool\n";

#[test]
fn good_units_are_nothing_to_speak_of() {
    let dir = folder(&[("a.service", GOOD), ("b.service", GOOD)]);
    assert_eq!(verify(dir.path(), &["a.service", "b.service"]), (Some(0), String::new(), String::new()));
}

#[test]
fn a_unit_that_cannot_work_fails_and_one_that_is_not_obeyed_whole_fails_where_that_is_asked_for() {
    let ignored = "[Service]\nExecStart=/usr/bin/tool\nAppArmorProfile=x\n";
    let dir = folder(&[("bad.service", "[Service]\nExecStart=/usr/bin/gone\n"), ("part.service", ignored)]);
    let (code, said, _) = verify(dir.path(), &["bad.service"]);
    assert_eq!(
        (code, said.as_str()),
        (Some(1), "error: bad.service:2: ExecStart=/usr/bin/gone: there is no such file\n")
    );
    let (code, said, _) = verify(dir.path(), &["part.service"]);
    assert!(code == Some(0) && said.starts_with("warning: part.service:3: AppArmorProfile="), "{code:?} {said}");
    assert_eq!(verify(dir.path(), &["--strict", "part.service"]).0, Some(1));
    let (_, said, _) = verify(dir.path(), &["--json", "bad.service", "part.service"]);
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["severity"], &lines[1]["severity"]), (2, &"error".into(), &"warning".into()));
}

#[test]
fn what_cannot_be_read_is_no_verdict() {
    let dir = folder(&[]);
    let (code, said, error) = verify(dir.path(), &["gone.service"]);
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(error.contains("gone.service"), "{error}");
}
