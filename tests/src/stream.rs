//! A serial line of the guest: everything that came over it is kept, and one can wait for a text to come.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// So many lines are shown where something went wrong.
const TAIL: usize = 40;

/// One end of a line, with all that has been received.
pub struct Stream {
    socket: UnixStream,
    shared: Arc<Shared>,
    /// Where the next wait begins to look.
    cursor: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    text: String,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Stream {
    /// Takes over a connected socket. `echo` also prints what comes to stdout, as it comes.
    pub fn new(socket: UnixStream, echo: bool) -> anyhow::Result<Stream> {
        let shared = Arc::new(Shared::default());
        let (mut reader, writer) = (socket.try_clone()?, Arc::clone(&shared));
        std::thread::Builder::new().name("serial".into()).spawn(move || {
            let mut buffer = [0; 4096];
            // Bytes of a character that is not whole yet.
            let mut rest: Vec<u8> = Vec::new();
            loop {
                let got = match reader.read(&mut buffer) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Ok(0) | Err(_) => break,
                    Ok(got) => got,
                };
                rest.extend_from_slice(buffer.get(..got).unwrap_or_default());
                let text = take_text(&mut rest);
                if echo {
                    let mut out = std::io::stdout().lock();
                    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                }
                writer.lock().text.push_str(&text.replace('\r', ""));
                writer.changed.notify_all();
            }
            writer.lock().closed = true;
            writer.changed.notify_all();
        })?;
        Ok(Stream { socket, shared, cursor: 0 })
    }

    /// Sends text to the guest.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.socket.write_all(text.as_bytes()).context("the guest's serial line is closed")
    }

    /// Waits until `pattern` has come, and gives back what came before it since the last wait.
    ///
    /// # Errors
    /// With the last lines received, where it did not come in `patience`, or the guest is gone.
    pub fn wait_for(&mut self, pattern: &str, patience: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now().checked_add(patience).context("the deadline is beyond all time")?;
        let mut state = self.shared.lock();
        loop {
            let new = state.text.get(self.cursor..).unwrap_or_default();
            if let Some((before, _)) = new.split_once(pattern) {
                let before = before.to_owned();
                self.cursor = self.cursor.saturating_add(before.len()).saturating_add(pattern.len());
                return Ok(before);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match (state.closed, left.is_zero()) {
                (true, _) => "the machine ended".to_owned(),
                (_, true) => format!("nothing of it in {} s", patience.as_secs()),
                _ => {
                    let waited = self.shared.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
                    continue;
                }
            };
            bail!("waited for {pattern:?}: {why}; the last of what came:\n{}", tail(&state.text, TAIL));
        }
    }

    /// Waits until the guest has closed the line, and so the machine has ended.
    pub fn wait_for_end(&mut self, patience: Duration) -> anyhow::Result<()> {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, patience, |state| !state.closed);
        let (state, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        if !state.closed {
            bail!(
                "the machine still runs after {} s; the last of it:\n{}",
                patience.as_secs(),
                tail(&state.text, TAIL)
            );
        }
        Ok(())
    }

    /// The last lines that came so far.
    pub fn tail(&self) -> String {
        tail(&self.shared.lock().text, TAIL)
    }

    /// All that came so far.
    pub fn text(&self) -> String {
        self.shared.lock().text.clone()
    }
}

/// The whole characters at the beginning of `bytes`; what is not UTF-8 is replaced.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        // A character cut by the end of the read: its beginning waits for the next.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => bytes.len(),
    };
    let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default()).into_owned();
    bytes.drain(..whole);
    text
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_pattern_is_found_across_reads_and_only_once() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(ours, false).unwrap();
        theirs.write_all(b"one re").unwrap();
        theirs.write_all(b"ady\r\ntwo ready\r\n").unwrap();
        assert_eq!(stream.wait_for("ready", SOON).unwrap(), "one ");
        assert_eq!(stream.wait_for("ready", SOON).unwrap(), "\ntwo ");
        drop(theirs);
        let error = stream.wait_for("ready", SOON).unwrap_err().to_string();
        assert!(error.contains("the machine ended") && error.contains("two ready"), "{error}");
    }

    #[test]
    fn a_character_cut_by_a_read_stays_whole() {
        let mut bytes = "é".as_bytes()[..1].to_vec();
        assert_eq!(take_text(&mut bytes), "");
        bytes.push("é".as_bytes()[1]);
        assert_eq!(take_text(&mut bytes), "é");
    }
}
