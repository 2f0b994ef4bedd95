//! From the folders of unit files to the set of units: which file wins, what is masked, what another name stands for,
//! what is added to a unit by drop-ins and links, which instances of templates there are. Reads the disk, and starts
//! nothing. Rules: systemd.unit(5), "Unit File Load Path" and "Description".

mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::insist::insist;
use crate::unit::specifier::Machine;
use crate::unit::{Kind, Reference, Unit, is_template, parse, split_type, template_of};
pub use scan::FOLDERS;
use scan::{Files, Found};

/// No unit file is longer: a larger one is a mistake, and must not eat the memory.
const MAX_FILE: u64 = 1 << 20;
/// Most are shorter than this.
const USUAL_FILE: usize = 8192;
/// So many instances are made of templates at most: one that names the next of its own kind would have no end.
const MAX_INSTANCES: usize = 4096;

/// What was found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The units, by name.
    pub units: BTreeMap<String, Unit>,
    /// Other names of units: name, and the unit that it stands for.
    pub aliases: BTreeMap<String, String>,
    /// Units of types that are not supported: how many of each type, and one of them.
    pub unsupported: BTreeMap<String, (usize, PathBuf)>,
    /// What is to be said, besides the units' own notes.
    pub problems: Vec<String>,
}

/// Reads all units beneath `root`, and those instances of templates that they name, or `wanted` does.
pub fn load(root: &Path, machine: &Machine, wanted: &[String]) -> Loaded {
    let mut loaded = Loaded::default();
    let files = scan::scan(root, &mut loaded);
    for (name, found) in &files.units {
        let kind = split_type(name).map_or("", |(_, kind)| kind);
        if Kind::of_word(kind).is_none() {
            let count = loaded.unsupported.entry(kind.to_owned()).or_insert((0, found.path.clone()));
            count.0 = count.0.saturating_add(1);
        } else if !is_template(name) {
            loaded.units.insert(name.clone(), read_unit(root, name, found, &files, machine));
        }
    }
    instantiate(root, &files, machine, wanted, &mut loaded);
    // An alias of something that is not there stands for nothing.
    let units = &loaded.units;
    loaded.aliases = files.aliases;
    loaded.aliases.retain(|_, target| units.contains_key(target));
    claim_aliases(&mut loaded);
    loaded
}

/// Reads one instance of a template, such as one that is asked for while the supervisor runs.
pub fn load_instance(root: &Path, machine: &Machine, name: &str) -> Option<Unit> {
    let template = template_of(name)?;
    let mut loaded = Loaded::default();
    let files = scan::scan(root, &mut loaded);
    let found = files.template(&template)?;
    Some(read_unit(root, name, found, &files, machine))
}

impl Loaded {
    /// The unit that `name` stands for, by its own name or another.
    pub fn resolve<'a>(&'a self, name: &'a str) -> Option<&'a Unit> {
        self.units.get(name).or_else(|| self.units.get(self.aliases.get(name)?))
    }
}

/// Makes the instances that anybody names, and those that these name.
fn instantiate(root: &Path, files: &Files, machine: &Machine, wanted: &[String], loaded: &mut Loaded) {
    let named = |unit: &Unit| -> Vec<String> {
        let names = unit.references.iter().map(|reference| &reference.name);
        names.filter(|name| template_of(name).is_some()).cloned().collect()
    };
    let mut queue: Vec<String> = loaded.units.values().flat_map(named).chain(wanted.iter().cloned()).collect();
    let mut count: usize = 0;
    while let Some(name) = queue.pop() {
        let Some(found) = template_of(&name).and_then(|template| files.template(&template)) else { continue };
        if loaded.units.contains_key(&name) || files.aliases.contains_key(&name) {
            continue;
        }
        if count >= MAX_INSTANCES {
            loaded.problems.push(format!("{name} is one instance too many: more than {MAX_INSTANCES} are named"));
            return;
        }
        count = count.saturating_add(1);
        let unit = read_unit(root, &name, found, files, machine);
        queue.extend(named(&unit));
        loaded.units.insert(name, unit);
    }
}

/// Other names that units claim for themselves by `Alias=`: there is no enabling that would make links of them. A name
/// that is taken, or that several claim, is nobody's.
fn claim_aliases(loaded: &mut Loaded) {
    let mut claims: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for (name, unit) in loaded.units.iter().filter(|(_, unit)| unit.refused.is_none()) {
        for alias in &unit.aliases {
            claims.entry(alias).or_default().insert(name);
        }
    }
    let claimed: Vec<(String, String)> = claims
        .into_iter()
        .filter(|(alias, units)| {
            units.len() == 1 && !loaded.units.contains_key(*alias) && !loaded.aliases.contains_key(*alias)
        })
        .filter_map(|(alias, units)| Some((alias.clone(), (*units.first()?).clone())))
        .collect();
    loaded.aliases.extend(claimed);
}

fn read_unit(root: &Path, name: &str, found: &Found, files: &Files, machine: &Machine) -> Unit {
    let path = found.path.as_path();
    let refused = |reason: String| {
        let mut unit = parse::parse(name, path, "", machine);
        unit.refused = Some(format!("{}: {reason}", path.display()));
        unit.notes.clear();
        unit
    };
    let masked = || refused("masked: the file is empty, or a link to /dev/null".to_owned());
    let text = match insist(|| read_linked(root, path, found.is_plain)) {
        Ok(None) => return masked(),
        Ok(Some(text)) => text,
        Err(error) => return refused(format!("cannot be read: {error}")),
    };
    let mut drop_ins = Vec::new();
    let mut unreadable = Vec::new();
    for path in files.drop_ins(name) {
        match insist(|| read_linked(root, &path, false)) {
            // systemd.unit(5): a link to /dev/null, or an empty file, takes the place of others of its name.
            Ok(None) => {}
            Ok(Some(text)) => drop_ins.push((path, text)),
            Err(error) => unreadable.push(format!("{}: cannot be read: {error}", path.display())),
        }
    }
    let mut unit = parse::parse_all(name, path, &text, &drop_ins, machine);
    // What it says might be what keeps the service safe.
    if let Some(reason) = unreadable.into_iter().next() {
        unit.refused.get_or_insert(reason);
    }
    for link in files.links_of(name) {
        unit.references.push(Reference {
            relation: link.relation,
            name: link.name.clone(),
            line: 0,
            file: Some(link.path.as_path().into()),
        });
    }
    unit
}

/// The text of a file, or of what it links to; `None` if it is empty, or links to `/dev/null`.
fn read_linked(root: &Path, path: &Path, is_plain: bool) -> io::Result<Option<String>> {
    let target = if is_plain { None } else { fs::read_link(path).ok() };
    // A link in a root that is not "/" is resolved as the device would.
    let real = match target {
        Some(target) if target == Path::new("/dev/null") => return Ok(None),
        Some(target) if target.is_absolute() => root.join(target.strip_prefix("/").unwrap_or(&target)),
        _ => path.to_owned(),
    };
    // systemd.unit(5): "an empty file is treated as masked".
    Ok(Some(read_text(&real, is_plain)?).filter(|text| !text.is_empty()))
}

/// A distribution brings hundreds of unit files, and each system call for one of them is one for all: a plain file is
/// opened, read at once, and closed.
fn read_text(path: &Path, is_plain: bool) -> io::Result<String> {
    if !is_plain && !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = fs::File::open(path)?;
    let mut bytes = Vec::with_capacity(USUAL_FILE);
    // Without clearing the memory first, which would cost more than the reading.
    let length = rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes))?;
    // A regular file gives less than it is asked for at its end alone.
    if length >= USUAL_FILE {
        io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE), &mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE {
            return Err(io::Error::other(format!("it is longer than {MAX_FILE} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|error| io::Error::other(format!("it is not UTF-8: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    const OK: &str = "[Service]\nExecStart=/bin/true\n";

    #[test]
    fn the_first_folder_wins_and_lib_may_be_a_link() {
        let dir = root(&[
            ("etc/mmos/units/a.service", "[Unit]\nDescription=ours\n[Service]\nExecStart=/x\n"),
            ("usr/lib/systemd/system/a.service", OK),
            ("usr/lib/systemd/system/b.service", OK),
        ]);
        symlink("usr/lib", dir.path().join("lib")).unwrap();
        let loaded = load(dir.path(), &Machine::default(), &[]);
        assert_eq!(loaded.units.keys().collect::<Vec<_>>(), ["a.service", "b.service"]);
        assert_eq!(loaded.units["a.service"].description, "ours");
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    }

    #[test]
    fn masks_aliases_and_unsupported_types_are_told_apart() {
        let dir = root(&[
            ("usr/lib/systemd/system/a.service", OK),
            ("usr/lib/systemd/system/getty@.service", OK),
            ("usr/lib/systemd/system/s.path", ""),
            ("usr/lib/systemd/system/empty.service", ""),
            ("usr/lib/systemd/system/a.service.d/x.conf", ""),
            ("usr/lib/systemd/system/README", ""),
        ]);
        let folder = dir.path().join("usr/lib/systemd/system");
        symlink("/dev/null", folder.join("masked.service")).unwrap();
        symlink("a.service", folder.join("other.service")).unwrap();
        symlink("nowhere.service", folder.join("dangling.service")).unwrap();
        let loaded = load(dir.path(), &Machine::default(), &[]);
        assert_eq!(loaded.resolve("other.service").unwrap().name, "a.service");
        assert!(loaded.resolve("dangling.service").is_none());
        for masked in ["masked.service", "empty.service"] {
            assert!(loaded.units[masked].refused.as_ref().unwrap().contains("masked"), "{masked}");
        }
        assert_eq!(loaded.unsupported.keys().collect::<Vec<_>>(), ["path"]);
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_refused_unit() {
        let dir = root(&[("etc/mmos/units/ok.service", OK)]);
        let folder = dir.path().join("etc/mmos/units");
        fs::create_dir(folder.join("dir.service")).unwrap();
        fs::write(folder.join("bytes.service"), b"[Service]\nExecStart=/\xff\n").unwrap();
        fs::write(folder.join("huge.service"), vec![b'#'; usize::try_from(MAX_FILE).unwrap().saturating_add(1)])
            .unwrap();
        let loaded = load(dir.path(), &Machine::default(), &[]);
        for (name, reason) in
            [("dir.service", "not a regular file"), ("bytes.service", "not UTF-8"), ("huge.service", "longer than")]
        {
            assert!(loaded.units[name].refused.as_ref().unwrap().contains(reason), "{name}");
        }
        assert_eq!(loaded.units["ok.service"].refused, None);
    }

    #[test]
    fn a_long_file_is_read_to_its_end() {
        let long = format!("[Service]\n{}ExecStart=/bin/true\n", "# words\n".repeat(USUAL_FILE));
        let dir = root(&[("etc/mmos/units/long.service", &long)]);
        let loaded = load(dir.path(), &Machine::default(), &[]);
        assert_eq!(loaded.units["long.service"].service.start.len(), 1);
    }

    #[test]
    fn drop_ins_are_read_by_name_and_the_closest_counts() {
        let dir = root(&[
            ("usr/lib/systemd/system/a-b.service", "[Unit]\nDescription=own\n[Service]\nExecStart=/x\nNice=1\n"),
            ("usr/lib/systemd/system/a-b.service.d/20.conf", "[Service]\nNice=2\nUMask=0070\n"),
            ("etc/systemd/system/a-b.service.d/30.conf", "[Unit]\nAfter=c.service\nWobble=1\n[Service]\nNice=3\n"),
            // Of its prefix, and of its type.
            ("etc/systemd/system/a-.service.d/20.conf", "[Service]\nUMask=0007\n"),
            ("etc/systemd/system/service.d/10.conf", "[Service]\nOOMScoreAdjust=5\n"),
            ("etc/systemd/system/service.d/notes.txt", "nothing"),
        ]);
        let folder = dir.path().join("etc/systemd/system/a-b.service.d");
        symlink("/dev/null", folder.join("10.conf")).unwrap();
        let loaded = load(dir.path(), &Machine::default(), &[]);
        let unit = &loaded.units["a-b.service"];
        assert_eq!((unit.service.nice, unit.service.umask, unit.description.as_str()), (Some(3), 0o070, "own"));
        // Masked by the link of its name.
        assert_eq!(unit.service.oom_score_adjust, None);
        let after = unit.named(crate::unit::Relation::After).next().unwrap();
        assert!(unit.place(after).ends_with("a-b.service.d/30.conf:2"), "{}", unit.place(after));
        assert!(
            unit.notes[0].to_string().contains("a-b.service.d/30.conf:3: unknown directive Wobble="),
            "{:?}",
            unit.notes
        );
    }

    #[test]
    fn instances_are_made_of_templates_where_anybody_names_them() {
        let template = "[Unit]\nDescription=%i of %p\n[Service]\nExecStart=/x %I\n";
        let dir = root(&[
            ("usr/lib/systemd/system/t@.service", template),
            ("usr/lib/systemd/system/t@special.service", "[Service]\nExecStart=/special\n"),
            ("usr/lib/systemd/system/t@.service.d/a.conf", "[Service]\nNice=4\n"),
            ("etc/mmos/units/u.service", "[Unit]\nWants=t@one.service t@special.service\n[Service]\nExecStart=/u\n"),
            ("etc/mmos/units/x.target", "[Unit]\n"),
            ("etc/mmos/units/x.target.wants/t@three.service", ""),
        ]);
        symlink("/usr/lib/systemd/system/t@.service", dir.path().join("etc/mmos/units/t@two.service")).unwrap();
        symlink("t@.service", dir.path().join("usr/lib/systemd/system/other@.service")).unwrap();
        let loaded = load(dir.path(), &Machine::default(), &["t@four.service".into(), "other@five.service".into()]);
        let names: Vec<&str> = loaded.units.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "other@five.service",
                "t@four.service",
                "t@one.service",
                "t@special.service",
                "t@three.service",
                "t@two.service",
                "u.service",
                "x.target"
            ]
        );
        let one = &loaded.units["t@one.service"];
        assert_eq!((one.description.as_str(), one.service.nice), ("one of t", Some(4)));
        assert_eq!(loaded.units["t@special.service"].service.start[0].program, "/special");
        let wants = loaded.units["x.target"].named(crate::unit::Relation::Wants).next().unwrap();
        assert_eq!((wants.name.as_str(), wants.line), ("t@three.service", 0));
        let six = load_instance(dir.path(), &Machine::default(), "t@six.service").unwrap();
        assert_eq!(six.service.start[0].arguments, ["/x", "six"]);
        assert!(load_instance(dir.path(), &Machine::default(), "none@six.service").is_none());
    }

    #[test]
    fn an_alias_is_the_units_that_alone_claims_it() {
        let claims = |alias: &str| format!("{OK}[Install]\nAlias={alias}\n");
        let dir = root(&[
            ("etc/mmos/units/ssh.service", &claims("sshd.service")),
            ("etc/mmos/units/a.service", &claims("display-manager.service")),
            ("etc/mmos/units/b.service", &claims("display-manager.service ssh.service")),
        ]);
        let loaded = load(dir.path(), &Machine::default(), &[]);
        assert_eq!(loaded.resolve("sshd.service").unwrap().name, "ssh.service");
        assert!(loaded.resolve("display-manager.service").is_none());
        assert_eq!(loaded.resolve("ssh.service").unwrap().name, "ssh.service");
    }
}
