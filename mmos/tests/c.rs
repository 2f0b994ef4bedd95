//! A C program, linked statically against libmmos.a, asks. Needs `cc` and a static libc; says so where it is missing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = r#"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include "mmos.h"

static void *ask(void *failures) {
    for (int i = 0; i < 200; i++) {
        bool yes = true;
        if (mmos_is_mmos(&yes) != 0 || yes)
            __atomic_add_fetch((int *)failures, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(void) {
    bool yes = true;
    int result = mmos_is_mmos(&yes);
    printf("%d %d\n", result, yes);
    printf("%d\n", mmos_is_mmos(NULL) == -EINVAL);

    int failures = 0;
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        if (pthread_create(&threads[i], NULL, ask, &failures) != 0)
            return 2;
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    printf("%d\n", failures);
    return 0;
}
"#;

/// `libmmos.a` lies in the folder of the test programs, `deps/`, or above it.
fn library() -> PathBuf {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let candidates = [deps.parent().unwrap().join("libmmos.a"), deps.join("libmmos.a")];
    let newest =
        candidates.iter().filter(|path| path.exists()).max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.unwrap_or_else(|| panic!("no libmmos.a at {candidates:?}")).clone()
}

fn build(folder: &Path, statically: bool) -> Result<PathBuf, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = folder.join("ask.c");
    std::fs::write(&source, PROGRAM).unwrap();
    let program = folder.join("ask");
    let mut cc = Command::new("cc");
    if statically {
        cc.arg("-static");
    }
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"]).arg(here.join("include"));
    cc.arg(&source).arg(library()).arg("-o").arg(&program);
    let output = cc.output().map_err(|error| format!("cc: {error}"))?;
    if output.status.success() { Ok(program) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn have_cc() -> bool {
    let found = Command::new("cc").arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no C compiler (cc); Debian: apt-get install gcc libc6-dev");
    }
    found
}

#[test]
fn a_static_c_program_gets_no_for_an_answer_here_from_eight_threads() {
    if !have_cc() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = build(folder.path(), true).unwrap();
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 0\n1\n0\n");
}

#[test]
fn the_header_is_also_valid_cplusplus() {
    if !have_cc() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("ask.cpp");
    std::fs::write(&source, "#include \"mmos.h\"\nint (*ask)(bool *) = mmos_is_mmos;\n").unwrap();
    let output = Command::new("cc")
        .args(["-x", "c++", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg(&source)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    if message.contains("cc1plus") {
        println!("skipped: this cc has no C++: {message}");
        return;
    }
    assert!(output.status.success(), "{message}");
}
