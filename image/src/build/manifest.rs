//! `manifest.json`: every input of an image with its SHA-256, and what came out. It is also the memory of the build:
//! an output whose inputs have not changed is not made again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the manifest in the output folder.
pub const NAME: &str = "manifest.json";

/// What an image was made of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    /// Version of `mmos-image`.
    pub builder: String,
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

/// Inputs by kind and name, as in `file examples/hello/usr/bin/hello`, with the SHA-256 of each.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// Notes a file, or each file of a folder, under the name `as_name`.
    pub fn add(&mut self, kind: &str, as_name: &str, path: &Path) -> anyhow::Result<()> {
        let meta = std::fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if meta.is_dir() {
            for (name, path) in entries(path)? {
                self.add(kind, &format!("{as_name}/{name}"), &path)?;
            }
            self.note(kind, &format!("{as_name}/"), &text_sha256("folder"));
        } else if meta.is_symlink() {
            let target = std::fs::read_link(path)?;
            self.note(kind, as_name, &text_sha256(&target.to_string_lossy()));
        } else {
            let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
            let executable = if mode & 0o111 == 0 { "" } else { " (executable)" };
            self.note(kind, &format!("{as_name}{executable}"), &sha256(path)?);
        }
        Ok(())
    }

    /// Notes something whose hash is known.
    pub fn note(&mut self, kind: &str, name: &str, sha256: &str) {
        self.0.insert(format!("{kind} {name}"), sha256.to_owned());
    }

    /// Notes a setting by its text.
    pub fn setting(&mut self, name: &str, value: &str) {
        self.note("setting", &format!("{name} = {value}"), &text_sha256(value));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Manifest {
    /// The manifest of an earlier build in `folder`; an empty one where there is none, or none that can be read.
    pub fn read(folder: &Path) -> Manifest {
        std::fs::read(folder.join(NAME)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Whether `name` in `folder` is what these inputs gave before, made by this version and untouched since.
    pub fn is_current(&self, folder: &Path, name: &str, inputs: &Inputs) -> bool {
        let Some(output) = self.outputs.get(name) else { return false };
        self.builder == builder()
            && output.inputs == *inputs
            && std::fs::metadata(folder.join(name)).is_ok_and(|meta| meta.len() == output.bytes)
    }

    /// Notes what was made, and from what.
    pub fn record(&mut self, folder: &Path, name: &str, inputs: Inputs) -> anyhow::Result<()> {
        let path = folder.join(name);
        let bytes = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
        self.outputs.insert(name.to_owned(), Output { sha256: sha256(&path)?, bytes, inputs });
        Ok(())
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

/// What made the image. Part of every comparison: a new builder may make other bytes of the same inputs.
pub fn builder() -> String {
    format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}

/// The entries of a folder by name, sorted, so that the same folder is always read in the same order.
pub fn entries(folder: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let read = || -> io::Result<Vec<(String, PathBuf)>> {
        std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
            .collect()
    };
    let mut found = read().with_context(|| format!("cannot read the folder {}", folder.display()))?;
    found.sort();
    Ok(found)
}

/// SHA-256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> anyhow::Result<String> {
    let hash = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(&hasher.finalize())),
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            }
        }
    };
    hash().with_context(|| format!("cannot read {}", path.display()))
}

/// SHA-256 of a text, in hexadecimal.
pub fn text_sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_input_makes_an_output_stale() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("in");
        std::fs::write(&source, "one").unwrap();
        std::fs::write(folder.path().join("out"), "made").unwrap();
        let inputs = || {
            let mut inputs = Inputs::default();
            inputs.add("file", "in", &source).unwrap();
            inputs
        };
        let mut manifest = Manifest { builder: builder(), ..Manifest::default() };
        manifest.record(folder.path(), "out", inputs()).unwrap();
        manifest.write(folder.path()).unwrap();
        let again = Manifest::read(folder.path());
        assert!(again.is_current(folder.path(), "out", &inputs()));
        std::fs::write(&source, "two").unwrap();
        assert!(!again.is_current(folder.path(), "out", &inputs()));
    }

    #[test]
    fn a_deleted_or_cut_output_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("out"), "made").unwrap();
        let mut manifest = Manifest { builder: builder(), ..Manifest::default() };
        manifest.record(folder.path(), "out", Inputs::default()).unwrap();
        std::fs::write(folder.path().join("out"), "mad").unwrap();
        assert!(!manifest.is_current(folder.path(), "out", &Inputs::default()));
        std::fs::remove_file(folder.path().join("out")).unwrap();
        assert!(!manifest.is_current(folder.path(), "out", &Inputs::default()));
    }
}
