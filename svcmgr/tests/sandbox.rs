//! The sandbox of real processes: what they see, what they may, what they are told. Each command says what it found in
//! its log. Root alone can make namespaces and change users.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use common::Device;
use serde_json::json;

fn is_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip::because("only root can make namespaces and change users");
    false
}

/// Runs `script` as a oneshot with these lines in its `[Service]`, and gives the lines that it wrote.
fn said_by(device: &Device, lines: &str, script: &str) -> Vec<String> {
    try_said_by(device, lines, script).unwrap_or_else(|error| panic!("{lines}: {error}"))
}

fn try_said_by(device: &Device, lines: &str, script: &str) -> Result<Vec<String>, String> {
    let path = device.dir.path().join("root/etc/mmos/units/t.service");
    let mut quoted = String::new();
    for c in script.chars() {
        match c {
            '\\' | '"' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    let unit = format!("[Service]\nType=oneshot\nExecStart=:/bin/sh -c \"{quoted}\"\n{lines}\n");
    std::fs::write(path, unit).unwrap();
    let svcmgr = device.start();
    let result = device.client().call("Start", json!({"name": "t"}));
    let logs = device.client().call("Logs", json!({"units": ["t"], "lines": 0, "follow": false})).unwrap();
    assert!(!device.run().join("private/t.service").exists(), "a private folder outlived its service");
    drop(svcmgr);
    let said =
        logs["entries"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect();
    std::fs::remove_dir_all(device.run()).unwrap();
    std::fs::create_dir_all(device.run()).unwrap();
    match result {
        Ok(_) => Ok(said),
        Err((_, parameters)) => Err(format!("{} {said:?}", parameters["reason"])),
    }
}

fn device() -> Device {
    let device = Device::without_cgroups(&[]);
    device.file("root/etc/passwd", "root:x:0:0::/root:/bin/sh\ntester:x:4242:4343::/home/tester:/bin/sh\n");
    device.file("root/etc/group", "tester:x:4343:\naudio:x:29:tester\n");
    // Ordinary users have to reach the script.
    std::fs::set_permissions(device.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    device
}

/// Says whether each of these can be written.
const PROBE: &str = "probe() { for p in \"$@\"; do if (: > $p/.mmos-probe) 2>/dev/null; then rm $p/.mmos-probe; \
                     echo \"$p yes\"; else echo \"$p no\"; fi; done; }\n";

#[test]
fn protect_system_and_home_decide_what_can_be_written_and_seen() {
    if !is_root() {
        return;
    }
    let device = device();
    let own = device.dir.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let script = format!("{PROBE}probe /usr /etc /var {}\n", own.display());
    let own = own.display();
    let answers = |lines: &str| -> Vec<String> {
        let said = said_by(&device, lines, &script);
        said.iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(answers(""), ["yes", "yes", "yes", "yes"]);
    assert_eq!(answers("ProtectSystem=yes"), ["no", "yes", "yes", "yes"]);
    assert_eq!(answers("ProtectSystem=full"), ["no", "no", "yes", "yes"]);
    assert_eq!(answers("ProtectSystem=strict"), ["no", "no", "no", "no"]);
    assert_eq!(answers(&format!("ProtectSystem=strict\nReadWritePaths={own}")), ["no", "no", "no", "yes"]);
    assert_eq!(answers(&format!("ReadOnlyPaths={own}")), ["yes", "yes", "yes", "no"]);
    assert_eq!(answers(&format!("InaccessiblePaths={own}")), ["yes", "yes", "yes", "no"]);
    let said = said_by(&device, "ProtectHome=yes", "ls -A /root | wc -l; echo > /dev/null && echo device");
    assert_eq!(said, ["0", "device"]);
    let said = said_by(&device, "ProtectHome=tmpfs", "ls -A /root /home | wc -w; stat -f -c %T /root");
    assert_eq!(said, ["2", "tmpfs"]);
    let said = said_by(&device, "ProtectHome=read-only", &format!("{PROBE}probe /root"));
    assert_eq!(said, ["/root no"]);
}

#[test]
fn a_service_has_a_tmp_and_devices_of_its_own_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let device = device();
    let script = "ls -A /tmp /var/tmp | grep -vc :; touch /tmp/mine /var/tmp/mine && echo made; stat -c %a /tmp";
    let said = said_by(&device, "PrivateTmp=yes\nExecStartPre=/bin/true", script);
    // Two empty folders are separated by a line.
    assert_eq!(said, ["1", "made", "1777"]);
    assert!(!std::path::Path::new("/tmp/mine").exists() && !std::path::Path::new("/var/tmp/mine").exists());
    let script = "ls /dev | tr '\\n' ' '; echo; head -c 4 /dev/zero | wc -c; mknod /dev/x c 1 3 2>/dev/null || echo none; \
                  test -e /dev/pts/ptmx && echo pts";
    let said = said_by(&device, "PrivateDevices=yes", script);
    assert_eq!(
        said,
        [
            "core fd full hugepages log mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ",
            "4",
            "none",
            "pts"
        ]
    );
}

#[test]
fn the_kernel_is_protected_as_asked() {
    if !is_root() {
        return;
    }
    let device = device();
    let script = "for f in /proc/sys/kernel/hostname /sys/kernel; do test -w $f && echo yes || echo no; done";
    assert_eq!(said_by(&device, "ProtectKernelTunables=yes", script), ["no", "no"]);
    assert_eq!(said_by(&device, "", script), ["yes", "yes"]);
    let script = "ls /lib/modules /usr/lib/modules 2>/dev/null | grep -c linux; grep CapBnd /proc/self/status";
    let said = said_by(&device, "ProtectKernelModules=yes\nProtectClock=yes\nProtectKernelLogs=yes", script);
    let bounding = u64::from_str_radix(said[1].split_whitespace().nth(1).unwrap(), 16).unwrap();
    // CAP_SYS_MODULE 16, CAP_SYS_TIME 25, CAP_SYSLOG 34: capability.h.
    assert_eq!((said[0].as_str(), bounding & (1 << 16 | 1 << 25 | 1 << 34)), ("0", 0));
    let said = said_by(
        &device,
        "ProtectProc=invisible\nProcSubset=pid\nUser=tester",
        "ls /proc | grep -c '^1$'; test -e /proc/meminfo || echo subset",
    );
    assert_eq!(said, ["0", "subset"]);
    let said = said_by(&device, "ProtectHostname=yes", "hostname other 2>/dev/null || echo refused; hostname");
    assert_eq!(said[0], "refused");
    assert_eq!(said[1], std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    let said = said_by(
        &device,
        "PrivateNetwork=yes",
        "tail -n +3 /proc/net/dev | cut -d: -f1; cat /sys/class/net/lo/flags >/dev/null; ip -o link 2>/dev/null | grep -c LOOPBACK,UP",
    );
    assert_eq!(said[0].trim(), "lo");
}

#[test]
fn capabilities_are_bounded_and_kept() {
    if !is_root() {
        return;
    }
    let device = device();
    let script = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status | cut -f2; id -u";
    let none = "0000000000000000";
    let said = said_by(&device, "User=tester\nNoNewPrivileges=yes", script);
    assert_eq!(
        (&said[..3], said[4].as_str(), &said[5..]),
        (&[none; 3].map(str::to_owned)[..], none, &["1", "4242"].map(str::to_owned)[..])
    );
    // CAP_NET_BIND_SERVICE is 10.
    let bind = "0000000000000400";
    let said = said_by(
        &device,
        "User=tester\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE",
        script,
    );
    assert_eq!(said, [bind, bind, bind, bind, bind, "0", "4242"]);
    let said = said_by(&device, "CapabilityBoundingSet=CAP_CHOWN CAP_NET_BIND_SERVICE", script);
    assert_eq!(said, [none, "0000000000000401", "0000000000000401", "0000000000000401", none, "0", "0"]);
    let error = try_said_by(&device, "CapabilityBoundingSet=CAP_CHWON", script).unwrap_err();
    assert!(error.contains("did you mean CAP_CHOWN?"), "{error}");
}

#[test]
fn system_calls_are_filtered() {
    if !is_root() {
        return;
    }
    let device = device();
    let mode = "grep Seccomp: /proc/self/status | cut -f2; ";
    let chmod = format!("{mode}touch DIR; chmod 600 DIR && echo done || echo refused")
        .replace("DIR", device.dir.path().join("f").to_str().unwrap());
    assert_eq!(said_by(&device, "", &chmod), ["0", "done"]);
    let said =
        said_by(&device, "SystemCallFilter=~chmod fchmod fchmodat fchmodat2\nSystemCallErrorNumber=EPERM", &chmod);
    assert_eq!((said[0].as_str(), said.last().unwrap().as_str()), ("2", "refused"));
    let said = said_by(&device, "SystemCallFilter=@system-service\nSystemCallArchitectures=native", &chmod);
    assert_eq!(said, ["2", "done"]);
    // Without an error of its own, the call ends the process: of the shell's child, SIGSYS is 31.
    let said = said_by(&device, "SystemCallFilter=~chmod fchmod fchmodat fchmodat2", &format!("{chmod}; echo $?"));
    assert!(said.iter().any(|line| line == "refused"), "{said:?}");
    let error = try_said_by(&device, "SystemCallFilter=@basic-io", "true").unwrap_err();
    assert!(error.contains("SIGSYS"), "{error}");
    let suid = "umask 0; touch DIR; chmod 4755 DIR 2>/dev/null || echo refused; chmod 755 DIR && echo done"
        .replace("DIR", device.dir.path().join("g").to_str().unwrap());
    assert_eq!(said_by(&device, "RestrictSUIDSGID=yes", &suid), ["refused", "done"]);
    let said =
        said_by(&device, "RestrictNamespaces=yes", "unshare -n true 2>/dev/null || echo refused; (true) && echo forks");
    assert_eq!(said, ["refused", "forks"]);
    let said = said_by(
        &device,
        "RestrictNamespaces=net",
        "unshare -n true && echo net; unshare -u true 2>/dev/null || echo refused",
    );
    assert_eq!(said, ["net", "refused"]);
    let said = said_by(
        &device,
        "RestrictRealtime=yes",
        "chrt -f 1 true 2>/dev/null || echo refused; chrt -i 0 true && echo idle",
    );
    assert_eq!(said[0], "refused");
    // Not even root gains by a program that is missing: it is named.
    let missing = "SystemCallFilter=@system-service\nExecStartPost=/no/such/program";
    let error = try_said_by(&device, missing, "true").unwrap_err();
    assert!(error.contains("/no/such/program cannot be executed: No such file"), "{error}");
}

#[test]
fn a_user_namespace_holds_root_and_the_user_alone() {
    if !is_root() {
        return;
    }
    let device = device();
    let script = "id -u; tr -s ' ' < /proc/self/uid_map; stat -c %u /usr";
    assert_eq!(said_by(&device, "PrivateUsers=yes\nUser=tester", script), ["4242", " 0 0 1", " 4242 4242 1", "0"]);
    assert_eq!(said_by(&device, "PrivateUsers=yes", script), ["0", " 0 0 1", "0"]);
}

#[test]
fn directories_are_made_for_the_user_and_told_to_it() {
    if !is_root() {
        return;
    }
    let device = device();
    let name = format!("mmos-test-{}", std::process::id());
    let lines = format!(
        "User=tester\nRuntimeDirectory={name} {name}/sub\nRuntimeDirectoryMode=0750\nStateDirectory={name}\nProtectSystem=strict"
    );
    let script = "echo $RUNTIME_DIRECTORY; echo $STATE_DIRECTORY; stat -c '%a %U %u' /run/NAME; touch /run/NAME/x /var/lib/NAME/y && echo made";
    let said = said_by(&device, &lines, &script.replace("NAME", &name));
    assert_eq!(said[0], format!("/run/{name}:/run/{name}/sub"));
    assert_eq!(said[1], format!("/var/lib/{name}"));
    assert!(said[2].starts_with("750 ") && said[2].ends_with(" 4242"), "{}", said[2]);
    assert_eq!(said[3], "made");
    let state = std::path::Path::new("/var/lib").join(&name);
    assert!(state.join("y").exists());
    std::fs::remove_dir_all(state).unwrap();
    let error = try_said_by(&device, "StateDirectory=../etc", "true").unwrap_err();
    assert!(error.contains("StateDirectory=../etc is not a path beneath /var/lib"), "{error}");
    assert!(!std::path::Path::new("/run").join(&name).exists(), "a runtime directory outlived its service");
}

#[test]
fn a_dynamic_user_is_nobody_else_and_finds_its_state_again() {
    if !is_root() {
        return;
    }
    let device = device();
    let name = format!("mmos-dynamic-{}", std::process::id());
    let lines = format!("DynamicUser=yes\nStateDirectory={name}");
    let script = format!(
        "id -u; cat /var/lib/{name}/kept 2>/dev/null; echo once > /var/lib/{name}/kept; ls /var/lib/private; {PROBE}probe /etc\n"
    );
    let first = said_by(&device, &lines, &script);
    let second = said_by(&device, &lines, &script);
    let uid: u32 = first[0].parse().unwrap();
    assert!((61184..=65519).contains(&uid), "{uid}");
    assert_eq!(first[1..], [name.clone(), "/etc no".to_owned()]);
    assert_eq!(second, [uid.to_string(), "once".to_owned(), name.clone(), "/etc no".to_owned()]);
    std::fs::remove_file(std::path::Path::new("/var/lib").join(&name)).unwrap();
    std::fs::remove_dir_all(std::path::Path::new("/var/lib/private").join(&name)).unwrap();
}

#[test]
fn a_root_directory_is_all_that_is_seen() {
    if !is_root() {
        return;
    }
    if !std::path::Path::new("/bin/busybox").exists() {
        return skip::because("there is no busybox (busybox-static)");
    }
    let device = device();
    let root = device.dir.path().join("inner");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    for folder in ["proc", "sys", "dev", "run", "tmp"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/sh")).unwrap();
    let unit = format!(
        "[Service]\nType=oneshot\nRootDirectory={}\nBindReadOnlyPaths=/etc/hostname:/hosts-name\nReadOnlyPaths=+/bin\n\
         ExecStart=/bin/sh -c 'busybox ls /; busybox test -c /dev/null && echo device; busybox touch /bin/x || echo read-only'\n",
        root.display()
    );
    device.unit("r.service", &unit);
    std::fs::write(root.join("hosts-name"), "").unwrap();
    let _svcmgr = device.start();
    device.client().call("Start", json!({"name": "r"})).unwrap();
    let logs = device.client().call("Logs", json!({"units": ["r"], "lines": 0, "follow": false})).unwrap();
    let said: Vec<&str> = logs["entries"].as_array().unwrap().iter().map(|l| l["text"].as_str().unwrap()).collect();
    assert_eq!(said[..8], ["bin", "dev", "hosts-name", "proc", "run", "sys", "tmp", "device"]);
    assert_eq!(said.last(), Some(&"read-only"));
}

#[test]
fn what_it_reads_and_writes_may_be_files_and_data() {
    let device = device();
    let out = device.dir.path().join("out");
    let lines = format!(
        "StandardInputText=one\\ttwo\nStandardInputText=three\nStandardOutput=append:{0}\nStandardError=append:{0}",
        out.display()
    );
    said_by(&device, &lines, "cat; echo wrong >&2");
    said_by(&device, &lines, "wc -l");
    assert_eq!(device.read("out"), "one\ttwo\nthree\nwrong\n2\n");
    let said = said_by(&device, &format!("StandardInput=file:{}", out.display()), "head -n 1");
    assert_eq!(said, ["one\ttwo"]);
}

#[test]
fn scheduling_and_environment_are_those_of_the_unit() {
    if !is_root() {
        return;
    }
    let device = device();
    let script = "taskset -pc $$ | cut -d: -f2; chrt -p $$ | cut -d: -f2; ionice -p $$; echo \"$A|$B|$C\"";
    let lines = "CPUAffinity=0\nCPUSchedulingPolicy=batch\nIOSchedulingClass=best-effort\nIOSchedulingPriority=7\n\
                 Environment=A=1 B=2 C=3\nUnsetEnvironment=A C=4";
    let said = said_by(&device, lines, script);
    assert_eq!(said, [" 0", " SCHED_BATCH", " 0", "best-effort: prio 7", "|2|3"]);
}

#[test]
fn prefixes_decide_whose_command_it_is() {
    if !is_root() {
        return;
    }
    let device = device();
    let lines = "User=tester\nPrivateTmp=yes\nExecStartPre=+/bin/sh -c 'id -u; ls -A /tmp | grep -q . && echo host'\n\
                 ExecStartPre=!/bin/sh -c 'id -u; ls -A /tmp | wc -l'";
    assert_eq!(said_by(&device, lines, "id -u"), ["0", "host", "0", "0", "4242"]);
}
