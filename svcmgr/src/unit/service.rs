//! The `[Service]` section as data, with systemd's defaults.

use super::command::Command;
use super::time::Span;

/// When a service counts as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// Once its program is executed. `Type=simple` too: we know within microseconds whether the program could be
    /// executed at all, so nobody has to start after a service that could not.
    Exec,
    /// Once it has ended with success.
    Oneshot,
    /// Once it has said `READY=1`.
    Notify,
}

/// When a service that has ended is started again; systemd.service(5), table "Exit causes and the effect of the
/// Restart= settings".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the setting of its own name")]
pub enum Restart {
    No,
    OnSuccess,
    OnFailure,
    OnAbnormal,
    OnWatchdog,
    OnAbort,
    Always,
}

/// Who may speak for a service on the notify socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyAccess {
    /// Nobody.
    None,
    /// Its main process.
    Main,
    /// Its main process and the commands of `ExecStartPre=` and the like.
    Exec,
    /// All of its processes.
    All,
}

/// What a service reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// `/dev/null`.
    Null,
    /// Its terminal.
    Tty,
}

/// Where a service writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Null,
    /// Its terminal.
    Tty,
    /// Its log.
    Log,
    /// The kernel's log.
    Kmsg,
    /// Its log, and the console.
    LogAndConsole,
}

/// Ends that count as success besides code 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SuccessStatus {
    /// Exit codes.
    pub codes: Vec<i32>,
    /// Signals.
    pub signals: Vec<i32>,
}

/// The `[Service]` section.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each field is the directive of its own name")]
pub struct Service {
    pub kind: ServiceType,
    pub start_pre: Vec<Command>,
    pub start: Vec<Command>,
    pub start_post: Vec<Command>,
    pub stop: Vec<Command>,
    pub stop_post: Vec<Command>,
    pub reload: Vec<Command>,
    pub restart: Restart,
    pub restart_sec: Span,
    pub restart_steps: u32,
    pub restart_max_delay: Span,
    pub timeout_start: Span,
    pub timeout_stop: Span,
    pub remain_after_exit: bool,
    pub success: SuccessStatus,
    pub notify_access: NotifyAccess,
    pub kill_signal: i32,
    /// `Environment=`, in order.
    pub environment: Vec<(String, String)>,
    /// `EnvironmentFile=`, and whether it may be missing.
    pub environment_files: Vec<(String, bool)>,
    pub user: Option<String>,
    pub group: Option<String>,
    /// `WorkingDirectory=`, and whether it may be missing. `~` is the user's home.
    pub working_directory: Option<(String, bool)>,
    pub input: Input,
    pub output: Output,
    pub error: Output,
    pub tty: String,
}

impl Default for Service {
    fn default() -> Service {
        Service {
            kind: ServiceType::Exec,
            start_pre: Vec::new(),
            start: Vec::new(),
            start_post: Vec::new(),
            stop: Vec::new(),
            stop_post: Vec::new(),
            reload: Vec::new(),
            restart: Restart::No,
            restart_sec: Span::millis(100),
            restart_steps: 0,
            restart_max_delay: Span::INFINITY,
            timeout_start: Span::seconds(90),
            timeout_stop: Span::seconds(90),
            remain_after_exit: false,
            success: SuccessStatus::default(),
            notify_access: NotifyAccess::None,
            kill_signal: 15,
            environment: Vec::new(),
            environment_files: Vec::new(),
            user: None,
            group: None,
            working_directory: None,
            input: Input::Null,
            output: Output::Log,
            error: Output::Log,
            tty: "/dev/console".to_owned(),
        }
    }
}

impl Service {
    /// How long to wait before the `n`-th restart in a row (from 0): grows from `RestartSec=` to
    /// `RestartMaxDelaySec=` in `RestartSteps=` equal steps (systemd: in equal ratios), then stays.
    pub fn restart_delay(&self, n: u32) -> Span {
        if self.restart_steps == 0 || self.restart_max_delay <= self.restart_sec {
            return self.restart_sec;
        }
        if self.restart_max_delay == Span::INFINITY {
            return self.restart_sec;
        }
        let step = u64::from(n.min(self.restart_steps));
        let width = self.restart_max_delay.0.saturating_sub(self.restart_sec.0);
        let part = width.saturating_mul(step).checked_div(u64::from(self.restart_steps)).unwrap_or(0);
        Span(self.restart_sec.0.saturating_add(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_in_steps_up_to_its_bound() {
        let mut service = Service { restart_sec: Span::seconds(1), ..Service::default() };
        assert_eq!(service.restart_delay(9), Span::seconds(1));
        service.restart_steps = 4;
        service.restart_max_delay = Span::seconds(9);
        let delays: Vec<u64> = (0..6).map(|n| service.restart_delay(n).0 / 1_000_000).collect();
        assert_eq!(delays, [1, 3, 5, 7, 9, 9]);
    }
}
