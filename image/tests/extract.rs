//! `extract`: what is asked for comes out as it would by `apply`, nothing else, and nothing outside the folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

mod program;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use program::{contents, done, failed, json, other, run, tar_zst};

fn tree(work: &Path) {
    let root = work.join("tree");
    fs::create_dir_all(root.join("etc/conf.d")).unwrap();
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    fs::write(root.join("etc/os-release"), "NAME=x\n").unwrap();
    fs::write(root.join("etc/conf.d/a"), "a").unwrap();
    fs::write(root.join("etc/conf.d/empty"), "").unwrap();
    symlink("../os-release", root.join("etc/conf.d/link")).unwrap();
    fs::write(root.join("usr/lib/large"), contents(5, 2_000_000)).unwrap();
    fs::set_permissions(root.join("usr/lib/large"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::hard_link(root.join("usr/lib/large"), root.join("usr/second")).unwrap();
    fs::hard_link(root.join("usr/lib/large"), root.join("zlast")).unwrap();
    fs::File::open(root.join("etc/conf.d")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
}

/// The same tree in every format; names of the images.
fn images(work: &Path) -> Vec<&'static str> {
    tree(work);
    done(work, &["capture", "tree", "lzx.wim"]);
    done(work, &["capture", "tree", "solid.wim", "--compress", "lzms", "--solid", "--chunk-size", "131072"]);
    let mut images = vec!["lzx.wim", "solid.wim"];
    if tar_zst(work, "tree", "root.tar.zst").is_some() {
        images.push("root.tar.zst");
    }
    let list = "find . -print0 | cpio --null --create --format=newc --quiet | zstd -q -o ../root.cpio.zst";
    if let Some((true, _)) = other(&work.join("tree"), "sh", &["-c", list]) {
        images.push("root.cpio.zst");
    }
    images
}

#[test]
fn files_and_folders_come_out_as_they_were() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    for image in images(work) {
        let outcome = json(work, &["extract", image, "/etc/conf.d", "usr/second", "./zlast", "--to", "out"]);
        let out = work.join("out");
        let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["conf.d", "second", "zlast"], "{image}");
        assert_eq!(outcome["entries"], 6, "{image}");
        assert_eq!(fs::read_to_string(out.join("conf.d/a")).unwrap(), "a");
        assert_eq!(fs::read_to_string(out.join("conf.d/empty")).unwrap(), "");
        assert_eq!(fs::read_link(out.join("conf.d/link")).unwrap(), Path::new("../os-release"));
        assert_eq!(fs::metadata(out.join("conf.d")).unwrap().mtime(), 0, "{image}");
        // Names of one file whose first name was not asked for.
        assert!(fs::read(out.join("second")).unwrap() == contents(5, 2_000_000), "{image}");
        let (a, b) = (fs::metadata(out.join("second")).unwrap(), fs::metadata(out.join("zlast")).unwrap());
        assert_eq!((a.ino(), a.mode() & 0o7777, a.nlink()), (b.ino(), 0o751, 2), "{image}");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn one_file_goes_to_standard_output() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    for image in images(work) {
        assert_eq!(done(work, &["extract", image, "/etc/os-release", "--to", "-"]), "NAME=x\n", "{image}");
        assert_eq!(done(work, &["extract", image, "/etc/conf.d/empty", "--to", "-"]), "");
        let output = run(work, &["extract", image, "usr/lib/large", "--to", "-"]);
        assert!(output.status.success() && output.stdout == contents(5, 2_000_000), "{image}");
        let said = failed(work, &["extract", image, "etc/conf.d/link", "--to", "-"]);
        assert!(said.contains("a link to ../os-release"), "{said}");
        let said = failed(work, &["extract", image, "etc/conf.d", "--to", "-"]);
        assert!(said.contains("is a folder"), "{said}");
    }
}

#[test]
fn only_the_chunks_that_are_needed_are_read() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    tree(work);
    done(work, &["capture", "tree", "root.wim", "--compress", "none"]);
    let mut bytes = fs::read(work.join("root.wim")).unwrap();
    // All contents of the large file are gone, and the small one comes out nevertheless.
    let large = contents(5, 2_000_000);
    let at = bytes.windows(64).position(|w| w == &large[..64]).unwrap();
    bytes[at..at + large.len()].fill(0);
    fs::write(work.join("root.wim"), &bytes).unwrap();
    assert_eq!(done(work, &["extract", "root.wim", "etc/os-release", "--to", "-"]), "NAME=x\n");
    done(work, &["extract", "root.wim", "etc", "--to", "out"]);
    let output = run(work, &["extract", "root.wim", "zlast", "--to", "-"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("SHA-1") && said.contains("zlast"), "{said}");
}

#[test]
fn a_path_that_is_not_there_names_those_that_are_near() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    for image in images(work) {
        for (path, wanted) in [
            ("/etc/os-relase", "did you mean /etc/os-release?"),
            ("/ect/os-release", "did you mean /etc or /etc/os-release?"),
            ("/usr/large", "did you mean /usr/lib/large?"),
            ("/nothing/like/it", "nothing of a similar name in /;"),
            ("/etc/os-release/x", "/etc/os-release is no folder"),
            ("/etc/../etc", "goes up with `..`"),
            ("/", "`mmos-image apply` unpacks that"),
        ] {
            let said = failed(work, &["extract", image, path]);
            assert!(said.contains(wanted), "{path}: {said}");
        }
        assert!(!work.join("out").exists());
    }
}

#[test]
fn nothing_is_replaced_and_no_link_followed() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    for image in images(work) {
        fs::create_dir_all(work.join("out")).unwrap();
        fs::create_dir_all(work.join("outside")).unwrap();
        fs::write(work.join("out/mine"), "mine").unwrap();
        let before = fs::metadata(work.join("out")).unwrap();
        symlink("../outside", work.join("out/conf.d")).unwrap();
        fs::write(work.join("out/os-release"), "mine").unwrap();
        for path in ["etc/conf.d", "etc/os-release"] {
            let said = failed(work, &["extract", image, "zlast", path, "--to", "out"]);
            assert!(said.contains("cannot create out/"), "{said}");
        }
        assert!(!work.join("out/zlast").exists(), "known before anything is written");
        assert_eq!(fs::read_dir(work.join("outside")).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(work.join("out/os-release")).unwrap(), "mine");
        // What is there stays, and so does the folder itself.
        done(work, &["extract", image, "zlast", "--to", "out"]);
        let after = fs::metadata(work.join("out")).unwrap();
        assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
        assert_eq!(fs::read_to_string(work.join("out/mine")).unwrap(), "mine");
        for paths in [["etc/conf.d/a", "etc/conf.d"], ["etc/conf.d", "etc"]] {
            let said = failed(work, &["extract", image, paths[0], paths[1], "--to", "out"]);
            assert!(said.contains("lies in"), "{said}");
        }
        fs::remove_dir_all(work.join("out")).unwrap();
    }
}
