//! Roots that are archives: what tar and cpio pack comes back, and nothing that an archive says leaves the target.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Facts, put, rich_tree, run, snapshot, unpack};
use wim::{Format, UnpackOptions};

/// As [`common::snapshot`], less what a format does not hold.
fn facts(root: &Path, keep: impl Fn(&mut Facts)) -> BTreeMap<PathBuf, Facts> {
    let mut all = snapshot(root);
    all.remove(Path::new("socket"));
    all.values_mut().for_each(keep);
    all
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn tar(tree: &Path, options: &[&str]) -> Option<Vec<u8>> {
    let mut arguments: Vec<&std::ffi::OsStr> = options.iter().map(|o| (*o).as_ref()).collect();
    arguments.extend(["-C".as_ref(), tree.as_os_str(), "-c".as_ref(), "--exclude=./socket".as_ref(), ".".as_ref()]);
    run("tar", &arguments).map(|output| output.stdout)
}

#[test]
fn what_gnu_tar_packs_comes_back() {
    let work = tempfile::tempdir().unwrap();
    let tree = work.path().join("tree");
    rich_tree(&tree);
    // Longer than ustar's fields.
    let long = tree.join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("f".repeat(200)), "far down").unwrap();
    fs::hard_link(long.join("f".repeat(200)), tree.join("near")).unwrap();
    let posix = ["--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner"];
    let Some(archive) = tar(&tree, &posix) else { return };
    let image = put(&work.path().join("anything.bin"), &compressed(&archive));
    let root = wim::root::open(&image, None).unwrap();
    assert_eq!(root.format(), Format::TarZst);
    let need = root.need().unwrap();
    let files = snapshot(&tree).values().map(|f| (f.contents.len() as u64).next_multiple_of(4096)).sum::<u64>();
    assert!(need.bytes > files / 2 && need.bytes <= files, "{need:?}, {files}");
    assert_eq!(need.inodes, facts(&tree, |_| {}).len() as u64, "every name counts, hard links too");
    let report = unpack(&image, &work.path().join("posix"), 2).unwrap();
    assert_eq!(facts(&tree, |_| {}), facts(&work.path().join("posix"), |_| {}));
    assert_eq!(report.entries, facts(&tree, |_| {}).len() as u64);

    let archive = tar(&tree, &["--format=gnu", "--numeric-owner"]).unwrap();
    let image = put(&work.path().join("gnu"), &compressed(&archive));
    unpack(&image, &work.path().join("gnu-out"), 2).unwrap();
    let without = |f: &mut Facts| {
        f.xattrs.clear();
        f.modified.1 = 0;
    };
    let mut expected = facts(&tree, without);
    // GNU headers round down to whole seconds, as does the comparison; before 1970 neither agrees on what that is.
    let mut got = facts(&work.path().join("gnu-out"), without);
    expected.remove(Path::new("fifo"));
    got.remove(Path::new("fifo"));
    assert_eq!(expected, got);
}

#[test]
fn two_tar_archives_one_behind_the_other_are_no_root() {
    let work = tempfile::tempdir().unwrap();
    let tree = work.path().join("tree");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("file"), "contents").unwrap();
    let Some(archive) = tar(&tree, &[]) else { return };
    let both = [compressed(&archive), compressed(&archive)].concat();
    let image = put(&work.path().join("both.tar.zst"), &both);
    let error = unpack(&image, &work.path().join("out"), 2).unwrap_err();
    assert!(error.source().unwrap().to_string().contains("something follows the end mark"), "{error:?}");
    // Zeros are what tar itself puts there, and may be a frame of their own.
    let padded = [compressed(&archive), compressed(&[0; 100_000])].concat();
    unpack(&put(&work.path().join("padded.tar.zst"), &padded), &work.path().join("padded"), 2).unwrap();
}

/// A record of a PAX header: its length, in which its own digits count, then key and value.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let length = (1..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
    format!("{length}{rest}").into_bytes()
}

#[test]
fn what_of_tar_is_not_set_is_told_and_names_of_attributes_are_unescaped() {
    let work = tempfile::tempdir().unwrap();
    let records = [
        record("SCHILY.acl.access", "user::rw-\n"),
        record("SCHILY.xattr.user.100%25%3D1", "value"),
        record("path", "file"),
    ]
    .concat();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(records.len() as u64);
    archive.append_data(&mut header, "PaxHeaders/file", &records[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, "file", &[][..]).unwrap();
    let image = put(&work.path().join("root.tar.zst"), &compressed(&archive.into_inner().unwrap()));
    let report = unpack(&image, &work.path().join("out"), 1).unwrap();
    let said = report.notes.join("; ");
    assert!(said.contains("access control lists left out on 1 files, first file"), "{said}");
    let mut value = [0; 16];
    let got = rustix::fs::getxattr(work.path().join("out/file"), "user.100%=1", &mut value[..]);
    match got {
        Ok(length) => assert_eq!(&value[..length], b"value"),
        Err(error) => assert!(said.contains("extended attribute"), "{error}: {said}"),
    }
}

#[test]
fn what_mkfs_makes_in_a_new_file_system_may_be_in_the_image_too() {
    let work = tempfile::tempdir().unwrap();
    let tree = work.path().join("tree");
    fs::create_dir_all(tree.join("lost+found")).unwrap();
    let Some(archive) = tar(&tree, &[]) else { return };
    let image = put(&work.path().join("root.tar.zst"), &compressed(&archive));
    let out = work.path().join("out");
    fs::create_dir_all(out.join("lost+found")).unwrap();
    unpack(&image, &out, 2).unwrap();
    assert!(out.join("lost+found").is_dir());
    // A file of that name is none of it.
    let other = work.path().join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("lost+found"), "").unwrap();
    unpack(&image, &other, 2).unwrap_err();
}

fn cpio(tree: &Path) -> Option<Vec<u8>> {
    let mut names: Vec<PathBuf> = snapshot(tree).into_keys().collect();
    names.retain(|name| name != Path::new("socket"));
    let mut list = Vec::new();
    for name in names {
        let name = if name.as_os_str().is_empty() { Path::new(".") } else { &name };
        list.extend_from_slice(name.as_os_str().as_encoded_bytes());
        list.push(0);
    }
    let child = Command::new("cpio")
        .args(["--null", "--create", "--format=newc", "--quiet"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            skip::because(format!("cpio is not installed ({error}), so nothing is compared with it"));
            return None;
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&list));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

#[test]
fn what_cpio_packs_comes_back_and_later_archives_add_to_it() {
    let work = tempfile::tempdir().unwrap();
    let (tree, more) = (work.path().join("tree"), work.path().join("more"));
    rich_tree(&tree);
    // Beyond what newc holds: a time before 1970, and an owner that this cpio writes wrongly is none of ours.
    common::set_time(&tree.join("fifo"), 5, 0);
    fs::create_dir_all(more.join("usr/lib")).unwrap();
    fs::write(more.join("usr/lib/size-1"), "replaced").unwrap();
    fs::write(more.join("usr/lib/added"), "added").unwrap();
    let Some(mut archive) = cpio(&tree) else { return };
    let second = cpio(&more).unwrap();
    archive.extend([0; 1000]);
    // One archive in a frame of its own, the other too, as an initramfs may be put together; and zeros behind.
    let mut image = compressed(&archive);
    image.extend(compressed(&second));
    image.extend([0; 5000]);
    let image = put(&work.path().join("image"), &image);
    assert_eq!(wim::root::open(&image, None).unwrap().format(), Format::CpioZst);
    unpack(&image, &work.path().join("out"), 2).unwrap();
    let without = |f: &mut Facts| {
        f.xattrs.clear();
        f.modified.1 = 0;
    };
    let mut expected = facts(&tree, without);
    let mut got = facts(&work.path().join("out"), without);
    assert_eq!(got.remove(Path::new("usr/lib/added")).unwrap().contents, b"added");
    assert_eq!(got.remove(Path::new("usr/lib/size-1")).unwrap().contents, b"replaced");
    expected.remove(Path::new("usr/lib/size-1"));
    // The later archive describes these directories, too.
    for directory in ["", "usr", "usr/lib"] {
        expected.remove(Path::new(directory));
        got.remove(Path::new(directory));
    }
    assert_eq!(expected, got);
}

fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    // The crate's own setter refuses what is wanted here.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn hostile(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, content) in entries {
        let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        let size = if is_link { 0 } else { content.len() };
        let mut header = header(name, *kind, size as u64);
        if is_link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        bytes.extend(header.as_bytes());
        if size > 0 {
            bytes.extend(content.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
    }
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn nothing_that_an_archive_says_leaves_the_target() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let work = common::fast_dir();
    let outside = work.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched").unwrap();
    let to_outside = outside.to_str().unwrap();
    let victim = format!("{to_outside}/victim");
    for (n, entries) in [
        vec![("../escaped", Regular, "x")],
        vec![("a/../../escaped", Regular, "x")],
        vec![("link", Symlink, to_outside), ("link/escaped", Regular, "x")],
        vec![("link", Symlink, to_outside), ("link/escaped", Directory, "")],
        vec![("link", Symlink, to_outside), ("hard", Link, "link/victim")],
        vec![("hard", Link, "../outside/victim")],
        vec![("hard", Link, victim.as_str())],
        vec![("link", Symlink, ".."), ("link/outside/victim", Regular, "x")],
        vec![("file", Regular, "x"), ("file/below", Regular, "x")],
        vec![("d", Directory, ""), ("d", Regular, "x")],
        vec![("d", Regular, "x"), ("d", Directory, "")],
        vec![(".", Symlink, to_outside)],
    ]
    .into_iter()
    .enumerate()
    {
        let image = put(&work.path().join("image"), &compressed(&hostile(&entries)));
        let out = work.path().join(format!("out-{n}"));
        let error = unpack(&image, &out, 2).expect_err(&format!("{entries:?}"));
        assert!(!error.to_string().is_empty());
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{entries:?}");
        assert!(!work.path().join("escaped").exists(), "{entries:?}");
    }
    // What goes through a link of that name replaces the link and does not follow it.
    let entries = [("link", Symlink, victim.as_str()), ("link", Regular, "inside")];
    let image = put(&work.path().join("image"), &compressed(&hostile(&entries)));
    unpack(&image, &work.path().join("replaced"), 2).unwrap();
    assert_eq!(fs::read_to_string(work.path().join("replaced/link")).unwrap(), "inside");
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
}

fn need(work: &Path, archive: &[u8]) -> Result<wim::Need, wim::Error> {
    wim::root::open(&put(&work.join("image"), &compressed(archive)), None)?.need()
}

/// An initramfs asks for one number of workers after the other, on a device that may be slow.
#[test]
fn an_archive_is_measured_once_and_then_answers_for_any_number_of_workers() {
    let work = common::fast_dir();
    let archive = hostile(&[("file", tar::EntryType::Regular, &"contents\n".repeat(400_000))]);
    let packed: Vec<u8> = archive.chunks(archive.len().div_ceil(6)).flat_map(compressed).collect();
    let image = put(&work.path().join("image"), &packed);
    let root = wim::root::open(&image, None).unwrap();
    let need = |workers: usize| {
        let options = UnpackOptions { workers: NonZeroUsize::new(workers), ..UnpackOptions::default() };
        root.need_with(&options).unwrap()
    };
    let four = need(4);
    // What would have to be decompressed again is gone.
    fs::File::options().write(true).open(&image).unwrap().set_len(0).unwrap();
    let one = need(1);
    assert_eq!((one.bytes, one.inodes), (four.bytes, four.inodes));
    assert!(one.working < four.working, "{one:?}, {four:?}");
}

fn said(error: &wim::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

/// Extension headers, one after another, and no entry that they are for.
#[test]
fn what_extension_headers_keep_in_memory_is_bounded() {
    use tar::EntryType::{Regular, XGlobalHeader, XHeader};
    let work = common::fast_dir();
    let record = |n: usize, len: usize| {
        let rest = format!(" SCHILY.xattr.user.{n:03}={}\n", "v".repeat(len));
        let digits = (1..9).find(|digits| (digits + rest.len()).to_string().len() == *digits).unwrap();
        format!("{}{rest}", digits + rest.len())
    };
    for (kind, len, few, many) in [(XHeader, 60_000, 3, 40), (XGlobalHeader, 5000, 3, 20)] {
        let records: Vec<String> = (0..many).map(|n| record(n, len)).collect();
        let with = |count: usize| {
            let mut entries: Vec<_> = records.iter().take(count).map(|r| ("x", kind, r.as_str())).collect();
            entries.push(("file", Regular, "contents"));
            hostile(&entries)
        };
        need(work.path(), &with(few)).unwrap();
        let error = need(work.path(), &with(many)).unwrap_err();
        assert!(said(&error).contains("say more than"), "{error:?}");
    }
    // What directories get is kept until the end, by the walk that measures and by the one that unpacks.
    let records: String = (0..16).map(|n| record(n, 60_000)).collect();
    let archive = hostile(&[("x", XHeader, records.as_str()), ("d", tar::EntryType::Directory, "")].repeat(75));
    let measured = need(work.path(), &archive).unwrap_err();
    let unpacked = unpack(&work.path().join("image"), &work.path().join("out"), 2).unwrap_err();
    assert_eq!(said(&measured), said(&unpacked));
    assert!(said(&unpacked).contains("bytes of memory"), "{unpacked:?}");
    // The same said again and again is kept once.
    let one = record(0, 60_000);
    let mut entries = vec![("x", XHeader, one.as_str()); 40];
    entries.push(("file", Regular, "contents"));
    need(work.path(), &hostile(&entries)).unwrap();
}

#[test]
fn directories_that_no_entry_describes_are_counted_and_bounded() {
    let work = common::fast_dir();
    let file = |name: &str| newc(&[(1, 0o100_644, (0, 0), name, "")]);
    let shallow = need(work.path(), &file("a/b/c")).unwrap();
    assert_eq!(shallow.inodes, 4, "the root, a, b and c");
    let deep: Vec<u8> = (0..20).flat_map(|n| file(&format!("{n:02}{}", "/d".repeat(2000)))).collect();
    let error = need(work.path(), &deep).unwrap_err();
    assert!(said(&error).contains("bytes of memory"), "{error:?}");
}

#[test]
fn names_of_files_that_have_several_are_counted_and_bounded() {
    let work = common::fast_dir();
    // Long ones in one directory, each a file of its own.
    let names: Vec<String> = (0..17_000).map(|n| format!("{}{n:0250}", "d/".repeat(1900))).collect();
    let archive = |count: usize| {
        let entries: Vec<Newc<'_>> =
            names.iter().take(count).zip(0..).map(|(name, n)| (n, 0o100_644, (0, 0), name.as_str(), "")).collect();
        newc(&entries)
    };
    let (one, hundred) = (need(work.path(), &archive(1)).unwrap(), need(work.path(), &archive(101)).unwrap());
    assert!(hundred.working - one.working >= 100 * names[0].len() as u64, "{one:?} {hundred:?}");
    let error = need(work.path(), &archive(names.len())).unwrap_err();
    assert!(said(&error).contains("bytes of memory"), "{error:?}");
}

/// Inode, mode, device number, name and contents.
type Newc<'a> = (u32, u32, (u32, u32), &'a str, &'a str);

/// A newc archive, whose entries all say that they have two names.
fn newc(entries: &[Newc<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let trailer: Newc<'_> = (0, 0, (0, 0), "TRAILER!!!", "");
    for (inode, mode, (major, minor), name, contents) in entries.iter().chain([&trailer]) {
        let fields = [*inode, *mode, 0, 0, 2, 0, contents.len() as u32, 0, 0, *major, *minor, name.len() as u32 + 1, 0];
        bytes.extend(b"070701");
        bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(contents.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[test]
fn contents_never_go_into_a_device_or_a_fifo() {
    const FIFO: u32 = 0o010_600;
    const FILE: u32 = 0o100_600;
    let work = common::fast_dir();
    let kinds: &[(u32, (u32, u32))] = if common::is_root() {
        // /dev/full: whoever writes to it is told ENOSPC.
        &[(FIFO, (0, 0)), (0o020_600, (1, 7))]
    } else {
        &[(FIFO, (0, 0))]
    };
    for (n, (mode, device)) in kinds.iter().enumerate() {
        // A device and a file that claim to be one.
        let archive = newc(&[(7, *mode, *device, "first", ""), (7, FILE, (0, 0), "second", "contents")]);
        let image = put(&work.path().join("image"), &compressed(&archive));
        let out = work.path().join(format!("joined-{n}"));
        unpack(&image, &out, 2).unwrap();
        assert!(!fs::symlink_metadata(out.join("first")).unwrap().is_file());
        assert_eq!(fs::read_to_string(out.join("second")).unwrap(), "contents");

        // A file whose first name a device took before its contents came.
        let archive = newc(&[
            (7, FILE, (0, 0), "first", ""),
            (8, *mode, *device, "first", ""),
            (7, FILE, (0, 0), "second", "contents"),
        ]);
        let image = put(&work.path().join("image"), &compressed(&archive));
        let error = unpack(&image, &work.path().join(format!("replaced-{n}")), 2).unwrap_err();
        let said = format!("{error}; {}", error.source().map(ToString::to_string).unwrap_or_default());
        assert!(said.contains("no regular file"), "{said}");
    }
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    use tar::EntryType::Regular;
    let work = common::fast_dir();
    let contents = String::from_utf8(common::contents(3, 3000).iter().map(|b| b'a' + b % 26).collect()).unwrap();
    let archive = hostile(&[("a", Regular, &contents), ("b", Regular, "second")]);
    let whole = compressed(&archive);
    for len in (0..whole.len()).step_by(7) {
        let image = put(&work.path().join("image"), &whole[..len]);
        let out = tempfile::tempdir_in(work.path()).unwrap();
        unpack(&image, out.path(), 2).expect_err(&format!("{len} of {}", whole.len()));
    }
    // Cut before it was compressed.
    for len in (0..archive.len() - 1024).step_by(100) {
        let image = put(&work.path().join("image"), &compressed(&archive[..len]));
        let out = tempfile::tempdir_in(work.path()).unwrap();
        let error = unpack(&image, out.path(), 2).expect_err(&format!("{len} of {}", archive.len()));
        if len >= 512 {
            assert!(error.source().unwrap().to_string().contains("cut short"), "{len}: {error:?}");
        }
    }
}

#[test]
fn a_flipped_bit_under_a_checksum_is_an_error_or_changes_nothing() {
    use tar::EntryType::Regular;
    let work = common::fast_dir();
    // How much of the frame is left at the archive's end mark depends on the sizes.
    for size in (0..40).map(|n| n * n * 97) {
        let text: String = common::contents(size as u64, size).iter().map(|b| char::from(b'a' + b % 26)).collect();
        let mut archive = hostile(&[("a", Regular, &text), ("b", Regular, "second")]);
        // As GNU tar fills its records.
        archive.resize(archive.len().next_multiple_of(10_240), 0);
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(&archive).unwrap();
        let whole = encoder.finish().unwrap();
        let mut refused = 0;
        for n in 0..24 {
            let at = whole.len() * n / 24;
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (n % 8);
            let image = put(&work.path().join("image"), &bytes);
            let out = tempfile::tempdir_in(work.path()).unwrap();
            match unpack(&image, out.path(), 2) {
                Err(_) => refused += 1,
                Ok(_) => {
                    assert_eq!(fs::read_to_string(out.path().join("a")).unwrap(), text, "size {size}, byte {at}");
                    assert_eq!(fs::read_to_string(out.path().join("b")).unwrap(), "second", "size {size}, byte {at}");
                }
            }
        }
        assert!(refused > 12, "size {size}: only {refused} of 24 flips were noticed");
    }
}

#[test]
fn a_damaged_archive_is_refused_or_comes_back_and_never_panics() {
    use tar::EntryType::Regular;
    let work = common::fast_dir();
    // Without compression in the frame, so that every byte of the archive is hit as it is.
    let archive = hostile(&[("a", Regular, "first"), ("b", Regular, "second")]);
    for at in 0..archive.len() {
        let mut bytes = archive.clone();
        bytes[at] ^= 0x55;
        let image = put(&work.path().join("image"), &compressed(&bytes));
        let out = tempfile::tempdir_in(work.path()).unwrap();
        let _ = unpack(&image, out.path(), 2);
        assert!(fs::read_dir(work.path()).unwrap().count() <= 2, "byte {at}");
    }
}

#[test]
fn what_is_no_root_is_named_with_the_remedy() {
    let work = common::fast_dir();
    let image = work.path().join("image");
    for (bytes, says) in [
        (b"".to_vec(), "nothing: it is empty"),
        (vec![0; 4096], "zeros only"),
        (b"hello, world".to_vec(), "(\"hello,.w\")"),
        (b"\x1f\x8b\x08\x00rest".to_vec(), "recompress it with zstd"),
        (compressed(b"no archive at all"), "zstd, and inside with"),
        (hostile(&[]), "zeros only"),
        (hostile(&[("a", tar::EntryType::Regular, "x")]), "a tar archive without compression"),
    ] {
        put(&image, &bytes);
        let error = wim::root::open(&image, None).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("mmos-image capture"), "{error}");
    }
    fs::remove_file(&image).unwrap();
    let error = wim::root::open(&image, None).unwrap_err().to_string();
    assert!(error.starts_with("cannot open "), "{error}");
    let error = wim::root::open(work.path(), None).unwrap_err();
    assert!(error.source().unwrap().to_string().contains("directory"), "{error:?}");
}

/// `bytes` in several frames: as pzstd writes them where `announced`, else one behind the other.
fn in_frames(bytes: &[u8], frame: usize, announced: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    for part in bytes.chunks(frame) {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(part).unwrap();
        let packed = encoder.finish().unwrap();
        if announced {
            stream.extend(0x184d_2a50_u32.to_le_bytes());
            stream.extend(4_u32.to_le_bytes());
            stream.extend((packed.len() as u32).to_le_bytes());
        }
        stream.extend(packed);
    }
    stream
}

/// Some large files and many small ones.
fn plain_tree(root: &Path, bytes: usize) {
    for n in 0..bytes / 100_000 {
        let folder = root.join(format!("d{}", n % 7));
        fs::create_dir_all(&folder).unwrap();
        let size = if n % 10 == 0 { 900_000 } else { 1000 + n * 7 % 20_000 };
        fs::write(folder.join(format!("f{n}")), common::contents(n as u64, size)).unwrap();
    }
}

#[test]
fn what_pzstd_and_zstd_compress_comes_back_from_several_frames() {
    let work = common::fast_dir();
    let tree = work.path().join("tree");
    plain_tree(&tree, 30_000_000);
    let Some(archive) = tar(&tree, &["--format=posix", "--numeric-owner"]) else { return };
    let packed = put(&work.path().join("a.tar"), &archive);
    let image = work.path().join("image");
    let mut needs = Vec::new();
    for (program, options) in [
        ("zstd", &["-3"][..]),
        ("zstd", &["-12", "--long=24"]),
        ("zstd", &["-1", "--no-check"]),
        ("pzstd", &["-1", "-p", "3"]),
        ("pzstd", &["-3", "-p", "1"]),
        ("pzstd", &["-6", "-p", "2", "--no-check"]),
    ] {
        let mut arguments: Vec<&std::ffi::OsStr> = options.iter().map(|o| (*o).as_ref()).collect();
        arguments.extend(["-q".as_ref(), "-f".as_ref(), packed.as_os_str(), "-o".as_ref(), image.as_os_str()]);
        let Some(_) = run(program, &arguments) else { return };
        let root = wim::root::open(&image, None).unwrap();
        assert_eq!(root.format(), Format::TarZst);
        let need = root.need().unwrap();
        needs.push((need.bytes, need.inodes));
        let verified = wim::verify::verify(&image, &wim::UnpackOptions::default()).unwrap();
        assert!(verified.is_sound());
        assert_eq!(verified.unchecked > 0, options.contains(&"--no-check"), "{program} {options:?}");
        for workers in [1, 2, 5] {
            let out = work.path().join("out");
            let report = unpack(&image, &out, workers).unwrap();
            assert_eq!(facts(&tree, |_| {}), facts(&out, |_| {}), "{program} {options:?}, {workers} workers");
            assert!(report.workers <= workers as u32 + 1, "{report:?}");
            let is_unchecked = options.contains(&"--no-check");
            let says_so = report.notes.iter().any(|note| note.contains("have no checksum"));
            assert_eq!(says_so, is_unchecked, "{program} {options:?}: {:?}", report.notes);
            fs::remove_dir_all(&out).unwrap();
        }
    }
    assert!(needs.windows(2).all(|pair| pair[0] == pair[1]), "{needs:?}");
}

#[test]
fn frames_may_end_anywhere_in_an_archive() {
    use tar::EntryType::Regular;
    let work = common::fast_dir();
    let long = "n".repeat(90);
    let archive = hostile(&[("a", Regular, "first"), (&long, Regular, &"x".repeat(700)), ("c", Regular, "third")]);
    for (frame, announced) in (1..20).map(|n| n * 61).flat_map(|frame| [(frame, false), (frame, true)]) {
        let mut stream = in_frames(&archive, frame, announced);
        // And frames without contents between and behind.
        stream.extend(compressed(b""));
        stream.extend([0; 3000]);
        let image = put(&work.path().join("image"), &stream);
        let out = tempfile::tempdir_in(work.path()).unwrap();
        unpack(&image, out.path(), 3).unwrap_or_else(|error| panic!("{frame}, {announced}: {error:?}"));
        assert_eq!(fs::read_to_string(out.path().join(&long)).unwrap().len(), 700);
        assert_eq!(fs::read_to_string(out.path().join("c")).unwrap(), "third");
    }
}

/// Whatever the threads do: the same error, at the same place.
#[test]
fn several_frames_cut_or_damaged_give_one_error_in_its_place() {
    use tar::EntryType::Regular;
    let work = common::fast_dir();
    let text: Vec<String> =
        (0..6).map(|n| common::contents(n, 70_000).iter().map(|b| char::from(b'a' + b % 26)).collect()).collect();
    let names = ["a", "b", "c", "d", "e", "f"];
    let entries: Vec<_> = names.iter().zip(&text).map(|(name, text)| (*name, Regular, text.as_str())).collect();
    let archive = hostile(&entries);
    for announced in [false, true] {
        let whole = in_frames(&archive, 50_000, announced);
        let outcome = |bytes: &[u8]| {
            let image = put(&work.path().join("image"), bytes);
            let mut all: Vec<_> = [1, 2, 4, 4]
                .into_iter()
                .map(|workers| {
                    let out = tempfile::tempdir_in(work.path()).unwrap();
                    let unpacked = unpack(&image, out.path(), workers);
                    if unpacked.is_ok() {
                        for (name, text) in names.iter().zip(&text) {
                            assert_eq!(&fs::read_to_string(out.path().join(name)).unwrap(), text);
                        }
                    }
                    unpacked.map(|_| ()).map_err(|error| format!("{error}; {}", said(&error)))
                })
                .collect();
            let first = all.remove(0);
            assert!(all.iter().all(|other| *other == first), "{first:?}, {all:?}");
            first
        };
        outcome(&whole).unwrap();
        for len in (0..whole.len()).step_by(whole.len() / 150) {
            // Where a whole number of frames is left, the archive itself is found to be cut.
            let error = outcome(&whole[..len]).expect_err(&format!("{len} of {}", whole.len()));
            assert!(len < 600 || error.contains("cut short"), "{len}: {error}");
        }
        for n in 0..150 {
            let at = whole.len() * n / 150;
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (n % 8);
            // An announcement that is damaged is not needed, unless it looks sound.
            let _ = outcome(&bytes);
        }
        // The contents of the third frame, under its checksum.
        let mut bytes = whole.clone();
        let at = whole.len() * 2 / 5;
        bytes[at] ^= 0x40;
        let error = outcome(&bytes).unwrap_err();
        assert!(error.contains("zstd stream after") || error.contains("damaged"), "{error}");
    }
}

/// A length that is announced and leads into another frame would give other contents than zstd does.
#[test]
fn a_false_length_before_a_frame_is_an_error_or_ignored() {
    use tar::EntryType::Regular;
    let work = common::fast_dir();
    let archive = hostile(&[("a", Regular, "first"), ("b", Regular, "second")]);
    let (one, two) = archive.split_at(1000);
    let (one, two) = (compressed(one), compressed(two));
    let announced = |len: usize| [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], &(len as u32).to_le_bytes()].concat();
    for (len, is_believed) in [(one.len() + two.len(), true), (one.len() - 1, false), (0, false), (1 << 30, false)] {
        let image = put(&work.path().join("image"), &[announced(len), one.clone(), two.clone()].concat());
        let out = tempfile::tempdir_in(work.path()).unwrap();
        let unpacked = unpack(&image, out.path(), 2);
        match is_believed {
            true => assert!(said(&unpacked.unwrap_err()).contains("zstd stream after")),
            false => {
                unpacked.unwrap();
                assert_eq!(fs::read_to_string(out.path().join("b")).unwrap(), "second");
            }
        }
    }
}

/// Peak memory of a process that unpacks, in KiB, and whether that ended well.
fn peak(image: &Path, out: &Path) -> Option<(u64, bool)> {
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new(exe);
    command.args(["--exact", "--ignored", "unpacks_what_the_environment_names"]);
    command.env("ARCHIVE_IMAGE", image).env("ARCHIVE_OUT", out).stdout(Stdio::piped());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let peak = text.lines().find_map(|line| line.split_once("peak KiB: "))?.1.trim().parse().ok()?;
    Some((peak, text.contains("unpacked: true")))
}

#[test]
#[ignore = "run by the tests that measure a process"]
fn unpacks_what_the_environment_names() {
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(image), Some(out)) = (named("ARCHIVE_IMAGE"), named("ARCHIVE_OUT")) else { return };
    let is_unpacked = unpack(&image, &out, 8).is_ok();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    // Past the test's own capture of its output.
    let line = format!("\npeak KiB: {}\nunpacked: {is_unpacked}\n", peak.trim().trim_end_matches(" kB"));
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

#[test]
fn memory_is_bounded_whatever_the_frames_are() {
    use tar::EntryType::Regular;
    let work = common::fast_dir();
    let text = "x".repeat(1000);
    let small = hostile(&[("a", Regular, text.as_str())]);
    let out = |n: usize| work.path().join(format!("out-{n}"));
    let image = put(&work.path().join("small"), &compressed(&small));
    let (least, _) = peak(&image, &out(0)).unwrap();
    // 100 MB in frames of 8 MiB, as pzstd makes them; in very many small ones; in one.
    let body: String = common::contents(9, 1 << 20).iter().map(|b| char::from(b'a' + b % 26)).collect();
    let large = hostile(&[("a", Regular, body.repeat(100).as_str())]);
    for (n, frame) in [8 << 20, 20_000, usize::MAX].into_iter().enumerate() {
        let image = put(&work.path().join("image"), &in_frames(&large, frame, n == 0));
        let (most, is_unpacked) = peak(&image, &out(n + 1)).unwrap();
        assert!(is_unpacked);
        assert!(most < least + (32 << 10), "frames of {frame}: {most} KiB, and {least} for next to nothing");
    }
    // Headers that claim windows of 128 MiB and exabytes of contents, with a few bytes behind each.
    let mut claims = compressed(&small[..512]);
    for _ in 0..2000 {
        // Descriptor: content size of 8 bytes, a window; then an empty last block.
        claims.extend(0xfd2f_b528_u32.to_le_bytes());
        claims.extend([0xc0, 0x88]);
        claims.extend((1_u64 << 60).to_le_bytes());
        claims.extend([1, 0, 0]);
    }
    let image = put(&work.path().join("claims"), &claims);
    let (most, is_unpacked) = peak(&image, &out(9)).unwrap();
    assert!(!is_unpacked);
    assert!(most < least + (32 << 10), "{most} KiB for claims, and {least} for next to nothing");
}
