//! The program as its users meet it: outcomes, exit status, and what is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod program;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use program::{contents, done, failed, json, other, run};

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
        assert!(said.starts_with("root.wim: 4 entries, 42 B to ") && said.contains(" MB/s, "), "{said}");
        let captured = json(work, &capture);
        assert_eq!((&captured["entries"], &captured["bytes"]), (&4.into(), &42.into()), "{captured}");
        assert_eq!(captured["image_bytes"], fs::metadata(work.join("root.wim")).unwrap().len());

        let info: serde_json::Value = serde_json::from_str(&done(work, &["info", "root.wim", "--json"])).unwrap();
        assert_eq!(info["format"], "wim");
        assert_eq!(info["wim"]["images"][0]["name"], "factory");
        assert_eq!(info["wim"]["boot_index"], 1);
        assert_eq!(info["wim"]["solid"], arguments.contains(&"--solid"));
        assert_eq!(info["wim"]["integrity_chunks"], 1);
        assert_eq!((&info["wim"]["parts"], &info["wim"]["pipable"]), (&1.into(), &false.into()));
        let image = &info["wim"]["images"][0];
        let counts = ["entries", "files", "directories", "symlinks", "special", "bytes"].map(|key| image[key].as_u64());
        assert_eq!(counts, [4, 1, 2, 1, 0, 10].map(Some), "{image}");
        assert_eq!((&image["unix"], &image["left_out"]), (&true.into(), &serde_json::json!({})));
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
        assert!(said.starts_with("out: 4 entries") && said.contains(" MB/s, "), "{said}");
        let unpacked = json(work, &["apply", "root.wim", "again"]);
        assert_eq!((&unpacked["entries"], &unpacked["bytes"]), (&4.into(), &10.into()), "{unpacked}");
        fs::remove_dir_all(work.join("again")).unwrap();
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
fn an_archive_is_listed_as_the_wim_of_its_tree_is() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    done(work, &["capture", "tree", "root.wim"]);
    let of_wim = done(work, &["list", "root.wim"]);
    assert!(of_wim.lines().any(|line| line.starts_with("-0644") && line.ends_with(" 10 /sbin/init")), "{of_wim}");
    let cpio = "cd tree && find . | cpio -o -H newc --quiet";
    for (name, pack) in [("root.tar.zst", "tar -c -C tree ."), ("root.cpio.zst", cpio)] {
        let packed = Command::new("sh").args(["-c", pack]).current_dir(work).output().unwrap();
        if !packed.status.success() && name.contains("cpio") {
            skip::because("cpio is not installed, so no archive of its is listed");
            continue;
        }
        fs::write(work.join(name), zstd::encode_all(&packed.stdout[..], 1).unwrap()).unwrap();
        assert_eq!(done(work, &["list", name]), of_wim);
        let objects = done(work, &["list", name, "--json"]);
        assert_eq!(objects, done(work, &["list", "root.wim", "--json"]));
    }
}

#[test]
fn apply_unpacks_a_pipable_wim_from_standard_input() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    let piped = |image: &str, out: &str| {
        let line = format!("cat {image} | {} apply - {out}", env!("CARGO_BIN_EXE_mmos-image"));
        Command::new("sh").args(["-c", &line]).current_dir(work).output().unwrap()
    };
    done(work, &["capture", "tree", "root.wim", "--pipable"]);
    let output = piped("root.wim", "out");
    assert!(output.status.success() && output.stdout.starts_with(b"out: 4 entries"), "{output:?}");
    assert_eq!(fs::read_to_string(work.join("out/sbin/telinit")).unwrap(), "#!/bin/sh\n");
    done(work, &["apply", "root.wim", "of-file"]);

    let whole = fs::read(work.join("root.wim")).unwrap();
    fs::write(work.join("cut.wim"), &whole[..whole.len() / 4]).unwrap();
    done(work, &["capture", "tree", "usual.wim"]);
    for (image, wanted) in [("cut.wim", "cut short"), ("usual.wim", "--pipable"), ("tree/sbin/init", "no root image")] {
        let output = piped(image, "failed");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains("standard input") && said.contains(wanted), "{said}");
    }
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
        (&["info", "cut.wim", "--json"], "copy it again, whole"),
        (&["list", "cut.wim", "--json"], "copy it again, whole"),
        (&["apply", "cut.wim", "out", "--json"], "copy it again, whole"),
        (&["extract", "cut.wim", "sbin", "--json"], "copy it again, whole"),
        (&["extract", "root.wim", "sbin", "--to", "-", "--json"], "leave one of them out"),
        (&["capture", "absent", "x.wim", "--json"], "is not a directory"),
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
fn an_image_without_modes_of_linux_is_said_to_be_one() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    let Some((captured, _)) = other(work, "wimlib-imagex", &["capture", "tree", "root.wim"]) else { return };
    assert!(captured);
    let info = json(work, &["info", "root.wim"]);
    assert_eq!(info["wim"]["images"][0]["unix"], false);
    assert_eq!(info["wim"]["integrity_chunks"], serde_json::Value::Null);
    let said = done(work, &["info", "root.wim"]);
    assert!(said.contains("modes and owners are by rule") && said.contains("integrity    no table"), "{said}");
}

#[test]
fn a_terminal_sees_rate_and_time_left_and_a_log_does_not() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    fs::create_dir(work.join("tree")).unwrap();
    for n in 0..12 {
        fs::write(work.join(format!("tree/{n}")), contents(n, 4 << 20)).unwrap();
    }
    for arguments in [&["capture", "tree", "root.wim"][..], &["verify", "root.wim"], &["apply", "root.wim", "out"]] {
        let (seen, stdout) = on_a_terminal(work, arguments);
        assert!(seen.contains("/s, ") && seen.contains(" left)"), "{arguments:?}: {seen}");
        assert_eq!(stdout.lines().count(), 1, "the line at the end: {stdout}");
    }
    let output = run(work, &["verify", "root.wim"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// What a terminal at the program's stderr shows, and its stdout.
fn on_a_terminal(work: &Path, arguments: &[&str]) -> (String, String) {
    let size = nix::pty::Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = nix::pty::openpty(Some(&size), None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmos-image"));
    command.args(arguments).current_dir(work).env("TERM", "xterm").stderr(terminal.slave);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    // The command holds the other end of the terminal, too.
    drop(command);
    let mut master = fs::File::from(terminal.master);
    let mut seen = Vec::new();
    // EIO, when nobody has the other end any more.
    let _ = std::io::Read::read_to_end(&mut master, &mut seen);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    (String::from_utf8_lossy(&seen).into_owned(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn wrong_use_is_told_apart_and_help_teaches() {
    let work = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["aply"], &["apply"], &["capture", "a", "b", "--compress", "zip"]] {
        assert_eq!(run(work.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
    for command in ["capture", "apply", "info", "list", "verify", "diff", "extract"] {
        let help = done(work.path(), &[command, "--help"]);
        assert!(help.contains("--json"), "{help}");
        assert!(help.contains("Examples:") && help.contains(&format!("mmos-image {command} ")), "{help}");
    }
}
