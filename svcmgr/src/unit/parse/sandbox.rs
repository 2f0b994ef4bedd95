//! `[Service]`: what its processes are kept from.

use link::nearest::nearest;

use super::Reader;
use super::values::parse_boolean;
use crate::unit::capability::Capabilities;
use crate::unit::directive::SandboxKey;
use crate::unit::sandbox::{
    AddressFamilies, BindPath, CallFilter, PathSpec, ProtectHome, ProtectProc, ProtectSystem, Sandbox,
};
use crate::unit::syntax::Entry;
use crate::unit::{family, syscalls};

/// `RestrictNamespaces=`: the kinds, and the flags that make them; namespaces(7).
const NAMESPACES: [(&str, i32); 7] = [
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mnt", libc::CLONE_NEWNS),
    ("net", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];

/// `SecureBits=`, and the bits of capabilities(7), "The securebits flags".
const SECURE_BITS: [(&str, u32); 6] = [
    ("noroot", 1),
    ("noroot-locked", 2),
    ("no-setuid-fixup", 4),
    ("no-setuid-fixup-locked", 8),
    ("keep-caps", 16),
    ("keep-caps-locked", 32),
];

impl Reader<'_> {
    pub(super) fn sandbox(&mut self) -> &mut Sandbox {
        self.unit.service.sandbox.get_or_insert_default()
    }

    pub(super) fn sandbox_setting(&mut self, key: SandboxKey, entry: &Entry) {
        let value = entry.value.as_str();
        let yes = parse_boolean(value);
        match key {
            SandboxKey::RootDirectory => {
                if let Some(mut paths) = self.paths(entry) {
                    let path = paths.pop().filter(|path| path.path != "/");
                    self.sandbox().root_directory = path;
                }
            }
            SandboxKey::MountApiVfs => {
                if let Some(yes) = self.boolean(entry) {
                    self.sandbox().mount_api_vfs = Some(yes);
                }
            }
            SandboxKey::ProtectSystem => {
                self.sandbox().protect_system = match (value, yes) {
                    ("full", _) => ProtectSystem::Full,
                    ("strict", _) => ProtectSystem::Strict,
                    (_, Some(true)) => ProtectSystem::Yes,
                    ("", _) | (_, Some(false)) => ProtectSystem::No,
                    _ => return self.unknown_value(entry, &["yes", "no", "full", "strict"]),
                };
            }
            SandboxKey::ProtectHome => {
                self.sandbox().protect_home = match (value, yes) {
                    ("read-only", _) => ProtectHome::ReadOnly,
                    ("tmpfs", _) => ProtectHome::Tmpfs,
                    (_, Some(true)) => ProtectHome::Yes,
                    ("", _) | (_, Some(false)) => ProtectHome::No,
                    _ => return self.unknown_value(entry, &["yes", "no", "read-only", "tmpfs"]),
                };
            }
            SandboxKey::ProtectProc => {
                self.sandbox().protect_proc = match value {
                    "" | "default" => ProtectProc::Default,
                    "noaccess" => ProtectProc::NoAccess,
                    "invisible" => ProtectProc::Invisible,
                    "ptraceable" => ProtectProc::Ptraceable,
                    _ => return self.unknown_value(entry, &["default", "noaccess", "invisible", "ptraceable"]),
                };
            }
            SandboxKey::ProcSubset => {
                self.sandbox().proc_pid_only = match value {
                    "" | "all" => false,
                    "pid" => true,
                    _ => return self.unknown_value(entry, &["all", "pid"]),
                };
            }
            SandboxKey::ReadWritePaths => self.path_list(entry, |sandbox| &mut sandbox.read_write_paths),
            SandboxKey::ReadOnlyPaths => self.path_list(entry, |sandbox| &mut sandbox.read_only_paths),
            SandboxKey::InaccessiblePaths => self.path_list(entry, |sandbox| &mut sandbox.inaccessible_paths),
            SandboxKey::ExecPaths => self.path_list(entry, |sandbox| &mut sandbox.exec_paths),
            SandboxKey::NoExecPaths => self.path_list(entry, |sandbox| &mut sandbox.no_exec_paths),
            SandboxKey::TemporaryFileSystem => self.temporary_file_systems(entry),
            SandboxKey::BindPaths => self.bind_paths(entry, false),
            SandboxKey::BindReadOnlyPaths => self.bind_paths(entry, true),
            SandboxKey::CapabilityBoundingSet => {
                let known = self.sandbox().bounding;
                if let Some(set) = self.capabilities(entry, known, Capabilities::ALL) {
                    self.sandbox().bounding = set;
                }
            }
            SandboxKey::AmbientCapabilities => {
                let known = self.sandbox().ambient;
                if let Some(set) = self.capabilities(entry, known, Capabilities::NONE) {
                    self.sandbox().ambient = set;
                }
            }
            SandboxKey::SecureBits => {
                let mut bits = if value.is_empty() { 0 } else { self.sandbox().secure_bits };
                for word in value.split_whitespace() {
                    match SECURE_BITS.iter().find(|(name, _)| *name == word) {
                        Some((_, bit)) => bits |= bit,
                        None => self.unknown_word(entry, word, SECURE_BITS.iter().map(|(name, _)| *name)),
                    }
                }
                self.sandbox().secure_bits = bits;
            }
            SandboxKey::RestrictNamespaces => self.restrict_namespaces(entry, yes),
            SandboxKey::RestrictAddressFamilies => self.address_families(entry),
            SandboxKey::SystemCallArchitectures => self.architectures(entry),
            SandboxKey::SystemCallFilter => self.call_filter(entry),
            SandboxKey::SystemCallErrorNumber => match errno(value) {
                _ if matches!(value, "" | "kill") => self.sandbox().call_error = None,
                Some(number) => self.sandbox().call_error = Some(number),
                None => {
                    self.note(entry.line, format!("{}={value} is ignored: an error is due, such as EPERM", entry.key))
                }
            },
        }
    }

    fn unknown_word(&mut self, entry: &Entry, word: &str, known: impl Iterator<Item = &'static str>) {
        let hint = nearest(word, known).map_or_else(String::new, |meant| format!(": did you mean {meant}?"));
        self.note(entry.line, format!("{}={word} is not known and ignored{hint}", entry.key));
    }

    /// The paths of a value; none if it is empty. `None` if it cannot be read.
    fn paths(&mut self, entry: &Entry) -> Option<Vec<PathSpec>> {
        let value = self.resolved(entry)?;
        let mut paths = Vec::new();
        for word in self.words(entry, &value)? {
            let (rest, optional) = word.strip_prefix('-').map_or((word.as_str(), false), |rest| (rest, true));
            let (path, in_root) = rest.strip_prefix('+').map_or((rest, false), |rest| (rest, true));
            if path.starts_with('/') {
                paths.push(PathSpec { path: cleaned(path), optional, in_root });
            } else {
                // What is to be protected would not be, or what is to be written could not be.
                self.refuse(entry.line, format!("{}={word} is not an absolute path", entry.key));
            }
        }
        Some(paths)
    }

    fn path_list(&mut self, entry: &Entry, list: fn(&mut Sandbox) -> &mut Vec<PathSpec>) {
        let Some(paths) = self.paths(entry) else { return };
        let list = list(self.sandbox());
        if paths.is_empty() {
            list.clear();
        }
        list.extend(paths);
    }

    fn temporary_file_systems(&mut self, entry: &Entry) {
        let Some(value) = self.resolved(entry) else { return };
        let Some(words) = self.words(entry, &value) else { return };
        if words.is_empty() {
            self.sandbox().temporary_file_systems.clear();
        }
        for word in words {
            let (path, options) = word.split_once(':').unwrap_or((&word, ""));
            if path.starts_with('/') {
                self.sandbox().temporary_file_systems.push((cleaned(path), options.to_owned()));
            } else {
                self.refuse(entry.line, format!("{}={word} is not an absolute path", entry.key));
            }
        }
    }

    fn bind_paths(&mut self, entry: &Entry, read_only: bool) {
        let Some(value) = self.resolved(entry) else { return };
        let Some(words) = self.words(entry, &value) else { return };
        if words.is_empty() {
            self.sandbox().bind_paths.clear();
        }
        for word in words {
            let (rest, optional) = word.strip_prefix('-').map_or((word.as_str(), false), |rest| (rest, true));
            let mut parts = rest.splitn(3, ':');
            let source = parts.next().unwrap_or_default();
            let target = parts.next().filter(|target| !target.is_empty()).unwrap_or(source);
            let recursive = match parts.next() {
                None | Some("" | "rbind") => true,
                Some("norbind") => false,
                Some(other) => {
                    self.note(entry.line, format!("{}={word}: {other} is ignored: rbind or norbind is due", entry.key));
                    true
                }
            };
            if source.starts_with('/') && target.starts_with('/') {
                let bind =
                    BindPath { source: cleaned(source), target: cleaned(target), optional, recursive, read_only };
                self.sandbox().bind_paths.push(bind);
            } else {
                self.refuse(entry.line, format!("{}={word} is not of absolute paths", entry.key));
            }
        }
    }

    /// The first list replaces what holds without one, those after it are added; with `~` they are taken away.
    fn capabilities(&mut self, entry: &Entry, known: Capabilities, initial: Capabilities) -> Option<Capabilities> {
        let (list, inverted) = inverted(&entry.value);
        let mut named = Capabilities::NONE;
        for word in list.split_whitespace() {
            match Capabilities::named(word) {
                Some(one) => named = named.union(one),
                // One too few is what makes a service fail in ways that are hard to find; one too many is a hole.
                None => {
                    let meant = nearest(word, Capabilities::names());
                    let hint = meant.map_or_else(String::new, |meant| format!(": did you mean {meant}?"));
                    self.refuse(entry.line, format!("{}={word} is not a capability{hint}", entry.key));
                    return None;
                }
            }
        }
        Some(match (named == Capabilities::NONE || known == initial, inverted) {
            (true, true) => Capabilities::ALL.without(named),
            (true, false) => named,
            (false, true) => known.without(named),
            (false, false) => known.union(named),
        })
    }

    fn restrict_namespaces(&mut self, entry: &Entry, yes: Option<bool>) {
        let all = NAMESPACES.iter().fold(0, |flags, (_, flag)| flags | flag.unsigned_abs());
        let known = self.sandbox().restrict_namespaces;
        let (list, inverted) = inverted(&entry.value);
        let mut named = 0;
        if yes.is_none() {
            for word in list.split_whitespace() {
                match NAMESPACES.iter().find(|(name, _)| *name == word) {
                    Some((_, flag)) => named |= flag.unsigned_abs(),
                    None => self.unknown_word(entry, word, NAMESPACES.iter().map(|(name, _)| *name)),
                }
            }
        }
        self.sandbox().restrict_namespaces = match (yes, inverted) {
            (Some(true), _) => all,
            (Some(false), _) => 0,
            _ if entry.value.is_empty() => 0,
            (None, true) => known | named,
            (None, false) if known == 0 => all & !named,
            (None, false) => known & !named,
        };
    }

    fn address_families(&mut self, entry: &Entry) {
        let (list, inverted) = inverted(&entry.value);
        if entry.value.is_empty() {
            self.sandbox().restrict_address_families = None;
            return;
        }
        let mut families = Vec::new();
        for word in list.split_whitespace().filter(|word| *word != "none") {
            match family::number(word) {
                Some(number) => families.push(number),
                None => self.unknown_word(entry, word, family::names()),
            }
        }
        let known = self
            .sandbox()
            .restrict_address_families
            .get_or_insert_with(|| AddressFamilies { is_allow_list: !inverted, families: Vec::new() });
        if known.is_allow_list == inverted {
            known.families.retain(|family| !families.contains(family));
        } else {
            known.families.extend(families);
        }
    }

    fn architectures(&mut self, entry: &Entry) {
        if entry.value.is_empty() {
            self.sandbox().native_only = false;
            return;
        }
        let native = if cfg!(target_arch = "x86_64") { "x86-64" } else { "arm64" };
        if let Some(other) = entry.value.split_whitespace().find(|word| *word != "native" && *word != native) {
            self.note(entry.line, format!("SystemCallArchitectures={other}: programs for it do not run here"));
        }
        self.sandbox().native_only = true;
    }

    fn call_filter(&mut self, entry: &Entry) {
        if entry.value.is_empty() {
            self.sandbox().calls = None;
            return;
        }
        let (list, inverted) = inverted(&entry.value);
        let is_allow_list = !inverted;
        if self.sandbox().calls.is_none() {
            // systemd.exec(5): what every program needs is always in a list of what is allowed.
            let names =
                if is_allow_list { syscalls::resolve("@default").unwrap_or_default() } else { Default::default() };
            let calls = names.into_iter().map(|number| (number, None)).collect();
            self.sandbox().calls = Some(CallFilter { is_allow_list, calls });
        }
        for word in list.split_whitespace() {
            let (name, action) = word.split_once(':').map_or((word, None), |(name, action)| (name, Some(action)));
            let error = match action {
                None | Some("kill") => None,
                Some(text) => match errno(text) {
                    Some(number) => Some(number),
                    None => {
                        self.note(entry.line, format!("{}={word} is ignored: {text} is not an error", entry.key));
                        continue;
                    }
                },
            };
            match syscalls::resolve(name) {
                Ok(numbers) => {
                    let Some(filter) = &mut self.sandbox().calls else { return };
                    for number in numbers {
                        if filter.is_allow_list == is_allow_list || error.is_some() {
                            filter.calls.insert(number, error);
                        } else {
                            filter.calls.remove(&number);
                        }
                    }
                }
                Err(_) => self.unknown_word(entry, name, syscalls::names()),
            }
        }
    }
}

/// `~list` is all but those.
fn inverted(value: &str) -> (&str, bool) {
    value.strip_prefix('~').map_or((value, false), |rest| (rest, true))
}

/// Without a slash at the end, or several in a row.
fn cleaned(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

/// The number of an error's name, or of its number: errno(3).
fn errno(text: &str) -> Option<u16> {
    if let Ok(number) = text.parse::<u16>() {
        return (1..4096).contains(&number).then_some(number);
    }
    (1..=133).find(|number| ::syscalls::Errno::new(i32::from(*number)).name() == Some(text))
}
