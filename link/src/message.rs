//! The words between PID 1 and the supervisor. One message is one `SOCK_SEQPACKET` datagram of text, at most
//! [`MAX_LEN`] bytes, so that a trace of the socket can be read by a person.

use std::fmt;

/// Longest message, and so the size of a receive buffer: room for one name of a stored descriptor, of [`MAX_NAME`] bytes,
/// or for as many shorter ones as go in ([`in_one`]). Everything else is shorter.
pub const MAX_LEN: usize = 640;
/// Longest name of a stored descriptor, in bytes: room for the name of a unit (255), the name that a service gives to
/// what it stores (255), and a number.
pub const MAX_NAME: usize = 560;
/// Most descriptors that travel with one message. The kernel takes 253 (`SCM_MAX_FD`); both ends have room for these.
pub const MAX_FDS: usize = 16;

/// How the machine shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Switch the power off.
    Poweroff,
    /// Start again.
    Reboot,
    /// Stop the processors and leave the power on.
    Halt,
}

/// What PID 1 tells the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromInit {
    /// A stored descriptor, handed back after the supervisor's death. The descriptor travels with the message.
    Stored(String),
    /// All stored descriptors have been handed back: the supervisor may begin.
    Begin,
    /// PID 1 reaped a process that was not the supervisor. `status` is as `wait(2)` gives it.
    Reaped {
        /// The process that ended.
        pid: i32,
        /// Its wait status.
        status: i32,
    },
    /// Say [`ToInit::Pong`]: the loop that hears this is alive.
    Ping,
    /// Someone asked PID 1 (by a signal, or by ctrl-alt-del) to end the machine: stop all services, then answer
    /// with [`ToInit::End`].
    Shutdown(Ending),
}

/// What the supervisor tells PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToInit {
    /// Keep the descriptors that travel with this message under these names, each under its own, and hand them back to the
    /// next supervisor.
    Store(Vec<String>),
    /// Forget the descriptor of this name.
    Drop(String),
    /// The answer to [`FromInit::Ping`].
    Pong,
    /// The supervisor was asked to leave, and its end is no death: it is executed anew at once.
    Leaving,
    /// A shutdown has begun: from now on a supervisor that dies is told so again when it is back.
    Stopping(Ending),
    /// All services are stopped: end the machine.
    End(Ending),
}

/// Why a datagram is not a message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a message between init and svcmgr: {0:?}")]
pub struct Unintelligible(pub String);

impl Ending {
    /// The word for it, as it stands in messages and on command lines.
    pub fn word(self) -> &'static str {
        match self {
            Ending::Poweroff => "poweroff",
            Ending::Reboot => "reboot",
            Ending::Halt => "halt",
        }
    }

    /// The ending that `word` names.
    pub fn from_word(word: &str) -> Option<Ending> {
        [Ending::Poweroff, Ending::Reboot, Ending::Halt].into_iter().find(|e| e.word() == word)
    }
}

impl fmt::Display for FromInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FromInit::Stored(name) => write!(f, "stored {name}"),
            FromInit::Begin => write!(f, "begin"),
            FromInit::Reaped { pid, status } => write!(f, "reaped {pid} {status}"),
            FromInit::Ping => write!(f, "ping"),
            FromInit::Shutdown(ending) => write!(f, "shutdown {}", ending.word()),
        }
    }
}

impl fmt::Display for ToInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToInit::Store(names) => write!(f, "store {}", names.join("\n")),
            ToInit::Drop(name) => write!(f, "drop {name}"),
            ToInit::Pong => write!(f, "pong"),
            ToInit::Leaving => write!(f, "leaving"),
            ToInit::Stopping(ending) => write!(f, "stopping {}", ending.word()),
            ToInit::End(ending) => write!(f, "end {}", ending.word()),
        }
    }
}

impl std::str::FromStr for FromInit {
    type Err = Unintelligible;

    fn from_str(text: &str) -> Result<Self, Unintelligible> {
        let bad = || Unintelligible(text.to_owned());
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match (word, rest) {
            ("stored", name) if is_name(name) => Ok(FromInit::Stored(name.to_owned())),
            ("begin", "") => Ok(FromInit::Begin),
            ("ping", "") => Ok(FromInit::Ping),
            ("reaped", numbers) => {
                let (pid, status) = numbers.split_once(' ').ok_or_else(bad)?;
                Ok(FromInit::Reaped {
                    pid: pid.parse().map_err(|_| bad())?,
                    status: status.parse().map_err(|_| bad())?,
                })
            }
            ("shutdown", ending) => Ending::from_word(ending).map(FromInit::Shutdown).ok_or_else(bad),
            _ => Err(bad()),
        }
    }
}

impl std::str::FromStr for ToInit {
    type Err = Unintelligible;

    fn from_str(text: &str) -> Result<Self, Unintelligible> {
        let bad = || Unintelligible(text.to_owned());
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "pong" if rest.is_empty() => Ok(ToInit::Pong),
            "leaving" if rest.is_empty() => Ok(ToInit::Leaving),
            "store" => {
                let names: Vec<String> = rest.split('\n').map(str::to_owned).collect();
                if names.iter().all(|name| is_name(name)) { Ok(ToInit::Store(names)) } else { Err(bad()) }
            }
            "drop" if is_name(rest) => Ok(ToInit::Drop(rest.to_owned())),
            "stopping" => Ending::from_word(rest).map(ToInit::Stopping).ok_or_else(bad),
            "end" => Ending::from_word(rest).map(ToInit::End).ok_or_else(bad),
            _ => Err(bad()),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains('\n')
}

/// How many of these names, from the first on, go into one [`ToInit::Store`].
pub fn in_one<'a>(names: impl IntoIterator<Item = &'a str>) -> usize {
    let mut length = "store".len();
    let fits = |name: &&str| {
        length = length.saturating_add(name.len()).saturating_add(1);
        length <= MAX_LEN
    };
    names.into_iter().take(MAX_FDS).take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_reads_back_as_it_was_written() {
        for m in [
            FromInit::Stored("out:a b.service".into()),
            FromInit::Begin,
            FromInit::Ping,
            FromInit::Reaped { pid: 42, status: -1 },
            FromInit::Shutdown(Ending::Halt),
        ] {
            assert_eq!(m.to_string().parse(), Ok(m));
        }
        for m in [
            ToInit::Store(vec!["control".into()]),
            ToInit::Store(vec!["out:a b.service".into(), "out:c.service".into()]),
            ToInit::Drop("control".into()),
            ToInit::Pong,
            ToInit::Leaving,
            ToInit::Stopping(Ending::Reboot),
            ToInit::End(Ending::Poweroff),
        ] {
            assert_eq!(m.to_string().parse(), Ok(m));
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for text in [
            "",
            "begin now",
            "ping 1",
            "reaped",
            "reaped 1",
            "reaped x 0",
            "shutdown",
            "shutdown later",
            "stored ",
            "x",
        ] {
            assert!(text.parse::<FromInit>().is_err(), "{text:?}");
        }
        let long = format!("store {}", "n".repeat(MAX_NAME + 1));
        for text in ["store ", "store a\n", "store \n", "pong 1", "end", "end soon", "drop ", long.as_str()] {
            assert!(text.parse::<ToInit>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn as_many_names_are_told_at_once_as_there_is_room_for() {
        let name = |length: usize| "n".repeat(length);
        assert_eq!(in_one([]), 0);
        assert_eq!(in_one([name(MAX_NAME).as_str()]), 1);
        assert_eq!(in_one([name(MAX_NAME).as_str(); 2]), 1);
        assert_eq!(in_one(["out:a"; 100]), MAX_FDS);
        let names = vec![name(60); 100];
        let count = in_one(names.iter().map(String::as_str));
        let length = |count: usize| ToInit::Store(names[..count].to_vec()).to_string().len();
        assert!(length(count) <= MAX_LEN && length(count + 1) > MAX_LEN, "{count}");
    }
}
