//! System calls by name and by systemd's groups, as `SystemCallFilter=` writes them: systemd.exec(5), "System Call
//! Filtering".

mod groups;

use std::collections::BTreeSet;

use groups::{GROUPS, UNGROUPED};

/// A name that is neither a system call nor a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is neither a system call nor a group of them")]
pub struct UnknownCall(pub String);

/// The number of a call on this architecture; `None` if it has none of that name.
pub fn number(name: &str) -> Option<u32> {
    u32::try_from(name.parse::<syscalls::Sysno>().ok()?.id()).ok()
}

/// The numbers of a call or group (`@mount`) on this architecture. A call that others have and this one has not is none.
///
/// # Errors
/// When no architecture has a call of that name, and it is no group.
pub fn resolve(name: &str) -> Result<BTreeSet<u32>, UnknownCall> {
    let mut numbers = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut names = vec![name];
    while let Some(name) = names.pop() {
        if !seen.insert(name) {
            continue;
        }
        match (group(name), number(name)) {
            (Some(members), _) => names.extend(members.split_whitespace()),
            (None, Some(number)) => {
                numbers.insert(number);
            }
            (None, None) if is_known(name) => {}
            (None, None) => return Err(UnknownCall(name.to_owned())),
        }
    }
    Ok(numbers)
}

/// Names of groups and calls, to look for the one that was meant.
pub fn names() -> impl Iterator<Item = &'static str> {
    let words = GROUPS.iter().flat_map(|(name, members)| std::iter::once(*name).chain(members.split_whitespace()));
    words.chain(UNGROUPED.split_whitespace())
}

fn group(name: &str) -> Option<&'static str> {
    let at = GROUPS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    GROUPS.get(at).map(|(_, members)| *members)
}

fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_their_calls_and_those_of_the_groups_in_them() {
        let reboot = resolve("@reboot").unwrap();
        assert!(reboot.contains(&number("reboot").unwrap()) && reboot.contains(&number("kexec_load").unwrap()));
        let service = resolve("@system-service").unwrap();
        assert!(service.is_superset(&resolve("@basic-io").unwrap()));
        assert!(service.contains(&number("uname").unwrap()) && !service.contains(&number("mount").unwrap()));
        assert!(resolve("@privileged").unwrap().is_superset(&resolve("@chown").unwrap()));
    }

    #[test]
    fn the_groups_are_sorted_and_name_what_there_is() {
        assert!(GROUPS.is_sorted_by_key(|(name, _)| *name));
        for (name, _) in GROUPS {
            assert!(!resolve(name).unwrap().is_empty() || *name == "@obsolete", "{name}");
        }
    }

    #[test]
    fn a_call_of_another_architecture_is_none_and_an_unknown_one_is_named() {
        assert_eq!(resolve("s390_pci_mmio_read"), Ok(BTreeSet::new()));
        assert_eq!(resolve("opne"), Err(UnknownCall("opne".into())));
        assert_eq!(resolve("@systemservice"), Err(UnknownCall("@systemservice".into())));
    }
}
