//! Checks unit files without running anything, on the device or for another root: what the reader says of them, cycles
//! with every edge, what they need and is not there. For people and for CI.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::graph::Graph;
use crate::host::environment::path_of;
use crate::host::users;
use crate::load::{Loaded, load};
use crate::unit::socket::Socket;
use crate::unit::specifier::Machine;
use crate::unit::{
    Command, Kind, Service, Unit, instance_name, is_template, is_valid_name, parse, split_type, template_of,
};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The unit does not do all that its file says.
    Warning,
    /// The unit cannot do its work.
    Error,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file and line that it is about come first in it.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{word}: {}", self.text)
    }
}

/// Checks `files` as if they were units of the system whose root is `root`: together with its own units, its programs,
/// users and files.
///
/// # Errors
/// When one of the files cannot be read, or `root` is no directory: nothing was checked then.
pub fn verify(root: &Path, files: &[PathBuf]) -> io::Result<Vec<Finding>> {
    if !fs::metadata(root)?.is_dir() {
        return Err(io::Error::other(format!("{} is not a directory", root.display())));
    }
    let machine = Machine::of_this_system(root);
    let mut findings = Findings::default();
    let mut loaded = load(root, &machine, &[]);
    let mut names = BTreeSet::new();
    for file in files {
        if let Some(unit) = read(file, &machine, &mut findings)? {
            // It is the one that is meant, whatever the root has under its name.
            loaded.aliases.remove(&unit.name);
            names.insert(unit.name.clone());
            loaded.units.insert(unit.name.clone(), unit);
        }
    }
    instances(root, &machine, &mut loaded);
    let graph = Graph::new(loaded);
    for cycle in graph.cycles.iter().filter(|cycle| names.iter().any(|name| cycle.contains(&format!("{name} ")))) {
        findings.error(cycle.clone());
    }
    let system = System { root };
    for (id, unit) in graph.iter().filter(|(_, unit)| names.contains(&unit.name)) {
        for note in &unit.notes {
            findings.warning(note.to_string());
        }
        match &unit.refused {
            // Told already, once for all of its units.
            Some(reason) if graph.cycles.contains(reason) => {}
            Some(reason) => findings.error(reason.clone()),
            None => {}
        }
        if let Some(reason) = graph.nodes.get(id.index()).and_then(|node| node.rare().impossible.as_ref()) {
            findings.error(format!("{}: {reason}", unit.path.display()));
        }
        system.check(unit, &mut findings);
        if let Some(socket) = unit.socket.as_ref().filter(|socket| socket.accept && unit.refused.is_none()) {
            system.check_template(unit, socket, &machine, &mut findings);
        }
    }
    Ok(findings.0)
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, text: String) {
        let finding = Finding { severity, text };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    fn error(&mut self, text: String) {
        self.add(Severity::Error, text);
    }

    fn warning(&mut self, text: String) {
        self.add(Severity::Warning, text);
    }
}

/// Reads one of the files, with the drop-ins beside it. A template is read as one of its instances.
fn read(file: &Path, machine: &Machine, findings: &mut Findings) -> io::Result<Option<Unit>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(named)?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let kind = split_type(name).map_or("", |(_, kind)| kind);
    if !is_valid_name(name) {
        findings.error(format!("{}: not a name for a unit, such as hello.service", file.display()));
        return Ok(None);
    }
    if Kind::of_word(kind).is_none() {
        findings.warning(format!("{}: units of type {kind} are not supported yet, not checked", file.display()));
        return Ok(None);
    }
    let unit = if is_template(name) { name.replacen('@', "@instance", 1) } else { name.to_owned() };
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    let mut drop_ins = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        drop_ins.push((path, text));
    }
    Ok(Some(parse::parse_all(&unit, file, &text, &drop_ins, machine)))
}

/// The instances that the files name, of templates that the root has.
fn instances(root: &Path, machine: &Machine, loaded: &mut Loaded) {
    let wanted: Vec<String> = loaded
        .units
        .values()
        .flat_map(|unit| unit.references.iter().map(|reference| reference.name.clone()))
        .filter(|name| crate::unit::template_of(name).is_some() && loaded.resolve(name).is_none())
        .collect();
    if wanted.is_empty() {
        return;
    }
    for (name, unit) in load(root, machine, &wanted).units {
        loaded.units.entry(name).or_insert(unit);
    }
}

/// The system that the units are for.
struct System<'a> {
    root: &'a Path,
}

impl System<'_> {
    fn check(&self, unit: &Unit, findings: &mut Findings) {
        let service = &unit.service;
        let path = unit.path.display();
        let failure = service.failure_actions.iter().flat_map(|actions| &actions.command);
        let lists = [
            ("ExecCondition", &service.condition),
            ("ExecStartPre", &service.start_pre),
            ("ExecStart", &service.start),
            ("ExecStartPost", &service.start_post),
            ("ExecStop", &service.stop),
            ("ExecStopPost", &service.stop_post),
        ];
        let commands =
            lists.into_iter().flat_map(|(directive, list)| list.iter().map(move |command| (directive, command)));
        for (directive, command) in commands.chain(failure.map(|command| ("FailureCommand", command))) {
            if let Err(error) = self.find_program(service, command) {
                let text = format!("{path}:{}: {directive}={}: {error}", command.line, command.program);
                if command.ignore_failure { findings.warning(text) } else { findings.error(text) }
            }
        }
        if let Some(socket) = &unit.socket
            && let Err(error) = users::identity(self.root, socket.user.as_deref(), socket.group.as_deref(), &[])
        {
            let error = error.replace("User=", "SocketUser=").replace("Group=", "SocketGroup=");
            findings.error(format!("{path}: {error}"));
        }
        if !service.dynamic_user {
            let (user, group) = (service.user.as_deref(), service.group.as_deref());
            if let Err(error) = users::identity(self.root, user, group, &service.supplementary_groups) {
                findings.error(format!("{path}: {error}"));
            }
        }
        for (file, _) in service.environment_files.iter().filter(|(_, optional)| !optional) {
            if let Err(error) = self.find(Path::new(file)) {
                findings.warning(format!("{path}: EnvironmentFile={file}: {error}"));
            }
        }
    }

    /// Whether there is the service that each connection gets.
    fn check_template(&self, unit: &Unit, socket: &Socket, machine: &Machine, findings: &mut Findings) {
        let name = instance_name(&unit.name, 0);
        let is_beside = unit.path.with_file_name(template_of(&name).unwrap_or_default()).exists();
        if socket.accept && !is_beside && crate::load::load_instance(self.root, machine, &name).is_none() {
            let template = template_of(&name).unwrap_or_default();
            findings.error(format!("{}: starts {template} (Accept=yes), which does not exist", unit.path.display()));
        }
    }

    /// Whether a program is where the service looks for it.
    fn find_program(&self, service: &Service, command: &Command) -> Result<(), String> {
        // Its own root is another one: there it is looked for when it starts.
        if service.sandbox.as_ref().is_some_and(|sandbox| sandbox.root_directory.is_some()) {
            return Ok(());
        }
        if command.program.starts_with('/') {
            return self.find_executable(Path::new(&command.program));
        }
        let searched = path_of(service);
        let found =
            searched.split(':').any(|folder| self.find_executable(&Path::new(folder).join(&command.program)).is_ok());
        if found { Ok(()) } else { Err(format!("there is no such program in {searched}")) }
    }

    fn find_executable(&self, path: &Path) -> Result<(), String> {
        let mode = self.find(path)?;
        let is_file = rustix::fs::FileType::from_raw_mode(mode).is_file();
        if is_file && mode & 0o111 != 0 { Ok(()) } else { Err("it is not executable".to_owned()) }
    }

    /// The mode of a file, its links resolved as the system itself would: none leads out of the root.
    fn find(&self, path: &Path) -> Result<u32, String> {
        let look = || {
            let root = rustix::fs::open(self.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let file = rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
            Ok(rustix::fs::fstat(file)?.st_mode)
        };
        look().map_err(|error: rustix::io::Errno| match error {
            rustix::io::Errno::NOENT => "there is no such file".to_owned(),
            error => error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A root with a program, a user and a unit; the files to be checked lie beside it.
    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for folder in ["usr/bin", "etc/mmos/units"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        symlink("usr/bin", root.join("bin")).unwrap();
        fs::write(root.join("usr/bin/tool"), "").unwrap();
        fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("usr/bin/data"), "").unwrap();
        // Not the host's: in the root it leads to nothing.
        symlink("/bin/sh", root.join("usr/bin/host")).unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        fs::write(root.join("etc/mmos/units/base.service"), "[Service]\nExecStart=/bin/tool\n").unwrap();
        fs::write(root.join("etc/mmos/units/bad.service"), "[Service]\nExecStrat=/bin/tool\n").unwrap();
        fs::write(root.join("etc/mmos/units/many@.service"), "[Service]\nExecStart=/bin/tool %i\n").unwrap();
        let mut paths = Vec::new();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            if !name.contains(".d/") {
                paths.push(path);
            }
        }
        let here = format!("{}/", dir.path().display());
        verify(&root, &paths).unwrap().iter().map(|finding| finding.to_string().replace(&here, "")).collect()
    }

    #[test]
    fn a_good_unit_is_nothing_to_speak_of() {
        let unit = "[Unit]\nRequires=base.service many@1.service\nAfter=base.service\n[Service]\nExecStart=tool -x\nExecStop=-/bin/tool\n";
        assert_eq!(
            check(&[("a.service", unit), ("t@.service", "[Service]\nExecStart=/bin/tool %i\n")]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_line() {
        let unit = "[Unit]\nRequires=gone.service\n[Service]\nUser=nobody-here\nEnvironmentFile=/etc/gone\nExecStart=/bin/gone\n\
                    ExecStartPre=-/bin/data\nExecStopPost=/bin/host\n";
        assert_eq!(
            check(&[("a.service", unit)]),
            [
                "error: a.service: requires gone.service (a.service:2), which does not exist",
                "warning: a.service:7: ExecStartPre=/bin/data: it is not executable",
                "error: a.service:6: ExecStart=/bin/gone: there is no such file",
                "error: a.service:8: ExecStopPost=/bin/host: there is no such file",
                "error: a.service: there is no user \"nobody-here\" in /etc/passwd (User=)",
                "warning: a.service: EnvironmentFile=/etc/gone: there is no such file",
            ]
        );
    }

    #[test]
    fn what_is_not_obeyed_is_a_warning_and_what_cannot_start_an_error() {
        let found = check(&[
            ("a.service", "[Service]\nExecStart=/bin/tool\nAppArmorProfile=x\nRestrat=no\n"),
            ("b.service", "[Service]\nType=notfy\nExecStart=/bin/tool\n"),
            ("c.path", "[Path]\nPathExists=/x\n"),
            ("d.service.d/more.conf", "[Service]\nWobble=1\n"),
            ("d.service", "[Service]\nExecStart=/bin/tool\n"),
        ]);
        assert_eq!(
            found,
            [
                "warning: c.path: units of type path are not supported yet, not checked",
                "warning: a.service:3: AppArmorProfile= is not supported yet and ignored: the service runs without this protection",
                "warning: a.service:4: unknown directive Restrat=: did you mean Restart=?",
                "error: b.service:2: unknown Type=notfy: did you mean notify?",
                "warning: d.service.d/more.conf:2: unknown directive Wobble= in section [Service], ignored",
            ]
        );
    }

    #[test]
    fn sockets_and_timers_are_checked_with_what_they_start() {
        let found = check(&[
            ("base.socket", "[Socket]\nListenStream=/run/base\nSocketUser=root\n"),
            ("many.socket", "[Socket]\nListenStream=80\nAccept=yes\n"),
            ("gone.socket", "[Socket]\nListenStream=80\nSocketUser=nobody-here\nExecStartPre=/bin/gone\n"),
            ("each.socket", "[Socket]\nListenStream=80\nAccept=yes\n"),
            ("base.timer", "[Timer]\nOnBootSec=5min\nPersistent=yes\n"),
            ("late.timer", "[Timer]\nOnBootSec=soon\nOnActiveSec=1\nUnit=gone.service\n"),
            ("calendar.timer", "[Timer]\nOnCalendar=daily\nUnit=base.service\n"),
        ]);
        assert_eq!(
            found,
            [
                "warning: calendar.timer:2: OnCalendar= is obeyed in part: a device on the line may have no clock that is right, so the timer elapses by its other settings alone; one that has no others is refused",
                "error: calendar.timer:2: OnCalendar= alone is not supported: a device on the line may have no clock that is right. Use OnBootSec=, OnUnitActiveSec= or their like",
                "error: each.socket: starts each@.service (Accept=yes), which does not exist",
                "error: gone.socket: starts gone.service, which does not exist: write one, or name another by Service=",
                "error: gone.socket:4: ExecStartPre=/bin/gone: there is no such file",
                "error: gone.socket: there is no user \"nobody-here\" in /etc/passwd (SocketUser=)",
                "warning: late.timer:2: OnBootSec= is ignored: \"soon\" is not a time span, such as \"1min 30s\", \"500ms\" or \"infinity\"",
                "error: late.timer: starts gone.service (late.timer:4), which does not exist",
            ]
        );
    }

    #[test]
    fn a_cycle_is_told_once_with_every_edge_and_others_mistakes_are_not_ours() {
        let after = |other: &str| format!("[Unit]\nAfter={other}\n[Service]\nExecStart=/bin/tool\n");
        let found = check(&[("a.service", &after("b.service")), ("b.service", &after("a.service"))]);
        assert_eq!(
            found,
            ["error: ordering cycle: a.service After=b.service (a.service:2), b.service After=a.service (b.service:2)"]
        );
    }
}
