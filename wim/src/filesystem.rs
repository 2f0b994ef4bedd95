//! Root images that are mounted and not unpacked: squashfs and EROFS, which the kernel's own drivers read. Known by
//! their superblocks, which also tell how long such an image is, whatever it lies on.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::error::Error;
use crate::source::{FileSource, ReadAt};

/// squashfs's stands at 0, EROFS's 128 bytes at 1024 (`EROFS_SUPER_OFFSET`).
pub(crate) const HEAD: usize = 1024 + 128;
/// mksquashfs fills an image up to a multiple of this. What is hashed and copied is the file that it made, not only what
/// the superblock calls used.
const PADDING: u64 = 4096;

/// Which file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `Documentation/filesystems/squashfs.rst`
    Squashfs,
    /// `Documentation/filesystems/erofs.rst`
    Erofs,
}

impl Kind {
    /// The kernel's name for its driver, and ours for the format.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Squashfs => "squashfs",
            Kind::Erofs => "erofs",
        }
    }

    /// The command that unpacks one, for people: it needs only the names of a folder and of the image.
    pub fn unpacked_by(self) -> &'static str {
        match self {
            Kind::Squashfs => "unsquashfs -dest FOLDER IMAGE",
            Kind::Erofs => "fsck.erofs --extract=FOLDER IMAGE",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What its superblock says of such an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Which file system.
    pub kind: Kind,
    /// Length of the image: all that the driver may read, and the padding that its maker puts behind. What lies
    /// behind that, on a device or in a file, is not of the image.
    pub bytes: u64,
    /// Files, directories and other inodes; a file with several names is one.
    pub inodes: u64,
    /// What is compressed as one piece, in bytes, for a squashfs; the block of the file system for EROFS.
    pub block_size: u32,
    /// How it is compressed: `zstd`, `lz4`, …; `none`.
    pub compression: String,
}

/// What is wrong with such an image, as far as its superblock and its length tell.
#[derive(Debug, thiserror::Error)]
pub enum FileSystemError {
    /// The source could not be read.
    #[error("its superblock cannot be read")]
    Read(#[source] io::Error),
    /// The source ends before the image does.
    #[error("the {kind} is cut short: it is {bytes} bytes long, and there are only {available}; copy it again, whole")]
    Truncated {
        /// Which file system.
        kind: Kind,
        /// As the superblock says.
        bytes: u64,
        /// Bytes in the source.
        available: u64,
    },
    /// The superblock contradicts the format.
    #[error("the superblock of the {kind} is damaged: {why}; copy the image again, or make it again")]
    Damaged {
        /// Which file system.
        kind: Kind,
        /// The contradiction.
        why: String,
    },
    /// Sound, but of a kind that cannot be a root.
    #[error("{what}, which cannot be booted; {remedy}")]
    Unsupported {
        /// The kind.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// Looks at the file or block device at `path`; `None` where it is no such image.
///
/// # Errors
/// When it cannot be read, is cut short, or its superblock is damaged or of a kind that is not supported.
pub fn open(path: &Path) -> Result<Option<FileSystem>, Error> {
    let io = |action: &str| {
        let action = action.to_owned();
        move |source| Error::Io { path: path.to_owned(), action, source }
    };
    let file = File::open(path).map_err(io("open"))?;
    if file.metadata().map_err(io("look at"))?.is_dir() {
        return Err(io("open")(io::ErrorKind::IsADirectory.into()));
    }
    let source = FileSource::new(file).map_err(io("measure"))?;
    read(&source).map_err(|source| Error::FileSystem { path: path.to_owned(), source })
}

/// As [`open`], of a source that is open already.
///
/// # Errors
/// Likewise.
pub fn read(source: &dyn ReadAt) -> Result<Option<FileSystem>, FileSystemError> {
    let available = source.size();
    let length = usize::try_from(available).unwrap_or(HEAD).min(HEAD);
    let mut head = vec![0; length];
    source.read_exact_at(&mut head, 0).map_err(FileSystemError::Read)?;
    let Some(kind) = kind(&head) else { return Ok(None) };
    let found = match kind {
        Kind::Squashfs => squashfs(&head),
        Kind::Erofs => erofs(head.get(EROFS_OFFSET..).unwrap_or_default()),
    };
    // A superblock that is not all there.
    let mut found = found.unwrap_or(Err(FileSystemError::Truncated { kind, bytes: HEAD as u64, available }))?;
    if found.bytes > available {
        return Err(FileSystemError::Truncated { kind, bytes: found.bytes, available });
    }
    if kind == Kind::Squashfs {
        found.bytes = found.bytes.checked_next_multiple_of(PADDING).unwrap_or(available).min(available);
    }
    Ok(Some(found))
}

/// Where EROFS's superblock stands.
const EROFS_OFFSET: usize = 1024;
const SQUASHFS_MAGIC: u32 = 0x7371_7368;
const EROFS_MAGIC: u32 = 0xe0f5_e1e2;

/// Which of them begins with these bytes, [`HEAD`] of them.
pub(crate) fn kind(head: &[u8]) -> Option<Kind> {
    if u32_at(head, 0) == Some(SQUASHFS_MAGIC) {
        Some(Kind::Squashfs)
    } else if u32_at(head, EROFS_OFFSET) == Some(EROFS_MAGIC) {
        Some(Kind::Erofs)
    } else {
        None
    }
}

/// `fs/squashfs/squashfs_fs.h`: `struct squashfs_super_block`; `None` where the bytes end before it does.
fn squashfs(head: &[u8]) -> Option<Result<FileSystem, FileSystemError>> {
    let kind = Kind::Squashfs;
    let (inodes, block_size) = (u32_at(head, 4)?, u32_at(head, 12)?);
    let (compression, block_log) = (u16_at(head, 20)?, u16_at(head, 22)?);
    let (major, minor) = (u16_at(head, 28)?, u16_at(head, 30)?);
    let bytes = u64_at(head, 40)?;
    let damaged = |why: String| Some(Err(FileSystemError::Damaged { kind, why }));
    if (major, minor) != (4, 0) {
        return Some(Err(FileSystemError::Unsupported {
            what: format!("it is a squashfs of version {major}.{minor}"),
            remedy: "the kernel reads version 4.0: make it again with mksquashfs of today",
        }));
    }
    // SQUASHFS_FILE_MAX_SIZE, SQUASHFS_FILE_MAX_LOG.
    if !(4096..=1 << 20).contains(&block_size) || 1_u32.checked_shl(block_log.into()) != Some(block_size) {
        return damaged(format!("blocks of {block_size} bytes, called 2 to the {block_log}"));
    }
    if bytes < 96 {
        return damaged(format!("a length of {bytes} bytes"));
    }
    let compression = match compression {
        1 => "gzip".to_owned(),
        2 => "lzma".to_owned(),
        3 => "lzo".to_owned(),
        4 => "xz".to_owned(),
        5 => "lz4".to_owned(),
        6 => "zstd".to_owned(),
        other => return damaged(format!("compression {other}, which does not exist")),
    };
    Some(Ok(FileSystem { kind, bytes, inodes: inodes.into(), block_size, compression }))
}

/// `fs/erofs/erofs_fs.h`: features without which an image cannot be read.
mod incompat {
    /// Compressed by LZ4, at least (`EROFS_FEATURE_INCOMPAT_ZERO_PADDING`).
    pub const ZERO_PADDING: u32 = 0x1;
    /// The superblock says by what it is compressed.
    pub const COMPR_CFGS: u32 = 0x2;
    /// Data in other devices or files.
    pub const DEVICE_TABLE: u32 = 0x8;
    /// Numbers of blocks have 48 bits.
    pub const BITS_48: u32 = 0x80;
}

/// `fs/erofs/erofs_fs.h`: `struct erofs_super_block`; `None` where the bytes end before it does.
fn erofs(block: &[u8]) -> Option<Result<FileSystem, FileSystemError>> {
    let kind = Kind::Erofs;
    let block_bits = u32::from(*block.get(12)?);
    let features = u32_at(block, 80)?;
    let algorithms = u16_at(block, 84)?;
    let extra_devices = u16_at(block, 86)?;
    let mut blocks = u64::from(u32_at(block, 36)?);
    if features & incompat::BITS_48 != 0 {
        blocks |= u64::from(u16_at(block, 14)?) << 32;
    }
    let inodes = u64_at(block, 16)?;
    // The last field of what every superblock has.
    block.get(127)?;
    let damaged = |why: String| Some(Err(FileSystemError::Damaged { kind, why }));
    // A sector, and EROFS_MAX_BLOCK_SIZE of the largest pages.
    if !(9..=16).contains(&block_bits) {
        return damaged(format!("blocks of 2 to the {block_bits} bytes"));
    }
    let block_size = 1_u32.checked_shl(block_bits)?;
    let bytes = match blocks.checked_mul(block_size.into()) {
        Some(bytes) if bytes >= HEAD as u64 => bytes,
        _ => return damaged(format!("a length of {blocks} blocks of {block_size} bytes")),
    };
    if features & incompat::DEVICE_TABLE != 0 && extra_devices > 0 {
        return Some(Err(FileSystemError::Unsupported {
            what: format!("it is an EROFS with data in {extra_devices} other devices"),
            remedy: "make it again as one file, without --blobdev",
        }));
    }
    let compression = if features & incompat::COMPR_CFGS != 0 {
        // Z_EROFS_COMPRESSION_*, one bit each.
        let names = ["lz4", "lzma", "deflate", "zstd"].iter().zip([1_u16, 2, 4, 8]);
        let names: Vec<&str> = names.filter(|(_, bit)| algorithms & bit != 0).map(|(name, _)| *name).collect();
        if names.is_empty() { "unknown".to_owned() } else { names.join(", ") }
    } else if features & incompat::ZERO_PADDING != 0 {
        "lz4".to_owned()
    } else {
        "none".to_owned()
    };
    Some(Ok(FileSystem { kind, bytes, inodes, block_size, compression }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// What the formats' own tools make of a small tree.
    fn made(tool: &str, options: &[&str]) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let (tree, image) = (folder.path().join("tree"), folder.path().join("image"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("text"), "all work and no play ".repeat(5000)).unwrap();
        // What nothing compresses (xorshift64).
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        std::fs::write(tree.join("noise"), noise.take(3000).flatten().collect::<Vec<u8>>()).unwrap();
        let mut command = Command::new(tool);
        match tool {
            "mksquashfs" => command.arg(&tree).arg(&image).args(["-quiet", "-no-progress"]).args(options),
            _ => command.args(options).arg(&image).arg(&tree),
        };
        match command.output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => panic!("{tool}: {error}"),
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                Some(std::fs::read(&image).unwrap())
            }
        }
    }

    fn found(image: &[u8]) -> FileSystem {
        read(&image.to_vec()).unwrap().unwrap()
    }

    #[test]
    fn what_the_tools_make_is_known_with_its_length_and_compression() {
        for (tool, options, kind, compression) in [
            ("mksquashfs", &["-comp", "zstd"][..], Kind::Squashfs, "zstd"),
            ("mksquashfs", &["-comp", "xz", "-b", "1M"], Kind::Squashfs, "xz"),
            ("mksquashfs", &["-comp", "gzip", "-nopad"], Kind::Squashfs, "gzip"),
            ("mkfs.erofs", &["-zlz4hc"], Kind::Erofs, "lz4"),
            ("mkfs.erofs", &[], Kind::Erofs, "none"),
        ] {
            let Some(image) = made(tool, options) else {
                skip::because(format_args!("{tool} is not installed"));
                continue;
            };
            let file_system = found(&image);
            assert_eq!((file_system.kind, file_system.compression.as_str()), (kind, compression), "{tool} {options:?}");
            assert_eq!(file_system.bytes, image.len() as u64, "{tool} {options:?}");
            assert_eq!(file_system.inodes, 3, "{file_system:?}");

            // What else lies on the device is not of the image.
            let padded = image.len().next_multiple_of(4096);
            let mut device = image.clone();
            device.resize(padded + (1 << 20), 7);
            assert_eq!(found(&device).bytes, padded as u64);
            // However much of it is missing, that is said.
            for length in [5, 95, 1100, image.len() / 2, image.len() - 4096] {
                match read(&image[..length].to_vec()) {
                    Ok(None) => assert!(kind == Kind::Erofs && length < 1028, "{length}"),
                    Err(FileSystemError::Truncated { available, .. }) => assert_eq!(available, length as u64),
                    other => panic!("{length}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_superblock_that_contradicts_itself_is_named_with_the_reason() {
        let mut image = vec![0_u8; 8192];
        image[..4].copy_from_slice(b"hsqs");
        let error = read(&image).unwrap_err().to_string();
        assert!(error.contains("version 0.0"), "{error}");
        image[28] = 4;
        let error = read(&image).unwrap_err().to_string();
        assert!(error.contains("damaged: blocks of 0 bytes"), "{error}");
        image[13] = 0x10;
        image[22] = 12;
        let error = read(&image).unwrap_err().to_string();
        assert!(error.contains("a length of 0 bytes"), "{error}");

        let mut image = vec![0_u8; 8192];
        image[1024..1028].copy_from_slice(&EROFS_MAGIC.to_le_bytes());
        assert!(read(&image).unwrap_err().to_string().contains("blocks of 2 to the 0 bytes"));
        image[1036] = 12;
        assert!(read(&image).unwrap_err().to_string().contains("a length of 0 blocks"));
        image[1060] = 2;
        assert_eq!(found(&image).bytes, 8192);
        image[1104] = 8;
        image[1110] = 1;
        assert!(read(&image).unwrap_err().to_string().contains("1 other devices"));
    }

    #[test]
    fn an_image_that_is_none_of_them_is_left_to_others() {
        for bytes in [vec![], b"MSWIM\0\0\0".to_vec(), vec![0; 4096]] {
            assert_eq!(read(&bytes).unwrap(), None);
        }
    }

    proptest! {
        #[test]
        fn any_superblock_is_read_without_harm_and_never_reaches_past_the_end(
            squashfs in any::<bool>(), bytes in proptest::collection::vec(any::<u8>(), 0..1400),
        ) {
            let mut bytes = bytes;
            let (at, magic) = if squashfs { (0, SQUASHFS_MAGIC) } else { (EROFS_OFFSET, EROFS_MAGIC) };
            for (place, byte) in bytes.iter_mut().skip(at).zip(magic.to_le_bytes()) {
                *place = byte;
            }
            let length = bytes.len() as u64;
            if let Ok(Some(found)) = read(&bytes) {
                prop_assert!(found.bytes <= length);
            }
        }
    }
}
