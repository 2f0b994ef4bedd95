//! A bench for whole builds: tiny definitions, dummy device binaries, a cache and an output folder of its own, so that
//! a build takes a second and nothing is fetched.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// More than any build here takes, and less than a stuck one.
const DEADLINE: &str = "120";

pub struct Bench {
    work: tempfile::TempDir,
}

impl Bench {
    /// `None`, with a word about it, where this user cannot build images.
    pub fn new() -> Option<Bench> {
        if !nix::unistd::geteuid().is_root() {
            skip::because("only root can build a root image");
            return None;
        }
        let bench = Bench { work: tempfile::tempdir().unwrap() };
        bench.write("bzImage", "kernel");
        for name in ["init", "svcmgr", "mmosctl"] {
            bench.program(&format!("bin/{name}"), elf(name, None));
        }
        bench.define("base = 'tree'\ntree = 'tree'");
        bench.write("tree/etc/motd", "hello\n");
        Some(bench)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn program(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write(name, content);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Writes the definition: what all have, and `lines`.
    pub fn define(&self, lines: &str) {
        let compression = if lines.contains("format =") { "" } else { "compression = 'none'\n" };
        let kernel = if lines.contains("kernel =") { "" } else { "kernel = './bzImage'\n" };
        self.write("image.toml", format!("name = 'x'\nversion = '1'\n{compression}{kernel}{lines}\n"));
    }

    /// Makes a package of `folder`, whose files keep their owners.
    pub fn deb(&self, folder: &str, name: &str, to: &str) {
        let control =
            format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n");
        self.write(&format!("{folder}/DEBIAN/control"), control);
        fs::create_dir_all(self.path(to).parent().unwrap()).unwrap();
        done(Command::new("dpkg-deb").arg("--build").arg(self.path(folder)).arg(self.path(to)));
    }

    /// Puts a busybox into the cache that offers only `ls`.
    pub fn cache_busybox(&self) {
        self.program("busybox/bin/busybox", "#!/bin/sh\necho usr/bin/ls\n");
        self.deb("busybox", "busybox-static", "cache/mmos/debs/busybox-static_1_all.deb");
    }

    /// `mmos-image` with a deadline and an environment of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg(DEADLINE).arg(env!("CARGO_BIN_EXE_mmos-image")).args(arguments).current_dir(self.work.path());
        command.env("XDG_CACHE_HOME", self.path("cache"));
        for name in ["SUDO_UID", "SUDO_GID", "SOURCE_DATE_EPOCH"] {
            command.env_remove(name);
        }
        command
    }

    pub fn building(&self) -> Command {
        self.building_in("out")
    }

    pub fn building_in(&self, out: &str) -> Command {
        let rootfs = concat!(env!("CARGO_MANIFEST_DIR"), "/../rootfs");
        self.command(&["build", "image.toml", "--out", out, "--bin-dir", "bin", "--rootfs", rootfs])
    }

    /// Builds, and gives what was said.
    pub fn build(&self) -> String {
        done(&mut self.building())
    }

    /// Builds what cannot be built, and gives the reason.
    pub fn refusal(&self) -> String {
        let output = self.building().output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn manifest(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("out/manifest.json")).unwrap()).unwrap()
    }

    /// Every file of the root that was built, by path, as `list --json` tells of it.
    pub fn files(&self) -> BTreeMap<String, Value> {
        let list = done(&mut self.command(&["list", "out/root.wim", "--json"]));
        let entries = list.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        entries.map(|entry| (entry["path"].as_str().unwrap().to_owned(), entry)).collect()
    }

    /// Unpacks the root that was built.
    pub fn unpack(&self) -> PathBuf {
        let root = self.path("unpacked");
        let _ = fs::remove_dir_all(&root);
        done(&mut self.command(&["apply", "out/root.wim", "unpacked"]));
        root
    }
}

/// Runs what must succeed, and gives what it printed.
pub fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Whether a build made `part` (or took it as it was).
pub fn made(said: &str, part: &str) -> bool {
    let line = said.lines().find(|line| line.starts_with(part) && !line.contains("note:"));
    !line.unwrap_or_else(|| panic!("nothing about {part}: {said}")).contains("up to date")
}

/// A program that nobody runs: a 64-bit ELF header, which asks for `interpreter` if there is one. See elf(5).
pub fn elf(content: &str, interpreter: Option<&str>) -> Vec<u8> {
    let mut file = vec![0; 128];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    if let Some(interpreter) = interpreter {
        file[0x20] = 64; // program headers begin there,
        file[0x36] = 56; // are of this size,
        file[0x38] = 1; // and so many;
        file[64] = 3; // PT_INTERP
        file[64 + 0x08] = 128;
        file[64 + 0x20] = u8::try_from(interpreter.len() + 1).unwrap();
        file.extend(interpreter.as_bytes());
        file.push(0);
    }
    file.extend(content.as_bytes());
    file
}

/// The entries of a cpio archive of the format "newc": name, mode, content.
pub fn cpio(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut entries = Vec::new();
    loop {
        let field = |at: usize| u32::from_str_radix(std::str::from_utf8(&archive[at..at + 8]).unwrap(), 16).unwrap();
        assert_eq!(&archive[..6], b"070701");
        let (mode, size, name_size) = (field(14), field(54) as usize, field(94) as usize);
        let name = String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap();
        if name == "TRAILER!!!" {
            return entries;
        }
        let begin = (110 + name_size).next_multiple_of(4);
        entries.push((name, mode, archive[begin..begin + size].to_vec()));
        archive = &archive[(begin + size).next_multiple_of(4)..];
    }
}

/// The initramfs that was built, as [`cpio`].
pub fn initramfs(folder: &Path) -> Vec<(String, u32, Vec<u8>)> {
    cpio(&zstd::decode_all(&fs::read(folder.join("initramfs.cpio.zst")).unwrap()[..]).unwrap())
}
