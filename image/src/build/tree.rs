//! Putting files into a root that is being made. A path is resolved inside the root, as the device will resolve it:
//! with `/bin` a link to `usr/bin`, `/bin/x` becomes `usr/bin/x`, and no link leads out of the root.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::{FileTimes, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::host::entries;

/// As many links as Linux follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Seconds since 1970 when what we add was last changed, so that the same inputs give the same image:
/// `SOURCE_DATE_EPOCH` (<https://reproducible-builds.org/specs/source-date-epoch/>), or the first second of 2024.
pub fn epoch() -> anyhow::Result<u64> {
    const OURS: u64 = 1_704_067_200;
    let Some(given) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(OURS) };
    let seconds = given.to_str().and_then(|seconds| seconds.parse().ok());
    seconds.with_context(|| format!("SOURCE_DATE_EPOCH={} is no number of seconds", given.display()))
}

/// Gives the time `epoch` to all that the build changed in passing: folders that got something, links, the root itself.
/// That is what is no older than `begun`; files have their own time, or got this one when they were added.
pub fn settle(path: &Path, begun: SystemTime, epoch: u64) -> anyhow::Result<()> {
    let cannot = || format!("cannot set the time of {}", path.display());
    let meta = std::fs::symlink_metadata(path).with_context(cannot)?;
    if meta.is_dir() {
        for (_, path) in entries(path)? {
            settle(&path, begun, epoch)?;
        }
    }
    if meta.modified().with_context(cannot)? >= begun {
        let time = Timespec { tv_sec: i64::try_from(epoch)?, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).with_context(cannot)?;
    }
    Ok(())
}

/// What a copy keeps of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Whether it can be executed: files belong to root, and are as old as the build says.
    Executable,
    /// Mode, owner, time, and which names are one file.
    All,
}

/// A root that is being made in a folder.
pub struct Tree {
    root: PathBuf,
    /// When what we add was last changed.
    time: SystemTime,
}

/// Files with several names that were copied: device and inode of the original, and the first copy.
type Links = HashMap<(u64, u64), PathBuf>;

impl Tree {
    /// `epoch` as from [`epoch`].
    pub fn new(root: PathBuf, epoch: u64) -> Tree {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(epoch));
        Tree { root, time: time.unwrap_or(SystemTime::UNIX_EPOCH) }
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where on the host the path `inside` of the root lies, all links but the last followed; makes the folders on
    /// the way.
    pub fn place(&self, inside: &Path) -> anyhow::Result<PathBuf> {
        let mut todo: VecDeque<OsString> = normal_parts(inside);
        let Some(last) = todo.pop_back() else { return Ok(self.root.clone()) };
        let missing = |path: &Path| self.make_folder(path).map(|()| true);
        match self.walk(todo, inside, missing)? {
            Some(folder) if folder.is_dir() => Ok(folder.join(last)),
            _ => bail!("{}: a folder on the way to it is a file in the root", inside.display()),
        }
    }

    /// Where on the host the path `inside` of the root lies, all links followed, if it is there.
    pub fn find(&self, inside: &Path) -> anyhow::Result<Option<PathBuf>> {
        self.walk(normal_parts(inside), inside, |_| Ok(false))
    }

    /// Goes down the path `todo`, links followed as the device follows them. `missing` says of what is not there
    /// whether it is there now. `None`: it is not, or goes through a file.
    fn walk(
        &self,
        mut todo: VecDeque<OsString>,
        inside: &Path,
        missing: impl Fn(&Path) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Option<PathBuf>> {
        let mut at: Vec<OsString> = Vec::new();
        let mut links = 0_usize;
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            at.push(part);
            let here = self.root.join(at.iter().collect::<PathBuf>());
            match std::fs::symlink_metadata(&here) {
                Ok(meta) if meta.is_symlink() => {
                    links = links.saturating_add(1);
                    if links > MAX_LINKS {
                        bail!("{}: too many links on the way", inside.display());
                    }
                    let target = std::fs::read_link(&here)?;
                    at.pop();
                    if target.is_absolute() {
                        at.clear();
                    }
                    for part in normal_parts(&target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                Ok(meta) if meta.is_dir() => {}
                Ok(_) if todo.is_empty() => {}
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    if !missing(&here)? {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error).with_context(|| format!("cannot look at {}", here.display())),
            }
        }
        Ok(Some(self.root.join(at.iter().collect::<PathBuf>())))
    }

    fn make_folder(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::create_dir(path)
            .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)))
            .with_context(|| format!("cannot make {}", path.display()))
    }

    /// Makes a folder, unless something of that name is there: a base knows best what its `/var/log` is, and a link
    /// there must not be followed on the host.
    pub fn folder_if_absent(&self, inside: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.place(Path::new(inside))?;
        if std::fs::symlink_metadata(&path).is_err() {
            self.make_folder(&path)?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        }
        Ok(())
    }

    /// Writes a file, replacing what is there.
    pub fn write(&self, inside: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
        let path = self.cleared(Path::new(inside))?;
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        self.finish(&path, mode, self.time)
    }

    /// Makes a symbolic link, unless something of that name is there.
    pub fn link_if_absent(&self, inside: &str, target: &str) -> anyhow::Result<()> {
        let path = self.place(Path::new(inside))?;
        if std::fs::symlink_metadata(&path).is_err() {
            symlink(target, &path).with_context(|| format!("cannot make the link {}", path.display()))?;
        }
        Ok(())
    }

    /// Copies a file or a whole folder of the host to `inside`. `from` itself may be a link to it; links in a folder
    /// are copied as links. A folder that is there already stays as it is, and gets what is in the other.
    pub fn copy(&self, from: &Path, inside: &Path, keep: Keep) -> anyhow::Result<()> {
        let meta = std::fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.copy_entry(from, &meta, inside, keep, &mut Links::new())
    }

    fn copy_entry(
        &self,
        from: &Path,
        meta: &Metadata,
        inside: &Path,
        keep: Keep,
        links: &mut Links,
    ) -> anyhow::Result<()> {
        if meta.is_dir() {
            let path = self.place(inside)?;
            if std::fs::symlink_metadata(&path).is_err() {
                self.make_folder(&path)?;
                if keep == Keep::All {
                    own(&path, meta)?;
                    std::fs::set_permissions(&path, PermissionsExt::from_mode(meta.mode() & 0o7777))?;
                }
            }
            for (name, entry) in entries(from)? {
                let meta =
                    std::fs::symlink_metadata(&entry).with_context(|| format!("cannot read {}", entry.display()))?;
                self.copy_entry(&entry, &meta, &inside.join(name), keep, links)?;
            }
        } else if meta.is_symlink() {
            let path = self.cleared(inside)?;
            symlink(std::fs::read_link(from)?, &path)
                .with_context(|| format!("cannot make the link {}", path.display()))?;
            if keep == Keep::All {
                own(&path, meta)?;
            }
        } else if meta.is_file() {
            let path = self.cleared(inside)?;
            let cannot = || format!("cannot copy {} to {}", from.display(), path.display());
            let several = keep == Keep::All && meta.nlink() > 1;
            links.retain(|_, first| *first != path);
            if let Some(first) = links.get(&(meta.dev(), meta.ino())).filter(|_| several) {
                return std::fs::hard_link(first, &path).with_context(cannot);
            }
            std::fs::copy(from, &path).with_context(cannot)?;
            match keep {
                Keep::Executable => {
                    let executable = meta.mode() & 0o111 != 0;
                    self.finish(&path, if executable { 0o755 } else { 0o644 }, self.time)?;
                }
                Keep::All => {
                    // The owner first: changing it clears the setuid bit (chown(2)).
                    own(&path, meta)?;
                    self.finish(&path, meta.mode() & 0o7777, meta.modified()?)?;
                }
            }
            if several {
                links.insert((meta.dev(), meta.ino()), path);
            }
        } else {
            bail!("{}: a package holds files, folders and links only", from.display());
        }
        Ok(())
    }

    /// Deletes a path with all below it, if it is there.
    pub fn remove(&self, inside: &str) -> anyhow::Result<()> {
        let path = self.place(Path::new(inside))?;
        let Ok(meta) = std::fs::symlink_metadata(&path) else { return Ok(()) };
        if meta.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
            .with_context(|| format!("cannot delete {}", path.display()))
    }

    /// Where a file goes, with whatever file or link was there removed.
    fn cleared(&self, inside: &Path) -> anyhow::Result<PathBuf> {
        let path = self.place(inside)?;
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => bail!("{} is a folder in the root", inside.display()),
            Ok(_) => std::fs::remove_file(&path).with_context(|| format!("cannot replace {}", path.display()))?,
            Err(_) => {}
        }
        Ok(path)
    }

    fn finish(&self, path: &Path, mode: u32, time: SystemTime) -> anyhow::Result<()> {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
        let file = std::fs::File::open(path)?;
        file.set_times(FileTimes::new().set_accessed(time).set_modified(time))?;
        Ok(())
    }
}

/// Gives `path` the owner that `meta` tells of.
fn own(path: &Path, meta: &Metadata) -> anyhow::Result<()> {
    lchown(path, Some(meta.uid()), Some(meta.gid()))
        .with_context(|| format!("cannot give {} to {}:{}", path.display(), meta.uid(), meta.gid()))
}

fn normal_parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new(folder.path().join("root"), 1_000_000_000);
        std::fs::create_dir(tree.path()).unwrap();
        (folder, tree)
    }

    #[test]
    fn files_follow_the_links_of_the_root() {
        let (_keep, tree) = tree();
        tree.folder_if_absent("usr/bin", 0o755).unwrap();
        tree.link_if_absent("bin", "usr/bin").unwrap();
        tree.write("/bin/x", b"x", 0o755).unwrap();
        assert!(tree.path().join("usr/bin/x").is_file());
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let (keep, tree) = tree();
        std::fs::create_dir(keep.path().join("outside")).unwrap();
        tree.link_if_absent("up", "../../../outside").unwrap();
        tree.link_if_absent("absolute", keep.path().join("outside").to_str().unwrap()).unwrap();
        tree.write("up/a", b"", 0o644).unwrap();
        tree.write("absolute/b", b"", 0o644).unwrap();
        assert_eq!(entries(&keep.path().join("outside")).unwrap(), []);
        assert!(tree.path().join("outside/a").is_file());
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let (_keep, tree) = tree();
        tree.link_if_absent("a", "b").unwrap();
        tree.link_if_absent("b", "a").unwrap();
        assert!(tree.write("a/x", b"", 0o644).unwrap_err().to_string().contains("too many links"));
    }

    #[test]
    fn a_later_file_replaces_an_earlier_one_but_never_writes_through_its_link() {
        let (keep, tree) = tree();
        std::fs::write(keep.path().join("host"), "untouched").unwrap();
        symlink(keep.path().join("host"), tree.path().join("f")).unwrap();
        tree.write("f", b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(keep.path().join("host")).unwrap(), b"untouched");
    }

    #[test]
    fn what_is_looked_for_is_looked_for_in_the_root_and_not_made() {
        let (_keep, tree) = tree();
        tree.write("usr/lib/ld.so", b"", 0o755).unwrap();
        tree.link_if_absent("lib", "/usr/lib").unwrap();
        tree.link_if_absent("usr/lib/ld-linux.so", "/lib/ld.so").unwrap();
        assert_eq!(tree.find(Path::new("/lib/ld-linux.so")).unwrap(), Some(tree.path().join("usr/lib/ld.so")));
        assert_eq!(tree.find(Path::new("/lib/ld.so/x")).unwrap(), None);
        assert_eq!(tree.find(Path::new("/bin/sh")).unwrap(), None);
        assert!(!tree.path().join("bin").exists());
    }

    #[test]
    fn a_folder_is_not_made_through_a_link_of_the_root() {
        let (keep, tree) = tree();
        let outside = keep.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o700)).unwrap();
        tree.link_if_absent("log", outside.to_str().unwrap()).unwrap();
        tree.folder_if_absent("log", 0o777).unwrap();
        assert_eq!(std::fs::metadata(&outside).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn names_of_one_file_stay_names_of_one_file() {
        let (keep, tree) = tree();
        let from = keep.path().join("from");
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("a"), "x").unwrap();
        std::fs::hard_link(from.join("a"), from.join("b")).unwrap();
        tree.copy(&from, Path::new("/"), Keep::All).unwrap();
        let [a, b] = ["a", "b"].map(|name| std::fs::metadata(tree.path().join(name)).unwrap());
        assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
        assert_eq!(a.modified().unwrap(), std::fs::metadata(from.join("a")).unwrap().modified().unwrap());
    }
}
