//! The `[Service]` section as data, with systemd's defaults.

use std::time::Duration;

use super::command::Command;
use super::directories::Directories;
use super::failure::FailureActions;
use super::limit::Limit;
use super::resources::{OomPolicy, Resources};
use super::sandbox::Sandbox;
use super::scheduling::Scheduling;
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
    /// Once the process that was started has ended with success, and left another one, the service.
    Forking,
    /// Once its name on the system bus has an owner.
    Dbus,
    /// As [`ServiceType::Exec`], but its program is not executed before the other units are started, or a while has passed.
    Idle,
}

/// What becomes of a start that takes too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureMode {
    /// `KillSignal=` ends it.
    Terminate,
    /// `WatchdogSignal=` ends it, so that it leaves a core.
    Abort,
    /// `FinalKillSignal=` ends it.
    Kill,
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

/// How long descriptors are kept that a service stored; systemd.service(5), `FileDescriptorStorePreserve=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preserve {
    /// Until it stops.
    No,
    /// Until it stops, and is not to be started again.
    Restart,
    /// Until it takes them back.
    Yes,
}

/// Whom a stop hits; systemd.kill(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillMode {
    /// All processes of the service.
    ControlGroup,
    /// Its main process; once that is gone, or late, SIGKILL hits all.
    Mixed,
    /// Its main process alone; others stay.
    Process,
    /// None: `ExecStop=` has to do it.
    None,
}

/// What a service reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `/dev/null`.
    Null,
    /// Its terminal.
    Tty,
    /// What `StandardInputText=` and `StandardInputData=` say.
    Data,
    /// Its socket: the connection, or the only one that it has.
    Socket,
    /// A file.
    File(Box<str>),
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// From its beginning, over what is there.
    InPlace,
    /// After what is there.
    Append,
    /// Emptied first.
    Truncate,
}

/// What becomes of a session keyring; keyrings(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyringMode {
    /// The supervisor's.
    Inherit,
    /// A new one.
    Private,
    /// A new one, with the user's linked into it.
    Shared,
}

/// Where a service writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    Null,
    /// Its terminal.
    Tty,
    /// Its log.
    Log,
    /// Its socket, as [`Input::Socket`].
    Socket,
    /// The kernel's log.
    Kmsg,
    /// Its log, and the console.
    LogAndConsole,
    /// A file.
    File(Write, Box<str>),
}

/// Ways to end, as `SuccessExitStatus=` and its like list them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExitSet {
    /// Exit codes.
    pub codes: Vec<i32>,
    /// Signals.
    pub signals: Vec<i32>,
}

impl ExitSet {
    /// Whether an end by this code or signal is one of them.
    pub fn holds(&self, code: Option<i32>, signal: Option<i32>) -> bool {
        code.is_some_and(|code| self.codes.contains(&code)) || signal.is_some_and(|one| self.signals.contains(&one))
    }
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
    pub condition: Vec<Command>,
    pub restart: Restart,
    /// `RestartPreventExitStatus=`.
    pub restart_prevent: ExitSet,
    /// `RestartForceExitStatus=`.
    pub restart_force: ExitSet,
    pub restart_sec: Span,
    pub restart_steps: u32,
    pub restart_max_delay: Span,
    pub timeout_start: Span,
    pub timeout_stop: Span,
    /// `TimeoutAbortSec=`, if it is not as long as `TimeoutStopSec=`.
    pub timeout_abort: Option<Span>,
    pub start_failure_mode: FailureMode,
    pub runtime_max: Span,
    /// `WatchdogSec=`.
    pub watchdog: Option<Span>,
    pub watchdog_signal: i32,
    pub pid_file: Option<String>,
    pub bus_name: Option<String>,
    pub guess_main_pid: bool,
    /// `ExitType=cgroup`: it ends with its last process.
    pub ends_with_last: bool,
    pub remain_after_exit: bool,
    pub success: ExitSet,
    pub notify_access: NotifyAccess,
    /// `[X-MMOS] ReadyFD=`: it is up once it has written a newline to this descriptor.
    pub ready_fd: Option<i32>,
    /// `FileDescriptorStoreMax=`.
    pub store_max: usize,
    /// `FileDescriptorStorePreserve=`.
    pub store_preserve: Preserve,
    pub non_blocking: bool,
    pub kill_signal: i32,
    pub restart_kill_signal: Option<i32>,
    pub final_kill_signal: i32,
    pub send_sighup: bool,
    pub send_sigkill: bool,
    pub kill_mode: KillMode,
    pub ignore_sigpipe: bool,
    pub umask: u32,
    pub nice: Option<i32>,
    pub oom_score_adjust: Option<i32>,
    /// `LimitNOFILE=` and its like.
    pub limits: Vec<Limit>,
    /// `Environment=`, in order.
    pub environment: Vec<(String, String)>,
    /// `EnvironmentFile=`, and whether it may be missing.
    pub environment_files: Vec<(String, bool)>,
    pub user: Option<String>,
    pub group: Option<String>,
    pub supplementary_groups: Vec<String>,
    pub dynamic_user: bool,
    pub pass_environment: Vec<String>,
    pub unset_environment: Vec<String>,
    pub exec_search_path: Vec<String>,
    /// `WorkingDirectory=`, and whether it may be missing. `~` is the user's home.
    pub working_directory: Option<(String, bool)>,
    pub input: Input,
    pub output: Output,
    pub error: Output,
    /// What [`Input::Data`] reads.
    pub input_data: Option<Vec<u8>>,
    pub tty: Option<String>,
    pub syslog_identifier: Option<String>,
    /// The priority of a line that does not say, and whether a line may say.
    pub syslog_level: u8,
    pub syslog_level_prefix: bool,
    pub syslog_facility: Option<u8>,
    /// `LogRateLimitIntervalSec=` and `LogRateLimitBurst=`.
    pub log_interval: Option<Span>,
    pub log_burst: Option<u32>,
    pub keyring: KeyringMode,
    pub directories: Option<Box<Directories>>,
    pub scheduling: Option<Box<Scheduling>>,
    pub sandbox: Option<Box<Sandbox>>,
    pub resources: Option<Box<Resources>>,
    pub failure_actions: Option<Box<FailureActions>>,
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
            condition: Vec::new(),
            restart: Restart::No,
            restart_prevent: ExitSet::default(),
            restart_force: ExitSet::default(),
            restart_sec: Span::millis(100),
            restart_steps: 0,
            restart_max_delay: Span::INFINITY,
            timeout_start: Span::seconds(90),
            timeout_stop: Span::seconds(90),
            timeout_abort: None,
            start_failure_mode: FailureMode::Terminate,
            runtime_max: Span::INFINITY,
            watchdog: None,
            watchdog_signal: libc::SIGABRT,
            pid_file: None,
            bus_name: None,
            guess_main_pid: true,
            ends_with_last: false,
            remain_after_exit: false,
            success: ExitSet::default(),
            notify_access: NotifyAccess::None,
            ready_fd: None,
            store_max: 0,
            store_preserve: Preserve::Restart,
            non_blocking: false,
            kill_signal: libc::SIGTERM,
            restart_kill_signal: None,
            final_kill_signal: libc::SIGKILL,
            send_sighup: false,
            send_sigkill: true,
            kill_mode: KillMode::ControlGroup,
            ignore_sigpipe: true,
            umask: 0o022,
            nice: None,
            oom_score_adjust: None,
            limits: Vec::new(),
            environment: Vec::new(),
            environment_files: Vec::new(),
            user: None,
            group: None,
            supplementary_groups: Vec::new(),
            dynamic_user: false,
            pass_environment: Vec::new(),
            unset_environment: Vec::new(),
            exec_search_path: Vec::new(),
            working_directory: None,
            input: Input::Null,
            output: Output::Log,
            error: Output::Log,
            input_data: None,
            tty: None,
            syslog_identifier: None,
            syslog_level: 6,
            syslog_level_prefix: true,
            syslog_facility: None,
            log_interval: None,
            log_burst: None,
            keyring: KeyringMode::Private,
            directories: None,
            scheduling: None,
            sandbox: None,
            resources: None,
            failure_actions: None,
        }
    }
}

impl Service {
    /// The signals that tell it to end.
    pub fn stop_signals(&self, restarting: bool) -> Vec<i32> {
        let first = self.restart_kill_signal.filter(|_| restarting).unwrap_or(self.kill_signal);
        let hangup = (self.send_sighup && first != libc::SIGHUP).then_some(libc::SIGHUP);
        std::iter::once(first).chain(hangup).collect()
    }

    /// What a service of [`ServiceType::Notify`] has to do to be up, and what it has done then.
    pub fn readiness(&self) -> (String, String) {
        match self.ready_fd {
            None => ("say READY=1".to_owned(), "said READY=1".to_owned()),
            Some(fd) => {
                let rest = format!("a newline to descriptor {fd} (ReadyFD=)");
                (format!("write {rest}"), format!("wrote {rest}"))
            }
        }
    }

    /// How many lines it may say in a while. Of two settings, one alone stands beside systemd's default of the other:
    /// journald.conf(5), `RateLimitIntervalSec=`.
    pub fn line_limit(&self) -> Option<(Span, u32)> {
        if self.log_interval.is_none() && self.log_burst.is_none() {
            return None;
        }
        let (interval, burst) = (self.log_interval.unwrap_or(Span::seconds(30)), self.log_burst.unwrap_or(10_000));
        (interval != Span::ZERO && burst > 0).then_some((interval, burst))
    }

    /// See [`super::Unit::shrink`].
    pub(super) fn shrink(&mut self) {
        let commands = [
            &mut self.condition,
            &mut self.start_pre,
            &mut self.start,
            &mut self.start_post,
            &mut self.stop,
            &mut self.stop_post,
        ];
        for list in commands {
            list.shrink_to_fit();
            list.iter_mut().for_each(|command| command.arguments.shrink_to_fit());
        }
        self.environment.shrink_to_fit();
        self.limits.shrink_to_fit();
    }

    /// `OOMPolicy=`, or what is usual.
    pub fn oom_policy(&self) -> OomPolicy {
        self.resources.as_ref().and_then(|resources| resources.oom_policy).unwrap_or_default()
    }

    /// Whether anything is made for its processes that has to be removed after them.
    pub fn leaves_something(&self) -> bool {
        self.directories.is_some()
            || self.kind == ServiceType::Dbus
            || self.store_max > 0
            || self.resources.as_ref().is_some_and(|resources| resources.watches_memory())
            || self.sandbox.as_ref().is_some_and(|sandbox| sandbox.private_tmp)
    }

    /// Whether a socket has any commands.
    pub fn has_commands(&self) -> bool {
        [&self.condition, &self.start_pre, &self.start_post, &self.stop, &self.stop_post]
            .iter()
            .any(|list| !list.is_empty())
    }

    /// How long to wait before the `n`-th restart in a row (from 0): grows from `RestartSec=` to
    /// `RestartMaxDelaySec=` in `RestartSteps=` steps, each longer than the one before by the same ratio, then stays.
    pub fn restart_delay(&self, n: u32) -> Span {
        let (least, most) = (self.restart_sec, self.restart_max_delay);
        if n == 0 || self.restart_steps == 0 || least == Span::ZERO || most == Span::INFINITY || least >= most {
            return least;
        }
        if n >= self.restart_steps {
            return most;
        }
        let seconds = |span: Span| Duration::from_micros(span.0).as_secs_f64();
        let ratio = seconds(most) / seconds(least);
        let delay = seconds(least) * ratio.powf(f64::from(n) / f64::from(self.restart_steps));
        let micros = Duration::try_from_secs_f64(delay).ok().and_then(|delay| u64::try_from(delay.as_micros()).ok());
        micros.map_or(most, |micros| Span(micros).clamp(least, most))
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
        service.restart_max_delay = Span::seconds(16);
        let delays: Vec<u64> = (0..6).map(|n| service.restart_delay(n).0 / 1000).collect();
        assert_eq!(delays, [1000, 2000, 4000, 8000, 16000, 16000]);
        service.restart_max_delay = Span::INFINITY;
        assert_eq!(service.restart_delay(9), Span::seconds(1));
        // Less than what it begins with: that holds.
        service.restart_max_delay = Span::millis(10);
        assert_eq!(service.restart_delay(9), Span::seconds(1));
    }
}
