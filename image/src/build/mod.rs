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

/// One image that is being built.
struct Build<'a> {
    definition: &'a Definition,
    kernel: Kernel,
    ingredients: Ingredients<'a>,
    out: PathBuf,
}

/// The outputs, in the order in which they are made: the initramfs may hold the root's hash.
#[derive(Clone, Copy)]
enum Part {
    Kernel,
    Root,
    Initramfs,
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
    let build = Build { definition: &definition, kernel, ingredients, out };
    let mut manifest = Manifest::read(&build.out);
    let mut next = Manifest {
        name: definition.name.clone(),
        version: definition.version.clone(),
        builder: manifest::builder(),
        ..Manifest::default()
    };
    let ourselves = manifest::sha256(Path::new("/proc/self/exe"))?;
    for part in [Part::Kernel, Part::Root, Part::Initramfs] {
        let name = part.file();
        let mut inputs = build.inputs(part, &next)?;
        inputs.note("binary", "mmos-image", &ourselves);
        if manifest.is_current(&build.out, name, &inputs) {
            next.outputs.extend(manifest.outputs.remove_entry(name));
            println!("{name}: up to date ({} inputs)", inputs.len());
            continue;
        }
        let begun = std::time::Instant::now();
        build.make(part, &next)?;
        next.record(&build.out, name, inputs)?;
        let bytes = next.outputs.get(name).map_or(0, |output| output.bytes);
        println!("{name}: {} in {:.1} s", indicatif::BinaryBytes(bytes), begun.elapsed().as_secs_f64());
    }
    next.write(&build.out)
}

impl Part {
    fn file(self) -> &'static str {
        match self {
            Part::Kernel => "vmlinuz",
            Part::Initramfs => "initramfs.cpio.zst",
            Part::Root => "root.wim",
        }
    }
}

impl Build<'_> {
    /// What a part is made of; `made` has the parts before it.
    fn inputs(&self, part: Part, made: &Manifest) -> anyhow::Result<Inputs> {
        let mut inputs = Inputs::default();
        match part {
            Part::Kernel => self.kernel.note(&mut inputs)?,
            Part::Initramfs => {
                self.kernel.note(&mut inputs)?;
                inputs.setting("modules.include", &self.definition.modules.include.join(" "));
                inputs.setting("boot.toml", &self.boot_config(made)?);
                inputs.add("binary", "init", &self.ingredients.bin.join("init"))?;
                if self.allows_shell() {
                    inputs.add("package", "busybox", &self.ingredients.busybox)?;
                }
            }
            Part::Root => return self.ingredients.inputs(),
        }
        Ok(inputs)
    }

    fn make(&self, part: Part, made: &Manifest) -> anyhow::Result<()> {
        let path = self.out.join(part.file());
        match part {
            Part::Kernel => {
                let image = &self.kernel.image;
                std::fs::copy(image, path).with_context(|| format!("cannot copy the kernel {}", image.display()))?;
                Ok(())
            }
            Part::Initramfs => self.make_initramfs(&path, made),
            Part::Root => self.make_root(&path),
        }
    }

    fn make_initramfs(&self, path: &Path, made: &Manifest) -> anyhow::Result<()> {
        let work = tempfile::tempdir()?;
        let modules = self.kernel.modules(&self.definition.modules, work.path())?;
        let unpack = || self.ingredients.unpack_busybox(&work.path().join("busybox"));
        let busybox = self.allows_shell().then(unpack).transpose()?;
        let contents = initramfs::Contents {
            init: &self.ingredients.bin.join("init"),
            busybox: busybox.as_deref(),
            boot_config: &self.boot_config(made)?,
            modules: &modules,
        };
        initramfs::write(path, &contents)
    }

    fn make_root(&self, path: &Path) -> anyhow::Result<()> {
        if !nix::unistd::geteuid().is_root() {
            bail!("files of the root belong to root: run this as root, or with sudo");
        }
        let staging = tempfile::Builder::new().prefix(".root-").tempdir_in(&self.out)?;
        self.ingredients.assemble(staging.path())?;
        let part = host::unfinished(path);
        let compression = match self.definition.compression {
            Compression::None => wim::capture::Compression::None,
            Compression::Xpress => wim::capture::Compression::Xpress,
            Compression::Lzx => wim::capture::Compression::Lzx,
            Compression::Lzms => wim::capture::Compression::Lzms,
        };
        let options = wim::capture::CaptureOptions { compression, solid: self.definition.solid, ..Default::default() };
        wim::capture::capture(staging.path(), &part, &options)?;
        std::fs::rename(&part, path)?;
        Ok(())
    }

    /// `boot.toml` as `init` reads it, and accepts it.
    fn boot_config(&self, made: &Manifest) -> anyhow::Result<String> {
        let mut config = self.definition.boot.clone();
        let mut modules = toml::Table::new();
        modules.insert("load".into(), self.definition.modules.load.clone().into());
        modules.insert("auto".into(), self.definition.modules.auto.into());
        config.insert("modules".into(), modules.into());
        if self.definition.pin_root
            && let Some(root) = made.outputs.get(Part::Root.file())
        {
            let verify = config.entry("verify").or_insert_with(|| toml::Table::new().into());
            let verify = verify.as_table_mut().context("[boot] verify must be a table")?;
            verify.insert("sha256".into(), root.sha256.clone().into());
        }
        let text = toml::to_string(&config)?;
        if let Err(error) = init::config::parse(&text) {
            bail!("{}: [boot] is not what init reads: {error}", self.definition.name);
        }
        Ok(text)
    }

    /// Whether recovery may open a shell, which then has to be in the initramfs.
    fn allows_shell(&self) -> bool {
        self.definition.boot.get("allow_shell").and_then(toml::Value::as_bool).unwrap_or(false)
    }
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
