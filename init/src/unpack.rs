//! Step 7, by the crate `wim`: an opened root image, what it needs, and its unpacking with a line of figures. For images
//! that are not unpacked, see [`crate::mounted`].

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::memory::{self, Need};

/// Why an image cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no root image, or a damaged one, or has no such index.
    #[error("the image cannot be used")]
    Open {
        /// What `wim` says.
        source: wim::Error,
    },
    /// It came to light while unpacking.
    #[error("the image cannot be unpacked")]
    Unpack {
        /// What `wim` says.
        source: wim::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        "Check the image with `mmos-image info` on the host and write it again; where it has several images, check \
         mmos.index="
    }
}

/// A root image that was opened, and looks well so far.
#[derive(Debug)]
pub struct Image {
    root: wim::Root,
    is_ours: bool,
    consume: bool,
}

impl Image {
    /// Opens the image at `path`, a file or a device; a WIM's image by number or name. Where it `is_ours`, that is in
    /// the initramfs, it is freed while it is unpacked, if it can be: an initramfs may also be a ramfs, which cannot.
    pub fn open(path: &Path, index: Option<&str>, is_ours: bool) -> Result<Image, Error> {
        let root = wim::root::open(path, index).map_err(|source| Error::Open { source })?;
        let consume = is_ours && root.files().iter().all(|(file, _)| wim::root::is_consumable(file));
        Ok(Image { root, is_ours, consume })
    }

    fn options(&self, workers: NonZeroUsize) -> wim::UnpackOptions<'static> {
        wim::UnpackOptions { workers: Some(workers), consume: self.consume, ..wim::UnpackOptions::default() }
    }

    /// The files or the device that it lies in, in order, and how many bytes of each are the image.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.root.files()
    }

    /// What it takes to unpack it by so many workers at most.
    pub fn need(&self, workers: NonZeroUsize) -> Result<Need, Error> {
        let need = self.root.need_with(&self.options(workers)).map_err(|source| Error::Open { source })?;
        // Of a ramfs nobody knows what it holds, but for the image.
        let image = if self.is_ours { self.root.source_bytes() } else { 0 };
        let given_back = memory::initramfs(Path::new("/")).max(image);
        let wim::Need { bytes, inodes, xattrs, working, freed } = need;
        Ok(Need { bytes, inodes, xattrs, working, freed, given_back })
    }

    /// Unpacks it into the empty folder `target` by so many workers at most; the record names it `source`. The second
    /// value holds what could not be reproduced here.
    pub fn unpack(
        self,
        target: &Path,
        workers: NonZeroUsize,
        source: &str,
    ) -> Result<(link::boot::Root, Vec<String>), Error> {
        let (format, source_bytes) = (self.root.format().to_string(), self.root.source_bytes());
        let begin = Instant::now();
        let options = self.options(workers);
        let report = self.root.unpack(target, &options).map_err(|source| Error::Unpack { source })?;
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let root = link::boot::Root {
            source: source.to_owned(),
            format,
            source_bytes,
            unpacked_bytes: report.bytes,
            entries: report.entries,
            micros,
            workers: report.workers,
        };
        log::info!("{}", line(&root));
        Ok((root, report.notes))
    }
}

fn line(root: &link::boot::Root) -> String {
    // Bytes in a microsecond are MB in a second.
    let rate = root.unpacked_bytes.checked_div(root.micros.max(1)).unwrap_or(0);
    format!(
        "root {}: {}, {}, unpacked to {} in {} entries within {}.{:03} s ({rate} MB/s, {} workers)",
        root.source,
        root.format,
        mib(root.source_bytes),
        mib(root.unpacked_bytes),
        root.entries,
        root.micros / 1_000_000,
        root.micros % 1_000_000 / 1000,
        root.workers
    )
}

/// Bytes in MiB, with a decimal.
pub(crate) fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_source_format_sizes_time_and_rate() {
        let root = link::boot::Root {
            source: "initrd:/root.wim".into(),
            format: "wim".into(),
            source_bytes: 10 << 20,
            unpacked_bytes: 50_000_000,
            entries: 1234,
            micros: 1_250_000,
            workers: 2,
        };
        assert_eq!(
            line(&root),
            "root initrd:/root.wim: wim, 10.0 MiB, unpacked to 47.6 MiB in 1234 entries within 1.250 s (40 MB/s, 2 workers)"
        );
    }

    #[test]
    fn a_source_that_is_missing_is_an_error_with_a_remedy() {
        let error = Image::open(Path::new("/nonexistent.wim"), None, true).unwrap_err();
        let text = crate::chain(&error);
        assert!(text.contains("/nonexistent.wim") && text.contains("No such file"), "{text}");
        assert!(error.remedy().contains("mmos-image info"));
    }
}
