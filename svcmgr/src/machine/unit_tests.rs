//! Every pair of phase and event, for a service that has commands of every kind: what it leads to, as a table.

use std::path::Path;

use super::*;
use crate::machine::{Exit, Goal, Outcome, Process, Verdict};
use crate::unit::parse::parse;
use crate::unit::specifier::Machine;
use crate::unit::time::Span;

fn unit(text: &str) -> Unit {
    let unit = parse("x.service", Path::new("/x.service"), text, &Machine::default());
    assert_eq!(unit.refused, None);
    unit
}

fn full() -> Unit {
    unit(
        "[Service]\nType=notify\nExecCondition=/ask\nExecStartPre=/pre\nExecStart=/main\nExecStartPost=/post\nExecStop=/stop\nExecStopPost=/stoppost\nRestart=on-failure\nRestartSec=1s\n",
    )
}

const PHASES: [Phase; 20] = [
    Phase::Inactive,
    Phase::Queued,
    Phase::Condition(0),
    Phase::StartPre(0),
    Phase::StartMain(0),
    Phase::StartForked,
    Phase::StartPost(0),
    Phase::Active,
    Phase::StartHeld,
    Phase::StopHeld,
    Phase::StopCommand(0),
    Phase::StopTerm,
    Phase::StopKill,
    Phase::StopPost(0),
    Phase::StopFinal,
    Phase::Backoff,
    Phase::FailureCommand(0),
    Phase::Done,
    Phase::Failed,
    Phase::Refused,
];

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("start", Event::Start { fresh: true }),
        ("stop", Event::Stop),
        ("restart", Event::Restart),
        ("go", Event::Go),
        ("blocked", Event::Blocked("no".into())),
        ("executed", Event::Executed),
        ("ready", Event::Ready),
        ("main ok", Event::MainExited(Exit::Code(0))),
        ("main bad", Event::MainExited(Exit::Code(1))),
        ("control ok", Event::ControlExited(Exit::Code(0))),
        ("control bad", Event::ControlExited(Exit::Code(1))),
        ("empty", Event::Empty),
        ("timeout", Event::Timeout),
        ("out of memory", Event::OutOfMemory),
        ("asked: go", Event::Asked(Verdict::Go)),
        ("asked: skip", Event::Asked(Verdict::Skip("no".into()))),
        ("no main", Event::NoMain),
        ("named", Event::Named),
        ("watchdog late", Event::WatchdogLate),
        ("runtime over", Event::RuntimeOver),
        ("job late", Event::JobLate),
        ("says that it stops", Event::Stopping),
    ]
}

/// The state in which a unit is in `phase`, with the processes that belong to it.
fn state_in(phase: Phase) -> UnitState {
    let process = Some(Process { pid: 7, born: 1 });
    let main = matches!(
        phase,
        Phase::StartMain(_)
            | Phase::StartPost(_)
            | Phase::Active
            | Phase::StartHeld
            | Phase::StopHeld
            | Phase::StopCommand(_)
    );
    let control = matches!(
        phase,
        Phase::Condition(_)
            | Phase::StartPre(_)
            | Phase::StartPost(_)
            | Phase::StopCommand(_)
            | Phase::StopPost(_)
            | Phase::FailureCommand(_)
    );
    UnitState {
        phase,
        goal: if matches!(phase, Phase::Inactive | Phase::StartHeld | Phase::StopHeld) { Goal::Down } else { Goal::Up },
        main: process.filter(|_| main),
        control: process.filter(|_| control),
        ..UnitState::default()
    }
}

#[test]
fn every_pair_of_phase_and_event_is_decided() {
    // "-" stays as it is. Rows: phases; columns: events, in the order of `events`.
    let expected = "\
inactive     queued - queued - - - - - - - - - - - - - - - - - - -
queued       - inactive - condition failed - - - - - - - - - condition done - - - - failed -
condition    - no-start no-start - - - - - - start-pre term - term term - - - - - - term -
start-pre    - no-start no-start - - - - - - start-main term - term term - - - - - - term -
start-main   - no-start no-start - - - start-post term term - - - term term - - - - term - term -
forked       - no-start no-start - - - - - - - - term term term - - start-post - - - term -
start-post   - no-start no-start - - - - - - active term - term term - - - - term - term -
active       - held held - - - - stop stop - - - - term - - - - term stop - term
no-start     - - - term - - - term term - - - - - - - - - - - - -
held         active - - stop - - - stop stop - - - - term - - - - term - - -
stop         - - - - - - - - - term term - term term - - - - - - - -
term         - - - - - - - - - - - stop-post kill - - - - - - - - -
kill         - - - - - - - - - - - stop-post - - - - - - - - - -
stop-post    - - - - - - - - - final final - final - - - - - - - - -
final        - - - - - - - - - - - done - - - - - - - - - -
backoff      queued inactive queued - - - - - - - - - queued - - - - - - - failed -
failure      - - - - - - - - - final final - final - - - - - - - - -
done         queued - queued - - - - - - - - - - - - - - - - - - -
failed       queued - queued - - - - - - - - - - - - - - - - - - -
refused      - - - - - - - - - - - - - - - - - - - - - -
";
    let name = |phase: Phase| match phase {
        Phase::Condition(_) => "condition",
        Phase::StartForked => "forked",
        Phase::FailureCommand(_) => "failure",
        Phase::StartPre(_) => "start-pre",
        Phase::StartMain(_) => "start-main",
        Phase::StartPost(_) => "start-post",
        Phase::StartHeld => "no-start",
        Phase::StopHeld => "held",
        Phase::StopCommand(_) => "stop",
        Phase::StopTerm => "term",
        Phase::StopKill => "kill",
        Phase::StopPost(_) => "stop-post",
        Phase::StopFinal => "final",
        other => other.word(),
    };
    let unit = full();
    let mut table = String::new();
    for phase in PHASES {
        table.push_str(&format!("{:<12}", name(phase)));
        for (_, event) in events() {
            let mut state = state_in(phase);
            step(&unit, &mut state, event, Now::default());
            let result = if state.phase == phase { "-" } else { name(state.phase) };
            table.push_str(&format!(" {result}"));
        }
        table.push('\n');
    }
    assert_eq!(table, expected, "\n{table}");
}

/// Plays a run: each event in turn; the phases that it goes through and the actions.
fn run(unit: &Unit, state: &mut UnitState, events: &[Event]) -> Vec<UnitAction> {
    let mut actions = Vec::new();
    for event in events {
        actions.extend(step(unit, state, event.clone(), Now { mono: 1_000_000, boot: 2_000_000 }));
    }
    actions
}

fn spawned(role: Role) -> Event {
    Event::Spawned(role, Process { pid: 7, born: 1 })
}

#[test]
fn a_whole_run_does_each_command_once_and_in_order() {
    let unit = full();
    let mut state = UnitState::default();
    let ok = Exit::Code(0);
    let actions = run(
        &unit,
        &mut state,
        &[
            Event::Start { fresh: true },
            Event::Go,
            spawned(Role::Control),
            Event::ControlExited(ok.clone()),
            spawned(Role::Control),
            Event::ControlExited(ok.clone()),
            spawned(Role::Main),
            Event::Executed,
            Event::Ready,
            spawned(Role::Control),
            Event::ControlExited(ok.clone()),
        ],
    );
    assert_eq!(
        actions,
        [
            UnitAction::Spawn(Role::Control, CommandRef::Condition(0)),
            UnitAction::Spawn(Role::Control, CommandRef::StartPre(0)),
            UnitAction::Spawn(Role::Main, CommandRef::Start(0)),
            UnitAction::Spawn(Role::Control, CommandRef::StartPost(0)),
        ]
    );
    assert_eq!((state.phase, state.deadline, state.active_at), (Phase::Active, None, Some(2_000_000)));
    let actions = run(
        &unit,
        &mut state,
        &[
            Event::Stop,
            Event::Go,
            spawned(Role::Control),
            Event::ControlExited(ok.clone()),
            Event::MainExited(Exit::Signal { signal: libc::SIGTERM, core: false }),
            Event::Empty,
            spawned(Role::Control),
            Event::ControlExited(ok),
            Event::Empty,
        ],
    );
    assert_eq!(
        actions,
        [
            UnitAction::Spawn(Role::Control, CommandRef::Stop(0)),
            UnitAction::Signal(libc::SIGTERM),
            UnitAction::AwaitEmpty,
            UnitAction::Spawn(Role::Control, CommandRef::StopPost(0)),
            UnitAction::Signal(libc::SIGKILL),
            UnitAction::AwaitEmpty,
        ]
    );
    assert_eq!((state.phase, state.reason.as_str()), (Phase::Inactive, ""));
}

/// How a unit of type exec with this `Restart=` rests after its main process ended so.
fn after(restart: &str, exit: &Exit) -> Phase {
    let unit = unit(&format!("[Service]\nExecStart=/main\nRestart={restart}\n"));
    let mut state = UnitState::default();
    run(
        &unit,
        &mut state,
        &[
            Event::Start { fresh: true },
            Event::Go,
            spawned(Role::Main),
            Event::Executed,
            Event::MainExited(exit.clone()),
            Event::Empty,
        ],
    );
    state.phase
}

#[test]
fn restart_follows_the_table_of_systemd_service() {
    let clean = Exit::Code(0);
    let unclean = Exit::Code(1);
    let signal = Exit::Signal { signal: libc::SIGSEGV, core: true };
    let term = Exit::Signal { signal: libc::SIGTERM, core: false };
    for (policy, expected) in [
        ("no", [false, false, false, false]),
        ("always", [true, true, true, true]),
        ("on-success", [true, false, false, true]),
        ("on-failure", [false, true, true, false]),
        ("on-abnormal", [false, false, true, false]),
        ("on-abort", [false, false, true, false]),
        ("on-watchdog", [false, false, false, false]),
    ] {
        let got = [&clean, &unclean, &signal, &term].map(|exit| after(policy, exit) == Phase::Backoff);
        assert_eq!(got, expected, "{policy}");
    }
    assert_eq!(after("no", &clean), Phase::Done);
    assert_eq!(after("no", &unclean), Phase::Failed);
}

#[test]
fn a_start_does_not_undo_a_restart_that_waits_to_stop() {
    let unit = full();
    let mut state = UnitState { goal: Goal::Again, ..state_in(Phase::StopHeld) };
    run(&unit, &mut state, &[Event::Start { fresh: true }]);
    assert_eq!((state.phase, state.goal), (Phase::StopHeld, Goal::Again));
}

#[test]
fn a_late_start_is_ended_and_counts_as_a_failure() {
    let unit = full();
    let mut state = state_in(Phase::StartMain(0));
    run(&unit, &mut state, &[Event::Timeout, Event::MainExited(Exit::Code(0)), Event::Empty]);
    assert_eq!(state.phase, Phase::StopPost(0));
    run(&unit, &mut state, &[spawned(Role::Control), Event::ControlExited(Exit::Code(0)), Event::Empty]);
    assert_eq!((state.phase, state.outcome), (Phase::Backoff, Outcome::Timeout));
    assert_eq!(state.reason, "it did not say READY=1 within 90 s (TimeoutStartSec=)");
}

#[test]
fn the_start_limit_counts_within_its_interval_alone() {
    let unit =
        unit("[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=10\n[Service]\nExecStart=/main\nRestart=always\n");
    let mut state = UnitState { phase: Phase::Queued, goal: Goal::Up, ..UnitState::default() };
    let mut try_at = |seconds: u64| {
        state.phase = Phase::Queued;
        step(&unit, &mut state, Event::Go, Now { mono: seconds.saturating_mul(1_000_000), boot: 0 });
        state.phase != Phase::Failed
    };
    assert_eq!([1, 2, 3, 10].map(&mut try_at), [true, true, false, false]);
    assert_eq!([20, 21, 22].map(&mut try_at), [true, true, false]);
}

#[test]
fn a_process_that_never_ran_is_made_again() {
    let unit = full();
    let mut state = state_in(Phase::StartMain(0));
    let actions = run(&unit, &mut state, &[Event::MainExited(Exit::NeverRan)]);
    assert_eq!(actions, [UnitAction::Spawn(Role::Main, CommandRef::Start(0))]);
    assert_eq!(state.outcome, Outcome::Success);
}

#[test]
fn a_oneshot_runs_its_commands_in_turn_and_a_failure_ends_it_unless_ignored() {
    let unit = unit("[Service]\nType=oneshot\nExecStart=/a\nExecStart=-/b\nExecStart=/c\nRemainAfterExit=yes\n");
    let mut state = UnitState::default();
    run(&unit, &mut state, &[Event::Start { fresh: true }, Event::Go]);
    run(&unit, &mut state, &[Event::MainExited(Exit::Code(0)), Event::MainExited(Exit::Code(9))]);
    assert_eq!(state.phase, Phase::StartMain(2));
    let mut other = state.clone();
    run(&unit, &mut state, &[Event::MainExited(Exit::Code(0))]);
    assert_eq!(state.phase, Phase::Active);
    run(&unit, &mut other, &[Event::MainExited(Exit::Code(1)), Event::Empty]);
    assert_eq!((other.phase, other.reason.as_str()), (Phase::Failed, "exited with code 1"));
}

/// A service that is up, with these lines in its `[Service]`.
fn up(lines: &str) -> (Unit, UnitState) {
    let unit = unit(&format!("[Service]\nExecStart=/main\n{lines}\n"));
    let mut state = UnitState::default();
    run(
        &unit,
        &mut state,
        &[Event::Start { fresh: true }, Event::Go, spawned(Role::Main), Event::Executed, Event::Ready],
    );
    assert_eq!(state.phase, Phase::Active, "{lines}");
    (unit, state)
}

#[test]
fn exit_codes_and_signals_may_prevent_or_force_a_restart() {
    let prevents = "Restart=always\nRestartPreventExitStatus=3 SIGUSR1";
    let forces = "Restart=no\nRestartForceExitStatus=4 TEMPFAIL";
    let signal = |signal| Exit::Signal { signal, core: false };
    for (lines, exit, phase) in [
        (prevents, Exit::Code(3), Phase::Failed),
        (prevents, Exit::Code(2), Phase::Backoff),
        (prevents, signal(libc::SIGUSR1), Phase::Failed),
        (forces, Exit::Code(4), Phase::Backoff),
        (forces, Exit::Code(75), Phase::Backoff),
        (forces, Exit::Code(1), Phase::Failed),
    ] {
        let (unit, mut state) = up(lines);
        run(&unit, &mut state, &[Event::MainExited(exit.clone()), Event::Empty]);
        assert_eq!(state.phase, phase, "{lines} {exit}");
    }
}

#[test]
fn a_service_that_forks_is_the_process_that_it_left() {
    let unit = unit("[Service]\nType=forking\nExecStart=/daemon\nPIDFile=/run/x.pid\n");
    let mut state = UnitState::default();
    let begin = [Event::Start { fresh: true }, Event::Go, spawned(Role::Main), Event::Executed];
    let actions = run(&unit, &mut state, &begin);
    assert_eq!((actions.len(), state.phase), (1, Phase::StartMain(0)));
    let actions = run(&unit, &mut state, &[Event::MainExited(Exit::Code(0))]);
    assert_eq!(actions, [UnitAction::FindMain, UnitAction::WatchEmpty]);
    assert_eq!((state.phase, state.main), (Phase::StartForked, None));
    run(&unit, &mut state, &[Event::Spawned(Role::Main, Process { pid: 99, born: 0 })]);
    assert_eq!((state.phase, state.main.map(|main| main.pid)), (Phase::Active, Some(99)));
    // Nobody knows which it is: it is up for as long as any is there.
    let mut state = UnitState::default();
    run(&unit, &mut state, &begin);
    let actions = run(&unit, &mut state, &[Event::MainExited(Exit::Code(0)), Event::NoMain]);
    assert_eq!(actions.last(), Some(&UnitAction::WatchEmpty));
    assert_eq!((state.phase, state.main), (Phase::Active, None));
    run(&unit, &mut state, &[Event::Empty, Event::Empty]);
    assert_eq!(state.phase, Phase::Done);
    // What was started failed.
    let mut state = UnitState::default();
    run(&unit, &mut state, &begin);
    run(&unit, &mut state, &[Event::MainExited(Exit::Code(1)), Event::Empty]);
    assert_eq!(state.phase, Phase::Failed);
}

#[test]
fn a_service_may_end_with_its_last_process() {
    let (unit, mut state) = up("ExitType=cgroup");
    let actions = run(&unit, &mut state, &[Event::MainExited(Exit::Code(0))]);
    assert_eq!((actions, state.phase), (vec![UnitAction::WatchEmpty], Phase::Active));
    run(&unit, &mut state, &[Event::Empty, Event::Empty]);
    assert_eq!(state.phase, Phase::Done);
}

#[test]
fn a_service_that_does_not_say_that_it_lives_is_aborted() {
    let (unit, mut state) = up("Type=notify\nWatchdogSec=2\nRestart=on-watchdog");
    assert_eq!(state.watchdog_at, Some(3_000_000));
    step(&unit, &mut state, Event::Alive, Now { mono: 2_500_000, boot: 0 });
    assert_eq!((state.watchdog_at, state.take_due(4_000_000)), (Some(4_500_000), None));
    assert_eq!(state.take_due(4_500_000), Some(Event::WatchdogLate));
    let actions = run(&unit, &mut state, &[Event::WatchdogLate]);
    assert_eq!((actions, state.phase), (vec![UnitAction::Signal(libc::SIGABRT)], Phase::StopTerm));
    run(&unit, &mut state, &[Event::MainExited(Exit::Signal { signal: libc::SIGABRT, core: true }), Event::Empty]);
    assert_eq!((state.phase, state.outcome), (Phase::Backoff, Outcome::Watchdog));
    assert!(state.reason.contains("WATCHDOG=1 within 2 s"), "{}", state.reason);
}

#[test]
fn a_service_that_stops_by_itself_has_to_end_with_success_and_what_it_leaves_is_told() {
    for (exit, phase) in [(0, Phase::Done), (3, Phase::Backoff)] {
        let (unit, mut state) = up("Type=notify\nWatchdogSec=2\nRestart=on-failure");
        let actions = run(&unit, &mut state, &[Event::Stopping]);
        assert_eq!((actions, state.phase, state.watchdog_at), (Vec::new(), Phase::StopTerm, None));
        let actions = run(&unit, &mut state, &[Event::MainExited(Exit::Code(exit))]);
        assert_eq!(actions, [UnitAction::Signal(libc::SIGTERM), UnitAction::AwaitEmpty]);
        run(&unit, &mut state, &[Event::Empty]);
        assert_eq!(state.phase, phase, "{exit}");
    }
    // It takes too long.
    let (unit, mut state) = up("TimeoutStopSec=5");
    run(&unit, &mut state, &[Event::Stopping]);
    assert_eq!(state.deadline, Some(6_000_000));
    let actions = run(&unit, &mut state, &[Event::Timeout]);
    assert_eq!((actions, state.outcome), (vec![UnitAction::Signal(libc::SIGKILL)], Outcome::Timeout));
}

#[test]
fn a_service_may_have_its_time_extended_but_never_cut() {
    let unit = full();
    let mut state = state_in(Phase::StartMain(0));
    state.deadline = Some(2_000_000);
    run(&unit, &mut state, &[Event::Extend(Span::millis(500))]);
    assert_eq!(state.deadline, Some(2_000_000));
    run(&unit, &mut state, &[Event::Extend(Span::seconds(5))]);
    assert_eq!(state.deadline, Some(6_000_000));
    run(&unit, &mut state, &[Event::Extend(Span::INFINITY)]);
    assert_eq!(state.deadline, None);
    let (unit, mut state) = up("RuntimeMaxSec=1");
    run(&unit, &mut state, &[Event::Extend(Span::seconds(5))]);
    assert_eq!(state.runtime_at, Some(6_000_000));
    // SIGKILL's time is not its to choose.
    let mut state = UnitState { deadline: Some(2_000_000), ..state_in(Phase::StopKill) };
    run(&unit, &mut state, &[Event::Extend(Span::seconds(5))]);
    assert_eq!(state.deadline, Some(2_000_000));
}

#[test]
fn how_often_a_service_says_that_it_lives_may_change_until_it_is_started_again() {
    let (unit, mut state) = up("Type=notify\nWatchdogSec=2");
    run(&unit, &mut state, &[Event::WatchdogSpan(Span::seconds(9))]);
    assert_eq!(state.watchdog_at, Some(10_000_000));
    run(&unit, &mut state, &[Event::WatchdogSpan(Span::ZERO)]);
    assert_eq!(state.watchdog_at, None);
    run(&unit, &mut state, &[Event::Restart, Event::Go, Event::MainExited(Exit::Code(0)), Event::Empty]);
    run(&unit, &mut state, &[Event::Go, spawned(Role::Main), Event::Ready]);
    assert_eq!(state.watchdog_at, Some(3_000_000));
}

#[test]
fn a_service_may_get_ready_on_a_descriptor() {
    let unit = unit("[Service]\nExecStart=/x\n[X-MMOS]\nReadyFD=3\n");
    let mut state = UnitState::default();
    let begin = [Event::Start { fresh: true }, Event::Go, spawned(Role::Main), Event::Executed];
    run(&unit, &mut state, &begin);
    assert_eq!(state.phase, Phase::StartMain(0));
    let mut other = state.clone();
    run(&unit, &mut state, &[Event::Ready]);
    assert_eq!(state.phase, Phase::Active);
    run(&unit, &mut other, &[Event::MainExited(Exit::Code(0)), Event::Empty]);
    let reason = "exited with code 0 before it wrote a newline to descriptor 3 (ReadyFD=)";
    assert_eq!((other.phase, other.reason.as_str()), (Phase::Failed, reason));
}

#[test]
fn a_run_may_be_bounded() {
    let (unit, mut state) = up("RuntimeMaxSec=5");
    assert_eq!(state.take_due(6_000_000), Some(Event::RuntimeOver));
    run(&unit, &mut state, &[Event::RuntimeOver, Event::MainExited(Exit::Code(0)), Event::Empty]);
    assert_eq!((state.phase, state.outcome), (Phase::Failed, Outcome::Timeout));
}

#[test]
fn a_job_may_be_bounded() {
    let text = "[Unit]\nJobTimeoutSec=3\nJobTimeoutAction=reboot\n[Service]\nType=notify\nExecStart=/x\n";
    let unit = unit(text);
    let mut state = UnitState::default();
    run(&unit, &mut state, &[Event::Start { fresh: true }]);
    assert_eq!(state.take_due(4_000_000), Some(Event::JobLate));
    let actions = run(&unit, &mut state, &[Event::JobLate]);
    assert_eq!(state.phase, Phase::Failed);
    assert!(matches!(actions[..], [UnitAction::End(_)]), "{actions:?}");
    // Once it is up, it is in time.
    let mut state = UnitState::default();
    run(&unit, &mut state, &[Event::Start { fresh: true }, Event::Go, spawned(Role::Main), Event::Ready]);
    assert_eq!((state.phase, state.due()), (Phase::Active, None));
}

#[test]
fn a_start_may_be_bounded_from_its_begin() {
    let unit = unit("[Unit]\nJobRunningTimeoutSec=3\n[Service]\nType=notify\nExecStart=/x\n");
    let mut state = UnitState::default();
    run(&unit, &mut state, &[Event::Start { fresh: true }]);
    assert_eq!(state.due(), None, "what it waits for may take as long as it likes");
    run(&unit, &mut state, &[Event::Go, spawned(Role::Main)]);
    assert_eq!(state.take_due(4_000_000), Some(Event::JobLate));
    run(&unit, &mut state, &[Event::JobLate]);
    assert_eq!((state.phase, state.outcome), (Phase::StopTerm, Outcome::Timeout));
    assert_eq!(state.reason, "it was not up within 3 s of its begin (JobRunningTimeoutSec=)");
}

#[test]
fn signals_are_those_that_the_unit_names() {
    let signals = |lines: &str, events: &[Event]| {
        let (unit, mut state) = up(lines);
        let actions = run(&unit, &mut state, events);
        actions
            .into_iter()
            .filter_map(|a| if let UnitAction::Signal(n) = a { Some(n) } else { None })
            .collect::<Vec<_>>()
    };
    let all = "KillSignal=SIGINT\nRestartKillSignal=SIGUSR2\nSendSIGHUP=yes\nFinalKillSignal=SIGQUIT";
    assert_eq!(signals(all, &[Event::Stop, Event::Go, Event::Timeout]), [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT]);
    assert_eq!(signals(all, &[Event::Restart, Event::Go]), [libc::SIGUSR2, libc::SIGHUP]);
    let (unit, mut state) = up("SendSIGKILL=no");
    run(&unit, &mut state, &[Event::Stop, Event::Go, Event::Timeout]);
    assert_eq!(state.phase, Phase::Inactive);
    assert!(state.reason.contains("SendSIGKILL=no"), "{}", state.reason);
    let (unit, mut state) = up("TimeoutAbortSec=7\nWatchdogSec=1\nNotifyAccess=main");
    run(&unit, &mut state, &[Event::WatchdogLate]);
    assert_eq!(state.deadline, Some(8_000_000));
}

#[test]
fn a_command_decides_whether_a_unit_is_left_out() {
    let unit = unit("[Service]\nExecCondition=/ask\nExecStart=/x\nRestart=always\n");
    for (exit, phase) in [
        (Exit::Code(0), Phase::StartMain(0)),
        (Exit::Code(1), Phase::Done),
        (Exit::Code(254), Phase::Done),
        (Exit::Code(255), Phase::Backoff),
        (Exit::Signal { signal: libc::SIGKILL, core: false }, Phase::Backoff),
    ] {
        let mut state = UnitState::default();
        let events = [
            Event::Start { fresh: true },
            Event::Go,
            spawned(Role::Control),
            Event::ControlExited(exit.clone()),
            Event::Empty,
        ];
        run(&unit, &mut state, &events);
        assert_eq!(state.phase, phase, "{exit}");
    }
}

#[test]
fn each_failure_in_a_row_has_an_action_of_its_own() {
    let unit = unit(
        "[Unit]\nStartLimitBurst=100\n[Service]\nExecStart=/x\nRestart=no\n\
         [X-MMOS]\nFailureActions=restart:1s restart:2s run-command reboot:3s\nFailureCommand=/bin/report\nFailureResetPeriod=1h\n",
    );
    let mut state = UnitState::default();
    let start = [Event::Start { fresh: true }, Event::Go, spawned(Role::Main), Event::Executed];
    let crash = [Event::MainExited(Exit::Code(1)), Event::Empty];
    run(&unit, &mut state, &start);
    for delay in [1_000_000, 2_000_000] {
        run(&unit, &mut state, &crash);
        assert_eq!((state.phase, state.deadline), (Phase::Backoff, Some(1_000_000 + delay)));
        run(&unit, &mut state, &[Event::Timeout, Event::Go, spawned(Role::Main), Event::Executed]);
    }
    // The third runs the command, and then it has failed.
    let mut third = state.clone();
    run(&unit, &mut third, &crash);
    let actions = run(&unit, &mut third, &[Event::Timeout]);
    assert_eq!(actions, [UnitAction::Spawn(Role::Control, CommandRef::Failure(0))]);
    run(&unit, &mut third, &[spawned(Role::Control), Event::ControlExited(Exit::Code(0)), Event::Empty]);
    assert_eq!((third.phase, third.failures), (Phase::Failed, 3));
    // The fourth, and each after it, starts the machine again.
    third.phase = Phase::Active;
    third.goal = Goal::Up;
    run(&unit, &mut third, &crash);
    let actions = run(&unit, &mut third, &[Event::Timeout]);
    assert!(matches!(actions[..], [UnitAction::End(_)]), "{actions:?}");
    assert_eq!(third.phase, Phase::Failed);
    // After an hour without a failure the count begins again.
    let late = Now { mono: 2_000_000 + 3_600_000_000, boot: 0 };
    for event in crash {
        step(&unit, &mut state, event, late);
    }
    assert_eq!((state.phase, state.failures, state.act), (Phase::Backoff, 1, Some(crate::unit::failure::Act::Restart)));
}
