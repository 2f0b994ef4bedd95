//! What `depmod` wrote about the modules of this kernel (`modules.dep(5)`, `modules.alias`, `modules.softdep`,
//! `modules.builtin`), read from its text files, and the order in which a module and what it needs are to be loaded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::pattern;

/// One module to load: its name, and its file as `modules.dep` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Name, with `_` for `-`.
    pub name: String,
    /// Relative to the modules' folder, or absolute.
    pub file: PathBuf,
}

/// Why a module cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Neither a module nor an alias of one.
    #[error("module {0} is not among this kernel's modules: name it in the image's list of modules")]
    Unknown(String),
}

/// Everything known about the modules of one kernel.
#[derive(Debug, Default)]
pub struct Index {
    files: HashMap<String, Entry>,
    builtin: HashSet<String>,
    /// By what stands before the first ':' of the pattern (`pci`, `usb`, …), in which most patterns have no wildcard.
    aliases: BTreeMap<String, Vec<Alias>>,
    soft: HashMap<String, Soft>,
}

#[derive(Debug)]
struct Entry {
    file: PathBuf,
    needs: Vec<String>,
}

#[derive(Debug)]
struct Alias {
    pattern: String,
    module: String,
}

#[derive(Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

impl Index {
    /// Reads the index in `folder`, `/lib/modules/RELEASE`. Only `modules.dep` must be there.
    pub fn read(folder: &Path) -> io::Result<Index> {
        let optional = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let mut index = Index::default();
        index.add_dependencies(&std::fs::read_to_string(folder.join("modules.dep"))?);
        index.add_aliases(&optional("modules.alias"));
        index.add_soft_dependencies(&optional("modules.softdep"));
        index.add_builtin(&optional("modules.builtin"));
        Ok(index)
    }

    /// Adds the lines of `modules.dep`: `file: file-it-needs …`.
    pub fn add_dependencies(&mut self, text: &str) {
        for line in text.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            // depmod lists everything that is needed, directly or not, what is to be loaded first standing last.
            let needs = needs.split_whitespace().rev().map(module_name).collect();
            self.files.insert(module_name(file), Entry { file: file.trim().into(), needs });
        }
    }

    /// Adds the lines of `modules.alias`: `alias PATTERN MODULE`.
    pub fn add_aliases(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                let pattern = pattern::normalise(pattern);
                let kind = kind(&pattern).unwrap_or_default().to_owned();
                self.aliases.entry(kind).or_default().push(Alias { pattern, module: module.replace('-', "_") });
            }
        }
    }

    /// Adds the lines of `modules.softdep`: `softdep MODULE pre: … post: …`.
    pub fn add_soft_dependencies(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            let soft = self.soft.entry(module.replace('-', "_")).or_default();
            let mut after = None;
            for word in words {
                match (word, after) {
                    ("pre:", _) => after = Some(false),
                    ("post:", _) => after = Some(true),
                    (name, Some(false)) => soft.before.push(name.replace('-', "_")),
                    (name, Some(true)) => soft.after.push(name.replace('-', "_")),
                    _ => {}
                }
            }
        }
    }

    /// Adds the lines of `modules.builtin`: files that are part of the kernel.
    pub fn add_builtin(&mut self, text: &str) {
        self.builtin.extend(text.lines().filter(|line| !line.is_empty()).map(module_name));
    }

    /// How many modules there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The modules whose alias matches what a device says of itself.
    pub fn for_modalias(&self, modalias: &str) -> Vec<&str> {
        let modalias = pattern::normalise(modalias.trim());
        let same_kind = kind(&modalias).and_then(|kind| self.aliases.get(kind));
        let any_kind = self.aliases.get("");
        let mut found: Vec<&str> = Vec::new();
        for alias in same_kind.into_iter().chain(any_kind).flatten() {
            if pattern::matches(&alias.pattern, &modalias) && !found.contains(&alias.module.as_str()) {
                found.push(&alias.module);
            }
        }
        found
    }

    /// What to load for `name` (a module or an alias), in order; empty where it is part of the kernel.
    pub fn order(&self, name: &str) -> Result<Vec<Step>, Missing> {
        let name = name.replace('-', "_");
        let mut steps = Vec::new();
        let mut seen = HashSet::new();
        if self.visit(&name, &mut seen, &mut steps) {
            return Ok(steps);
        }
        let mut known = false;
        for module in self.for_modalias(&name) {
            known |= self.visit(module, &mut seen, &mut steps);
        }
        if known { Ok(steps) } else { Err(Missing::Unknown(name)) }
    }

    /// Depth first, each module once: a cycle in the files cannot hold us.
    fn visit<'a>(&'a self, name: &'a str, seen: &mut HashSet<&'a str>, steps: &mut Vec<Step>) -> bool
    where
        Self: 'a,
    {
        let Some((name, entry)) = self.files.get_key_value(name) else { return self.builtin.contains(name) };
        if !seen.insert(name) {
            return true;
        }
        let soft = self.soft.get(name);
        for before in soft.iter().flat_map(|soft| &soft.before) {
            self.visit_soft(before, seen, steps);
        }
        for needed in &entry.needs {
            if let Some((needed, _)) = self.files.get_key_value(needed) {
                self.visit(needed, seen, steps);
            }
        }
        steps.push(Step { name: name.clone(), file: entry.file.clone() });
        for after in soft.iter().flat_map(|soft| &soft.after) {
            self.visit_soft(after, seen, steps);
        }
        true
    }

    /// A soft dependency may be an alias (`crc32c`), and may be missing.
    fn visit_soft<'a>(&'a self, name: &'a str, seen: &mut HashSet<&'a str>, steps: &mut Vec<Step>) {
        if !self.visit(name, seen, steps) {
            for module in self.for_modalias(name) {
                if let Some((module, _)) = self.files.get_key_value(module) {
                    self.visit(module, seen, steps);
                }
            }
        }
    }
}

/// What stands before the first ':', where no wildcard stands in it.
fn kind(pattern: &str) -> Option<&str> {
    pattern.split_once(':').map(|(kind, _)| kind).filter(|kind| !kind.contains(['*', '?', '[', '\\']))
}

/// The name of the module in a file: its base name up to `.ko`, with `_` for `-`.
fn module_name(file: &str) -> String {
    let base = file.trim().rsplit('/').next().unwrap_or_default();
    base.split_once(".ko").map_or(base, |(stem, _)| stem).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index() -> Index {
        let mut index = Index::default();
        index.add_dependencies(
            "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko\n\
             kernel/fs/jbd2/jbd2.ko:\nkernel/fs/mbcache.ko:\n\
             kernel/crypto/crc32c-generic.ko.xz:\nkernel/lib/crc32c-arch.ko:\n\
             kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio-ring.ko kernel/drivers/virtio/virtio.ko\n\
             kernel/drivers/virtio/virtio-ring.ko: kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio.ko:\n",
        );
        index.add_aliases(
            "# Aliases extracted from modules themselves.\n\
             alias virtio:d00000002v* virtio_blk\nalias fs-ext4 ext4\nalias fs-ext3 ext4\n\
             alias crc32c crc32c_generic\nalias crc32c crc32c_arch\nalias *pnp:bad* jbd2\n",
        );
        index.add_soft_dependencies("# Soft dependencies\nsoftdep ext4 pre: crc32c post: virtio-blk\n");
        index.add_builtin("kernel/fs/fat/fat.ko\n");
        index
    }

    fn names(steps: &[Step]) -> Vec<&str> {
        steps.iter().map(|step| step.name.as_str()).collect()
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        assert_eq!(names(&index().order("virtio-blk").unwrap()), ["virtio", "virtio_ring", "virtio_blk"]);
    }

    #[test]
    fn soft_dependencies_and_aliases_are_followed() {
        let steps = index().order("fs-ext3").unwrap();
        assert_eq!(
            names(&steps),
            ["crc32c_generic", "crc32c_arch", "mbcache", "jbd2", "ext4", "virtio", "virtio_ring", "virtio_blk"]
        );
        assert_eq!(steps[0].file, Path::new("kernel/crypto/crc32c-generic.ko.xz"));
    }

    #[test]
    fn a_builtin_needs_nothing_and_an_unknown_one_is_an_error() {
        assert_eq!(index().order("fat"), Ok(vec![]));
        assert_eq!(index().order("nonesuch"), Err(Missing::Unknown("nonesuch".into())));
    }

    #[test]
    fn a_device_finds_its_driver() {
        assert_eq!(index().for_modalias("virtio:d00000002v00001AF4\n"), ["virtio_blk"]);
        assert_eq!(index().for_modalias("acpnp:bad:x"), ["jbd2"]);
        assert!(index().for_modalias("virtio:d00000003v00001AF4").is_empty());
    }

    #[test]
    fn a_cycle_in_the_files_ends() {
        let mut index = Index::default();
        index.add_dependencies("a.ko: b.ko\nb.ko: a.ko\n");
        index.add_soft_dependencies("softdep a pre: a b post: b a");
        assert_eq!(names(&index.order("a").unwrap()), ["b", "a"]);
    }

    proptest! {
        #[test]
        fn every_module_comes_once_and_after_what_it_needs(
            edges in proptest::collection::vec((0_u8..12, 0_u8..12), 0..40),
        ) {
            let mut index = Index::default();
            let mut text = String::new();
            for module in 0..12_u8 {
                let needs: Vec<String> = edges.iter().filter(|(a, b)| *a == module && b < a)
                    .map(|(_, b)| format!("m{b}.ko")).collect();
                text.push_str(&format!("m{module}.ko: {}\n", needs.join(" ")));
            }
            index.add_dependencies(&text);
            let steps = index.order("m11").unwrap();
            for (at, step) in steps.iter().enumerate() {
                prop_assert!(!names(&steps[..at]).contains(&step.name.as_str()));
                for need in &index.files[&step.name].needs {
                    prop_assert!(names(&steps[..at]).contains(&need.as_str()));
                }
            }
        }

        #[test]
        fn any_text_is_read_without_harm(text in "[a-c:./ \\n*\\[\\]-]{0,200}", name in "[a-c:]{0,5}") {
            let mut index = Index::default();
            index.add_dependencies(&text);
            index.add_aliases(&format!("alias {text}\n{text}"));
            index.add_soft_dependencies(&format!("softdep a pre: {text}"));
            let _ = index.order(&name);
            index.for_modalias(&name);
        }
    }
}
