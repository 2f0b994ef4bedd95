//! Several messages with a descriptor each in one system call, so that who gets them is woken once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// A control message with one descriptor; cmsg(3).
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct OneDescriptor {
    length: usize,
    level: libc::c_int,
    kind: libc::c_int,
    fd: RawFd,
}

/// Sends each text with its descriptor over a socket of packets; how many were sent. sendmmsg(2)
///
/// # Errors
/// When not even the first could be sent.
pub fn send_all(socket: BorrowedFd<'_>, messages: &[(String, BorrowedFd<'_>)]) -> io::Result<usize> {
    let mut texts: Vec<libc::iovec> = messages
        .iter()
        .map(|(text, _)| libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() })
        .collect();
    // SAFETY: an integer.
    let length = usize::try_from(unsafe { libc::CMSG_LEN(4) }).unwrap_or(0);
    let mut controls: Vec<OneDescriptor> = messages
        .iter()
        .map(|(_, fd)| OneDescriptor { length, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fd: fd.as_raw_fd() })
        .collect();
    let mut heads: Vec<libc::mmsghdr> = texts
        .iter_mut()
        .zip(&mut controls)
        .map(|(text, control)| {
            // SAFETY: all of it are integers and pointers, for which zero is a value.
            let mut head: libc::mmsghdr = unsafe { std::mem::zeroed() };
            head.msg_hdr.msg_iov = text;
            head.msg_hdr.msg_iovlen = 1;
            head.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
            head.msg_hdr.msg_controllen = size_of::<OneDescriptor>();
            head
        })
        .collect();
    let count = u32::try_from(heads.len()).map_err(io::Error::other)?;
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    loop {
        // SAFETY: as many heads as are said, whose texts and control messages live through the call.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), heads.as_mut_ptr(), count, flags) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use link::Channel;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    #[test]
    fn each_message_comes_with_its_own_descriptor() {
        let (ours, theirs) = Channel::pair().unwrap();
        let files: Vec<std::fs::File> = (0..3)
            .map(|n| {
                let mut file = tempfile::tempfile().unwrap();
                write!(file, "{n}").unwrap();
                file
            })
            .collect();
        let messages: Vec<(String, BorrowedFd<'_>)> =
            files.iter().zip(0..).map(|(file, n)| (format!("store out:{n}"), file.as_fd())).collect();
        assert_eq!(send_all(ours.as_fd(), &messages).unwrap(), 3);
        for n in 0..3 {
            let received = theirs.receive().unwrap().unwrap();
            assert_eq!(received.text, format!("store out:{n}"));
            let mut file = std::fs::File::from(received.fd.unwrap());
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, n.to_string());
        }
        assert!(theirs.receive().unwrap().is_none());
        assert_eq!(send_all(ours.as_fd(), &[]).unwrap(), 0);
    }
}
