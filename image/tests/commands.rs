//! The program as its users meet it: outcomes, exit status, and what is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod program;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use program::{done, failed, run};

fn tree(work: &Path) {
    fs::create_dir_all(work.join("tree/sbin")).unwrap();
    fs::write(work.join("tree/sbin/init"), "#!/bin/sh\n").unwrap();
    symlink("init", work.join("tree/sbin/telinit")).unwrap();
}

#[test]
fn capture_info_list_and_apply_agree() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    for arguments in [&["--compress", "none"][..], &["--compress", "xpress"], &[], &["--compress", "lzms", "--solid"]] {
        let mut capture = vec!["capture", "tree", "root.wim", "--name", "factory"];
        capture.extend(arguments);
        let said = done(work, &capture);
        assert!(said.starts_with("root.wim: "), "{said}");

        let info: serde_json::Value = serde_json::from_str(&done(work, &["info", "root.wim", "--json"])).unwrap();
        assert_eq!(info["format"], "wim");
        assert_eq!(info["wim"]["images"][0]["name"], "factory");
        assert_eq!(info["wim"]["boot_index"], 1);
        assert_eq!(info["wim"]["solid"], arguments.contains(&"--solid"));
        assert_eq!(info["need"]["bytes"], 4096);
        assert_eq!(info["need"]["inodes"], 4);
        assert!(done(work, &["info", "root.wim"]).contains("\"factory\", boots"));

        let list = done(work, &["list", "root.wim", "--json"]);
        let paths: Vec<String> = list
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(paths, ["/", "/sbin", "/sbin/init", "/sbin/telinit"]);
        assert_eq!(done(work, &["list", "root.wim"]).lines().count(), 4);

        let said = done(work, &["apply", "root.wim", "out", "--index", "factory"]);
        assert!(said.starts_with("out: 4 entries"), "{said}");
        assert_eq!(fs::read_to_string(work.join("out/sbin/telinit")).unwrap(), "#!/bin/sh\n");
        fs::remove_dir_all(work.join("out")).unwrap();
    }
}

#[test]
fn apply_takes_every_root_format() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    let tar = Command::new("tar").args(["-c", "-C", "tree", "."]).current_dir(work).output().unwrap();
    fs::write(work.join("misnamed.wim"), zstd::encode_all(&tar.stdout[..], 1).unwrap()).unwrap();
    assert!(done(work, &["info", "misnamed.wim"]).contains("tar.zst"));
    done(work, &["apply", "misnamed.wim", "out"]);
    assert_eq!(fs::read_to_string(work.join("out/sbin/init")).unwrap(), "#!/bin/sh\n");
}

#[test]
fn a_failure_is_one_line_with_the_remedy() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    done(work, &["capture", "tree", "root.wim"]);
    let whole = fs::read(work.join("root.wim")).unwrap();
    fs::write(work.join("cut.wim"), &whole[..whole.len() / 2]).unwrap();
    fs::write(work.join("text.wim"), "no image").unwrap();
    for (arguments, wanted) in [
        (&["apply", "cut.wim", "out"][..], "copy it again, whole"),
        (&["apply", "text.wim", "out"], "make one with `mmos-image capture`"),
        (&["apply", "root.wim", "out", "--index", "2"], "it has: 1"),
        (&["apply", "root.wim", "tree"], "unpack into an empty directory"),
        (&["apply", "absent.wim", "out"], "cannot open absent.wim"),
        (&["info", "text.wim"], "is no root image"),
        (&["list", "text.wim"], "is no root image"),
        (&["capture", "root.wim", "x.wim"], "is not a directory"),
        (&["capture", "tree", "x.wim", "--compress", "none", "--solid"], "needs compression"),
        (&["capture", "tree", "x.wim", "--chunk-size", "1000"], "power of two"),
    ] {
        let said = failed(work, arguments);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
    assert!(!work.join("x.wim").exists() && !work.join("x.wim.part").exists());
}

#[test]
fn wrong_use_is_told_apart_and_help_teaches() {
    let work = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["aply"], &["apply"], &["capture", "a", "b", "--compress", "zip"]] {
        assert_eq!(run(work.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
    for command in ["capture", "apply", "info", "list"] {
        let help = done(work.path(), &[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains(&format!("mmos-image {command} ")), "{help}");
    }
}
