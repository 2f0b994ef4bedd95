//! Where a root can come from, and in which formats; and what happens where it cannot be used.
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
use std::io::{Read, Write};
use std::process::Command;

use common::root::{boots, image, recovers, run, unpacked, write_at};

use tempfile::TempDir;
use vm::images::{builder, command, workspace};
use vm::{Case, Drive, Ended, Image, Machine};

#[test]
fn from_the_initramfs_as_tar_and_as_cpio() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = unpacked(&image, work.path());
    run("tar --create --numeric-owner . | zstd -q -o ../root.tar.zst", &tree);
    run("find . | cpio --quiet --create --format newc | zstd -q -o ../root.cpio.zst", &tree);
    for format in ["tar.zst", "cpio.zst"] {
        // The name says nothing: the content does.
        let root = work.path().join(format!("root.{format}"));
        let machine = image.machine_with(&root, "/image", work.path()).unwrap();
        boots(&machine.parameter("mmos.root=initrd:/image"), format);
    }
}

#[test]
fn one_of_several_images_by_number_and_by_name() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = unpacked(&image, work.path());
    run("wimlib-imagex capture tree several.wim first --unix-data", work.path());
    fs::write(tree.join("etc/which"), "second").unwrap();
    run("wimlib-imagex append tree several.wim second --unix-data", work.path());
    let machine = image.machine_with(&work.path().join("several.wim"), "/image", work.path()).unwrap();
    for (index, which) in [("2", "second"), ("second", "second"), ("first", "")] {
        let machine = machine.clone().parameter("mmos.root=initrd:/image").parameter(&format!("mmos.index={index}"));
        let mut vm = machine.boot().unwrap();
        vm.must("mmosctl wait-boot").unwrap();
        assert_eq!(vm.must("cat /etc/which 2>/dev/null || true").unwrap().trim(), which, "mmos.index={index}");
        // Source, format, sizes, time, rate and workers.
        let console = vm.console.text();
        let line = console.lines().find(|line| line.contains("init: root initrd:/image: wim, "));
        let line = line.unwrap_or_else(|| panic!("the boot says nothing of its root: {console}"));
        assert!(line.contains(" unpacked to ") && line.contains(" MB/s, 2 workers)"), "{line}");
        assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
    }
}

#[test]
fn from_the_parts_of_a_split_wim_in_the_initramfs() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let mib = fs::metadata(image.root()).unwrap().len() as f64 / f64::from(1 << 20);
    run(&format!("wimlib-imagex split {} root.swm {:.2}", image.root().display(), mib / 2.5), work.path());
    let parts: Vec<String> = (1..)
        .map(|n| if n == 1 { "root.swm".into() } else { format!("root{n}.swm") })
        .take_while(|name| work.path().join(name).exists())
        .collect();
    assert!(parts.len() > 1, "{parts:?}");
    let machine = |parts: &[String]| {
        let initrd = work.path().join(format!("initrd-{}", parts.len()));
        let mut join = Command::new(builder());
        join.arg("join").arg(image.initramfs()).arg("--out").arg(&initrd).current_dir(work.path());
        for part in parts {
            join.args(["--add", &format!("{part}=/images/{part}")]);
        }
        command(&mut join).unwrap();
        Machine::new(image.kernel(), initrd).parameter("mmos.root=initrd:/images/root.swm")
    };
    boots(&machine(&parts), "wim");
    let last = parts.len();
    let wanted = format!("part {last} is looked for in /images/root{last}.swm");
    recovers(&machine(&parts[..last - 1]), &[&wanted, "there is no such file", "put all parts into one folder"]);
}

/// Any bzImage will do. Without modules, what init needs must be built in; so it is in this one.
#[test]
fn by_a_kernel_of_ones_own_without_modules() {
    let (image, work) = (image(), TempDir::new().unwrap());
    fs::copy(image.kernel(), work.path().join("bzImage")).unwrap();
    let definition = work.path().join("own-kernel.toml");
    let guest = workspace().join("tests/guest");
    fs::write(
        &definition,
        format!(
            "name = \"own\"\nversion = \"0\"\nbase = \"minimal\"\nkernel = \"./bzImage\"\npackages = [{guest:?}]\n"
        ),
    )
    .unwrap();
    let folder = work.path().join("out");
    vm::images::build(&definition, &folder).unwrap();
    let machine = Image { folder }.machine().unwrap();
    let mut vm = machine.boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    assert_eq!(vm.must("cat /proc/modules").unwrap().trim(), "");
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}

#[test]
fn from_a_raw_block_device() {
    let (image, work) = (image(), TempDir::new().unwrap());
    // A device is larger than what is on it.
    let disk = work.path().join("disk");
    fs::copy(image.root(), &disk).unwrap();
    File::options().append(true).open(&disk).unwrap().write_all(&vec![0; 1 << 20]).unwrap();
    boots(&image.machine_without_root().parameter("mmos.root=/dev/vda").drive(&disk), "wim");
}

#[test]
fn from_a_partition_and_the_storage_is_left_as_it_was() {
    const MIB: u64 = 1 << 20;
    let (image, work) = (image(), TempDir::new().unwrap());
    let folder = work.path().join("content");
    fs::create_dir_all(folder.join("images")).unwrap();
    fs::copy(image.root(), folder.join("images/root.wim")).unwrap();
    let size = fs::metadata(image.root()).unwrap().len() / MIB + 16;
    // A file system that was not unmounted: its journal wants to be replayed, and must not be.
    fs::write(work.path().join("disk.note"), "was open when the power went").unwrap();
    run(&format!("truncate -s {size}M ext4 && mkfs.ext4 -q -L factory -d content ext4"), work.path());
    run("debugfs -w -R 'feature needs_recovery' ext4 2>&1", work.path());
    // And a file that was deleted while it was open: mounting would clean it up, even read-only.
    run("debugfs -w -R 'write disk.note orphan' ext4 2>&1", work.path());
    run("debugfs -w -R 'unlink orphan' ext4 2>&1 && debugfs -w -R 'ssv last_orphan 13' ext4 2>&1", work.path());
    let (first, second) = (MIB, (size + 1) * MIB);
    run(
        &format!(
            "truncate -s {}M disk && sgdisk -n 1:1M:+{size}M -c 1:mmos -n 2:{}M:+{size}M -c 2:raw disk",
            2 * size + 4,
            size + 1
        ),
        work.path(),
    );
    let disk = work.path().join("disk");
    write_at(&disk, first, &work.path().join("ext4"));
    write_at(&disk, second, &image.root());
    let read = || {
        let mut bytes = Vec::new();
        File::open(&disk).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let before = read();
    let guid = Command::new("sgdisk").args(["-i", "2"]).arg(&disk).output().unwrap();
    let guid = String::from_utf8(guid.stdout).unwrap();
    let (_, guid) = guid.split_once("unique GUID: ").expect("sgdisk names the partition's GUID");
    let guid = guid.lines().next().unwrap().trim().to_lowercase();

    for root in ["PARTLABEL=mmos:/images/root.wim", "LABEL=factory:/images/root.wim", &format!("PARTUUID={guid}")] {
        let mut machine = image.machine_without_root().parameter(&format!("mmos.root={root}"));
        machine.drives.push(Drive { path: disk.clone(), writable: true });
        boots(&machine, "wim");
        assert!(read() == before, "mmos.root={root} wrote to the storage");
    }

    // What is there is said where something else was asked for.
    let machine = image.machine_without_root().parameter("mmos.root=PARTLABEL=retail").parameter("mmos.rootwait=1");
    recovers(&machine.drive(&disk), &["PARTLABEL=retail", "mmos", "raw"]);
    let machine = image.machine_without_root().parameter("mmos.root=PARTLABEL=mmos:/images/other.wim");
    recovers(&machine.drive(&disk), &["/images/other.wim"]);
}

#[test]
fn from_a_fat_partition_by_modules_that_are_loaded_when_they_are_needed() {
    let image = Case::new("modules").load("loop max_loop=3").boot("onfail = \"poweroff\"").build().unwrap();
    let work = TempDir::new().unwrap();
    // The usual boot partition. Its file system is a module, and so is the disk's driver, and what they depend on.
    let size = fs::metadata(image.root()).unwrap().len() / (1 << 20) + 40;
    run(&format!("truncate -s {size}M disk && mkfs.vfat -n FACTORY disk > vfat.log"), work.path());
    run(&format!("mcopy -i disk {} ::/ROOT.WIM", image.root().display()), work.path());
    let disk = work.path().join("disk");
    let machine = image.machine_without_root().parameter("mmos.root=LABEL=FACTORY:/root.wim").drive(&disk);
    let mut vm = machine.boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let modules = vm.must("cut -d' ' -f1 /proc/modules").unwrap();
    for name in ["loop", "virtio_blk", "vfat", "fat"] {
        assert!(modules.lines().any(|line| line == name), "{name} is not loaded: {modules}");
    }
    assert_eq!(vm.must("cat /sys/module/loop/parameters/max_loop").unwrap().trim(), "3");
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}

#[test]
fn a_root_that_cannot_be_used_leads_to_recovery_with_the_reason() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let with = |name: &str, content: &[u8]| {
        let path = work.path().join(name);
        fs::write(&path, content).unwrap();
        image.machine_with(&path, "/root.wim", work.path()).unwrap()
    };
    let whole = fs::read(image.root()).unwrap();

    recovers(&image.machine_without_root(), &["initrd:/root.wim: ", "no file /root.wim", "Build the image again"]);
    recovers(&with("cut", &whole[..whole.len() / 2]), &["cut short", &(whole.len() / 2).to_string(), "copy it again"]);
    recovers(&with("text", &b"This is not an image. ".repeat(100)), &["no root image", "This.is"]);
    recovers(&image.machine().unwrap().parameter("mmos.index=7"), &["7", "index"]);

    // One flipped bit in the middle of a file's data.
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 0x10;
    recovers(&with("flipped", &flipped), &["damaged", "copy it again"]);

    // A tree without an init.
    let tree = work.path().join("tree");
    fs::create_dir_all(tree.join("usr/bin")).unwrap();
    fs::write(tree.join("usr/bin/something"), "else").unwrap();
    let no_init = work.path().join("no-init.wim");
    command(Command::new(builder()).arg("capture").arg(&tree).arg(&no_init)).unwrap();
    let machine = image.machine_with(&no_init, "/root.wim", work.path()).unwrap();
    recovers(&machine, &["/sbin/init"]);
}

#[test]
fn a_root_larger_than_the_memory_is_refused_before_it_is_unpacked() {
    let (image, work) = (image(), TempDir::new().unwrap());
    let tree = work.path().join("tree");
    fs::create_dir(&tree).unwrap();
    File::create(tree.join("large")).unwrap().set_len(600 << 20).unwrap();
    let large = work.path().join("large.wim");
    command(Command::new(builder()).arg("capture").arg(&tree).arg(&large)).unwrap();
    let machine = image.machine_without_root().parameter("mmos.root=/dev/vda").drive(&large).memory(256);
    // What it needs, with what the kernel keeps beside the pages; what there is; what to do. Nothing was unpacked: that would be said.
    let console = recovers(&machine, &["it needs 6", "(601 MiB unpacked", "MiB are available", "more RAM"]);
    assert!(!console.contains("unpacked to"), "{console}");
}

#[test]
fn recovery_does_what_the_parameter_says() {
    let image = Case::new("recovery").build().unwrap();
    let mut vm = image.machine_without_root().boot().unwrap();
    vm.wait_for("cannot boot").unwrap();
    assert_eq!(vm.wait_for_end().unwrap(), Ended::Reboot, "the default");

    // A command line cannot open a shell that the image does not allow …
    let mut vm = image.machine_without_root().parameter("mmos.onfail=shell").boot().unwrap();
    vm.wait_for("cannot boot").unwrap();
    assert_eq!(vm.wait_for_end().unwrap(), Ended::Reboot);
    assert!(vm.console.text().contains("allow_shell"), "{}", vm.console.text());

    // … and may, where it does.
    let image = Case::new("recovery-shell").boot("allow_shell = true").build().unwrap();
    let mut vm = image.machine_without_root().parameter("mmos.onfail=shell").boot().unwrap();
    vm.wait_for("cannot boot").unwrap();
    vm.wait_for("# ").unwrap();
    vm.console.send("echo $((6 * 7))\n").unwrap();
    vm.wait_for("42").unwrap();
    vm.console.send("exit\n").unwrap();
    assert_eq!(vm.wait_for_end().unwrap(), Ended::Reboot);
}

#[test]
fn an_image_is_held_to_its_platform_serial_and_hash() {
    let platform = |mut machine: Machine, product: &str, serial: &str| {
        let smbios = format!("type=1,manufacturer=Acme,family=Gauge,product={product},version=2,serial={serial}");
        machine.arguments.extend(["-smbios".into(), smbios]);
        machine
    };
    let bound = Case::new("bound")
        .boot("onfail = \"poweroff\"\n[boot.verify]\nplatform = [\"Acme.Gauge.G1\"]\nserial = [\"0042\"]")
        .build()
        .unwrap();
    boots(&platform(bound.machine().unwrap(), "G1", "0042"), "wim");
    recovers(&platform(bound.machine().unwrap(), "G2", "0042"), &["Acme.Gauge.G1", "Acme.Gauge.G2"]);
    recovers(&platform(bound.machine().unwrap(), "G1", "0043"), &["0042", "0043"]);

    // Held to one root: on a device, which is longer than the image; and no other root will do.
    let pinned = Case::new("pinned").setting("pin_root = true").boot("onfail = \"poweroff\"").build().unwrap();
    let work = TempDir::new().unwrap();
    let disk = work.path().join("disk");
    fs::copy(pinned.root(), &disk).unwrap();
    File::options().append(true).open(&disk).unwrap().write_all(&vec![7; 1 << 20]).unwrap();
    boots(&pinned.machine_without_root().parameter("mmos.root=/dev/vda").drive(&disk), "wim");
    let other = pinned.machine_with(&bound.root(), "/root.wim", work.path()).unwrap();
    recovers(&other, &["SHA-256"]);
}
