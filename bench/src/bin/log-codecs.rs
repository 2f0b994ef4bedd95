//! What lz4 and zstd make of logs in blocks as the supervisor seals them: how small, how fast, and in how much memory.
//! `cargo run --release -p bench --bin log-codecs FILE…`, with logs as files; one table row for each and each codec.

use std::process::ExitCode;
use std::time::Instant;

/// As long as a sealed block, before it is compressed: `svcmgr/src/log/layout.rs`.
const BLOCK: usize = 16 * 1024;

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: log-codecs FILE...");
        return ExitCode::from(2);
    }
    println!("file | codec | times smaller | compressed MB/s | working memory KiB");
    for file in files {
        let data = match std::fs::read(&file) {
            Ok(data) if !data.is_empty() => data,
            Ok(_) => continue,
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
        };
        row(&file, "lz4", &data, |block, out| lz4_flex::block::compress_into(block, out).map_err(|e| e.to_string()));
        let before = anonymous();
        match zstd::bulk::Compressor::new(1) {
            Ok(mut zstd) => {
                let made = zstd.compress_to_buffer(data.get(..BLOCK).unwrap_or(&data), &mut vec![0; 2 * BLOCK]);
                let memory = anonymous().saturating_sub(before);
                if let Err(error) = made {
                    eprintln!("{file}: {error}");
                }
                println!("{file} | zstd 1, one block | | | {memory}");
                row(&file, "zstd 1", &data, |block, out| {
                    zstd.compress_to_buffer(block, out).map_err(|e| e.to_string())
                });
            }
            Err(error) => eprintln!("zstd: {error}"),
        }
    }
    ExitCode::SUCCESS
}

fn row(file: &str, codec: &str, data: &[u8], mut compress: impl FnMut(&[u8], &mut [u8]) -> Result<usize, String>) {
    let mut out = vec![1; 2 * BLOCK];
    let (before, begun) = (anonymous(), Instant::now());
    let mut compressed: usize = 0;
    for block in data.chunks(BLOCK) {
        match compress(block, &mut out) {
            Ok(length) => compressed = compressed.saturating_add(length),
            Err(error) => return eprintln!("{file}: {codec}: {error}"),
        }
    }
    let (took, memory) = (begun.elapsed().as_secs_f64(), anonymous().saturating_sub(before));
    let float = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let (times, speed) = (float(data.len()) / float(compressed), float(data.len()) / took / 1e6);
    println!("{file} | {codec} | {times:.2} | {speed:.0} | {memory}");
}

/// Memory of this process's own, in KiB; proc_pid_status(5), `RssAnon`.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}
