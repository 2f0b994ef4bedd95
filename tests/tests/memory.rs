//! The unpacker comes to no end: memory ends while it works, though the check before said that it would do, or the medium
//! does not answer. The device recovers.
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
use std::path::Path;
use std::process::Command;

use common::root::{image, recovers, run, unpacked};
use tempfile::TempDir;
use vm::images::{builder, command};
use vm::{Image, Machine};

/// Empty files of long names: each takes an inode and a name, in the kernel's own memory, and no page of contents.
const FILES: usize = 60_000;
const FILES_OF_A_FOLDER: usize = 1000;

#[test]
fn a_root_of_more_files_than_the_kernel_has_memory_for_ends_in_recovery() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = unpacked(&image, work.path());
    for n in 0..FILES {
        let folder = tree.join(format!("usr/share/many/{}", n / FILES_OF_A_FOLDER));
        if n % FILES_OF_A_FOLDER == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(format!("{n:0>250}")), "").unwrap();
    }
    let root = work.path().join("root.wim");
    command(Command::new(builder()).arg("capture").arg(&tree).arg(&root)).unwrap();
    let machine = image.machine_with(&root, "/image", work.path()).unwrap();
    // A kernel that panics does not stay.
    let machine = machine.parameter("mmos.root=initrd:/image").parameter("panic=-1").memory(400);

    // `movablecore=` (`Documentation/admin-guide/kernel-parameters.txt`) sets memory aside that only pages may have which
    // the kernel can move. It is counted as available; but inodes cannot lie in it.
    let refused = ["for what the kernel keeps of its", "outside of what is set aside", "MiB less aside"];
    recovers(&machine.clone().parameter("movablecore=320M"), &refused);

    // `slab_debug` (`Documentation/mm/slub.rst`) makes every inode larger than anyone expects, so that the check finds enough.
    // Then the kernel kills the unpacker, or else it looks for memory for ever: both have been seen.
    let short = machine.clone().parameter("slub_debug=FZPU").parameter("mmos.watchdog=10").memory(256);
    let console = recovers(&short, &["more RAM"]);
    assert!(!console.contains("/image: it needs"), "it is refused: {console}");
    let ways = ["since the memory ran out", "has done nothing for 10 s (mmos.watchdog=), in the step unpack"];
    let way = ways.iter().find(|way| console.contains(*way));
    println!("without memory: {}", way.unwrap_or_else(|| panic!("none of {ways:?}: {console}")));

    // The same root boots in the same RAM where all of it can be used.
    let mut vm = machine.boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    assert_eq!(vm.power_off().unwrap(), vm::Ended::Poweroff);
}

/// Of the medium, QEMU lets so many bytes through, and then one in a second.
const ANSWERED: u64 = 1 << 20;

/// A machine whose disk stops to answer, and which may write to it or not.
fn with_a_slow_disk(image: &Image, disk: &Path, read_only: &str) -> Machine {
    let mut machine = image.machine().unwrap().parameter("mmos.watchdog=5");
    for (option, value) in [
        ("-object", format!("throttle-group,id=slow,x-bps-read=1,x-bps-read-max={ANSWERED}")),
        ("-blockdev", format!("driver=file,node-name=disk,read-only={read_only},filename={}", disk.display())),
        ("-blockdev", format!("driver=throttle,node-name=slow,throttle-group=slow,read-only={read_only},file=disk")),
        ("-device", "virtio-blk-pci,drive=slow".to_owned()),
    ] {
        machine.arguments.extend([option.to_owned(), value]);
    }
    machine
}

#[test]
fn a_medium_that_does_not_answer_any_more_ends_in_recovery() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let root = image.root();
    assert!(fs::metadata(&root).unwrap().len() > 2 * ANSWERED, "it would be read before");
    let disk = work.path().join("disk");
    fs::copy(&root, &disk).unwrap();
    let words = ["has done nothing for 5 s (mmos.watchdog=)", "Check the medium"];
    // Whoever closes it last waits for it; so does who unmounts it.
    for read_only in ["on", "off"] {
        recovers(&with_a_slow_disk(&image, &disk, read_only).parameter("mmos.root=/dev/vda"), &words);
    }
    let disk = work.path().join("fat");
    run(
        &format!("truncate -s 64M fat && mkfs.vfat fat >/dev/null && mcopy -i fat {} ::/root.wim", root.display()),
        work.path(),
    );
    recovers(&with_a_slow_disk(&image, &disk, "off").parameter("mmos.root=/dev/vda:/root.wim"), &words);
}
