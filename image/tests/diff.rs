//! `diff`: what differs is told, what does not is not, whatever the formats and compressions are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

mod program;

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use program::{contents, done, ended, other, run, tar_zst};
use serde_json::Value;

fn tree(work: &Path, name: &str) {
    let root = work.join(name);
    fs::create_dir_all(root.join("etc/a")).unwrap();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    for n in 0..20 {
        fs::write(root.join(format!("usr/bin/{n}")), contents(n, 4000)).unwrap();
    }
    fs::write(root.join("etc/empty"), "").unwrap();
    fs::write(root.join("etc/a-b"), "sorts before a/ by bytes").unwrap();
    fs::write(root.join("etc/a/below"), "below").unwrap();
    fs::write(root.join("hard"), "linked").unwrap();
    fs::hard_link(root.join("hard"), root.join("usr/hard")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    rustix::fs::setxattr(root.join("etc/a-b"), "user.note", b"x", rustix::fs::XattrFlags::empty()).unwrap();
}

/// Lines of the difference, and its totals.
fn differences(work: &Path, arguments: &[&str]) -> (Vec<Value>, Value) {
    let output = run(work, &[&["diff"], arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let totals = lines.pop().unwrap();
    assert_eq!(output.status.code(), Some(if totals["same"] == true { 0 } else { 1 }), "{text}");
    (lines, totals)
}

#[test]
fn a_tree_captured_twice_is_the_same_in_every_format() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work, "tree");
    let mut images = Vec::new();
    for (n, format) in [
        &["--compress", "none"][..],
        &["--compress", "xpress"],
        &["--compress", "lzx"],
        &["--compress", "lzms"],
        &["--compress", "lzms", "--solid"],
    ]
    .into_iter()
    .enumerate()
    {
        images.push(format!("{n}.wim"));
        done(work, &[&["capture", "tree", &images[n]], format].concat());
    }
    if tar_zst(work, "tree", "root.tar.zst").is_some() {
        images.push("root.tar.zst".into());
    }
    for (a, b) in images.iter().zip(images.iter().skip(1)) {
        let said = done(work, &["diff", a, b, "--times"]);
        assert_eq!(said, "0 added (0 B), 0 removed (0 B), 0 changed (0 B), 32 the same\n", "{a} {b}");
        assert_eq!(differences(work, &[b, a, "--times"]).0, Vec::<Value>::new());
    }
}

#[test]
fn what_differs_is_told_by_kind_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        skip::because("only root can give files away");
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work, "a");
    done(work, &["capture", "a", "a.wim"]);
    fs::rename(work.join("a"), work.join("b")).unwrap();
    let b = work.join("b");
    fs::write(b.join("usr/bin/3"), contents(99, 5000)).unwrap();
    // Of the same length.
    fs::write(b.join("usr/bin/4"), contents(98, 4000)).unwrap();
    fs::set_permissions(b.join("usr/bin/5"), fs::Permissions::from_mode(0o4755)).unwrap();
    lchown(b.join("usr/bin/6"), Some(7), Some(8)).unwrap();
    rustix::fs::setxattr(b.join("etc/a-b"), "user.note", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    fs::remove_file(b.join("bin")).unwrap();
    symlink("usr/sbin", b.join("bin")).unwrap();
    fs::remove_file(b.join("fifo")).unwrap();
    fs::write(b.join("fifo"), "now a file").unwrap();
    fs::remove_dir_all(b.join("etc/a")).unwrap();
    fs::create_dir(b.join("new")).unwrap();
    fs::write(b.join("new/file"), contents(1, 123)).unwrap();
    // A copy in the place of a hard link.
    fs::remove_file(b.join("usr/hard")).unwrap();
    fs::write(b.join("usr/hard"), "linked").unwrap();
    fs::set_permissions(b.join("usr/hard"), fs::metadata(b.join("hard")).unwrap().permissions()).unwrap();
    done(work, &["capture", "b", "b.wim", "--compress", "lzms", "--solid"]);

    let (lines, totals) = differences(work, &["a.wim", "b.wim"]);
    let of = |change: &str| -> Vec<String> {
        let lines = lines.iter().filter(|line| line["change"] == change);
        lines
            .map(|line| {
                let keys: Vec<&String> =
                    line["differences"].as_object().map(|d| d.keys().collect()).unwrap_or_default();
                format!("{} {keys:?}", line["path"].as_str().unwrap())
            })
            .collect()
    };
    assert_eq!(of("added"), ["/new []", "/new/file []"]);
    assert_eq!(of("removed"), ["/etc/a []", "/etc/a/below []"]);
    assert_eq!(
        of("changed"),
        [
            r#"/bin ["target"]"#,
            r#"/etc/a-b ["xattrs"]"#,
            r#"/fifo ["kind", "mode"]"#,
            r#"/usr/bin/3 ["contents"]"#,
            r#"/usr/bin/4 ["contents"]"#,
            r#"/usr/bin/5 ["mode"]"#,
            r#"/usr/bin/6 ["owner"]"#,
            r#"/usr/hard ["links"]"#,
        ]
    );
    assert_eq!((&totals["added"]["bytes"], &totals["removed"]["bytes"]), (&123.into(), &5.into()));
    assert_eq!(totals["unchanged"], 32 - 2 - 8);
    let (said, status) = {
        let output = run(work, &["diff", "a.wim", "b.wim"]);
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    assert_eq!(status, Some(1));
    assert!(said.contains("~ /bin: target usr/bin -> usr/sbin\n"), "{said}");
    assert!(said.contains("+ /new/file (file, 123 bytes)\n"), "{said}");
    assert!(said.contains("~ /usr/bin/5: mode 0644 -> 4755\n"), "{said}");

    // The same by an archive, whose contents are hashed.
    if tar_zst(work, "b", "b.tar.zst").is_some() {
        assert_eq!(differences(work, &["a.wim", "b.tar.zst"]).0, lines);
        assert_eq!(differences(work, &["b.wim", "b.tar.zst"]).0, Vec::<Value>::new());
    }
}

#[test]
fn times_count_when_they_are_asked_for() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    fs::create_dir(work.join("tree")).unwrap();
    let file = fs::File::create(work.join("tree/file")).unwrap();
    let root = fs::File::open(work.join("tree")).unwrap();
    let at = |seconds| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    file.set_modified(at(1000)).unwrap();
    root.set_modified(at(5)).unwrap();
    done(work, &["capture", "tree", "a.wim"]);
    file.set_modified(at(2000)).unwrap();
    done(work, &["capture", "tree", "b.wim"]);
    assert_eq!(differences(work, &["a.wim", "b.wim"]).0.len(), 0);
    let (lines, _) = differences(work, &["a.wim", "b.wim", "--times"]);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["differences"]["modified"], serde_json::json!(["1000", "2000"]));
}

#[test]
fn images_of_one_wim_are_compared_by_their_index() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work, "tree");
    let Some((captured, _)) = other(work, "wimlib-imagex", &["capture", "tree", "root.wim", "first", "--unix-data"])
    else {
        return;
    };
    assert!(captured);
    fs::write(work.join("tree/added"), "added").unwrap();
    assert!(other(work, "wimlib-imagex", &["append", "tree", "root.wim", "second", "--unix-data"]).unwrap().0);
    let (lines, _) = differences(work, &["root.wim", "root.wim", "--index-a", "1", "--index-b", "second"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["path"], "/added");
    assert_eq!(differences(work, &["root.wim", "root.wim", "--index-b", "1"]).0.len(), 0);
}

#[test]
fn trouble_is_told_apart_from_a_difference() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work, "tree");
    done(work, &["capture", "tree", "root.wim"]);
    fs::write(work.join("text"), "no image").unwrap();
    for arguments in [
        &["diff", "root.wim", "absent.wim"][..],
        &["diff", "text", "root.wim", "--json"],
        &["diff", "root.wim", "root.wim", "--index-a", "7"],
    ] {
        let (said, _) = ended(work, 2, arguments);
        assert_eq!(said, "");
    }
}
