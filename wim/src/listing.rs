//! An image opened to look into, of any format: its tree, its contents one by one, and a part of it into a folder. For
//! the host: `list`, `diff` and `extract`.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use crate::archive::{Archive, Failure as ArchiveFailure};
use crate::contents::{Contents, Unread, source_order};
use crate::error::{Error, TargetError, WimError};
use crate::name::shown;
use crate::reader::Wim;
use crate::reparse;
use crate::root::{self, Format, Opened, Progress, Report, UnpackOptions};
use crate::target::Target;
use crate::tree::{Inode, Kind, Tree};
use crate::unpack::{self, Prepared};

/// How to open an image.
#[derive(Clone, Copy, Default)]
pub struct ListingOptions<'a> {
    /// Number or name of the image in a WIM; `None` takes the one marked for booting, or the first.
    pub index: Option<&'a str>,
    /// Whether [`Inode::sha1`] is wanted: an archive does not have it, and its contents are hashed then.
    pub hash: bool,
    /// Called now and then while an archive is walked through.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

/// An image and its tree.
pub struct Listing {
    path: PathBuf,
    tree: Tree,
    /// Every name but the root's, those of a directory together, by bytes.
    order: Vec<u32>,
    from: From,
}

enum From {
    Wim(Box<Wim>),
    Archive {
        archive: Archive,
        sizes: Vec<u64>,
        targets: HashMap<u32, Vec<u8>>,
        /// Number of the entry that brings an inode's contents.
        brought: Vec<u64>,
    },
}

/// A path that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The name of the directory that was found last.
    pub within: u32,
    /// What is not in there.
    pub name: Vec<u8>,
}

fn at<T: Copy>(of: &[T], index: u32) -> Option<T> {
    of.get(usize::try_from(index).ok()?).copied()
}

impl Listing {
    /// Opens the image at `path`. Of a WIM the metadata alone is read; an archive is walked through once.
    ///
    /// # Errors
    /// When it cannot be read, is of no known format, damaged, or has no such image.
    pub fn open(path: &Path, options: &ListingOptions<'_>) -> Result<Listing, Error> {
        let (tree, from) = match root::opened(path)?.0 {
            Opened::Wim(wim) => {
                let in_wim = |source| Error::Wim { path: path.to_owned(), source };
                let index = wim.select(options.index).map_err(in_wim)?;
                (wim.tree(index).map_err(in_wim)?, From::Wim(wim))
            }
            Opened::Archive(archive) => {
                root::check_only(path, options.index)?;
                let listed = archive.list(options.hash, options.progress);
                let listed = listed.map_err(|source| Error::Archive { path: path.to_owned(), source })?;
                let (sizes, targets, brought) = (listed.sizes, listed.targets, listed.brought);
                (listed.tree, From::Archive { archive, sizes, targets, brought })
            }
        };
        let mut order: Vec<u32> = (1..u32::try_from(tree.names.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by_key(|n| tree.name(*n).map(|name| (name.parent, &*name.name)));
        Ok(Listing { path: path.to_owned(), tree, order, from })
    }

    /// Which format it is.
    pub fn format(&self) -> Format {
        match &self.from {
            From::Wim(_) => Format::Wim,
            From::Archive { archive, .. } => archive.format(),
        }
    }

    /// Its tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What a name stands for, and the number of that.
    pub fn inode(&self, name: u32) -> Option<(u32, &Inode)> {
        let number = self.tree.name(name)?.inode;
        Some((number, self.tree.inode(number)?))
    }

    /// Bytes of a file's contents; 0 of what is no file.
    pub fn size(&self, inode: u32) -> u64 {
        match &self.from {
            From::Wim(wim) => self.tree.inode(inode).map_or(0, |inode| wim.file_size(inode)),
            From::Archive { sizes, .. } => at(sizes, inode).unwrap_or(0),
        }
    }

    /// The names in a directory, ordered by their bytes.
    pub fn children(&self, directory: u32) -> &[u32] {
        let parent = |n: &u32| self.tree.name(*n).map_or(u32::MAX, |name| name.parent);
        let begin = self.order.partition_point(|n| parent(n) < directory);
        let end = self.order.partition_point(|n| parent(n) <= directory);
        self.order.get(begin..end).unwrap_or_default()
    }

    /// The name at a path; empty parts of it and `.` are passed over, links are not followed.
    ///
    /// # Errors
    /// When there is none: where the way ends.
    pub fn find(&self, path: &[u8]) -> Result<u32, Missing> {
        let mut here = 0;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            let children = self.children(here);
            let found = children.binary_search_by(|n| self.tree.name(*n).map_or(&b""[..], |name| &name.name).cmp(part));
            let child = found.ok().and_then(|n| children.get(n));
            here = *child.ok_or_else(|| Missing { within: here, name: part.to_vec() })?;
        }
        Ok(here)
    }

    fn in_wim(&self, source: WimError) -> Error {
        Error::Wim { path: self.path.clone(), source }
    }

    /// The targets of symbolic links, by inode.
    ///
    /// # Errors
    /// When they cannot be read or are no targets.
    pub fn targets(&self, inodes: &[u32]) -> Result<HashMap<u32, Vec<u8>>, Error> {
        let wim = match &self.from {
            From::Archive { targets, .. } => {
                return Ok(inodes.iter().filter_map(|n| Some((*n, targets.get(n)?.clone()))).collect());
            }
            From::Wim(wim) => wim,
        };
        let missing = |n: u32| self.in_wim(WimError::MissingBlob { file: shown(&self.tree.path_of(n)) });
        let mut links = Vec::new();
        for number in inodes {
            let Some(inode) = self.tree.inode(*number) else { continue };
            if let Kind::Symlink(tag) = inode.kind {
                let blob = wim.blobs.by_hash.get(&inode.hash).copied().ok_or_else(|| missing(*number))?;
                links.push((source_order(wim, &blob), blob, tag, *number));
            }
        }
        links.sort_unstable_by_key(|(order, ..)| *order);
        let mut contents = Contents::new(wim);
        let mut found = HashMap::new();
        for (_, blob, tag, number) in links {
            let file = || shown(&self.tree.path_of(number));
            let mut data = Vec::new();
            if blob.size <= reparse::MAX_DATA {
                let read = contents.read(&blob, |piece| {
                    data.extend_from_slice(piece);
                    Ok::<_, Unread>(())
                });
                read.map_err(|unread| self.in_wim(unread.of(file)))?;
            }
            let why = "it is a link without a sound target";
            let target = reparse::target(tag, &data);
            found.insert(number, target.ok_or_else(|| self.in_wim(WimError::Entry { path: file(), why }))?);
        }
        Ok(found)
    }

    /// Writes the contents of a regular file to `out`, as they come: only at their end it is known whether they have
    /// their SHA-1. Gives their size.
    ///
    /// # Errors
    /// When the image is damaged, or `out` fails ([`TargetError::Io`]).
    pub fn write_file(&self, inode: u32, out: &mut dyn Write) -> Result<u64, Error> {
        let cannot = |source| TargetError::Io { path: "the output".into(), action: "write to", source };
        let size = self.size(inode);
        if size == 0 {
            return Ok(0);
        }
        match &self.from {
            From::Wim(wim) => {
                let file = || shown(&self.tree.path_of(inode));
                let hash = self.tree.inode(inode).map(|i| i.hash).unwrap_or_default();
                let missing = || self.in_wim(WimError::MissingBlob { file: file() });
                let blob = wim.blobs.by_hash.get(&hash).ok_or_else(missing)?;
                let mut hasher = Sha1::new();
                let written = Contents::new(wim).read(blob, |piece| {
                    hasher.update(piece);
                    out.write_all(piece).map_err(|e| Stop::Output(cannot(e)))
                });
                written.map_err(|stop| match stop {
                    Stop::Input(unread) => self.in_wim(unread.of(file)),
                    Stop::Output(error) => error.into(),
                })?;
                if <[u8; 20]>::from(hasher.finalize()) != hash {
                    return Err(self.in_wim(WimError::Hash { file: file() }));
                }
            }
            From::Archive { archive, brought, .. } => {
                let entry = at(brought, inode).unwrap_or(0);
                let written = archive.write_entry(entry, &mut |piece| out.write_all(piece).map_err(cannot));
                written.map_err(|failure| self.in_archive(failure))?;
            }
        }
        Ok(size)
    }

    fn in_archive(&self, failure: ArchiveFailure) -> Error {
        match failure {
            ArchiveFailure::Archive(source) => Error::Archive { path: self.path.clone(), source },
            ArchiveFailure::Target(error) => error.into(),
        }
    }

    /// Unpacks these names, each under its own, with all below them, into the existing directory `target`, which may
    /// hold other things. Of a WIM only the chunks that are needed are read; an archive is walked through.
    ///
    /// # Errors
    /// When a name is there already, known before anything is written; else as [`root::Root::unpack`].
    pub fn extract(&self, names: &[u32], target: &Path, options: &UnpackOptions<'_>) -> Result<Report, Error> {
        let target = Target::open_beside(target)?;
        let within = target.directory(b"")?;
        for name in names.iter().filter_map(|n| self.tree.name(*n)) {
            let at = within.entry(&name.name, &name.name);
            if target.look(&at)?.is_some() {
                return Err(target.failed("create", &name.name, std::io::ErrorKind::AlreadyExists).into());
            }
        }
        let (part, origin) = self.tree.part(names);
        match &self.from {
            From::Wim(wim) => {
                let prepared = Prepared::of(wim, part).map_err(|source| self.in_wim(source))?;
                // A part of an image is no reason to destroy it.
                let report = prepared.unpack(wim, None, &target, options).map_err(|failure| match failure {
                    unpack::Failure::Image(source) => self.in_wim(source),
                    unpack::Failure::Target(error) => error.into(),
                })?;
                // The root of the part was there.
                Ok(Report { entries: report.entries.saturating_sub(1), ..report })
            }
            From::Archive { archive, targets, sizes, brought } => {
                let order = crate::archive::Extract { tree: &part, origin: &origin, targets, sizes, brought };
                archive.extract(&order, &target, options).map_err(|failure| self.in_archive(failure))
            }
        }
    }
}

enum Stop {
    Input(Unread),
    Output(TargetError),
}

impl std::convert::From<Unread> for Stop {
    fn from(unread: Unread) -> Stop {
        Stop::Input(unread)
    }
}
