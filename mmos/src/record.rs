//! The boot record as evidence: found without following a link, and judged by who could have put it there.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::Error;

/// `TMPFS_MAGIC` of statfs(2). A record in RAM cannot be older than the boot.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Far more than a record with all its steps takes.
const MAX_BYTES: u64 = 1 << 20;

/// Something lies at the record's place.
pub(crate) struct Found {
    path: PathBuf,
    file: OwnedFd,
    /// Every folder on the way from `/`, and the file itself last.
    way: Vec<(PathBuf, Stat)>,
}

/// What the record says; a newer init may say more.
#[derive(Debug, serde::Deserialize)]
struct Identity {
    boot_id: String,
}

/// Looks for a file at `path`, an absolute path. `None` where there is none, or where a link is on the way: init
/// makes no links.
pub(crate) fn find(path: &Path) -> Result<Option<Found>, Error> {
    let mut so_far = PathBuf::from("/");
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Some(mut at) = present(rustix::fs::open("/", folder, Mode::empty()), &so_far)? else { return Ok(None) };
    let mut way = vec![(so_far.clone(), stat(&at, &so_far)?)];

    let mut names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let Some(last) = names.next_back() else { return Ok(None) };
    for name in names {
        so_far.push(name);
        let Some(next) = present(rustix::fs::openat(&at, name, folder, Mode::empty()), &so_far)? else {
            return Ok(None);
        };
        way.push((so_far.clone(), stat(&next, &so_far)?));
        at = next;
    }
    so_far.push(last);
    // Non-blocking, in case it is a fifo.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Some(file) = present(rustix::fs::openat(&at, last, flags, Mode::empty()), &so_far)? else { return Ok(None) };
    way.push((so_far, stat(&file, path)?));
    Ok(Some(Found { path: path.to_owned(), file, way }))
}

impl Found {
    /// Whether root alone can have put it there during this boot. Uids mean what they say in the first user namespace
    /// only: ask that before.
    pub(crate) fn is_roots(&self) -> Result<bool, Error> {
        if self.way.iter().any(|(_, stat)| stat.st_uid != 0) {
            return Ok(false);
        }
        for (path, stat) in &self.way {
            let mode = stat.st_mode & 0o7777;
            if mode & 0o022 != 0 {
                return Err(Error::Writable { path: path.clone(), mode });
            }
        }
        let is_file = self.way.last().is_some_and(|(_, s)| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
        let file_system = rustix::fs::fstatfs(&self.file).map_err(|errno| Error::unreadable(&self.path, errno))?;
        Ok(is_file && u64::try_from(file_system.f_type) == Ok(TMPFS_MAGIC))
    }

    /// The boot that the record speaks of.
    pub(crate) fn boot_id(self) -> Result<String, Error> {
        let malformed = |reason: String| Error::Malformed { path: self.path.clone(), reason };
        let mut text = Vec::new();
        std::fs::File::from(self.file)
            .take(MAX_BYTES.saturating_add(1))
            .read_to_end(&mut text)
            .map_err(|source| Error::unreadable(&self.path, source))?;
        if u64::try_from(text.len()).is_ok_and(|length| length > MAX_BYTES) {
            return Err(malformed(format!("larger than {MAX_BYTES} bytes")));
        }
        let identity: Identity = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        Ok(identity.boot_id)
    }
}

/// Tells "is not there, or is a link or no folder" from "cannot look".
fn present(opened: Result<OwnedFd, Errno>, path: &Path) -> Result<Option<OwnedFd>, Error> {
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        // A socket, or a device without a driver: certainly not what init wrote.
        Err(Errno::NXIO | Errno::NODEV) => Ok(None),
        Err(errno) => Err(Error::unreadable(path, errno)),
    }
}

fn stat(fd: &OwnedFd, path: &Path) -> Result<Stat, Error> {
    rustix::fs::fstat(fd).map_err(|errno| Error::unreadable(path, errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder_with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot.json");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn found(path: &Path) -> Found {
        find(path).unwrap().unwrap()
    }

    #[test]
    fn nothing_a_link_or_a_file_for_a_folder_is_no_record() {
        let (folder, path) = folder_with("{}");
        assert!(find(&folder.path().join("other.json")).unwrap().is_none());
        assert!(find(&path.join("below-a-file")).unwrap().is_none());
        assert!(find(Path::new("/")).unwrap().is_none());
        let link = folder.path().join("link.json");
        symlink(&path, &link).unwrap();
        assert!(find(&link).unwrap().is_none());
        let way_round = folder.path().join("way");
        symlink(folder.path(), &way_round).unwrap();
        assert!(find(&way_round.join("boot.json")).unwrap().is_none());
    }

    #[test]
    fn a_fifo_does_not_block_and_a_socket_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        assert_eq!(found(&fifo).way.last().map(|(_, s)| FileType::from_raw_mode(s.st_mode)), Some(FileType::Fifo));
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(find(&socket).unwrap().is_none());
    }

    #[test]
    fn every_folder_on_the_way_is_judged() {
        let (folder, path) = folder_with("{}");
        let names: Vec<PathBuf> = found(&path).way.into_iter().map(|(path, _)| path).collect();
        let mut expected: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
        expected.reverse();
        assert_eq!(names, expected);
        drop(folder);
    }

    #[test]
    fn a_folder_that_others_can_write_is_an_error_that_names_it() {
        let (_folder, path) = folder_with("{}");
        let mut found = found(&path);
        found.way.retain(|(at, _)| at.starts_with(path.parent().unwrap()));
        for (_, stat) in &mut found.way {
            stat.st_uid = 0;
            stat.st_mode &= !0o022;
        }
        found.way.get_mut(0).unwrap().1.st_mode |= 0o020;
        let message = found.is_roots().unwrap_err().to_string();
        assert!(message.contains(path.parent().unwrap().to_str().unwrap()), "{message}");
        // Whatever its mode, what is not root's was not made by init.
        found.way.get_mut(0).unwrap().1.st_uid = 1000;
        assert!(!found.is_roots().unwrap());
    }

    #[test]
    fn a_record_says_which_boot_it_speaks_of_and_may_say_more() {
        let record = link::BootRecord { boot_id: "4711".into(), ..Default::default() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot.json");
        record.write(&path).unwrap();
        assert_eq!(found(&path).boot_id().unwrap(), "4711");
        let (_newer, path) = folder_with(r#"{"later":[1,{"x":null}],"boot_id":"0815"}"#);
        assert_eq!(found(&path).boot_id().unwrap(), "0815");
    }

    #[test]
    fn rubbish_is_an_error_and_not_an_answer() {
        let long = format!("{}{{\"boot_id\":\"1\"}}", " ".repeat(1 << 20));
        for text in ["", "{", "null", "{\"boot_id\":7}", "{\"id\":\"x\"}", "\0\0", long.as_str()] {
            let (_folder, path) = folder_with(text);
            let error = found(&path).boot_id().unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{error}");
            assert_eq!(error.errno(), Errno::BADMSG.raw_os_error());
        }
    }
}
