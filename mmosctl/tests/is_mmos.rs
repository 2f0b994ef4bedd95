//! Attempts to make `is-mmos` say yes where it must not, made for real with unshare(1) and mounts, and the one thing
//! that makes it say yes: a record that the machine's root put into RAM during this boot. Needs root, the first user
//! namespace and util-linux; without them the attempts that cannot be made are named as skipped.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Output};

/// What a script may use: `$MMOSCTL`, a good record for this boot, and nobody's uid.
const PRELUDE: &str = r#"
set -e
id="$(cat /proc/sys/kernel/random/boot_id)"
record="{\"boot_id\":\"$id\",\"version\":\"0\",\"profile\":null,\"root\":null,\"stages\":[],\"warnings\":[]}"
ram_at_run() {
    mount -t tmpfs -o mode=755 none /run
    mkdir -m 755 /run/mmos
}
# A root in which everything that counts is the caller's own, and so root's in his namespace.
own_root() {
    mount -t tmpfs -o mode=755 none /mnt
    cd /mnt
    for folder in usr bin lib lib64 proc tmp; do
        mkdir -m 755 "$folder"
        [ ! -d "/$folder" ] || mount --rbind "/$folder" "$folder"
    done
    mkdir -m 755 run run/mmos
    echo "$record" > run/mmos/boot.json
}
"#;

fn sh(wrapper: &[&str], script: &str) -> Output {
    let mut words = wrapper.to_vec();
    let script = format!("{PRELUDE}\n{script}");
    words.extend(["sh", "-c", &script]);
    let (program, args) = words.split_first().unwrap();
    Command::new(program).args(args).env("MMOSCTL", env!("CARGO_BIN_EXE_mmosctl")).output().unwrap()
}

/// Root of the machine, who may mount: the only one who can make the cases that need privilege.
fn is_the_machines_root() -> bool {
    let first = std::fs::read_link("/proc/self/ns/user").is_ok_and(|n| n.as_os_str() == "user:[4026531837]");
    let may_mount = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    let ok = first && may_mount;
    if !ok {
        skip::because("it needs root in the machine's first user namespace, and unshare(1)");
    }
    ok
}

#[track_caller]
fn expect(output: &Output, code: i32, said: &str) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(said), "{said:?} is not in {text:?}");
}

const IN_A_MOUNT_NAMESPACE: &[&str] = &["unshare", "-m"];

#[test]
fn on_another_linux_the_answer_is_no_whatever_the_environment_says() {
    let output = Command::new(env!("CARGO_BIN_EXE_mmosctl"))
        .arg("is-mmos")
        .envs([("MMOS", "1"), ("IS_MMOS", "1"), ("MMOS_BOOT_RECORD", "/tmp/boot.json"), ("MMOS_INIT_CHANNEL", "3")])
        .output()
        .unwrap();
    expect(&output, 1, "no");
}

#[test]
fn a_record_of_this_boot_that_root_put_into_ram_is_believed() {
    if is_the_machines_root() {
        let script = "ram_at_run; echo \"$record\" > /run/mmos/boot.json; exec \"$MMOSCTL\" is-mmos";
        expect(&sh(IN_A_MOUNT_NAMESPACE, script), 0, "yes");
        // An ordinary user gets the same answer.
        let script = "ram_at_run; echo \"$record\" > /run/mmos/boot.json
            cp \"$MMOSCTL\" /run/ctl; exec setpriv --reuid 65534 --regid 65534 --clear-groups /run/ctl is-mmos";
        expect(&sh(IN_A_MOUNT_NAMESPACE, script), 0, "yes");
    }
}

/// Each script makes something of a good record that must not be believed.
#[test]
fn a_forged_stale_or_misplaced_record_is_not_believed() {
    if !is_the_machines_root() {
        return;
    }
    for (what, script, code, said) in [
        (
            "a copy of another boot's record",
            "ram_at_run; echo '{\"boot_id\":\"11111111-2222-3333-4444-555555555555\"}' > /run/mmos/boot.json",
            1,
            "no",
        ),
        (
            "a record that an ordinary user owns",
            "ram_at_run; echo \"$record\" > /run/mmos/boot.json; chown 65534 /run/mmos/boot.json",
            1,
            "no",
        ),
        (
            "a folder that an ordinary user owns",
            "ram_at_run; echo \"$record\" > /run/mmos/boot.json; chown 65534 /run/mmos",
            1,
            "no",
        ),
        (
            "a folder that others can write",
            "ram_at_run; echo \"$record\" > /run/mmos/boot.json; chmod 1777 /run",
            2,
            "/run may be written by others than root (mode 1777)",
        ),
        (
            "a record that a group can write",
            "ram_at_run; echo \"$record\" > /run/mmos/boot.json; chmod 664 /run/mmos/boot.json",
            2,
            "/run/mmos/boot.json may be written by others than root (mode 0664)",
        ),
        (
            "a link to a record",
            "ram_at_run; echo \"$record\" > /run/real.json; ln -s ../real.json /run/mmos/boot.json",
            1,
            "no",
        ),
        (
            "a link to the folder",
            "mount -t tmpfs -o mode=755 none /run; mkdir /run/real; echo \"$record\" > /run/real/boot.json
             ln -s real /run/mmos",
            1,
            "no",
        ),
        (
            "a record on a file system that may be a disk's",
            "mkdir -m 755 \"$TMP/disk\" \"$TMP/disk/mmos\"; echo \"$record\" > \"$TMP/disk/mmos/boot.json\"
             mount --bind \"$TMP/disk\" /run",
            1,
            "no",
        ),
        ("a fifo for a record", "ram_at_run; mkfifo -m 644 /run/mmos/boot.json", 1, "no"),
        ("a folder for a record", "ram_at_run; mkdir /run/mmos/boot.json", 1, "no"),
        ("rubbish", "ram_at_run; echo rubbish > /run/mmos/boot.json", 2, "is not a boot record"),
        (
            "a /proc that is something else",
            "ram_at_run; echo \"$record\" > /run/mmos/boot.json; mount -t tmpfs none /proc",
            2,
            "/proc is not the root of a proc file system",
        ),
        (
            "a folder of /proc for /proc",
            "ram_at_run; echo \"$record\" > /run/mmos/boot.json; mount --bind /proc/1/task /proc",
            2,
            "/proc is not the root of a proc file system",
        ),
        (
            "another boot id mounted over the kernel's",
            "ram_at_run; echo '{\"boot_id\":\"forged\"}' > /run/mmos/boot.json; echo forged > /run/id
             mount --bind /run/id /proc/sys/kernel/random/boot_id",
            2,
            "/proc is not the root of a proc file system",
        ),
    ] {
        let disk = disk_folder();
        let script = format!("TMP={}\n{script}\nexec \"$MMOSCTL\" is-mmos", disk.path().display());
        println!("{what}");
        expect(&sh(IN_A_MOUNT_NAMESPACE, &script), code, said);
    }
}

/// A folder that is not on a tmpfs: beside the program, on the disk that it was built on.
fn disk_folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn a_chroot_without_the_record_is_not_mmos() {
    if is_the_machines_root() {
        let script = "ram_at_run; echo \"$record\" > /run/mmos/boot.json
            mkdir -p /run/jail/proc; mount --rbind / /run/jail; mount -t tmpfs -o mode=755 none /run/jail/run
            exec chroot /run/jail \"$MMOSCTL\" is-mmos";
        expect(&sh(IN_A_MOUNT_NAMESPACE, script), 1, "no");
    }
}

/// The real attack: an ordinary user makes himself root of a namespace, and forges everything in it.
#[test]
fn an_ordinary_user_in_a_namespace_of_his_own_gets_no() {
    let user_namespaces = Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|s| s.success());
    if !user_namespaces {
        skip::because("unshare(1) cannot make a user namespace here");
        return;
    }
    let is_root = String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0";
    let nobody: &[&str] =
        if is_root { &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] } else { &[] };
    let disk = tempfile::tempdir().unwrap();
    // Where that user can reach the program.
    let program = disk.path().join("mmosctl");
    std::fs::copy(env!("CARGO_BIN_EXE_mmosctl"), &program).unwrap();
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(disk.path(), everyone).unwrap();

    for (what, namespaces, forgery, code) in [
        ("a forged record", "-Urm", "", 1),
        ("and a pid namespace with its own /proc", "-Urmpf --mount-proc", "", 1),
        ("and init's threads for /proc, being process 1 himself", "-Urmpf", "mount --bind /proc/1/task /proc", 2),
        ("and init's namespaces mounted over his own", "-Urm", "mount --bind /proc/1/ns /proc/$$/ns", 2),
        ("and his own namespaces hidden", "-Urm", "mount -t tmpfs none /proc/$$/ns", 2),
        ("and no /proc", "-Urm", "mount -t tmpfs none /proc", 2),
    ] {
        let attack = format!("{forgery}\nexec \"{}\" is-mmos", program.display());
        let script = format!("own_root\nexec chroot /mnt sh -ec '{attack}'");
        let mut wrapper = nobody.to_vec();
        wrapper.push("unshare");
        wrapper.extend(namespaces.split(' '));
        println!("{what}");
        let output = sh(&wrapper, &script);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{what}: {text}");
        let expected = if code == 1 { "no\n" } else { "cannot tell whether this is mmos" };
        assert!(text.contains(expected), "{what}: {text}");
    }
}
