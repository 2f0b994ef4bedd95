//! Names of units as people type them: without a type, or misspelt.

use mmos::control::{Client, Error};

use crate::failure::Failure;

/// The types that a unit's name may end in, of systemd.unit(5).
const TYPES: [&str; 11] = [
    ".service",
    ".target",
    ".socket",
    ".timer",
    ".mount",
    ".automount",
    ".swap",
    ".path",
    ".device",
    ".slice",
    ".scope",
];

/// The unit that a name means: one without a type is a service.
pub fn full(name: &str) -> String {
    if TYPES.iter().any(|suffix| name.ends_with(suffix)) { name.to_owned() } else { format!("{name}.service") }
}

/// Adds the nearest name to an error that says that there is no such unit.
pub fn explain(error: Error, client: &mut Client) -> Failure {
    if let Error::NoSuchUnit { name } = &error {
        // A supervisor that cannot be asked again leaves the error as it was.
        let units = client.units().unwrap_or_default();
        if let Some(nearest) = nearest(name, units.iter().map(|unit| unit.name.as_str())) {
            return Failure::Misspelt { asked: name.clone(), nearest: nearest.to_owned() };
        }
    }
    Failure::Control(error)
}

/// The name most like `wanted`, if one is like it at all: a third of it may differ, or one contains the other.
fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let stem = |name: &str| name.rsplit_once('.').map_or(name.to_owned(), |(stem, _)| stem.to_lowercase());
    let wanted = stem(wanted);
    let most = wanted.chars().count().div_ceil(3).min(4);
    names
        .filter_map(|name| {
            let candidate = stem(name);
            let edits = distance(&wanted, &candidate);
            let contains = wanted.len() >= 3 && (candidate.contains(&wanted) || wanted.contains(&candidate));
            (edits <= most || contains).then_some((edits, name))
        })
        .min()
        .map(|(_, name)| name)
}

/// Edits that make `a` of `b`: insertions, deletions, substitutions, and swaps of neighbours (optimal string
/// alignment), in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (row, x) in a.chars().enumerate() {
        let mut line = vec![row.saturating_add(1)];
        for (column, &y) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let next = column.saturating_add(1);
            let mut best = at(&last, column).saturating_add(usize::from(x != y));
            best = best.min(at(&last, next).saturating_add(1)).min(at(&line, column).saturating_add(1));
            if let Some(left) = column.checked_sub(1)
                && previous == Some(y)
                && b.get(left) == Some(&x)
            {
                best = best.min(at(&before_last, left).saturating_add(1));
            }
            line.push(best);
        }
        previous = Some(x);
        before_last = std::mem::replace(&mut last, line);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_type_is_a_service() {
        assert_eq!(full("hello"), "hello.service");
        assert_eq!(full("hello.service"), "hello.service");
        assert_eq!(full("boot.target"), "boot.target");
        assert_eq!(full("v1.2"), "v1.2.service");
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("hlelo", "hello", 1),
            ("äö", "äx", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["hello.service", "memory-test.service", "debug-shell.service"];
        for (wanted, found) in [
            ("helo.service", Some("hello.service")),
            ("Hello.service", Some("hello.service")),
            ("memory.service", Some("memory-test.service")),
            ("memroy-tset.service", Some("memory-test.service")),
            ("hello.target", Some("hello.service")),
            ("wifi.service", None),
            ("x.service", None),
        ] {
            assert_eq!(nearest(wanted, names.into_iter()), found, "{wanted}");
        }
    }
}
