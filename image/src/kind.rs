//! Words for what an entry is, and for bytes, as `list`, `diff` and `verify` print them.

use wim::Special;
use wim::tree::Kind;

/// The letter of `ls -l`.
pub fn letter(kind: Kind) -> char {
    match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink(_) => 'l',
        Kind::Special(Special::Fifo) => 'p',
        Kind::Special(Special::Socket) => 's',
        Kind::Special(Special::Char(_)) => 'c',
        Kind::Special(Special::Block(_)) => 'b',
    }
}

pub fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink(_) => "symlink",
        Kind::Special(Special::Fifo) => "fifo",
        Kind::Special(Special::Socket) => "socket",
        Kind::Special(Special::Char(_)) => "char",
        Kind::Special(Special::Block(_)) => "block",
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
