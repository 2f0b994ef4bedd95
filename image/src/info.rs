//! `mmos-image info`: what a root image is, and what it takes on a device.

use std::io::Write;
use std::path::PathBuf;

use indicatif::BinaryBytes;
use serde::Serialize;
use wim::Format;

#[derive(clap::Args)]
#[command(after_help = "\
The tmpfs size is that of the image which boots. An archive does not say it in advance: it is unpacked once to count.
A squashfs or EROFS takes none, since it is mounted.

Examples:
  mmos-image info root.wim
  mmos-image info root.wim --json | jq .need.bytes")]
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
    /// Bytes of memory beside the tmpfs.
    working: u64,
}

#[derive(Serialize)]
struct WimInfo {
    compression: String,
    solid: bool,
    chunk_size: u32,
    guid: String,
    boot_index: u32,
    images: Vec<Image>,
}

#[derive(Serialize)]
struct Image {
    index: u32,
    name: String,
    description: String,
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
        need: Need { bytes: need.bytes, inodes: need.inodes, working: need.working },
        wim: if root.format() == Format::Wim { Some(wim_info(args)?) } else { None },
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &info)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(out, "format       {}", info.format)?;
    writeln!(out, "size         {}", BinaryBytes(info.bytes))?;
    if let Some(wim) = &info.wim {
        let solid = if wim.solid { ", solid" } else { "" };
        writeln!(out, "compression  {}{solid}, chunks of {}", wim.compression, BinaryBytes(wim.chunk_size.into()))?;
        writeln!(out, "guid         {}", wim.guid)?;
        for image in &wim.images {
            let boots = if image.index == wim.boot_index { ", boots" } else { "" };
            writeln!(out, "image {:<6} {:?}{boots}", image.index, image.name)?;
            if !image.description.is_empty() {
                writeln!(out, "             {}", image.description)?;
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
    let wim = crate::open::wim(&args.image)?;
    let header = wim.header();
    let (compression, chunk_size) = wim.solid().unwrap_or((header.compression, header.chunk_size));
    Ok(WimInfo {
        compression: compression.to_string(),
        solid: wim.solid().is_some(),
        chunk_size,
        guid: header.guid.iter().map(|byte| format!("{byte:02x}")).collect(),
        boot_index: header.boot_index,
        images: wim
            .images()
            .iter()
            .map(|i| Image { index: i.index, name: i.name.clone(), description: i.description.clone() })
            .collect(),
    })
}
