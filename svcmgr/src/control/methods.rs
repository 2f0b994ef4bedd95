//! What the calls on the control socket mean. A call is answered at once, or leaves its client waiting.

use serde::de::DeserializeOwned;

use super::protocol::{self, SERVICE_INTERFACE};
use super::{Client, Pending};
use crate::crash::Folder;
use crate::graph::UnitId;
use crate::host::Host;
use crate::host::real::RealHost;
use crate::machine::{Machine, Phase, Refusal, WaiterId};
use crate::supervisor::{Supervisor, describe_trigger, next_elapse};
use crate::unit::{StartType, full_name, is_valid_name};

/// What is known about this system besides its units.
#[derive(Debug, Clone, Default)]
pub struct Mode {
    /// Whether `init` of ours booted it.
    pub manufacturing: bool,
    /// The image's name.
    pub image: String,
    /// The image's version.
    pub version: String,
    /// The active profile.
    pub profile: String,
}

/// Why a call has no result: the reply that says so.
pub type Failure = Box<varlink::Reply>;

/// What the methods work on.
#[derive(Debug)]
pub struct Context<'a> {
    /// Units and processes.
    pub supervisor: &'a mut Supervisor<RealHost>,
    /// This system.
    pub mode: &'a Mode,
    /// Counts up over all jobs.
    pub next_waiter: &'a mut WaiterId,
    /// Where crashes are kept.
    pub crashes: Option<&'a Folder>,
    /// Whether the supervisor is to be executed anew.
    pub reexec: &'a mut bool,
}

/// Answers one call, or notes in the client what it waits for.
///
/// # Errors
/// When it is not a call at all: the client is not one of ours.
pub fn call(client: &mut Client, message: &[u8], context: &mut Context<'_>) -> Result<(), String> {
    let request: varlink::Request<'_> = serde_json::from_slice(message).map_err(|error| error.to_string())?;
    client.oneway = request.oneway == Some(true);
    if request.upgrade == Some(true) {
        client.reply(&protocol::service_error("MethodNotImplemented", "method", &request.method));
        return Ok(());
    }
    let parameters = request.parameters.unwrap_or_else(|| serde_json::json!({}));
    let result = match request.method.rsplit_once('.') {
        Some(("org.varlink.service", method)) => service(client, method, parameters),
        Some((protocol::NAME, method)) => manager(client, method, parameters, request.more == Some(true), context),
        _ => Err(Box::new(protocol::service_error(
            "InterfaceNotFound",
            "interface",
            request.method.rsplit_once('.').map_or(&*request.method, |(interface, _)| interface),
        ))),
    };
    if let Err(reply) = result {
        client.reply(&reply);
    }
    Ok(())
}

fn service(client: &mut Client, method: &str, parameters: serde_json::Value) -> Result<(), Failure> {
    match method {
        "GetInfo" => {
            client.answer(&serde_json::json!({
                "vendor": "mmos",
                "product": "svcmgr",
                "version": env!("CARGO_PKG_VERSION"),
                "url": "",
                "interfaces": ["org.varlink.service", protocol::NAME],
            }));
            Ok(())
        }
        "GetInterfaceDescription" => {
            let name = parameters.get("interface").and_then(|name| name.as_str()).unwrap_or_default();
            let text = match name {
                protocol::NAME => protocol::INTERFACE,
                "org.varlink.service" => SERVICE_INTERFACE,
                "" => return Err(Box::new(protocol::service_error("InvalidParameter", "parameter", "interface"))),
                other => return Err(Box::new(protocol::service_error("InterfaceNotFound", "interface", other))),
            };
            client.answer(&serde_json::json!({ "description": text }));
            Ok(())
        }
        other => {
            Err(Box::new(protocol::service_error("MethodNotFound", "method", &format!("org.varlink.service.{other}"))))
        }
    }
}

fn manager(
    client: &mut Client,
    method: &str,
    parameters: serde_json::Value,
    more: bool,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    match method {
        "GetMode" => {
            let mode = context.mode.clone();
            client.answer(&protocol::GetMode_Reply {
                manufacturing: mode.manufacturing,
                image: mode.image,
                version: mode.version,
                profile: mode.profile,
                supervisorVersion: env!("CARGO_PKG_VERSION").to_owned(),
                supervisorPid: std::process::id().into(),
            });
        }
        "ListUnits" => {
            let supervisor = &*context.supervisor;
            let units = supervisor.machine.graph().iter().filter_map(|(id, _)| unit(supervisor, id)).collect();
            client.answer(&protocol::ListUnits_Reply { units });
        }
        "GetUnit" => {
            let args: protocol::GetUnit_Args = arguments(parameters)?;
            let id = find(&context.supervisor.machine, &args.name)?;
            answer_unit(client, context.supervisor, id);
        }
        "Start" => {
            let args: protocol::Start_Args = arguments(parameters)?;
            let (id, waiter) = job(client, &args.name, "start a unit", context)?;
            context.supervisor.start(id, waiter).map_err(|refusal| refused(&args.name, refusal))?;
            client.pending = Pending::Job(waiter, id);
        }
        "Stop" => {
            let args: protocol::Stop_Args = arguments(parameters)?;
            let (id, waiter) = job(client, &args.name, "stop a unit", context)?;
            context.supervisor.stop(id, waiter);
            client.pending = Pending::Job(waiter, id);
        }
        "Restart" => {
            let args: protocol::Restart_Args = arguments(parameters)?;
            let (id, waiter) = job(client, &args.name, "restart a unit", context)?;
            context.supervisor.restart(id, waiter).map_err(|refusal| refused(&args.name, refusal))?;
            client.pending = Pending::Job(waiter, id);
        }
        "Logs" => {
            let args: protocol::Logs_Args = arguments(parameters)?;
            super::logs::call(client, args, more, context.supervisor)?;
        }
        "ListCrashes" => {
            let crashes = context.crashes.map(super::crashes::list).unwrap_or_default();
            client.answer(&protocol::ListCrashes_Reply { crashes });
        }
        "GetBoot" => client.answer(&super::boot::report(context.supervisor)),
        "WaitBoot" => match context.supervisor.machine.boot_summary() {
            Some(_) => answer_boot(client, context.supervisor),
            None => client.pending = Pending::Boot,
        },
        "Shutdown" => {
            let args: protocol::Shutdown_Args = arguments(parameters)?;
            must_be_root(client, "end the machine")?;
            let ending = match args.ending {
                protocol::Ending::poweroff => link::Ending::Poweroff,
                protocol::Ending::reboot => link::Ending::Reboot,
                protocol::Ending::halt => link::Ending::Halt,
            };
            client.answer(&serde_json::json!({}));
            // The answer first: nobody may be there to send it afterwards.
            client.write();
            context.supervisor.shutdown(ending);
        }
        "Reexec" => {
            must_be_root(client, "have the supervisor executed anew")?;
            client.answer(&serde_json::json!({}));
            client.write();
            *context.reexec = true;
        }
        other => {
            let method = format!("{}.{other}", protocol::NAME);
            return Err(Box::new(protocol::service_error("MethodNotFound", "method", &method)));
        }
    }
    Ok(())
}

fn arguments<T: DeserializeOwned>(parameters: serde_json::Value) -> Result<T, Failure> {
    serde_json::from_value(parameters)
        .map_err(|error| Box::new(protocol::service_error("InvalidParameter", "parameter", &error.to_string())))
}

fn find(machine: &Machine, name: &str) -> Result<UnitId, Failure> {
    machine
        .find(&full_name(name))
        .ok_or_else(|| Box::new(protocol::error("NoSuchUnit", &protocol::NoSuchUnit_Args { name: full_name(name) })))
}

/// An instance of a template is a unit from when it is first asked for.
fn instantiate(name: &str, supervisor: &mut Supervisor<RealHost>) {
    let name = full_name(name);
    if supervisor.machine.find(&name).is_some() || !is_valid_name(&name) {
        return;
    }
    if let Some(unit) = supervisor.host.load_instance(&name) {
        let start = unit.start.map_or((StartType::Demand, "default"), |start| (start, "unit"));
        supervisor.machine.add(unit, (start.0, start.1.to_owned()));
    }
}

fn must_be_root(client: &Client, what: &str) -> Result<(), Failure> {
    if client.uid == 0 {
        return Ok(());
    }
    let reason = format!("only root may {what}; user {} may look", client.uid);
    Err(Box::new(protocol::error("PermissionDenied", &protocol::PermissionDenied_Args { reason })))
}

fn job(client: &Client, name: &str, what: &str, context: &mut Context<'_>) -> Result<(UnitId, WaiterId), Failure> {
    must_be_root(client, what)?;
    instantiate(name, context.supervisor);
    let id = find(&context.supervisor.machine, name)?;
    *context.next_waiter = context.next_waiter.wrapping_add(1);
    Ok((id, *context.next_waiter))
}

fn refused(name: &str, refusal: Refusal) -> Failure {
    let args = protocol::UnitRefused_Args { name: full_name(name), reason: refusal.to_string() };
    Box::new(protocol::error("UnitRefused", &args))
}

/// Answers a job that is over.
pub fn answer_job(client: &mut Client, supervisor: &Supervisor<RealHost>, id: UnitId, result: Result<(), String>) {
    match result {
        Ok(()) => answer_unit(client, supervisor, id),
        Err(reason) => {
            let name = supervisor.machine.unit(id).map(|unit| unit.name.clone()).unwrap_or_default();
            client.reply(&protocol::error("JobFailed", &protocol::JobFailed_Args { name, reason }));
        }
    }
}

/// Answers `WaitBoot`, once the boot is complete: with what the log said then, and the units as they are now.
pub fn answer_boot(client: &mut Client, supervisor: &Supervisor<RealHost>) {
    let machine = &supervisor.machine;
    let Some(summary) = machine.boot_summary() else { return };
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    client.answer(&protocol::WaitBoot_Reply {
        auto: count(summary.auto),
        up: count(summary.up),
        failed: summary.failed.iter().filter_map(|name| unit(supervisor, machine.find(name)?)).collect(),
        upAt: micros(summary.up_at),
    });
}

fn answer_unit(client: &mut Client, supervisor: &Supervisor<RealHost>, id: UnitId) {
    if let Some(unit) = unit(supervisor, id) {
        // All replies that carry one unit have the same form.
        client.answer(&protocol::GetUnit_Reply { unit });
    }
}

pub(super) fn micros(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// How a unit starts, as the protocol shows it.
pub(super) fn start_type(start: StartType) -> protocol::StartType {
    match start {
        StartType::Auto => protocol::StartType::auto,
        StartType::Demand => protocol::StartType::demand,
        StartType::Disabled => protocol::StartType::disabled,
    }
}

/// What a unit is doing, as the protocol shows it.
pub(super) fn state(phase: Phase) -> protocol::State {
    match phase {
        Phase::Inactive => protocol::State::inactive,
        Phase::Queued => protocol::State::queued,
        Phase::Condition(_) | Phase::StartPre(_) | Phase::StartMain(_) | Phase::StartForked | Phase::StartPost(_) => {
            protocol::State::starting
        }
        Phase::Active => protocol::State::active,
        Phase::StartHeld
        | Phase::StopHeld
        | Phase::StopCommand(_)
        | Phase::StopTerm
        | Phase::StopKill
        | Phase::StopPost(_)
        | Phase::StopFinal
        | Phase::FailureCommand(_) => protocol::State::stopping,
        Phase::Backoff => protocol::State::backoff,
        Phase::Done => protocol::State::done,
        Phase::Failed => protocol::State::failed,
        Phase::Refused => protocol::State::refused,
    }
}

/// A unit, as the protocol shows it.
fn unit(supervisor: &Supervisor<RealHost>, id: UnitId) -> Option<protocol::Unit> {
    let machine = &supervisor.machine;
    let unit = machine.unit(id)?;
    let state = machine.state(id)?;
    let (start, from) = machine.start_type(id);
    let lost = supervisor.host.store.lost(&unit.name);
    Some(protocol::Unit {
        name: unit.name.clone(),
        description: unit.description.clone(),
        path: unit.path.display().to_string(),
        start: start_type(start),
        startFrom: from.to_owned(),
        state: self::state(state.phase),
        reason: state.reason.clone(),
        status: describe_trigger(unit, state).map_or_else(|| state.said.to_string(), str::to_owned),
        pid: state.main.map(|process| i64::from(process.pid)),
        restarts: i64::from(state.restarts),
        exitCode: state.exit_code.map(i64::from),
        exitSignal: state.exit_signal.map(i64::from),
        startedAt: state.started_at.map(micros),
        activeAt: state.active_at.map(micros),
        nextElapse: next_elapse(unit, state, supervisor.host.now()).map(micros),
        logOverwritten: micros(lost.overwritten),
        logDropped: micros(lost.dropped),
    })
}
