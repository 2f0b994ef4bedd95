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

/// Whose logs there are besides those of units.
const NO_UNITS: [&str; 2] = ["kernel", "other"];

/// The unit whose log a name means.
pub fn of_log(name: &str) -> String {
    if NO_UNITS.contains(&name) { name.to_owned() } else { full(name) }
}

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

/// The name most like `wanted`, whatever the types of both: by a slip of the keys, or one containing the other.
fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let stem = |name: &str| name.rsplit_once('.').map_or(name.to_owned(), |(stem, _)| stem.to_lowercase());
    let wanted = stem(wanted);
    let known: Vec<(String, &str)> = names.map(|name| (stem(name), name)).collect();
    let meant = link::nearest::nearest(&wanted, known.iter().map(|(stem, _)| stem.as_str()));
    let contains = |stem: &str| wanted.len() >= 3 && (stem.contains(&wanted) || wanted.contains(stem));
    known
        .iter()
        .filter(|(stem, _)| meant.map_or_else(|| contains(stem), |meant| stem == meant))
        .min_by_key(|(stem, name)| (link::nearest::edits(&wanted, stem), *name))
        .map(|(_, name)| *name)
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
