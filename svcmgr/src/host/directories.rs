//! Makes the directories of a unit before its processes are made, and removes its runtime directories after they are
//! gone: systemd.exec(5), `RuntimeDirectory=` and its like.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::users::Identity;
use crate::unit::Service;
use crate::unit::directories::{Directories, DirectoryKind, Preserve};

/// What was made for a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// The variable for each kind, and its paths, separated by colons.
    pub variables: Vec<(&'static str, String)>,
    /// All paths.
    pub paths: Vec<String>,
    /// Of a dynamic user, whose directories lie where nobody else can go: where they are to be seen.
    pub private: Vec<String>,
}

/// Makes what is missing, with the owner and the mode that the unit asks for.
///
/// # Errors
/// In words, for the unit's reason.
pub fn make(service: &Service, identity: Option<&Identity>) -> Result<Made, String> {
    let mut made = Made::default();
    let Some(directories) = &service.directories else { return Ok(made) };
    let (uid, gid) = identity.map_or((0, 0), |identity| (identity.uid, identity.gid));
    for kind in DirectoryKind::ALL {
        let set = directories.of(kind);
        let base = kind.base();
        let mut paths = Vec::new();
        // What outlives a dynamic user must not be found by the next one of its number.
        let is_private =
            service.dynamic_user && matches!(kind, DirectoryKind::State | DirectoryKind::Cache | DirectoryKind::Logs);
        // systemd.exec(5): configuration belongs to root.
        let owner = if kind == DirectoryKind::Configuration { (0, 0) } else { (uid, gid) };
        for name in &set.names {
            let path = format!("{base}/{name}");
            let failed = |error: io::Error| format!("its directory {path} cannot be made: {error}");
            let real = if is_private {
                let real = private(base, name, &path).map_err(failed)?;
                made.private.push(real.clone());
                real
            } else {
                path.clone()
            };
            directory(Path::new(&real), set.mode, owner).map_err(failed)?;
            paths.push(path);
            made.paths.push(real);
        }
        for (name, link) in &set.links {
            let link = format!("{base}/{link}");
            match symlink(format!("{base}/{name}"), &link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(format!("the link {link} cannot be made: {error}"));
                }
                _ => {}
            }
        }
        if !paths.is_empty() {
            made.variables.push((kind.variable(), paths.join(":")));
        }
    }
    Ok(made)
}

/// Removes the runtime directories of a unit whose processes are gone.
pub fn remove(unit: &str, directories: &Directories, restarting: bool) {
    let keep = match directories.preserve {
        Preserve::No => false,
        Preserve::Restart => restarting,
        Preserve::Yes => true,
    };
    if keep {
        return;
    }
    let set = directories.of(DirectoryKind::Runtime);
    let base = Path::new(DirectoryKind::Runtime.base());
    for (_, link) in &set.links {
        // It may be gone, and is no harm if it stays.
        let _ = fs::remove_file(base.join(link));
    }
    for name in &set.names {
        match fs::remove_dir_all(base.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{unit}: its runtime directory {name} stays: {error}");
            }
            _ => {}
        }
    }
}

/// The place of a dynamic user's directory, and the link to it where it is looked for.
fn private(base: &str, name: &str, path: &str) -> io::Result<String> {
    let folder = format!("{base}/private");
    DirBuilder::new().recursive(true).mode(0o755).create(base)?;
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => fs::set_permissions(&folder, Permissions::from_mode(0o700))?,
    }
    let real = format!("{folder}/{name}");
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            // From before the user was dynamic.
            parents(Path::new(&real))?;
            fs::rename(path, &real)?;
        }
        _ => {}
    }
    parents(Path::new(path))?;
    match symlink(&real, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(real),
    }
}

fn parents(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o755).create(parent),
        None => Ok(()),
    }
}

fn directory(path: &Path, mode: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
    parents(path)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(io::Error::other("it is there, and no directory"));
    }
    // What another user had is the service's now, with all that is in it.
    if (found.uid(), found.gid()) != (uid, gid) {
        own(path, uid, gid)?;
    }
    if found.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Gives a tree away, without following links.
fn own(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let mut stack = vec![path.to_owned()];
    while let Some(path) = stack.pop() {
        std::os::unix::fs::lchown(&path, Some(uid), Some(gid))?;
        if !fs::symlink_metadata(&path)?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&path)? {
            stack.push(entry?.path());
        }
    }
    Ok(())
}
