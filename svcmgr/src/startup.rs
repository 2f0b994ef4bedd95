//! How the supervisor begins: what the command line says, what PID 1 hands over, which units there are, which of them
//! run already. Then the loop in [`crate::daemon`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use link::boot::now_us;
use link::{BootRecord, Channel, Ending, FromInit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::control::methods::Mode;
use crate::crash;
use crate::daemon::{Daemon, exit_of};
use crate::graph::{Graph, UnitId};
use crate::host::real::{Adopted, RealHost};
use crate::host::shield::Shield;
use crate::host::sys;
use crate::host::token::Token;
use crate::insist::insist;
use crate::log::store::{self, Bounds};
use crate::machine::{Event, Machine, Phase, Role, SupervisorTimes, UnitState};
use crate::profile::{self, ImageInfo, Profile};
use crate::supervisor::Supervisor;
use crate::unit::specifier::Machine as ThisMachine;
use crate::unit::{Limit, StartType, Unit, full_name};
use rustix::event::epoll::EventFlags;

/// PID 1 hands its descriptors over at once, one after the other. A supervisor that waited for ever for the next would be
/// none.
const HANDOVER_BOUND: Duration = Duration::from_secs(5);

/// So many descriptors the supervisor may have where it is root: five for each of some ten thousand services.
const DESCRIPTORS: u64 = 65_536;

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where `etc`, `usr` and `lib` are.
    pub root: PathBuf,
    /// Where sockets, states and logs are.
    pub run: PathBuf,
    /// The profile, instead of what the boot says.
    pub profile: Option<String>,
    /// Where services' cgroups are; `None` does without.
    pub cgroup: Option<PathBuf>,
    /// How much is kept of logs; `None` goes by the machine's memory.
    pub logs: Option<Bounds>,
    /// The kernel's log; `None` is `/dev/kmsg` on a device, and nothing elsewhere.
    pub kmsg: Option<PathBuf>,
    /// Where the journal's sockets are; `None` is `/run/systemd/journal` on a device, and beneath `run` elsewhere.
    pub journal: Option<PathBuf>,
    /// After how many seconds a job that is under way is told of.
    pub patience: u64,
    /// What the kernel of the boot before left; `None` is `/sys/fs/pstore` on a device, and nothing elsewhere.
    pub pstore: Option<PathBuf>,
}

impl Options {
    /// Where crashes are kept.
    pub fn crashes(&self) -> crash::Folder {
        crash::Folder::new(&self.run.join("crashes"), store::memory())
    }

    /// Whether this is the supervisor of a device, and not one that runs beside another Linux.
    pub fn is_device(&self) -> bool {
        self.run == Path::new(link::paths::RUN)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            root: PathBuf::from("/"),
            run: PathBuf::from(link::paths::RUN),
            profile: None,
            cgroup: Some(PathBuf::from("/sys/fs/cgroup/mmos")),
            logs: None,
            kmsg: None,
            journal: None,
            patience: crate::stuck::DELAY / 1_000_000,
            pstore: None,
        }
    }
}

/// What PID 1 handed over.
#[derive(Debug, Default)]
struct Handover {
    stored: BTreeMap<String, OwnedFd>,
    /// Processes that ended meanwhile, with their wait status.
    reaped: Vec<(i32, i32)>,
    shutdown: Option<Ending>,
}

/// Runs the supervisor. Returns when it was told to leave.
///
/// # Errors
/// When the kernel does not give what nothing works without: an epoll descriptor, `/dev/null`.
pub fn run(options: &Options, channel: Option<Channel>) -> io::Result<()> {
    let mut times = SupervisorTimes { began_at: now_us(), ..SupervisorTimes::default() };
    sys::keep_large_buffers_apart();
    let descriptors = raise_descriptor_limit();
    let signals =
        insist(|| sys::signals(channel.is_none())).inspect_err(|error| log::error!("no signals: {error}")).ok();
    if channel.is_none() {
        sys::adopt_orphans();
    }
    let mut handover = channel.as_ref().map(take_over).unwrap_or_default();
    let bounds = options.logs.unwrap_or_else(|| Bounds::of_memory(store::memory()));
    let mut host = RealHost::new(&options.root, &options.run, options.cgroup.as_deref(), bounds, channel)?;
    host.descriptors = descriptors;
    if options.is_device() {
        host.keep_private_apart();
    }
    host.shield = options.is_device().then(Shield::raise).flatten();

    let (mode, profile) = mode_and_profile(options);
    let states = host.states();
    let (graph, starts) = load(&options.root, &host.machine, &profile, states.keys().cloned());
    sys::give_memory_back();
    times.loaded_at = now_us();
    let mut machine = Machine::new(graph, starts);
    machine.set_startup(host.startup());
    let taken_over = restore(&mut machine, &mut host, states, &mut handover);
    if let Some(summary) = host.boot_summary() {
        machine.restore_boot(summary);
    }
    if !taken_over.is_empty() {
        log::info!("taking over {} units from the supervisor before", taken_over.len());
    }

    let mut daemon = Daemon::new(Supervisor::new(machine, host), mode);
    let kmsg = options.kmsg.clone().or_else(|| options.is_device().then(|| PathBuf::from("/dev/kmsg")));
    if let Some(path) = kmsg {
        daemon.open_kmsg(&path);
    }
    daemon.supervisor.jobs.set_delay(options.patience.saturating_mul(1_000_000));
    if !taken_over.is_empty() {
        // What they said meanwhile is read soon, and what the kernel said before is to stand before it.
        daemon.hear_kernel();
    }
    daemon.crashes = Some(options.crashes());
    daemon.restore_streams(options.run.join("streams"), &mut handover.stored);
    open_sockets(&mut daemon, options, &mut handover.stored);
    if let Some(signals) = signals {
        let host = &daemon.supervisor.host;
        if let Err(error) = insist(|| host.watch(signals.as_fd(), Token::Signals, EventFlags::IN)) {
            log::error!("signals cannot be watched: {error}");
        }
        daemon.signals = Some(signals);
    }
    adopt(&mut daemon, &taken_over, &handover.reaped);
    // Told before anything is started: what is ending is only stopped.
    if let Some(ending) = handover.shutdown {
        daemon.supervisor.shutdown(ending);
    }
    daemon.supervisor.machine.set_supervisor_times(times);
    daemon.supervisor.boot(&taken_over);
    times.booted_at = now_us();
    daemon.supervisor.machine.set_supervisor_times(times);
    // What is to run is on its way already: this takes a moment where the kernel left much.
    prepare_for_crashes(options);
    daemon.run();
    Ok(())
}

/// Opens the sockets; those by which others than services log, on a device, where programs look for them.
fn open_sockets(daemon: &mut Daemon, options: &Options, stored: &mut BTreeMap<String, OwnedFd>) {
    let folder = match (&options.journal, options.is_device()) {
        (Some(folder), _) => folder.clone(),
        (None, true) => PathBuf::from("/run/systemd/journal"),
        (None, false) => options.run.join("journal"),
    };
    if options.is_device() {
        // More than the usual ten messages may wait for a supervisor that is being started anew; unix(7).
        if let Err(error) = std::fs::write("/proc/sys/net/unix/max_dgram_qlen", "512") {
            log::debug!("senders to /dev/log wait for each other sooner than need be: {error}");
        }
    }
    daemon.open_sockets(options.run.clone(), folder.clone(), stored);
    let target = folder.join("dev-log");
    if options.is_device()
        && !std::fs::read_link("/dev/log").is_ok_and(|link| link == target)
        && let Err(error) = link_anew(&target, Path::new("/dev/log"))
    {
        log::error!("/dev/log cannot be made: {error}; what is written to it is lost");
    }
}

fn link_anew(target: &Path, path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::os::unix::fs::symlink(target, path),
    }
}

/// Has cores kept, and copies what the kernel of the boot before left.
fn prepare_for_crashes(options: &Options) {
    // Our own death leaves none: until a core is written its process is not gone, and PID 1 could not start the next
    // supervisor. Programs that we execute are dumpable again; prctl(2), PR_SET_DUMPABLE.
    if options.is_device()
        && let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable)
    {
        log::warn!("should the supervisor die, its core will hold up the next one: {error}");
    }
    if options.is_device()
        && let Err(error) = crash::core::install(Path::new(link::paths::SVCMGR), Path::new("/proc"))
    {
        log::error!("cores will not be kept: {error}");
    }
    let pstore = options.pstore.clone().or_else(|| options.is_device().then(|| PathBuf::from("/sys/fs/pstore")));
    if let Some(pstore) = pstore {
        if options.is_device()
            && let Err(error) = crash::pstore::mount(&pstore)
        {
            log::warn!("{}: {error}; what the kernel of the boot before said last is not seen", pstore.display());
        }
        crash::pstore::import(&pstore, &options.crashes());
    }
}

/// Receives what PID 1 kept, until it says that this is all.
fn take_over(channel: &Channel) -> Handover {
    let mut handover = Handover::default();
    let in_time = || Instant::now().checked_add(HANDOVER_BOUND);
    let mut end = in_time();
    loop {
        let received = match channel.receive() {
            Ok(Some(received)) => received,
            Ok(None) => {
                let left = end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
                let timeout = Timespec::try_from(left).ok();
                let mut fds = [PollFd::new(channel, PollFlags::IN)];
                match poll(&mut fds, timeout.as_ref()) {
                    Ok(0) => {
                        log::error!(
                            "PID 1 has handed nothing over for {} s: beginning without",
                            HANDOVER_BOUND.as_secs()
                        );
                        return handover;
                    }
                    Ok(_) if fds.iter().any(|fd| fd.revents().contains(PollFlags::HUP)) => {
                        log::error!("PID 1 has closed the channel");
                        return handover;
                    }
                    Ok(_) | Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => {
                        log::error!("PID 1 cannot be waited for: {error}");
                        return handover;
                    }
                }
            }
            Err(error) => {
                log::error!("PID 1 cannot be heard: {error}");
                return handover;
            }
        };
        end = in_time();
        match (received.text.parse(), received.fds.into_iter().next()) {
            (Ok(FromInit::Begin), _) => return handover,
            (Ok(FromInit::Stored(name)), Some(fd)) => {
                handover.stored.insert(name, fd);
            }
            (Ok(FromInit::Stored(name)), None) => log::error!("PID 1 handed over {name} without its descriptor"),
            (Ok(FromInit::Reaped { pid, status }), _) => handover.reaped.push((pid, status)),
            (Ok(FromInit::Shutdown(ending)), _) => handover.shutdown = Some(ending),
            // Asked of the loop, after `Begin`.
            (Ok(FromInit::Ping), _) => log::warn!("PID 1 asks too early"),
            (Err(error), _) => log::error!("{error}"),
        }
    }
}

fn mode_and_profile(options: &Options) -> (Mode, Profile) {
    let record = BootRecord::read(&options.run.join("boot.json")).ok();
    let path = options.root.join(link::paths::IMAGE_INFO.trim_start_matches('/'));
    let image = ImageInfo::read(&path).unwrap_or_else(|error| {
        log::error!("{error}");
        ImageInfo::default()
    });
    let manufacturing = record.is_some();
    let asked = options
        .profile
        .clone()
        .or_else(|| record.and_then(|record| record.profile))
        .or_else(|| image.profile.clone())
        .unwrap_or_else(|| profile::DEFAULT.to_owned());
    let folder = options.root.join(link::paths::PROFILES.trim_start_matches('/'));
    let profile = Profile::read(&folder, &asked).unwrap_or_else(|error| {
        log::error!("{error}; the profile {} is used", profile::DEFAULT);
        Profile::read(&folder, profile::DEFAULT).unwrap_or_else(|error| {
            if asked != profile::DEFAULT {
                log::error!("{error}");
            }
            Profile::empty(profile::DEFAULT)
        })
    });
    log::info!("profile {}", profile.name);
    let mode = Mode { manufacturing, image: image.name, version: image.version, profile: profile.name.clone() };
    (mode, profile)
}

/// All units; of templates the instances that other units or the profile name, or that run already.
fn load(
    root: &Path,
    this: &ThisMachine,
    profile: &Profile,
    running: impl Iterator<Item = String>,
) -> (Graph, Vec<(StartType, String)>) {
    let wanted: Vec<String> = profile.named().map(full_name).chain(running).collect();
    let loaded = crate::load::load(root, this, &wanted);
    for problem in &loaded.problems {
        log::warn!("{problem}");
    }
    for (kind, (count, example)) in &loaded.unsupported {
        log::info!("{count} units of type {kind} are not supported yet, such as {}", example.display());
    }
    for name in profile.named() {
        if loaded.resolve(name).is_none() {
            log::warn!("profile {} names {name}, which does not exist", profile.name);
        }
    }
    let graph = Graph::new(loaded);
    for cycle in &graph.cycles {
        log::error!("{cycle}; these units are refused, the others start");
    }
    let starts: Vec<(StartType, String)> =
        graph.units.iter().map(|unit| profile.start_type(&unit.name, unit.start)).collect();
    for (unit, (start, _)) in graph.units.iter().zip(&starts) {
        if let Some(reason) = &unit.refused
            && !reason.starts_with("ordering cycle")
        {
            tell_refused(unit, *start, reason);
        }
    }
    (graph, starts)
}

/// A unit that was to run is an error; one of the many that a distribution brings along is not.
fn tell_refused(unit: &Unit, start: StartType, reason: &str) {
    if start == StartType::Auto {
        log::error!("{} is refused: {reason}", unit.name);
        for note in &unit.notes {
            log::warn!("{note}");
        }
    } else {
        log::debug!("{} is refused: {reason}", unit.name);
    }
}

/// Gives the machine what the supervisor before wrote down, and its pipes back.
fn restore(
    machine: &mut Machine,
    host: &mut RealHost,
    states: BTreeMap<String, UnitState>,
    handover: &mut Handover,
) -> BTreeSet<UnitId> {
    let mut taken_over = BTreeSet::new();
    for (name, state) in states {
        match machine.find(&name) {
            Some(id) => {
                machine.restore(id, state);
                taken_over.insert(id);
            }
            None => log::error!("{name} was running, and its unit file is gone: it is left alone"),
        }
    }
    let outputs: Vec<String> = handover.stored.keys().filter(|name| name.starts_with("out:")).cloned().collect();
    for stored in outputs {
        let Some(fd) = handover.stored.remove(&stored) else { continue };
        let name = stored.strip_prefix("out:").unwrap_or_default();
        let Some(id) = machine.find(name) else { continue };
        if let Err(error) = insist(|| host.watch(fd.as_fd(), Token::Output(id), EventFlags::IN)) {
            log::error!("{name}: its output cannot be watched: {error}");
        }
        if let Err(error) = host.adopt_output(id, machine.unit(id), fd) {
            log::error!("{name}: its output cannot be taken over: {error}");
        }
    }
    host.restore_descriptors(machine, &mut handover.stored);
    taken_over
}

/// Takes the running processes over, each only if it is still the one that was made then.
fn adopt(daemon: &mut Daemon, taken_over: &BTreeSet<UnitId>, reaped: &[(i32, i32)]) {
    let mut ended = Vec::new();
    for id in taken_over {
        let Some(state) = daemon.supervisor.machine.state(*id) else { continue };
        let (phase, processes) = (state.phase, [(Role::Main, state.main), (Role::Control, state.control)]);
        for (role, process) in processes {
            let Some(process) = process else { continue };
            let adopted = daemon.supervisor.host.adopt(*id, role, process);
            match (adopted, role, phase) {
                (Adopted::Running, Role::Main, Phase::StartMain(_)) => {
                    daemon.supervisor.event(*id, Event::Executed);
                }
                (Adopted::Running | Adopted::Waiting, _, _) => {}
                (Adopted::Gone, _, _) => {
                    daemon.supervisor.host.mourn(*id, role, process, phase != Phase::Active);
                    ended.push((*id, role, process.pid));
                }
            }
        }
    }
    for (pid, status) in reaped {
        log::debug!("process {pid} ended meanwhile: {}", exit_of(*status));
        daemon.reaped(*pid, *status);
    }
    for (id, role, _) in ended {
        if daemon.supervisor.host.knows(id, role) {
            daemon.await_report(id, role);
        }
    }
}

/// Pipes, logs and pidfds of many services are more than the usual 1024 descriptors. What it was before is what
/// services get: a soft limit above 1024 makes trouble for programs that use select(2).
fn raise_descriptor_limit() -> Option<Limit> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = match insist(sys::descriptor_limit) {
        Ok(limit) => limit,
        Err(error) => {
            log::warn!("the limit of open files cannot be known, and stays: {error}");
            return None;
        }
    };
    // Root may go beyond the hard limit, which the kernel sets to 4096.
    let wanted = limit.maximum.map(|most| most.max(DESCRIPTORS));
    let raise = |most| setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    if let Err(error) = raise(wanted).or_else(|_| raise(limit.maximum)) {
        log::warn!("the limit of open files cannot be raised: {error}");
        return None;
    }
    let value = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
    let resource = crate::unit::limit::Resource::Nofile;
    Some(Limit { resource, soft: value(limit.current), hard: value(limit.maximum) })
}
