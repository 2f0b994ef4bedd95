//! The kernel of an image, and the modules of its initramfs: Debian's package unpacked in the cache, or one's own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::debian;
use super::definition::{Definition, Modules};
use super::host::{self, entries};
use super::inputs::{Detail, Inputs};

/// A kernel, and where its modules lie.
pub struct Kernel {
    pub image: PathBuf,
    /// `lib/modules/VERSION`, with its `modules.dep`.
    modules: Option<PathBuf>,
    /// What the manifest says of it: kind, name, file.
    origin: (&'static str, String, PathBuf),
}

/// Debian 12 offers 6.12 beside its own 6.1; the names carry the point release.
const DEBIAN_KERNEL: &str = "linux-image-6.12.";

impl Kernel {
    /// Finds the kernel that the definition asks for, fetching it if need be.
    pub fn get(definition: &Definition, refresh: bool) -> anyhow::Result<Kernel> {
        if let Some(image) = definition.own_kernel() {
            let name = definition.kernel.clone();
            if !image.is_file() {
                bail!("kernel = {name:?}: there is no such file");
            }
            let modules = definition.kernel_modules.clone();
            if let Some(modules) = &modules
                && !modules.join("modules.dep").is_file()
            {
                bail!("{} has no modules.dep; run depmod for it", modules.display());
            }
            return Ok(Kernel { image: image.to_owned(), modules, origin: ("file", name, image.to_owned()) });
        }
        let suffix = match definition.kernel.as_str() {
            "debian" => "+deb12-amd64",
            "debian-cloud" => "+deb12-cloud-amd64",
            other => bail!("kernel = {other:?} is neither debian, debian-cloud nor a path (with a slash) to a bzImage"),
        };
        let is_match = |name: &str| name.starts_with(DEBIAN_KERNEL) && name.ends_with(suffix);
        let package = debian::newest("^linux-image-6\\.12\\.", is_match, refresh)?;
        let deb = debian::package(&package, refresh)?;
        let root = unpacked(&package, &deb)?;
        let version = package.trim_start_matches("linux-image-");
        let modules = root.join("lib/modules").join(version);
        let file = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Kernel {
            image: root.join("boot").join(format!("vmlinuz-{version}")),
            modules: Some(modules),
            origin: ("package", file, deb),
        })
    }

    /// Notes the package or the file that the kernel came from.
    pub fn note(&self, inputs: &mut Inputs) -> anyhow::Result<()> {
        let (kind, name, path) = &self.origin;
        inputs.add(kind, name, path, Detail::Content)?;
        if let (&"file", Some(modules)) = (kind, &self.modules) {
            inputs.add("file", "kernel_modules", modules, Detail::Content)?;
        }
        Ok(())
    }

    /// The modules that are wanted, with all they depend on, decompressed, and with their tables: as files under
    /// `lib/modules/VERSION`, ready for an archive.
    pub fn modules(&self, wanted: &Modules, work: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let names: Vec<&str> =
            wanted.load.iter().chain(&wanted.include).filter_map(|line| line.split_whitespace().next()).collect();
        let Some(all) = &self.modules else {
            if let Some(name) = names.first() {
                bail!("the module {name} is asked for, but kernel_modules does not say where modules are");
            }
            return Ok(Vec::new());
        };
        let version = all.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = format!("lib/modules/{version}");
        let target = work.join(&folder);
        for relative in closure(&Table::read(all)?, &names)? {
            let from = all.join(&relative);
            let (plain, content) = decompressed(&from)?;
            let to = target.join(&relative).with_file_name(plain);
            std::fs::create_dir_all(to.parent().unwrap_or(&target))?;
            std::fs::write(&to, content)?;
        }
        std::fs::create_dir_all(&target)?;
        for table in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            if all.join(table).exists() {
                std::fs::copy(all.join(table), target.join(table))?;
            }
        }
        host::run(Command::new("depmod").arg("--basedir").arg(work).arg(&version))?;
        let mut files = Vec::new();
        collect(&target, &folder, &mut files)?;
        // The device reads the text tables; depmod's binary indexes would only take room.
        files.retain(|(name, _)| !name.ends_with(".bin"));
        Ok(files)
    }
}

/// Unpacks a kernel package into the cache, once, and makes its `modules.dep`.
fn unpacked(package: &str, deb: &Path) -> anyhow::Result<PathBuf> {
    let name = deb.file_stem().unwrap_or_default();
    let root = host::cache("kernels")?.join(name);
    if root.is_dir() {
        return Ok(root);
    }
    let part = host::unfinished(&root);
    std::fs::create_dir_all(&part)?;
    debian::unpack(deb, &part)?;
    host::run(Command::new("depmod").arg("--basedir").arg(&part).arg(package.trim_start_matches("linux-image-")))?;
    if let Err(error) = std::fs::rename(&part, &root) {
        // Another build was faster: its copy is as good.
        std::fs::remove_dir_all(&part)?;
        if !root.is_dir() {
            return Err(error).with_context(|| format!("cannot keep the kernel in {}", root.display()));
        }
    }
    Ok(root)
}

/// What a kernel has: modules by name, with path and dependencies, and the names that are built in.
struct Table {
    modules: BTreeMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
}

impl Table {
    fn read(folder: &Path) -> anyhow::Result<Table> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let mut modules = BTreeMap::new();
        for line in read("modules.dep")?.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_whitespace().map(module_name).collect();
            modules.insert(module_name(path), (path.to_owned(), needs));
        }
        let builtin = read("modules.builtin").unwrap_or_default().lines().map(module_name).collect();
        Ok(Table { modules, builtin })
    }
}

/// `kernel/drivers/block/virtio-blk.ko.xz` is the module `virtio_blk`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The paths of the wanted modules and all that they need.
fn closure(table: &Table, wanted: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    let mut todo: Vec<String> = wanted.iter().map(|name| module_name(name)).collect();
    while let Some(name) = todo.pop() {
        match table.modules.get(&name) {
            Some((path, needs)) => {
                if paths.insert(path.clone()) {
                    todo.extend(needs.iter().cloned());
                }
            }
            None if table.builtin.contains(&name) => {}
            None => bail!("the kernel has no module {name}: correct [modules], or choose another kernel"),
        }
    }
    Ok(paths)
}

/// A module as the device loads it, and its name: `x.ko` of `x.ko`, `x.ko.xz`, `x.ko.zst` or `x.ko.gz`, which are all
/// that the kernel's build makes (`CONFIG_MODULE_COMPRESS_*` in `kernel/module/Kconfig`).
fn decompressed(path: &Path) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut plain = Vec::new();
    let result = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(bytes),
        Some("xz") => liblzma::read::XzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).map(|_| plain),
        Some("zst") => zstd::stream::decode_all(bytes.as_slice()),
        Some("gz") => flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).map(|_| plain),
        _ => bail!("{} is no .ko file, nor one compressed as .xz, .zst or .gz; run depmod anew", path.display()),
    };
    let plain = result.with_context(|| format!("cannot decompress {}", path.display()))?;
    let name =
        if path.extension().is_some_and(|extension| extension == "ko") { path.file_name() } else { path.file_stem() };
    Ok((PathBuf::from(name.unwrap_or_default()), plain))
}

fn collect(folder: &Path, name: &str, files: &mut Vec<(String, PathBuf)>) -> anyhow::Result<()> {
    for (entry, path) in entries(folder)? {
        let name = format!("{name}/{entry}");
        if path.is_dir() {
            collect(&path, &name, files)?;
        } else {
            files.push((name, path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("modules.dep"),
            "kernel/a-b.ko.xz: kernel/c.ko.xz\nkernel/c.ko.xz:\nkernel/other.ko.xz:\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        Table::read(folder.path()).unwrap()
    }

    #[test]
    fn a_module_brings_what_it_needs() {
        let found = closure(&table(), &["a_b", "ext4"]).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["kernel/a-b.ko.xz", "kernel/c.ko.xz"]);
    }

    #[test]
    fn an_unknown_module_is_named() {
        let error = closure(&table(), &["nope"]).unwrap_err();
        assert!(error.to_string().contains("no module nope"));
    }
}
