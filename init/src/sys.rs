//! What needs `unsafe`: code that runs between `fork` and `exec` of a child or its end, and requests to block devices.

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags};
use nix::sys::signal::SigSet;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::system::RebootCommand;

/// Starts `program` with these standard streams, and with `fd` as its descriptor `number`, with no signal blocked, in a
/// session of its own. No copy is made of our memory for it, which would take longer than all else: posix_spawn(3).
pub fn spawn_with_fd(
    program: &CStr,
    environment: &[CString],
    streams: [BorrowedFd<'_>; 3],
    fd: &impl AsFd,
    number: i32,
) -> io::Result<i32> {
    let mut actions = PosixSpawnFileActions::init()?;
    let all = streams.into_iter().zip(0..).chain([(fd.as_fd(), number)]);
    for (from, to) in all {
        // Also where both are the same: then it stays open.
        actions.add_dup2(from.as_raw_fd(), to)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    let session = PosixSpawnFlags::from_bits_retain(nix::libc::c_int::from(nix::libc::POSIX_SPAWN_SETSID));
    let signals = PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF;
    attributes.set_flags(session | signals)?;
    attributes.set_sigmask(&SigSet::empty())?;
    // All of them: of others the C library would ask first what is done on them now.
    attributes.set_sigdefault(&SigSet::all())?;
    let child = nix::spawn::posix_spawn(program, &actions, &attributes, &[program], environment)?;
    Ok(child.as_raw())
}

/// Starts `command` as the leader of a session whose terminal is its standard input, with no signal blocked.
pub fn spawn_on_terminal(command: &mut Command) -> io::Result<Child> {
    let prepare = || {
        unblock_signals()?;
        rustix::process::setsid()?;
        // A console that cannot be a controlling terminal still carries a shell, without job control.
        let _ = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
        Ok(())
    };
    // SAFETY: as above: three system calls, nothing allocated; standard input was set up by `Command` before.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// Calls `reboot(2)` in a child, which ends with the kernel's error number, or with 0 if nothing happened.
pub fn reboot_in_child(command: RebootCommand) -> io::Result<Pid> {
    in_child(move || rustix::system::reboot(command).err().map_or(0, Errno::raw_os_error))
}

/// Runs `work` in a child, which ends with what it returns, and runs no exit handlers. Not for others: where there are
/// threads beside this one, `work` may only make system calls.
pub(crate) fn in_child(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: other threads may hold locks that nobody in the child will ever release. Either there are none, as in
    // stage 1 until it starts its unpacker, or the child takes no lock, as the caller sees to.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::Other.into()),
        nix::unistd::ForkResult::Child => {
            let code = work();
            // SAFETY: ends this process, and returns to nobody.
            unsafe { nix::libc::_exit(code) }
        }
    }
}

mod request {
    use std::ffi::c_int;

    // <linux/fs.h>: both take a pointer to an int, though their numbers do not say so.
    nix::ioctl_write_ptr_bad!(roset, nix::request_code_none!(0x12, 93), c_int);
    nix::ioctl_read_bad!(roget, nix::request_code_none!(0x12, 94), c_int);

    // <linux/loop.h>, whose numbers say nothing of what they take.
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4c82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4c0a, super::LoopConfig);
}

/// Whether a block device refuses to be written (`BLKROGET`).
pub fn is_read_only(device: &impl AsFd) -> io::Result<bool> {
    let mut value: c_int = 0;
    // SAFETY: the kernel writes one int, to where one is; the descriptor is borrowed for the whole of the call.
    unsafe { request::roget(device.as_fd().as_raw_fd(), &raw mut value) }?;
    Ok(value != 0)
}

/// Makes a block device refuse to be written, or take it again (`BLKROSET`).
pub fn set_read_only(device: &impl AsFd, read_only: bool) -> io::Result<()> {
    let value = c_int::from(read_only);
    // SAFETY: the kernel reads one int, which outlives the call; the descriptor is borrowed for the whole of it.
    unsafe { request::roset(device.as_fd().as_raw_fd(), &raw const value) }?;
    Ok(())
}

/// What a watchdog is asked, by `<linux/watchdog.h>`.
pub mod watchdog {
    use std::ffi::c_int;
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};

    /// `struct watchdog_info`.
    #[repr(C)]
    struct Info {
        options: u32,
        firmware_version: u32,
        identity: [u8; 32],
    }

    /// How much the kernel writes.
    #[cfg(test)]
    pub(super) const INFO_LENGTH: usize = size_of::<Info>();

    /// `WDIOF_CARDRESET`: the watchdog reset the machine.
    const CARD_RESET: c_int = 0x20;

    mod request {
        use std::ffi::c_int;

        nix::ioctl_read!(get_support, b'W', 0, super::Info);
        nix::ioctl_read!(get_boot_status, b'W', 2, c_int);
        nix::ioctl_readwrite!(set_timeout, b'W', 6, c_int);
        nix::ioctl_read!(get_timeout, b'W', 7, c_int);
    }

    /// Sets the time after which it resets the machine; the time that it took, in seconds.
    pub fn set_timeout(device: &impl AsFd, seconds: c_int) -> io::Result<c_int> {
        let mut value = seconds;
        // SAFETY: the kernel reads and writes one int, to where one is; the descriptor is borrowed for the whole call.
        unsafe { request::set_timeout(device.as_fd().as_raw_fd(), &raw mut value) }?;
        Ok(value)
    }

    /// The time after which it resets the machine, in seconds.
    pub fn timeout(device: &impl AsFd) -> io::Result<c_int> {
        let mut value = 0;
        // SAFETY: the kernel writes one int, to where one is; the descriptor is borrowed for the whole of the call.
        unsafe { request::get_timeout(device.as_fd().as_raw_fd(), &raw mut value) }?;
        Ok(value)
    }

    /// Whether it reset the machine, and this boot follows from that.
    pub fn reset_the_machine(device: &impl AsFd) -> io::Result<bool> {
        let mut value = 0;
        // SAFETY: as above.
        unsafe { request::get_boot_status(device.as_fd().as_raw_fd(), &raw mut value) }?;
        Ok(value & CARD_RESET != 0)
    }

    /// What it calls itself.
    pub fn identity(device: &impl AsFd) -> io::Result<String> {
        let mut info = Info { options: 0, firmware_version: 0, identity: [0; 32] };
        // SAFETY: the kernel writes one such structure, to where one is; the descriptor is borrowed for the whole call.
        unsafe { request::get_support(device.as_fd().as_raw_fd(), &raw mut info) }?;
        let name = info.identity.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }
}

/// `struct loop_config` of `<linux/loop.h>`, with its `struct loop_info64` in place.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// `LO_FLAGS_READ_ONLY` and `LO_FLAGS_AUTOCLEAR`: the last one to close the device takes it down.
const LOOP_FLAGS: u32 = 1 | 4;

/// The number of a loop device that stands for nothing yet, by the descriptor of `/dev/loop-control`
/// (`LOOP_CTL_GET_FREE`, [loop(4)](https://man7.org/linux/man-pages/man4/loop.4.html)).
pub fn free_loop(control: &impl AsFd) -> io::Result<u32> {
    // SAFETY: takes no argument; the descriptor is borrowed for the whole of the call.
    let number = unsafe { request::loop_ctl_get_free(control.as_fd().as_raw_fd()) }?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Makes the loop device stand for the first `bytes` bytes of `file`, read-only, until the last one closes it
/// (`LOOP_CONFIGURE`, since Linux 5.8). `name` is for people who ask.
///
/// # Errors
/// `ResourceBusy` where another process was faster.
pub fn attach_loop(device: &impl AsFd, file: &impl AsFd, bytes: u64, name: &str) -> io::Result<()> {
    let mut file_name = [0; 64];
    // The last byte stays 0.
    for (to, from) in file_name.iter_mut().take(63).zip(name.bytes()) {
        *to = from;
    }
    let config = LoopConfig {
        fd: u32::try_from(file.as_fd().as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: bytes,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LOOP_FLAGS,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the kernel reads one such structure, which outlives the call; both descriptors are borrowed for the whole
    // of it, and the kernel takes a reference of its own to the file.
    unsafe { request::loop_configure(device.as_fd().as_raw_fd(), &raw const config) }?;
    Ok(())
}

fn unblock_signals() -> io::Result<()> {
    nix::sys::signal::sigprocmask(
        nix::sys::signal::SigmaskHow::SIG_SETMASK,
        Some(&nix::sys::signal::SigSet::empty()),
        None,
    )
    .map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;

    #[test]
    fn a_child_finds_the_descriptor_under_its_number_and_no_signal_blocked() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let (far_reader, far_writer) = std::io::pipe().unwrap();
        writer.write_all(b"hello\n").unwrap();
        drop(writer);
        let holder = rustix::io::fcntl_dupfd_cloexec(&reader, 3).unwrap();
        let number = holder.as_raw_fd();
        let script = format!("#!/bin/sh\ngrep SigBlk /proc/self/status; cat /proc/self/fd/{number}; echo $A\n");
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("script");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let program = CString::new(program.to_str().unwrap()).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let streams = [null.as_fd(), far_writer.as_fd(), null.as_fd()];
        let child = spawn_with_fd(&program, &[c"A=set".to_owned()], streams, &reader, number).unwrap();
        drop(far_writer);
        let mut text = String::new();
        std::fs::File::from(OwnedFd::from(far_reader)).read_to_string(&mut text).unwrap();
        let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).unwrap();
        assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "{ended:?}");
        assert!(text.contains("0000000000000000") && text.ends_with("hello\nset\n"), "{text}");
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }

    #[test]
    fn what_a_loop_device_is_told_has_the_size_that_the_kernel_reads() {
        // struct loop_config: 8 bytes, struct loop_info64 of 232 bytes, 64 bytes.
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(std::mem::offset_of!(LoopConfig, flags), 8 + 52);
    }

    #[test]
    fn what_a_watchdog_says_of_itself_has_the_size_that_the_kernel_writes() {
        assert_eq!(watchdog::INFO_LENGTH, 40);
    }

    #[test]
    fn a_program_that_is_missing_is_an_error_here() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let streams = [reader.as_fd(); 3];
        let error = spawn_with_fd(c"/nonexistent", &[], streams, &reader, reader.as_raw_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
