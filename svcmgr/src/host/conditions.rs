//! Whether a condition holds on this system: systemd.unit(5), "Conditions and Asserts". What cannot be read does not hold.

use std::cmp::Ordering;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::machine::Verdict;
use crate::unit::condition::{Condition, ConditionKind, all, compared, holds};
use crate::unit::specifier::Machine;
use crate::unit::{Unit, capability::Capabilities, limit::bytes};

/// Where the conditions of a unit are looked up.
#[derive(Debug)]
pub struct System<'a> {
    /// The root whose files are the system's own.
    pub root: &'a Path,
    /// Where PID 1 and the kernel show things.
    pub proc: &'a Path,
    /// This machine.
    pub machine: &'a Machine,
}

/// Whether a unit may be started, by all of its conditions and assertions.
pub fn verdict(unit: &Unit, system: &System<'_>) -> Verdict {
    let ask = |condition: &Condition| system.holds(condition);
    let (assertions, conditions): (Vec<&Condition>, Vec<&Condition>) =
        unit.conditions.iter().partition(|condition| condition.is_assertion);
    if let Err(condition) = all(&conditions, &ask) {
        return Verdict::Skip(format!("skipped, since this is not so: {condition}"));
    }
    match all(&assertions, &ask) {
        Err(condition) => Verdict::Fail(format!("this is not so: {condition}")),
        Ok(()) => Verdict::Go,
    }
}

impl System<'_> {
    /// Whether a condition holds, without its negation.
    pub fn holds(&self, condition: &Condition) -> bool {
        let value = condition.value.as_str();
        let path = Path::new(value);
        let found = || fs::metadata(path);
        match condition.kind {
            ConditionKind::PathExists => path.exists(),
            ConditionKind::PathExistsGlob => glob_exists(path),
            ConditionKind::PathIsDirectory => found().is_ok_and(|found| found.is_dir()),
            ConditionKind::PathIsSymbolicLink => fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()),
            ConditionKind::PathIsMountPoint => self.is_mount_point(path),
            ConditionKind::PathIsReadWrite => {
                rustix::fs::statvfs(path).is_ok_and(|fs| !fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
            }
            ConditionKind::DirectoryNotEmpty => fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()),
            ConditionKind::FileNotEmpty => found().is_ok_and(|found| found.is_file() && found.len() > 0),
            ConditionKind::FileIsExecutable => {
                found().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
            }
            ConditionKind::KernelCommandLine => self.command_line(value),
            ConditionKind::KernelVersion => value.split_whitespace().all(|one| self.version(one)),
            ConditionKind::Architecture => self.architecture(value),
            ConditionKind::Host => {
                glob(value, &self.machine.hostname) || value.eq_ignore_ascii_case(&self.machine.machine_id)
            }
            ConditionKind::Memory => number(value, rustix::system::sysinfo().totalram, bytes),
            ConditionKind::Cpus => number(value, processors(), |text| text.parse().ok()),
            ConditionKind::CpuFeature => self.cpu_flags().iter().any(|flag| flag == value),
            ConditionKind::User => matches!(value, "0" | "root" | "@system"),
            ConditionKind::Group => matches!(value, "0" | "root"),
            ConditionKind::Capability => Capabilities::named(value).is_some_and(|wanted| self.bounding().holds(wanted)),
            ConditionKind::Environment => match value.split_once('=') {
                Some((name, wanted)) => std::env::var(name).is_ok_and(|is| is == wanted),
                None => std::env::var_os(value).is_some(),
            },
            ConditionKind::Virtualization => self.virtualization(value),
            ConditionKind::AcPower => match value {
                "false" | "no" | "0" => !on_ac_power(),
                _ => on_ac_power(),
            },
            ConditionKind::ControlGroupController => {
                let there = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
                value == "v2" || value.split_whitespace().all(|wanted| there.split_whitespace().any(|is| is == wanted))
            }
            ConditionKind::OsRelease => self.os_release(value),
            ConditionKind::Firmware => match value {
                "uefi" => Path::new("/sys/firmware/efi").exists(),
                "device-tree" => Path::new("/sys/firmware/devicetree").exists(),
                _ => false,
            },
            ConditionKind::Security => {
                let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
                modules.trim().split(',').any(|module| module == value)
            }
            // The root is made anew at each boot, and is as its image was made: nothing is left to be done.
            ConditionKind::FirstBoot | ConditionKind::NeedsUpdate => matches!(value, "no" | "false" | "0"),
            // There are none.
            ConditionKind::Credential => false,
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.proc.join(name)).unwrap_or_default()
    }

    fn is_mount_point(&self, path: &Path) -> bool {
        // proc_pid_mountinfo(5): the fifth field is where it is mounted.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.read("self/mountinfo").lines().any(|line| line.split(' ').nth(4).map(Path::new) == Some(&real))
    }

    fn command_line(&self, value: &str) -> bool {
        self.read("cmdline").split_whitespace().any(|word| match value.contains('=') {
            true => word == value,
            false => word == value || word.split_once('=').is_some_and(|(name, _)| name == value),
        })
    }

    fn version(&self, value: &str) -> bool {
        let release = &self.machine.kernel_release;
        match compared(value, "glob") {
            ("glob", pattern) => glob(pattern, release),
            (operator, version) => holds(operator, versions(release, version)),
        }
    }

    fn architecture(&self, value: &str) -> bool {
        let is = match self.machine.architecture.as_str() {
            "x86_64" => "x86-64",
            "aarch64" => "arm64",
            other => other,
        };
        value == is || value == "native"
    }

    fn cpu_flags(&self) -> Vec<String> {
        let text = self.read("cpuinfo");
        let line = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
        let flags = line.and_then(|line| line.split_once(':')).map_or("", |(_, flags)| flags);
        flags.split_whitespace().map(str::to_owned).collect()
    }

    fn bounding(&self) -> Capabilities {
        let text = self.read("self/status");
        let line = text.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap_or_default();
        Capabilities(u64::from_str_radix(line.trim(), 16).unwrap_or(0))
    }

    fn virtualization(&self, value: &str) -> bool {
        let machine = virtual_machine(&fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default())
            .or_else(|| self.cpu_flags().iter().any(|flag| flag == "hypervisor").then_some("vm-other"));
        let container = Path::new("/run/systemd/container").exists();
        match value {
            "yes" | "true" | "1" => machine.is_some() || container,
            "no" | "false" | "0" => machine.is_none() && !container,
            "vm" => machine.is_some(),
            "container" => container,
            // A user namespace.
            "private-users" => !self.read("self/uid_map").split_whitespace().eq(["0", "0", "4294967295"]),
            value => machine == Some(value),
        }
    }

    fn os_release(&self, value: &str) -> bool {
        let text = fs::read_to_string(self.root.join("etc/os-release"))
            .or_else(|_| fs::read_to_string(self.root.join("usr/lib/os-release")))
            .unwrap_or_default();
        let name_end = value.find(|c: char| "<>=!".contains(c)).unwrap_or(value.len());
        let (name, rest) = value.split_at(name_end);
        let is = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let is = is.unwrap_or_default().trim_matches(['"', '\'']);
        let (operator, wanted) = compared(rest, "=");
        match operator {
            "=" => is == wanted,
            "!=" => is != wanted,
            operator => holds(operator, versions(is, wanted)),
        }
    }
}

/// The machine that a vendor's name stands for, as systemd-detect-virt(1) calls it.
fn virtual_machine(vendor: &str) -> Option<&'static str> {
    let known = [
        ("QEMU", "qemu"),
        ("KVM", "kvm"),
        ("Amazon EC2", "amazon"),
        ("VMware", "vmware"),
        ("innotek GmbH", "oracle"),
        ("Xen", "xen"),
        ("Bochs", "bochs"),
        ("Parallels", "parallels"),
        ("Microsoft Corporation", "microsoft"),
        ("Apple Virtualization", "apple"),
        ("Google", "google"),
    ];
    known.into_iter().find(|(start, _)| vendor.starts_with(start)).map(|(_, name)| name)
}

/// Without any mains adapter that says otherwise, the power is on.
fn on_ac_power() -> bool {
    let read = |path: std::path::PathBuf| fs::read_to_string(path).unwrap_or_default();
    let supplies = fs::read_dir("/sys/class/power_supply").into_iter().flatten().flatten();
    let mains: Vec<String> = supplies
        .filter(|entry| read(entry.path().join("type")).trim() == "Mains")
        .map(|entry| read(entry.path().join("online")))
        .collect();
    mains.is_empty() || mains.iter().any(|online| online.trim() == "1")
}

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| u64::try_from(count.get()).unwrap_or(1))
}

/// Compares a number; without an operator it is the least that is enough.
fn number(value: &str, is: u64, read: fn(&str) -> Option<u64>) -> bool {
    let (operator, wanted) = compared(value, ">=");
    read(wanted).is_some_and(|wanted| holds(operator, is.cmp(&wanted)))
}

/// Compares versions part by part: numbers as numbers, words as words.
fn versions(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        text.split(['.', '-', '+', '~'])
            .map(|part| {
                let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
                let (digits, word) = part.split_at(end);
                (digits.parse().unwrap_or(0), word.to_owned())
            })
            .collect()
    };
    parts(a).cmp(&parts(b))
}

/// Whether a path whose last parts may be patterns names anything.
fn glob_exists(path: &Path) -> bool {
    let mut found = vec![std::path::PathBuf::from("/")];
    for part in path.components().skip(1) {
        let Some(part) = part.as_os_str().to_str() else { return false };
        found = if part.contains(['*', '?', '[']) {
            let entries = found.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
            entries
                .filter(|entry| entry.file_name().to_str().is_some_and(|name| glob(part, name)))
                .map(|e| e.path())
                .collect()
        } else {
            found.into_iter().map(|folder| folder.join(part)).filter(|path| path.exists()).collect()
        };
        if found.is_empty() {
            return false;
        }
    }
    true
}

/// glob(7): `*`, `?` and `[…]`, against a whole name.
fn glob(pattern: &str, name: &str) -> bool {
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    matches_at(&p, &n)
}

fn matches_at(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', rest @ ..] => (0..=name.len()).any(|from| name.get(from..).is_some_and(|name| matches_at(rest, name))),
        ['?', rest @ ..] => name.split_first().is_some_and(|(_, name)| matches_at(rest, name)),
        ['[', rest @ ..] if rest.contains(&']') => {
            let Some(end) = rest.iter().skip(1).position(|c| *c == ']').map(|at| at.saturating_add(1)) else {
                return false;
            };
            let (set, after) = rest.split_at(end);
            let (set, negated) = match set {
                ['!' | '^', set @ ..] => (set, true),
                set => (set, false),
            };
            name.split_first().is_some_and(|(c, name)| {
                let inside =
                    set.contains(c) || set.windows(3).any(|range| matches!(range, [a, '-', b] if a <= c && c <= b));
                inside != negated && matches_at(after.get(1..).unwrap_or_default(), name)
            })
        }
        [c, rest @ ..] => name.split_first().is_some_and(|(d, name)| c == d && matches_at(rest, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system<'a>(root: &'a Path, machine: &'a Machine) -> System<'a> {
        System { root, proc: Path::new("/proc"), machine }
    }

    fn check(system: &System<'_>, kind: ConditionKind, value: &str) -> bool {
        system.holds(&Condition::new(kind, "ConditionX", value))
    }

    #[test]
    fn paths_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::default();
        let system = system(dir.path(), &machine);
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir(path("empty")).unwrap();
        fs::write(path("file"), "x").unwrap();
        fs::write(path("nothing"), "").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        for (kind, name, is) in [
            (ConditionKind::PathExists, "file", true),
            (ConditionKind::PathExists, "gone", false),
            (ConditionKind::PathExistsGlob, "f*e", true),
            (ConditionKind::PathExistsGlob, "g*", false),
            (ConditionKind::PathIsDirectory, "empty", true),
            (ConditionKind::PathIsDirectory, "file", false),
            (ConditionKind::PathIsSymbolicLink, "link", true),
            (ConditionKind::PathIsSymbolicLink, "file", false),
            (ConditionKind::DirectoryNotEmpty, "", true),
            (ConditionKind::DirectoryNotEmpty, "empty", false),
            (ConditionKind::FileNotEmpty, "file", true),
            (ConditionKind::FileNotEmpty, "nothing", false),
            (ConditionKind::FileIsExecutable, "file", false),
            (ConditionKind::PathIsReadWrite, "file", true),
            (ConditionKind::PathIsMountPoint, "empty", false),
        ] {
            assert_eq!(check(&system, kind, &path(name)), is, "{kind:?} {name}");
        }
        assert!(check(&system, ConditionKind::PathIsMountPoint, "/proc"));
    }

    #[test]
    fn the_machine_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n").unwrap();
        fs::write(dir.path().join("cmdline"), "quiet mmos.profile=Line7 ro\n").unwrap();
        let machine = Machine {
            hostname: "line7".into(),
            kernel_release: "6.1.0-21-amd64".into(),
            architecture: "x86_64".into(),
            ..Machine::default()
        };
        let system = System { root: dir.path(), proc: dir.path(), machine: &machine };
        for (kind, value, is) in [
            (ConditionKind::KernelCommandLine, "quiet", true),
            (ConditionKind::KernelCommandLine, "mmos.profile", true),
            (ConditionKind::KernelCommandLine, "mmos.profile=Line7", true),
            (ConditionKind::KernelCommandLine, "mmos.profile=Line8", false),
            (ConditionKind::KernelVersion, ">=5.10", true),
            (ConditionKind::KernelVersion, "<6.1", false),
            (ConditionKind::KernelVersion, "6.*", true),
            (ConditionKind::Architecture, "x86-64", true),
            (ConditionKind::Architecture, "arm64", false),
            (ConditionKind::Host, "line?", true),
            (ConditionKind::OsRelease, "ID=debian", true),
            (ConditionKind::OsRelease, "VERSION_ID>=12", true),
            (ConditionKind::OsRelease, "VERSION_ID<12", false),
            (ConditionKind::Memory, "1M", true),
            (ConditionKind::Memory, ">=1000000G", false),
            (ConditionKind::Cpus, ">=1", true),
            (ConditionKind::Cpus, "<1", false),
            (ConditionKind::User, "root", true),
            (ConditionKind::User, "tester", false),
            (ConditionKind::NeedsUpdate, "/etc", false),
        ] {
            assert_eq!(check(&system, kind, value), is, "{kind:?} {value}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, is) in [
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("[a-c]?", "b1", true),
            ("[!a]", "a", false),
            ("x[", "x[", true),
        ] {
            assert_eq!(glob(pattern, name), is, "{pattern} {name}");
        }
        assert_eq!(virtual_machine("QEMU\n"), Some("qemu"));
        assert_eq!(versions("6.10", "6.9"), Ordering::Greater);
    }
}
