//! Whole builds of tiny images: what is in them, whose it is, and what is refused.

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
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

use sha2::{Digest, Sha256};
use support::{Bench, cpio, done, elf, initramfs, made};

#[test]
fn our_init_is_what_stage_1_executes_in_a_tree_with_a_real_sbin() {
    let Some(bench) = Bench::new() else { return };
    bench.write("tree/bin/busybox", "busybox");
    fs::create_dir(bench.path("tree/sbin")).unwrap();
    symlink("../bin/busybox", bench.path("tree/sbin/init")).unwrap();
    let said = bench.build();
    assert!(said.contains("note: /sbin/init of the base, a link to ../bin/busybox, is replaced"), "{said}");
    let root = bench.unpack();
    assert!(fs::symlink_metadata(root.join("sbin")).unwrap().is_dir());
    assert_eq!(fs::read(root.join("sbin/init")).unwrap(), elf("init", None));
    assert_eq!(fs::read(root.join("bin/busybox")).unwrap(), b"busybox");
}

#[test]
fn our_init_goes_where_a_merged_sbin_leads() {
    let Some(bench) = Bench::new() else { return };
    let said = bench.build();
    assert!(!said.contains("note"), "{said}");
    let files = bench.files();
    assert_eq!(files["/sbin"]["kind"], "symlink");
    assert_eq!(files["/usr/sbin/init"]["mode"], "0755");
}

#[test]
fn a_package_with_another_init_is_told_of() {
    let Some(bench) = Bench::new() else { return };
    bench.program("own/sbin/init", "#!/bin/sh\n");
    bench.define("base = 'tree'\ntree = 'tree'\npackages = ['own']");
    assert!(bench.build().contains("note: a package makes /sbin/init another file"));
}

#[test]
fn a_tree_comes_with_its_nodes_and_none_of_them_is_opened() {
    let Some(bench) = Bench::new() else { return };
    nix::unistd::mkfifo(&bench.path("tree/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
    done(Command::new("mknod").arg(bench.path("tree/null")).args(["c", "1", "3"]));
    bench.build();
    let root = bench.unpack();
    assert!(fs::metadata(root.join("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(root.join("null")).unwrap().rdev(), nix::sys::stat::makedev(1, 3));
    let inputs = bench.manifest()["outputs"]["root.wim"]["inputs"].to_string();
    assert!(inputs.contains("tree /fifo (fifo, 0640 0:0)") && inputs.contains("tree /null (char 1:3, "), "{inputs}");
    assert!(!made(&bench.build(), "root.wim"));
}

#[test]
fn folders_of_a_tree_keep_their_modes_and_links_lead_nowhere_on_this_host() {
    let Some(bench) = Bench::new() else { return };
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o711)).unwrap();
    fs::create_dir_all(bench.path("tree/var")).unwrap();
    symlink(&outside, bench.path("tree/var/tmp")).unwrap();
    fs::create_dir(bench.path("tree/root")).unwrap();
    fs::set_permissions(bench.path("tree/root"), fs::Permissions::from_mode(0o750)).unwrap();
    bench.build();
    assert_eq!(bench.files()["/root"]["mode"], "0750");
    assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn a_deb_keeps_modes_and_owners_inside_the_links_of_the_root() {
    let Some(bench) = Bench::new() else { return };
    bench.program("deb/bin/su", "su");
    bench.write("deb/var/spool/tool/job", "job");
    // The owner first: changing it clears the setuid bit.
    for (name, owner, mode) in [
        ("deb", 0, 0o755),
        ("deb/bin", 0, 0o755),
        ("deb/bin/su", 42, 0o4754),
        ("deb/var/spool/tool", 4321, 0o1730),
        ("deb/var/spool/tool/job", 4321, 0o600),
    ] {
        chown(bench.path(name), Some(owner), Some(owner)).unwrap();
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    bench.deb("deb", "tool", "tool.deb");
    // What a base says of a folder stays.
    fs::create_dir_all(bench.path("tree/usr/bin")).unwrap();
    fs::set_permissions(bench.path("tree/usr/bin"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("usr/bin", bench.path("tree/bin")).unwrap();
    bench.define("base = 'tree'\ntree = 'tree'\npackages = ['tool.deb']");
    bench.build();
    let files = bench.files();
    for (path, owner, mode) in [
        ("/usr/bin", 0, "0711"),
        ("/usr/bin/su", 42, "4754"),
        ("/var/spool/tool", 4321, "1730"),
        ("/var/spool/tool/job", 4321, "0600"),
    ] {
        let file = &files[path];
        assert_eq!((file["uid"].as_u64(), file["gid"].as_u64()), (Some(owner), Some(owner)), "{path}");
        assert_eq!(file["mode"], mode, "{path}");
    }
    assert_eq!(files["/bin"]["kind"], "symlink");
}

#[test]
fn nothing_of_this_host_comes_with_a_debian_root() {
    let Some(bench) = Bench::new() else { return };
    bench.cache_busybox();
    for name in [
        "resolv.conf",
        "hostname",
        "apt/sources.list",
        "apt/sources.list.d/x.list",
        "apt/auth.conf.d/secret",
        "apt/apt.conf.d/01x",
        "debian_version",
    ] {
        bench.write(&format!("debian/etc/{name}"), "of the base");
    }
    bench.write("debian/var/lib/apt/lists/host", "");
    // As mmdebstrap would have left it in the cache.
    let key: String = Sha256::digest("bookworm dash").iter().map(|byte| format!("{byte:02x}")).collect();
    let root = format!("cache/mmos/roots/bookworm-{}", key.get(..16).unwrap());
    bench.write(&format!("{root}.sha256"), format!("{key}  dash_1_amd64.deb\n"));
    done(
        Command::new("tar")
            .arg("-cf")
            .arg(bench.path(&format!("{root}.tar")))
            .arg("-C")
            .arg(bench.path("debian"))
            .arg("."),
    );
    bench.define("base = 'debian'\n[debian]\npackages = ['dash']");
    bench.build();
    let root = bench.unpack();
    for absent in
        ["etc/resolv.conf", "etc/apt/sources.list", "etc/apt/sources.list.d", "etc/apt/auth.conf.d", "var/lib/apt"]
    {
        assert!(fs::symlink_metadata(root.join(absent)).is_err(), "{absent}");
    }
    // The skeleton has a name for the device; what packages brought is kept.
    assert_ne!(fs::read_to_string(root.join("etc/hostname")).unwrap(), "of the base");
    assert!(root.join("etc/debian_version").is_file() && root.join("etc/apt/apt.conf.d/01x").is_file());
    assert_eq!(fs::read_link(root.join("usr/bin/ls")).unwrap().to_str(), Some("busybox"));
}

#[test]
fn modules_are_decompressed_or_refused() {
    let Some(bench) = Bench::new() else { return };
    bench.write("modules/1.0/modules.dep", "kernel/a.ko.gz: kernel/b.ko\nkernel/b.ko:\nkernel/c.ko.lz4:\n");
    bench.write("modules/1.0/kernel/b.ko", "plain b");
    bench.write("modules/1.0/kernel/c.ko.lz4", "?");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"plain a").unwrap();
    bench.write("modules/1.0/kernel/a.ko.gz", gzip.finish().unwrap());
    let define = |name: &str| {
        bench.define(&format!(
            "base = 'tree'\ntree = 'tree'\nkernel = './bzImage'\nkernel_modules = 'modules/1.0'\n[modules]\nload = ['{name}']"
        ));
    };
    define("a");
    bench.build();
    let entries = initramfs(&bench.path("out"));
    for (name, content) in [("a.ko", "plain a"), ("b.ko", "plain b")] {
        let path = format!("lib/modules/1.0/kernel/{name}");
        let entry = entries.iter().find(|entry| entry.0 == path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(entry.2, content.as_bytes());
    }
    define("c");
    assert!(bench.refusal().contains("c.ko.lz4 is no .ko file, nor one compressed as"));
}

#[test]
fn a_binary_of_ours_that_needs_a_dynamic_linker_is_refused() {
    let Some(bench) = Bench::new() else { return };
    for name in ["init", "svcmgr", "mmosctl"] {
        bench.program(&format!("bin/{name}"), elf(name, Some("/lib64/ld.so")));
        let said = bench.refusal();
        assert!(said.contains(&format!("bin/{name} is linked dynamically: it needs /lib64/ld.so")), "{said}");
        assert!(said.contains("cargo xtask build"), "{said}");
        bench.program(&format!("bin/{name}"), elf(name, None));
    }
}

#[test]
fn a_program_without_its_dynamic_linker_is_told_of() {
    let Some(bench) = Bench::new() else { return };
    bench.program("bin/tool", elf("tool", Some("/lib/ld.so")));
    bench.write("listed/package.toml", "name = 'listed'\n[files]\n'/usr/bin/tool' = '@bin@/tool'\n");
    bench.define("base = 'tree'\ntree = 'tree'\npackages = ['listed']");
    let said = bench.build();
    assert!(said.contains("note: /usr/bin/tool cannot start: the root has no /lib/ld.so"), "{said}");
    bench.write("tree/usr/lib/ld-1.so", "");
    symlink("/lib/ld-1.so", bench.path("tree/usr/lib/ld.so")).unwrap();
    let said = bench.build();
    assert!(!said.contains("note"), "{said}");
}

#[test]
fn a_missing_device_binary_is_named_with_the_command_that_builds_it() {
    let Some(bench) = Bench::new() else { return };
    bench.write("listed/package.toml", "name = 'listed'\n[files]\n'/usr/bin/tool' = '@bin@/tool'\n");
    bench.define("base = 'tree'\ntree = 'tree'\npackages = ['listed']");
    let said = bench.refusal();
    assert!(said.contains("names @bin@/tool, but there is no bin/tool"), "{said}");
    assert!(said.contains("cargo xtask build") && said.contains("cargo build --profile device"), "{said}");
    fs::remove_file(bench.path("bin/svcmgr")).unwrap();
    assert!(bench.refusal().contains("there is no bin/svcmgr: build the device binaries first (cargo xtask build)"));
}

#[test]
fn a_root_that_is_mounted_is_made_alike_each_time_and_takes_the_place_of_the_wim() {
    let Some(bench) = Bench::new() else { return };
    bench.program("tree/usr/bin/tool", "x".repeat(9000));
    chown(bench.path("tree/usr/bin/tool"), Some(42), Some(7)).unwrap();
    bench.build();
    for (format, tool) in [("squashfs", "mksquashfs"), ("erofs", "mkfs.erofs")] {
        if Command::new(tool).output().is_err() {
            skip::because(format_args!("{tool} is not installed"));
            return;
        }
        let name = format!("root.{format}");
        bench.define(&format!("base = 'tree'\ntree = 'tree'\npin_root = true\nformat = '{format}'"));
        assert!(made(&bench.build(), &name));
        let root = bench.path("out").join(&name);
        let first = fs::read(&root).unwrap();
        let manifest = bench.manifest();
        let outputs: Vec<&String> = manifest["outputs"].as_object().unwrap().keys().collect();
        assert_eq!(outputs, ["initramfs.cpio.zst", &name, "vmlinuz"]);
        assert!(!bench.path("out/root.wim").exists(), "what a build before has made");
        // init looks for it there, and takes no other.
        let files = initramfs(&bench.path("out"));
        let (_, _, boot) = files.iter().find(|(name, ..)| name == "etc/mmos/boot.toml").unwrap();
        let boot = String::from_utf8(boot.clone()).unwrap();
        assert!(boot.contains(&format!("root = \"initrd:/{name}\"")), "{boot}");
        assert!(boot.contains(manifest["outputs"][&name]["sha256"].as_str().unwrap()), "{boot}");

        assert!(!made(&bench.build(), &name));
        fs::remove_file(&root).unwrap();
        assert!(made(&bench.build(), &name));
        assert!(fs::read(&root).unwrap() == first, "{name} differs from build to build");

        let info = done(&mut bench.command(&["info", &format!("out/{name}"), "--json"]));
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!((info["format"].as_str(), info["bytes"].as_u64()), (Some(format), Some(first.len() as u64)));
        let output = bench.command(&["apply", &format!("out/{name}"), "applied"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("which the device mounts as it is"), "{said}");
        // By the command that the message names.
        let unpacked = bench.path("unpacked");
        let _ = fs::remove_dir_all(&unpacked);
        let words = match format {
            "squashfs" => vec!["unsquashfs".into(), "-quiet".into(), "-no-progress".into(), "-dest".into()],
            _ => vec!["fsck.erofs".into(), format!("--extract={}", unpacked.display())],
        };
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args((format == "squashfs").then_some(&unpacked)).arg(&root);
        done(&mut command);
        let tool = fs::metadata(unpacked.join("usr/bin/tool")).unwrap();
        assert_eq!((tool.len(), tool.uid(), tool.gid(), tool.mode() & 0o7777), (9000, 42, 7, 0o755));
        assert_eq!(tool.mtime(), fs::metadata(bench.path("tree/usr/bin/tool")).unwrap().mtime());
        assert_eq!(fs::read(unpacked.join("usr/sbin/init")).unwrap(), elf("init", None));
    }
    // And back.
    bench.define("base = 'tree'\ntree = 'tree'");
    assert!(made(&bench.build(), "root.wim"));
    assert!(!bench.path("out/root.erofs").exists());
}

#[test]
fn what_is_made_under_sudo_belongs_to_the_caller() {
    let Some(bench) = Bench::new() else { return };
    let kernel = "6.12.1+deb12-amd64";
    bench.write(&format!("kernel/boot/vmlinuz-{kernel}"), "kernel");
    bench.write(&format!("kernel/lib/modules/{kernel}/modules.order"), "");
    let deb = format!("cache/mmos/debs/linux-image-{kernel}_1_all.deb");
    bench.deb("kernel", "linux-image", &deb);
    chown(bench.path("cache"), Some(1234), Some(1235)).unwrap();
    bench.define("base = 'tree'\ntree = 'tree'\nkernel = 'debian'");
    // Folders on the way to the output, too.
    let mut command = bench.building_in("images/x");
    command.env("SUDO_UID", "1234").env("SUDO_GID", "1235");
    done(&mut command);
    let unpacked = format!("cache/mmos/kernels/linux-image-{kernel}_1_all");
    let module_folder = format!("{unpacked}/lib/modules/{kernel}");
    for name in [
        "images",
        "images/x",
        "images/x/.lock",
        "images/x/vmlinuz",
        "images/x/root.wim",
        "images/x/initramfs.cpio.zst",
        "images/x/manifest.json",
        "cache/mmos/kernels",
        &unpacked,
        &format!("{module_folder}/modules.dep"),
    ] {
        let meta = fs::metadata(bench.path(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 1235), "{name}");
    }
}

#[test]
fn under_sudo_a_cache_of_root_stays_roots() {
    let Some(bench) = Bench::new() else { return };
    bench.cache_busybox();
    bench.define("base = 'minimal'");
    done(bench.building().env("SUDO_UID", "1234").env("SUDO_GID", "1235"));
    assert_eq!(fs::metadata(bench.path("cache/mmos/debs")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(bench.path("out/root.wim")).unwrap().uid(), 1234);
}

#[test]
fn joined_files_come_with_their_folders_once() {
    let work = tempfile::tempdir().unwrap();
    for name in ["root.wim", "note", "initramfs"] {
        fs::write(work.path().join(name), if name == "initramfs" { "" } else { name }).unwrap();
    }
    let join = |additions: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmos-image"));
        command.args(["join", "initramfs", "--out", "initrd.img"]).current_dir(work.path());
        command.args(additions.iter().flat_map(|pair| ["--add", *pair]));
        command
    };
    done(&mut join(&["root.wim=/images/factory/root.wim", "note=/images/note", "note=/note"]));
    let entries = cpio(&fs::read(work.path().join("initrd.img")).unwrap());
    let told: Vec<(&str, u32, &str)> =
        entries.iter().map(|(name, mode, data)| (name.as_str(), *mode, std::str::from_utf8(data).unwrap())).collect();
    assert_eq!(
        told,
        [
            ("images", 0o040_755, ""),
            ("images/factory", 0o040_755, ""),
            ("images/factory/root.wim", 0o100_644, "root.wim"),
            ("images/note", 0o100_644, "note"),
            ("note", 0o100_644, "note"),
        ]
    );
    for pair in ["note=/images/", "note=/../note", "note=note", ".=/folder"] {
        let output = join(&[pair]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{pair}: {output:?}");
    }
}
