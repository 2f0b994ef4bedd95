//! Step 7 for a root that is mounted and not unpacked: squashfs or EROFS. The kernel's driver reads the image, which
//! lies in RAM; what is written goes into a tmpfs beside it, and is gone at the next boot.
//!
//! ```text
//!  image ── in the initramfs: stays where it lies ──┐
//!        └─ elsewhere: copied into a memfd ─────────┴► loop device ──► squashfs, erofs ─┐
//!                                                                                       ├► overlay: the new root
//!                                                      tmpfs, of bounded size ──────────┘
//! ```
//! Each holds the one before it, and the overlay all of them: no mount point but the root's is left, and when the last
//! one lets go of that, everything goes.

mod backing;
mod layers;
mod loopback;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use wim::FileSystem;
use wim::filesystem::Kind;

use crate::config::VerifyConfig;
use crate::inside::FileIn;
use crate::memory::{Limits, Need};
use crate::modules::Loader;
use crate::{unpack, verify};

use backing::Source;
pub use layers::discard;

/// Programs that must run whatever happens to the image and to the memory: they are taken out of it into the tmpfs.
/// A page of PID 1 that could not be read again would be the end of it, and so a kernel panic.
const KEPT: &[&str] = &[link::paths::ROOT_INIT, link::paths::SVCMGR];
/// What a driver keeps of structures that were read, whatever the image.
const DRIVER: u64 = 4 << 20;
/// `fs/squashfs`: pieces that are kept decompressed, for fragments and for reading (`SQUASHFS_FRAGMENT_CACHE_SIZE`).
const PIECES: u64 = 4;
/// `fs/erofs/decompressor_lzma.c`: the largest dictionary, of which each processor may have one.
const LZMA: u64 = 8 << 20;

/// Why a root cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or is damaged or cut short, as far as that is seen from outside.
    #[error("the image cannot be used")]
    Open {
        /// What `wim` says.
        source: wim::Error,
    },
    /// An image was asked for by number or name.
    #[error("the format is {kind}, which holds one root, and no image {index:?}")]
    NoIndex {
        /// Its format.
        kind: Kind,
        /// What was asked for.
        index: String,
    },
    /// The kernel lacks what reads the image, or what makes a root of it.
    #[error("this kernel cannot mount {kind} as a root: {}", lacks.join("; "))]
    Drivers {
        /// Its format.
        kind: Kind,
        /// What is missing, and why.
        lacks: Vec<String>,
    },
    /// It did not get into RAM.
    #[error("{} cannot be copied into RAM, {action}: {source}", path.display())]
    Copy {
        /// The image.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It is not the pinned one.
    #[error(transparent)]
    Pin(#[from] verify::Error),
    /// The kernel gave no block device for it.
    #[error("no loop device for the image, {action}: {source}")]
    Loop {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The driver refused the image.
    #[error("the {kind} (compression: {compression}) cannot be mounted: {source}; the kernel's log may say why")]
    Mount {
        /// Its format.
        kind: Kind,
        /// By what it is compressed.
        compression: String,
        /// Why.
        source: io::Error,
    },
    /// Nothing can be written over the image.
    #[error("the image cannot be made writable by an overlay, {action}: {source}")]
    Overlay {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The image gives out something else than it promised.
    #[error("{path} of the root cannot be read to its end: {source}")]
    Unreadable {
        /// The file.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Error::Open { .. } | Error::Unreadable { .. } => {
                "Check the image with `mmos-image info` and its own fsck or unsquashfs on the host, and write it again"
                    .into()
            }
            Error::NoIndex { .. } => "Leave mmos.index= out".into(),
            Error::Drivers { kind, .. } => format!(
                "Set include = [\"{kind}\", \"loop\", \"overlay\"] under [modules] of the image definition and build \
                 the initramfs again; a kernel of one's own needs them built in or as modules"
            ),
            Error::Copy { .. } => "Check the medium, and write the image again".into(),
            Error::Pin(error) => error.remedy().into(),
            Error::Loop { .. } => {
                "Use Linux 5.8 or later with CONFIG_DEVTMPFS, and with a loop module that is not limited".into()
            }
            Error::Mount { .. } => {
                "Write the image again; where it is sound, use a kernel whose driver knows its compression and \
                 features, or make it with others"
                    .into()
            }
            Error::Overlay { .. } => "Use a kernel with CONFIG_TMPFS_XATTR, and give the device more RAM".into(),
        }
    }
}

/// An image that is to be mounted.
#[derive(Debug)]
pub struct Image {
    file_system: FileSystem,
    source: Source,
}

impl Image {
    /// Looks at the image at `path`, a file or a device; `None` where it is of a format that is unpacked.
    ///
    /// # Errors
    /// When it is cut short or damaged, or `index` asks for something that it cannot have.
    pub fn open(path: &Path, index: Option<&str>) -> Result<Option<Image>, Error> {
        let Some(file_system) = wim::filesystem::open(path).map_err(|source| Error::Open { source })? else {
            return Ok(None);
        };
        if let Some(index) = index.filter(|index| *index != "1") {
            return Err(Error::NoIndex { kind: file_system.kind, index: index.to_owned() });
        }
        let source = Source::open(path, file_system.bytes)?;
        Ok(Some(Image { file_system, source }))
    }

    /// Whether it is the pinned one, if it lies in memory. One that is copied first is hashed on its way, since its
    /// medium may give other bytes the next time.
    ///
    /// # Errors
    /// Where it is not.
    pub fn verify(&self, config: &VerifyConfig) -> Result<(), verify::Error> {
        if self.source.is_in_memory() {
            verify::image(config, &[(self.source.path().to_owned(), self.file_system.bytes)])?;
        }
        Ok(())
    }

    /// What it takes to mount it.
    pub fn need(&self) -> Need {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let block = u64::from(self.file_system.block_size);
        let each = if self.file_system.compression.contains("lzma") { block.max(LZMA) } else { block };
        let pieces = block.saturating_mul(PIECES).saturating_add(each.saturating_mul(processors));
        let bytes = if self.source.is_in_memory() { 0 } else { self.file_system.bytes };
        Need { bytes, working: DRIVER.saturating_add(pieces), ..Need::default() }
    }

    /// Mounts it on `target`, writable within `limits`; the record names it `name`. Afterwards nothing is read any
    /// more of what it came from.
    ///
    /// # Errors
    /// Where it cannot be; then something may be left for [`discard`].
    pub fn mount(
        self,
        target: &'static str,
        limits: Limits,
        config: &VerifyConfig,
        modules: &mut Loader,
        name: &str,
    ) -> Result<link::boot::Root, Error> {
        let begin = Instant::now();
        let FileSystem { kind, bytes, inodes, compression, .. } = self.file_system;
        // Before anything is copied.
        load_drivers(kind, modules)?;
        let copied = !self.source.is_in_memory();
        let image = self.source.into_memory(config)?;
        let device = loopback::attach(&image, kind)?;
        layers::mount(&device, kind, target, limits).map_err(|error| error.of(kind, &compression))?;
        // Each is held by what is mounted now.
        drop((device, image));
        for path in KEPT {
            layers::keep(Path::new(target), path).map_err(|source| Error::Unreadable { path, source })?;
        }
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let root = link::boot::Root {
            source: name.to_owned(),
            format: kind.name().to_owned(),
            source_bytes: bytes,
            unpacked_bytes: 0,
            entries: inodes,
            micros,
            workers: 0,
        };
        log::info!("{}", line(&root, &compression, copied));
        Ok(root)
    }
}

fn load_drivers(kind: Kind, modules: &mut Loader) -> Result<(), Error> {
    let loaded = [modules.load_file_system(kind.name()), loopback::load(modules), modules.load_file_system("overlay")];
    let lacks: Vec<String> = loaded.into_iter().filter_map(Result::err).collect();
    if lacks.is_empty() { Ok(()) } else { Err(Error::Drivers { kind, lacks }) }
}

fn line(root: &link::boot::Root, compression: &str, copied: bool) -> String {
    format!(
        "root {}: {}, {}, {compression}, {} in {} inodes within {}.{:03} s",
        root.source,
        root.format,
        unpack::mib(root.source_bytes),
        if copied { "copied into RAM and mounted" } else { "mounted where it lies" },
        root.entries,
        root.micros / 1_000_000,
        root.micros % 1_000_000 / 1000,
    )
}

/// The file `path` of the tree at `root`, where there is one.
fn find(root: &Path, path: &str) -> Option<PathBuf> {
    FileIn::find(root, Path::new(path)).and_then(|file| file.path()).ok()
}
