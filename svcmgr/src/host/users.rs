//! Users and groups from `/etc/passwd` and `/etc/group`: the C library's way would load modules at run time, which a
//! static program must not. Formats: passwd(5), group(5).

use std::path::Path;

use crate::unit::Unit;

/// Who a service runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its user's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// The other groups that it is in.
    pub groups: Vec<u32>,
    /// The user's name.
    pub name: String,
    /// Its home.
    pub home: String,
    /// Its shell.
    pub shell: String,
}

/// Looks `User=`, `Group=` and `SupplementaryGroups=` up in the files beneath `root`; each may be a number. `None`, if
/// none is given.
///
/// # Errors
/// In words, for the unit's reason.
pub fn identity(
    root: &Path,
    user: Option<&str>,
    group: Option<&str>,
    more: &[String],
) -> Result<Option<Identity>, String> {
    if user.is_none() && group.is_none() && more.is_empty() {
        return Ok(None);
    }
    let read = |file: &str| {
        let path = root.join(file);
        std::fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    resolve(user.unwrap_or("root"), group, more, &|| read("etc/passwd"), &|| read("etc/group")).map(Some)
}

/// The number of a group in `/etc/group` beneath `root`; `None` if it has none of this name, or there is no such file.
///
/// # Errors
/// When it cannot be read.
pub fn group(root: &Path, name: &str) -> std::io::Result<Option<u32>> {
    let text = match std::fs::read_to_string(root.join("etc/group")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    // group(5): name, password, number, members.
    let number = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    Ok(text.lines().find_map(number))
}

/// The range that systemd has for dynamic users: systemd.exec(5), `DynamicUser=`.
const DYNAMIC: std::ops::RangeInclusive<u32> = 61184..=65519;

/// The dynamic user of a unit, by the name that `User=` says, or its own. A user of that name that there is already is
/// used as it is. Who has which number is written down in `taken`, a folder with a file per number.
///
/// # Errors
/// In words, for the unit's reason.
pub fn dynamic(root: &Path, taken: &Path, unit: &Unit) -> Result<Identity, String> {
    let service = &unit.service;
    let stem = crate::unit::split_type(&unit.name).map_or(unit.name.as_str(), |(stem, _)| stem);
    let name = service.user.as_deref().unwrap_or(stem);
    if let Ok(Some(known)) = identity(root, Some(name), service.group.as_deref(), &service.supplementary_groups) {
        return Ok(known);
    }
    let failed = |error: std::io::Error| format!("no number for its dynamic user {name}: {error}");
    std::fs::create_dir_all(taken).map_err(failed)?;
    let count = DYNAMIC.end().saturating_sub(*DYNAMIC.start()).saturating_add(1);
    // The same name begins at the same number at each boot, so that what it left is its own again, as a rule.
    let hash = name.bytes().fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    for step in 0..count {
        let offset = hash.wrapping_add(step).checked_rem(count).unwrap_or(0);
        let uid = DYNAMIC.start().saturating_add(offset);
        let path = taken.join(uid.to_string());
        match std::fs::read_to_string(&path) {
            Ok(owner) if owner == name => {}
            Ok(_) => continue,
            Err(_) => std::fs::write(&path, name).map_err(failed)?,
        }
        let mut found = identity(root, Some(&uid.to_string()), None, &service.supplementary_groups)?
            .ok_or_else(|| format!("no number for its dynamic user {name}"))?;
        // Somebody else's, by /etc/passwd.
        if found.name != uid.to_string() {
            continue;
        }
        name.clone_into(&mut found.name);
        return Ok(found);
    }
    Err(format!("no number is left for its dynamic user {name}"))
}

type Reader<'a> = &'a dyn Fn() -> Result<String, String>;

fn resolve(
    user: &str,
    group: Option<&str>,
    more: &[String],
    passwd: Reader<'_>,
    groups: Reader<'_>,
) -> Result<Identity, String> {
    let number = user.parse::<u32>().ok();
    let users = passwd();
    let known = users.as_deref().ok().and_then(|text| text.lines().find_map(|line| account(line, user, number)));
    let mut identity = match (known, number) {
        (Some(identity), _) => identity,
        (None, Some(uid)) => Identity {
            uid,
            gid: uid,
            groups: Vec::new(),
            name: user.to_owned(),
            home: "/".to_owned(),
            shell: "/bin/sh".to_owned(),
        },
        // The numbers of root are the kernel's own.
        (None, None) if user == "root" => Identity {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            name: user.to_owned(),
            home: "/root".to_owned(),
            shell: "/bin/sh".to_owned(),
        },
        (None, None) => {
            users?;
            return Err(format!("there is no user {user:?} in /etc/passwd (User=)"));
        }
    };
    let text = groups();
    let gid_of = |group: &str, directive: &str| -> Result<u32, String> {
        let found = text.as_deref().ok().and_then(|text| text.lines().find_map(|line| group_number(line, group)));
        match (found, group.parse::<u32>()) {
            (Some(gid), _) | (None, Ok(gid)) => Ok(gid),
            (None, Err(_)) => {
                text.clone()?;
                Err(format!("there is no group {group:?} in /etc/group ({directive}=)"))
            }
        }
    };
    if let Some(group) = group {
        identity.gid = gid_of(group, "Group")?;
    }
    for group in more {
        identity.groups.push(gid_of(group, "SupplementaryGroups")?);
    }
    let lines = text.as_deref().unwrap_or("").lines();
    identity.groups.extend(lines.filter_map(|line| membership(line, &identity.name)));
    identity.groups.push(identity.gid);
    identity.groups.sort_unstable();
    identity.groups.dedup();
    Ok(identity)
}

fn account(line: &str, name: &str, number: Option<u32>) -> Option<Identity> {
    let fields: Vec<&str> = line.split(':').collect();
    let [known, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    let uid = uid.parse().ok()?;
    let gid = gid.parse().ok()?;
    (*known == name || Some(uid) == number).then(|| Identity {
        uid,
        gid,
        groups: Vec::new(),
        name: (*known).to_owned(),
        home: (*home).to_owned(),
        shell: (*shell).to_owned(),
    })
}

fn group_number(line: &str, name: &str) -> Option<u32> {
    let mut fields = line.split(':');
    (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
}

fn membership(line: &str, user: &str) -> Option<u32> {
    let mut fields = line.split(':').skip(2);
    let gid = fields.next()?.parse().ok()?;
    fields.next()?.split(',').any(|member| member.trim() == user).then_some(gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\ntester:x:1000:100:T:/home/t:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\naudio:x:29:other,tester\nvideo:x:44:tester\n";

    fn of(user: &str, group: Option<&str>) -> Result<Identity, String> {
        resolve(user, group, &[], &|| Ok(PASSWD.to_owned()), &|| Ok(GROUP.to_owned()))
    }

    #[test]
    fn a_user_is_found_by_name_and_number_with_its_groups() {
        for user in ["tester", "1000"] {
            let identity = of(user, None).unwrap();
            assert_eq!((identity.uid, identity.gid, identity.home.as_str()), (1000, 100, "/home/t"));
            assert_eq!(identity.groups, [29, 44, 100]);
        }
        assert_eq!(of("tester", Some("audio")).unwrap().gid, 29);
        assert_eq!(of("4242", Some("7")).unwrap().gid, 7);
    }

    #[test]
    fn who_is_not_there_is_named() {
        assert_eq!(of("nobody", None).unwrap_err(), "there is no user \"nobody\" in /etc/passwd (User=)");
        assert_eq!(of("root", Some("wheel")).unwrap_err(), "there is no group \"wheel\" in /etc/group (Group=)");
        let gone: Reader<'_> = &|| Err("no file".to_owned());
        assert_eq!(resolve("x", None, &[], gone, gone).unwrap_err(), "no file");
        assert_eq!(resolve("root", None, &[], gone, gone).unwrap().uid, 0);
    }

    #[test]
    fn further_groups_are_added() {
        let more = ["audio".to_owned(), "77".to_owned()];
        let identity = resolve("0", None, &more, &|| Ok(PASSWD.to_owned()), &|| Ok(GROUP.to_owned())).unwrap();
        assert_eq!(identity.groups, [0, 29, 77]);
        let more = ["wheel".to_owned()];
        let error = resolve("0", None, &more, &|| Ok(PASSWD.to_owned()), &|| Ok(GROUP.to_owned())).unwrap_err();
        assert_eq!(error, "there is no group \"wheel\" in /etc/group (SupplementaryGroups=)");
    }
}
