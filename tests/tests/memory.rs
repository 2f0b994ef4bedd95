//! The memory ends while the root is unpacked, though the check before said that it would do: the kernel kills the
//! unpacker, and the device recovers.
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
use std::process::Command;

use common::root::{image, recovers, unpacked};
use tempfile::TempDir;
use vm::images::{builder, command};

/// Empty files: each takes an inode and a name, in the kernel's own memory, and no page of contents.
const FILES: usize = 100_000;
const FILES_OF_A_FOLDER: usize = 1000;

/// `movablecore=` (`Documentation/admin-guide/kernel-parameters.txt`) sets memory aside that only pages may have which the
/// kernel can move. It is counted as available; but inodes cannot lie in it.
#[test]
fn an_unpacker_that_the_kernel_kills_for_want_of_memory_is_a_reason_for_recovery() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = unpacked(&image, work.path());
    for n in 0..FILES {
        let folder = tree.join(format!("usr/share/many/{}", n / FILES_OF_A_FOLDER));
        if n % FILES_OF_A_FOLDER == 0 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(n.to_string()), "").unwrap();
    }
    let root = work.path().join("root.wim");
    command(Command::new(builder()).arg("capture").arg(&tree).arg(&root)).unwrap();
    let machine = image.machine_with(&root, "/image", work.path()).unwrap();
    // A kernel that panics does not stay.
    let machine = machine.parameter("mmos.root=initrd:/image").parameter("panic=-1").memory(400);

    let console = recovers(
        &machine.clone().parameter("movablecore=310M"),
        &["the kernel ended the process that unpacks it, since the memory ran out", "more RAM"],
    );
    // Not refused before: the check had found enough.
    assert!(console.contains("Out of memory: Killed process"), "{console}");

    // The same root boots in the same RAM where all of it can be used.
    let mut vm = machine.boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    assert_eq!(vm.power_off().unwrap(), vm::Ended::Poweroff);
}
