//! A block device that takes no write while we read from it. A file system that is mounted read-only may still write:
//! ext4 clears its list of orphans, whatever `ro,noload` says, unless the device itself refuses (`fs/ext4/orphan.c`).

use std::fs::File;
use std::io;
use std::path::Path;

use crate::sys;

/// A device made read-only; dropped, it is again what it was before.
#[derive(Debug)]
pub struct Protected {
    /// There where the setting is ours to take back.
    device: Option<File>,
}

impl Protected {
    /// Makes the device at `node` read-only.
    ///
    /// # Errors
    /// When it cannot be opened, or its driver refuses.
    pub fn hold(node: &Path) -> io::Result<Protected> {
        let device = File::open(node)?;
        if sys::is_read_only(&device)? {
            return Ok(Protected { device: None });
        }
        sys::set_read_only(&device, true)?;
        Ok(Protected { device: Some(device) })
    }
}

impl Drop for Protected {
    fn drop(&mut self) {
        if let Some(device) = &self.device
            && let Err(error) = sys::set_read_only(device, false)
        {
            log::warn!("the device of the root image stays read-only: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::superblock::Kind;
    use rustix::mount::{MountFlags, UnmountFlags};
    use std::ffi::CString;
    use std::path::PathBuf;
    use std::process::Command;

    fn run(program: &str, arguments: &[&str]) -> Option<String> {
        let output = Command::new(program).args(arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    /// A loop device; none where this machine or user has none to give.
    struct Loop(PathBuf);

    impl Loop {
        fn over(file: &Path) -> Option<Loop> {
            let device = run("/sbin/losetup", &["--find", "--show", file.to_str().unwrap()])?;
            let device = Loop(device.into());
            // The setting outlives what the device stood for before.
            device.writable();
            Some(device)
        }

        fn writable(&self) {
            let _ = File::open(&self.0).and_then(|node| sys::set_read_only(&node, false));
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            self.writable();
            run("/sbin/losetup", &["--detach", self.0.to_str().unwrap()]);
        }
    }

    #[test]
    fn a_file_system_with_orphans_is_mounted_without_a_write_and_the_device_can_be_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        let image_name = image.to_str().unwrap();
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        run("/sbin/mkfs.ext4", &["-q", image_name]).unwrap();
        // A file that was deleted while it was open: inode 12, without a name, at the head of the list of orphans.
        let note = folder.path().join("note");
        std::fs::write(&note, "was open when the power went").unwrap();
        for request in [
            &format!("write {} orphan", note.display()),
            "unlink orphan",
            "sif <12> links_count 0",
            "ssv last_orphan 12",
        ] {
            run("/sbin/debugfs", &["-w", "-R", request, image_name]).unwrap();
        }
        let before = std::fs::read(&image).unwrap();
        let Some(device) = Loop::over(&image) else {
            println!("not shown: this machine gives no loop device");
            return;
        };
        let protected = Protected::hold(&device.0).unwrap();
        let point = folder.path().join("point");
        std::fs::create_dir(&point).unwrap();
        let options = CString::new(Kind::Ext.options("ext4")).unwrap();
        rustix::mount::mount(&device.0, &point, "ext4", MountFlags::RDONLY, options.as_c_str()).unwrap();
        rustix::mount::unmount(&point, UnmountFlags::empty()).unwrap();
        let node = File::open(&device.0).unwrap();
        assert!(sys::is_read_only(&node).unwrap());
        drop(protected);
        assert!(!sys::is_read_only(&node).unwrap());
        // One that was read-only before stays so.
        sys::set_read_only(&node, true).unwrap();
        drop(Protected::hold(&device.0).unwrap());
        assert!(sys::is_read_only(&node).unwrap());
        node.sync_all().unwrap();
        drop((node, device));
        let after = std::fs::read(&image).unwrap();
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert_eq!(changed, 0, "bytes changed");
    }

    #[test]
    fn what_is_no_block_device_is_an_error() {
        assert!(Protected::hold(Path::new("/dev/null")).is_err());
        assert!(Protected::hold(Path::new("/nonexistent")).is_err());
    }
}
