//! Step 9, first half: what every service may expect of a Linux system and stage 1 did not need. Nothing here stops the
//! boot.

use std::ffi::CStr;
use std::io;
use std::path::Path;

use rustix::mount::MountFlags;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::system::RebootCommand;

use crate::early;

/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The part of them that is the supervisor's.
const OURS: &str = "/sys/fs/cgroup/mmos";

/// Prepares everything; what did not go is returned.
pub fn all() -> Vec<String> {
    let mut warnings = Vec::new();
    let mut note = |what: &str, outcome: io::Result<()>| {
        if let Err(error) = outcome {
            warnings.push(format!("{what}: {error}"));
        }
    };
    // Ctrl-alt-del becomes SIGINT to us, instead of an immediate restart.
    note("ctrl-alt-del stays the kernel's", rustix::system::reboot(RebootCommand::CadOff).map_err(Into::into));
    note("no cgroups, so services are told apart by process groups", cgroups(Path::new(OURS)));
    note("no pseudoterminals", mounted("devpts", "/dev/pts", NO_EXEC, c"gid=5,mode=0620,ptmxmode=0666"));
    note("no shared memory", mounted("tmpfs", "/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777"));
    note("no host name", host_name(Path::new("/etc/hostname")));
    note("no loopback network", loopback_up());
    warnings
}

const NO_EXEC: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

fn mounted(kind: &str, target: &str, flags: MountFlags, options: &CStr) -> io::Result<()> {
    if early::is_mount_point(target) {
        return Ok(());
    }
    Ok(early::mount(kind, target, flags, options)?)
}

/// The unified hierarchy, with a folder for the supervisor (`Documentation/admin-guide/cgroup-v2.rst`). Which controllers
/// there are in it is the supervisor's to say, once a service needs one: each makes every cgroup dearer.
fn cgroups(ours: &Path) -> io::Result<()> {
    let flags = NO_EXEC | MountFlags::NODEV;
    if !early::is_mount_point(CGROUPS) {
        early::mount("cgroup2", CGROUPS, flags, c"nsdelegate,memory_recursiveprot")
            // The options came with 4.13 and 5.7.
            .or_else(|_| early::mount("cgroup2", CGROUPS, flags, c""))?;
    }
    match std::fs::create_dir(ours) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn host_name(file: &Path) -> io::Result<()> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    match host_name_in(&text) {
        Some(name) => Ok(rustix::system::sethostname(name.as_bytes())?),
        None => Ok(()),
    }
}

/// The first line that is no comment (`hostname(5)`), if a kernel takes it (`__NEW_UTS_LEN`).
fn host_name_in(text: &str) -> Option<&str> {
    let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    (name.len() <= 64).then_some(name)
}

/// Brings `lo` up, by one rtnetlink message ([rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html)).
fn loopback_up() -> io::Result<()> {
    // NETLINK_ROUTE is protocol 0.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &link_up(LOOPBACK), SendFlags::empty(), &kernel)?;
    // The kernel answers such a request before sendto() is over: there is an answer, or there is none.
    let mut answer = [0_u8; 256];
    let (_, length) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    acknowledged(answer.get(..length).unwrap_or_default())
}

/// `LOOPBACK_IFINDEX`: in every network namespace `lo` is the first.
const LOOPBACK: i32 = 1;

/// `struct nlmsghdr` and `struct ifinfomsg`: RTM_NEWLINK, to be acknowledged, that sets `IFF_UP` and nothing else.
fn link_up(index: i32) -> Vec<u8> {
    const LENGTH: u32 = 32;
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 0x1 | 0x4;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes()); // sequence
    message.extend(0_u32.to_ne_bytes()); // port
    message.extend([0; 4]); // family, padding, type
    message.extend(index.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // which flags to change
    message
}

/// `struct nlmsgerr`: a negative error number behind the header, 0 for success.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let number = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match number {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(number.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_is_the_first_line_that_is_one() {
        assert_eq!(host_name_in("# ours\n\n  line-7 \nother\n"), Some("line-7"));
        assert_eq!(host_name_in("\n#\n"), None);
        assert_eq!(host_name_in(&"x".repeat(65)), None);
    }

    #[test]
    fn the_message_that_brings_a_link_up_is_as_the_kernel_reads_it() {
        let message = link_up(1);
        assert_eq!(message.len(), 32);
        assert_eq!(message[..4], 32_u32.to_ne_bytes());
    }

    #[test]
    fn an_answer_is_success_an_error_or_rubbish() {
        let mut answer = vec![0; 36];
        assert!(acknowledged(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(acknowledged(&[]).is_err());
    }
}
