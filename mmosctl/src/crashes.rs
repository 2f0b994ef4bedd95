//! `mmosctl crashes`: cores of services and the kernel's last words, listed, and written to files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use lz4_flex::frame::FrameDecoder;
use mmos::control::{self, Client, Crash, CrashKind};

use crate::failure::Failure;
use crate::screen::{Screen, Tone};
use crate::span::stamp;
use crate::status::signal_name;

/// Shows all that are kept, the oldest first.
pub fn list(socket: &Path, json: bool, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let crashes = Client::connect_to(socket, control::PATIENCE)?.crashes()?;
    if json {
        screen.json(&crashes, false)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<[String; 4]> = crashes.iter().map(row).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (id, when, whose) = (width(0), width(1), width(2));
    for [name, time, unit, what] in &rows {
        screen.line(&[
            (Tone::Strong, &format!("{name:id$}  ")),
            (Tone::Faint, &format!("{time:when$}  ")),
            (Tone::Plain, &format!("{unit:whose$}  ")),
            (Tone::Bad, what),
        ])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(crash: &Crash) -> [String; 4] {
    let when = crash.time.map_or("boot before".to_owned(), |time| stamp(time).trim_start().to_owned());
    let (unit, what) = match crash.kind {
        CrashKind::kernel => ("kernel".to_owned(), crash.reason.clone()),
        CrashKind::core => {
            let signal = crash.signal.unwrap_or(0);
            let cut = if crash.cut { ", the rest was cut off" } else { "" };
            let (pid, kib) = (crash.pid.unwrap_or(0), crash.bytes / 1024);
            let signal = format!("killed by signal {signal}{}", signal_name(signal));
            let what = format!("{}[{pid}] {signal}, {kib} KiB{cut}", crash.command);
            (crash.unit.clone().unwrap_or_else(|| "other".to_owned()), what)
        }
    };
    [crash.id.clone(), when, unit, what]
}

/// Writes the core or record of crash `id` to `file`.
pub fn get(socket: &Path, id: &str, file: &Path, screen: &mut Screen<'_>) -> Result<ExitCode, Failure> {
    let crashes = Client::connect_to(socket, control::PATIENCE)?.crashes()?;
    let Some(crash) = crashes.into_iter().find(|crash| crash.id == id) else {
        return Err(Failure::NoCrash { id: id.to_owned() });
    };
    let from = Path::new(&crash.path);
    let of = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Failure::File { path, source }
    };
    let mut contents = FrameDecoder::new(File::open(from).map_err(of(from))?);
    let mut target: Option<File> = None;
    if file != Path::new("-") {
        // As secret as the memory of the process was.
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file);
        target = Some(opened.map_err(of(file))?);
    }
    let mut piece = vec![0; 64 * 1024];
    loop {
        let n = match contents.read(&mut piece) {
            Ok(0) => return Ok(ExitCode::SUCCESS),
            Ok(n) => n,
            Err(error) => return Err(of(from)(error)),
        };
        let bytes = piece.get(..n).unwrap_or_default();
        match &mut target {
            Some(target) => target.write_all(bytes).map_err(of(file))?,
            None => screen.write(bytes)?,
        }
    }
}
