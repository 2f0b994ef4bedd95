//! The places at which a service sees something else than the host does, as they are gathered: by path, so that what is
//! beneath another comes after it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;

use super::sandbox::Folders;
use super::sys::mounts::attribute::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use super::sys::mounts::{Place, What};

/// The places by path.
#[derive(Debug)]
pub struct Places<'a> {
    root: &'a str,
    places: BTreeMap<String, Place>,
    hidden: Vec<String>,
}

impl<'a> Places<'a> {
    /// None yet, beneath the service's `root`, which is empty where it is the host's.
    pub fn new(root: &'a str) -> Places<'a> {
        Places { root, places: BTreeMap::new(), hidden: Vec::new() }
    }

    /// The service's root.
    pub fn root(&self) -> &str {
        self.root
    }

    /// Whether anything is said of a path as the host has it.
    pub fn has(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// All of them, what is beneath another after it.
    pub fn in_order(self) -> Vec<Place> {
        self.places.into_values().collect()
    }

    /// What becomes of a path in the service's root.
    pub fn add(&mut self, path: &str, what: What, set: u64, clear: u64, optional: bool) -> Result<(), String> {
        let target = format!("{}{path}", self.root);
        self.put(&target, what, set, clear, optional)
    }

    /// What becomes of a path as the host has it: attributes are added to what was said of it before, all else is
    /// said anew.
    pub fn put(&mut self, target: &str, what: What, set: u64, clear: u64, optional: bool) -> Result<(), String> {
        let target = real(target);
        // The root is a mount already: itself, or what was put there first.
        let what = if target == "/" && what == What::Same { What::InPlace } else { what };
        if let (Some(known), What::Same | What::InPlace) = (self.places.get_mut(&target), &what) {
            known.set = (known.set | set) & !clear;
            known.clear |= clear;
            return Ok(());
        }
        let make = self.makes(&target, &what)?;
        let place = Place { target: c_string(&target)?, what, set, clear, optional, make, copy: Cell::new(-1) };
        self.places.insert(target, place);
        Ok(())
    }

    /// Beneath an empty folder that hides what was there, each place has to be made.
    fn makes(&self, target: &str, what: &What) -> Result<Option<(Vec<CString>, bool)>, String> {
        let Some(hidden) = self.hidden.iter().find(|hidden| is_beneath(target, hidden)) else { return Ok(None) };
        let What::Copy { source, .. } = what else { return Ok(None) };
        let is_file = source.to_str().is_ok_and(|source| fs::metadata(source).is_ok_and(|found| !found.is_dir()));
        let parts = target.get(hidden.len()..).unwrap_or_default().split('/').filter(|part| !part.is_empty());
        let mut folders = Vec::new();
        let mut path = hidden.clone();
        for part in parts {
            path = format!("{path}/{part}");
            folders.push(c_string(&path)?);
        }
        folders.pop();
        Ok(Some((folders, is_file)))
    }

    /// Cannot be written.
    pub fn read_only(&mut self, path: &str) -> Result<(), String> {
        self.add(path, What::Same, READ_ONLY, 0, true)
    }

    /// As it was before anything above it was made read-only.
    pub fn writable(&mut self, path: &str) -> Result<(), String> {
        let target = real(&format!("{}{path}", self.root));
        // Something else is seen there already.
        if self.places.get(&target).is_some_and(|place| !matches!(place.what, What::Same)) {
            return Ok(());
        }
        let source = c_string(&target)?;
        self.add(path, What::Copy { source, recursive: true }, 0, 0, true)
    }

    /// Nothing of it can be seen.
    pub fn inaccessible(&mut self, path: &str, folders: &Folders, optional: bool) -> Result<(), String> {
        let target = format!("{}{path}", self.root);
        let kind = match fs::metadata(&target) {
            Ok(found) if found.is_dir() => "dir",
            Ok(_) => "file",
            // What is not there is inaccessible already.
            Err(_) if optional => return Ok(()),
            Err(error) => return Err(format!("InaccessiblePaths={path}: {error}")),
        };
        let source = c_string(&format!("{}/{kind}", folders.shared))?;
        let set = READ_ONLY | NO_SUID | NO_DEV | NO_EXEC;
        self.put(&target, What::Copy { source, recursive: false }, set, 0, optional)
    }

    /// An empty folder in memory.
    pub fn tmpfs(&mut self, path: &str, options: &str) -> Result<(), String> {
        let mut set = 0;
        let mut own = vec!["mode=0755"];
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => set |= READ_ONLY,
                "noexec" => set |= NO_EXEC,
                // It is without them anyhow.
                "rw" | "nosuid" | "nodev" | "strictatime" => {}
                option => own.push(option),
            }
        }
        let options = c_string(&own.join(","))?;
        self.add(path, What::Tmpfs(options), set, 0, false)?;
        self.hidden.push(real(&format!("{}{path}", self.root)));
        Ok(())
    }

    /// What is elsewhere is seen there.
    pub fn bind(
        &mut self,
        source: &str,
        target: &str,
        recursive: bool,
        read_only: bool,
        optional: bool,
    ) -> Result<(), String> {
        let set = if read_only { READ_ONLY } else { 0 };
        self.add(target, What::Copy { source: c_string(source)?, recursive }, set, 0, optional)
    }
}

/// Where links lead, so that what is beneath what is known. A path that is not there stays as it is.
pub fn real(path: &str) -> String {
    fs::canonicalize(path).ok().and_then(|path| path.into_os_string().into_string().ok()).unwrap_or(path.to_owned())
}

fn is_beneath(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// As the kernel takes it.
pub fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{text:?} holds a NUL byte"))
}
