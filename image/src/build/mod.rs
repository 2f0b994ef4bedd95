//! `mmos-image build`: from an image definition to `vmlinuz`, `initramfs.cpio.zst`, `root.wim` and `manifest.json`.
//!
//! ```text
//! definition ─► ingredients (fetched, read) ─► inputs with hashes ─► same as last time? ─► nothing to do
//!                                                                  └► tree in a folder ─► captured as a WIM
//! ```

mod cpio;
mod debian;
mod definition;
mod host;
mod initramfs;
mod kernel;
mod manifest;
mod root;
mod tree;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use definition::{Compression, Definition};
use kernel::Kernel;
use manifest::{Inputs, Manifest};
use root::Ingredients;

/// File names in the output folder.
const VMLINUZ: &str = "vmlinuz";
const INITRAMFS: &str = "initramfs.cpio.zst";
const ROOT: &str = "root.wim";

#[derive(clap::Args)]
pub struct Args {
    /// The image definition, a TOML file
    definition: PathBuf,
    /// Folder for vmlinuz, initramfs.cpio.zst, root.wim and manifest.json; made if absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of the device binaries
    #[arg(long, value_name = "DIR", default_value = "target/x86_64-unknown-linux-gnu/device")]
    bin_dir: PathBuf,
    /// The project's folder of skeleton, units and profiles
    #[arg(long, value_name = "DIR", default_value = "rootfs")]
    rootfs: PathBuf,
    /// Ask the package registry again instead of taking what was fetched before
    #[arg(long)]
    refresh: bool,
}

#[derive(clap::Args)]
pub struct JoinArgs {
    /// The initramfs to begin with
    initramfs: PathBuf,
    /// File to add, and its path in the initramfs
    #[arg(long = "add", value_name = "FILE=/PATH", required = true)]
    add: Vec<String>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Builds the image that `args` name.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let definition = Definition::read(&args.definition)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let out = args.out.canonicalize()?;
    let lock = File::create(out.join(".lock"))?;
    lock.lock().with_context(|| format!("cannot lock {}", out.display()))?;

    let kernel = Kernel::get(&definition, args.refresh)?;
    let ingredients = Ingredients::gather(&definition, &args.rootfs, &args.bin_dir, args.refresh)?;
    let mut manifest = Manifest::read(&out);
    let mut next = Manifest {
        name: definition.name.clone(),
        version: definition.version.clone(),
        builder: manifest::builder(),
        outputs: Default::default(),
    };
    let mut steps: [(&str, Inputs, &dyn Fn() -> anyhow::Result<()>); 3] = [
        (VMLINUZ, kernel_inputs(&kernel)?, &|| copy_kernel(&kernel, &out)),
        (INITRAMFS, initramfs_inputs(&definition, &kernel, &ingredients)?, &|| {
            make_initramfs(&definition, &kernel, &ingredients, &out)
        }),
        (ROOT, ingredients.inputs()?, &|| make_root(&definition, &ingredients, &out)),
    ];
    for (name, inputs, make) in &mut steps {
        inputs.note("binary", "mmos-image", &manifest::sha256(Path::new("/proc/self/exe"))?);
        if manifest.is_current(&out, name, inputs) {
            next.outputs.extend(manifest.outputs.remove_entry(*name));
            println!("{name}: up to date ({} inputs)", inputs.len());
            continue;
        }
        let begun = std::time::Instant::now();
        make()?;
        next.record(&out, name, std::mem::take(inputs))?;
        let bytes = next.outputs.get(*name).map_or(0, |output| output.bytes);
        println!("{name}: {} in {:.1} s", indicatif::BinaryBytes(bytes), begun.elapsed().as_secs_f64());
    }
    next.write(&out)
}

/// Joins an initramfs with files into one archive for a boot loader.
pub fn join(args: &JoinArgs) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for pair in &args.add {
        match pair.split_once('=') {
            Some((file, path)) if path.starts_with('/') => files.push((path.to_owned(), PathBuf::from(file))),
            _ => bail!("--add {pair}: give FILE=/PATH, as in --add root.wim=/root.wim"),
        }
    }
    initramfs::join(&args.initramfs, &files, &args.out)
}

fn kernel_inputs(kernel: &Kernel) -> anyhow::Result<Inputs> {
    let mut inputs = Inputs::default();
    kernel.note(&mut inputs)?;
    Ok(inputs)
}

fn copy_kernel(kernel: &Kernel, out: &Path) -> anyhow::Result<()> {
    std::fs::copy(&kernel.image, out.join(VMLINUZ))
        .with_context(|| format!("cannot copy the kernel {}", kernel.image.display()))?;
    Ok(())
}

fn initramfs_inputs(definition: &Definition, kernel: &Kernel, parts: &Ingredients<'_>) -> anyhow::Result<Inputs> {
    let mut inputs = kernel_inputs(kernel)?;
    inputs.setting("modules.include", &definition.modules.include.join(" "));
    inputs.setting("boot.toml", &boot_config(definition)?);
    inputs.add("binary", "init", &parts.bin.join("init"))?;
    if allows_shell(definition) {
        inputs.add("package", "busybox", &parts.busybox)?;
    }
    Ok(inputs)
}

fn make_initramfs(
    definition: &Definition,
    kernel: &Kernel,
    parts: &Ingredients<'_>,
    out: &Path,
) -> anyhow::Result<()> {
    let work = tempfile::tempdir()?;
    let modules = kernel.modules(&definition.modules, work.path())?;
    let busybox = allows_shell(definition).then(|| parts.unpack_busybox(&work.path().join("busybox"))).transpose()?;
    let contents = initramfs::Contents {
        init: &parts.bin.join("init"),
        busybox: busybox.as_deref(),
        boot_config: &boot_config(definition)?,
        modules: &modules,
    };
    initramfs::write(&out.join(INITRAMFS), &contents)
}

/// `boot.toml` as `init` reads it.
fn boot_config(definition: &Definition) -> anyhow::Result<String> {
    let mut config = definition.boot.clone();
    let mut modules = toml::Table::new();
    modules.insert("load".into(), definition.modules.load.clone().into());
    config.insert("modules".into(), modules.into());
    Ok(toml::to_string(&config)?)
}

fn allows_shell(definition: &Definition) -> bool {
    definition.boot.get("allow_shell").and_then(toml::Value::as_bool).unwrap_or(false)
}

fn make_root(definition: &Definition, ingredients: &Ingredients<'_>, out: &Path) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("files of the root belong to root: run this as root, or with sudo");
    }
    let staging = tempfile::Builder::new().prefix(".root-").tempdir_in(out)?;
    ingredients.assemble(staging.path())?;
    let path = out.join(ROOT);
    let part = host::unfinished(&path);
    let compression = match definition.compression {
        Compression::None => wim::capture::Compression::None,
        Compression::Xpress => wim::capture::Compression::Xpress,
        Compression::Lzx => wim::capture::Compression::Lzx,
        Compression::Lzms => wim::capture::Compression::Lzms,
    };
    let options = wim::capture::CaptureOptions { compression, solid: definition.solid, ..Default::default() };
    wim::capture::capture(staging.path(), &part, &options)?;
    std::fs::rename(&part, &path)?;
    Ok(())
}
