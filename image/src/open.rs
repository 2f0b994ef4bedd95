//! Opening a WIM for the commands that look into it.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use wim::source::FileSource;
use wim::{Format, Wim};

/// The WIM at `path`, or the reason that it is none.
pub fn wim(path: &Path) -> anyhow::Result<Wim> {
    let format = wim::root::open(path, None)?.format();
    if format != Format::Wim {
        let (tool, name) =
            if format == Format::TarZst { ("tar --zstd -tvf", "tar") } else { ("zstd -dc | cpio -tv", "cpio") };
        bail!("{} is a {name} archive, and only a WIM has a list; use `{tool}`", path.display());
    }
    let shown = || path.display().to_string();
    let source = File::open(path).and_then(FileSource::new).with_context(shown)?;
    Wim::open(Box::new(source)).with_context(shown)
}
