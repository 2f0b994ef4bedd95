//! A WIM, opened and checked: which images it has, and the tree of each. The door between the format's modules and the
//! rest of the crate.

use std::fs::File;
use std::path::Path;

use sha1::{Digest, Sha1};

use crate::blob::{Blobs, Hash};
use crate::codec::Compression;
use crate::error::{Error, WimError};
use crate::header::Header;
use crate::metadata::{self, MAX_METADATA};
use crate::resource::read_whole;
use crate::source::{FileSource, Parts, ReadAt};
use crate::split;
use crate::tree::{Inode, Kind, Tree};
use crate::xml::{self, ImageInfo, MAX_XML};

/// An opened WIM.
pub struct Wim {
    pub(crate) parts: Parts,
    pub(crate) header: Header,
    pub(crate) blobs: Blobs,
    images: Vec<ImageInfo>,
}

impl std::fmt::Debug for Wim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wim").field("header", &self.header).field("images", &self.images).finish_non_exhaustive()
    }
}

impl Wim {
    /// Reads header, blob table and image names. `source` may go on behind the WIM.
    ///
    /// # Errors
    /// When it is cut short, damaged, or of a kind that is not supported: one that is split is opened by its path.
    pub fn open(source: Box<dyn ReadAt>) -> Result<Wim, WimError> {
        let header = Header::find(&*source)?;
        if header.parts > 1 {
            return Err(WimError::Unsupported {
                what: format!("part {} of {} of a split WIM, alone,", header.part, header.parts),
                remedy: "open it by its path, with the other parts beside it",
            });
        }
        Wim::first(source, header)
    }

    /// As [`Wim::open`], for the file or block device at `path`; of a split WIM, which may only be a file, `path` is
    /// the first part, and the others are found beside it: `x2.swm`, `x3.swm`, … beside `x.swm`.
    ///
    /// # Errors
    /// As [`Wim::open`]; and when a part is missing, or is another file than it should be.
    pub fn open_path(path: &Path) -> Result<Wim, Error> {
        let io = |action: &str| {
            let action = action.to_owned();
            move |source| Error::Io { path: path.to_owned(), action, source }
        };
        let source = File::open(path).and_then(FileSource::new).map_err(io("open"))?;
        split::open(path, Box::new(source))
    }

    /// The only file of a WIM, or the first one, of this header.
    pub(crate) fn first(source: Box<dyn ReadAt>, header: Header) -> Result<Wim, WimError> {
        let mut blobs = Blobs::default();
        let end = blobs.add(&*source, &header)?;
        // A number still chooses an image where its name cannot be read.
        let xml = read_whole(&*source, &header.xml, header.layout(), "the XML data", MAX_XML).unwrap_or_default();
        let images = images(&header, &xml);
        let parts = Parts::new(source, header.length(end));
        Ok(Wim { parts, header, blobs, images })
    }

    /// Adds the next part, whose header was found to be that of a part of this WIM.
    pub(crate) fn add(&mut self, source: Box<dyn ReadAt>, header: &Header) -> Result<(), WimError> {
        let end = self.blobs.add(&*source, header)?;
        self.parts.push(source, header.length(end));
        Ok(())
    }

    /// Its header; of a split WIM, that of its first part.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its own length in bytes, of all its parts, however much longer the device is that it lies on.
    pub fn length(&self) -> u64 {
        self.lengths().fold(0, u64::saturating_add)
    }

    /// As [`Wim::length`], of each file that it is split in.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = u64> {
        self.parts.lengths()
    }

    /// Its images, in order.
    pub fn images(&self) -> &[ImageInfo] {
        &self.images
    }

    /// Compression and chunk size of its solid resources, the largest chunk of all; `None` where it has none.
    pub fn solid(&self) -> Option<(Compression, u32)> {
        self.blobs.solids.iter().map(|solid| (solid.compression, solid.chunk_size)).max_by_key(|(_, size)| *size)
    }

    /// The number of the image that `wanted` names: a number from 1, or a name. `None` stands for the image marked for
    /// booting, and where none is, for the first.
    ///
    /// # Errors
    /// When there is no such image, with a list of those that there are.
    pub fn select(&self, wanted: Option<&str>) -> Result<u32, WimError> {
        select(&self.header, &self.images, wanted)
    }

    /// The tree of the image of this number.
    ///
    /// # Errors
    /// When its metadata is damaged, or it describes something impossible.
    pub fn tree(&self, index: u32) -> Result<Tree, WimError> {
        let position = usize::try_from(index).ok().and_then(|i| i.checked_sub(1));
        let metadata = position.and_then(|p| self.blobs.metadata.get(p));
        let (at, hash) = metadata.ok_or_else(|| no_image(&self.images, &index.to_string()))?;
        let layout = self.header.layout();
        let bytes = read_whole(self.parts.source(1), at, layout, "the metadata of the image", MAX_METADATA)?;
        if Hash::from(Sha1::digest(&bytes)) != *hash {
            return Err(WimError::Hash { file: "the image's metadata".into() });
        }
        metadata::parse(&bytes)
    }

    /// Size of a file's contents; 0 for everything that is no file.
    pub fn file_size(&self, inode: &Inode) -> u64 {
        if inode.kind == Kind::File { self.size_of(&inode.hash).unwrap_or(0) } else { 0 }
    }

    /// Size of a blob; 0 for the empty one. `None` where the image does not have it.
    pub(crate) fn size_of(&self, hash: &Hash) -> Option<u64> {
        if hash == &[0; 20] { Some(0) } else { self.blobs.by_hash.get(hash).map(|b| b.size) }
    }
}

/// What the XML data says of the images that the header promises.
pub(crate) fn images(header: &Header, xml: &[u8]) -> Vec<ImageInfo> {
    let mut known = xml::parse(xml);
    let info = |index| known.remove(&index).unwrap_or(ImageInfo { index, ..ImageInfo::default() });
    (1..=header.images).map(info).collect()
}

/// As [`Wim::select`].
pub(crate) fn select(header: &Header, images: &[ImageInfo], wanted: Option<&str>) -> Result<u32, WimError> {
    let found = match wanted {
        None if header.boot_index > 0 => Some(header.boot_index),
        None => images.first().map(|i| i.index),
        Some(wanted) => {
            let by_number = wanted.parse().ok().filter(|n| images.iter().any(|i| i.index == *n));
            by_number.or_else(|| images.iter().find(|i| i.name == wanted).map(|i| i.index))
        }
    };
    found.ok_or_else(|| no_image(images, wanted.unwrap_or("1")))
}

fn no_image(images: &[ImageInfo], wanted: &str) -> WimError {
    let shown = |i: &ImageInfo| match i.name.as_str() {
        "" => i.index.to_string(),
        name => format!("{} ({name:?})", i.index),
    };
    let present: Vec<String> = images.iter().map(shown).collect();
    let present = if present.is_empty() { "none at all".to_owned() } else { present.join(", ") };
    WimError::NoImage { wanted: wanted.to_owned(), present }
}
