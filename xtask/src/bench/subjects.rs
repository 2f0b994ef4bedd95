//! What is measured: a tree, the images made of it, and for each the programs that unpack it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::ValueEnum;

use super::measure::program;
use crate::build;
use crate::progress::step;

/// What a root can come as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A WIM without compression
    None,
    /// A WIM, XPRESS
    Xpress,
    /// A WIM, LZX: what `mmos-image` makes unless told otherwise
    Lzx,
    /// A WIM, LZMS
    Lzms,
    /// A WIM, LZMS, all files together
    #[value(name = "solid-lzms")]
    SolidLzms,
    /// tar in zstd
    #[value(name = "tar.zst")]
    TarZst,
    /// tar in zstd, in several frames
    #[value(name = "tar.pzstd")]
    TarPzstd,
    /// squashfs with zstd
    Squashfs,
    /// The tree itself
    Tree,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::None => "none",
            Form::Xpress => "xpress",
            Form::Lzx => "lzx",
            Form::Lzms => "lzms",
            Form::SolidLzms => "solid-lzms",
            Form::TarZst => "tar.zst",
            Form::TarPzstd => "tar.pzstd",
            Form::Squashfs => "squashfs",
            Form::Tree => "tree",
        })
    }
}

impl Form {
    fn is_wim(self) -> bool {
        !matches!(self, Form::TarZst | Form::TarPzstd | Form::Squashfs | Form::Tree)
    }

    fn image(self, folder: &Path) -> PathBuf {
        folder.join(if self == Form::Tree { "tree".into() } else { format!("image.{self}") })
    }

    /// Makes the image in `folder` of the `tree` there, by the tool that is usual for it and with what it does unless
    /// told otherwise.
    pub fn make(self, folder: &Path) -> anyhow::Result<PathBuf> {
        let (tree, image) = (folder.join("tree"), self.image(folder));
        let mut command;
        match self {
            Form::Tree => return Ok(image),
            Form::TarZst => {
                command = Command::new("tar");
                command.args(["--zstd", "-cf"]).arg(&image).arg("-C").arg(&tree).arg(".");
            }
            Form::TarPzstd => {
                command = Command::new("tar");
                command.args(["--use-compress-program=pzstd -q", "-cf"]).arg(&image).arg("-C").arg(&tree).arg(".");
            }
            Form::Squashfs => {
                command = Command::new("mksquashfs");
                command.arg(&tree).arg(&image).args(["-comp", "zstd", "-quiet", "-no-progress"]);
            }
            wim => {
                command = Command::new(program("mmos-image"));
                let format = if wim == Form::SolidLzms { "lzms".into() } else { wim.to_string() };
                command.arg("capture").arg(&tree).arg(&image).args(["--compress", &format]);
                if wim == Form::SolidLzms {
                    command.arg("--solid");
                }
            }
        }
        step(&format!("making the image {self}"), || {
            let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
            if !output.status.success() {
                bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
            }
            Ok(image.clone())
        })
    }

    /// The programs that unpack it, each with its command line, into `out`.
    pub fn tools(self, folder: &Path, out: &Path) -> Vec<(Tool, Vec<PathBuf>)> {
        let line = |words: &[&Path]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let word = |word: &'static str| Path::new(word);
        let image = self.image(folder);
        let (ours, wimlib) = (program("mmos-image"), program("wimlib-apply"));
        let ours = (Tool::Ours, line(&[&ours, word("apply"), &image, out]));
        match self {
            Form::Tree => vec![(Tool::Cp, line(&[word("cp"), word("-a"), &image.join("."), out]))],
            Form::Squashfs => {
                let flags = [word("-quiet"), word("-no-progress"), word("-force"), word("-dest")];
                vec![(Tool::Unsquashfs, line(&[&[word("unsquashfs")], &flags[..], &[out, &image]].concat()))]
            }
            Form::TarZst | Form::TarPzstd => {
                let tar = line(&[word("tar"), word("--zstd"), word("-xf"), &image, word("-C"), out]);
                vec![ours, (Tool::Tar, tar)]
            }
            _ => vec![
                ours,
                (Tool::Wimlib, line(&[&wimlib, &image, out])),
                (Tool::Imagex, line(&[word("wimlib-imagex"), word("apply"), &image, out, word("--unix-data")])),
            ],
        }
    }

    /// How much faster than wimlib 1.14.4 ours has to be.
    pub fn goal(self) -> Option<f64> {
        match self {
            Form::None => Some(1.0),
            Form::SolidLzms => Some(1.5),
            form => form.is_wim().then_some(1.8),
        }
    }
}

/// A program that unpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Ours,
    Wimlib,
    Imagex,
    Tar,
    Unsquashfs,
    Cp,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tool::Ours => "mmos-image apply",
            Tool::Wimlib => "wimlib 1.14.4",
            Tool::Imagex => "wimlib-imagex",
            Tool::Tar => "tar --zstd -x",
            Tool::Unsquashfs => "unsquashfs",
            Tool::Cp => "cp -a",
        })
    }
}

/// Builds our programs, and those that ours are measured against.
pub fn build() -> anyhow::Result<()> {
    let mut cargo = build::cargo();
    cargo.args(["build", "--quiet", "--release", "--package", "mmos-image", "--package", "bench"]);
    step("building mmos-image, and wimlib's extraction", || build::run(&mut cargo))
}

/// Copies what is measured into `folder/tree`: `directory`, or programs and Python of this machine.
pub fn tree(directory: Option<&Path>, folder: &Path) -> anyhow::Result<()> {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree)?;
    let mut command = Command::new("cp");
    match directory {
        Some(directory) => {
            command.args(["-a", "--"]).arg(directory.join(".")).arg(&tree);
        }
        None => {
            // Relative to the root: `cp --parents` looks for the parents of an absolute path where it runs.
            command.current_dir("/").args(["-a", "--parents", "--", "usr/bin", "usr/sbin"]);
            let mut wanted = vec![PathBuf::from("usr/lib/git-core")];
            for entry in std::fs::read_dir("/usr/lib")? {
                let name = entry?.file_name();
                if name.to_string_lossy().starts_with("python3") {
                    wanted.push(Path::new("usr/lib").join(name));
                }
            }
            wanted.sort();
            command.args(wanted.iter().filter(|path| Path::new("/").join(path).is_dir())).arg(&tree);
        }
    }
    step("copying the tree into memory", || build::run(&mut command))
}
