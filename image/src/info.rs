//! `mmos-image info`: what a root image is, and what it takes on a device.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use indicatif::BinaryBytes;
use serde::Serialize;
use wim::tree::{Kind, Tree};
use wim::{Format, ImageInfo, Wim};

use crate::kind::hex;

#[derive(clap::Args)]
#[command(after_help = "\
The tmpfs size is that of the image which boots. An archive does not say it in advance: it is unpacked once to count.
A squashfs or EROFS takes none, since it is mounted.

Examples:
  mmos-image info root.wim
  mmos-image info root.wim --json | jq .need.bytes
  mmos-image info install.wim --json | jq -r '.wim.images[] | \"\\(.index) \\(.name) \\(.bytes)\"'")]
pub struct Args {
    /// The root image
    image: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Info {
    format: String,
    bytes: u64,
    need: Need,
    #[serde(skip_serializing_if = "Option::is_none")]
    wim: Option<WimInfo>,
}

#[derive(Serialize)]
struct Need {
    /// Bytes of tmpfs.
    bytes: u64,
    inodes: u64,
    /// Bytes for extended attributes.
    xattrs: u64,
    /// Bytes of memory beside the tmpfs.
    working: u64,
}

#[derive(Serialize)]
struct WimInfo {
    compression: String,
    solid: bool,
    chunk_size: u32,
    guid: String,
    /// The image marked for booting; 0 is none.
    boot_index: u32,
    /// Files that it is split in.
    parts: u16,
    /// Made to be unpacked while it arrives.
    pipable: bool,
    /// Chunks of the integrity table; null where there is none.
    integrity_chunks: Option<u64>,
    images: Vec<Image>,
}

#[derive(Serialize)]
struct Image {
    index: u32,
    name: String,
    description: String,
    /// Names in it.
    entries: u64,
    files: u64,
    directories: u64,
    symlinks: u64,
    /// Devices, fifos, sockets.
    special: u64,
    /// Bytes of file contents; a file with several names counts once.
    bytes: u64,
    /// Whether it has modes and owners of Linux; else they are by rule.
    unix: bool,
    /// What it has that Linux does not, and how often: named data streams, short names.
    left_out: BTreeMap<&'static str, u64>,
}

/// What is mounted and not unpacked takes no tmpfs; see [`wim::filesystem`].
#[derive(Serialize)]
struct FileSystemInfo<'a> {
    format: &'static str,
    bytes: u64,
    compression: &'a str,
    block_size: u32,
    inodes: u64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(found) = wim::filesystem::open(&args.image)? {
        return file_system(args, &found);
    }
    let root = wim::root::open(&args.image, None)?;
    let need = root.need()?;
    let info = Info {
        format: root.format().to_string(),
        bytes: root.source_bytes(),
        need: Need { bytes: need.bytes, inodes: need.inodes, xattrs: need.xattrs, working: need.working },
        wim: if root.format() == Format::Wim { Some(wim_info(args)?) } else { None },
    };
    if args.json {
        return crate::json::print(&info);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "format       {}", info.format)?;
    writeln!(out, "size         {}", BinaryBytes(info.bytes))?;
    if let Some(wim) = &info.wim {
        let solid = if wim.solid { ", solid" } else { "" };
        writeln!(out, "compression  {}{solid}, chunks of {}", wim.compression, BinaryBytes(wim.chunk_size.into()))?;
        writeln!(out, "guid         {}", wim.guid)?;
        match wim.integrity_chunks {
            Some(chunks) => writeln!(out, "integrity    a table of {chunks} chunks")?,
            None => writeln!(out, "integrity    no table")?,
        }
        writeln!(out, "parts        {}{}", wim.parts, if wim.pipable { ", pipable" } else { "" })?;
        for image in &wim.images {
            let boots = if image.index == wim.boot_index { ", boots" } else { "" };
            writeln!(out, "image {:<6} {:?}{boots}", image.index, image.name)?;
            if !image.description.is_empty() {
                writeln!(out, "             {}", image.description)?;
            }
            let Image { entries, files, directories, symlinks, special, bytes, .. } = image;
            writeln!(
                out,
                "             {entries} entries: {files} files of {}, {directories} directories, {symlinks} links, \
                 {special} special",
                BinaryBytes(*bytes)
            )?;
            if !image.unix {
                writeln!(out, "             made on Windows: modes and owners are by rule (docs/images.md)")?;
            }
            for (what, count) in &image.left_out {
                writeln!(out, "             {count} {what}")?;
            }
        }
    }
    writeln!(out, "in tmpfs     {}, {} inodes", BinaryBytes(info.need.bytes), info.need.inodes)?;
    writeln!(out, "to unpack    {} of memory beside it", BinaryBytes(info.need.working))?;
    Ok(())
}

fn file_system(args: &Args, found: &wim::FileSystem) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let info = FileSystemInfo {
        format: found.kind.name(),
        bytes: found.bytes,
        compression: &found.compression,
        block_size: found.block_size,
        inodes: found.inodes,
    };
    if args.json {
        serde_json::to_writer_pretty(&mut out, &info)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(out, "format       {}, mounted from RAM and not unpacked", info.format)?;
    writeln!(out, "size         {}", BinaryBytes(info.bytes))?;
    writeln!(out, "compression  {}, blocks of {}", info.compression, BinaryBytes(info.block_size.into()))?;
    writeln!(out, "inodes       {}", info.inodes)?;
    Ok(())
}

fn wim_info(args: &Args) -> anyhow::Result<WimInfo> {
    let wim = wim::Wim::open_path(&args.image)?;
    let header = wim.header();
    let (compression, chunk_size) = wim.solid().unwrap_or((header.compression, header.chunk_size));
    let shown = || args.image.display().to_string();
    let mut images = Vec::with_capacity(wim.images().len());
    // A tree at a time: all together may not fit in memory.
    for image in wim.images() {
        let tree = wim.tree(image.index).with_context(shown)?;
        images.push(totals(&wim, &tree, image));
    }
    Ok(WimInfo {
        compression: compression.to_string(),
        solid: wim.solid().is_some(),
        chunk_size,
        guid: hex(&header.guid),
        boot_index: header.boot_index,
        parts: header.parts,
        pipable: header.pipable,
        integrity_chunks: wim.integrity_chunks().with_context(shown)?,
        images,
    })
}

fn totals(wim: &Wim, tree: &Tree, image: &ImageInfo) -> Image {
    let count = |is: fn(Kind) -> bool| tree.inodes.iter().filter(|inode| is(inode.kind)).count() as u64;
    Image {
        index: image.index,
        name: image.name.clone(),
        description: image.description.clone(),
        entries: tree.names.len() as u64,
        files: count(|kind| kind == Kind::File),
        directories: count(|kind| kind == Kind::Directory),
        symlinks: count(|kind| matches!(kind, Kind::Symlink(_))),
        special: count(|kind| matches!(kind, Kind::Special(_))),
        bytes: tree.inodes.iter().fold(0, |sum, inode| sum.saturating_add(wim.file_size(inode))),
        unix: tree.inodes.iter().any(|inode| !inode.mode_by_rule),
        left_out: tree.left_out.clone(),
    }
}
