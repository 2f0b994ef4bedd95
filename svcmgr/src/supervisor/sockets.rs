//! The supervisor's part of sockets: opening them, and giving each connection a service of its own.

use super::Supervisor;
use crate::graph::UnitId;
use crate::host::{Connection, Host};
use crate::machine::{Event, Exit, SocketWork};
use crate::unit::{StartType, instance_name};

impl<H: Host> Supervisor<H> {
    pub(super) fn work_on_sockets(&mut self, id: UnitId, work: SocketWork) {
        let Some(unit) = self.machine.unit(id) else { return };
        let result = self.host.sockets(id, unit, work);
        let is_news = self.note_watch(id, work, result.is_ok());
        let event = match (work, result) {
            (SocketWork::Open, Ok(())) => Event::Executed,
            (SocketWork::Open, Err(reason)) => Event::MainExited(Exit::NotExecuted(reason)),
            (_, Err(reason)) if is_news => return log::warn!("{}: {reason}", self.name(id)),
            (_, Ok(()) | Err(_)) => return,
        };
        let now = self.host.now();
        self.machine.event(id, event, now);
    }

    /// Takes a connection and starts the service that it is for, unless there are too many.
    pub(super) fn accept(&mut self, id: UnitId) {
        let Some(unit) = self.machine.unit(id) else { return };
        let Some(connection) = self.host.accept(id, unit) else { return };
        let source = connection.source.clone();
        // What is not handed over is closed, and the other end sees it.
        if let Err(reason) = self.serve(id, connection) {
            log::warn!("{}: a connection from {source} is closed: {reason}", self.name(id));
        }
    }

    fn serve(&mut self, id: UnitId, connection: Connection) -> Result<(), String> {
        let unit = self.machine.unit(id).ok_or("its socket is gone")?;
        let socket = unit.socket.as_ref().ok_or("its socket is gone")?;
        let (most, per_source) = (socket.max_connections, socket.max_connections_per_source);
        let name = unit.name.clone();
        let mut free = None;
        let mut from_there: u32 = 0;
        for place in 0..most {
            let instance = instance_name(&name, place);
            let state = self.machine.find(&instance).and_then(|other| self.machine.state(other));
            match state {
                Some(state) if !state.phase.is_down() => {
                    let is_same = state.connection.as_deref() == Some(connection.source.as_str());
                    from_there = from_there.saturating_add(u32::from(is_same));
                }
                _ => {
                    free.get_or_insert(instance);
                    // Without a bound for each source, it need not be known how many there are.
                    if per_source.is_none() {
                        break;
                    }
                }
            }
        }
        let instance = free.ok_or_else(|| format!("there are {most} already (MaxConnections=)"))?;
        if let Some(most) = per_source.filter(|most| from_there >= *most) {
            return Err(format!("there are {most} from there already (MaxConnectionsPerSource=)"));
        }
        let other = self.instance(&instance)?;
        self.machine.may_be_started(other).map_err(|refusal| format!("{instance}: {refusal}"))?;
        let source = connection.source.clone();
        if let Some(unit) = self.machine.unit(other) {
            self.host.hand_over(other, unit, connection);
        }
        let now = self.host.now();
        self.machine.connect(other, &source, now);
        Ok(())
    }

    /// An instance of a template; read from its file when it is asked for first.
    fn instance(&mut self, name: &str) -> Result<UnitId, String> {
        if let Some(id) = self.machine.find(name) {
            return Ok(id);
        }
        let unit = self.host.load_instance(name).ok_or_else(|| format!("there is no template for {name}"))?;
        Ok(self.machine.add(unit, (StartType::Demand, "default".to_owned())))
    }

    fn name(&self, id: UnitId) -> &str {
        self.machine.unit(id).map_or("?", |unit| unit.name.as_str())
    }
}
