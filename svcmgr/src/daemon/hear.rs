//! What services say of themselves on the notify socket, and whether they may.

use super::Daemon;
use crate::graph::UnitId;
use crate::machine::{Event, Role};
use crate::notify::{Notification, NotifySocket, Received};
use crate::unit::NotifyAccess;

/// Messages on the notify socket that are read before others get their turn.
const NOTIFY_BATCH: usize = 64;

/// All that may wait on the socket, as a rule: `/proc/sys/net/unix/max_dgram_qlen` on a device is half of it.
const NOTIFY_ALL: usize = 1024;

impl Daemon {
    pub(super) fn hear_notify(&mut self) {
        self.hear_messages(NOTIFY_BATCH);
    }

    /// A process of a unit has ended: what it said before is heard before that, however much others have said.
    pub(super) fn hear_last_words(&mut self, id: UnitId) {
        self.hear_messages(NOTIFY_ALL);
        self.hear_readiness(id);
    }

    /// Whether a service has written its newline.
    pub(super) fn hear_readiness(&mut self, id: UnitId) {
        let Some(unit) = self.supervisor.machine.unit(id) else { return };
        if self.supervisor.host.is_ready_now(id, &unit.name) {
            self.supervisor.event(id, Event::Ready);
        }
    }

    fn hear_messages(&mut self, most: usize) {
        for _ in 0..most {
            let received = match self.notify.as_ref().map(NotifySocket::receive) {
                Some(Ok(Some(received))) => received,
                Some(Ok(None)) | None => return,
                Some(Err(error)) => return log::warn!("the notify socket cannot be read: {error}"),
            };
            self.notified(received);
        }
    }

    /// One message. What was sent along and is not kept is closed at the end: all that was said before is done then, and
    /// whoever waits for a barrier sees it.
    fn notified(&mut self, received: Received) {
        let Received { pid, notification, fds, fds_lost } = received;
        let by_pid = self.supervisor.host.role_of(pid);
        let found = by_pid.map(|(id, role)| (id, Some(role))).or_else(|| {
            let name = self.supervisor.host.unit_of(pid)?;
            Some((self.supervisor.machine.find(&name)?, None))
        });
        let Some((id, role)) = found else {
            return log::debug!("process {pid}, of no service of ours, sent a notification");
        };
        let Some(unit) = self.supervisor.machine.unit(id) else { return };
        let allowed = match (unit.service.notify_access, role) {
            (NotifyAccess::None, _) => false,
            (NotifyAccess::Main, role) => role == Some(Role::Main),
            (NotifyAccess::Exec, role) => role.is_some(),
            (NotifyAccess::All, _) => true,
        };
        if !allowed {
            // A barrier asks for nothing: systemd-notify(1) sends one after each message.
            if !notification.barrier {
                let count = self.unheard.entry(id).or_default();
                *count = count.saturating_add(1);
                // As often as it likes: it must not fill the log.
                if count.is_power_of_two() {
                    log::warn!(
                        "{}: process {pid} may not speak for it (NotifyAccess=); {count} times so far",
                        unit.name
                    );
                }
            }
            return;
        }
        if fds_lost && notification.fd_store {
            log::error!("{}: descriptors that it wants kept are lost: there may be no more open at once", unit.name);
        }
        if notification.fd_store {
            let (name, polled) = (notification.fd_name.as_deref(), !notification.fd_unpolled);
            self.supervisor.host.keep_descriptors(id, unit, name, polled, fds);
        } else if let (true, Some(name)) = (notification.fd_store_remove, notification.fd_name.as_deref()) {
            self.supervisor.host.forget_descriptors(id, unit, name);
        }
        if let Some(main) = notification.main_pid
            && role != Some(Role::Main).filter(|_| main == pid)
        {
            self.rename_main(id, main);
        }
        self.heed(id, notification);
        self.supervisor.carry_out();
    }

    /// What a message says of the service, in the order in which it matters.
    fn heed(&mut self, id: UnitId, notification: Notification) {
        let mut said = self.supervisor.machine.state(id).map(|state| state.said.clone()).unwrap_or_default();
        said.status = notification.status.unwrap_or(said.status);
        said.errno = notification.errno.or(said.errno);
        said.bus_error = notification.bus_error.map(String::into_boxed_str).or(said.bus_error);
        said.reloading = (said.reloading || notification.reloading) && !notification.ready;
        self.supervisor.machine.set_said(id, said);
        let events = [
            notification.watchdog_span.map(Event::WatchdogSpan),
            notification.extend.map(Event::Extend),
            notification.alive.then_some(Event::Alive),
            notification.trigger.then_some(Event::WatchdogLate),
            notification.ready.then_some(Event::Ready),
            notification.stopping.then_some(Event::Stopping),
        ];
        for event in events.into_iter().flatten() {
            self.supervisor.event(id, event);
        }
    }

    fn rename_main(&mut self, id: UnitId, pid: i32) {
        let Some(unit) = self.supervisor.machine.unit(id) else { return };
        let known = self.supervisor.host.role_of(pid);
        if known == Some((id, Role::Main)) {
            return;
        }
        // Another service's process is never ours to watch, whatever a service says.
        let belongs = known.is_none() && self.supervisor.host.unit_of(pid).is_none_or(|name| name == unit.name);
        if !belongs {
            log::warn!("{}: MAINPID={pid} is not a process of it, ignored", unit.name);
            return;
        }
        match self.supervisor.host.rename_main(id, pid) {
            Ok(process) => self.supervisor.event(id, Event::Spawned(Role::Main, process)),
            Err(error) => log::warn!("{}: MAINPID={pid}: {error}, ignored", unit.name),
        }
    }
}
