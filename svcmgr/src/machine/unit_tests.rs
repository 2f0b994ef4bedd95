//! Every pair of phase and event, for a service that has commands of every kind: what it leads to, as a table.

use std::path::Path;

use super::*;
use crate::machine::Process;
use crate::unit::parse::parse;
use crate::unit::specifier::Machine;

fn unit(text: &str) -> Unit {
    let unit = parse("x.service", Path::new("/x.service"), text, &Machine::default());
    assert_eq!(unit.refused, None);
    unit
}

fn full() -> Unit {
    unit(
        "[Service]\nType=notify\nExecStartPre=/pre\nExecStart=/main\nExecStartPost=/post\nExecStop=/stop\nExecStopPost=/stoppost\nRestart=on-failure\nRestartSec=1s\n",
    )
}

const PHASES: [Phase; 17] = [
    Phase::Inactive,
    Phase::Queued,
    Phase::StartPre(0),
    Phase::StartMain(0),
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
    let control =
        matches!(phase, Phase::StartPre(_) | Phase::StartPost(_) | Phase::StopCommand(_) | Phase::StopPost(_));
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
inactive     queued - queued - - - - - - - - - - -
queued       - inactive - start-pre failed - - - - - - - - -
start-pre    - no-start no-start - - - - - - start-main term - term term
start-main   - no-start no-start - - - start-post term term - - - term term
start-post   - no-start no-start - - - - - - active term - term term
active       - held held - - - - stop stop - - - - term
no-start     - - - term - - - term term - - - - -
held         active - - stop - - - stop stop - - - - term
stop         - - - - - - - - - term term - term term
term         - - - - - - - - - - - stop-post kill -
kill         - - - - - - - - - - - stop-post - -
stop-post    - - - - - - - - - final final - final -
final        - - - - - - - - - - - done - -
backoff      queued inactive queued - - - - - - - - - queued -
done         queued - queued - - - - - - - - - - -
failed       queued - queued - - - - - - - - - - -
refused      - - - - - - - - - - - - - -
";
    let name = |phase: Phase| match phase {
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
