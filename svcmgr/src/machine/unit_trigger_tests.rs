//! Sockets and timers, one at a time: every pair of phase and event, and how their runs go.

use std::path::Path;

use super::*;
use crate::machine::{Exit, Goal, Outcome, Verdict};
use crate::unit::parse::parse;
use crate::unit::specifier::Machine;

fn unit(name: &str, text: &str) -> Unit {
    let unit = parse(name, Path::new("/u"), text, &Machine::default());
    assert_eq!(unit.refused, None);
    unit
}

fn socket(lines: &str) -> Unit {
    unit("x.socket", &format!("[Socket]\nListenStream=/run/x\n{lines}\n"))
}

fn timer(lines: &str) -> Unit {
    unit("x.timer", &format!("[Timer]\n{lines}\n"))
}

fn at(seconds: u64) -> Now {
    Now { mono: seconds.saturating_mul(1_000_000), boot: seconds.saturating_mul(1_000_000) }
}

/// Plays events at one time; the actions.
fn play(unit: &Unit, state: &mut UnitState, seconds: u64, events: &[Event]) -> Vec<UnitAction> {
    events.iter().flat_map(|event| step(unit, state, event.clone(), at(seconds))).collect()
}

/// One that is up since the tenth second.
fn up(unit: &Unit) -> UnitState {
    let mut state = UnitState::default();
    play(unit, &mut state, 10, &[Event::Start { fresh: true }, Event::Go, Event::Executed]);
    assert_eq!(state.phase, Phase::Active);
    state
}

const OPEN: UnitAction = UnitAction::Sockets(SocketWork::Open);
const WATCH: UnitAction = UnitAction::Sockets(SocketWork::Watch);
const UNWATCH: UnitAction = UnitAction::Sockets(SocketWork::Unwatch);
const CLOSE: UnitAction = UnitAction::Sockets(SocketWork::Close);

#[test]
fn what_moves_sockets_and_timers_is_decided_in_every_phase() {
    let events = || {
        [
            Event::Incoming,
            Event::Alarm,
            Event::Taken,
            Event::Released(None),
            Event::Released(Some("no".into())),
            Event::TriggerFailed("no".into()),
        ]
    };
    let phases = [
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
    // Only one that is up is moved: to what it starts, or, where that cannot be, to failure.
    let of_sockets = ["Active, Trigger", "-", "Unwatch", "-", "Failed, Close, Unwatch", "Failed, Close, Unwatch"];
    let of_timers = ["-", "Active, Trigger", "-", "-", "-", "Failed"];
    for (unit, expected) in [(socket(""), of_sockets), (timer("OnUnitActiveSec=1h"), of_timers)] {
        for phase in phases {
            for (event, expected) in events().into_iter().zip(expected) {
                let mut state = UnitState { phase, goal: Goal::Up, ..UnitState::default() };
                state.trigger = Some(Box::default());
                let actions = step(&unit, &mut state, event.clone(), at(1));
                let words = actions.iter().map(|action| match action {
                    UnitAction::Sockets(work) => format!("{work:?}"),
                    other => format!("{other:?}"),
                });
                let moved = state.phase != phase || actions.contains(&UnitAction::Trigger);
                let all: Vec<String> = moved.then(|| format!("{:?}", state.phase)).into_iter().chain(words).collect();
                let said = if all.is_empty() { "-".to_owned() } else { all.join(", ") };
                let expected = if phase == Phase::Active { expected } else { "-" };
                assert_eq!(said, expected, "{} {phase:?} {event:?}", unit.name);
            }
        }
    }
}

#[test]
fn a_socket_is_opened_watched_given_away_and_closed() {
    let unit = socket("ExecStartPre=/pre\nExecStopPost=/after");
    let mut state = UnitState::default();
    let ok = Event::ControlExited(Exit::Code(0));
    let actions = play(&unit, &mut state, 1, &[Event::Start { fresh: true }, Event::Go, ok.clone()]);
    assert_eq!(actions, [UnitAction::Spawn(Role::Control, CommandRef::StartPre(0)), OPEN]);
    assert_eq!(play(&unit, &mut state, 1, &[Event::Executed]), [WATCH]);
    assert_eq!(play(&unit, &mut state, 2, &[Event::Incoming]), [UnitAction::Trigger]);
    assert_eq!(play(&unit, &mut state, 2, &[Event::Taken]), [UNWATCH]);
    // What arrives meanwhile is the service's.
    assert_eq!(play(&unit, &mut state, 3, &[Event::Incoming]), []);
    assert_eq!(play(&unit, &mut state, 4, &[Event::Released(None)]), [WATCH]);
    // Held back by its service, it does not start it any more.
    assert_eq!(play(&unit, &mut state, 5, &[Event::Stop, Event::Incoming]), [UNWATCH]);
    let actions = play(&unit, &mut state, 5, &[Event::Go, Event::Empty]);
    let after = UnitAction::Spawn(Role::Control, CommandRef::StopPost(0));
    assert_eq!(actions, [UnitAction::Signal(libc::SIGTERM), UnitAction::AwaitEmpty, CLOSE, after]);
    play(&unit, &mut state, 5, &[ok, Event::Empty]);
    assert_eq!(state.phase, Phase::Inactive);
}

#[test]
fn a_socket_that_cannot_be_opened_has_failed_and_is_closed_whole() {
    let unit = socket("");
    let mut state = UnitState::default();
    let exit = Exit::NotExecuted("ListenStream=/run/x cannot be opened: no".into());
    let events = [Event::Start { fresh: true }, Event::Go, Event::MainExited(exit)];
    assert_eq!(play(&unit, &mut state, 1, &events), [OPEN, CLOSE]);
    assert_eq!((state.phase, state.reason.as_str()), (Phase::Failed, "ListenStream=/run/x cannot be opened: no"));
}

#[test]
fn a_socket_whose_service_takes_nothing_pauses_and_then_has_failed() {
    let unit = socket("PollLimitBurst=2\nPollLimitIntervalSec=5\nTriggerLimitBurst=3\nTriggerLimitIntervalSec=1h");
    let mut state = up(&unit);
    let again = [Event::Incoming, Event::Taken, Event::Released(None)];
    for _ in 0..2 {
        assert_eq!(play(&unit, &mut state, 11, &again), [UnitAction::Trigger, UNWATCH, WATCH]);
    }
    assert_eq!(play(&unit, &mut state, 12, &[Event::Incoming]), [UNWATCH]);
    assert_eq!((state.phase, state.due()), (Phase::Active, Some(16_000_000)));
    assert_eq!(state.take_due(16_000_000), Some(Event::Alarm));
    // The alarm is taken from the state before it is told.
    state.trigger.as_mut().unwrap().alarm_at = Some(16_000_000);
    assert_eq!(play(&unit, &mut state, 17, &[Event::Alarm]), [WATCH]);
    assert_eq!(play(&unit, &mut state, 17, &again), [UnitAction::Trigger, UNWATCH, WATCH]);
    play(&unit, &mut state, 18, &[Event::Incoming]);
    assert_eq!((state.phase, state.outcome), (Phase::Failed, Outcome::StartLimit));
    assert!(state.reason.contains("more than 3 times within 3600 s (TriggerLimitBurst="), "{}", state.reason);
}

#[test]
fn a_service_is_started_for_each_connection() {
    let unit = unit("x.socket", "[Socket]\nListenStream=/run/x\nAccept=yes\n");
    let mut state = up(&unit);
    assert_eq!(
        play(&unit, &mut state, 11, &[Event::Incoming, Event::Incoming]),
        [UnitAction::Accept, UnitAction::Accept]
    );
    assert!(is_watching(unit.kind, &state));
}

#[test]
fn a_timer_elapses_waits_for_its_unit_and_elapses_again() {
    let unit = timer("OnActiveSec=5\nOnUnitInactiveSec=7");
    let mut state = up(&unit);
    assert_eq!(state.due(), Some(15_000_000));
    assert_eq!(state.take_due(15_000_000), Some(Event::Alarm));
    assert_eq!(play(&unit, &mut state, 15, &[Event::Alarm]), [UnitAction::Trigger]);
    play(&unit, &mut state, 15, &[Event::Taken]);
    assert_eq!(state.due(), None);
    play(&unit, &mut state, 18, &[Event::Released(None)]);
    assert_eq!(state.due(), Some(25_000_000));
    // Stopped, it waits for nothing; started again, it begins anew.
    play(&unit, &mut state, 20, &[Event::Stop, Event::Go]);
    assert_eq!((state.phase, state.due()), (Phase::Inactive, None));
    play(&unit, &mut state, 30, &[Event::Start { fresh: true }, Event::Go]);
    assert_eq!(state.due(), Some(25_000_000), "its unit's last end counts on");
}

#[test]
fn a_timer_that_has_nothing_left_to_wait_for_stays_or_has_done_its_work() {
    for (lines, phase) in [("", Phase::Active), ("RemainAfterElapse=no", Phase::Done)] {
        let unit = timer(&format!("OnActiveSec=5\n{lines}"));
        let mut state = up(&unit);
        state.take_due(15_000_000);
        play(&unit, &mut state, 15, &[Event::Alarm, Event::Taken, Event::Released(None)]);
        assert_eq!((state.phase, state.due()), (phase, None), "{lines}");
    }
}

#[test]
fn what_is_triggered_counts_against_its_start_limit() {
    let unit = unit("x.service", "[Unit]\nStartLimitBurst=2\n[Service]\nType=oneshot\nExecStart=/x\n");
    let mut state = UnitState::default();
    let run = [Event::Triggered, Event::Go, Event::MainExited(Exit::Code(0)), Event::Empty];
    for _ in 0..2 {
        play(&unit, &mut state, 1, &run);
        assert_eq!(state.phase, Phase::Done);
    }
    play(&unit, &mut state, 1, &run);
    assert_eq!((state.phase, state.outcome), (Phase::Failed, Outcome::StartLimit));
    // Whoever asks for it begins anew.
    play(&unit, &mut state, 1, &[Event::Start { fresh: true }, Event::Go]);
    assert_eq!(state.phase, Phase::StartMain(0));
}

#[test]
fn a_connection_is_let_go_however_its_service_ends_and_counts_against_no_start_limit() {
    let unit = unit("x@0.service", "[Unit]\nStartLimitBurst=2\nConditionPathExists=/x\n[Service]\nExecStart=/x\n");
    let clean = UnitAction::Clean { restarting: false };
    let blocked = [Event::Blocked("no".into())];
    let skipped = [Event::Go, Event::Asked(Verdict::Skip("no".into()))];
    let stopped = [Event::Stop];
    let run = [Event::Go, Event::Asked(Verdict::Go), Event::MainExited(Exit::Code(0)), Event::Empty];
    for events in [&blocked[..], &skipped, &stopped, &run, &run, &run] {
        let mut state = UnitState { connection: Some("there".into()), ..UnitState::default() };
        state.limit_count = 2;
        play(&unit, &mut state, 1, &[Event::Start { fresh: true }]);
        let actions = play(&unit, &mut state, 1, events);
        assert_eq!(actions.last(), Some(&clean), "{events:?} {}", state.reason);
        assert_eq!(state.connection, None);
    }
}

#[test]
fn what_a_service_leaves_is_cleared_away_when_it_rests_out_of_a_delay_too() {
    let unit = unit(
        "x.service",
        "[Unit]\nStartLimitBurst=2\n[Service]\nExecStart=/x\nRestart=always\nFileDescriptorStoreMax=1\n",
    );
    let clean = |restarting| UnitAction::Clean { restarting };
    let run = [Event::Go, Event::Asked(Verdict::Go), Event::MainExited(Exit::Code(1)), Event::Empty];
    let mut state = UnitState::default();
    play(&unit, &mut state, 1, &[Event::Start { fresh: true }]);
    let actions = play(&unit, &mut state, 1, &run);
    assert_eq!((state.phase, actions.last()), (Phase::Backoff, Some(&clean(true))));
    let mut stopped = state.clone();
    assert_eq!(play(&unit, &mut stopped, 1, &[Event::Stop]).last(), Some(&clean(false)));
    // And where it is started too often.
    play(&unit, &mut state, 1, &[Event::Timeout]);
    play(&unit, &mut state, 1, &run);
    play(&unit, &mut state, 1, &[Event::Timeout]);
    let actions = play(&unit, &mut state, 1, &[Event::Go, Event::Asked(Verdict::Go)]);
    assert_eq!((state.phase, state.outcome), (Phase::Failed, Outcome::StartLimit));
    assert!(actions.contains(&clean(false)), "{actions:?}");
}
