//! A loop device over an image in memory: the file systems of the kernel read from block devices.

use std::fs::File;
use std::io;
use std::path::Path;

use wim::filesystem::Kind;

use super::Error;
use super::backing::Backing;
use crate::modules::Loader;
use crate::sys;

const CONTROL: &str = "/dev/loop-control";
/// How often another process may be faster in taking a device that was free.
const TRIES: usize = 16;

/// A loop device, as long as this or a mount holds it.
#[derive(Debug)]
pub struct Loop {
    _device: File,
    node: String,
}

impl Loop {
    /// Its node.
    pub fn node(&self) -> &str {
        &self.node
    }
}

/// Sees to it that the kernel has loop devices.
///
/// # Errors
/// With what is wrong with their module.
pub fn load(modules: &mut Loader) -> Result<(), String> {
    let is_there = || Path::new(CONTROL).exists();
    if is_there() {
        return Ok(());
    }
    let loaded = modules.load("loop", "");
    if is_there() {
        return Ok(());
    }
    Err(loaded.err().unwrap_or_else(|| format!("there is no {CONTROL}, though the module loop is there")))
}

/// Makes a loop device stand for the image, read-only.
pub fn attach(image: &Backing, kind: Kind) -> Result<Loop, Error> {
    let failed = |action| move |source| Error::Loop { action, source };
    let control = File::open(CONTROL).map_err(failed("opening /dev/loop-control"))?;
    let mut last = io::ErrorKind::ResourceBusy.into();
    for _ in 0..TRIES {
        let number = sys::free_loop(&control).map_err(failed("asking for one"))?;
        let node = format!("/dev/loop{number}");
        let device = File::open(&node).map_err(failed("opening it"))?;
        match sys::attach_loop(&device, image, image.bytes, &format!("root.{kind}")) {
            Ok(()) => {
                log::debug!("the image is {node}");
                return Ok(Loop { _device: device, node });
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => last = error,
            Err(error) => return Err(failed("setting it up")(error)),
        }
    }
    Err(failed("setting it up")(last))
}
