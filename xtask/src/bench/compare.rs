//! Whether what was unpacked is the tree: names, kinds, owners, modes, times, contents.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};

/// Fails with the first difference between two trees. Times are compared in seconds, all that tar and squashfs keep;
/// that of the root itself is not.
pub fn same(expected: &Path, got: &Path) -> anyhow::Result<()> {
    let (expected_names, got_names) = (names(expected)?, names(got)?);
    if expected_names != got_names {
        bail!("{} holds {got_names:?}, and {expected_names:?} were to be there", got.display());
    }
    for name in expected_names {
        let (expected, got) = (expected.join(&name), got.join(&name));
        let look =
            |path: &Path| fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()));
        let (a, b) = (look(&expected)?, look(&got)?);
        let facts =
            |m: &Metadata| (m.mode(), m.uid(), m.gid(), m.mtime(), if m.is_dir() { 0 } else { m.size() }, m.rdev());
        if facts(&a) != facts(&b) {
            bail!("{} is {:?}, and was to be {:?}", got.display(), facts(&b), facts(&a));
        }
        let differ = if a.is_symlink() {
            fs::read_link(&expected)? != fs::read_link(&got)?
        } else {
            a.is_file() && fs::read(&expected)? != fs::read(&got)?
        };
        if differ {
            bail!("the contents of {} are not those of {}", got.display(), expected.display());
        }
        if a.is_dir() {
            same(&expected, &got)?;
        }
    }
    Ok(())
}

fn names(directory: &Path) -> anyhow::Result<Vec<std::ffi::OsString>> {
    let list = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut names = list.map(|entry| Ok(entry?.file_name())).collect::<anyhow::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
