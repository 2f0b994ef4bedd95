//! The images that tests boot. `cargo xtask test` builds the two that the project offers; a case adds its own files
//! and units to the minimal one, by `mmos-image` like any integrator's image.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::machine::Machine;
use crate::root;

/// A built image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The folder with its files.
    pub folder: PathBuf,
}

/// A variant of the minimal image for one test: files in `tests/cases/NAME`, laid over it, and a shell for the test.
#[derive(Debug, Clone)]
pub struct Case {
    name: String,
    profile: String,
    settings: String,
    boot: String,
    load: Vec<String>,
    include: Vec<String>,
    debian: Vec<String>,
}

/// The workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// The target folder of the workspace.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace().join(folder),
        None => workspace().join("target"),
    }
}

/// `mmos-image`, as `cargo xtask` builds it.
pub fn builder() -> PathBuf {
    target().join("release/mmos-image")
}

/// The folder of device binaries.
pub fn device_binaries() -> PathBuf {
    target().join("x86_64-unknown-linux-gnu/device")
}

impl Image {
    /// The image of that name under `rootfs/images`.
    ///
    /// # Errors
    /// Where `cargo xtask` has not built it.
    pub fn get(name: &str) -> anyhow::Result<Image> {
        let folder = target().join("images").join(name);
        if !folder.join("manifest.json").is_file() {
            bail!("the image {name} is not built: run `cargo xtask test`, which builds what the tests need");
        }
        Ok(Image { folder })
    }

    /// Its kernel.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Its initramfs, without the root.
    pub fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs.cpio.zst")
    }

    /// Its root image, of whatever format.
    pub fn root(&self) -> PathBuf {
        let other = ["root.squashfs", "root.erofs"].map(|name| self.folder.join(name));
        other.into_iter().find(|path| path.is_file()).unwrap_or_else(|| self.folder.join("root.wim"))
    }

    /// A machine that boots it with the root in the initramfs, where init looks for it: `/root.wim` and the like.
    pub fn machine(&self) -> anyhow::Result<Machine> {
        let initrd = self.folder.join("initrd.img");
        let made = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified());
        let stale = match made(&initrd) {
            Ok(joined) => joined < made(&self.root())? || joined < made(&self.initramfs())?,
            Err(_) => true,
        };
        if stale {
            let root = self.root();
            let name = root.file_name().unwrap_or_default().to_string_lossy();
            join(&self.initramfs(), &root, &format!("/{name}"), &initrd)?;
        }
        Ok(Machine::new(self.kernel(), initrd))
    }

    /// A machine that boots it with another file in the initramfs, at `inside`.
    pub fn machine_with(&self, root: &Path, inside: &str, work: &Path) -> anyhow::Result<Machine> {
        let initrd = work.join("initrd.img");
        join(&self.initramfs(), root, inside, &initrd)?;
        Ok(Machine::new(self.kernel(), initrd))
    }

    /// A machine that boots its initramfs alone.
    pub fn machine_without_root(&self) -> Machine {
        Machine::new(self.kernel(), self.initramfs())
    }
}

impl Case {
    /// The case whose files are in `tests/cases/NAME`, if it has any.
    pub fn new(name: &str) -> Case {
        Case {
            name: name.into(),
            profile: "Default".into(),
            settings: String::new(),
            boot: String::new(),
            load: Vec::new(),
            debian: Vec::new(),
            include: ["virtio_blk", "virtio_pci", "vfat", "nls_cp437", "nls_ascii"].map(str::to_owned).to_vec(),
        }
    }

    /// Sets the image's own profile.
    pub fn profile(mut self, profile: &str) -> Case {
        self.profile = profile.into();
        self
    }

    /// Adds a line to the definition.
    pub fn setting(mut self, line: &str) -> Case {
        self.settings.push_str(line);
        self.settings.push('\n');
        self
    }

    /// Adds lines to `[boot]` of the definition.
    pub fn boot(mut self, lines: &str) -> Case {
        self.boot.push_str(lines);
        self.boot.push('\n');
        self
    }

    /// Takes packages of Debian, and all they depend on, for the base.
    pub fn debian(mut self, packages: &[&str]) -> Case {
        self.debian = packages.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Adds a kernel module that is always loaded.
    pub fn load(mut self, module: &str) -> Case {
        self.load.push(module.into());
        self
    }

    /// Adds a kernel module that is there when it is needed.
    pub fn include(mut self, module: &str) -> Case {
        self.include.push(module.into());
        self
    }

    /// Builds the image.
    pub fn build(&self) -> anyhow::Result<Image> {
        let folder = target().join("images/cases").join(&self.name);
        std::fs::create_dir_all(&folder)?;
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut packages = vec![tests.join("guest")];
        packages.extend(Some(tests.join("cases").join(&self.name)).filter(|path| path.is_dir()));
        // Quickly made, unless the case has its own idea of the root.
        let format = if self.settings.contains("format = ") { "" } else { "compression = \"xpress\"\n" };
        let (base, debian) = match self.debian.as_slice() {
            [] => ("minimal", String::new()),
            packages => ("debian", format!("[debian]\npackages = {packages:?}\n")),
        };
        let definition = format!(
            "name = {:?}\nversion = \"0\"\nbase = \"{base}\"\nkernel = \"debian-cloud\"\n{format}\
             profile = {:?}\npackages = {:?}\n{}{debian}[modules]\nload = {:?}\n\
             include = {:?}\n[boot]\n{}\n",
            self.name, self.profile, packages, self.settings, self.load, self.include, self.boot
        );
        let path = folder.join("definition.toml");
        // Tests that run side by side share a case: none may find the file half written.
        if std::fs::read_to_string(&path).ok().as_deref() != Some(definition.as_str()) {
            let mut next = tempfile::NamedTempFile::new_in(&folder)?;
            next.write_all(definition.as_bytes())?;
            next.persist(&path)?;
        }
        build(&path, &folder)?;
        Ok(Image { folder })
    }

    /// Builds the image, and gives a machine that boots it.
    pub fn machine(&self) -> anyhow::Result<Machine> {
        self.build()?.machine()
    }
}

/// Builds the image of `definition` in `out`.
pub fn build(definition: &Path, out: &Path) -> anyhow::Result<()> {
    command(
        root::command(&builder())?
            .arg("build")
            .arg(definition)
            .arg("--out")
            .arg(out)
            .arg("--bin-dir")
            .arg(device_binaries())
            .arg("--rootfs")
            .arg(workspace().join("rootfs")),
    )
}

fn join(initramfs: &Path, root: &Path, inside: &str, out: &Path) -> anyhow::Result<()> {
    let pair = format!("{}={inside}", root.display());
    command(root::command(&builder())?.arg("join").arg(initramfs).args(["--add", &pair, "--out"]).arg(out))
}

/// Runs a program of the host that must succeed.
///
/// # Errors
/// With what it printed.
pub fn command(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}; `cargo xtask test` builds it"))?;
    if !output.status.success() {
        bail!("{name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
