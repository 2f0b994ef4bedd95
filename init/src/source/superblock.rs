//! Which file system a block device holds, and its label, by a look at its superblock. Only what a root image may be
//! kept in; anything else is "none". Offsets are those of the formats' own documents, named at each.

use std::io::{self, Read, Seek, SeekFrom};

/// A file system, as far as it must be known to mount it without writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// How to mount it.
    pub kind: Kind,
    /// Its label; empty where it has none.
    pub label: String,
}

/// The file systems that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ext2, ext3, ext4.
    Ext,
    /// FAT12, FAT16, FAT32.
    Vfat,
    /// exFAT.
    Exfat,
    /// squashfs.
    Squashfs,
    /// EROFS.
    Erofs,
    /// ISO 9660.
    Iso9660,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl Kind {
    /// The kernel's names for it, the first that works counts.
    pub fn drivers(self) -> &'static [&'static str] {
        match self {
            Kind::Ext => &["ext4", "ext3", "ext2"],
            Kind::Vfat => &["vfat"],
            Kind::Exfat => &["exfat"],
            Kind::Squashfs => &["squashfs"],
            Kind::Erofs => &["erofs"],
            Kind::Iso9660 => &["iso9660"],
            Kind::Xfs => &["xfs"],
            Kind::Btrfs => &["btrfs"],
        }
    }

    /// Mount options beside read-only: where a read-only mount would still replay a journal, that it shall not. The
    /// device itself is read-only meanwhile (see [`super::protect`]): such a file system must not even try.
    pub fn options(self, driver: &str) -> &'static str {
        match self {
            // Documentation/filesystems/ext4: "noload". ext2 has no journal and refuses the word. What the file system
            // itself says about errors may be "panic", which a damaged one shall not decide.
            Kind::Ext if driver == "ext2" => "errors=continue",
            Kind::Ext => "noload,errors=continue",
            // xfs(5).
            Kind::Xfs => "norecovery",
            // btrfs(5), since 5.9.
            Kind::Btrfs => "rescue=nologreplay",
            _ => "",
        }
    }

    /// Modules that the driver asks for by name while mounting, which no dependency tells: the kernel would run
    /// `modprobe`, and there is none. Character sets, here (`CONFIG_FAT_DEFAULT_*`, `CONFIG_NLS_DEFAULT`).
    pub fn helpers(self) -> &'static [&'static str] {
        match self {
            Kind::Vfat => &["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"],
            Kind::Exfat | Kind::Iso9660 => &["nls_utf8"],
            _ => &[],
        }
    }
}

/// Enough for all superblocks but btrfs's, which has a read of its own: ISO 9660's stands last, at 32 KiB.
const HEAD: u64 = 36 * 1024;
/// `BTRFS_SUPER_INFO_OFFSET`
const BTRFS: u64 = 64 * 1024;

/// Looks at what begins at the reader's start.
///
/// # Errors
/// When the device cannot be read at all. One that is too short for a superblock does not hold that file system.
pub fn probe(device: &mut (impl Read + Seek)) -> io::Result<Option<FileSystem>> {
    let head = read_at(device, 0, HEAD)?;
    let found = ext(&head)
        .or_else(|| squashfs(&head))
        .or_else(|| erofs(&head))
        .or_else(|| xfs(&head))
        .or_else(|| exfat(&head))
        .or_else(|| vfat(&head))
        .or_else(|| iso9660(&head));
    if found.is_some() {
        return Ok(found);
    }
    Ok(btrfs(&read_at(device, BTRFS, 4096)?))
}

/// Reads up to `length` bytes from `offset`; fewer where the device ends.
pub fn read_at(device: &mut (impl Read + Seek), offset: u64, length: u64) -> io::Result<Vec<u8>> {
    device.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    device.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn at(bytes: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
    bytes.get(offset..)?.get(..length)
}

fn label(bytes: &[u8], offset: usize, length: usize) -> String {
    let bytes = at(bytes, offset, length).unwrap_or_default();
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).trim_end().to_owned()
}

/// `Documentation/filesystems/ext4/super.rst`: at 1024, magic at 0x38, volume name at 0x78.
fn ext(head: &[u8]) -> Option<FileSystem> {
    (at(head, 0x438, 2)? == [0x53, 0xef]).then(|| FileSystem { kind: Kind::Ext, label: label(head, 0x478, 16) })
}

/// `fs/squashfs/squashfs_fs.h`: magic at 0; it has no label.
fn squashfs(head: &[u8]) -> Option<FileSystem> {
    (at(head, 0, 4)? == b"hsqs").then(|| FileSystem { kind: Kind::Squashfs, label: String::new() })
}

/// `fs/erofs/erofs_fs.h`: at 1024, magic at 0, volume name at 64.
fn erofs(head: &[u8]) -> Option<FileSystem> {
    (at(head, 1024, 4)? == [0xe2, 0xe1, 0xf5, 0xe0])
        .then(|| FileSystem { kind: Kind::Erofs, label: label(head, 1088, 16) })
}

/// `fs/xfs/libxfs/xfs_format.h`, `struct xfs_dsb`: magic at 0, name at 108.
fn xfs(head: &[u8]) -> Option<FileSystem> {
    (at(head, 0, 4)? == b"XFSB").then(|| FileSystem { kind: Kind::Xfs, label: label(head, 108, 12) })
}

/// Microsoft, exFAT file system specification, 3.1: name at 3. The label is a directory entry, which is not read.
fn exfat(head: &[u8]) -> Option<FileSystem> {
    (at(head, 3, 8)? == b"EXFAT   ").then(|| FileSystem { kind: Kind::Exfat, label: String::new() })
}

/// Microsoft, FAT: General Overview: boot signature at 510; type and label at 54 and 43, for FAT32 at 82 and 71.
fn vfat(head: &[u8]) -> Option<FileSystem> {
    if at(head, 510, 2)? != [0x55, 0xaa] {
        return None;
    }
    let name = match (at(head, 54, 5)?, at(head, 82, 5)?) {
        (b"FAT12" | b"FAT16", _) => label(head, 43, 11),
        (_, b"FAT32") => label(head, 71, 11),
        _ => return None,
    };
    Some(FileSystem { kind: Kind::Vfat, label: if name == "NO NAME" { String::new() } else { name } })
}

/// ECMA-119, 8.4: the primary volume descriptor in sector 16, its identifier at 1, the volume's at 40.
fn iso9660(head: &[u8]) -> Option<FileSystem> {
    (at(head, 0x8001, 5)? == b"CD001").then(|| FileSystem { kind: Kind::Iso9660, label: label(head, 0x8028, 32) })
}

/// `include/uapi/linux/btrfs_tree.h`, `struct btrfs_super_block`: magic at 0x40, label at 0x12b.
fn btrfs(block: &[u8]) -> Option<FileSystem> {
    (at(block, 0x40, 8)? == b"_BHRfS_M").then(|| FileSystem { kind: Kind::Btrfs, label: label(block, 0x12b, 256) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;
    use std::process::Command;

    fn made(command: &str, arguments: &[&str], size: u64) -> Option<FileSystem> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let output = Command::new(command).args(arguments).arg(file.path()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        probe(&mut file.reopen().unwrap()).unwrap()
    }

    fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 128 * 1024];
        image[offset..][..bytes.len()].copy_from_slice(bytes);
        image
    }

    #[test]
    fn what_mkfs_makes_is_known_with_its_label() {
        for (command, arguments, kind) in [
            ("/sbin/mkfs.ext4", &["-q", "-L", "images"][..], Kind::Ext),
            ("/sbin/mkfs.ext2", &["-q", "-L", "images"][..], Kind::Ext),
            ("/sbin/mkfs.vfat", &["-F", "16", "-n", "images"][..], Kind::Vfat),
            ("/sbin/mkfs.vfat", &["-F", "32", "-n", "images"][..], Kind::Vfat),
        ] {
            let found = made(command, arguments, 64 << 20).unwrap();
            assert_eq!(found.kind, kind, "{command} {arguments:?}");
            assert_eq!(found.label.to_lowercase(), "images");
        }
        assert_eq!(made("/sbin/mkfs.vfat", &[], 64 << 20).unwrap().label, "");
    }

    #[test]
    fn the_others_are_known_by_their_magic() {
        for (offset, magic, kind) in [
            (0, &b"hsqs"[..], Kind::Squashfs),
            (1024, b"\xe2\xe1\xf5\xe0", Kind::Erofs),
            (0, b"XFSB", Kind::Xfs),
            (3, b"EXFAT   ", Kind::Exfat),
            (0x8001, b"CD001", Kind::Iso9660),
            (0x10040, b"_BHRfS_M", Kind::Btrfs),
        ] {
            assert_eq!(probe(&mut Cursor::new(with(offset, magic))).unwrap().unwrap().kind, kind);
        }
        let image = with(0x478, b"x");
        assert_eq!(probe(&mut Cursor::new(image)).unwrap(), None);
    }

    #[test]
    fn a_short_device_holds_no_file_system() {
        for length in [0, 1, 511, 1100, 33000] {
            assert_eq!(probe(&mut Cursor::new(vec![0; length])).unwrap(), None);
        }
    }

    #[test]
    fn no_journal_is_replayed() {
        for kind in [Kind::Ext, Kind::Xfs, Kind::Btrfs] {
            assert!(!kind.options(kind.drivers()[0]).is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_probed_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let _ = probe(&mut Cursor::new(bytes)).unwrap();
        }
    }
}
