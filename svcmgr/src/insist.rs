//! At the beginning, and where there is nothing else to go by, what the system refuses for want of something is asked
//! for again: a supervisor that gave up on it would know less for the rest of its life.

use std::io;
use std::time::Duration;

const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until it is given, half a second long.
///
/// # Errors
/// The last one; at once, where asking again would change nothing.
pub fn insist<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = TRIES;
    loop {
        match ask() {
            Err(error) if tries > 1 && may_pass(&error) => {
                tries = tries.saturating_sub(1);
                log::debug!("{error}; asking again");
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// Whether an error speaks of this moment.
fn may_pass(error: &io::Error) -> bool {
    let lasting = [
        libc::ENOENT,
        libc::ENOTDIR,
        libc::EISDIR,
        libc::EACCES,
        libc::EPERM,
        libc::EBADF,
        libc::EINVAL,
        libc::ELOOP,
        libc::EROFS,
        libc::ENOSYS,
        libc::ESRCH,
    ];
    error.raw_os_error().is_some_and(|number| !lasting.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_asked_for_again_and_nothing_else() {
        let tries = |number: i32, failures: usize| {
            let mut count: usize = 0;
            let result = insist(|| {
                count = count.saturating_add(1);
                if count <= failures { Err(io::Error::from_raw_os_error(number)) } else { Ok(()) }
            });
            (count, result.is_ok())
        };
        assert_eq!(tries(libc::EMFILE, 3), (4, true));
        assert_eq!(tries(libc::EMFILE, 100), (TRIES, false));
        assert_eq!(tries(libc::ENOENT, 1), (1, false));
    }
}
