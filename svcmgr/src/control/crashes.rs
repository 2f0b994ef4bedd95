//! `ListCrashes`: what is kept of crashes, as the protocol shows it.

use super::methods::micros;
use super::protocol::{self, CrashKind};
use crate::crash::{Folder, Kind};

/// All crashes, the oldest first.
pub fn list(folder: &Folder) -> Vec<protocol::Crash> {
    let crashes = folder.list().into_iter();
    crashes
        .map(|crash| protocol::Crash {
            path: folder.contents(&crash.id).display().to_string(),
            id: crash.id,
            kind: match crash.kind {
                Kind::Core => CrashKind::core,
                Kind::Kernel => CrashKind::kernel,
            },
            time: crash.time.map(micros),
            wall: micros(crash.wall),
            unit: crash.unit,
            pid: crash.pid.map(i64::from),
            uid: crash.uid.map(i64::from),
            signal: crash.signal.map(i64::from),
            command: crash.command,
            program: crash.program,
            arguments: crash.arguments,
            reason: crash.reason,
            bytes: micros(crash.bytes),
            kept: micros(crash.kept),
            cut: crash.cut,
        })
        .collect()
}
