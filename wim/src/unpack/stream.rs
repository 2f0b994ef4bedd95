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

mod reader;

use std::collections::HashMap;
use std::io::Read;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::assembly::Assembly;
use super::plan::{Item, JOB, Plan};
use super::queue::Queue;
use super::worker::Sink;
use super::{Failure, OpenDirectories, Placer, report};
use crate::blob::{Blob, Hash, Location};
use crate::bytes::u32_at;
use crate::codec::{Codec, Compression};
use crate::error::WimError;
use crate::header::{HEADER_LEN, Header};
use crate::metadata::{self, MAX_METADATA};
use crate::name::shown;
use crate::notes::Notes;
use crate::pipable::{self, BlobHeader, Forward, Next, Stream};
use crate::reader::{images, select};
use crate::resource::{Layout, resize};
use crate::root::{Need, Report, UnpackOptions};
use crate::target::Target;
use crate::tree::{Kind, Tree};
use crate::xml::MAX_XML;
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
    pub(crate) fn open(head: Vec<u8>, rest: Box<dyn Read + Send>, wanted: Option<&str>) -> Result<Piped, WimError> {
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
        Ok(Piped { input, header, tree, claim })
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
        let Piped { input, header, tree, claim } = self;
        let notes = Notes::default();
        let placer = Placer { tree: &tree, target, notes: &notes };
        placer.make_directories()?;
        let sink = Sink::new(&plan, &placer, options.progress);
        let mut open = OpenDirectories::default();
        for inode in &plan.bare {
            sink.bare(&mut open, *inode)?;
        }
        drop(open);
        let pool = Pool {
            sink,
            layout: header.layout(),
            queue: Queue::new(workers.get()),
            job,
            spare: Mutex::new(Vec::new()),
            failure: Mutex::new(None),
        };
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

/// Bytes as they came, for one worker.
enum Job {
    /// Whole contents, each in a range of the bytes.
    Batch { items: Vec<(Item, Range<usize>, bool)>, bytes: Vec<u8> },
    /// Some chunks of large contents, which unpack to `len` bytes at `offset`.
    Part { item: Item, assembly: Arc<Assembly>, offset: u64, len: u64, is_compressed: bool, bytes: Vec<u8> },
}

/// What reader and workers share.
struct Pool<'a> {
    sink: Sink<'a>,
    layout: Layout,
    queue: Queue<Job>,
    /// Bytes of a job's input.
    job: usize,
    /// Buffers of jobs that are done.
    spare: Mutex<Vec<Vec<u8>>>,
    failure: Mutex<Option<Failure>>,
}

/// Buffers and handles of one worker.
#[derive(Default)]
struct Worker {
    codec: Codec,
    out: Vec<u8>,
    open: OpenDirectories,
}

/// Stops all others when a worker, or the reader, panics: they may wait for it.
struct StopOnPanic<'a>(&'a Pool<'a>, Option<Arc<Assembly>>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(self.1.as_deref());
        }
    }
}

impl Pool<'_> {
    /// Jobs leave the queue in order, so whoever waits for an earlier part of its contents waits for a worker that has
    /// it, and that either does it or comes here.
    fn stop(&self, assembly: Option<&Assembly>) {
        self.queue.stop();
        if let Some(assembly) = assembly {
            assembly.stop();
        }
    }

    fn fail(&self, failure: Failure, assembly: Option<&Assembly>) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.stop(assembly);
    }

    fn buffer(&self) -> Vec<u8> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // In one piece from the start: a buffer that grows is copied, and for a moment there twice.
        spare.unwrap_or_else(|| Vec::with_capacity(self.job))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    fn work(&self) {
        let mut worker = Worker::default();
        while let Some(job) = self.queue.pop() {
            let assembly = if let Job::Part { assembly, .. } = &job { Some(Arc::clone(assembly)) } else { None };
            let guard = StopOnPanic(self, assembly);
            let (bytes, result) = match job {
                Job::Batch { items, bytes } => {
                    let result = items.iter().try_for_each(|(item, range, is_compressed)| {
                        let stored = bytes.get(range.clone()).unwrap_or_default();
                        self.whole(&mut worker, item, stored, *is_compressed)
                    });
                    (bytes, result)
                }
                Job::Part { item, assembly, offset, len, is_compressed, bytes } => {
                    let result = self.part(&mut worker, &item, &assembly, (offset, len), &bytes, is_compressed);
                    (bytes, result)
                }
            };
            if let Err(failure) = result {
                self.fail(failure, guard.1.as_deref());
            }
            self.give_back(bytes);
        }
    }

    fn whole(&self, worker: &mut Worker, item: &Item, stored: &[u8], is_compressed: bool) -> Result<(), Failure> {
        let Worker { codec, out, open } = worker;
        if !is_compressed {
            return self.sink.whole(open, item, stored);
        }
        self.unpack(codec, item, stored, item.blob.size, out)?;
        self.sink.whole(open, item, out)
    }

    fn part(
        &self,
        worker: &mut Worker,
        item: &Item,
        assembly: &Assembly,
        (offset, len): (u64, u64),
        stored: &[u8],
        is_compressed: bool,
    ) -> Result<(), Failure> {
        let Worker { codec, out, open } = worker;
        if !is_compressed {
            return self.sink.piece(open, item, assembly, offset, stored);
        }
        self.unpack(codec, item, stored, len, out)?;
        self.sink.piece(open, item, assembly, offset, out)
    }

    /// Chunks with their lengths before them, into the whole of `out`.
    fn unpack(
        &self,
        codec: &mut Codec,
        item: &Item,
        mut stored: &[u8],
        len: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), WimError> {
        let Layout { compression, chunk_size, .. } = self.layout;
        let bad = || self.sink.item_error(item);
        resize(out, len)?;
        for out in out.chunks_mut(usize::try_from(chunk_size).unwrap_or(usize::MAX).max(1)) {
            let chunk = usize::try_from(u32_at(stored, 0).ok_or_else(bad)?).map_err(|_| bad())?;
            let (chunk, rest) = stored.get(4..).and_then(|rest| rest.split_at_checked(chunk)).ok_or_else(bad)?;
            codec.chunk(compression, chunk_size, chunk, out).map_err(|_| bad())?;
            stored = rest;
        }
        Ok(())
    }
}
