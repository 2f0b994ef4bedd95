//! What an integrator lays over the base: folders, folders with a list of files (`package.toml`), and `.deb` files, in
//! the order of the definition; a later file replaces an earlier one.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::debian;
use super::definition::{Definition, FileList};
use super::host::file_name;
use super::inputs::{Detail, Inputs};
use super::tree::{Keep, Tree};

/// In a list of files, what begins with this is a device binary of the workspace.
const BIN: &str = "@bin@/";

/// A package, found and read.
pub struct Package<'a> {
    path: &'a Path,
    contents: Contents,
}

enum Contents {
    /// The folder is a tree.
    Folder,
    /// Path in the root, and the file or folder that goes there.
    List {
        name: String,
        files: Vec<(PathBuf, PathBuf)>,
    },
    Deb,
}

/// Reads the packages of the definition, and checks that all they name is there. `bin` is the folder of device
/// binaries.
pub fn read<'a>(definition: &'a Definition, bin: &Path) -> anyhow::Result<Vec<Package<'a>>> {
    definition.packages.iter().map(|path| Ok(Package { path, contents: contents(path, bin)? })).collect()
}

fn contents(path: &Path, bin: &Path) -> anyhow::Result<Contents> {
    if let Some(list) = FileList::read(path)? {
        let files = list.files.into_iter().map(|(target, from)| Ok((target, source(path, &from, bin)?)));
        return Ok(Contents::List { name: list.name, files: files.collect::<anyhow::Result<_>>()? });
    }
    if path.is_dir() {
        Ok(Contents::Folder)
    } else if path.extension().is_some_and(|extension| extension == "deb") {
        Ok(Contents::Deb)
    } else {
        bail!("{}: a package is a folder or a .deb file", path.display())
    }
}

/// The file or folder that the list in `package` names.
fn source(package: &Path, from: &str, bin: &Path) -> anyhow::Result<PathBuf> {
    let binary = from.strip_prefix(BIN);
    let path = binary.map_or_else(|| package.join(from), |name| bin.join(name));
    if path.exists() {
        return Ok(path);
    }
    let remedy = match binary {
        Some(name) => format!(
            "; build it with `cargo xtask build`, or one that this does not build with `RUSTFLAGS=\"-C \
             target-feature=+crt-static\" cargo build --profile device --target {ARCH}-unknown-linux-gnu --bin {name}`"
        ),
        None => String::new(),
    };
    bail!("{} names {from}, but there is no {}{remedy}", package.join(FileList::NAME).display(), path.display())
}

impl Package<'_> {
    /// Notes what the package brings. It is the `n`th: the order decides which of two files stays.
    pub fn note(&self, inputs: &mut Inputs, n: usize) -> anyhow::Result<()> {
        let kind = format!("package {n}");
        match &self.contents {
            Contents::Folder | Contents::Deb => inputs.add(&kind, &file_name(self.path), self.path, Detail::Content),
            Contents::List { name, files } => files.iter().try_for_each(|(target, from)| {
                inputs.add(&kind, &format!("{name} {}", target.display()), from, Detail::Content)
            }),
        }
    }

    /// Notes the list of files, if it has one.
    pub fn note_list(&self, inputs: &mut Inputs) -> anyhow::Result<()> {
        match &self.contents {
            Contents::List { name, .. } => {
                let list = self.path.join(FileList::NAME);
                inputs.add("file", &format!("{name}/{}", FileList::NAME), &list, Detail::Content)
            }
            Contents::Folder | Contents::Deb => Ok(()),
        }
    }

    /// Puts the package into the root.
    pub fn add_to(&self, tree: &Tree) -> anyhow::Result<()> {
        let add = || match &self.contents {
            Contents::Folder => tree.copy(self.path, Path::new("/"), Keep::Executable),
            Contents::List { files, .. } => {
                files.iter().try_for_each(|(target, from)| tree.copy(from, target, Keep::Executable))
            }
            Contents::Deb => {
                // By way of a folder, so that links in the root are followed inside the root.
                let work = tempfile::tempdir()?;
                debian::unpack(self.path, work.path())?;
                tree.copy(work.path(), Path::new("/"), Keep::All)
            }
        };
        add().with_context(|| format!("cannot add the package {}", self.path.display()))
    }
}
