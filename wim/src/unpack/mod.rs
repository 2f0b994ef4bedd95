//! Unpacking a WIM: directories first, then contents by all workers in the order of the source, then what only holds
//! once a directory is full: its times and mode.
//!
//! ```text
//!   tree ──► directories ──► plan: jobs in source order ──► worker │ worker │ …   read, unpack, hash, create, write
//!                                                              └──────┴───► directories' owner, mode, times
//! ```

mod assembly;
pub(crate) mod consume;
mod plan;
mod queue;
mod room;
mod sink;
mod stream;
mod worker;

use std::num::NonZeroUsize;
use std::rc::Rc;

use crate::error::{TargetError, WimError};
use crate::notes::Notes;
use crate::reader::Wim;
use crate::root::{DEFAULT_MEMORY_BUDGET, Need, PLAIN_MEMORY_BUDGET, Report, UnpackOptions};
use crate::target::{Directory, Entry, Target};
use crate::tree::{Kind, Tree};
use consume::{Consumed, Holes};
use plan::{Job, Plan};
pub(crate) use stream::Piped;

/// Either side of an unpacking can fail.
#[derive(Debug)]
pub(crate) enum Failure {
    Image(WimError),
    Target(TargetError),
}

impl From<WimError> for Failure {
    fn from(error: WimError) -> Failure {
        Failure::Image(error)
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Failure {
        Failure::Target(error)
    }
}

/// A tree and the plan to unpack it.
#[derive(Debug)]
pub(crate) struct Prepared {
    tree: Tree,
    plan: Plan,
    need: Need,
}

impl Prepared {
    /// Reads the tree of image `index` and plans its unpacking; nothing is written yet.
    pub(crate) fn new(wim: &Wim, index: u32) -> Result<Prepared, WimError> {
        Prepared::of(wim, wim.tree(index)?)
    }

    /// Plans the unpacking of a tree, whose contents are in this WIM.
    pub(crate) fn of(wim: &Wim, tree: Tree) -> Result<Prepared, WimError> {
        let plan = Plan::new(wim, &tree)?;
        let need = Need {
            bytes: room::tmpfs_bytes(wim, &tree),
            // A name, not an inode, is what tmpfs counts (shmem_link, mm/shmem.c).
            inodes: tree.names.len() as u64,
            xattrs: tree.xattr_room(),
            working: tree.memory().saturating_add(plan.memory()),
            freed: 0,
        };
        Ok(Prepared { tree, plan, need })
    }

    /// What it takes, with `workers` or as many as there are processors.
    pub(crate) fn need(&self, wim: &Wim, options: &UnpackOptions<'_>) -> Need {
        let workers = self.workers(options);
        let buffers = self.plan.worker_memory.saturating_mul(workers.get() as u64);
        let freed = if options.consume { self.plan.freed(wim, &self.tree, window(workers, &self.plan)) } else { 0 };
        Need { working: self.need.working.saturating_add(buffers), freed, ..self.need }
    }

    /// As many as are asked for, and as the memory budget has buffers for; at least one.
    fn workers(&self, options: &UnpackOptions<'_>) -> NonZeroUsize {
        let wanted = options.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let usual = || match self.plan.is_solid() {
            true => DEFAULT_MEMORY_BUDGET,
            false => PLAIN_MEMORY_BUDGET.saturating_sub(self.need.working),
        };
        let budget = options.memory_budget.unwrap_or_else(usual);
        let affordable = budget.checked_div(self.plan.worker_memory).unwrap_or(u64::MAX);
        let useful = usize::try_from(affordable).unwrap_or(usize::MAX).min(self.plan.jobs.len());
        wanted.min(NonZeroUsize::new(useful).unwrap_or(NonZeroUsize::MIN))
    }

    /// Unpacks into `target`. With `holes`, those of its files, the image is freed as it goes.
    pub(crate) fn unpack(
        &self,
        wim: &Wim,
        holes: Option<Holes>,
        target: &Target,
        options: &UnpackOptions<'_>,
    ) -> Result<Report, Failure> {
        target.check_room(self.need.bytes)?;
        let notes = Notes::default();
        let placer = Placer { tree: &self.tree, target, notes: &notes };
        placer.make_directories()?;
        let workers = self.workers(options);
        let consumed = holes.map(|holes| Consumed::new(holes, window(workers, &self.plan)));
        worker::run(wim, &self.plan, &placer, workers, consumed.as_ref(), options.progress)?;
        placer.finish_directories()?;
        Ok(report(&self.tree, notes, self.plan.total, workers))
    }
}

/// What is told of a tree that was unpacked from `bytes` of contents.
fn report(tree: &Tree, notes: Notes, bytes: u64, workers: NonZeroUsize) -> Report {
    let mut words = notes.into_words();
    words.extend(tree.left_out.iter().map(|(what, n)| format!("left out: {n} {what}")));
    if tree.inodes.iter().any(|i| i.mode_by_rule) {
        words.push(
            "the image has no UNIX modes: directories are 0755, programs (ELF, #!) 0755, other files 0644, root's"
                .into(),
        );
    }
    Report {
        entries: tree.names.len() as u64,
        bytes,
        workers: u32::try_from(workers.get()).unwrap_or(u32::MAX),
        notes: words,
    }
}

/// Jobs that may be begun before the earliest of them is freed: as many as keep all workers busy when one takes longer.
/// Chunks of solid resources are large, and take about equally long.
fn window(workers: NonZeroUsize, plan: &Plan) -> usize {
    let each = if plan.jobs.iter().any(|job| matches!(job, Job::Solid { .. })) { 1 } else { 3 };
    workers.get().saturating_mul(each)
}

/// Puts entries of the tree where they belong.
struct Placer<'a> {
    tree: &'a Tree,
    target: &'a Target,
    notes: &'a Notes,
}

/// Directories that are open, by their names.
type OpenDirectories = crate::recent::OpenDirectories<u32>;

impl Placer<'_> {
    /// The directory of this name, opened unless it is open.
    fn directory(&self, open: &mut OpenDirectories, name: u32) -> Result<Rc<Directory>, TargetError> {
        open.get(&name, || self.target.directory(&self.tree.path(name)))
    }

    fn make_directories(&self) -> Result<(), TargetError> {
        let mut open = OpenDirectories::default();
        for (name, n) in self.tree.names.iter().zip(0_u32..).skip(1) {
            if self.tree.inode(name.inode).is_some_and(|i| i.kind == Kind::Directory) {
                let path = self.tree.path(n);
                self.target.make_directory(&self.directory(&mut open, name.parent)?.entry(&name.name, &path))?;
            }
        }
        Ok(())
    }

    /// What is below comes later in the tree, so going backwards changes no directory that is finished.
    fn finish_directories(&self) -> Result<(), TargetError> {
        let first = u32::from(self.tree.is_part);
        for n in (first..u32::try_from(self.tree.names.len()).unwrap_or(u32::MAX)).rev() {
            let inode = self.tree.name(n).and_then(|name| self.tree.inode(name.inode));
            if let Some(inode) = inode.filter(|i| i.kind == Kind::Directory) {
                let path = self.tree.path(n);
                self.target.finish(self.target.directory(&path)?, &path, &inode.meta, self.notes)?;
            }
        }
        Ok(())
    }

    /// Runs `create` on the first name of an inode; it says whether there is something to give the other names to.
    fn place(
        &self,
        open: &mut OpenDirectories,
        inode: u32,
        create: impl FnOnce(&Entry<'_>) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let Some(inode) = self.tree.inode(inode) else { return Ok(()) };
        let Some((first, others)) = inode.names.split_first() else { return Ok(()) };
        let Some(name) = self.tree.name(*first) else { return Ok(()) };
        let path = self.tree.path(*first);
        if !create(&self.directory(open, name.parent)?.entry(&name.name, &path))? || others.is_empty() {
            return Ok(());
        }
        let origin = self.target.directory(&self.tree.path(name.parent))?;
        for other in others {
            if let Some(link) = self.tree.name(*other) {
                let path = self.tree.path(*other);
                let within = self.directory(open, link.parent)?;
                self.target.hard_link(&origin.entry(&name.name, &path), &within.entry(&link.name, &path))?;
            }
        }
        Ok(())
    }
}
