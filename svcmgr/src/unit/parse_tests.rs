//! What the parser makes of whole unit files, good and bad.

use proptest::prelude::*;

use super::*;
use crate::unit::service::{Input, KillMode, Output};
use crate::unit::{Relation, StartType};

fn unit(text: &str) -> Unit {
    parse("x.service", Path::new("/etc/mmos/units/x.service"), text, &Machine::default())
}

fn notes(unit: &Unit) -> Vec<String> {
    unit.notes.iter().map(Note::to_string).collect()
}

#[test]
fn a_whole_unit_is_read() {
    let unit = unit(
        "[Unit]\nDescription=Test of %p\nRequires=a.service b.service\nAfter=a.service\nAfter=b.service\n\
         StartLimitIntervalSec=1min\nStartLimitBurst=3\n\
         [Service]\nType=notify\nExecStartPre=-/bin/true\nExecStart=/bin/sh -c 'exec sleep 1' \\\n  more\n\
         Restart=on-failure\nRestartSec=250ms\nTimeoutSec=7\nEnvironment=A=1 \"B=2 3\"\nUser=worker\n\
         WorkingDirectory=-/srv/%u\nSuccessExitStatus=4 SIGUSR1\nKillSignal=SIGINT\n\
         [Install]\nWantedBy=multi-user.target\n[X-MMOS]\nStart=auto\n",
    );
    assert_eq!(unit.refused, None);
    assert_eq!(notes(&unit), Vec::<String>::new());
    assert_eq!(unit.description, "Test of x");
    assert_eq!(
        unit.named(Relation::Requires).map(|r| (r.name.as_str(), r.line)).collect::<Vec<_>>(),
        [("a.service", 3), ("b.service", 3)]
    );
    assert_eq!(unit.named(Relation::After).map(|r| r.line).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(unit.limit, StartLimit { interval: Span::seconds(60), burst: 3 });
    let service = &unit.service;
    assert_eq!(service.kind, ServiceType::Notify);
    assert!(service.start_pre[0].ignore_failure);
    assert_eq!(service.start[0].arguments, ["/bin/sh", "-c", "exec sleep 1", "more"]);
    assert_eq!((service.restart, service.restart_sec), (Restart::OnFailure, Span::millis(250)));
    assert_eq!((service.timeout_start, service.timeout_stop), (Span::seconds(7), Span::seconds(7)));
    assert_eq!(service.environment, [("A".into(), "1".into()), ("B".into(), "2 3".into())]);
    assert_eq!(service.working_directory, Some(("/srv/worker".into(), true)));
    assert_eq!(service.success.codes, [4]);
    assert_eq!(service.success.signals, [libc::SIGUSR1]);
    assert_eq!(service.kill_signal, libc::SIGINT);
    assert_eq!(service.notify_access, NotifyAccess::Main);
    assert_eq!(unit.start, Some(StartType::Auto));
}

#[test]
fn a_misspelt_exec_start_is_named_with_its_line() {
    let unit = unit("[Service]\nExecStrat=/bin/true\n");
    let reason = unit.refused.unwrap();
    assert!(reason.starts_with("/etc/mmos/units/x.service:2: there is no ExecStart="), "{reason}");
    assert!(reason.contains("did you mean ExecStart=?"), "{reason}");
}

#[test]
fn what_is_not_obeyed_is_said_with_file_and_line() {
    let unit = unit(
        "[Unit]\nExecStart=/no\nUpholds=b.service\n[Service]\nExecStart=/bin/true\nAppArmorProfile=x\n\
         RemoveIPC=no\nRestrat=always\nWobble=1\n[Sevice]\nA=1\n[X-Vendor]\nA=1\nnonsense\n",
    );
    let all = notes(&unit).join("\n");
    for part in [
        "x.service:14: \"nonsense\" is not of the form Key=value",
        "x.service:2: ExecStart= belongs into the section [Service]",
        "x.service:3: Upholds= is not supported yet and ignored",
        "x.service:6: AppArmorProfile= is not supported yet and ignored: the service runs without this protection",
        "x.service:8: unknown directive Restrat=: did you mean Restart=?",
        "x.service:9: unknown directive Wobble= in section [Service]",
        "x.service:11: A= stands in the unknown section [Sevice]: did you mean [Service]?",
    ] {
        assert!(all.contains(part), "{part} not in:\n{all}");
    }
    assert_eq!(unit.notes.len(), 7, "{all}");
    assert_eq!(unit.refused, None);
}

#[test]
fn a_unit_that_could_not_do_its_work_is_refused() {
    for (text, reason) in [
        (
            "[Service]\nExecStart=/x\n[X-MMOS]\nFailureActions=restrat\n",
            "x.service:4: FailureActions=restrat: restrat is no",
        ),
        ("[Service]\nType=dbus\nExecStart=/x\n", "x.service:2: Type=dbus needs a BusName="),
        ("[Service]\nBusName=a.b'c\nExecStart=/x\n", "x.service:2: BusName=a.b'c is not a name on a bus"),
        ("[Service]\nType=notfy\nExecStart=/x\n", "x.service:2: unknown Type=notfy: did you mean notify?"),
        ("[Service]\nExecStart=/x 'y\n", "x.service:2: ExecStart=/x 'y: a ' quote is never closed"),
        ("[Service]\nExecStart=/x\nExecStart=/y\n", "x.service:3: there is more than one ExecStart="),
        ("[Service]\nType=oneshot\nExecStart=/x\nRestart=always\n", "x.service:4: a Type=oneshot cannot"),
        ("[Service]\nRootImage=/x\nExecStart=/x\n", "x.service:2: RootImage= is not supported yet"),
        ("[Service]\nUMask=rwx\nExecStart=/x\n", "x.service:2: UMask=rwx is not a mask"),
        ("[Service]\nOpenFile=/y\nExecStart=/x\n", "x.service:2: OpenFile= is not supported yet"),
        ("[Service]\nWorkingDirectory=x\nExecStart=/x\n", "x.service:2: WorkingDirectory=x is not an absolute path"),
        ("[Unit]\nDescription=x\n", "x.service: there is no ExecStart= in section [Service]"),
        ("", "x.service: there is no ExecStart="),
    ] {
        let refused = unit(text).refused.unwrap_or_default();
        assert!(refused.contains(reason), "{refused:?} does not say {reason:?}");
    }
    assert_eq!(unit("[Service]\nOpenFile=\nExecStart=/x\n").refused, None);
}

#[test]
fn what_a_process_is_given_is_read() {
    let service = unit(
        "[Service]\nExecStart=/x\nUMask=0027\nSupplementaryGroups=audio 29\nSupplementaryGroups=video\nNice=-5\n\
         OOMScoreAdjust=-900\nLimitNOFILE=10:20\nLimitNOFILE=30\nLimitCORE=infinity\nKillMode=mixed\nIgnoreSIGPIPE=no\n",
    )
    .service;
    assert_eq!((service.umask, service.nice, service.oom_score_adjust), (0o27, Some(-5), Some(-900)));
    assert_eq!(service.supplementary_groups, ["audio", "29", "video"]);
    assert_eq!(service.limits.iter().map(|limit| limit.soft).collect::<Vec<_>>(), [30, u64::MAX]);
    assert_eq!((service.kill_mode, service.ignore_sigpipe), (KillMode::Mixed, false));
}

#[test]
fn what_a_service_is_kept_from_is_read() {
    let unit = unit(
        "[Service]\nExecStart=/x\nProtectSystem=strict\nProtectHome=tmpfs\nReadWritePaths=-/var/lib/%p /a/\n\
         InaccessiblePaths=+/b\nPrivateTmp=yes\nCPUAffinity=0-1 3\nRuntimeDirectory=a b/c\nStandardInputText=x\n\
         StandardInputData=eQo=\nKeyringMode=shared\nPrivateDevices=perhaps\nReadOnlyPaths=x\nSystemCallFilter=@mounts\n\
         RestrictAddressFamilies=AF_UNX\n",
    );
    let sandbox = unit.service.sandbox.as_ref().unwrap();
    let paths: Vec<(&str, bool)> =
        sandbox.read_write_paths.iter().map(|spec| (spec.path.as_str(), spec.optional)).collect();
    assert_eq!(paths, [("/var/lib/x", true), ("/a", false)]);
    assert!(sandbox.inaccessible_paths[0].in_root && sandbox.private_tmp && !sandbox.private_devices);
    assert_eq!(unit.service.scheduling.as_ref().unwrap().affinity, [0, 1, 3]);
    assert_eq!(unit.service.input_data.as_deref(), Some(b"x\ny\n".as_slice()));
    assert_eq!(unit.service.input, Input::Data);
    let all = notes(&unit).join("\n");
    for part in [
        "x.service:13: PrivateDevices=perhaps is ignored: yes or no is due",
        "x.service:15: SystemCallFilter=@mounts is not known and ignored: did you mean @mount?",
        "x.service:16: RestrictAddressFamilies=AF_UNX is not known and ignored: did you mean AF_UNIX?",
    ] {
        assert!(all.contains(part), "{part} not in:\n{all}");
    }
    // A protection that is not understood is no reason to run without it.
    assert!(unit.refused.unwrap().contains("x.service:14: ReadOnlyPaths=x is not an absolute path"));
}

#[test]
fn what_is_obeyed_in_part_or_not_as_written_is_said() {
    let unit = unit(
        "[Unit]\nBindsTo=a.service\n[Service]\nAppArmorProfile=x\nExecStart=/x\nExecReload=/bin/kill -HUP $MAINPID\nNice=20\n\
         LimitAS=much\nKillMode=nine\nOOMScoreAdjust=x\n",
    );
    let all = notes(&unit).join("\n");
    for part in [
        "x.service:4: AppArmorProfile= is not supported yet",
        "x.service:7: Nice=20 is ignored: a number from -20 to 19 is due",
        "x.service:8: LimitAS= is ignored: \"much\" is not a limit",
        "x.service:9: KillMode=nine is ignored: did you mean none?",
        "x.service:10: OOMScoreAdjust=x is ignored",
    ] {
        assert!(all.contains(part), "{part} not in:\n{all}");
    }
    assert_eq!((unit.notes.len(), unit.references.len(), unit.refused), (5, 1, None), "{all}");
}

#[test]
fn lists_append_and_an_empty_assignment_resets_them() {
    let unit = unit(
        "[Service]\nType=oneshot\nExecStart=/a\nExecStart=\nExecStart=/b\nExecStart=/c\n\
         Environment=A=1\nEnvironment=\nEnvironment=B=2\nEnvironmentFile=/x\nEnvironmentFile=\n",
    );
    assert_eq!(unit.service.start.iter().map(|c| c.program.as_str()).collect::<Vec<_>>(), ["/b", "/c"]);
    assert_eq!(unit.service.environment, [("B".into(), "2".into())]);
    assert!(unit.service.environment_files.is_empty());
    assert_eq!(unit.service.timeout_start, Span::INFINITY);
}

#[test]
fn output_follows_the_rules_of_systemd_exec() {
    let streams = |lines: &str| {
        let unit = unit(&format!("[Service]\nExecStart=/x\n{lines}"));
        (unit.service.input, unit.service.output, unit.service.error)
    };
    assert_eq!(streams(""), (Input::Null, Output::Log, Output::Log));
    assert_eq!(streams("StandardOutput=null\n"), (Input::Null, Output::Null, Output::Null));
    assert_eq!(streams("StandardOutput=null\nStandardError=journal\n"), (Input::Null, Output::Null, Output::Log));
    assert_eq!(streams("StandardInput=tty\nStandardOutput=inherit\n"), (Input::Tty, Output::Tty, Output::Tty));
}

#[test]
fn lines_have_the_level_that_the_unit_says() {
    let levels = |text: &str| {
        let unit = unit(&format!("[Service]\nExecStart=/bin/true\n{text}"));
        let service = &unit.service;
        (service.syslog_level, service.syslog_level_prefix, service.syslog_identifier.clone(), unit.notes.len())
    };
    assert_eq!(levels(""), (6, true, None, 0));
    let said = levels("SyslogLevel=warning\nSyslogLevelPrefix=no\nSyslogIdentifier=%p-x\n");
    assert_eq!(said, (4, false, Some("x-x".to_owned()), 0));
    assert_eq!(levels("SyslogLevel=loud\n"), (6, true, None, 1));
}

#[test]
fn a_target_needs_no_command() {
    let unit = parse("x.target", Path::new("/x.target"), "[Unit]\nWants=a.service\n", &Machine::default());
    assert_eq!((unit.kind, unit.refused), (Kind::Target, None));
}

proptest! {
    #[test]
    fn any_text_becomes_a_unit(text in "(\\[(Unit|Service|X-MMOS)\\]\n|(ExecStart|Type|After|Environment|RestartSec|User|KillSignal)=[ -~é]{0,30}\n|[ -~]{0,20}\n){0,12}") {
        let unit = unit(&text);
        prop_assert!(!unit.service.start.is_empty() || unit.refused.is_some() || unit.service.kind == ServiceType::Oneshot);
    }
}

#[test]
fn a_socket_is_read_whole() {
    use crate::unit::socket::{OptionValue, SocketOption};
    let text = "[Socket]\nListenStream=/run/%p\nListenDatagram=@x\nListenStream=\nListenStream=8080\nListenFIFO=/run/f\n\
                SocketMode=0600\nSocketUser=root\nBindIPv6Only=ipv6-only\nFileDescriptorName=door\nKeepAliveTimeSec=90s\n\
                ReceiveBuffer=64K\nIPTOS=low-delay\nTriggerLimitBurst=7\nExecStartPre=/bin/mkdir /x\nPrivateTmp=yes\n\
                TimeoutSec=3\nMessageQueueMaxMessages=4\nBacklog=4294967295\n";
    let unit = parse("x.socket", Path::new("/u"), text, &Machine::default());
    assert_eq!((unit.refused.as_deref(), unit.notes.as_slice()), (None, [].as_slice()));
    let socket = unit.socket.as_ref().unwrap();
    let listens: Vec<String> = socket.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listens, ["ListenStream=8080", "ListenFIFO=/run/f"]);
    assert_eq!((socket.mode, socket.ipv6_only, socket.backlog), (0o600, Some(true), i32::MAX));
    assert_eq!((socket.trigger_burst(), socket.poll_burst()), (7, 15));
    assert_eq!(
        socket.options,
        [
            (SocketOption::KeepAliveTimeSec, OptionValue::Number(90)),
            (SocketOption::ReceiveBuffer, OptionValue::Number(65536)),
            (SocketOption::IpTos, OptionValue::Number(16)),
        ]
    );
    assert_eq!((unit.service.start_pre.len(), unit.service.timeout_start), (1, Span::seconds(3)));
    assert!(unit.service.sandbox.as_ref().unwrap().private_tmp);
    let names: Vec<&str> = unit.named(Relation::Triggers).map(|reference| reference.name.as_str()).collect();
    assert_eq!(names, ["x.service"]);
    assert_eq!(unit.named(Relation::Before).count(), 1);
}

#[test]
fn sockets_and_timers_that_could_not_do_their_work_are_refused() {
    for (name, text, said) in [
        ("x.socket", "[Socket]\nAccept=yes\n", "there is no ListenStream= or its like"),
        ("x.socket", "[Socket]\nListenStream=80\nAccept=yes\nService=y.service\n", "goes without Service="),
        ("x.socket", "[Socket]\nListenFIFO=/x\nAccept=yes\n", "not with ListenFIFO=/x"),
        ("x.socket", "[Socket]\nListenStream=vsock::1\n", "virtual machine"),
        ("x.socket", "[Socket]\nListenMessageQueue=/x\n", "ListenMessageQueue= is not supported yet"),
        ("x.socket", "[Socket]\nListenStream=80\nSocketMode=rw\n", "not an octal mode"),
        ("x.timer", "[Timer]\nUnit=y.service\n", "there is no OnBootSec= or its like"),
        ("x.timer", "[Timer]\nOnBootSec=1\nUnit=y.timer\n", "not the name of a unit that a timer can start"),
        ("x.timer", "[Timer]\nOnCalendar=daily\n", "no clock that is right"),
        ("x.service", "[Service]\nType=oneshot\nExecStart=/x\n[X-MMOS]\nReadyFD=3\n", "ReadyFD= goes with"),
        ("x.service", "[Service]\nExecStart=/x\n[X-MMOS]\nReadyFD=2\n", "from 3 to 255 is due"),
    ] {
        let unit = parse(name, Path::new("/u"), text, &Machine::default());
        let refused = unit.refused.unwrap_or_default();
        assert!(refused.contains(said), "{text}: {refused}");
    }
}

#[test]
fn a_section_of_another_type_of_unit_is_not_obeyed() {
    let text = "[Socket]\nListenStream=80\n[Service]\nExecStart=/x\n";
    let unit = parse("x.socket", Path::new("/u"), text, &Machine::default());
    assert!(unit.service.start.is_empty());
    assert_eq!(unit.notes[0].text, "ExecStart= stands in section [Service], which a .socket has not, and is ignored");
}

#[test]
fn lines_may_have_a_facility_and_a_limit() {
    let lines = |lines: &str| unit(&format!("[Service]\nExecStart=/x\n{lines}\n")).service;
    let service = lines("SyslogFacility=local3\nLogRateLimitBurst=7");
    assert_eq!((service.syslog_facility, service.line_limit()), (Some(19), Some((Span::seconds(30), 7))));
    assert_eq!(lines("LogRateLimitIntervalSec=5").line_limit(), Some((Span::seconds(5), 10_000)));
    assert_eq!(lines("LogRateLimitIntervalSec=0\nLogRateLimitBurst=7").line_limit(), None);
    assert_eq!(lines("").line_limit(), None);
}
