//! The types of the control protocol, made from its interface file when this is built, and how they become replies.

use serde::Serialize;
use serde_json::Value;

#[expect(missing_docs, non_camel_case_types, non_snake_case, reason = "made by a program, in the protocol's own names")]
#[allow(unused_imports, dead_code, clippy::all, clippy::pedantic, clippy::restriction, reason = "made by a program")]
mod generated {
    use serde as serde_derive;
    include!(concat!(env!("OUT_DIR"), "/org.mmos.Manager.rs"));
}

pub use generated::{
    BootStage, BootSupervisor, BootUnit, Crash, CrashKind, Ending, GetBoot_Reply, GetMode_Reply, GetUnit_Args,
    GetUnit_Reply, JobFailed_Args, ListCrashes_Reply, ListUnits_Reply, LogLine, LogSource, Logs_Args, Logs_Reply,
    NoSuchUnit_Args, PermissionDenied_Args, Restart_Args, Restart_Reply, Shutdown_Args, Start_Args, Start_Reply,
    StartType, State, Stop_Args, Stop_Reply, Unit, UnitRefused_Args, WaitBoot_Reply,
};

/// The interface, as its file says.
pub const INTERFACE: &str = include_str!("../../../mmos/interfaces/org.mmos.Manager.varlink");
/// Its name.
pub const NAME: &str = "org.mmos.Manager";
/// Varlink's own interface, which every service answers; varlink.org, "Service".
pub const SERVICE_INTERFACE: &str = "\
# The Varlink Service Interface is provided by every varlink service. It
# describes the service and the interfaces it implements.
interface org.varlink.service

# Get a list of all the interfaces a service provides and information
# about the implementation.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# Get the description of an interface that is implemented by this service.
method GetInterfaceDescription(interface: string) -> (description: string)

# The requested interface was not found.
error InterfaceNotFound (interface: string)

# The requested method was not found
error MethodNotFound (method: string)

# The interface defines the requested method, but the service does not
# implement it.
error MethodNotImplemented (method: string)

# One of the passed parameters is invalid.
error InvalidParameter (parameter: string)
";

/// A reply with parameters; `continues` if more follow.
pub fn reply(parameters: &impl Serialize, continues: bool) -> varlink::Reply {
    let mut reply = varlink::Reply::parameters(Some(value(parameters)));
    reply.continues = continues.then_some(true);
    reply
}

/// An error of our interface.
pub fn error(name: &str, parameters: &impl Serialize) -> varlink::Reply {
    varlink::Reply::error(format!("{NAME}.{name}"), Some(value(parameters)))
}

/// An error of Varlink's own interface: one parameter of its name.
pub fn service_error(name: &str, parameter: &str, value: &str) -> varlink::Reply {
    let parameters = serde_json::json!({ parameter: value });
    varlink::Reply::error(format!("org.varlink.service.{name}"), Some(parameters))
}

fn value(parameters: &impl Serialize) -> Value {
    // Types made of strings, numbers and lists always have a JSON form.
    serde_json::to_value(parameters).unwrap_or_default()
}
