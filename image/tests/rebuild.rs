//! Builds after builds: what makes a part anew, what does not, and what a build that failed or was killed leaves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};

use support::{Bench, done, elf, made};

#[test]
fn mode_owner_and_attributes_of_a_tree_are_inputs() {
    let Some(bench) = Bench::new() else { return };
    let file = bench.path("tree/etc/motd");
    bench.build();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    assert!(made(&bench.build(), "root.wim"), "chmod");
    chown(&file, Some(7), Some(8)).unwrap();
    assert!(made(&bench.build(), "root.wim"), "chown");
    rustix::fs::lsetxattr(&file, "trusted.mmos", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    assert!(made(&bench.build(), "root.wim"), "setfattr");
    assert!(!made(&bench.build(), "root.wim"));
    let motd = &bench.files()["/etc/motd"];
    assert_eq!((motd["uid"].as_u64(), motd["gid"].as_u64()), (Some(7), Some(8)));
}

#[test]
fn what_a_failed_build_left_is_not_taken_for_up_to_date() {
    let Some(bench) = Bench::new() else { return };
    let one = "base = 'tree'\ntree = 'tree'\ndescription = 'one'";
    bench.define(one);
    bench.build();
    // Of the same length, so that only the content tells.
    bench.define("base = 'tree'\ntree = 'tree'\ndescription = 'two'\n[modules]\ninclude = ['absent']");
    assert!(bench.refusal().contains("absent"));
    bench.define(one);
    bench.build();
    let info = fs::read_to_string(bench.unpack().join("etc/mmos/image.toml")).unwrap();
    assert!(info.contains("description = \"one\""), "{info}");
}

#[test]
fn an_output_that_somebody_changed_is_made_again() {
    let Some(bench) = Bench::new() else { return };
    bench.build();
    let root = bench.path("out/root.wim");
    let mut bytes = fs::read(&root).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&root, bytes).unwrap();
    let said = bench.build();
    assert!(made(&said, "root.wim") && !made(&said, "vmlinuz"), "{said}");
}

#[test]
fn the_order_of_packages_is_an_input() {
    let Some(bench) = Bench::new() else { return };
    bench.write("a/etc/who", "a");
    bench.write("b/etc/who", "b");
    for (order, wanted) in [("['a', 'b']", "b"), ("['b', 'a']", "a")] {
        bench.define(&format!("base = 'tree'\ntree = 'tree'\npackages = {order}"));
        assert!(made(&bench.build(), "root.wim"));
        assert_eq!(fs::read_to_string(bench.unpack().join("etc/who")).unwrap(), wanted);
    }
}

#[test]
fn packages_of_one_name_are_both_inputs() {
    let Some(bench) = Bench::new() else { return };
    bench.write("a/pkg/etc/a", "a");
    bench.write("b/pkg/etc/a", "b");
    bench.write("b/pkg/etc/b", "b");
    bench.define("base = 'tree'\ntree = 'tree'\npackages = ['a/pkg', 'b/pkg']");
    bench.build();
    bench.write("a/pkg/etc/a", "changed");
    assert!(made(&bench.build(), "root.wim"));
}

#[test]
fn the_time_of_the_source_is_an_input() {
    let Some(bench) = Bench::new() else { return };
    let build = |seconds: &str| done(bench.building().env("SOURCE_DATE_EPOCH", seconds));
    bench.build();
    assert!(made(&build("1000000000"), "root.wim"));
    assert_eq!(bench.files()["/etc/mmos/image.toml"]["modified"], 1_000_000_000);
    let said = build("1000000000");
    assert!(!made(&said, "root.wim"), "{said}");
    let output = bench.building().env("SOURCE_DATE_EPOCH", "yesterday").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("SOURCE_DATE_EPOCH=yesterday is no number"), "{output:?}");
}

#[test]
fn what_is_given_as_a_link_is_followed_and_links_inside_are_kept() {
    let Some(bench) = Bench::new() else { return };
    bench.write("real/tree/etc/motd", "tree");
    bench.write("real/package/etc/file", "package");
    symlink("file", bench.path("real/package/etc/link")).unwrap();
    bench.write("real/unit", "[Service]\nExecStart=/bin/true\n");
    bench.write("real/profile", "[services]\n");
    bench.program("real/init", elf("the real init", None));
    bench.program("bin/tool-1", elf("tool", None));
    bench.write("listed/package.toml", "name = 'listed'\n[files]\n'/usr/bin/tool' = '@bin@/tool'\n");
    fs::remove_file(bench.path("bin/init")).unwrap();
    fs::remove_dir_all(bench.path("tree")).unwrap();
    for (target, link) in [
        ("real/tree", "tree"),
        ("real/package", "package"),
        ("real/unit", "x.service"),
        ("real/profile", "x.toml"),
        ("../real/init", "bin/init"),
        ("tool-1", "bin/tool"),
    ] {
        symlink(target, bench.path(link)).unwrap();
    }
    bench.define(
        "base = 'tree'\ntree = 'tree'\npackages = ['package', 'listed']\nunits = ['x.service']\nprofiles = ['x.toml']",
    );
    bench.build();
    let files = bench.files();
    for path in ["/etc/motd", "/etc/file", "/etc/mmos/units/x.service", "/etc/mmos/profiles/x.toml", "/usr/bin/tool"] {
        assert_eq!(files[path]["kind"], "file", "{path}");
    }
    assert_eq!(files["/etc/link"]["kind"], "symlink");
    assert_eq!(fs::read(bench.unpack().join("sbin/init")).unwrap(), elf("the real init", None));
    for (name, content) in [
        ("real/tree/etc/motd", b"changed".to_vec()),
        ("real/package/etc/file", b"changed".to_vec()),
        ("real/unit", b"changed".to_vec()),
        ("real/profile", b"changed".to_vec()),
        ("real/init", elf("changed", None)),
        ("bin/tool-1", elf("changed", None)),
    ] {
        bench.write(name, content);
        assert!(made(&bench.build(), "root.wim"), "{name}");
    }
}

#[test]
fn left_overs_of_a_killed_build_go() {
    let Some(bench) = Bench::new() else { return };
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let ours = std::process::id();
    bench.write("out/.root-AbCdEf/etc/passwd", "");
    let dead = [
        format!("root.wim.{ours}.part"),
        format!("initramfs.cpio.zst.{ours}.part.part"),
        format!("initrd.img.{}.part", ended.id()),
    ];
    let alive = [format!("initrd.img.{ours}.part"), "film.part".to_owned()];
    for name in dead.iter().chain(&alive) {
        bench.write(&format!("out/{name}"), "half");
    }
    bench.build();
    let mut left: Vec<String> =
        fs::read_dir(bench.path("out")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    let mut wanted =
        [".lock", "initramfs.cpio.zst", "manifest.json", "root.wim", "vmlinuz"].map(str::to_owned).to_vec();
    wanted.extend(alive);
    wanted.sort();
    assert_eq!(left, wanted);
}

#[test]
fn the_definition_is_read_when_it_is_our_turn() {
    let Some(bench) = Bench::new() else { return };
    fs::create_dir(bench.path("out")).unwrap();
    let lock = fs::File::create(bench.path("out/.lock")).unwrap();
    lock.lock().unwrap();
    let mut build = bench.building().stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(build.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("waiting for another build"), "{line}");
    bench.define("base = 'tree'\ntree = 'tree'\ndescription = 'the last word'");
    drop(lock);
    std::io::copy(&mut said, &mut std::io::sink()).unwrap();
    assert!(build.wait().unwrap().success());
    assert!(fs::read_to_string(bench.unpack().join("etc/mmos/image.toml")).unwrap().contains("the last word"));
}

#[test]
fn the_manifest_names_the_files_that_define_the_image() {
    let Some(bench) = Bench::new() else { return };
    bench.write("listed/package.toml", "name = 'listed'\n[files]\n'/etc/x' = 'x'\n");
    bench.write("listed/x", "");
    bench.define("base = 'tree'\ntree = 'tree'\npackages = ['listed']");
    bench.build();
    let definition = &bench.manifest()["definition"];
    for (name, file) in [("file image.toml", "image.toml"), ("file listed/package.toml", "listed/package.toml")] {
        let sum = done(Command::new("sha256sum").arg(bench.path(file)));
        assert_eq!(definition[name].as_str(), sum.split_whitespace().next(), "{name}");
    }
    // A comment changes no part.
    bench.define("base = 'tree'\ntree = 'tree'\npackages = ['listed'] # all");
    let said = bench.build();
    assert!(!made(&said, "root.wim") && !made(&said, "initramfs.cpio.zst"), "{said}");
    assert_ne!(&bench.manifest()["definition"], definition);
}
