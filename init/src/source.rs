//! Step 4: from `mmos.root=` to a file or device that can be read: what was named ([`spec`]), which block devices are
//! there ([`devices`], [`gpt`], [`superblock`]), and the wait for the right one ([`locate`]).

pub mod devices;
pub mod gpt;
pub mod locate;
pub mod protect;
pub mod spec;
pub mod superblock;
