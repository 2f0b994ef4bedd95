//! Where the bytes of an image lie while it is mounted: in the initramfs, if it was there, or in a copy. Storage that
//! it came from is not needed afterwards, and may be written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags};

use super::Error;
use crate::config::VerifyConfig;
use crate::switch;
use crate::verify::Pin;

/// A loop device ends at a whole sector, and the drivers read whole blocks; what is not there reads as zeros.
const BLOCK: u64 = 4096;
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// An image where it was found.
#[derive(Debug)]
pub struct Source {
    file: File,
    path: PathBuf,
    bytes: u64,
    in_memory: bool,
}

/// An image in memory.
#[derive(Debug)]
pub struct Backing {
    file: File,
    /// Its length, in whole blocks.
    pub bytes: u64,
}

impl AsFd for Backing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Source {
    /// The first `bytes` bytes of what is at `path`.
    pub fn open(path: &Path, bytes: u64) -> Result<Source, Error> {
        let opened = || -> io::Result<(File, bool)> {
            let file = File::open(path)?;
            // The node of a device lies in memory, too, and the device does not.
            let in_memory = file.metadata()?.is_file() && switch::is_in_memory(&file);
            Ok((file, in_memory))
        };
        let (file, in_memory) =
            opened().map_err(|source| Error::Copy { path: path.to_owned(), action: "opening it", source })?;
        Ok(Source { file, path: path.to_owned(), bytes, in_memory })
    }

    /// Whether it can stay where it is.
    pub fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The image in memory: where it is, or a copy, which is checked against the pin on its way.
    pub fn into_memory(self, config: &VerifyConfig) -> Result<Backing, Error> {
        let bytes = self.bytes.checked_next_multiple_of(BLOCK).unwrap_or(self.bytes);
        let path = self.path.clone();
        let failed = |action| move |source| Error::Copy { path, action, source };
        if self.in_memory {
            self.fill_up(bytes).map_err(failed("filling it up to whole blocks"))?;
            return Ok(Backing { file: self.file, bytes });
        }
        let mut pin = Pin::of(config);
        let file = self.copy(bytes, &mut pin).map_err(failed("byte by byte"))?;
        if let Some(pin) = pin {
            pin.check()?;
        }
        Ok(Backing { file, bytes })
    }

    /// A file that ends within a block grows to the end of it; it takes no more memory.
    fn fill_up(&self, bytes: u64) -> io::Result<()> {
        if self.file.metadata()?.len() < bytes {
            File::options().write(true).open(&self.path)?.set_len(bytes)?;
        }
        Ok(())
    }

    /// A copy that nobody can change any more, in a file without a name
    /// ([memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html)).
    fn copy(&self, bytes: u64, pin: &mut Option<Pin>) -> io::Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut copy = File::from(rustix::fs::memfd_create("root", flags)?);
        copy.set_len(bytes)?;
        let mut piece = vec![0; PIECE];
        let mut left = self.bytes;
        let mut source = &self.file;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let part = piece.get_mut(..length).unwrap_or_default();
            source.read_exact(part)?;
            if let Some(pin) = pin {
                pin.add(part);
            }
            copy.write_all(part)?;
            left = left.saturating_sub(length as u64);
        }
        rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::os::unix::fs::FileExt;

    fn demands(sha256: &str) -> VerifyConfig {
        config::parse(&format!("[verify]\nsha256 = \"{sha256}\"")).unwrap().verify
    }

    /// A source with `content` in it that counts as lying on a medium, or in memory.
    fn source(folder: &Path, content: &[u8], bytes: u64, in_memory: bool) -> Source {
        let path = folder.join("image");
        std::fs::write(&path, content).unwrap();
        Source { in_memory, ..Source::open(&path, bytes).unwrap() }
    }

    #[test]
    fn a_copy_holds_the_image_alone_is_checked_on_its_way_and_cannot_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let copied = source(folder.path(), b"abc and the rest of the device", 3, false).into_memory(&demands(abc));
        let copied = copied.unwrap();
        assert_eq!(copied.bytes, 4096);
        let mut content = vec![1; 4096];
        copied.file.read_exact_at(&mut content, 0).unwrap();
        assert!(content.starts_with(b"abc\0") && content.iter().skip(3).all(|byte| *byte == 0));
        assert!(copied.file.write_at(b"x", 0).is_err() && copied.file.set_len(0).is_err());

        let other = source(folder.path(), b"abd", 3, false).into_memory(&demands(abc));
        assert!(other.unwrap_err().to_string().contains("over 3 bytes"));
    }

    #[test]
    fn a_medium_that_ends_too_early_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = source(folder.path(), b"abc", 4, false).into_memory(&VerifyConfig::default()).unwrap_err();
        assert!(error.to_string().contains("cannot be copied into RAM"), "{error}");
    }

    #[test]
    fn what_lies_in_memory_stays_there_and_is_filled_up_to_whole_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let stayed = source(folder.path(), b"abc", 3, true).into_memory(&VerifyConfig::default()).unwrap();
        assert_eq!(stayed.file.metadata().unwrap().len(), 4096);
        assert!(std::fs::read(folder.path().join("image")).unwrap().starts_with(b"abc\0"));
        // What else is in the file is not cut off.
        let long = source(folder.path(), &[1; 9000], 4096, true).into_memory(&VerifyConfig::default()).unwrap();
        assert_eq!((long.bytes, long.file.metadata().unwrap().len()), (4096, 9000));
    }

    #[test]
    fn a_device_is_not_in_memory_though_its_node_is() {
        assert!(!Source::open(Path::new("/dev/null"), 0).unwrap().is_in_memory());
    }
}
