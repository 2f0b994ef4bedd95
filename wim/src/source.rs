//! Where an image lies: a file, a block device, or memory, read at positions so that many workers share it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Bytes that can be read at any position, by many threads at once.
pub trait ReadAt: Send + Sync {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` where the source ends before the buffer does; else what the system says.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Number of bytes. Of a block device all of them, however short the image at its start is.
    fn size(&self) -> u64;

    /// Whether it ends where the image does. A block device goes on behind it, with whatever was there before.
    fn ends_with_image(&self) -> bool {
        true
    }
}

/// A file or a block device.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    size: u64,
    is_file: bool,
}

impl FileSource {
    /// Takes the file's or the device's size once: it must not change while it is read.
    ///
    /// # Errors
    /// When it cannot be measured: a pipe or a character device.
    pub fn new(file: File) -> io::Result<FileSource> {
        // A block device's metadata says 0; its end does not.
        let size = (&file).seek(SeekFrom::End(0))?;
        let is_file = file.metadata()?.is_file();
        Ok(FileSource { file, size, is_file })
    }
}

impl ReadAt for FileSource {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn ends_with_image(&self) -> bool {
        self.is_file
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let found = usize::try_from(offset).ok().and_then(|from| self.get(from..from.checked_add(buffer.len())?));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

/// The files that a WIM lies in, in order: one, or as many as it was split in.
pub(crate) struct Parts {
    first: Part,
    others: Vec<Part>,
}

/// One of them.
struct Part {
    source: Box<dyn ReadAt>,
    /// Bytes of the WIM in it; the device that it lies on may be longer.
    length: u64,
}

impl Parts {
    /// A WIM's first or only file, which has `length` bytes of it.
    pub(crate) fn new(source: Box<dyn ReadAt>, length: u64) -> Parts {
        Parts { first: Part { source, length }, others: Vec::new() }
    }

    pub(crate) fn push(&mut self, source: Box<dyn ReadAt>, length: u64) {
        self.others.push(Part { source, length });
    }

    /// The part of this number, from 1. Numbers come from [`crate::blob::Blobs`], which takes none that is not here.
    pub(crate) fn source(&self, part: u16) -> &dyn ReadAt {
        let other = usize::from(part).checked_sub(2).and_then(|n| self.others.get(n));
        &*other.unwrap_or(&self.first).source
    }

    /// The WIM's bytes in each.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = u64> {
        std::iter::once(&self.first).chain(&self.others).map(|part| part.length)
    }
}

/// A part of another source, such as an image that lies inside a larger file.
#[derive(Debug)]
pub struct Window<S> {
    inner: S,
    start: u64,
    size: u64,
}

impl<S: ReadAt> Window<S> {
    /// The bytes of `inner` from `start` on, at most `size` of them.
    pub fn new(inner: S, start: u64, size: u64) -> Window<S> {
        let size = size.min(inner.size().saturating_sub(start));
        Window { inner, start, size }
    }
}

impl<S: ReadAt> ReadAt for Window<S> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.size);
        match (end, self.start.checked_add(offset)) {
            (Some(_), Some(at)) => self.inner.read_exact_at(buffer, at),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_where_it_says_and_not_where_its_source_does() {
        let window = Window::new(b"0123456789".to_vec(), 2, 5);
        let mut three = [0; 3];
        window.read_exact_at(&mut three, 2).unwrap();
        assert_eq!(&three, b"456");
        assert_eq!(window.read_exact_at(&mut three, 3).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(window.read_exact_at(&mut three, u64::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(Window::new(vec![0; 4], 3, 100).size(), 1);
        assert_eq!(Window::new(vec![0; 4], 9, 100).size(), 0);
    }
}
