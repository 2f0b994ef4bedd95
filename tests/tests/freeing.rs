//! An image in the initramfs makes room for its own tree: in so little RAM that both could not be there at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::root::{image, record, recovers, run, unpacked};
use tempfile::TempDir;
use vm::images::{builder, command};
use vm::{Ended, Image, Machine, Vm};

const MIB: u64 = 1 << 20;
/// A step of `-m`, in MiB.
const STEP: u64 = 16;
/// MiB by which what is available differs from boot to boot of the same machine.
const DIFFERENCE: u64 = 3;
/// Files that are added to the tree, and their size.
const FILES: usize = 128;
const FILE: usize = 1 << 20;
/// Of each page of them, so many bytes are noise: what of it is left when it is compressed. The kernel holds the initramfs
/// twice while it unpacks it, into a tmpfs of half of the RAM less what it comes in: an image of a third of the RAM is the
/// largest that gets there.
const NOISE: usize = 1312;

/// The root of `image` with files that can be compressed to about a third.
fn tree(image: &Image, work: &Path) -> PathBuf {
    let tree = unpacked(image, work);
    let folder = tree.join("usr/share/large");
    fs::create_dir_all(&folder).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 0..FILES {
        let mut content = vec![b'.'; FILE];
        for word in content.chunks_mut(4096).flat_map(|page| page[..NOISE].chunks_exact_mut(8)) {
            // xorshift64, by Marsaglia.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        fs::write(folder.join(format!("file-{n}")), content).unwrap();
    }
    tree
}

/// Bytes of tmpfs that the tree in `root` takes.
fn tree_bytes(root: &Path) -> u64 {
    let output = Command::new(builder()).args(["info", "--json"]).arg(root).output().unwrap();
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    info["need"]["bytes"].as_u64().unwrap()
}

/// What the guest's kernel has to give, in bytes.
fn total(vm: &mut Vm) -> u64 {
    let text = vm.must("grep MemTotal /proc/meminfo").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The number before `unit` in a line.
fn number_before(line: &str, unit: &str) -> u64 {
    let (before, _) = line.split_once(unit).unwrap_or_else(|| panic!("no {unit:?} in {line:?}"));
    before.rsplit(' ').next().unwrap().parse().unwrap_or_else(|error| panic!("{error}: {before:?}"))
}

/// A machine with `root` in its initramfs. A kernel that panics does not stay.
fn machine(image: &Image, root: &Path, work: &Path) -> Machine {
    image.machine_with(root, "/image", work).unwrap().parameter("mmos.root=initrd:/image").parameter("panic=-1")
}

/// Boots `root` with plenty of RAM, which tells how little would do; in a step less it is refused, with what is missing;
/// with that, it boots, where image and tree could not be at once.
fn boots_where_image_and_tree_do_not_fit(image: &Image, root: &Path, work: &Path) {
    let (tree, image_bytes) = (tree_bytes(root), fs::metadata(root).unwrap().len());
    let machine = machine(image, root, work);
    let machine = |mib: u64| machine.clone().memory(u32::try_from(mib).unwrap());

    let plenty = 2 * (tree + image_bytes) / MIB;
    let mut vm = machine(plenty).boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let console = vm.console.text();
    let line = console.lines().find(|line| line.contains("the root needs")).unwrap();
    let spare = number_before(line, " MiB are available") - number_before(line, " MiB of RAM");
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);

    let too_small = plenty - with_account(spare) - STEP;
    let console = recovers(&machine(too_small), &["it needs ", " MiB unpacked", " MiB are available"]);
    let line = console.lines().find(|line| line.contains("cannot boot")).unwrap();
    let (needed, available) = (number_before(line, " MiB of RAM"), number_before(line, " MiB are available"));
    let missing = number_before(line, " MiB more RAM");
    assert_eq!(missing, needed - available, "{line}");
    assert!(!console.contains("unpacked to"), "{console}");

    let enough = too_small + with_account(missing) + DIFFERENCE;
    let mut vm = machine(enough).boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let there = total(&mut vm);
    println!("tree {tree}, image {image_bytes}: -m {enough}, which leaves {there}; -m {too_small} lacks {missing} MiB");
    assert!(there < tree + image_bytes, "-m {enough}: image and tree fit without freeing");
    let record = record(&mut vm);
    assert!(record["root"]["unpacked_bytes"].as_u64().unwrap() >= (FILES * FILE) as u64, "{record}");
    assert!(record["root"]["workers"].as_u64().unwrap() >= 1, "{record}");
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}

/// So much of `-m` gives the kernel so many MiB to hand out: it keeps a page's account for each, a sixty-fourth.
fn with_account(mib: u64) -> u64 {
    mib + mib.div_ceil(63)
}

#[test]
fn a_wim_boots_where_it_and_its_tree_do_not_fit_and_too_little_is_refused_with_what_is_missing() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let (tree, root) = (tree(&image, work.path()), work.path().join("root.wim"));
    command(Command::new(builder()).arg("capture").arg(&tree).arg(&root).args(["--compress", "xpress"])).unwrap();
    boots_where_image_and_tree_do_not_fit(&image, &root, work.path());

    // More than a third of the RAM is cut short by the kernel.
    let third = fs::metadata(&root).unwrap().len() / MIB;
    let machine = machine(&image, &root, work.path()).memory(u32::try_from(3 * third + 16).unwrap());
    recovers(&machine, &["no room to unpack all of the initramfs", "more RAM"]);
}

#[test]
fn an_archive_boots_where_it_and_its_tree_do_not_fit_and_too_little_is_refused_with_what_is_missing() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = tree(&image, work.path());
    run("tar --create --numeric-owner . | zstd -q -o ../root.tar.zst", &tree);
    boots_where_image_and_tree_do_not_fit(&image, &work.path().join("root.tar.zst"), work.path());
}
