//! `THIRD-PARTY.md` names every crate that is linked into what we ship, with its licence: made of `cargo metadata`,
//! so that it is true. `UPDATE=1 cargo test -p mmosctl --test third_party` writes it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What goes to the device, linked statically, and to integrators.
const DEVICE: [&str; 5] = ["init", "svcmgr", "mmosctl", "mmos", "memory-test"];
/// What runs on the host.
const HOST: [&str; 1] = ["mmos-image"];

/// Code in C that crates bring along and that is linked too: crate, what, licence.
const BUNDLED: [(&str, &str, &str); 3] = [
    ("wimlib-sys", "[wimlib](https://wimlib.net)", "LGPL-3.0-or-later"),
    ("zstd-sys", "[Zstandard](https://facebook.github.io/zstd/)", "BSD-3-Clause OR GPL-2.0-only; used as BSD-3-Clause"),
    ("liblzma-sys", "[XZ Utils](https://tukaani.org/xz/), liblzma", "0BSD"),
];

const HEAD: &str = "\
# Third-party code

mmos itself is under Apache-2.0, see [LICENSE](LICENSE). What follows is linked into its programs and keeps its own
licence. Versions are those of [Cargo.lock](Cargo.lock); the licence texts are in each crate's source, which
`cargo vendor` fetches. Made by `UPDATE=1 cargo test -p mmosctl --test third_party`, and compared by that test.

**device** means `init`, `svcmgr`, `mmosctl`, `libmmos` or `memory-test`, linked statically; **host** means `mmos-image`.

";

const TAIL: &str = "
Every program also holds the Rust standard library (MIT OR Apache-2.0, with parts under BSD-2-Clause and others: see
`COPYRIGHT` of the toolchain), and the device programs the GNU C Library (LGPL-2.1-or-later), both linked statically.

wimlib, which is in `mmos-image` alone, and the GNU C Library are under the LGPL. Whoever passes on a program that is
linked statically with them must enable its recipient to link it with another version of them: the whole source of these
programs, which this repository is, with `cargo build` does.

Not linked, but in the images that `mmos-image` builds: the Linux kernel (GPL-2.0-only WITH Linux-syscall-note), BusyBox
(GPL-2.0-only), and the Debian packages that an image definition lists, each with its `/usr/share/doc/*/copyright` in
the package. `manifest.json` beside an image names each of them with its version.
";

struct Packages {
    by_id: BTreeMap<String, Value>,
    nodes: BTreeMap<String, Value>,
}

impl Packages {
    fn read() -> Packages {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--offline", "--filter-platform=x86_64-unknown-linux-gnu"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let by_id = |list: &Value| -> BTreeMap<String, Value> {
            let entries = list.as_array().unwrap().iter();
            entries.map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry.clone())).collect()
        };
        Packages { by_id: by_id(&metadata["packages"]), nodes: by_id(&metadata["resolve"]["nodes"]) }
    }

    /// Everything that is linked into the workspace's packages `roots`: normal dependencies of normal dependencies,
    /// but no procedural macros, which run in the compiler.
    fn linked_into(&self, roots: &[&str]) -> BTreeSet<String> {
        let ours = |package: &Value| package["source"].is_null() && roots.contains(&package["name"].as_str().unwrap());
        let mut open: Vec<String> =
            self.by_id.iter().filter(|(_, package)| ours(package)).map(|(id, _)| id.clone()).collect();
        assert_eq!(open.len(), roots.len(), "{roots:?} are not all in the workspace");
        let mut linked = BTreeSet::new();
        while let Some(id) = open.pop() {
            let package = &self.by_id[&id];
            let targets = package["targets"].as_array().unwrap();
            let is_macro = targets.iter().any(|target| target["kind"][0] == "proc-macro");
            if is_macro || !linked.insert(id.clone()) {
                continue;
            }
            for dependency in self.nodes[&id]["deps"].as_array().unwrap() {
                let kinds = dependency["dep_kinds"].as_array().unwrap();
                if kinds.iter().any(|kind| kind["kind"].is_null()) {
                    open.push(dependency["pkg"].as_str().unwrap().to_owned());
                }
            }
        }
        let built = built_for(roots);
        linked.retain(|id| {
            let package = &self.by_id[id];
            let named = format!("{} v{}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
            !package["source"].is_null() && built.contains(&named)
        });
        linked
    }
}

/// What is built for `roots` and nothing else, as `NAME vVERSION`: the metadata know the features of the whole workspace
/// alone, where a crate may be asked for by another of ours.
fn built_for(roots: &[&str]) -> BTreeSet<String> {
    let mut built = BTreeSet::new();
    for root in roots {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--package", root, "--edges=normal", "--prefix=none", "--format={p}", "--offline"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        // NAME vVERSION, and where it comes from.
        built.extend(text.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")));
    }
    built
}

fn document() -> String {
    let packages = Packages::read();
    let device = packages.linked_into(&DEVICE);
    let host = packages.linked_into(&HOST);
    let mut rows: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for (ids, place) in [(&device, "device"), (&host, "host")] {
        for id in ids {
            let package = &packages.by_id[id];
            let name = package["name"].as_str().unwrap();
            let Some(licence) = package["license"].as_str() else {
                panic!("{name} states no licence: ask its authors, or do without it");
            };
            // Old crates write a slash for OR.
            let licence = licence.replace('/', " OR ").replace("  ", " ");
            rows.entry((name.to_owned(), licence)).or_default().insert(place);
        }
    }
    let mut text = String::from(HEAD);
    text.push_str("| crate | licence | in |\n|---|---|---|\n");
    for ((name, licence), places) in &rows {
        let places: Vec<&str> = places.iter().copied().collect();
        text.push_str(&format!("| [{name}](https://crates.io/crates/{name}) | {licence} | {} |\n", places.join(", ")));
    }
    text.push_str("\nBrought along by crates, and linked:\n\n| code | by | licence |\n|---|---|---|\n");
    for (by, what, licence) in BUNDLED {
        if rows.keys().any(|(name, _)| name == by) {
            text.push_str(&format!("| {what} | {by} | {licence} |\n"));
        }
    }
    text.push_str(TAIL);
    text
}

#[test]
fn every_linked_crate_is_listed_with_its_licence() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../THIRD-PARTY.md");
    let document = document();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let missing: Vec<&str> = document.lines().filter(|line| !there.lines().any(|other| other == *line)).collect();
    assert!(
        there == document,
        "THIRD-PARTY.md is stale: UPDATE=1 cargo test -p mmosctl --test third_party\nnot in it:\n{}",
        missing.join("\n")
    );
}

#[test]
fn crates_that_bring_a_library_along_are_known() {
    let packages = Packages::read();
    let ids: BTreeSet<String> = packages.linked_into(&DEVICE).union(&packages.linked_into(&HOST)).cloned().collect();
    for id in ids {
        let package = &packages.by_id[&id];
        let name = package["name"].as_str().unwrap();
        // `links` in Cargo.toml: the name of a native library.
        if let Some(library) = package["links"].as_str() {
            let known = BUNDLED.iter().any(|(by, _, _)| *by == name);
            assert!(known, "{name} links {library}: add it to BUNDLED with its licence");
        }
    }
}
