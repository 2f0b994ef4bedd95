//! What the kernel of the boot before said last, where the machine keeps that for it (ramoops, EFI variables): the
//! files of a pstore are copied to RAM, as crashes, and stay where they are. RAM does not outlive the next boot, and
//! removing the one copy that does is for people to decide: `rm /sys/fs/pstore/*`.
//! See `Documentation/admin-guide/ramoops.rst`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use rustix::mount::MountFlags;

use super::{Crash, Folder, Kind};

/// Records that are copied, the newest first.
const RECORDS: usize = 32;
/// No more is read of one, in bytes.
const RECORD: u64 = 256 * 1024;
/// Lines that say why, most telling first.
const REASONS: [&str; 4] = ["Kernel panic", "BUG:", "Oops", "watchdog:"];

/// Mounts the pstore on `folder`, unless it is mounted, or this kernel has none.
///
/// # Errors
/// When the kernel does not mount it.
pub fn mount(folder: &Path) -> io::Result<()> {
    /// `PSTOREFS_MAGIC`, linux/magic.h.
    const MAGIC: i64 = 0x6165_676C;
    match rustix::fs::statfs(folder) {
        Ok(found) if found.f_type == MAGIC => Ok(()),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            Ok(rustix::mount::mount("pstore", folder, "pstore", flags, c"")?)
        }
    }
}

/// Copies what is in `pstore`; what was copied already is left. How many were.
pub fn import(pstore: &Path, folder: &Folder) -> usize {
    let mut records: Vec<(u64, String)> = Vec::new();
    for entry in fs::read_dir(pstore).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let wall = modified.and_then(|time| u64::try_from(time.as_micros()).ok()).unwrap_or(0);
        if metadata.is_file() && !folder.has(&id(&name)) {
            records.push((wall, name));
        }
    }
    records.sort();
    let kept = records.iter().rev().take(RECORDS).map(|(wall, name)| copy(&pstore.join(name), name, *wall, folder));
    let mut count: usize = 0;
    for outcome in kept {
        match outcome {
            Ok(crash) => {
                count = count.saturating_add(1);
                log::warn!("the boot before left {}: {}", crash.id, crash.reason);
            }
            Err(error) => log::error!("a record of {} cannot be kept: {error}", pstore.display()),
        }
    }
    count
}

fn id(name: &str) -> String {
    format!("kernel-{name}")
}

fn copy(path: &Path, name: &str, wall: u64, folder: &Folder) -> io::Result<Crash> {
    let mut text = Vec::new();
    File::open(path)?.take(RECORD).read_to_end(&mut text)?;
    let crash = Crash {
        id: id(name),
        kind: Kind::Kernel,
        time: None,
        wall,
        unit: None,
        pid: None,
        uid: None,
        signal: None,
        command: String::new(),
        program: String::new(),
        arguments: Vec::new(),
        reason: reason(&String::from_utf8_lossy(&text)),
        bytes: 0,
        kept: 0,
        cut: false,
    };
    folder.keep(crash, &mut text.as_slice())
}

/// The line that says why; else the last one, since that is how far the kernel came.
fn reason(text: &str) -> String {
    let line = REASONS
        .iter()
        .find_map(|telling| text.lines().find(|line| line.contains(telling)))
        .or_else(|| text.lines().rev().find(|line| !line.trim().is_empty()))
        .unwrap_or("an empty record");
    // Without its priority and time.
    let line = line.rsplit_once("] ").map_or(line, |(_, rest)| rest);
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "Panic#1 Part1\n<6>[    1.5] usb 1-1: new\n<0>[   12.3] Kernel panic - not syncing: sysrq triggered crash\n<4>[   12.4] CPU: 0\n";

    #[test]
    fn records_of_the_boot_before_are_crashes_and_stay_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let pstore = dir.path().join("pstore");
        fs::create_dir(&pstore).unwrap();
        fs::write(pstore.join("dmesg-ramoops-0"), PANIC).unwrap();
        fs::write(pstore.join("console-ramoops-0"), "booting\n[    0.1] last line\n\n").unwrap();
        let folder = Folder::new(&dir.path().join("crashes"), 0);
        assert_eq!(import(&pstore, &folder), 2);
        // The next supervisor of this boot finds them there.
        assert_eq!(import(&pstore, &folder), 0);
        let mut reasons: Vec<(String, String)> =
            folder.list().into_iter().map(|crash| (crash.id, crash.reason)).collect();
        reasons.sort();
        let reason = |id: &str, reason: &str| (id.to_owned(), reason.to_owned());
        assert_eq!(
            reasons,
            [
                reason("kernel-console-ramoops-0", "last line"),
                reason("kernel-dmesg-ramoops-0", "Kernel panic - not syncing: sysrq triggered crash"),
            ]
        );
        assert!(pstore.join("dmesg-ramoops-0").exists());
        let mut text = String::new();
        let file = File::open(folder.contents("kernel-dmesg-ramoops-0")).unwrap();
        lz4_flex::frame::FrameDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, PANIC);
        assert_eq!(import(Path::new("/nowhere"), &folder), 0);
    }

    #[test]
    fn a_store_with_very_much_in_it_is_copied_as_far_as_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let pstore = dir.path().join("pstore");
        fs::create_dir(&pstore).unwrap();
        for n in 0..100 {
            fs::write(pstore.join(format!("dmesg-efi_pstore-{n}")), vec![b'x'; 300_000]).unwrap();
        }
        let folder = Folder::new(&dir.path().join("crashes"), 0);
        assert_eq!(import(&pstore, &folder), RECORDS);
        assert!(folder.list().iter().all(|crash| crash.bytes == RECORD));
    }
}
