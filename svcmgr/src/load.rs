//! From the folders of unit files to the set of units: which file wins, what is masked, what another name stands for,
//! what is not supported. Reads the disk, and starts nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::unit::specifier::Machine;
use crate::unit::{Unit, is_valid_name, parse, split_type};

/// Where units are, the first one winning by name; beneath the root.
pub const FOLDERS: [&str; 4] = ["etc/mmos/units", "etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// No unit file is longer: a larger one is a mistake, and must not eat the memory.
const MAX_FILE: u64 = 1 << 20;
/// Most are shorter than this.
const USUAL_FILE: usize = 8192;

/// What was found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The units, by name.
    pub units: BTreeMap<String, Unit>,
    /// Other names of units: name, and the unit that it stands for.
    pub aliases: BTreeMap<String, String>,
    /// Units of types that are not supported, and templates: how many of each type, and one of them.
    pub unsupported: BTreeMap<String, (usize, PathBuf)>,
    /// What is to be said, besides the units' own notes.
    pub problems: Vec<String>,
}

/// Reads all units beneath `root`.
pub fn load(root: &Path, machine: &Machine) -> Loaded {
    let mut loaded = Loaded::default();
    let mut names = BTreeSet::new();
    let mut seen_folders = BTreeSet::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        let id = match fs::metadata(&folder) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                loaded.problems.push(format!("{} cannot be read: {error}", folder.display()));
                continue;
            }
        };
        // /lib is often a link to /usr/lib: the same folder twice.
        if seen_folders.insert(id) {
            read_folder(root, &folder, &mut names, &mut loaded, machine);
        }
    }
    // An alias of something that is not there stands for nothing.
    let units = &loaded.units;
    loaded.aliases.retain(|_, target| units.contains_key(target));
    loaded
}

impl Loaded {
    /// The unit that `name` stands for, by its own name or another.
    pub fn resolve<'a>(&'a self, name: &'a str) -> Option<&'a Unit> {
        self.units.get(name).or_else(|| self.units.get(self.aliases.get(name)?))
    }
}

fn read_folder(root: &Path, folder: &Path, names: &mut BTreeSet<String>, loaded: &mut Loaded, machine: &Machine) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            loaded.problems.push(format!("{} cannot be read: {error}", folder.display()));
            return;
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                loaded.problems.push(format!("{} cannot be read to its end: {error}", folder.display()));
                return;
            }
        };
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            loaded.problems.push(format!("{}: a unit's name must be plain ASCII, ignored", path.display()));
            continue;
        };
        let Some((stem, kind)) = split_type(&name) else {
            if let Some(unit) = name.strip_suffix(".d").filter(|unit| split_type(unit).is_some()) {
                loaded.problems.push(format!("{}: drop-ins of {unit} are not supported yet, ignored", path.display()));
            }
            continue;
        };
        if !is_valid_name(&name) {
            loaded.problems.push(format!("{}: not a name for a unit, ignored", path.display()));
            continue;
        }
        if !names.insert(name.clone()) {
            continue;
        }
        let unsupported = match (stem.contains('@'), kind) {
            (true, _) => Some("template"),
            (false, "service" | "target") => None,
            (false, other) => Some(other),
        };
        if let Some(kind) = unsupported {
            let count = loaded.unsupported.entry(kind.to_owned()).or_insert((0, path));
            count.0 = count.0.saturating_add(1);
            continue;
        }
        // Known from the folder, as a rule: most files are plain, and need not be asked what they are.
        let kind = entry.file_type().ok();
        if kind.is_some_and(|kind| kind.is_symlink())
            && let Some(target) = alias_target(&path, &name)
        {
            loaded.aliases.insert(name, target);
            continue;
        }
        let unit = read_unit(root, &name, &path, kind.is_some_and(|kind| kind.is_file()), machine);
        loaded.units.insert(name, unit);
    }
}

/// The other unit's name, if the link at `path` is another name for one. A link to `/dev/null`, or to a file that is
/// named as the unit itself, is none.
fn alias_target(path: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    let target = target.file_name()?.to_str()?;
    (target != name && is_valid_name(target)).then(|| target.to_owned())
}

fn read_unit(root: &Path, name: &str, path: &Path, is_plain: bool, machine: &Machine) -> Unit {
    let refused = |reason: String| {
        let mut unit = parse::parse(name, path, "", machine);
        unit.refused = Some(format!("{}: {reason}", path.display()));
        unit
    };
    let masked = || refused("masked: the file is empty, or a link to /dev/null".to_owned());
    // A link in a root that is not "/" is resolved as the device would.
    let real = match if is_plain { None } else { fs::read_link(path).ok() } {
        Some(target) if target == Path::new("/dev/null") => return masked(),
        Some(target) if target.is_absolute() => root.join(target.strip_prefix("/").unwrap_or(&target)),
        _ => path.to_owned(),
    };
    match read_text(&real, is_plain) {
        // systemd.unit(5): "an empty file is treated as masked".
        Ok(text) if text.is_empty() => masked(),
        Ok(text) => parse::parse(name, path, &text, machine),
        Err(error) => refused(format!("cannot be read: {error}")),
    }
}

/// A distribution brings hundreds of unit files, and each system call for one of them is one for all: a plain file is
/// opened, read at once, and closed.
fn read_text(path: &Path, is_plain: bool) -> io::Result<String> {
    if !is_plain && !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = fs::File::open(path)?;
    let mut bytes = Vec::with_capacity(USUAL_FILE);
    // Without clearing the memory first, which would cost more than the reading.
    let length = rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes))?;
    // A regular file gives less than it is asked for at its end alone.
    if length >= USUAL_FILE {
        io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE), &mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE {
            return Err(io::Error::other(format!("it is longer than {MAX_FILE} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|error| io::Error::other(format!("it is not UTF-8: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    const OK: &str = "[Service]\nExecStart=/bin/true\n";

    #[test]
    fn the_first_folder_wins_and_lib_may_be_a_link() {
        let dir = root(&[
            ("etc/mmos/units/a.service", "[Unit]\nDescription=ours\n[Service]\nExecStart=/x\n"),
            ("usr/lib/systemd/system/a.service", OK),
            ("usr/lib/systemd/system/b.service", OK),
        ]);
        symlink("usr/lib", dir.path().join("lib")).unwrap();
        let loaded = load(dir.path(), &Machine::default());
        assert_eq!(loaded.units.keys().collect::<Vec<_>>(), ["a.service", "b.service"]);
        assert_eq!(loaded.units["a.service"].description, "ours");
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    }

    #[test]
    fn masks_aliases_and_unsupported_types_are_told_apart() {
        let dir = root(&[
            ("usr/lib/systemd/system/a.service", OK),
            ("usr/lib/systemd/system/getty@.service", OK),
            ("usr/lib/systemd/system/s.socket", ""),
            ("usr/lib/systemd/system/empty.service", ""),
            ("usr/lib/systemd/system/a.service.d/x.conf", ""),
            ("usr/lib/systemd/system/README", ""),
        ]);
        let folder = dir.path().join("usr/lib/systemd/system");
        symlink("/dev/null", folder.join("masked.service")).unwrap();
        symlink("a.service", folder.join("other.service")).unwrap();
        symlink("nowhere.service", folder.join("dangling.service")).unwrap();
        let loaded = load(dir.path(), &Machine::default());
        assert_eq!(loaded.resolve("other.service").unwrap().name, "a.service");
        assert!(loaded.resolve("dangling.service").is_none());
        for masked in ["masked.service", "empty.service"] {
            assert!(loaded.units[masked].refused.as_ref().unwrap().contains("masked"), "{masked}");
        }
        assert_eq!(loaded.unsupported.keys().collect::<Vec<_>>(), ["socket", "template"]);
        assert_eq!(loaded.problems.len(), 1, "{:?}", loaded.problems);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_refused_unit() {
        let dir = root(&[("etc/mmos/units/ok.service", OK)]);
        let folder = dir.path().join("etc/mmos/units");
        fs::create_dir(folder.join("dir.service")).unwrap();
        fs::write(folder.join("bytes.service"), b"[Service]\nExecStart=/\xff\n").unwrap();
        fs::write(folder.join("huge.service"), vec![b'#'; usize::try_from(MAX_FILE).unwrap().saturating_add(1)])
            .unwrap();
        let loaded = load(dir.path(), &Machine::default());
        for (name, reason) in
            [("dir.service", "not a regular file"), ("bytes.service", "not UTF-8"), ("huge.service", "longer than")]
        {
            assert!(loaded.units[name].refused.as_ref().unwrap().contains(reason), "{name}");
        }
        assert_eq!(loaded.units["ok.service"].refused, None);
    }

    #[test]
    fn a_long_file_is_read_to_its_end() {
        let long = format!("[Service]\n{}ExecStart=/bin/true\n", "# words\n".repeat(USUAL_FILE));
        let dir = root(&[("etc/mmos/units/long.service", &long)]);
        let loaded = load(dir.path(), &Machine::default());
        assert_eq!(loaded.units["long.service"].service.start.len(), 1);
    }
}
