//! The root of an image: base, our own binaries, packages, units, profiles, in this order; a later file replaces an
//! earlier one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use link::paths;

use super::definition::{Base, Definition};
use super::host::{entries, file_name};
use super::inputs::{Detail, Inputs, sha256};
use super::packages::{self, Package};
use super::tree::{Keep, Tree};
use super::{debian, elf, host, tree};

/// The binaries that every root has, and where `init` and the user look for them.
const BINARIES: [(&str, &str); 3] =
    [("init", paths::ROOT_INIT), ("svcmgr", paths::SVCMGR), ("mmosctl", "/usr/bin/mmosctl")];

/// Folders that every root has, and the modes of those that a base does not bring.
const FOLDERS: [(&str, u32); 16] = [
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("usr/lib", 0o755),
    ("usr/lib64", 0o755),
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("root", 0o700),
    ("home", 0o755),
    ("var/log", 0o755),
    ("var/lib", 0o755),
    ("var/tmp", 0o1777),
    ("etc/mmos/units", 0o755),
    ("etc/mmos/profiles", 0o755),
];

/// All that a root is made of, found and checked before anything is written.
pub struct Ingredients<'a> {
    definition: &'a Definition,
    /// The project's own `rootfs` folder.
    rootfs: &'a Path,
    /// The folder of device binaries.
    pub bin: &'a Path,
    debian: Option<debian::Root>,
    /// The `.deb` of busybox, where the root or the initramfs takes it.
    pub busybox: Option<PathBuf>,
    packages: Vec<Package<'a>>,
    epoch: u64,
}

impl<'a> Ingredients<'a> {
    /// Fetches what is missing and reads the packages. `with_busybox`: not only the root may need it.
    pub fn gather(
        definition: &'a Definition,
        rootfs: &'a Path,
        bin: &'a Path,
        with_busybox: bool,
        refresh: bool,
    ) -> anyhow::Result<Ingredients<'a>> {
        for (name, _) in BINARIES {
            check_static(&bin.join(name))?;
        }
        let packages = packages::read(definition, bin)?;
        let epoch = tree::epoch()?;
        let debian = definition.debian.as_ref().map(|debian| debian::Root::get(debian, refresh)).transpose()?;
        let with_busybox = with_busybox || definition.base != Base::Tree;
        let busybox = with_busybox.then(|| debian::package("busybox-static", refresh)).transpose()?;
        Ok(Ingredients { definition, rootfs, bin, debian, busybox, packages, epoch })
    }

    /// Every input of the root, with its hash.
    pub fn inputs(&self) -> anyhow::Result<Inputs> {
        let mut inputs = Inputs::default();
        let definition = self.definition;
        inputs.setting("format", definition.format.file());
        inputs.setting("compression", &format!("{:?}", definition.compression.unwrap_or_default()));
        inputs.setting("solid", &definition.solid.to_string());
        inputs.setting("image.toml", &self.image_info());
        inputs.setting("exclude", &format!("{:?}", definition.exclude));
        inputs.setting("SOURCE_DATE_EPOCH", &self.epoch.to_string());
        if let Some(debian) = &self.debian {
            debian.note(&mut inputs)?;
        }
        match &definition.tree {
            Some(tree) => inputs.add("tree", "", tree, Detail::All)?,
            None => {
                inputs.add("file", "rootfs/skeleton", &self.rootfs.join("skeleton"), Detail::Content)?;
                self.note_busybox(&mut inputs)?;
            }
        }
        for (name, _) in BINARIES {
            inputs.add("binary", name, &self.bin.join(name), Detail::Content)?;
        }
        for (n, package) in (1..).zip(&self.packages) {
            package.note(&mut inputs, n)?;
        }
        for (kind, paths) in [("unit", &definition.units), ("profile", &definition.profiles)] {
            for path in paths {
                inputs.add(kind, &file_name(path), path, Detail::Content)?;
            }
        }
        Ok(inputs)
    }

    /// Notes the package that busybox comes from, where there is a use for it.
    pub fn note_busybox(&self, inputs: &mut Inputs) -> anyhow::Result<()> {
        self.busybox.iter().try_for_each(|deb| inputs.add("package", &file_name(deb), deb, Detail::Content))
    }

    /// Notes the files that say what the image is made of.
    pub fn note_definition(&self, inputs: &mut Inputs, path: &Path) -> anyhow::Result<()> {
        inputs.add("file", &file_name(path), path, Detail::Content)?;
        self.packages.iter().try_for_each(|package| package.note_list(inputs))
    }

    /// The time of what has no time of its own, in seconds since 1970.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Makes the root in the empty folder `target`. Gives back what is odd, and yet no error.
    pub fn assemble(&self, target: &Path) -> anyhow::Result<Vec<String>> {
        let mut notes = Vec::new();
        let definition = self.definition;
        std::fs::set_permissions(target, PermissionsExt::from_mode(0o755))?;
        let tree = Tree::new(target.to_owned(), self.epoch);
        if let Some(debian) = &self.debian {
            debian.unpack(&tree)?;
        }
        if let Some(folder) = &definition.tree {
            // As it stands, owners and modes included: a folder made by another build system.
            let folder = folder.canonicalize()?;
            host::run(Command::new("cp").arg("--archive").arg("--no-target-directory").arg(folder).arg(target))?;
        }
        for (folder, mode) in FOLDERS {
            tree.folder_if_absent(folder, mode)?;
        }
        for folder in ["bin", "sbin", "lib", "lib64"] {
            tree.link_if_absent(folder, &format!("usr/{folder}"))?;
        }
        for path in &definition.exclude {
            tree.remove(path)?;
        }
        // A tree of one's own has a configuration of its own.
        if definition.base != Base::Tree {
            tree.copy(&self.rootfs.join("skeleton"), Path::new("/"), Keep::Executable)?;
            self.add_busybox(&tree)?;
        }
        if let Some(foreign) = self.foreign_init(&tree)? {
            notes.push(format!("{} of the base, {foreign}, is replaced by mmos's init", paths::ROOT_INIT));
        }
        for (name, place) in BINARIES {
            tree.copy(&self.bin.join(name), Path::new(place), Keep::Executable)?;
        }
        for package in &self.packages {
            package.add_to(&tree)?;
        }
        if let Some(foreign) = self.foreign_init(&tree)? {
            notes.push(format!("a package makes {} {foreign}: not mmos's init boots this root", paths::ROOT_INIT));
        }
        for (folder, files) in [("etc/mmos/units", &definition.units), (paths::PROFILES, &definition.profiles)] {
            for path in files {
                tree.copy(path, &Path::new(folder).join(file_name(path)), Keep::Executable)?;
            }
        }
        tree.write(paths::IMAGE_INFO, self.image_info().as_bytes(), 0o644)?;
        notes.extend(missing_interpreters(&tree)?);
        Ok(notes)
    }

    /// Unpacks busybox into the folder `work`, and gives back the binary.
    pub fn unpack_busybox(&self, work: &Path) -> anyhow::Result<PathBuf> {
        let deb = self.busybox.as_ref().context("no busybox was fetched for this image")?;
        std::fs::create_dir_all(work)?;
        debian::unpack(deb, work)?;
        ["bin/busybox", "usr/bin/busybox"]
            .iter()
            .map(|name| work.join(name))
            .find(|path| path.is_file())
            .with_context(|| format!("{} holds no busybox", deb.display()))
    }

    fn add_busybox(&self, tree: &Tree) -> anyhow::Result<()> {
        let work = tempfile::tempdir()?;
        let busybox = self.unpack_busybox(work.path())?;
        tree.copy(&busybox, Path::new("usr/bin/busybox"), Keep::Executable)?;
        // Whatever the base brought itself wins over busybox's smaller version of it.
        for path in host::run(Command::new(&busybox).arg("--list-full"))?.lines() {
            let name = path.rsplit('/').next().unwrap_or(path);
            let is_there = |folder: &&str| std::fs::symlink_metadata(tree.path().join(folder).join(name)).is_ok();
            let present = ["usr/bin", "usr/sbin"].iter().any(is_there);
            if !present && name != "init" && name != "busybox" {
                tree.link_if_absent(&format!("usr/bin/{name}"), "busybox")?;
            }
        }
        Ok(())
    }

    /// What stage 1 would execute, in words, unless it is our init, or nothing yet.
    fn foreign_init(&self, tree: &Tree) -> anyhow::Result<Option<String>> {
        let place = tree.place(Path::new(paths::ROOT_INIT))?;
        let Ok(meta) = std::fs::symlink_metadata(&place) else { return Ok(None) };
        if meta.is_symlink() {
            return Ok(Some(format!("a link to {}", std::fs::read_link(&place)?.display())));
        }
        let ours = meta.is_file() && sha256(&place)? == sha256(&self.bin.join("init"))?;
        Ok((!ours).then(|| "another file".to_owned()))
    }

    fn image_info(&self) -> String {
        let mut text = String::from("# Made by mmos-image.\n");
        let definition = self.definition;
        for (key, value) in [
            ("name", &definition.name),
            ("version", &definition.version),
            ("description", &definition.description),
            ("profile", &definition.profile),
        ] {
            let _ = writeln!(text, "{key} = {}", toml::Value::from(value.as_str()));
        }
        text
    }
}

/// Refuses a binary of ours that is not there, or that cannot run in every root: in the initramfs there is no dynamic
/// linker, and a PID 1 that does not start is a kernel panic.
fn check_static(binary: &Path) -> anyhow::Result<()> {
    if !binary.is_file() {
        bail!("there is no {}: build the device binaries first (cargo xtask build)", binary.display());
    }
    match elf::interpreter(binary)? {
        None => Ok(()),
        Some(interpreter) => bail!(
            "{} is linked dynamically: it needs {interpreter}, which neither the initramfs nor every root has; build the \
             device binaries with `cargo xtask build`, which links them statically",
            binary.display()
        ),
    }
}

/// The dynamic linkers that programs in the root ask for and that it does not have, each with the programs.
fn missing_interpreters(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let mut missing = BTreeMap::<String, Vec<String>>::new();
    let mut todo = vec![tree.path().to_owned()];
    while let Some(folder) = todo.pop() {
        for (_, path) in entries(&folder)? {
            let meta = std::fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_file()
                && meta.mode() & 0o111 != 0
                && let Some(interpreter) = elf::interpreter(&path)?
                && !matches!(tree.find(Path::new(&interpreter)), Ok(Some(_)))
            {
                let inside = path.strip_prefix(tree.path()).unwrap_or(&path);
                missing.entry(interpreter).or_default().push(format!("/{}", inside.display()));
            }
        }
    }
    let note = |(interpreter, programs): (String, Vec<String>)| {
        let few = programs.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = programs.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{few}{more} cannot start: the root has no {interpreter}; link statically, or add it")
    };
    Ok(missing.into_iter().map(note).collect())
}
