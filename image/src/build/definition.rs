//! The image definition: TOML that names everything an image is made of. Paths in it are relative to its folder.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

/// What a definition says. Field by field in `docs/images.md`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub name: String,
    pub version: String,
    #[serde(default)]
    pub description: String,
    pub base: Base,
    /// The folder that `base = "tree"` takes.
    pub tree: Option<PathBuf>,
    /// What `base = "debian"` takes.
    pub debian: Option<Debian>,
    /// Folders and `.deb` files laid over the base, in this order.
    #[serde(default)]
    pub packages: Vec<PathBuf>,
    /// Unit files for `/etc/mmos/units`.
    #[serde(default)]
    pub units: Vec<PathBuf>,
    /// Profile files for `/etc/mmos/profiles`.
    #[serde(default)]
    pub profiles: Vec<PathBuf>,
    /// The profile that is active unless the kernel command line names another.
    #[serde(default = "default_profile")]
    pub profile: String,
    /// Paths in the root that are left out, with all below them.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What the root is made as.
    #[serde(default)]
    pub format: Format,
    /// Of a WIM; `lzx` where nothing is said.
    pub compression: Option<Compression>,
    /// One compressed stream for all files: smaller, but slower to unpack and memory-hungry. `lzms` only.
    #[serde(default)]
    pub solid: bool,
    /// `debian`, `debian-cloud`, or the path of a bzImage.
    #[serde(default = "default_kernel")]
    pub kernel: String,
    /// With a kernel of one's own: its `lib/modules/VERSION` folder, unless it needs no modules.
    pub kernel_modules: Option<PathBuf>,
    #[serde(default)]
    pub modules: Modules,
    /// Whether the initramfs takes no other root than the one of this build.
    #[serde(default)]
    pub pin_root: bool,
    /// Further settings for `/etc/mmos/boot.toml` of the initramfs, as they stand.
    #[serde(default)]
    pub boot: toml::Table,
}

/// What the root begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Our binaries and busybox.
    Minimal,
    /// The same, over a list of Debian packages.
    Debian,
    /// A folder, to which our binaries are added.
    Tree,
}

/// The packages of a Debian base; dependencies are resolved, maintainer scripts are not run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    #[serde(default = "default_suite")]
    pub suite: String,
    pub packages: Vec<String>,
}

/// Kernel modules of the initramfs; their dependencies come along.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Modules {
    /// Always loaded, in this order: `name` or `name option=value …`.
    pub load: Vec<String>,
    /// There to be loaded when a device asks for them.
    pub include: Vec<String>,
    /// Whether devices are asked.
    pub auto: bool,
}

impl Default for Modules {
    fn default() -> Modules {
        Modules { load: Vec::new(), include: Vec::new(), auto: true }
    }
}

/// What the root is made as: a WIM is unpacked into RAM, the others are mounted from there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Wim,
    Squashfs,
    Erofs,
}

impl Format {
    pub const ALL: [Format; 3] = [Format::Wim, Format::Squashfs, Format::Erofs];

    /// The file of the root in the output folder.
    pub fn file(self) -> &'static str {
        match self {
            Format::Wim => "root.wim",
            Format::Squashfs => "root.squashfs",
            Format::Erofs => "root.erofs",
        }
    }

    /// The kernel modules that init needs for such a root.
    fn modules(self) -> &'static [&'static str] {
        match self {
            Format::Wim => &[],
            Format::Squashfs => &["squashfs", "loop", "overlay"],
            Format::Erofs => &["erofs", "loop", "overlay"],
        }
    }
}

/// How the root image is compressed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Xpress,
    #[default]
    Lzx,
    Lzms,
}

/// A package given as a folder with a `package.toml`: which file goes where.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileList {
    pub name: String,
    /// Path in the root, and where the file comes from: relative to the package's folder, or `@bin@/NAME` for a
    /// device binary of this workspace.
    pub files: BTreeMap<PathBuf, String>,
}

fn default_profile() -> String {
    "Default".into()
}

fn default_kernel() -> String {
    "debian".into()
}

fn default_suite() -> String {
    "bookworm".into()
}

impl Definition {
    /// Reads and checks the definition at `path`; all its paths come back absolute or relative to the current folder.
    pub fn read(path: &Path) -> anyhow::Result<Definition> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut it: Definition =
            toml::from_str(&text).with_context(|| format!("{} is not an image definition", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        it.check().with_context(|| format!("{}: cannot be built", path.display()))?;
        let paths = it.packages.iter_mut().chain(&mut it.units).chain(&mut it.profiles);
        // A link to one of these is followed when it is read; the name that it gives is the link's.
        for path in paths.chain(&mut it.tree).chain(&mut it.kernel_modules) {
            *path = folder.join(&*path);
            if !path.exists() {
                bail!("{} names {}, which does not exist", it.name, path.display());
            }
        }
        // A kernel without modules must have them built in.
        if it.own_kernel().is_none() || it.kernel_modules.is_some() {
            for module in it.format.modules() {
                if !it.modules.include.iter().any(|name| name == module) {
                    it.modules.include.push((*module).into());
                }
            }
        }
        if it.own_kernel().is_some() {
            it.kernel = folder.join(&it.kernel).display().to_string();
        }
        Ok(it)
    }

    /// The path of the kernel where it is not Debian's.
    pub fn own_kernel(&self) -> Option<&Path> {
        self.kernel.contains('/').then(|| Path::new(&self.kernel))
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.name.is_empty() || self.name.contains('/') {
            bail!("name must be a plain word, not {:?}", self.name);
        }
        match (self.base, &self.debian, &self.tree) {
            (Base::Debian, None, _) => bail!("base = \"debian\" needs a table [debian] with packages = [...]"),
            (Base::Tree, _, None) => bail!("base = \"tree\" needs tree = \"FOLDER\""),
            (Base::Minimal | Base::Tree, Some(_), _) => bail!("[debian] is only for base = \"debian\""),
            (Base::Minimal | Base::Debian, _, Some(_)) => bail!("tree = ... is only for base = \"tree\""),
            _ => {}
        }
        if self.format != Format::Wim && (self.compression.is_some() || self.solid) {
            bail!("compression and solid are of a WIM: leave them out, or set format = \"wim\"");
        }
        if self.solid && self.compression != Some(Compression::Lzms) {
            bail!("solid = true needs compression = \"lzms\"");
        }
        if self.kernel_modules.is_some() && self.own_kernel().is_none() {
            bail!("kernel_modules goes with kernel = \"PATH\" (a path holds a slash, as in \"./bzImage\")");
        }
        if let Some(path) = self.exclude.iter().find(|path| path.starts_with('/') || path.contains("..")) {
            bail!("exclude = {path:?}: give paths relative to the root, without a leading slash or \"..\"");
        }
        if self.boot.contains_key("modules") {
            bail!("[boot.modules] is made from [modules]; list them there");
        }
        Ok(())
    }
}

impl FileList {
    /// What it is called in the folder.
    pub const NAME: &str = "package.toml";

    /// Reads the `package.toml` in `folder`; `None` where there is none.
    pub fn read(folder: &Path) -> anyhow::Result<Option<FileList>> {
        let path = folder.join(FileList::NAME);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let list: FileList = toml::from_str(&text).with_context(|| format!("{} is not a package", path.display()))?;
        let plain =
            |target: &Path| target.is_absolute() && !target.components().any(|part| part == Component::ParentDir);
        if let Some(target) = list.files.keys().find(|target| !plain(target)) {
            bail!(
                "{}: {} must begin with a slash and hold no \"..\": it is a path in the root",
                path.display(),
                target.display()
            );
        }
        Ok(Some(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Definition> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        Definition::read(&path)
    }

    fn complaint(text: &str) -> String {
        format!("{:#}", read(text).unwrap_err())
    }

    #[test]
    fn a_short_definition_gets_the_defaults() {
        let it = read("name='x'\nversion='1'\nbase='minimal'").unwrap();
        assert_eq!((it.profile.as_str(), it.kernel.as_str()), ("Default", "debian"));
        assert_eq!((it.format, it.compression), (Format::Wim, None));
        assert!(it.modules.include.is_empty());
    }

    #[test]
    fn a_root_that_is_mounted_brings_its_modules_once() {
        let it = read("name='x'\nversion='1'\nbase='minimal'\nformat='erofs'\n[modules]\ninclude=['loop']").unwrap();
        assert_eq!(it.modules.include, ["loop", "erofs", "overlay"]);
        let it = read("name='x'\nversion='1'\nbase='minimal'\nformat='squashfs'\nkernel='./x.toml'").unwrap();
        assert!(it.modules.include.is_empty(), "a kernel without modules has them built in");
    }

    #[test]
    fn a_mistake_is_named_with_its_remedy() {
        assert!(complaint("name='x'\nversion='1'\nbase='debian'").contains("needs a table [debian]"));
        assert!(complaint("name='x'\nversion='1'\nbase='tree'").contains("tree = \"FOLDER\""));
        assert!(complaint("name='x'\nversion='1'\nbase='minimal'\nbsae=1").contains("bsae"));
        assert!(complaint("name='x'\nversion='1'\nbase='minimal'\nunits=['no.service']").contains("does not exist"));
        assert!(complaint("name='x'\nversion='1'\nbase='minimal'\nsolid=true").contains("lzms"));
        let error = complaint("name='x'\nversion='1'\nbase='minimal'\nformat='erofs'\ncompression='lzx'");
        assert!(error.contains("are of a WIM"), "{error}");
        assert!(complaint("name='a/b'\nversion='1'\nbase='minimal'").contains("plain word"));
    }
}
