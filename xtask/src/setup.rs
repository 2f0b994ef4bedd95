//! What has to be on the machine: Debian packages, installed when missing, as root or with sudo.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use vm::root;

use crate::progress::step;

/// What the packages are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Building binaries and images.
    Build,
    /// That, and booting them.
    Run,
    /// That, and all that the tests compare with.
    Test,
    /// Building, and all that ours is measured beside.
    Bench,
    /// Booting, and the inits that ours is measured beside.
    Boot,
    /// Building fuzzers.
    Fuzz,
    /// Counting instructions.
    Instructions,
}

/// Package, and what needs it.
const BUILD: [(&str, &str); 9] = [
    ("gcc", "links Rust, and compiles wimlib's and zstd's codecs"),
    ("libc6-dev", "static glibc for the device binaries"),
    ("make", "wimlib's build"),
    ("libclang-dev", "the bindings to wimlib are generated from its header"),
    ("uidmap", "files of root in an image, made by a user without sudo"),
    ("kmod", "depmod, for the modules of an initramfs"),
    ("mmdebstrap", "Debian roots"),
    ("xz-utils", "unpacking packages"),
    ("zstd", "unpacking packages"),
];
const RUN: [(&str, &str); 1] = [("qemu-system-x86", "the virtual machine")];
const TEST: [(&str, &str); 15] = [
    ("mtools", "files on FAT test disks"),
    ("g++", "the C header is compiled as C++, too"),
    ("memtester", "what the memory test runs"),
    ("wimtools", "wimlib-imagex, the reference for WIM images"),
    ("cpio", "the reference for cpio archives"),
    ("attr", "extended attributes in test trees"),
    ("busybox-static", "small processes for tests on the host"),
    ("dbus-daemon", "the bus that services of Type=dbus are tested with"),
    ("e2fsprogs", "file systems on test disks"),
    ("dosfstools", "file systems on test disks"),
    ("gdisk", "partitions on test disks"),
    ("squashfs-tools", "mksquashfs, for roots that are mounted"),
    ("erofs-utils", "mkfs.erofs, likewise"),
    ("strace", "makes system calls of the supervisor fail"),
    ("python3-venv", "a Varlink client in another language, from PyPI"),
];
const BENCH: [(&str, &str); 3] = [
    ("wimtools", "wimlib-imagex of the distribution"),
    ("squashfs-tools", "mksquashfs and unsquashfs"),
    ("util-linux", "chrt, which runs what is measured ahead of other work"),
];
const BOOT: [(&str, &str); 5] = [
    ("busybox-static", "the services that are measured, and an init"),
    ("cpio", "an initramfs that is the root itself"),
    ("runit", "an init to compare with"),
    ("s6", "an init to compare with"),
    ("systemd", "an init to compare with"),
];
const INSTRUCTIONS: [(&str, &str); 2] = [
    ("valgrind", "counts instructions"),
    ("libc6-dbg", "names of libc's functions, without which valgrind does not start"),
];
const FUZZ: [(&str, &str); 3] = [
    ("clang", "compiles the codecs for libFuzzer and AddressSanitizer"),
    ("libclang-rt-dev", "what wimlib's configure links its trials with"),
    ("llvm", "llvm-symbolizer, which names functions in a report"),
];

/// Installs what is missing.
///
/// # Errors
/// Without root and without sudo, with the one line that has to be run.
pub fn install(purpose: Purpose) -> anyhow::Result<()> {
    let mut wanted: Vec<&str> = BUILD.iter().map(|(name, _)| *name).collect();
    if matches!(purpose, Purpose::Run | Purpose::Test | Purpose::Boot) {
        wanted.extend(RUN.map(|(name, _)| name));
    }
    if purpose == Purpose::Test {
        wanted.extend(TEST.map(|(name, _)| name));
    }
    if purpose == Purpose::Bench {
        wanted.extend(BENCH.map(|(name, _)| name));
    }
    if purpose == Purpose::Boot {
        wanted.extend(BOOT.map(|(name, _)| name));
    }
    if purpose == Purpose::Instructions {
        wanted.extend(INSTRUCTIONS.map(|(name, _)| name));
    }
    if purpose == Purpose::Fuzz {
        wanted.extend(FUZZ.map(|(name, _)| name));
    }
    let missing = missing(&wanted)?;
    // Kernels and roots are fetched by apt, too, which needs its lists; unless they are in the cache already.
    if missing.is_empty() && (has_package_lists() || has_cached_packages()) {
        return Ok(());
    }
    let mut line = String::from("apt-get update");
    if !missing.is_empty() {
        line = format!("{line} && apt-get install --yes --no-install-recommends {}", missing.join(" "));
    }
    // A namespace is no help here: the packages are the host's. The question comes now, not under a spinner.
    let prefix = match root::is_root() {
        true => "",
        false if root::ask_sudo() => "sudo --non-interactive ",
        false => bail!("packages or their lists are missing, and only root can install them; run as root:\n  {line}"),
    };
    let apt = |arguments: &str| {
        let line = format!("{prefix}env DEBIAN_FRONTEND=noninteractive apt-get {arguments}");
        quiet(&line).with_context(|| format!("cannot install packages; run as root:\n  {line}"))
    };
    step("looking for packages", || apt("-qq update"))?;
    if !missing.is_empty() {
        let names = missing.join(" ");
        step(&format!("installing {names}"), || apt(&format!("-qq install --yes --no-install-recommends {names}")))?;
    }
    Ok(())
}

/// Runs a command line, which may ask for a password on the terminal; what it prints is shown only where it fails.
fn quiet(line: &str) -> anyhow::Result<()> {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{line:?} ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Those of `wanted` that dpkg does not have installed.
fn missing<'a>(wanted: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .output()
        .context("cannot run dpkg-query: this set-up knows Debian and its derivatives only")?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_installed = |name: &str| listed.lines().any(|line| line == format!("{name} installed"));
    Ok(wanted.iter().copied().filter(|name| !is_installed(name)).collect())
}

/// Whether `apt-get download` can find anything.
fn has_package_lists() -> bool {
    let lists = std::fs::read_dir("/var/lib/apt/lists")
        .map(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")));
    lists.unwrap_or(false)
}

/// Where packages, kernels and roots are kept, as `CONTRIBUTING.md` describes it.
///
/// # Errors
/// Where neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set: where is the cache to be?")?.join("mmos"))
}

/// Whether `mmos-image` has fetched what it needs before.
fn has_cached_packages() -> bool {
    cache().is_ok_and(|cache| std::fs::read_dir(cache.join("debs")).is_ok_and(|mut debs| debs.next().is_some()))
}
