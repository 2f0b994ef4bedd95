//! C programs ask: one linked statically against libmmos.a, one against libmmos.so. Where there is no C compiler, that
//! is said.
#![allow(clippy::unwrap_used)]

use std::os::unix::process::CommandExt as _;
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

/// Makes libmmos.a or libmmos.so as an integrator does (see `docs/libmmos.md`), in a target folder of its own, so
/// that other crate types do not make cargo build everything that uses `mmos` again.
fn library(kind: &str, file: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c");
    let mut cargo = Command::new(env!("CARGO"));
    // Under sudo, what is built still belongs to the caller, whose next build must be able to replace it.
    let id = |name| std::env::var(name).ok().and_then(|id| id.parse().ok());
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        cargo.uid(user).gid(group);
    }
    let output = cargo
        .args(["rustc", "--offline", "--lib", "--crate-type", kind, "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug").join(file)
}

/// Builds the C program in `folder` against `library`.
fn build(folder: &Path, library: &Path, statically: bool) -> PathBuf {
    let source = folder.join("ask.c");
    std::fs::write(&source, PROGRAM).unwrap();
    let program = folder.join("ask");
    let mut cc = Command::new("cc");
    if statically {
        cc.arg("-static");
    }
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"));
    let output = cc.arg(&source).arg(library).arg("-o").arg(&program).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn have_cc() -> bool {
    let found = Command::new("cc").arg("--version").output().is_ok();
    if !found {
        skip::because("there is no C compiler (cc); Debian: apt-get install gcc libc6-dev");
    }
    found
}

#[track_caller]
fn expect_no(program: &mut Command) {
    let output = program.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 0\n1\n0\n");
}

#[test]
fn a_static_c_program_gets_no_for_an_answer_here_from_eight_threads() {
    if have_cc() {
        let folder = tempfile::tempdir().unwrap();
        expect_no(&mut Command::new(build(folder.path(), &library("staticlib", "libmmos.a"), true)));
    }
}

#[test]
fn a_dynamic_c_program_gets_the_same() {
    if have_cc() {
        let folder = tempfile::tempdir().unwrap();
        let library = library("cdylib", "libmmos.so");
        let mut program = Command::new(build(folder.path(), &library, false));
        expect_no(program.env("LD_LIBRARY_PATH", library.parent().unwrap()));
    }
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
        skip::because(format!("this cc has no C++: {message}"));
        return;
    }
    assert!(output.status.success(), "{message}");
}
