//! Putting files into a root that is being made. A path is resolved inside the root, as the device will resolve it:
//! with `/bin` a link to `usr/bin`, `/bin/x` becomes `usr/bin/x`, and no link leads out of the root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::FileTimes;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};

use super::manifest::entries;

/// As many links as Linux follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// When what we add was last changed, so that the same inputs give the same image: `SOURCE_DATE_EPOCH`, or the
/// first second of 2024.
fn epoch() -> SystemTime {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(given.unwrap_or(1_704_067_200)))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A root that is being made in a folder.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn new(root: PathBuf) -> Tree {
        Tree { root }
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where on the host the path `inside` of the root lies, all links but the last followed; makes the folders on
    /// the way.
    pub fn place(&self, inside: &Path) -> anyhow::Result<PathBuf> {
        let mut todo: VecDeque<OsString> = normal_parts(inside);
        let Some(last) = todo.pop_back() else { return Ok(self.root.clone()) };
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
                Ok(_) => bail!("{}: {} is a file", inside.display(), here.display()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.make_folder(&here)?,
                Err(error) => return Err(error).with_context(|| format!("cannot look at {}", here.display())),
            }
        }
        Ok(self.root.join(at.iter().collect::<PathBuf>()).join(last))
    }

    fn make_folder(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::create_dir(path)
            .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)))
            .with_context(|| format!("cannot make {}", path.display()))
    }

    /// Makes sure that there is a folder.
    pub fn folder(&self, inside: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.place(Path::new(inside))?;
        if !path.is_dir() {
            self.make_folder(&path)?;
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        Ok(())
    }

    /// Writes a file, replacing what is there.
    pub fn write(&self, inside: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
        let path = self.cleared(Path::new(inside))?;
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        self.finish(&path, mode)
    }

    /// Makes a symbolic link, unless something of that name is there.
    pub fn link_if_absent(&self, inside: &str, target: &str) -> anyhow::Result<()> {
        let path = self.place(Path::new(inside))?;
        if std::fs::symlink_metadata(&path).is_err() {
            symlink(target, &path).with_context(|| format!("cannot make the link {}", path.display()))?;
        }
        Ok(())
    }

    /// Copies a file, a link or a whole folder of the host to `inside`. Files belong to root; of their mode, what
    /// counts is whether they can be executed.
    pub fn copy(&self, from: &Path, inside: &Path) -> anyhow::Result<()> {
        let meta = std::fs::symlink_metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
        if meta.is_dir() {
            let path = self.place(inside)?;
            if std::fs::symlink_metadata(&path).is_err() {
                self.make_folder(&path)?;
            }
            for (name, entry) in entries(from)? {
                self.copy(&entry, &inside.join(name))?;
            }
        } else if meta.is_symlink() {
            let path = self.cleared(inside)?;
            symlink(std::fs::read_link(from)?, &path)
                .with_context(|| format!("cannot make the link {}", path.display()))?;
        } else if meta.is_file() {
            let path = self.cleared(inside)?;
            std::fs::copy(from, &path)
                .with_context(|| format!("cannot copy {} to {}", from.display(), path.display()))?;
            let executable = meta.permissions().mode() & 0o111 != 0;
            self.finish(&path, if executable { 0o755 } else { 0o644 })?;
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

    fn finish(&self, path: &Path, mode: u32) -> anyhow::Result<()> {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
        let file = std::fs::File::open(path)?;
        file.set_times(FileTimes::new().set_accessed(epoch()).set_modified(epoch()))?;
        Ok(())
    }
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
        let tree = Tree::new(folder.path().join("root"));
        std::fs::create_dir(tree.path()).unwrap();
        (folder, tree)
    }

    #[test]
    fn files_follow_the_links_of_the_root() {
        let (_keep, tree) = tree();
        tree.folder("usr/bin", 0o755).unwrap();
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
}
