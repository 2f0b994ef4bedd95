//! Which files there are: units, drop-ins, and links that say which unit wants which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Loaded;
use crate::insist::insist;
use crate::unit::{Relation, is_template, is_valid_name, split_type, template_of};

/// Where units are, the first one winning by name; beneath the root.
pub const FOLDERS: [&str; 4] = ["etc/mmos/units", "etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// A link in a folder such as `x.target.wants`.
#[derive(Debug)]
pub(super) struct Link {
    /// What the unit that is linked is to the one whose folder it is.
    pub(super) relation: Relation,
    /// The unit that is linked.
    pub(super) name: String,
    /// The link.
    pub(super) path: PathBuf,
}

/// The file of a unit.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Known to be a regular file, and no link.
    pub(super) is_plain: bool,
}

/// All files that say something of units.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Units and templates, by name.
    pub(super) units: BTreeMap<String, Found>,
    /// Other names: links to a file of another name.
    pub(super) aliases: BTreeMap<String, String>,
    /// Folders of drop-ins by what stands before `.d`, the first one winning.
    folders: BTreeMap<String, Vec<PathBuf>>,
    /// Links, by the unit whose folder they are in.
    links: BTreeMap<String, Vec<Link>>,
}

/// Looks through all folders beneath `root`.
pub(super) fn scan(root: &Path, loaded: &mut Loaded) -> Files {
    let mut files = Files::default();
    let mut seen_folders = BTreeSet::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        let id = match insist(|| fs::metadata(&folder)) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                loaded.problems.push(format!("{} cannot be read: {error}", folder.display()));
                continue;
            }
        };
        // /lib is often a link to /usr/lib: the same folder twice.
        if seen_folders.insert(id) {
            files.read_folder(&folder, loaded);
        }
    }
    files
}

impl Files {
    /// The file of a template, by its own name or another.
    pub(super) fn template(&self, name: &str) -> Option<&Found> {
        self.units.get(self.aliases.get(name).map_or(name, String::as_str))
    }

    /// The drop-ins of a unit, in the order in which they are read: by their own names, wherever they are. Of two of one
    /// name the one that speaks of the unit more closely counts.
    pub(super) fn drop_ins(&self, name: &str) -> Vec<PathBuf> {
        if self.folders.is_empty() {
            return Vec::new();
        }
        let mut found: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
        for folder in self.owners(name).iter().filter_map(|owner| self.folders.get(owner)).flatten() {
            for entry in entries(folder).unwrap_or_default() {
                let path = entry.path();
                if path.extension().is_some_and(|extension| extension == "conf") {
                    found.entry(entry.file_name()).or_insert(path);
                }
            }
        }
        found.into_values().collect()
    }

    /// The links in the folders of a unit.
    pub(super) fn links_of(&self, name: &str) -> impl Iterator<Item = &Link> {
        self.links
            .get(name)
            .into_iter()
            .chain(template_of(name).and_then(|template| self.links.get(&template)))
            .flatten()
    }

    /// By which names folders speak of a unit: its own, its other ones, its template's, those of `a-.service` for
    /// `a-b.service`, and that of its type.
    fn owners(&self, name: &str) -> Vec<String> {
        let mut owners = vec![name.to_owned()];
        owners.extend(self.aliases.iter().filter(|(_, target)| *target == name).map(|(alias, _)| alias.clone()));
        owners.extend(template_of(name));
        let Some((stem, kind)) = split_type(name) else { return owners };
        let mut rest = stem.split('@').next().unwrap_or(stem).trim_end_matches('-');
        while let Some((prefix, _)) = rest.rsplit_once('-') {
            owners.push(format!("{prefix}-.{kind}"));
            rest = prefix.trim_end_matches('-');
        }
        owners.push(kind.to_owned());
        owners
    }

    fn read_folder(&mut self, folder: &Path, loaded: &mut Loaded) {
        let entries = match entries(folder) {
            Ok(entries) => entries,
            Err(error) => {
                loaded.problems.push(format!("{} cannot be read: {error}", folder.display()));
                return;
            }
        };
        for entry in entries {
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                loaded.problems.push(format!("{}: a unit's name must be plain ASCII, ignored", path.display()));
                continue;
            };
            if split_type(&name).is_none() {
                self.read_side_folder(&name, path);
                continue;
            }
            if !is_valid_name(&name) {
                loaded.problems.push(format!("{}: not a name for a unit, ignored", path.display()));
                continue;
            }
            if self.units.contains_key(&name) || self.aliases.contains_key(&name) {
                continue;
            }
            // Known from the folder, as a rule: most files are plain, and need not be asked what they are.
            let kind = entry.file_type().ok();
            let is_plain = kind.is_some_and(|kind| kind.is_file());
            if kind.is_some_and(|kind| kind.is_symlink())
                && let Some(target) = alias_target(&path, &name)
            {
                // An instance of its own, by a link to its template.
                if is_template(&target) && !is_template(&name) {
                    self.units.insert(name, Found { path, is_plain });
                } else {
                    self.aliases.insert(name, target);
                }
                continue;
            }
            self.units.insert(name, Found { path, is_plain });
        }
    }

    /// `x.service.d`, `service.d`, `x.target.wants`, `x.target.requires`.
    fn read_side_folder(&mut self, name: &str, path: PathBuf) {
        if let Some(owner) = name.strip_suffix(".d") {
            self.folders.entry(owner.to_owned()).or_default().push(path);
            return;
        }
        let kinds = [(".wants", Relation::Wants), (".requires", Relation::Requires)];
        for (suffix, relation) in kinds {
            let Some(owner) = name.strip_suffix(suffix).filter(|owner| is_valid_name(owner)) else { continue };
            for entry in entries(&path).unwrap_or_default() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let links = self.links.entry(owner.to_owned()).or_default();
                if is_valid_name(&name) && name != owner && !links.iter().any(|link| link.name == name) {
                    links.push(Link { relation, name, path: entry.path() });
                }
            }
        }
    }
}

/// What is in a folder, all of it: a unit that is not seen would be as if it did not exist.
fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    insist(|| fs::read_dir(folder)?.collect())
}

/// The other unit's name, if the link at `path` is another name for one. A link to `/dev/null`, or to a file that is
/// named as the unit itself, is none.
fn alias_target(path: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    let target = target.file_name()?.to_str()?;
    (target != name && is_valid_name(target)).then(|| target.to_owned())
}
