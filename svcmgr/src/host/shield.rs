//! Whoever fills the memory, it is not the supervisor that goes for it, however small all others are
//! (`Documentation/filesystems/proc.rst`, oom_score_adj).
//!
//! Of processes that share memory the kernel keeps one score, and children share ours until they execute their program. So
//! the shield is lowered before a child is made, and raised again once none is left that shares.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Never to be ended for want of memory.
const NEVER: i32 = -1000;

/// The supervisor's own score, and what it was before: which is what services get.
#[derive(Debug)]
pub struct Shield {
    file: File,
    usual: i32,
    is_up: bool,
    /// Children that share our memory.
    sharing: usize,
}

impl Shield {
    /// Raises it; `None` where that may not be.
    pub fn raise() -> Option<Shield> {
        let path = "/proc/self/oom_score_adj";
        let usual = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
        let open = || File::options().write(true).open(path);
        let raised = open().and_then(|file| {
            let mut shield = Shield { file, usual, is_up: false, sharing: 0 };
            shield.set(true)?;
            Ok(shield)
        });
        raised.inspect_err(|error| log::warn!("should memory end, the supervisor may go for it: {error}")).ok()
    }

    /// A child is about to be made: it begins with the usual score.
    ///
    /// # Errors
    /// When it would begin with ours: nothing could end it then.
    pub fn lower(&mut self) -> io::Result<()> {
        self.set(false)
    }

    /// A child was made, or none; `shares`: it shares our memory.
    pub fn made(&mut self, shares: bool) {
        self.sharing = self.sharing.saturating_add(usize::from(shares));
        self.raise_again();
    }

    /// A child that shared our memory has memory of its own, or is gone.
    pub fn parted(&mut self) {
        self.sharing = self.sharing.saturating_sub(1);
        self.raise_again();
    }

    fn raise_again(&mut self) {
        if self.sharing == 0
            && let Err(error) = self.set(true)
        {
            // The next child makes it be tried again.
            log::debug!("should memory end now, the supervisor may go for it: {error}");
        }
    }

    fn set(&mut self, up: bool) -> io::Result<()> {
        if self.is_up != up {
            let score = if up { NEVER } else { self.usual };
            self.file.write_all_at(score.to_string().as_bytes(), 0)?;
            self.is_up = up;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_up_as_long_as_no_child_shares_our_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let score = || std::fs::read_to_string(file.path()).unwrap();
        let mut shield = Shield { file: file.reopen().unwrap(), usual: 0, is_up: false, sharing: 0 };
        shield.set(true).unwrap();
        assert_eq!(score(), "-1000");
        // A file keeps what is behind the end of a shorter text, which /proc does not.
        let mut lowered = || {
            file.as_file().set_len(0).unwrap();
            shield.lower().unwrap();
        };
        lowered();
        assert_eq!(score(), "0");
        shield.made(true);
        shield.lower().unwrap();
        shield.made(true);
        assert!(!shield.is_up);
        shield.parted();
        assert!(!shield.is_up);
        shield.parted();
        assert!(shield.is_up);
        assert_eq!(score(), "-1000");
        shield.lower().unwrap();
        shield.made(false);
        assert!(shield.is_up);
    }
}
