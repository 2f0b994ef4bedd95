//! A service that speaks sd_notify(3) and takes descriptors as sd_listen_fds(3) has it, for tests that run themselves as
//! one: what it does is in the environment variable `MODE`, where it writes in `HERE`.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};

use super::until;

/// The `ExecStart=` that runs `test` of this very program, and the lines that tell it what to do.
pub fn lines(test: &str, mode: &str) -> String {
    let program = std::env::current_exe().unwrap();
    format!("ExecStart={} --ignored --exact --nocapture {test}\nEnvironment=MODE={mode} HERE=DIR\n", program.display())
}

/// Sends a message, and descriptors with it.
pub fn say(message: &str, fds: &[BorrowedFd<'_>]) {
    let to = SocketAddrUnix::new(std::env::var("NOTIFY_SOCKET").expect("run by the supervisor")).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let socket = UnixDatagram::unbound().unwrap();
    rustix::net::sendmsg_addr(&socket, &to, &[IoSlice::new(message.as_bytes())], &mut control, SendFlags::empty())
        .unwrap();
}

/// Waits until all that was said is worked off; sd_notify_barrier(3).
pub fn barrier() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    say("BARRIER=1", &[writer.as_fd()]);
    drop(writer);
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
}

/// The descriptors that this process was given, with their names.
pub fn given() -> Vec<(String, OwnedFd)> {
    let Ok(count) = std::env::var("LISTEN_FDS") else { return Vec::new() };
    assert_eq!(std::env::var("LISTEN_PID").unwrap(), std::process::id().to_string());
    let names = std::env::var("LISTEN_FDNAMES").unwrap();
    let names: Vec<&str> = names.split(':').collect();
    assert_eq!(names.len().to_string(), count);
    // SAFETY: they were given to this process, and nobody else in it takes them.
    (3..).zip(names).map(|(fd, name)| (name.to_owned(), unsafe { OwnedFd::from_raw_fd(fd) })).collect()
}

/// A file of the test's folder.
pub fn file(name: &str) -> PathBuf {
    PathBuf::from(std::env::var("HERE").unwrap()).join(name)
}

/// Writes a file of the test's folder, in one step.
pub fn write(name: &str, text: &str) {
    std::fs::write(file(".next"), text).unwrap();
    std::fs::rename(file(".next"), file(name)).unwrap();
}

/// Waits until the test has made a file.
pub fn wait_for(name: &str) {
    until(name, || file(name).exists().then_some(()));
}

/// Runs until it is ended.
pub fn rest() -> ! {
    loop {
        std::thread::park();
    }
}

/// Stores a file and a pipe; the next time it is started it tells what it was given, and what is in the file.
pub fn store() {
    let given = given();
    if !given.is_empty() {
        let mut told = String::new();
        for (name, fd) in given {
            let mut text = String::new();
            rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0)).unwrap();
            std::fs::File::from(fd).read_to_string(&mut text).unwrap();
            told.push_str(&format!("{name}={text}\n"));
        }
        write("given", &told);
        say("READY=1", &[]);
        rest();
    }
    let memo = rustix::fs::memfd_create("memo", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&memo, b"remember").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    say("FDSTORE=1\nFDNAME=memo", &[memo.as_fd()]);
    // The same again is the same.
    say("FDSTORE=1\nFDNAME=memo", &[memo.as_fd()]);
    say("FDSTORE=1\nFDNAME=gone", &[memo.as_fd(), reader.as_fd()]);
    say("FDSTOREREMOVE=1\nFDNAME=unknown", &[]);
    // Its other end hangs up: it is of no use.
    drop(writer);
    say("READY=1", &[]);
    barrier();
    write("stored", "");
    rest();
}
