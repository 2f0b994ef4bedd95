//! Trees for the guests: files, programs of this machine with the libraries that they need, and an archive of it all.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// busybox, which the services and most inits are scripts of.
const BUSYBOX: &str = "/bin/busybox";

/// A tree that becomes the root of a guest.
#[derive(Debug)]
pub struct Tree {
    pub path: PathBuf,
}

impl Tree {
    /// An empty one with busybox in it.
    pub fn new(path: PathBuf) -> anyhow::Result<Tree> {
        let tree = Tree { path };
        for folder in
            ["bin", "dev", "proc", "sys", "run", "tmp", "etc", "sbin", "lib", "usr/bin", "usr/lib", "var", "root"]
        {
            fs::create_dir_all(tree.path.join(folder))?;
        }
        tree.copy(Path::new(BUSYBOX), BUSYBOX)?;
        for applet in ["sh", "sleep", "mount", "mkdir", "cat", "ls"] {
            tree.link("busybox", &format!("/bin/{applet}"))?;
        }
        Ok(tree)
    }

    /// Where `inside` is on this machine.
    pub fn at(&self, inside: &str) -> PathBuf {
        self.path.join(inside.trim_start_matches('/'))
    }

    fn folder_of(&self, inside: &str) -> anyhow::Result<PathBuf> {
        let path = self.at(inside);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(path)
    }

    /// A file.
    pub fn write(&self, inside: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder_of(inside)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A file that can be executed.
    pub fn script(&self, inside: &str, text: &str) -> anyhow::Result<()> {
        self.write(inside, text)?;
        Ok(fs::set_permissions(self.at(inside), fs::Permissions::from_mode(0o755))?)
    }

    /// A symbolic link.
    pub fn link(&self, target: &str, inside: &str) -> anyhow::Result<()> {
        let path = self.folder_of(inside)?;
        symlink(target, &path).with_context(|| format!("cannot make {}", path.display()))
    }

    /// A copy of a file of this machine.
    pub fn copy(&self, file: &Path, inside: &str) -> anyhow::Result<()> {
        let path = self.folder_of(inside)?;
        fs::copy(file, &path).with_context(|| format!("cannot copy {} to {}", file.display(), path.display()))?;
        Ok(())
    }

    /// A program of this machine, with its libraries.
    pub fn program(&self, path: &str) -> anyhow::Result<()> {
        self.copy(Path::new(path), path)?;
        self.libraries_of(Path::new(path))
    }

    /// The libraries that `file` needs, as ldd finds them on this machine; those that the tree has already stay.
    pub fn libraries_of(&self, file: &Path) -> anyhow::Result<()> {
        let output = Command::new("ldd").arg(file).stderr(Stdio::null()).output().context("cannot run ldd")?;
        // What is static needs none; ldd says so, and fails.
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let found = line.rsplit_once("=> ").map_or(line, |(_, found)| found);
            let library = found.split_whitespace().next().filter(|path| path.starts_with('/'));
            if let Some(library) = library
                && !self.at(library).exists()
            {
                self.copy(Path::new(library), library)?;
            }
        }
        Ok(())
    }

    /// All of it as an archive that a kernel takes as its initramfs.
    pub fn archive(&self, out: &Path) -> anyhow::Result<()> {
        let line = "find . -print0 | LC_ALL=C sort -z | cpio --null --create --format=newc --owner=0:0 --quiet";
        let file = fs::File::create(out).with_context(|| format!("cannot make {}", out.display()))?;
        let status = Command::new("sh").args(["-c", line]).current_dir(&self.path).stdout(file).status()?;
        if !status.success() {
            bail!("{} cannot be packed: cpio ended with {status}", self.path.display());
        }
        Ok(())
    }
}
