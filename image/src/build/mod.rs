//! `mmos-image build`: from an image definition to `vmlinuz`, `initramfs.cpio.zst`, the root (`root.wim`, or another
//! format) and `manifest.json`.
//!
//! ```text
//! definition ─► ingredients (fetched, read) ─► inputs with hashes ─► same as last time? ─► nothing to do
//!                                                                  └► tree in a folder ─► WIM, squashfs or EROFS
//! ```
//! The output folder is locked before the definition is read, so that the last build to begin has the last word.

mod caller;
mod cpio;
mod debian;
mod definition;
mod elf;
mod filesystem;
mod host;
mod initramfs;
mod inputs;
mod join;
mod kernel;
mod manifest;
mod output;
mod packages;
mod root;
mod tree;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use definition::{Compression, Definition, Format};
use inputs::{Detail, Inputs, sha256};
pub use join::{Args as JoinArgs, run as join};
use kernel::Kernel;
use manifest::Manifest;
use output::Output;
use root::Ingredients;

#[derive(clap::Args)]
pub struct Args {
    /// The image definition, a TOML file
    definition: PathBuf,
    /// Folder for vmlinuz, initramfs.cpio.zst, root.wim (or root.squashfs, root.erofs) and manifest.json; made if absent
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

/// One image that is being built.
struct Build<'a> {
    definition: &'a Definition,
    kernel: Kernel,
    ingredients: Ingredients<'a>,
    out: &'a Path,
}

/// All that a build can make.
const FILES: [&str; 5] = ["vmlinuz", INITRAMFS, "root.wim", "root.squashfs", "root.erofs"];
const INITRAMFS: &str = "initramfs.cpio.zst";

/// The outputs, in the order in which they are made: the initramfs may hold the root's hash.
#[derive(Clone, Copy)]
enum Part {
    Kernel,
    Root,
    Initramfs,
}

/// Builds the image that `args` name.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let hand_over = caller::HandOver::prepare(&args.out)?;
    let result = Output::take(&args.out).and_then(|out| build(args, &out));
    // After a failure, too: what was fetched until then is kept.
    if let Some(note) = hand_over.map(|it| it.carry_out(&FILES)).and_then(Result::err) {
        println!("note: what was made still belongs to root: {note:#}");
    }
    result
}

fn build(args: &Args, out: &Output) -> anyhow::Result<()> {
    out.clear(&FILES)?;
    let definition = Definition::read(&args.definition)?;
    let kernel = Kernel::get(&definition, args.refresh)?;
    let ingredients =
        Ingredients::gather(&definition, &args.rootfs, &args.bin_dir, allows_shell(&definition), args.refresh)?;
    let out = out.path.as_path();
    let build = Build { definition: &definition, kernel, ingredients, out };
    let mut manifest = Manifest {
        name: definition.name.clone(),
        version: definition.version.clone(),
        builder: manifest::builder(),
        definition: Inputs::default(),
        ..Manifest::read(out)
    };
    build.ingredients.note_definition(&mut manifest.definition, &args.definition)?;
    // A root of another format, by a build before, is not of this image.
    for other in Format::ALL.into_iter().filter(|format| *format != definition.format).map(Format::file) {
        if manifest.outputs.contains_key(other) {
            manifest.forget(out, other)?;
            host::remove(&out.join(other))?;
        }
    }
    let ourselves = sha256(Path::new("/proc/self/exe"))?;
    for part in Part::ALL {
        let name = part.file(definition.format);
        let mut inputs = build.inputs(part, &manifest)?;
        inputs.note("binary", "mmos-image", &ourselves);
        if manifest.is_current(out, name, &inputs) {
            println!("{name}: up to date ({} inputs)", inputs.len());
            continue;
        }
        build.check_rights(part)?;
        let begun = std::time::Instant::now();
        manifest.forget(out, name)?;
        for note in build.make(part, &manifest)? {
            println!("{name}: note: {note}");
        }
        manifest.record(out, name, inputs)?;
        let bytes = manifest.outputs.get(name).map_or(0, |output| output.bytes);
        println!("{name}: {} in {:.1} s", indicatif::BinaryBytes(bytes), begun.elapsed().as_secs_f64());
    }
    manifest.write(out)
}

impl Part {
    const ALL: [Part; 3] = [Part::Kernel, Part::Root, Part::Initramfs];

    fn file(self, format: Format) -> &'static str {
        match self {
            Part::Kernel => "vmlinuz",
            Part::Initramfs => INITRAMFS,
            Part::Root => format.file(),
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
                inputs.setting("modules.include", &format!("{:?}", self.definition.modules.include));
                inputs.setting("boot.toml", &self.boot_config(made)?);
                inputs.add("binary", "init", &self.ingredients.bin.join("init"), Detail::Content)?;
                if allows_shell(self.definition) {
                    self.ingredients.note_busybox(&mut inputs)?;
                }
            }
            Part::Root => return self.ingredients.inputs(),
        }
        Ok(inputs)
    }

    /// Refuses what cannot be made by this user, while all that was made before still stands.
    fn check_rights(&self, part: Part) -> anyhow::Result<()> {
        if matches!(part, Part::Root) && !nix::unistd::geteuid().is_root() {
            bail!("files of the root belong to root: run this as root, or with sudo");
        }
        Ok(())
    }

    /// Makes a part; `made` has those before it. Gives back what is odd, and yet no error.
    fn make(&self, part: Part, made: &Manifest) -> anyhow::Result<Vec<String>> {
        let path = self.out.join(part.file(self.definition.format));
        match part {
            Part::Kernel => self.make_kernel(&path).map(|()| Vec::new()),
            Part::Initramfs => self.make_initramfs(&path, made).map(|()| Vec::new()),
            Part::Root => self.make_root(&path),
        }
    }

    fn make_kernel(&self, path: &Path) -> anyhow::Result<()> {
        let image = &self.kernel.image;
        let part = host::unfinished(path);
        std::fs::copy(image, &part)
            .and_then(|_| std::fs::set_permissions(&part, PermissionsExt::from_mode(0o644)))
            .and_then(|()| std::fs::rename(&part, path))
            .with_context(|| format!("cannot copy the kernel {}", image.display()))
    }

    fn make_initramfs(&self, path: &Path, made: &Manifest) -> anyhow::Result<()> {
        let work = tempfile::tempdir()?;
        let modules = self.kernel.modules(&self.definition.modules, work.path())?;
        let unpack = || self.ingredients.unpack_busybox(&work.path().join("busybox"));
        let busybox = allows_shell(self.definition).then(unpack).transpose()?;
        let contents = initramfs::Contents {
            init: &self.ingredients.bin.join("init"),
            busybox: busybox.as_deref(),
            boot_config: &self.boot_config(made)?,
            modules: &modules,
        };
        initramfs::write(path, &contents)
    }

    fn make_root(&self, path: &Path) -> anyhow::Result<Vec<String>> {
        let staging = tempfile::Builder::new().prefix(output::STAGING).tempdir_in(self.out)?;
        let begun = std::fs::metadata(staging.path())?.modified()?;
        let notes = self.ingredients.assemble(staging.path())?;
        tree::settle(staging.path(), begun, self.ingredients.epoch())?;
        let part = host::unfinished(path);
        match self.definition.format {
            Format::Wim => self.capture(staging.path(), &part)?,
            Format::Squashfs => filesystem::squashfs(staging.path(), &part, self.ingredients.epoch())?,
            Format::Erofs => filesystem::erofs(staging.path(), &part)?,
        }
        std::fs::rename(&part, path)?;
        Ok(notes)
    }

    fn capture(&self, tree: &Path, to: &Path) -> anyhow::Result<()> {
        let compression = match self.definition.compression.unwrap_or_default() {
            Compression::None => wim::capture::Compression::None,
            Compression::Xpress => wim::capture::Compression::Xpress,
            Compression::Lzx => wim::capture::Compression::Lzx,
            Compression::Lzms => wim::capture::Compression::Lzms,
        };
        let options = wim::capture::CaptureOptions { compression, solid: self.definition.solid, ..Default::default() };
        wim::capture::capture(tree, to, &options)?;
        Ok(())
    }

    /// `boot.toml` as `init` reads it, and accepts it.
    fn boot_config(&self, made: &Manifest) -> anyhow::Result<String> {
        let mut config = self.definition.boot.clone();
        let mut modules = toml::Table::new();
        modules.insert("load".into(), self.definition.modules.load.clone().into());
        modules.insert("auto".into(), self.definition.modules.auto.into());
        config.insert("modules".into(), modules.into());
        let format = self.definition.format;
        if format != Format::Wim {
            // What init looks for where nobody says anything is root.wim.
            config.entry("root").or_insert_with(|| format!("initrd:/{}", format.file()).into());
        }
        if self.definition.pin_root
            && let Some(root) = made.outputs.get(self.definition.format.file())
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
}

/// Whether recovery may open a shell, which then has to be in the initramfs.
fn allows_shell(definition: &Definition) -> bool {
    definition.boot.get("allow_shell").and_then(toml::Value::as_bool).unwrap_or(false)
}
