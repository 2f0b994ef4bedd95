//! `mmos-image join`: an initramfs and further files in one file, for a boot loader that loads a single one.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};

use super::cpio::Writer;
use super::{host, initramfs};

#[derive(clap::Args)]
#[command(after_help = "\
The kernel unpacks the initramfs and then the files, which may replace some of it. Folders on the way to a file are
made.

Examples:
  mmos-image join initramfs.cpio.zst --add root.wim=/root.wim --out initrd.img
  mmos-image join initramfs.cpio.zst --add root.wim=/images/root.wim --add notes.txt=/etc/notes --out initrd.img")]
pub struct Args {
    /// The initramfs to begin with
    initramfs: PathBuf,
    /// File to add, and its path in the initramfs
    #[arg(long = "add", value_name = "FILE=/PATH", required = true)]
    add: Vec<String>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Joins an initramfs with files into one archive for a boot loader.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let files = args.add.iter().map(|pair| addition(pair)).collect::<anyhow::Result<Vec<_>>>()?;
    let part = host::unfinished(&args.out);
    let result = write(&args.initramfs, &files, &part).with_context(|| format!("cannot write {}", args.out.display()));
    initramfs::finish(result, &part, &args.out)
}

/// `FILE=/PATH`, as the name in the archive and the file.
fn addition(pair: &str) -> anyhow::Result<(String, PathBuf)> {
    let Some((file, path)) = pair.split_once('=').filter(|(_, path)| path.starts_with('/')) else {
        bail!("--add {pair}: give FILE=/PATH, as in --add root.wim=/root.wim");
    };
    let parts: Option<Vec<&str>> = Path::new(path)
        .components()
        .filter(|part| *part != Component::RootDir)
        .map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
        .collect();
    match parts.map(|parts| parts.join("/")) {
        Some(name) if !name.is_empty() && !path.ends_with('/') => Ok((name, PathBuf::from(file))),
        _ => bail!("--add {pair}: {path} is not the path of a file in the initramfs"),
    }
}

fn write(initramfs: &Path, files: &[(String, PathBuf)], out: &Path) -> anyhow::Result<()> {
    let mut writer = BufWriter::new(File::create(out)?);
    let mut first = File::open(initramfs).with_context(|| format!("cannot read {}", initramfs.display()))?;
    let length = io::copy(&mut first, &mut writer)?;
    // An archive begins on a multiple of four bytes.
    let padding = usize::try_from(length.wrapping_neg() % 4).unwrap_or(0);
    writer.write_all([0; 3].get(..padding).unwrap_or_default())?;
    let mut archive = Writer::new(writer);
    for (name, path) in files {
        let meta = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if !meta.is_file() {
            bail!("{} is no file", path.display());
        }
        archive.folders_to(name)?;
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.file(name, 0o644, file.metadata()?.len(), file)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_initramfs_is_made_plain_or_refused() {
        assert_eq!(addition("a=//images/./root.wim").unwrap(), ("images/root.wim".into(), "a".into()));
        for pair in ["a", "a=b", "a=/", "a=/x/", "a=/../x", "a=/x/.."] {
            assert!(addition(pair).is_err(), "{pair}");
        }
    }
}
