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

/// A thread that unpacks what it is sent, and says when it is done.
struct World {
    images: SyncSender<Vec<u8>>,
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
pub fn apply(image: &[u8]) {
    let world = WORLDS.lock().unwrap_or_else(PoisonError::into_inner);
    let world = world.as_ref().unwrap_or_else(|why| panic!("{why}"));
    world.images.send(image.to_vec()).expect("unpacking panicked before");
    match world.done.recv_timeout(PATIENCE) {
        Ok(_) => {}
        Err(RecvTimeoutError::Timeout) => panic!("not unpacked after {} s: a hang", PATIENCE.as_secs()),
        Err(RecvTimeoutError::Disconnected) => panic!("unpacking panicked"),
    }
}

impl World {
    fn new() -> Result<World, String> {
        let (images, incoming) = sync_channel::<Vec<u8>>(0);
        let (finished, done) = sync_channel(1);
        let begin = move || {
            finished.send(enter().err().map(|e| format!("a world of its own takes root: {e}"))).unwrap();
            for image in incoming {
                in_world(&image);
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
            waiting.extend(below.filter(|path| path != Path::new(IMAGE) && path != Path::new(TARGET)));
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
            bytes += meta.size().next_multiple_of(4096);
        }
        if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path()));
        }
    }
    (names, bytes)
}

fn in_world(image: &[u8]) {
    fs::write(IMAGE, image).unwrap();
    fs::create_dir(TARGET).unwrap();
    let before = outside();
    let unpacked = wim::root::open(Path::new(IMAGE), None).and_then(|root| {
        let need = root.need()?;
        // Freed while it is unpacked, or not: by something of the input, so that it is the same again with the same one.
        let (workers, consume) = (2.try_into().ok(), image.len() % 2 == 1);
        let options = wim::UnpackOptions { workers, consume, ..wim::UnpackOptions::default() };
        root.unpack(Path::new(TARGET), &options).map(|report| (need, report))
    });
    assert_eq!(before, outside(), "something beside the target has changed");
    match unpacked {
        Ok((need, report)) => {
            let (names, bytes) = taken(Path::new(TARGET));
            assert!(names <= need.inodes, "{names} names, and {} were foretold", need.inodes);
            assert!(bytes <= need.bytes, "{bytes} bytes, and {} were foretold", need.bytes);
            assert!(names <= report.entries.max(need.inodes), "more names than entries");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    fs::remove_dir_all(TARGET).unwrap();
    fs::remove_file(IMAGE).unwrap();
}
