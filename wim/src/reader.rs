//! A WIM, opened and checked: which images it has, and the tree of each. The door between the format's modules and the
//! rest of the crate.

use sha1::{Digest, Sha1};

use crate::blob::{Blobs, Hash};
use crate::codec::Compression;
use crate::error::WimError;
use crate::header::{HEADER_LEN, Header};
use crate::metadata::{self, MAX_METADATA};
use crate::resource::{read, read_whole};
use crate::source::ReadAt;
use crate::tree::{Inode, Kind, Tree};
use crate::xml::{self, ImageInfo, MAX_XML};

/// An opened WIM.
pub struct Wim {
    pub(crate) source: Box<dyn ReadAt>,
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
    /// When it is cut short, damaged, or of a kind that is not supported.
    pub fn open(source: Box<dyn ReadAt>) -> Result<Wim, WimError> {
        let len = source.size().min(HEADER_LEN as u64);
        let header = Header::parse(&read(&*source, 0, len)?, source.size())?;
        let blobs = Blobs::read(&*source, &header)?;
        let format = (header.compression, header.chunk_size);
        // A number still chooses an image where its name cannot be read.
        let mut known = read_whole(&*source, &header.xml, format, "the XML data", MAX_XML)
            .map(|x| xml::parse(&x))
            .unwrap_or_default();
        let images = (1..=header.images)
            .map(|index| known.remove(&index).unwrap_or(ImageInfo { index, ..ImageInfo::default() }))
            .collect();
        Ok(Wim { source, header, blobs, images })
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its own length in bytes, however much longer the device is that it lies on.
    pub fn length(&self) -> u64 {
        let header = &self.header;
        [header.blob_table.end(), header.xml.end(), header.integrity.end(), self.blobs.end]
            .into_iter()
            .fold(HEADER_LEN as u64, u64::max)
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
        let found = match wanted {
            None if self.header.boot_index > 0 => Some(self.header.boot_index),
            None => self.images.first().map(|i| i.index),
            Some(wanted) => {
                let by_number = wanted.parse().ok().filter(|n| self.images.iter().any(|i| i.index == *n));
                by_number.or_else(|| self.images.iter().find(|i| i.name == wanted).map(|i| i.index))
            }
        };
        found.ok_or_else(|| self.no_image(wanted.unwrap_or("1")))
    }

    fn no_image(&self, wanted: &str) -> WimError {
        let shown = |i: &ImageInfo| match i.name.as_str() {
            "" => i.index.to_string(),
            name => format!("{} ({name:?})", i.index),
        };
        let present: Vec<String> = self.images.iter().map(shown).collect();
        let present = if present.is_empty() { "none at all".to_owned() } else { present.join(", ") };
        WimError::NoImage { wanted: wanted.to_owned(), present }
    }

    /// The tree of the image of this number.
    ///
    /// # Errors
    /// When its metadata is damaged, or it describes something impossible.
    pub fn tree(&self, index: u32) -> Result<Tree, WimError> {
        let position = usize::try_from(index).ok().and_then(|i| i.checked_sub(1));
        let metadata = position.and_then(|p| self.blobs.metadata.get(p));
        let (at, hash) = metadata.ok_or_else(|| self.no_image(&index.to_string()))?;
        let format = (self.header.compression, self.header.chunk_size);
        let bytes = read_whole(&*self.source, at, format, "the metadata of the image", MAX_METADATA)?;
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
