//! What services say of themselves on the notify socket, and whether they may.

use super::Daemon;
use crate::graph::UnitId;
use crate::machine::{Event, Role};
use crate::notify::{Notification, NotifySocket};
use crate::unit::NotifyAccess;

/// Messages on the notify socket that are read before others get their turn.
const NOTIFY_BATCH: usize = 64;

impl Daemon {
    pub(super) fn hear_notify(&mut self) {
        for _ in 0..NOTIFY_BATCH {
            let received = match self.notify.as_ref().map(NotifySocket::receive) {
                Some(Ok(Some(received))) => received,
                Some(Ok(None)) | None => return,
                Some(Err(error)) => return log::warn!("the notify socket cannot be read: {error}"),
            };
            self.notified(received.0, received.1);
        }
    }

    fn notified(&mut self, pid: i32, notification: Notification) {
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
            log::warn!("{}: process {pid} may not speak for it (NotifyAccess=)", unit.name);
            return;
        }
        if let Some(main) = notification.main_pid
            && role != Some(Role::Main).filter(|_| main == pid)
        {
            self.rename_main(id, main);
        }
        if let Some(status) = notification.status {
            self.supervisor.machine.set_status(id, status);
        }
        if let Some(span) = notification.watchdog_span {
            self.supervisor.machine.set_watchdog(id, span);
        }
        if notification.alive {
            self.supervisor.event(id, Event::Alive);
        }
        if notification.trigger {
            self.supervisor.event(id, Event::WatchdogLate);
        }
        if notification.ready {
            self.supervisor.event(id, Event::Ready);
        } else {
            self.supervisor.carry_out();
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
