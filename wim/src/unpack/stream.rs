//! Unpacking a pipable WIM while it arrives. One thread reads forward and hands contents to the workers, through a
//! queue that makes it wait when they do; they do with them what they do with those of a file. Nothing is read twice,
//! and nothing of what the chosen image does not need is kept.
//!
//! ```text
//!   pipe, socket ──► header, XML, metadata ──► tree        (Piped::open)
//!             └────► reader: blob by blob ──► queue ──► worker │ worker │ …   unpack, hash, create, write
//! ```
//!
//! A stream does not say in advance how large its contents are, but for what its XML data claims. Room is made by the
//! claim, and contents that exceed it end the unpacking.

mod pool;
mod reader;

use std::collections::HashMap;
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::PoisonError;

use super::plan::{Item, JOB, Plan};
use super::sink::Sink;
use super::{Failure, OpenDirectories, Placer, report};
use crate::blob::{Blob, Hash, Location};
use crate::codec::{Codec, Compression};
use crate::error::WimError;
use crate::header::{HEADER_LEN, Header};
use crate::incoming::GiveUp;
use crate::metadata::{self, MAX_METADATA};
use crate::name::shown;
use crate::notes::Notes;
use crate::pipable::{self, BlobHeader, Forward, Next, Stream};
use crate::reader::{images, select};
use crate::resource::Layout;
use crate::root::{Need, Report, UnpackOptions};
use crate::target::Target;
use crate::tree::{Kind, Tree};
use crate::xml::MAX_XML;
use pool::{Pool, StopOnPanic};
use reader::Reader;

/// Memory for jobs and decompressors, unless the caller grants another sum: with metadata of a usual size, the whole
/// stays below 32 MiB over the tree.
const BUDGET: u64 = 24 << 20;
/// The largest chunk that is taken from a stream: it is held four times (being read, waiting, being unpacked,
/// unpacked). wimlib's own default is 128 KiB at most.
const MAX_CHUNK: u32 = 4 << 20;
/// Bytes of a link's reparse data in which a target may lie that takes a page of tmpfs: twice 128 units of UTF-16.
const LONG_LINK: u64 = 512;

/// A pipable WIM of which header, XML data and metadata have arrived.
pub(crate) struct Piped {
    input: Stream,
    /// How the thread that reads is let go, where it can be.
    give_up: Option<GiveUp>,
    header: Header,
    tree: Tree,
    /// Bytes of all contents of the chosen image, by the XML data.
    claim: u64,
}

impl std::fmt::Debug for Piped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piped").field("header", &self.header).field("claim", &self.claim).finish_non_exhaustive()
    }
}

impl Piped {
    /// Reads as far as the metadata of the image that `wanted` names. `head` was read from the stream already.
    pub(crate) fn open(
        head: Vec<u8>,
        rest: Box<dyn Read + Send>,
        give_up: Option<GiveUp>,
        wanted: Option<&str>,
    ) -> Result<Piped, WimError> {
        let mut input = Stream::new(Box::new(std::io::Cursor::new(head).chain(rest)));
        let mut bytes = [0; HEADER_LEN];
        input.exact(&mut bytes, "the header")?;
        // The places in it are not known yet where it is written.
        let header = Header::parse(&bytes, u64::MAX)?;
        let layout = header.layout();
        if !header.pipable {
            return Err(WimError::Unsupported {
                what: "a WIM that is not pipable, from a pipe,".into(),
                remedy: "convert it with `wimlib-imagex export IN.wim all OUT.wim --pipable`, or give its file",
            });
        }
        if header.part != 1 {
            return Err(WimError::Unsupported {
                what: format!("a stream that begins with part {} of {}", header.part, header.parts),
                remedy: "send all parts, the first one first",
            });
        }
        if header.compression != Compression::None && header.chunk_size > MAX_CHUNK {
            return Err(WimError::Unsupported {
                what: format!("a stream in chunks of {} bytes", header.chunk_size),
                remedy: "export it with chunks of at most 4 MiB, or give its file",
            });
        }
        let xml = metadata_blob(&mut input, layout, "the XML data")?;
        let xml = pipable::read_whole(&mut input, &xml, layout, "the XML data", MAX_XML)?;
        let images = images(&header, &xml);
        let index = select(&header, &images, wanted)?;
        let mut tree = None;
        for image in &images {
            let blob = metadata_blob(&mut input, layout, "the metadata of an image")?;
            if image.index == index {
                let what = "the metadata of the image";
                let bytes = pipable::read_whole(&mut input, &blob, layout, what, MAX_METADATA)?;
                let claim = image.claimed_bytes.ok_or_else(|| WimError::Unsupported {
                    what: "a stream whose XML data does not say how many bytes the image has (TOTALBYTES)".into(),
                    remedy: "give its file",
                })?;
                tree = Some((metadata::parse(&bytes)?, claim));
            } else {
                pipable::skip(&mut input, &blob, layout)?;
            }
        }
        let (tree, claim) =
            tree.ok_or_else(|| WimError::NoImage { wanted: index.to_string(), present: String::new() })?;
        Ok(Piped { input, give_up, header, tree, claim })
    }

    /// The room that the tree takes, by the claim: at most, since how its bytes are spread over files is not known.
    pub(crate) fn need(&self, options: &UnpackOptions<'_>) -> Need {
        let count =
            |is: fn(&Kind) -> bool| self.tree.inodes.iter().filter(|i| is(&i.kind) && i.hash != [0; 20]).count();
        let files = count(|kind| *kind == Kind::File) as u64;
        let links = count(|kind| matches!(kind, Kind::Symlink(_))) as u64;
        let tails = files.saturating_mul(4095).saturating_add(links.min(self.claim / LONG_LINK).saturating_mul(4096));
        let per_inode =
            (size_of::<(Hash, Item)>() as u64).saturating_add(4).saturating_mul(files.saturating_add(links));
        Need {
            bytes: self.claim.saturating_add(tails),
            inodes: self.tree.names.len() as u64,
            xattrs: self.tree.xattr_room(),
            working: self.tree.memory().saturating_add(per_inode).saturating_add(self.memory(self.workers(options))),
            freed: 0,
        }
    }

    /// Bytes of a job's input, and of what it unpacks to; a little more for the lengths of chunks.
    fn job(&self) -> u64 {
        let chunk = if self.header.compression == Compression::None { 0 } else { u64::from(self.header.chunk_size) };
        JOB.max(chunk).saturating_add(JOB / 512)
    }

    /// Memory of the jobs that are there at once: one with the reader, and for every worker one that waits, one in its
    /// hands, and what that unpacks to.
    fn memory(&self, workers: NonZeroUsize) -> u64 {
        let per_worker = self.job().saturating_mul(3).saturating_add(Codec::MEMORY);
        self.job().saturating_add(per_worker.saturating_mul(workers.get() as u64))
    }

    fn workers(&self, options: &UnpackOptions<'_>) -> NonZeroUsize {
        let wanted = options.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let budget = options.memory_budget.unwrap_or(BUDGET);
        let (one, two) = (self.memory(NonZeroUsize::MIN), self.memory(NonZeroUsize::MIN.saturating_add(1)));
        let more = budget.saturating_sub(one).checked_div(two.saturating_sub(one)).unwrap_or(0);
        wanted.min(NonZeroUsize::MIN.saturating_add(usize::try_from(more).unwrap_or(usize::MAX)))
    }

    pub(crate) fn unpack(self, target: &Target, options: &UnpackOptions<'_>) -> Result<Report, Failure> {
        let workers = self.workers(options);
        target.check_room(self.claim)?;
        let (plan, wanted) = self.plan()?;
        let job = usize::try_from(self.job()).unwrap_or(0);
        let Piped { input, give_up, header, tree, claim } = self;
        let notes = Notes::default();
        let placer = Placer { tree: &tree, target, notes: &notes };
        placer.make_directories()?;
        let sink = Sink::new(&plan, &placer, options.progress);
        let mut open = OpenDirectories::default();
        for inode in &plan.bare {
            sink.bare(&mut open, *inode)?;
        }
        drop(open);
        let pool = Pool::new(sink, header.layout(), workers, job, give_up);
        let mut reader = Reader::new(input, header, &tree, &plan, wanted, &pool, claim);
        std::thread::scope(|scope| {
            let _guard = StopOnPanic(&pool, None);
            let mut running = 0_usize;
            for n in 0..workers.get() {
                let thread = std::thread::Builder::new().name(format!("unpack {n}"));
                // A thread that cannot be had is one worker less.
                running = running.saturating_add(thread.spawn_scoped(scope, || pool.work()).is_ok().into());
            }
            let read = if running > 0 { reader.run() } else { Err(no_thread()) };
            match read {
                Ok(()) => pool.queue.close(),
                Err(failure) => pool.fail(failure, None),
            }
        });
        let Reader { bytes, is_whole, .. } = reader;
        pool.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)?;
        placer.finish_directories()?;
        let mut report = report(&tree, notes, bytes, workers);
        if !is_whole {
            let note = "the stream ended before the image did; all contents had come, and were checked";
            report.notes.push(note.into());
        }
        Ok(report)
    }

    /// Whom contents are for, by their hash. Where they lie, and how large they are, is told when they come.
    fn plan(&self) -> Result<(Plan, HashMap<Hash, Item>), WimError> {
        let mut plan = Plan { total: self.claim, ..Plan::default() };
        let mut users: HashMap<Hash, Vec<u32>> = HashMap::new();
        for (inode, n) in self.tree.inodes.iter().zip(0_u32..) {
            match inode.kind {
                Kind::Directory => {}
                Kind::Special(_) => plan.bare.push(n),
                Kind::File if inode.hash == [0; 20] => plan.bare.push(n),
                Kind::Symlink(_) if inode.hash == [0; 20] => return Err(bad_link(&self.tree, n)),
                Kind::File | Kind::Symlink(_) => users.entry(inode.hash).or_default().push(n),
            }
        }
        let mut wanted = HashMap::with_capacity(users.len());
        for (hash, inodes) in users {
            let begin = plan.users.len();
            plan.users.extend(inodes);
            let blob = Blob { part: 1, location: Location::Stored { offset: 0 }, size: 0 };
            wanted.insert(hash, Item { hash, blob, users: (begin, plan.users.len()), assembly: None });
        }
        Ok((plan, wanted))
    }
}

fn bad_link(tree: &Tree, inode: u32) -> WimError {
    WimError::Entry { path: shown(&tree.path_of(inode)), why: "it is a link without a sound target" }
}

fn no_thread() -> Failure {
    Failure::Image(WimError::NoMemory { bytes: 2 << 20 })
}

/// The header of the resource that must come now, of an image's metadata or of XML data.
fn metadata_blob(input: &mut Stream, layout: Layout, what: &'static str) -> Result<BlobHeader, WimError> {
    let offset = input.at();
    match pipable::next(input, layout)? {
        Next::Blob(blob) if blob.is_metadata() => Ok(blob),
        _ => Err(WimError::Damaged { what, offset, why: "something else is in its place".into() }),
    }
}
