//! Step 9, second half: the loop. What may happen is little: a signal, a message of the supervisor, room in the socket,
//! a time that has come. `poll` with two descriptors and one timeout serves that; it holds no state that could go wrong.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use link::channel::may_pass;
use link::{Channel, FromInit, ToInit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus};

use super::outbox::Outbox;
use super::pulse::{Act, Pulse};
use super::shutdown::{self, Pending};
use super::store::{Room, Store};
use super::supervisor::Supervisor;
use super::watchdog::Watchdog;
use crate::params::Watch;

/// What could not be said for want of memory or descriptors is tried again after this time, and so often. Then it is
/// dropped: kept, it would stand before all else for ever.
const AGAIN: Duration = Duration::from_millis(50);
const TRIES: u32 = 100;

/// All that PID 1 knows.
#[derive(Debug)]
pub struct Machine {
    signals: SignalFd,
    /// Our end of the channel.
    channel: Channel,
    /// The supervisor's end. Kept, so that the channel outlives each supervisor.
    far: Channel,
    /// Keeps the number under which a supervisor finds its end from being given to anything else here.
    _number: OwnedFd,
    store: Store,
    outbox: Outbox,
    /// Until when nothing is said, and how often the first message could not be.
    mute: Option<(Instant, u32)>,
    supervisor: Supervisor,
    pulse: Pulse,
    watchdog: Watchdog,
    pending: Option<Pending>,
}

impl Machine {
    /// Takes over the signals; the supervisor, whose program is at `program`, is due at once.
    /// `watch` says how long it, and all of us, may hang.
    pub fn new(program: &'static str, watch: Watch) -> io::Result<Machine> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2] {
            signals.add(signal);
        }
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let (channel, far) = Channel::pair()?;
        // Gives that number if it is free, and a higher one if something that stays open has it already.
        let number = rustix::io::fcntl_dupfd_cloexec(&far, link::channel::SVCMGR_FD)?;
        let now = Instant::now();
        let mut machine = Machine {
            signals,
            channel,
            far,
            _number: number,
            store: Store::default(),
            outbox: Outbox::default(),
            mute: None,
            supervisor: Supervisor::new(program, Room::make(), now),
            pulse: Pulse::new(watch, now),
            watchdog: Watchdog::new(watch, now),
            pending: None,
        };
        // Children of before the signals were taken over.
        machine.reap();
        Ok(machine)
    }

    /// Does what is due, then waits for the next thing to happen and handles it.
    pub fn turn(&mut self) {
        let now = Instant::now();
        if let Some(pending) = self.pending.filter(|pending| pending.deadline <= now) {
            log::error!("svcmgr did not end the services in time; going on without it");
            self.finish(pending.ending);
        }
        if self.supervisor.due().is_some_and(|at| at <= now) {
            self.start_supervisor(now);
        }
        self.speak();
        self.wait();
        self.listen();
        self.take_signals();
        self.look_for_life();
    }

    fn start_supervisor(&mut self, now: Instant) {
        self.outbox.begin_anew(
            self.store.names(),
            self.pending.map(|pending| pending.ending),
            drain(&self.far).filter_map(|text| text.parse::<FromInit>().ok()),
        );
        // First what it must hear, as far as the socket takes it: it is there when it looks.
        self.speak();
        if self.supervisor.start(&self.far, now).is_err()
            && let Some(pending) = self.pending
        {
            // Nobody is left who could stop the services in order.
            self.finish(pending.ending);
        }
        let act = self.pulse.begin(now);
        self.act_on(act);
    }

    fn finish(&mut self, ending: link::Ending) -> ! {
        shutdown::finish(ending, &self.signals, &mut self.watchdog)
    }

    /// Says what is to be said, as far as the socket takes it.
    fn speak(&mut self) {
        let now = Instant::now();
        let mut tries = match self.mute {
            Some((until, _)) if until > now => return,
            Some((_, tries)) => tries,
            None => 0,
        };
        while let Some(message) = self.outbox.next() {
            let fd = match &message {
                FromInit::Stored(name) => match self.store.get(name) {
                    Some(fd) => Some(fd),
                    // Dropped since.
                    None => {
                        self.outbox.said();
                        continue;
                    }
                },
                _ => None,
            };
            match self.channel.send(&message, fd.map(std::os::fd::AsFd::as_fd).as_slice()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if may_pass(&error) && tries < TRIES => {
                    self.mute = now.checked_add(AGAIN).map(|until| (until, tries.saturating_add(1)));
                    return;
                }
                Err(error) => log::error!("svcmgr cannot be told \"{message}\": {error}"),
            }
            self.outbox.said();
            // The next one is another.
            tries = 0;
        }
        self.mute = None;
    }

    /// Waits for a signal, a message, room in the socket if there is something to say, or the next time.
    fn wait(&self) {
        let pending = self.pending.map(|pending| pending.deadline);
        let muted = self.mute.map(|(until, _)| until);
        let times = [self.supervisor.due(), pending, self.pulse.due(), self.watchdog.due(), muted];
        let next = times.into_iter().flatten().min();
        let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        let room = if self.outbox.is_empty() || muted.is_some() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds = [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.channel, PollFlags::IN | room)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                log::error!("PID 1 cannot wait: {errno}");
                std::thread::sleep(super::PAUSE);
            }
        }
    }

    /// Takes all that the supervisor has said.
    fn listen(&mut self) {
        loop {
            let received = match self.channel.receive() {
                Ok(Some(received)) => received,
                Ok(None) => return,
                Err(error) => {
                    log::error!("svcmgr cannot be heard: {error}");
                    // What it said is still there, and wakes us at once.
                    std::thread::sleep(AGAIN);
                    return;
                }
            };
            match received.text.parse() {
                Ok(message) => self.heard(message, received.fds),
                Err(error) => log::error!("{error}"),
            }
        }
    }

    fn heard(&mut self, message: ToInit, fds: Vec<OwnedFd>) {
        match message {
            ToInit::Store(names) => {
                let mut fds = fds.into_iter();
                for name in names {
                    match fds.next().map(|fd| self.store.put(name.clone(), fd)) {
                        Some(Ok(())) => {}
                        Some(Err(full)) => log::error!("{full}"),
                        None => log::error!("svcmgr wants \"{name}\" kept, and its descriptor is missing"),
                    }
                }
            }
            ToInit::Drop(name) => {
                if !self.store.forget(&name) {
                    log::debug!("svcmgr drops \"{name}\", which is not kept");
                }
            }
            ToInit::Leaving => self.supervisor.leaves(),
            ToInit::Pong => self.pulse.heard(Instant::now()),
            ToInit::Stopping(ending) => {
                log::info!("stopping all services, then {}", ending.word());
                self.pending = Some(Pending::answered(self.pending, ending, Instant::now()));
            }
            ToInit::End(ending) => self.finish(ending),
        }
    }

    /// Asks the supervisor whether it lives, kills one that hangs, and feeds the machine's watchdog. After all was
    /// heard that has been said.
    fn look_for_life(&mut self) {
        let now = Instant::now();
        let act = self.pulse.turn(now);
        self.act_on(act);
        self.watchdog.turn(self.pulse.is_alive(now), now);
    }

    fn act_on(&mut self, act: Option<Act>) {
        match act {
            Some(Act::Ask) => self.outbox.ping(),
            Some(Act::Kill) => self.supervisor.kill(),
            None => {}
        }
    }

    fn take_signals(&mut self) {
        loop {
            let number = match self.signals.read_signal() {
                Ok(Some(info)) => info.ssi_signo,
                Ok(None) => return,
                Err(error) => {
                    log::error!("signals cannot be read: {error}");
                    std::thread::sleep(AGAIN);
                    return;
                }
            };
            match i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok()) {
                Some(Signal::SIGCHLD) => self.reap(),
                Some(signal) => self.asked(signal),
                None => {}
            }
        }
    }

    /// Someone asked by a signal for the end of the machine.
    fn asked(&mut self, signal: Signal) {
        let Some(ending) = shutdown::asked_by(signal) else { return };
        log::info!("{signal}: {}", ending.word());
        self.pending = Some(Pending::asked(self.pending, ending, Instant::now()));
        self.outbox.shutdown(ending);
    }

    /// Reaps all that have ended: one signal may stand for many.
    fn reap(&mut self) {
        let mut tries = TRIES;
        while tries > 0 {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid.as_raw_nonzero().get(), status),
                Ok(None) | Err(Errno::CHILD) => return,
                // Nobody would tell of them again.
                Err(_) => tries = tries.saturating_sub(1),
            }
        }
    }

    fn ended(&mut self, pid: i32, status: WaitStatus) {
        if self.supervisor.is(pid) {
            // Its last words count: what it stored, and that it was stopping.
            self.listen();
            self.pulse.end();
            self.supervisor.ended(status, Instant::now());
            return;
        }
        let Some(dropped) = self.outbox.reaped((pid, status.as_raw())) else { return };
        // Once in a while: what does not get through must not flood the log, either.
        if dropped.is_power_of_two() {
            log::warn!("svcmgr does not listen: {dropped} exits of processes were dropped so far");
        }
    }
}

/// What lies unread in a dead supervisor's end, descriptors aside: those are still stored.
fn drain(far: &Channel) -> impl Iterator<Item = String> {
    std::iter::from_fn(|| far.receive().ok().flatten()).map(|received| received.text)
}
