//! Opening a WIM for the commands that look into it.

use std::path::Path;

use anyhow::bail;
use wim::{Format, Wim};

/// The WIM at `path`, or the reason that it is none.
pub fn wim(path: &Path) -> anyhow::Result<Wim> {
    let format = wim::root::open(path, None)?.format();
    if format != Format::Wim {
        let (tool, name) =
            if format == Format::TarZst { ("tar --zstd -tvf", "tar") } else { ("zstd -dc | cpio -tv", "cpio") };
        bail!("{} is a {name} archive, and only a WIM has a list; use `{tool}`", path.display());
    }
    Ok(Wim::open_path(path)?)
}
