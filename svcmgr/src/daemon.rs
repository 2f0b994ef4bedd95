//! The loop: one thread, one epoll descriptor. Waits for what happens, turns it into events of the machine and calls
//! of clients, and goes on whatever fails. How it begins, and takes over from one that died, is in [`crate::startup`].

mod hear;
mod logs;
mod serve;
mod sockets;
mod stuck;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use link::{FromInit, ToInit};
use rustix::event::epoll::EventFlags;
use rustix::time::Timespec;

use crate::control::methods::Mode;
use crate::control::{ClientId, Clients, Listener};
use crate::crash::Folder;
use crate::graph::UnitId;
use crate::host::Host;
use crate::host::real::RealHost;
use crate::host::sys;
use crate::host::token::Token;
use crate::log::inlets::Inlets;
use crate::log::kmsg::Kmsg;
use crate::log::streams::Streams;
use crate::machine::{Event, Exit, Now, Role, WaiterId};
use crate::notify::NotifySocket;
use crate::supervisor::Supervisor;

/// PID 1 tells how a process that was taken over ended; if it has not after this time, nobody knows.
const REPORT_GRACE: u64 = 2_000_000;
/// All services together have this time to stop, however long their own timeouts are; then the machine ends.
const SHUTDOWN_BOUND: u64 = 120_000_000;
/// Without cgroups, what is left of a service is looked for at this interval.
const LINGER_INTERVAL: u64 = 50_000;

/// The supervisor's process.
#[derive(Debug)]
pub struct Daemon {
    /// Units and system.
    pub supervisor: Supervisor<RealHost>,
    /// The notify socket, if it could be made.
    pub notify: Option<NotifySocket>,
    /// The control socket, if it could be made.
    pub listener: Option<Listener>,
    /// Signals, if they could be had.
    pub signals: Option<OwnedFd>,
    /// This system.
    pub mode: Mode,
    /// Processes that were taken over and are gone, and when nobody will know how they ended.
    pub unreported: BTreeMap<(UnitId, Role), u64>,
    /// The kernel's log, if it is read and could be opened.
    pub kmsg: Option<Kmsg>,
    /// When the kernel's lines are to be read at the latest (`CLOCK_BOOTTIME`), if there are any.
    kernel_due: Option<u64>,
    /// `/dev/log` and the journal's native socket.
    pub inlets: Inlets,
    /// Streams to the journal.
    pub streams: Streams,
    /// Where crashes are kept.
    pub crashes: Option<Folder>,
    /// When this turn of the loop began (`CLOCK_BOOTTIME`): the time of the lines that are read in it.
    time: u64,
    sockets: sockets::Sockets,
    /// How often somebody spoke for a unit who may not.
    unheard: BTreeMap<UnitId, u64>,
    clients: Clients,
    /// Clients that are to be sent more lines of a log at once.
    unfinished: BTreeSet<ClientId>,
    next_waiter: WaiterId,
    shutdown_at: Option<u64>,
    /// No descriptor is left for another client: when to look again.
    deaf_until: Option<u64>,
    deafness_told: bool,
    leaving: bool,
}

impl Daemon {
    /// With everything that it works on.
    pub fn new(supervisor: Supervisor<RealHost>, mode: Mode) -> Daemon {
        Daemon {
            supervisor,
            notify: None,
            listener: None,
            signals: None,
            mode,
            unreported: BTreeMap::new(),
            kmsg: None,
            kernel_due: None,
            inlets: Inlets::default(),
            streams: Streams::default(),
            crashes: None,
            time: link::boot::now_us(),
            sockets: sockets::Sockets::default(),
            unheard: BTreeMap::new(),
            clients: Clients::default(),
            unfinished: BTreeSet::new(),
            next_waiter: 0,
            shutdown_at: None,
            deaf_until: None,
            deafness_told: false,
            leaving: false,
        }
    }

    /// Runs until all is stopped and there is no PID 1 of ours that ends the machine, or until told to leave.
    pub fn run(&mut self) {
        self.turn_until_leaving();
        if self.supervisor.host.channel().is_some() {
            // The next one goes on where this one ends; at the machine's end there is none.
            if !self.supervisor.is_stopped() {
                log::info!("leaving: services go on, the next supervisor takes them over");
            }
            self.hand_over_streams();
            self.tell_init(&ToInit::Leaving);
            self.supervisor.host.speak_to_the_end();
        }
    }

    fn turn_until_leaving(&mut self) {
        while !self.leaving {
            self.supervisor.tick();
            self.pass_time();
            self.answer();
            self.send_lines();
            self.supervisor.host.speak();
            if self.supervisor.is_stopped() && self.supervisor.host.channel().is_none() {
                return;
            }
            let timeout = self.timeout();
            let tokens = match self.supervisor.host.wait(timeout.as_ref()) {
                Ok(tokens) => tokens,
                Err(rustix::io::Errno::INTR) => Vec::new(),
                Err(error) => {
                    log::error!("waiting for events failed: {error}");
                    // Not in a circle at full speed, should it go on failing.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    Vec::new()
                }
            };
            self.hear_logs(tokens.iter().any(|(token, _)| token.brings_lines()));
            // Last words count: what a service said before it ended is heard before its end is seen.
            self.hear_notify();
            for (token, flags) in tokens {
                self.dispatch(token, flags);
            }
        }
    }

    fn dispatch(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Init => self.hear_init(flags),
            Token::Signals => self.hear_signals(),
            // Heard before all others; and what is in it.
            Token::Urgent | Token::Notify | Token::Syslog | Token::Journal | Token::Streams => {}
            Token::Kmsg => self.note_kernel(),
            Token::Stream(id) => self.read_stream(id),
            Token::Listener => self.accept(),
            Token::Client(id) => self.serve(id, flags),
            Token::Output(id) => self.read_output(id, false),
            Token::Start(id, role) => self.started(id, role),
            Token::Process(id, role) => self.process_ended(id, role),
            Token::Former(pid) => self.supervisor.host.bury(pid),
            Token::Memory(id) => self.look_at_memory(id),
            Token::Ready(id) => self.hear_readiness(id),
            Token::Incoming(id) => self.supervisor.event(id, Event::Incoming),
            Token::Kept(serial) => self.supervisor.host.hung_up(serial, &self.supervisor.machine),
            Token::Bus(id) => {
                if self.supervisor.host.is_named_now(id) {
                    self.supervisor.event(id, Event::Named);
                }
            }
            Token::PidFile(id) => {
                self.supervisor.host.read_pid_watch(id);
                self.supervisor.find_main(id);
                self.supervisor.carry_out();
            }
            Token::Population(id) => {
                let Some(unit) = self.supervisor.machine.unit(id) else { return };
                if self.supervisor.host.is_empty_now(id, unit) {
                    self.supervisor.event(id, Event::Empty);
                }
            }
        }
    }

    /// How long there is nothing to do.
    fn timeout(&self) -> Option<Timespec> {
        if !self.unfinished.is_empty() {
            return Some(Timespec::default());
        }
        let Now { mono: now, boot } = self.supervisor.host.now();
        let mut next = self.supervisor.next_deadline();
        let logs = [
            self.supervisor.host.pipes.next_opening(),
            self.streams.next_opening(),
            self.supervisor.host.store.next_deadline(),
            self.kernel_due,
        ];
        // Theirs is the clock that goes on while the machine sleeps.
        let logs = logs.into_iter().flatten().min().map(|at| now.saturating_add(at.saturating_sub(boot)));
        let mut at = |time: Option<u64>| next = [next, time].into_iter().flatten().min();
        at(logs);
        at(self.unreported.values().min().copied());
        at(self.shutdown_at);
        at(self.supervisor.jobs.next_deadline());
        at(self.deaf_until);
        at(self.sockets.next_try());
        at(self.supervisor.host.next_bus_search());
        at(self.supervisor.host.next_word());
        at(self.supervisor.host.has_lingering().then(|| now.saturating_add(LINGER_INTERVAL)));
        // Rounded up to the clock that epoll has, so that the deadline has passed when it returns.
        let millis = next?.saturating_sub(now).div_ceil(1000);
        let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
        let nanos = i64::try_from((millis % 1000).saturating_mul(1_000_000)).unwrap_or(0);
        Some(Timespec { tv_sec: seconds, tv_nsec: nanos })
    }

    fn pass_time(&mut self) {
        let now = self.supervisor.host.now().mono;
        let late: Vec<(UnitId, Role)> =
            self.unreported.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for (id, role) in late {
            self.unreported.remove(&(id, role));
            self.supervisor.host.forget(id, role, Exit::Unknown);
            self.supervisor.event(id, exited(role, Exit::Unknown));
        }
        if self.deaf_until.is_some_and(|at| at <= now) {
            self.deaf_until = None;
            self.listen(EventFlags::IN);
        }
        self.try_sockets(now);
        self.supervisor.host.search_bus();
        self.tell_of_late_jobs();
        self.pass_time_in_logs();
        for id in self.supervisor.host.lingering() {
            self.supervisor.event(id, Event::Empty);
        }
        match (self.supervisor.ending(), self.shutdown_at) {
            (Some(_), None) => self.shutdown_at = Some(now.saturating_add(SHUTDOWN_BOUND)),
            (Some(_), Some(at)) if at <= now && !self.supervisor.is_stopped() => {
                log::error!("services still run after {} s: the machine ends without them", SHUTDOWN_BOUND / 1_000_000);
                self.supervisor.finish();
                self.shutdown_at = Some(u64::MAX);
            }
            _ => {}
        }
    }

    fn hear_init(&mut self, flags: EventFlags) {
        loop {
            let received = match self.supervisor.host.channel().map(link::Channel::receive) {
                Some(Ok(Some(received))) => received,
                Some(Ok(None)) => break,
                Some(Err(error)) => {
                    log::error!("PID 1 cannot be heard: {error}");
                    break;
                }
                None => return,
            };
            match received.text.parse() {
                Ok(FromInit::Reaped { pid, status }) => self.reaped(pid, status),
                Ok(FromInit::Shutdown(ending)) => self.supervisor.shutdown(ending),
                Ok(FromInit::Ping) => self.tell_init(&ToInit::Pong),
                Ok(FromInit::Stored(_) | FromInit::Begin) => {}
                Err(error) => log::warn!("{error}"),
            }
        }
        if flags.contains(EventFlags::HUP) {
            log::error!("PID 1 has closed the channel: going on without it");
            self.supervisor.host.drop_channel();
        }
    }

    fn tell_init(&mut self, message: &ToInit) {
        if let Err(error) = self.supervisor.host.tell_init(message) {
            log::error!("PID 1 cannot be told \"{message}\": {error}");
        }
    }

    /// PID 1 tells how a process ended.
    pub fn reaped(&mut self, pid: i32, status: i32) {
        if let Some((id, _)) = self.supervisor.host.role_of(pid) {
            self.hear_last_words(id);
        }
        if let Some((id, role, exit)) = self.supervisor.host.reaped(pid, exit_of(status)) {
            self.unreported.remove(&(id, role));
            self.read_output(id, true);
            self.supervisor.event(id, exited(role, exit));
        }
    }

    fn hear_signals(&mut self) {
        // signalfd(2): struct signalfd_siginfo is 128 bytes, the number its first four.
        let mut buffer = [0; 128];
        while let Some(Ok(n)) = self.signals.as_ref().map(|signals| rustix::io::read(signals, &mut buffer)) {
            let Some([a, b, c, d]) = buffer.first_chunk::<4>().filter(|_| n == 128) else { return };
            let number = u32::from_ne_bytes([*a, *b, *c, *d]);
            if i32::try_from(number) == Ok(libc::SIGCHLD) {
                self.reap_children();
                continue;
            }
            let is_term = i32::try_from(number) == Ok(libc::SIGTERM);
            if self.supervisor.host.channel().is_some() {
                // PID 1 starts us again, and we take everything over: nothing is stopped.
                if is_term {
                    self.leaving = true;
                    return;
                }
            } else if self.supervisor.ending().is_none() {
                self.supervisor.shutdown(link::Ending::Halt);
            } else {
                self.leaving = true;
                return;
            }
        }
    }

    /// Without a PID 1 of ours, orphans of services are our children.
    fn reap_children(&mut self) {
        while let Some(pid) = sys::ended_child() {
            match self.supervisor.host.role_of(pid) {
                Some((id, role)) => self.process_ended(id, role),
                None => sys::reap(pid),
            }
            if self.supervisor.host.role_of(pid).is_some() {
                // Somebody else's to reap.
                return;
            }
        }
    }

    fn started(&mut self, id: UnitId, role: Role) {
        if self.supervisor.host.started(id, role) == Some(true) && role == Role::Main {
            self.supervisor.event(id, Event::Executed);
        }
    }

    fn process_ended(&mut self, id: UnitId, role: Role) {
        // It may have been executed, have spoken, and have ended, all since we last looked: in that order.
        self.started(id, role);
        self.hear_last_words(id);
        // Why it ended, before that it did.
        self.look_at_memory(id);
        if let Some(exit) = self.supervisor.host.reap(id, role) {
            self.read_output(id, true);
            self.supervisor.event(id, exited(role, exit));
        } else if self.supervisor.host.knows(id, role) && !self.supervisor.host.is_ours(id, role) {
            self.await_report(id, role);
        }
    }

    fn look_at_memory(&mut self, id: UnitId) {
        if self.supervisor.host.ran_out_of_memory(id) {
            self.supervisor.event(id, Event::OutOfMemory);
        }
    }

    /// A process that was taken over is gone: PID 1 will tell how it ended, or, in the end, nobody.
    pub fn await_report(&mut self, id: UnitId, role: Role) {
        self.supervisor.host.unwatch(id, role);
        let grace = if self.supervisor.host.channel().is_some() { REPORT_GRACE } else { 0 };
        let at = self.supervisor.host.now().mono.saturating_add(grace);
        self.unreported.entry((id, role)).or_insert(at);
    }
}

fn exited(role: Role, exit: Exit) -> Event {
    match role {
        Role::Main => Event::MainExited(exit),
        Role::Control => Event::ControlExited(exit),
    }
}

/// A wait status, as wait(2) gives it and PID 1 passes it on.
pub fn exit_of(status: i32) -> Exit {
    if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        Exit::Signal { signal: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) }
    } else {
        Exit::Unknown
    }
}
