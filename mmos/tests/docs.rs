//! `docs/control.md` describes the interface file: every method with its parameters, and every error.
#![allow(clippy::unwrap_used)]

const INTERFACE: &str = include_str!("../interfaces/org.mmos.Manager.varlink");
const DOCUMENT: &str = include_str!("../../docs/control.md");

/// `Logs(name: string, lines: int)` of a line of the file, as a document writes it: `Logs(name, lines)`.
fn signature(declaration: &str) -> String {
    let (name, rest) = declaration.split_once('(').unwrap();
    let parameters = rest.split_once(')').unwrap().0;
    let names: Vec<&str> = parameters.split(',').map(|p| p.split(':').next().unwrap().trim()).collect();
    format!("{}({})", name.trim(), names.join(", "))
}

#[test]
fn every_method_and_error_of_the_interface_is_described() {
    let mut described = 0;
    for line in INTERFACE.lines() {
        if let Some(declaration) = line.strip_prefix("method ").or_else(|| line.strip_prefix("error ")) {
            let row = format!("| `{}` |", signature(declaration));
            assert!(DOCUMENT.contains(&row), "docs/control.md lacks a row {row}");
            described += 1;
        }
    }
    // And describes nothing that is not there.
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `") && line.contains('(')).count();
    assert_eq!(rows, described);
}
