//! Unpacking in a small world of its own: a thread with its own mounts, whose root directory is a tmpfs that holds the
//! image, the target and what must not change. Whatever path an image reaches by, absolute or by `..`, it is in there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Room of the world; a larger tree is refused, or ends with an error.
const WORLD: &str = "size=24m,nr_inodes=8k,mode=755";
/// Longer than any small image takes, under sanitizers on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(60);

const IMAGE: &str = "/image";
const TARGET: &str = "/target";

/// What is unpacked.
pub enum Image {
    /// A file, or those of a split WIM in their order.
    Files(Vec<Vec<u8>>),
    /// A pipable WIM as it arrives.
    Stream(Vec<u8>),
    /// An archive outside zstd frames.
    Archive(Vec<u8>),
}

/// A thread that unpacks what it is sent, and says when it is done.
struct World {
    images: SyncSender<Image>,
    /// Why the world could not be made, first; then nothing, for each image.
    done: Receiver<Option<String>>,
}

static WORLDS: LazyLock<Mutex<Result<World, String>>> = LazyLock::new(|| Mutex::new(World::new()));

/// Why there is no such world here; `None` where there is.
pub fn missing() -> Option<String> {
    WORLDS.lock().unwrap_or_else(PoisonError::into_inner).as_ref().err().cloned()
}

/// Opens, measures and unpacks an image.
///
/// # Panics
/// When it hangs, changes something beside the target, or is not what was said of it in advance.
pub fn apply(image: Image) {
    let world = WORLDS.lock().unwrap_or_else(PoisonError::into_inner);
    let world = world.as_ref().unwrap_or_else(|why| panic!("{why}"));
    world.images.send(image).expect("unpacking panicked before");
    match world.done.recv_timeout(PATIENCE) {
        Ok(_) => {}
        Err(RecvTimeoutError::Timeout) => panic!("not unpacked after {} s: a hang", PATIENCE.as_secs()),
        Err(RecvTimeoutError::Disconnected) => panic!("unpacking panicked"),
    }
}

impl World {
    fn new() -> Result<World, String> {
        let (images, incoming) = sync_channel::<Image>(0);
        let (finished, done) = sync_channel(1);
        let begin = move || {
            finished.send(enter().err().map(|e| format!("a world of its own takes root: {e}"))).unwrap();
            for image in incoming {
                in_world(image);
                finished.send(None).unwrap();
            }
        };
        // Deep trees are removed by recursion.
        std::thread::Builder::new().stack_size(64 << 20).spawn(begin).map_err(|e| e.to_string())?;
        match done.recv() {
            Ok(None) => Ok(World { images, done }),
            Ok(Some(why)) => Err(why),
            Err(_) => Err("its thread panicked".into()),
        }
    }
}

/// Makes the world, for this thread and those that it starts.
fn enter() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // Hidden by the mount, in this thread alone.
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), Some(WORLD))?;
    nix::unistd::chroot("/mnt")?;
    nix::unistd::chdir("/")?;
    // Removing a tree holds a directory open for each level.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    fs::create_dir("/outside")?;
    fs::write("/outside/file", "what must not change")?;
    symlink("/outside/file", "/link")?;
    fs::write("/file", "neither this")
}

/// The file of this number, as those of a split WIM are named.
fn file(n: usize) -> PathBuf {
    if n == 0 { IMAGE.into() } else { format!("{IMAGE}{}", n + 1).into() }
}

/// Everything but the image and what is in the target, with all that a change would show in.
fn outside() -> BTreeMap<PathBuf, (Vec<u8>, [i64; 10])> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::from("/")];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let contents = match kind {
            _ if kind.is_file() => fs::read(&path).unwrap(),
            _ if kind.is_symlink() => fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        if kind.is_dir() {
            let below = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            let is_image = |path: &Path| path.as_os_str().as_bytes().starts_with(IMAGE.as_bytes());
            waiting.extend(below.filter(|path| !is_image(path) && path != Path::new(TARGET)));
        }
        let small = [meta.mode(), meta.uid(), meta.gid()].map(i64::from);
        let large = [meta.ino(), meta.nlink(), meta.rdev()].map(u64::cast_signed);
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        let all = [&small[..], &large, &times].concat().try_into().unwrap();
        found.insert(path, (contents, all));
    }
    found
}

/// Names in a tree, and the bytes of tmpfs that its files take.
fn taken(root: &Path) -> (u64, u64) {
    let (mut names, mut bytes) = (0, 0);
    let mut seen = std::collections::HashSet::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        // A path may be as long as Linux can open without the target's own: what lies deeper is not counted.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        names += 1;
        if meta.is_file() && seen.insert(meta.ino()) {
            // What a hole takes is nothing; blocks are of 512 bytes (stat(2)).
            bytes += meta.blocks() * 512;
        }
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path()));
        }
    }
    (names, bytes)
}

fn in_world(image: Image) {
    let files: &[Vec<u8>] = if let Image::Files(files) = &image { files } else { &[] };
    let written: Vec<PathBuf> = (0..files.len()).map(file).collect();
    for (path, bytes) in written.iter().zip(files) {
        fs::write(path, bytes).unwrap();
    }
    // Freed while it is unpacked, or not: by something of the input, so that it is the same again with the same one.
    let consume = files.first().is_some_and(|first| first.len() % 2 == 1);
    fs::create_dir(TARGET).unwrap();
    let before = outside();
    let unpack = |root: wim::root::Root| {
        let need = root.need()?;
        let options = wim::UnpackOptions { workers: 2.try_into().ok(), consume, ..wim::UnpackOptions::default() };
        root.unpack(Path::new(TARGET), &options).map(|report| Some((need, report)))
    };
    let unpacked = match image {
        Image::Files(_) => wim::root::open(Path::new(IMAGE), None).and_then(unpack),
        Image::Stream(bytes) => {
            wim::root::open_stream(Box::new(io::Cursor::new(bytes)), "a stream", None).and_then(unpack)
        }
        Image::Archive(bytes) => wim::fuzz::unpacked(&bytes, Path::new(TARGET)),
    };
    assert_eq!(before, outside(), "something beside the target has changed");
    match unpacked {
        Ok(Some((need, report))) => {
            let (names, bytes) = taken(Path::new(TARGET));
            assert!(names <= need.inodes, "{names} names, and {} were foretold", need.inodes);
            assert!(bytes <= need.bytes, "{bytes} bytes, and {} were foretold", need.bytes);
            assert!(names <= report.entries.max(need.inodes), "more names than entries");
        }
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    fs::remove_dir_all(TARGET).unwrap();
    written.iter().for_each(|path| fs::remove_file(path).unwrap());
}
