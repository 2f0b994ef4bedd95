//! Step 3: drivers. First the modules that the image lists, then one for each device that is there, until no new
//! device turns up; later, while the root is awaited, one for each device that comes.

pub mod index;
pub mod pattern;

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use index::{Index, Step};

/// The kernel decompresses the module itself (`MODULE_INIT_COMPRESSED_FILE` of `<linux/module.h>`, since 5.17).
const COMPRESSED_FILE: i32 = 4;
/// Rounds of "load, then look for devices that this brought". Each level of bus takes one; real trees have four or so.
const MAX_ROUNDS: usize = 16;

/// Loads modules, each at most once.
#[derive(Debug)]
pub struct Loader {
    folder: PathBuf,
    index: Index,
    tried: HashSet<String>,
    seen: HashSet<String>,
    loaded: usize,
    for_devices: bool,
}

impl Loader {
    /// The loader for the running kernel, with the modules of the initramfs.
    pub fn for_running_kernel() -> Loader {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Loader::new(Path::new("/lib/modules").join(release))
    }

    /// The loader for the modules in `folder`. A folder without an index holds none.
    pub fn new(folder: PathBuf) -> Loader {
        let index = Index::read(&folder).unwrap_or_else(|error| {
            log::debug!("no modules: {}/modules.dep: {error}", folder.display());
            Index::default()
        });
        Loader { folder, index, tried: HashSet::new(), seen: HashSet::new(), loaded: 0, for_devices: true }
    }

    /// How many modules were loaded so far.
    pub fn loaded(&self) -> usize {
        self.loaded
    }

    /// From now on only what is asked for by name is loaded.
    pub fn ignore_devices(&mut self) {
        self.for_devices = false;
    }

    /// Loads the modules of a list of `"name key=value …"`; what goes wrong is returned, and stops nothing.
    pub fn load_listed(&mut self, list: &[String]) -> Vec<String> {
        let mut warnings = Vec::new();
        for entry in list {
            let entry = entry.trim();
            let (name, options) = entry.split_once(char::is_whitespace).unwrap_or((entry, ""));
            if let Err(warning) = self.load(name, options.trim()) {
                warnings.push(warning);
            }
        }
        warnings
    }

    /// Loads `name` (a module or an alias) and what it needs; whether anything new was loaded.
    pub fn load(&mut self, name: &str, options: &str) -> Result<bool, String> {
        let steps = self.index.order(name).map_err(|missing| missing.to_string())?;
        let wanted = name.replace('-', "_");
        let before = self.loaded;
        let mut failure = None;
        for step in steps {
            if !self.tried.insert(step.name.clone()) {
                continue;
            }
            let options = if step.name == wanted { options } else { "" };
            match self.insert(&step, options) {
                Ok(()) => {
                    log::debug!("module {} loaded", step.name);
                    self.loaded = self.loaded.saturating_add(1);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => failure = Some(format!("module {} cannot be loaded: {}", step.name, told(errno))),
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(self.loaded > before),
        }
    }

    /// Sees to it that the kernel has the file system `driver`, by its module if need be.
    ///
    /// # Errors
    /// Where the kernel still does not have it, with what is wrong with the module.
    pub fn load_file_system(&mut self, driver: &str) -> Result<(), String> {
        let has = || is_registered(driver, &std::fs::read_to_string("/proc/filesystems").unwrap_or_default());
        if has() {
            return Ok(());
        }
        let loaded = self.load(&format!("fs-{driver}"), "");
        if has() {
            return Ok(());
        }
        Err(loaded.err().unwrap_or_else(|| format!("the module {driver} does not bring the file system of its name")))
    }

    /// Loads a module for each device that is there, and again for the devices that this brings.
    pub fn load_for_devices(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.for_devices || self.index.is_empty() {
            return warnings;
        }
        for _ in 0..MAX_ROUNDS {
            let before = self.loaded;
            for modalias in modaliases(Path::new("/sys")) {
                warnings.extend(self.load_for(&modalias));
            }
            if self.loaded == before {
                break;
            }
        }
        warnings
    }

    /// Loads the modules for one device, once for each `modalias`.
    pub fn load_for(&mut self, modalias: &str) -> Vec<String> {
        if !self.for_devices || modalias.is_empty() || !self.seen.insert(modalias.to_owned()) {
            return Vec::new();
        }
        let names: Vec<String> = self.index.for_modalias(modalias).into_iter().map(str::to_owned).collect();
        names.iter().filter_map(|name| self.load(name, "").err()).collect()
    }

    fn insert(&self, step: &Step, options: &str) -> Result<(), Errno> {
        let (file, compressed) =
            self.open(&step.file).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::system::finit_module(&file, &options, if compressed { COMPRESSED_FILE } else { 0 })
    }

    /// Opens a module's file, which an image may hold decompressed under the name that `modules.dep` gives it, less
    /// the suffix of the compression.
    fn open(&self, file: &Path) -> io::Result<(File, bool)> {
        let path = self.folder.join(file);
        let compressed = path.extension().is_some_and(|extension| extension != "ko");
        match File::open(&path) {
            Ok(file) => Ok((file, compressed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && compressed => {
                Ok((File::open(path.with_extension(""))?, false))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the kernel has a driver already, by the text of `/proc/filesystems`: its name stands last in its line.
fn is_registered(driver: &str, filesystems: &str) -> bool {
    filesystems.lines().any(|line| line.split_whitespace().next_back() == Some(driver))
}

/// The usual reasons, with what to do.
fn told(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "its file, or something that it needs, is missing: name it in the image's modules".into(),
        Errno::NOEXEC => "it was not built for this kernel: build the image with the kernel's own modules".into(),
        Errno::NODEV => "it found no device for itself".into(),
        Errno::OPNOTSUPP => "this kernel does not decompress modules: put them into the image decompressed".into(),
        errno => std::io::Error::from(errno).to_string(),
    }
}

/// The classes whose devices say what driver they want; other devices say it on their bus.
const CLASSES: &[&str] = &["class/dmi", "class/input"];

/// What each device says of itself. All of `/sys/devices` holds no other, and has ten times as many folders.
fn modaliases(sys: &Path) -> Vec<String> {
    let mut found: Vec<String> = entries(&sys.join("bus"))
        .flat_map(|bus| entries(&bus.join("devices")))
        .chain(CLASSES.iter().flat_map(|class| entries(&sys.join(class))))
        .filter_map(|device| std::fs::read_to_string(device.join("modalias")).ok())
        .map(|text| text.trim().to_owned())
        .filter(|modalias| !modalias.is_empty())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_on_buses_and_of_some_classes_are_found() {
        let sys = tempfile::tempdir().unwrap();
        let device = |path: &str, modalias: Option<&str>| {
            let folder = sys.path().join(path);
            std::fs::create_dir_all(&folder).unwrap();
            if let Some(modalias) = modalias {
                std::fs::write(folder.join("modalias"), modalias).unwrap();
            }
        };
        device("bus/virtio/devices/virtio0", Some("virtio:d00000002v00001AF4\n"));
        device("bus/pci/devices/0000:00:03.0", Some("pci:v1\n"));
        device("bus/pci/devices/0000:00:04.0", Some("pci:v1\n"));
        device("bus/cpu/devices/cpu0", Some("\n"));
        device("bus/serio/devices/serio0", None);
        device("class/input/input0", Some("input:b0019\n"));
        device("class/dmi/id", Some("dmi:bvn1\n"));
        assert_eq!(modaliases(sys.path()), ["dmi:bvn1", "input:b0019", "pci:v1", "virtio:d00000002v00001AF4"]);
    }

    #[test]
    fn a_driver_that_the_kernel_has_is_not_looked_for() {
        let text = "nodev\tsysfs\nnodev\ttmpfs\n\text3\n\text4\n";
        assert!(is_registered("ext4", text) && is_registered("tmpfs", text));
        assert!(!is_registered("ext2", text) && !is_registered("nodev", text) && !is_registered("ext", text));
        let mut loader = Loader::new("/nonexistent".into());
        assert_eq!(loader.load_file_system("proc"), Ok(()));
        assert!(loader.load_file_system("nonesuch").unwrap_err().contains("fs_nonesuch is not among"));
    }

    #[test]
    fn a_missing_module_is_reported_with_a_remedy_and_the_rest_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("modules.dep"), "kernel/a.ko:\n").unwrap();
        let mut loader = Loader::new(folder.path().to_owned());
        let warnings = loader.load_listed(&["nonesuch".into(), "a key=value".into()]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("nonesuch") && warnings[0].contains("list of modules"));
        assert!(warnings[1].contains("module a cannot be loaded") && warnings[1].contains("missing"));
    }

    #[test]
    fn a_decompressed_module_is_found_under_its_compressed_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.ko"), "x").unwrap();
        std::fs::write(folder.path().join("b.ko.zst"), "x").unwrap();
        let loader = Loader::new(folder.path().to_owned());
        assert!(!loader.open(Path::new("a.ko.xz")).unwrap().1);
        assert!(loader.open(Path::new("b.ko.zst")).unwrap().1);
        assert!(loader.open(Path::new("c.ko.zst")).is_err());
    }
}
