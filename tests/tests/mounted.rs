//! Roots that are mounted and not unpacked: squashfs and EROFS, from RAM, under an overlay.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::root::{boots, record, recovers, run, unpacked, write_at};
use common::unit;
use tempfile::TempDir;
use vm::images::{builder, command, workspace};
use vm::{Case, Drive, Ended, Image, Machine, Vm};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// An image whose initramfs has what it takes to mount a root.
fn image() -> Image {
    case("mounted").build().unwrap()
}

fn case(name: &str) -> Case {
    let case = Case::new(name).boot("onfail = \"poweroff\"");
    ["squashfs", "erofs", "loop", "overlay"].iter().fold(case, |case, module| case.include(module))
}

/// The tree of `image`, with a file of some size in it that shows whether the image can still be read.
fn tree(image: &Image, work: &Path) -> PathBuf {
    let tree = unpacked(image, work);
    run("seq 1 1000000 > large && mkdir -p folder/deep && echo original > folder/deep/file", &tree);
    // What the root itself is like is of the image, too.
    run("chmod 751 . && chown 0:12 .", &tree);
    tree
}

fn squashfs(tree: &Path, to: &Path, options: &str) {
    let (tree, to) = (tree.display(), to.display());
    run(&format!("mksquashfs {tree} {to} -noappend -quiet -no-progress {options}"), Path::new("/"));
}

fn erofs(tree: &Path, to: &Path, options: &str) {
    run(&format!("mkfs.erofs --quiet {options} {} {}", to.display(), tree.display()), Path::new("/"));
}

/// Boots the machine, and shows that its root is `format`, is all there, and can be written. Gives it back running.
fn mounts(machine: &Machine, format: &str, tree: &Path) -> Vm {
    let mut vm = machine.boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let record = record(&mut vm);
    assert_eq!((&record["root"]["format"], &record["root"]["workers"]), (&format.into(), &0.into()), "{record}");
    assert_eq!(record["root"]["unpacked_bytes"], 0, "{record}");
    assert!(record["root"]["source_bytes"].as_u64().unwrap() > MIB, "{record}");
    assert_eq!(record["warnings"].as_array().map(Vec::len), Some(0), "{record}");

    // Nothing is mounted for all to see but what every root has.
    let mounts = vm.must("cut -d' ' -f2,3 /proc/mounts").unwrap();
    assert!(mounts.lines().any(|line| line == "/ overlay"), "{mounts}");
    for word in ["squashfs", "erofs", "mmos-", "ext4"] {
        assert!(!mounts.contains(word), "{word} is among the mounts:\n{mounts}");
    }
    assert_eq!(vm.must("stat -c '%a %u:%g' /").unwrap().trim(), "751 0:12");
    all_is_there(&mut vm, tree);

    // As one file system, which can be written.
    assert!(!vm.must("test -e /written && cat /written || true").unwrap().contains("was here"));
    vm.must("echo was here > /written && echo changed > /folder/deep/file && rm /large").unwrap();
    vm.must("mv /folder /elsewhere && test ! -e /folder && grep -q changed /elsewhere/deep/file").unwrap();
    let devices = vm.must("stat -c %d / /etc /etc/mmos/image.toml /bin/busybox /written | sort -u | wc -l").unwrap();
    assert_eq!(devices.trim(), "1");
    vm
}

/// Whether what lies in the image is what was put there, read anew.
fn all_is_there(vm: &mut Vm, tree: &Path) {
    vm.must("echo 3 > /proc/sys/vm/drop_caches").unwrap();
    for file in ["large", "bin/busybox", "sbin/init"] {
        let output = Command::new("sha256sum").stdin(File::open(tree.join(file)).unwrap()).output().unwrap();
        let host = String::from_utf8(output.stdout).unwrap();
        let guest = vm.must(&format!("sha256sum < /{file}")).unwrap();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&guest), words(&host), "/{file}");
    }
}

/// Powers the machine off, and sees to it that nothing stood in the way.
fn end(mut vm: Vm) {
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
    let console = vm.console.text();
    for word in ["can be neither unmounted nor", "stays mounted", "I/O error", "SQUASHFS error", "erofs (device"] {
        assert!(!console.contains(word), "{word:?} on the console:\n{console}");
    }
}

/// A number of `/proc/meminfo`, in bytes.
fn meminfo(vm: &mut Vm, name: &str) -> u64 {
    let line = vm.must(&format!("grep '^{name}:' /proc/meminfo")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn in_the_initramfs_an_image_stays_where_it_lies_and_all_else_is_freed() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = tree(&image, work.path());
    let root = work.path().join("root");
    // Padded to no whole sector, so that it has to grow before a block device can hold it.
    for (format, parameter, counter) in
        [("squashfs", "mmos.loglevel=debug", "Shmem"), ("erofs", "rootfstype=ramfs", "Unevictable")]
    {
        match format {
            "squashfs" => squashfs(&tree, &root, "-comp zstd -nopad"),
            _ => erofs(&tree, &root, "-zlz4hc"),
        }
        let size = fs::metadata(&root).unwrap().len();
        // Something that would be noticed if it stayed.
        let ballast = work.path().join("ballast");
        File::create(&ballast).unwrap().set_len(64 * MIB).unwrap();
        let mut machine = image.machine_with(&root, "/image", work.path()).unwrap().parameter(parameter);
        let initrd = work.path().join("with-ballast.img");
        command(
            Command::new(builder())
                .arg("join")
                .arg(&machine.initrd)
                .arg("--out")
                .arg(&initrd)
                .args(["--add", &format!("{}=/ballast", ballast.display())]),
        )
        .unwrap();
        machine.initrd = initrd;
        let machine = machine.parameter("mmos.root=initrd:/image");
        let mut vm = mounts(&machine, format, &tree);
        assert!(vm.must("cat /sys/block/loop0/loop/backing_file").unwrap().contains("/image"));
        assert_eq!(vm.must("cat /sys/block/loop0/loop/autoclear").unwrap().trim(), "1");
        let held = meminfo(&mut vm, counter);
        // A tmpfs rootfs counts as shared memory, and so does what was written; a ramfs as what cannot be evicted.
        assert!(held >= size, "{held} bytes are held, and the image has {size}");
        assert!(held < size + 16 * MIB, "{held} bytes are held for an image of {size}");
        end(vm);
    }
}

#[test]
fn a_definition_alone_makes_an_image_that_boots_from_either() {
    for format in ["squashfs", "erofs"] {
        let case = Case::new(&format!("mounted-{format}")).boot("onfail = \"poweroff\"");
        let image = case.setting(&format!("format = \"{format}\"\npin_root = true")).build().unwrap();
        boots(&image.machine().unwrap(), format);
    }
}

#[test]
fn a_raw_device_is_copied_and_may_then_be_overwritten() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = tree(&image, work.path());
    let disk = work.path().join("disk");
    squashfs(&tree, &disk, "-comp xz");
    File::options().append(true).open(&disk).unwrap().write_all(&vec![7; 1 << 20]).unwrap();
    let before = fs::read(&disk).unwrap();
    let mut machine = image.machine_without_root().parameter("mmos.root=/dev/vda");
    machine.drives.push(Drive { path: disk.clone(), writable: true });

    // What is written is written nowhere: the next boot finds the disk, and the root, as they were.
    end(mounts(&machine, "squashfs", &tree));
    assert!(fs::read(&disk).unwrap() == before, "the boot wrote to the storage");

    let mut vm = machine.boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    assert!(vm.must("cat /sys/block/loop0/loop/backing_file").unwrap().contains("memfd:"));
    // Nobody holds it: its table can be read anew, and every block written.
    vm.must("blockdev --rereadpt /dev/vda").unwrap();
    let blocks = before.len() / 4096;
    vm.must(&format!("dd if=/dev/zero of=/dev/vda bs=4096 count={blocks} && sync")).unwrap();
    all_is_there(&mut vm, &tree);
    vm.must("ls -lR /usr /etc > /dev/null").unwrap();
    end(vm);
    assert!(fs::read(&disk).unwrap()[..blocks * 4096].iter().all(|byte| *byte == 0));
}

#[test]
fn a_file_on_a_partition_is_copied_and_its_file_system_let_go_of() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = tree(&image, work.path());
    let content = work.path().join("content");
    fs::create_dir(&content).unwrap();
    erofs(&tree, &content.join("root.erofs"), "-zlz4");
    let size = fs::metadata(content.join("root.erofs")).unwrap().len() / MIB + 16;
    run(&format!("truncate -s {size}M ext4 && mkfs.ext4 -q -d content ext4"), work.path());
    run(&format!("truncate -s {}M disk && sgdisk -n 1:1M:+{size}M -c 1:retail disk", size + 4), work.path());
    let disk = work.path().join("disk");
    write_at(&disk, MIB, &work.path().join("ext4"));
    let machine = image.machine_without_root().parameter("mmos.root=PARTLABEL=retail:/root.erofs").drive(&disk);
    let mut vm = mounts(&machine, "erofs", &tree);
    assert!(vm.must("cat /sys/block/loop0/loop/backing_file").unwrap().contains("memfd:"));
    vm.must("blockdev --rereadpt /dev/vda").unwrap();
    end(vm);
}

#[test]
fn an_image_that_cannot_be_mounted_leads_to_recovery_with_the_reason() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = unpacked(&image, work.path());
    let at = |name: &str| work.path().join(name);
    squashfs(&tree, &at("squashfs"), "-comp zstd");
    erofs(&tree, &at("erofs"), "-zlz4");
    let changed = |of: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(at(of)).unwrap();
        change(&mut bytes);
        fs::write(at("changed"), bytes).unwrap();
        let machine = image.machine_with(&at("changed"), "/image", work.path()).unwrap();
        machine.parameter("mmos.root=initrd:/image")
    };
    let cut = changed("squashfs", &|bytes| bytes.truncate(bytes.len() / 2));
    recovers(&cut, &["the squashfs is cut short", "copy it again"]);
    let cut = changed("erofs", &|bytes| bytes.truncate(bytes.len() / 2));
    recovers(&cut, &["the erofs is cut short", "copy it again"]);
    // The version, which we look at; and where the inodes are, which the driver does.
    recovers(&changed("squashfs", &|bytes| bytes[28] = 3), &["squashfs of version 3.0"]);
    recovers(&changed("squashfs", &|bytes| bytes[64..72].fill(0xff)), &["the squashfs (compression: zstd) cannot be"]);
    // The checksum over the superblock.
    recovers(&changed("erofs", &|bytes| bytes[1024 + 60] ^= 1), &["the erofs (compression: lz4) cannot be mounted"]);
    recovers(
        &changed("erofs", &|_| {}).parameter("mmos.index=2"),
        &["the format is erofs", "no image \"2\"", "mmos.index="],
    );

    // A tree without an init; and one whose init is damaged, which would end PID 1 when it is the root.
    let other = at("other");
    fs::create_dir_all(other.join("sbin")).unwrap();
    fs::create_dir_all(other.join("bin")).unwrap();
    fs::copy(tree.join("bin/busybox"), other.join("bin/busybox")).unwrap();
    squashfs(&other, &at("no-init"), "-comp zstd");
    recovers(&changed("no-init", &|_| {}), &["/sbin/init"]);
    fs::rename(other.join("bin/busybox"), other.join("sbin/init")).unwrap();
    squashfs(&other, &at("bad-init"), "-comp zstd");
    let bad = changed("bad-init", &|bytes| bytes[5000..50_000].fill(0xff));
    recovers(&bad, &["/sbin/init of the root cannot be read to its end"]);
}

#[test]
fn a_kernel_without_the_drivers_says_which_and_where_to_name_them() {
    let image = Case::new("roots").boot("onfail = \"poweroff\"").build().unwrap();
    let work = TempDir::new().unwrap();
    let tree = unpacked(&image, work.path());
    let root = work.path().join("root");
    squashfs(&tree, &root, "-comp zstd");
    let machine = image.machine_with(&root, "/root.wim", work.path()).unwrap();
    let remedy = "include = [\"squashfs\", \"loop\", \"overlay\"] under [modules]";
    recovers(&machine, &["fs_squashfs", "loop is not among", "fs_overlay", remedy]);
}

#[test]
fn an_image_larger_than_the_memory_is_refused_before_it_is_copied() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = work.path().join("tree");
    fs::create_dir(&tree).unwrap();
    run("head -c 300M /dev/urandom > noise", &tree);
    let disk = work.path().join("disk");
    erofs(&tree, &disk, "");
    let machine = image.machine_without_root().parameter("mmos.root=/dev/vda").drive(&disk).memory(256);
    recovers(&machine, &["it needs 3", "(301 MiB for a copy of the image", "MiB are available", "more RAM"]);
}

#[test]
fn a_pinned_image_is_held_to_its_hash_wherever_it_lies() {
    let work = TempDir::new().unwrap();
    let plain = image();
    let tree = unpacked(&plain, work.path());
    let root = work.path().join("root");
    squashfs(&tree, &root, "-comp zstd");
    let output = Command::new("sha256sum").arg(&root).output().unwrap();
    let sha256 = String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned();
    let pinned = case("mounted-pinned").boot(&format!("[boot.verify]\nsha256 = \"{sha256}\"")).build().unwrap();

    // On a device, which is longer than the image.
    let disk = work.path().join("disk");
    fs::copy(&root, &disk).unwrap();
    File::options().append(true).open(&disk).unwrap().write_all(&vec![7; 1 << 20]).unwrap();
    let on_disk = pinned.machine_without_root().parameter("mmos.root=/dev/vda");
    let mut vm = on_disk.clone().drive(&disk).boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    vm.must("dmesg | grep -q 'the image is the pinned one'").unwrap();
    end(vm);

    let mut bytes = fs::read(&disk).unwrap();
    let length = fs::read(&root).unwrap().len();
    bytes[length / 2] ^= 1;
    fs::write(&disk, &bytes).unwrap();
    let console = recovers(&on_disk.drive(&disk), &["pinned", "SHA-256", "Write the image again"]);
    assert!(!console.contains("SQUASHFS"), "the driver saw it: {console}");
    let inside = work.path().join("inside");
    fs::write(&inside, &bytes[..length]).unwrap();
    recovers(&pinned.machine_with(&inside, "/root.wim", work.path()).unwrap(), &["pinned", "SHA-256"]);
}

/// Not a test: the figures of `docs/images.md`, by
/// `cargo xtask test -- -p vm --test mounted figures -- --ignored --nocapture`. Times are the virtual ones of a single
/// processor that needs a nanosecond for each instruction, so that they are the same each time.
#[test]
#[ignore = "measures, and takes minutes"]
fn figures() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let at = |name: &str| work.path().join(name);
    println!("| tree | format | image MiB | RAM in use, MiB | kernel to service, s | of it the root, s |");
    for name in ["minimal", "factory"] {
        let tree = at(name);
        command(Command::new(builder()).arg("apply").arg(Image::get(name).unwrap().root()).arg(&tree)).unwrap();
        run(&format!("cp -a {}/. .", workspace().join("tests/guest").display()), &tree);
        for format in ["wim, xpress", "wim, lzx", "squashfs, zstd", "erofs, lz4hc"] {
            let root = at("root");
            match format.split_once(", ").unwrap() {
                ("wim", compression) => {
                    let mut capture = Command::new(builder());
                    command(capture.arg("capture").arg(&tree).arg(&root).args(["--compress", compression])).unwrap();
                }
                ("squashfs", compression) => squashfs(&tree, &root, &format!("-comp {compression}")),
                (_, compression) => erofs(&tree, &root, &format!("-z{compression}")),
            }
            let mut machine = image.machine_with(&root, "/root.wim", work.path()).unwrap().memory(1024);
            machine.cpus = 1;
            machine.arguments.extend(["-icount", "shift=0,sleep=off"].map(str::to_owned));
            let mut vm = machine.boot().unwrap();
            vm.must("mmosctl wait-boot").unwrap();
            let record = record(&mut vm);
            let used = meminfo(&mut vm, "MemTotal") - meminfo(&mut vm, "MemAvailable");
            let started = unit(&mut vm, "vm-shell")["startedAt"].as_u64().unwrap();
            let seconds = |micros: u64| format!("{}.{:03}", micros / 1_000_000, micros % 1_000_000 / 1000);
            println!(
                "| {name} | {format} | {} | {} | {} | {} |",
                fs::metadata(&root).unwrap().len().div_ceil(MIB),
                used.div_ceil(MIB),
                seconds(started),
                seconds(record["root"]["micros"].as_u64().unwrap())
            );
            fs::remove_file(&root).unwrap();
        }
    }
}
