//! What an entry carries beside its contents: owner, mode, times, extended attributes. Every format fills this in, and
//! the target applies it.

/// A point in time, since 1970, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// Whole seconds, before 1970 negative.
    pub seconds: i64,
    /// Nanoseconds after that, below 10⁹.
    pub nanos: u32,
}

/// Seconds from 1601, where Windows begins to count, to 1970: 369 years with 89 leap days.
const EPOCH_1601: i64 = 11_644_473_600;
const TICKS_PER_SECOND: u64 = 10_000_000;

impl Time {
    /// From the 100 ns ticks since 1601 that a WIM holds.
    pub(crate) fn from_ticks(ticks: u64) -> Time {
        let seconds = i64::try_from(ticks / TICKS_PER_SECOND).unwrap_or(i64::MAX);
        let nanos = u32::try_from(ticks % TICKS_PER_SECOND).unwrap_or(0).saturating_mul(100);
        Time { seconds: seconds.saturating_sub(EPOCH_1601), nanos }
    }
}

/// An extended attribute, by its full name as in xattr(7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Such as `security.capability`.
    pub name: Box<[u8]>,
    /// Any bytes.
    pub value: Box<[u8]>,
}

impl Xattr {
    /// Bytes that tmpfs keeps it in: 40 for its own with the value, and the name, each rounded up as the kernel's
    /// allocator does. Not less than what tmpfs takes off its room for inodes (`simple_xattr_space`, `fs/xattr.c`, Linux
    /// 6.6 and later).
    fn room(&self) -> u64 {
        let block = |bytes: usize| bytes.checked_next_power_of_two().unwrap_or(usize::MAX).max(8) as u64;
        block(self.value.len().saturating_add(40)).saturating_add(block(self.name.len().saturating_add(1)))
    }
}

/// What an entry carries beside its contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
    /// Last access; `None` where the format does not know it: then as `modified`.
    pub accessed: Option<Time>,
    /// Last modification.
    pub modified: Time,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
}

impl Meta {
    /// Bytes that tmpfs keeps the extended attributes in.
    pub(crate) fn xattr_room(&self) -> u64 {
        self.xattrs.iter().map(Xattr::room).fold(0, u64::saturating_add)
    }
}

/// A special file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A UNIX socket.
    Socket,
    /// A character device of this number, as makedev(3) composes it.
    Char(u64),
    /// A block device, likewise.
    Block(u64),
}

/// File types of a mode, as in inode(7).
pub(crate) mod file_type {
    pub(crate) const MASK: u32 = 0o170_000;
    pub(crate) const SOCKET: u32 = 0o140_000;
    pub(crate) const SYMLINK: u32 = 0o120_000;
    pub(crate) const REGULAR: u32 = 0o100_000;
    pub(crate) const BLOCK: u32 = 0o060_000;
    pub(crate) const DIRECTORY: u32 = 0o040_000;
    pub(crate) const CHAR: u32 = 0o020_000;
    pub(crate) const FIFO: u32 = 0o010_000;
}

impl Special {
    /// The special file that a mode stands for.
    pub(crate) fn from_mode(mode: u32, device: u64) -> Option<Special> {
        match mode & file_type::MASK {
            file_type::FIFO => Some(Special::Fifo),
            file_type::SOCKET => Some(Special::Socket),
            file_type::CHAR => Some(Special::Char(device)),
            file_type::BLOCK => Some(Special::Block(device)),
            _ => None,
        }
    }
}

/// Bytes that a file of `size` takes in a tmpfs: whole pages of 4 KiB.
pub(crate) fn pages(size: u64) -> u64 {
    size.checked_next_multiple_of(4096).unwrap_or(u64::MAX)
}

/// tmpfs keeps a symlink's target of at most 127 bytes inside the inode, and gives a longer one a page
/// (`SHORT_SYMLINK_LEN`, mm/shmem.c).
pub(crate) fn symlink_pages(target: u64) -> u64 {
    if target < 128 { 0 } else { pages(target) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_time_counts_from_1601_in_tenths_of_microseconds() {
        assert_eq!(Time::from_ticks(116_444_736_000_000_000), Time { seconds: 0, nanos: 0 });
        assert_eq!(Time::from_ticks(116_444_736_012_345_678), Time { seconds: 1, nanos: 234_567_800 });
        assert_eq!(Time::from_ticks(0).seconds, -EPOCH_1601);
    }
}
