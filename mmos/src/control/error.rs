//! What can come of a call to the supervisor other than its answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::interface::{JobFailed_Args, NoSuchUnit_Args, PermissionDenied_Args, UnitRefused_Args};

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody answers at the control socket.
    #[error("the supervisor cannot be reached at {}: {source}; {remedy}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said, last.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The connection ended before the answer came, and the call was not repeated.
    #[error(
        "{method}: the supervisor ended before it answered (init starts it again); look at `mmosctl status`, then decide whether to ask again"
    )]
    Gone {
        /// The method called.
        method: &'static str,
    },
    /// No answer in time.
    #[error("{method}: no answer from the supervisor within {:.1} s; see its messages in the kernel's log (`dmesg`)", waited.as_secs_f64())]
    TimedOut {
        /// The method called.
        method: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// There is no such unit.
    #[error("there is no unit {name}; `mmosctl status` lists those that were loaded")]
    NoSuchUnit {
        /// The name asked for.
        name: String,
    },
    /// The unit cannot be started.
    #[error("{name} cannot be started: {reason}")]
    UnitRefused {
        /// The unit.
        name: String,
        /// Why.
        reason: String,
    },
    /// It was tried and came out otherwise.
    #[error("{name}: {reason}")]
    JobFailed {
        /// The unit.
        name: String,
        /// Why.
        reason: String,
    },
    /// The caller must not do that.
    #[error("permission denied: {reason}")]
    PermissionDenied {
        /// Why.
        reason: String,
    },
    /// An error that the interface file does not know: as a rule, a supervisor of another version.
    #[error(
        "{method}: the supervisor answered with the error {error}; do mmosctl and svcmgr come from the same image?"
    )]
    Unknown {
        /// The method called.
        method: &'static str,
        /// The error's name and parameters, as received.
        error: String,
    },
    /// What came is not an answer.
    #[error(
        "{method}: what came from the supervisor is not an answer: {reason}; do mmosctl and svcmgr come from the same image?"
    )]
    Unintelligible {
        /// The method called.
        method: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Sending or receiving failed.
    #[error("{method}: the connection to the supervisor failed: {source}")]
    Connection {
        /// The method called.
        method: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Whether the supervisor could not be asked, or did not answer: then nothing is known of what it did.
    pub fn is_no_answer(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. } | Error::Gone { .. } | Error::TimedOut { .. } | Error::Connection { .. }
        )
    }

    /// The error that a reply names.
    pub(super) fn from_reply(method: &'static str, name: &str, parameters: serde_json::Value) -> Error {
        let shown = || format!("{name} {parameters}");
        let unknown = || Error::Unknown { method, error: shown() };
        let Some(ours) = name.strip_prefix("org.mmos.Manager.") else { return unknown() };
        match ours {
            "NoSuchUnit" => args(&parameters).map(|NoSuchUnit_Args { name }| Error::NoSuchUnit { name }),
            "UnitRefused" => {
                args(&parameters).map(|UnitRefused_Args { name, reason }| Error::UnitRefused { name, reason })
            }
            "JobFailed" => args(&parameters).map(|JobFailed_Args { name, reason }| Error::JobFailed { name, reason }),
            "PermissionDenied" => {
                args(&parameters).map(|PermissionDenied_Args { reason }| Error::PermissionDenied { reason })
            }
            _ => None,
        }
        .unwrap_or_else(unknown)
    }
}

fn args<T: serde::de::DeserializeOwned>(parameters: &serde_json::Value) -> Option<T> {
    T::deserialize(parameters).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_error_of_the_interface_file_is_known() {
        let file = include_str!("../../interfaces/org.mmos.Manager.varlink");
        let parameters = json!({"name": "a.service", "reason": "r"});
        let names = file.lines().filter_map(|line| line.strip_prefix("error ")?.split(' ').next());
        let mut count = 0;
        for name in names {
            let error = Error::from_reply("Start", &format!("org.mmos.Manager.{name}"), parameters.clone());
            assert!(!matches!(error, Error::Unknown { .. }), "{name}");
            count += 1;
        }
        assert!(count >= 4, "{count}");
    }

    #[test]
    fn an_error_that_is_not_ours_or_lacks_its_parameters_is_shown_as_it_came() {
        for (name, parameters) in [
            ("org.varlink.service.MethodNotFound", json!({"method": "org.mmos.Manager.Start"})),
            ("org.mmos.Manager.JobFailed", json!({"name": "a.service"})),
            ("org.mmos.Manager.NoSuchUnit", json!(null)),
        ] {
            let message = Error::from_reply("Start", name, parameters.clone()).to_string();
            assert!(message.contains(name) && message.contains(&parameters.to_string()), "{message}");
        }
    }
}
