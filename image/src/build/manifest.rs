//! `manifest.json`: every input of an image with its SHA-256, and what came out. It is also the memory of the build:
//! an output whose inputs have not changed is not made again. It never speaks of an output that may be half made, or
//! made of something else: an output is taken out before it is made, and put back when it is there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::inputs::{Inputs, sha256};

/// Name of the manifest in the output folder.
pub const NAME: &str = "manifest.json";

/// What an image was made of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    /// Version of `mmos-image`.
    pub builder: String,
    /// The definition and the packages' lists, as files. What they say is among the inputs of the outputs; a changed
    /// comment in them makes no output again.
    #[serde(default)]
    pub definition: Inputs,
    /// By file name.
    pub outputs: BTreeMap<String, Output>,
}

/// One file of the image, and all that went into it.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub sha256: String,
    pub bytes: u64,
    pub inputs: Inputs,
}

impl Manifest {
    /// The manifest of an earlier build in `folder`; an empty one where there is none, or none that can be read, or
    /// one by another version, which may have made other bytes of the same inputs.
    pub fn read(folder: &Path) -> Manifest {
        let read = || -> Option<Manifest> { serde_json::from_slice(&std::fs::read(folder.join(NAME)).ok()?).ok() };
        read().filter(|manifest| manifest.builder == builder()).unwrap_or_default()
    }

    /// Whether `name` in `folder` is what these inputs gave before, and untouched since.
    pub fn is_current(&self, folder: &Path, name: &str, inputs: &Inputs) -> bool {
        let Some(output) = self.outputs.get(name) else { return false };
        let path = folder.join(name);
        output.inputs == *inputs
            // Its length comes first since it costs nothing.
            && std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == output.bytes)
            && sha256(&path).is_ok_and(|found| found == output.sha256)
    }

    /// Forgets an output that is going to be made, in the file too: whatever ends the build now, the next one will
    /// not take what it finds for the output that it was.
    pub fn forget(&mut self, folder: &Path, name: &str) -> anyhow::Result<()> {
        self.outputs.remove(name);
        self.write(folder)
    }

    /// Notes what was made, and from what, in the file too.
    pub fn record(&mut self, folder: &Path, name: &str, inputs: Inputs) -> anyhow::Result<()> {
        let path = folder.join(name);
        let bytes = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
        self.outputs.insert(name.to_owned(), Output { sha256: sha256(&path)?, bytes, inputs });
        self.write(folder)
    }

    /// Writes the manifest into `folder`, as a whole.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(NAME);
        let next = path.with_extension("json.new");
        std::fs::write(&next, serde_json::to_vec_pretty(self)?)
            .and_then(|()| std::fs::rename(&next, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What makes images.
pub fn builder() -> String {
    format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::super::inputs::Detail;
    use super::*;

    fn recorded(folder: &Path, inputs: Inputs) -> Manifest {
        std::fs::write(folder.join("out"), "made").unwrap();
        let mut manifest = Manifest { builder: builder(), ..Manifest::default() };
        manifest.record(folder, "out", inputs).unwrap();
        Manifest::read(folder)
    }

    #[test]
    fn a_changed_input_makes_an_output_stale() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("in");
        std::fs::write(&source, "one").unwrap();
        let inputs = || {
            let mut inputs = Inputs::default();
            inputs.add("file", "in", &source, Detail::Content).unwrap();
            inputs
        };
        let manifest = recorded(folder.path(), inputs());
        assert!(manifest.is_current(folder.path(), "out", &inputs()));
        std::fs::write(&source, "two").unwrap();
        assert!(!manifest.is_current(folder.path(), "out", &inputs()));
    }

    #[test]
    fn a_deleted_cut_or_changed_output_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = recorded(folder.path(), Inputs::default());
        assert!(manifest.is_current(folder.path(), "out", &Inputs::default()));
        for content in ["mad", "mode"] {
            std::fs::write(folder.path().join("out"), content).unwrap();
            assert!(!manifest.is_current(folder.path(), "out", &Inputs::default()), "{content}");
        }
        std::fs::remove_file(folder.path().join("out")).unwrap();
        assert!(!manifest.is_current(folder.path(), "out", &Inputs::default()));
    }

    #[test]
    fn another_builder_takes_nothing_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = recorded(folder.path(), Inputs::default());
        assert_eq!(manifest.outputs.len(), 1);
        manifest.builder = "mmos-image 0.0.1".into();
        manifest.write(folder.path()).unwrap();
        assert!(Manifest::read(folder.path()).outputs.is_empty());
    }
}
