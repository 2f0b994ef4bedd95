//! The thread that reads a stream: forward, once, from one resource to the next. What the tree needs goes into jobs,
//! everything else is passed over; what stands behind the contents is checked where it comes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use super::pool::{Job, Pool};
use super::{Failure, bad_link};
use crate::blob::{Blob, Hash};
use crate::error::WimError;
use crate::header::{HEADER_LEN, Header, ResourceHeader};
use crate::pipable::{self, BlobHeader, Forward, Next, Stream, chunk_len, chunk_sizes};
use crate::reparse;
use crate::tree::{Kind, Tree};
use crate::unpack::assembly::Assembly;
use crate::unpack::plan::{Item, JOB, Plan};

/// The thread that reads. Its errors are of the image; that the workers have failed is no error of its own.
pub(super) struct Reader<'a> {
    input: Stream,
    header: Header,
    tree: &'a Tree,
    plan: &'a Plan,
    wanted: HashMap<Hash, Item>,
    pool: &'a Pool<'a>,
    claim: u64,
    /// Of the claim, what has come.
    used: u64,
    /// Of that, the contents of files.
    pub(super) bytes: u64,
    batch: Vec<(Item, Range<usize>, bool)>,
    batch_bytes: Vec<u8>,
    /// What the batch unpacks to.
    batch_out: u64,
    part: Part,
    /// The last header came.
    pub(super) is_whole: bool,
}

/// How far a part of a split stream has come.
struct Part {
    number: u16,
    /// Where it begins in the stream.
    begin: u64,
    /// Where in it the latest resource of metadata lies that came, and its length: at the end, XML data and blob table.
    metadata: [(u64, u64); 2],
    is_over: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        input: Stream,
        header: Header,
        tree: &'a Tree,
        plan: &'a Plan,
        wanted: HashMap<Hash, Item>,
        pool: &'a Pool<'a>,
        claim: u64,
    ) -> Reader<'a> {
        let part = Part { number: 1, begin: 0, metadata: [(0, 0); 2], is_over: false };
        let (batch, batch_bytes) = (Vec::new(), Vec::new());
        Reader {
            input,
            header,
            tree,
            plan,
            wanted,
            pool,
            claim,
            used: 0,
            bytes: 0,
            batch,
            batch_bytes,
            batch_out: 0,
            part,
            is_whole: false,
        }
    }

    /// Reads to the end of the image. Where the stream ends before, all contents must have come.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        loop {
            match self.step() {
                Ok(Step::More) => {}
                Ok(Step::Stopped) => return Ok(()),
                Ok(Step::End) => {
                    self.is_whole = true;
                    break;
                }
                Err(WimError::Truncated { available, .. }) => {
                    if let Some((file, others)) = self.missing() {
                        return Err(WimError::StreamEnded { after: available, file, others }.into());
                    }
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        match self.missing() {
            Some((file, _)) => Err(WimError::MissingBlob { file }.into()),
            None => Ok(()),
        }
    }

    /// One of the contents that have not come, by the first file that has them, and the number of the others.
    fn missing(&self) -> Option<(String, u64)> {
        let first = self.wanted.values().min_by_key(|item| self.plan.users(item).first().copied())?;
        Some((self.plan.shown_user(first, self.tree), (self.wanted.len() as u64).saturating_sub(1)))
    }

    fn step(&mut self) -> Result<Step, WimError> {
        let layout = self.pool.layout;
        let blob = match pipable::next(&mut self.input, layout)? {
            Next::Header(bytes) => return self.next_header(&bytes),
            Next::Blob(blob) => blob,
        };
        if blob.is_metadata() {
            self.pass_metadata(&blob)?;
            return Ok(Step::More);
        }
        let Some(item) = self.wanted.get(&blob.hash).copied() else {
            pipable::skip(&mut self.input, &blob, layout)?;
            return Ok(Step::More);
        };
        let item = Item { blob: Blob { size: blob.size, ..item.blob }, ..item };
        self.account(&item)?;
        let goes_on = if blob.size > JOB { self.large(item, &blob)? } else { self.small(item, &blob)? };
        // Not before: until now it could have been cut.
        self.wanted.remove(&blob.hash);
        if !goes_on || (self.wanted.is_empty() && !self.flush()) {
            return Ok(Step::Stopped);
        }
        pipable::skip_table(&mut self.input, &blob, layout)?;
        Ok(Step::More)
    }

    /// That the contents are within what was claimed, before they are written.
    fn account(&mut self, item: &Item) -> Result<(), WimError> {
        let users = self.plan.users(item);
        let size = item.blob.size;
        let all = size.checked_mul(users.len() as u64).and_then(|all| all.checked_add(self.used));
        self.used = all
            .filter(|used| *used <= self.claim)
            .ok_or_else(|| WimError::Claim { claimed: self.claim, file: self.plan.shown_user(item, self.tree) })?;
        for user in users {
            match self.tree.inode(*user).map(|inode| inode.kind) {
                Some(Kind::Symlink(_)) if size > reparse::MAX_DATA => return Err(bad_link(self.tree, *user)),
                Some(Kind::File) => self.bytes = self.bytes.saturating_add(size),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whole contents join those that wait to be a job; `false` where nobody takes jobs any more.
    fn small(&mut self, item: Item, blob: &BlobHeader) -> Result<bool, WimError> {
        if self.batch_out.saturating_add(blob.size) > JOB && !self.flush() {
            return Ok(false);
        }
        if self.batch_bytes.capacity() == 0 {
            self.batch_bytes = self.pool.buffer();
        }
        let begin = self.batch_bytes.len();
        let chunks = chunk_sizes(blob.size, self.pool.layout.chunk_size);
        if blob.is_compressed() {
            chunks.into_iter().try_for_each(|size| take_chunk(&mut self.input, &mut self.batch_bytes, size))?;
        } else {
            take(&mut self.input, &mut self.batch_bytes, blob.size)?;
        }
        self.batch.push((item, begin..self.batch_bytes.len(), blob.is_compressed()));
        self.batch_out = self.batch_out.saturating_add(blob.size);
        Ok(true)
    }

    /// Hands over what has gathered; `false` where nobody takes it.
    fn flush(&mut self) -> bool {
        self.batch_out = 0;
        let (items, bytes) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.batch_bytes));
        items.is_empty() || self.pool.queue.push(Job::Batch { items, bytes })
    }

    /// Large contents are handed over part by part, as they come.
    fn large(&mut self, item: Item, blob: &BlobHeader) -> Result<bool, WimError> {
        if !self.flush() {
            return Ok(false);
        }
        let is_compressed = blob.is_compressed();
        let chunk_size = if is_compressed { u64::from(self.pool.layout.chunk_size.max(1)) } else { JOB };
        let part_size = chunk_size.max(JOB.saturating_sub(JOB.checked_rem(chunk_size).unwrap_or(0)));
        let assembly = Arc::new(Assembly::default());
        let mut offset = 0;
        while offset < blob.size {
            let len = part_size.min(blob.size.saturating_sub(offset));
            let mut bytes = self.pool.buffer();
            let read = if is_compressed {
                let chunks = chunk_sizes(len, self.pool.layout.chunk_size);
                chunks.into_iter().try_for_each(|size| take_chunk(&mut self.input, &mut bytes, size))
            } else {
                take(&mut self.input, &mut bytes, len)
            };
            read?;
            let job = Job::Part { item, assembly: Arc::clone(&assembly), offset, len, is_compressed, bytes };
            if !self.pool.queue.push(job) {
                return Ok(false);
            }
            offset = offset.saturating_add(len);
        }
        Ok(true)
    }

    /// Blob table and XML data are not needed any more, but where they come, they must be sound.
    fn pass_metadata(&mut self, blob: &BlobHeader) -> Result<(), WimError> {
        let place = (self.input.at().saturating_sub(self.part.begin), blob.size);
        let [_, before] = self.part.metadata;
        self.part.metadata = [before, place];
        if blob.is_compressed() {
            return pipable::skip(&mut self.input, blob, self.pool.layout);
        }
        let (mut hasher, mut buffer, mut left) = (Sha1::new(), [0; 8 << 10], blob.size);
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..len).unwrap_or_default();
            self.input.exact(piece, "the blob table")?;
            hasher.update(&*piece);
            left = left.saturating_sub(len as u64);
        }
        if Hash::from(hasher.finalize()) == blob.hash {
            Ok(())
        } else {
            Err(WimError::Hash { file: "the blob table or the XML data".into() })
        }
    }

    /// The header at the end of a part, or at the start of the next one.
    fn next_header(&mut self, bytes: &[u8; HEADER_LEN]) -> Result<Step, WimError> {
        let end = self.input.at();
        let begin = end.saturating_sub(HEADER_LEN as u64);
        let damaged = |why: &str| WimError::Damaged { what: "the pipable WIM", offset: begin, why: why.into() };
        let header = Header::parse(bytes, begin.saturating_sub(self.part.begin))?;
        if (header.guid, header.parts) != (self.header.guid, self.header.parts) || header.layout() != self.pool.layout {
            return Err(damaged("it goes on with the header of another WIM"));
        }
        if !self.part.is_over && header.part == self.part.number {
            let place = |at: &ResourceHeader| (at.offset, at.size);
            if [place(&header.blob_table), place(&header.xml)] != self.part.metadata {
                return Err(damaged("its last header has other places of blob table and XML data than these have"));
            }
            self.part.is_over = true;
            return Ok(if header.part == header.parts { Step::End } else { Step::More });
        }
        if self.part.is_over && Some(header.part) == self.part.number.checked_add(1) {
            self.part = Part { number: header.part, begin, metadata: [(0, 0); 2], is_over: false };
            return Ok(Step::More);
        }
        Err(damaged(&format!("part {} comes after part {}; send them in order", header.part, self.part.number)))
    }
}

/// What became of a step forward.
enum Step {
    More,
    /// The image is over.
    End,
    /// The workers have failed.
    Stopped,
}

/// Adds `len` bytes to `bytes`.
fn take(input: &mut Stream, bytes: &mut Vec<u8>, len: u64) -> Result<(), WimError> {
    input.append(bytes, len, "the contents of a file")
}

/// Adds a chunk that unpacks to `unpacked` bytes, with its length before it.
fn take_chunk(input: &mut Stream, bytes: &mut Vec<u8>, unpacked: u64) -> Result<(), WimError> {
    let len = chunk_len(input, unpacked)?;
    bytes.extend(len.to_le_bytes());
    take(input, bytes, len.into())
}
