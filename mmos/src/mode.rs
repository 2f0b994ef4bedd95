//! The question itself: weighs the boot record against what the kernel says.

use std::path::Path;

use crate::error::Error;
use crate::proc::Proc;
use crate::record;

/// Whether this program runs on mmos.
///
/// `true` means: the machine was booted by mmos's `init`, this boot, and the machine's root says so. In detail, all of
///
/// 1. [`/run/mmos/boot.json`](link::paths::BOOT_RECORD) is a regular file on a tmpfs; no symbolic link is on the way;
///    it and every folder from `/` on belong to root and can be written by root only;
/// 2. this process is in the machine's first user namespace, so that "root" above is the machine's root, and not
///    somebody who calls himself so in a namespace of his own (`unshare -Ur`); and this is asked of a `/proc` that is
///    the kernel's, with nothing mounted over what is read;
/// 3. the record names this very boot (`/proc/sys/kernel/random/boot_id`), so a copy kept from another boot is stale.
///
/// `false` is the answer on every other Linux, and in a user namespace on mmos too. No environment variable is read,
/// no setting, and no file that an ordinary user can write; the supervisor need not be alive.
///
/// # What it does not guard against
/// Root can lie: who is root on a device can write the record. Somebody who controls the asking process itself (runs
/// it under ptrace(2) or a seccomp(2) supervisor, preloads a library, patches it) can make it believe anything, as he
/// could make any program; a program that guards something from its own caller must not be started by that caller.
///
/// # Errors
/// Where neither can be told: the record or `/proc` cannot be read, lies where others can write, or is rubbish; or
/// the kernel has a record to show but no openat2(2) (before Linux 5.6). A program that must run on mmos only treats
/// an error as `false`.
pub fn is_mmos() -> Result<bool, Error> {
    let Some(found) = record::find(Path::new(link::paths::BOOT_RECORD))? else { return Ok(false) };
    let proc = Proc::open()?;
    if !proc.in_first_user_namespace()? || !found.is_roots()? {
        return Ok(false);
    }
    Ok(found.boot_id()? == proc.boot_id()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn where_init_left_no_record_the_answer_is_no() {
        if std::fs::exists(link::paths::BOOT_RECORD).unwrap() {
            skip::because("this machine has a boot record");
            return;
        }
        assert!(!super::is_mmos().unwrap());
    }
}
