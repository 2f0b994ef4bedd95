//! QEMU's machine protocol, as far as it is needed here: commands, and the event that says how the machine ended.
//! See <https://www.qemu.org/docs/master/interop/qmp-spec.html>.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// A session with QEMU's monitor.
pub struct Qmp {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Qmp {
    /// Greets QEMU at the other end of `socket`.
    pub fn new(socket: UnixStream) -> anyhow::Result<Qmp> {
        let mut qmp = Qmp { reader: BufReader::new(socket.try_clone()?), writer: socket, events: Vec::new() };
        let greeting = qmp.next()?.context("QEMU ended before it greeted")?;
        if greeting.get("QMP").is_none() {
            bail!("not a greeting of QEMU: {greeting}");
        }
        qmp.command("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// Gives a command and waits for its answer.
    pub fn command(&mut self, name: &str, arguments: Value) -> anyhow::Result<Value> {
        let request = match arguments {
            Value::Null => json!({ "execute": name }),
            arguments => json!({ "execute": name, "arguments": arguments }),
        };
        self.writer.write_all(request.to_string().as_bytes())?;
        while let Some(message) = self.next()? {
            if let Some(answer) = message.get("return") {
                return Ok(answer.clone());
            }
            if let Some(error) = message.get("error") {
                bail!("QEMU refused {name}: {error}");
            }
            self.events.push(message);
        }
        bail!("QEMU ended before it answered {name}")
    }

    /// Reads to the end of the session; all events that came, in order.
    pub fn drain(mut self) -> anyhow::Result<Vec<Value>> {
        while let Some(message) = self.next()? {
            self.events.push(message);
        }
        Ok(self.events)
    }

    fn next(&mut self) -> anyhow::Result<Option<Value>> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(serde_json::from_str(&line).with_context(|| format!("QEMU said {line:?}"))?)),
            // QEMU was killed with a message of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
