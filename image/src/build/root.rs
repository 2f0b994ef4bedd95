//! The root of an image: base, our own binaries, packages, units, profiles, in this order; a later file replaces an
//! earlier one.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::definition::{Base, Definition, Package};
use super::manifest::Inputs;
use super::tree::Tree;
use super::{debian, host};

/// Where our binaries stand in every root. Checked against `link::paths` by a test of the whole system: a root with
/// any of them elsewhere does not boot.
const BINARIES: [(&str, &str); 3] =
    [("init", "usr/sbin/init"), ("svcmgr", "usr/lib/mmos/svcmgr"), ("mmosctl", "usr/bin/mmosctl")];

/// Folders that every root has, with their modes.
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
    pub definition: &'a Definition,
    /// The project's own `rootfs` folder.
    pub rootfs: &'a Path,
    /// The folder of device binaries.
    pub bin: &'a Path,
    debian: Option<debian::Root>,
    /// The `.deb` of busybox.
    pub busybox: PathBuf,
    packages: Vec<(PathBuf, Option<Package>)>,
}

impl<'a> Ingredients<'a> {
    /// Fetches what is missing and reads the packages.
    pub fn gather(
        definition: &'a Definition,
        rootfs: &'a Path,
        bin: &'a Path,
        refresh: bool,
    ) -> anyhow::Result<Ingredients<'a>> {
        for (name, _) in BINARIES {
            if !bin.join(name).is_file() {
                bail!("{}: there is no {name}; build the device binaries first (cargo xtask build)", bin.display());
            }
        }
        let debian = definition.debian.as_ref().map(|debian| debian::Root::get(debian, refresh)).transpose()?;
        let busybox = debian::package("busybox-static", refresh)?;
        let packages = definition
            .packages
            .iter()
            .map(|path| Ok((path.clone(), Package::read(path)?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Ingredients { definition, rootfs, bin, debian, busybox, packages })
    }

    /// Every input of the root, with its hash.
    pub fn inputs(&self) -> anyhow::Result<Inputs> {
        let mut inputs = Inputs::default();
        let definition = self.definition;
        inputs.setting("compression", &format!("{:?}", definition.compression));
        inputs.setting("solid", &definition.solid.to_string());
        inputs.setting("image.toml", &self.image_info());
        inputs.setting("exclude", &definition.exclude.join(" "));
        if let Some(debian) = &self.debian {
            debian.note(&mut inputs)?;
        }
        inputs.add("package", &file_name(&self.busybox), &self.busybox)?;
        inputs.add("file", "rootfs/skeleton", &self.rootfs.join("skeleton"))?;
        for (name, _) in BINARIES {
            inputs.add("binary", name, &self.bin.join(name))?;
        }
        if let Some(tree) = &definition.tree {
            inputs.add("tree", "", tree)?;
        }
        for (path, package) in &self.packages {
            let name = package.as_ref().map_or_else(|| file_name(path), |package| package.name.clone());
            match package {
                None => inputs.add("package", &name, path)?,
                Some(package) => {
                    for (target, source) in &package.files {
                        inputs.add("package", &format!("{name} {}", target.display()), &self.source(path, source)?)?;
                    }
                }
            }
        }
        for (kind, paths) in [("unit", &definition.units), ("profile", &definition.profiles)] {
            for path in paths {
                inputs.add(kind, &file_name(path), path)?;
            }
        }
        Ok(inputs)
    }

    /// Makes the root in the empty folder `target`.
    pub fn assemble(&self, target: &Path) -> anyhow::Result<()> {
        let definition = self.definition;
        std::fs::set_permissions(target, PermissionsExt::from_mode(0o755))?;
        let tree = Tree::new(target.to_owned());
        if let Some(debian) = &self.debian {
            debian.unpack(target)?;
        }
        if let Some(folder) = &definition.tree {
            // As it stands, owners and modes included: a folder made by another build system.
            host::run(Command::new("cp").arg("--archive").arg("--no-target-directory").arg(folder).arg(target))?;
        }
        for (folder, mode) in FOLDERS {
            tree.folder(folder, mode)?;
        }
        for folder in ["bin", "sbin", "lib", "lib64"] {
            tree.link_if_absent(folder, &format!("usr/{folder}"))?;
        }
        for path in &definition.exclude {
            tree.remove(path)?;
        }
        // A tree of one's own has a configuration of its own.
        if definition.base != Base::Tree {
            tree.copy(&self.rootfs.join("skeleton"), Path::new("/"))?;
            self.add_busybox(&tree)?;
        }
        for (name, place) in BINARIES {
            tree.copy(&self.bin.join(name), Path::new(place))?;
        }
        for (path, package) in &self.packages {
            self.add_package(&tree, path, package.as_ref())
                .with_context(|| format!("cannot add the package {}", path.display()))?;
        }
        for (folder, paths) in [("etc/mmos/units", &definition.units), ("etc/mmos/profiles", &definition.profiles)] {
            for path in paths {
                tree.copy(path, &Path::new(folder).join(file_name(path)))?;
            }
        }
        tree.write("etc/mmos/image.toml", self.image_info().as_bytes(), 0o644)
    }

    /// Unpacks busybox into the folder `work`, and gives back the binary.
    pub fn unpack_busybox(&self, work: &Path) -> anyhow::Result<PathBuf> {
        debian::unpack(&self.busybox, work)?;
        ["bin/busybox", "usr/bin/busybox"]
            .iter()
            .map(|name| work.join(name))
            .find(|path| path.is_file())
            .with_context(|| format!("{} holds no busybox", self.busybox.display()))
    }

    fn add_busybox(&self, tree: &Tree) -> anyhow::Result<()> {
        let work = tempfile::tempdir()?;
        let busybox = self.unpack_busybox(work.path())?;
        tree.copy(&busybox, Path::new("usr/bin/busybox"))?;
        // Whatever the base brought itself wins over busybox's smaller version of it.
        for path in host::run(Command::new(&busybox).arg("--list-full"))?.lines() {
            let name = path.rsplit('/').next().unwrap_or(path);
            let present = ["usr/bin", "usr/sbin"].iter().any(|folder| tree.path().join(folder).join(name).exists());
            if !present && name != "init" && name != "busybox" {
                tree.link_if_absent(&format!("usr/bin/{name}"), "busybox")?;
            }
        }
        Ok(())
    }

    fn add_package(&self, tree: &Tree, path: &Path, package: Option<&Package>) -> anyhow::Result<()> {
        match package {
            Some(package) => {
                for (target, source) in &package.files {
                    tree.copy(&self.source(path, source)?, target)?;
                }
                Ok(())
            }
            None if path.is_dir() => tree.copy(path, Path::new("/")),
            None if path.extension().is_some_and(|extension| extension == "deb") => {
                // By way of a folder, so that links in the root are followed inside the root.
                let work = tempfile::tempdir()?;
                debian::unpack(path, work.path())?;
                tree.copy(work.path(), Path::new("/"))
            }
            None => bail!("a package is a folder or a .deb file"),
        }
    }

    /// The file that a `package.toml` names.
    fn source(&self, package: &Path, source: &str) -> anyhow::Result<PathBuf> {
        let path = match source.strip_prefix("@bin@/") {
            Some(name) => self.bin.join(name),
            None => package.join(source),
        };
        if !path.exists() {
            bail!("{}/package.toml names {source}, but there is no {}", package.display(), path.display());
        }
        Ok(path)
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

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
