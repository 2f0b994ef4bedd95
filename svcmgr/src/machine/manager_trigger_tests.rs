//! Sockets and timers among other units.

use super::*;
use crate::machine::UnitState;

const SOCKET: &str = "[Socket]\nListenStream=/run/x\n[X-MMOS]\nStart=auto\n";
const SERVICE: &str = "[Service]\nType=oneshot\nExecStart=/x\n";

fn status(play: &Play, name: &str) -> (Phase, bool) {
    let state = play.machine.state(play.id(name)).unwrap();
    (state.phase, state.trigger.as_ref().is_some_and(|trigger| trigger.taken))
}

#[test]
fn what_arrives_starts_the_service_which_has_the_sockets_until_it_rests() {
    let mut play = Play::new(machine(&[("x.socket", SOCKET), ("x.service", SERVICE)]));
    play.boot();
    let (socket, service) = (play.id("x.socket"), play.id("x.service"));
    assert_eq!(status(&play, "x.socket"), (Phase::Active, false));
    assert_eq!(play.booted, 1, "a socket that listens is up");
    for round in 1..=3 {
        play.event(socket, Event::Incoming);
        assert_eq!(play.phase("x.service"), Phase::StartMain(0), "{round}");
        assert_eq!(status(&play, "x.socket"), (Phase::Active, true));
        assert_eq!(play.machine.sockets_of(service).collect::<Vec<_>>(), [socket]);
        play.exit(service, Role::Main, Exit::Code(0));
        assert_eq!(play.phase("x.service"), Phase::Done);
        assert_eq!(status(&play, "x.socket"), (Phase::Active, false));
    }
    let work: Vec<SocketWork> = play.sockets.iter().map(|(_, work)| *work).collect();
    use SocketWork::{Open, Unwatch, Watch};
    assert_eq!(work, [Open, Watch, Unwatch, Watch, Unwatch, Watch, Unwatch, Watch]);
}

#[test]
fn a_service_that_names_a_socket_gets_it_and_is_not_what_it_starts() {
    let aid = format!("{SERVICE}Sockets=x.socket\n");
    let mut play = Play::new(machine(&[("x.socket", SOCKET), ("x.service", SERVICE), ("x-aid.service", &aid)]));
    play.boot();
    let (socket, aid) = (play.id("x.socket"), play.id("x-aid.service"));
    assert_eq!(play.machine.sockets_of(aid).collect::<Vec<_>>(), [socket]);
    play.event(socket, Event::Incoming);
    assert_eq!((play.phase("x.service"), play.phase("x-aid.service")), (Phase::StartMain(0), Phase::Inactive));
    // That the other one ends is nothing to the socket.
    let waiter = play.ask(1);
    play.machine.request_start(aid, waiter, play.now).unwrap();
    play.settle();
    play.exit(aid, Role::Main, Exit::Code(0));
    assert_eq!(status(&play, "x.socket"), (Phase::Active, true));
}

#[test]
fn a_service_that_is_started_too_often_takes_its_socket_along() {
    let limited = format!("[Unit]\nStartLimitBurst=2\n{SERVICE}");
    let mut play = Play::new(machine(&[("x.socket", SOCKET), ("x.service", &limited)]));
    play.boot();
    let (socket, service) = (play.id("x.socket"), play.id("x.service"));
    for _ in 0..3 {
        play.event(socket, Event::Incoming);
        play.exit(service, Role::Main, Exit::Code(0));
    }
    assert_eq!((play.phase("x.service"), play.phase("x.socket")), (Phase::Failed, Phase::Failed));
    let reason = &play.machine.state(socket).unwrap().reason;
    assert!(reason.starts_with("x.service has failed: started 2 times within"), "{reason}");
    assert_eq!(play.sockets.last(), Some(&(socket, SocketWork::Close)));
}

#[test]
fn a_socket_comes_before_its_service_and_goes_after_it() {
    let needs = "[Service]\nExecStart=/x\n[Unit]\nRequires=x.socket y.socket\n[X-MMOS]\nStart=auto\n";
    let named = "[Socket]\nListenStream=/run/y\nService=x.service\n";
    let mut play = Play::new(machine(&[("x.socket", SOCKET), ("y.socket", named), ("x.service", needs)]));
    play.boot();
    play.event(play.id("x.service"), Event::Executed);
    assert_eq!(status(&play, "x.socket"), (Phase::Active, true));
    assert_eq!(status(&play, "y.socket"), (Phase::Active, true));
    assert!(!play.sockets.iter().any(|(_, work)| *work == SocketWork::Watch), "{:?}", play.sockets);
    assert_eq!(play.machine.sockets_of(play.id("x.service")).count(), 2);
    play.machine.shutdown(play.now);
    play.settle();
    assert_eq!((play.phase("x.service"), play.phase("x.socket")), (Phase::StopTerm, Phase::StopHeld));
    play.exit(play.id("x.service"), Role::Main, Exit::Code(0));
    assert_eq!((play.phase("x.socket"), play.phase("y.socket"), play.stopped), (Phase::Inactive, Phase::Inactive, 1));
}

#[test]
fn a_socket_is_not_opened_beside_a_service_that_runs_without_it() {
    let mut play = Play::new(machine(&[
        ("x.socket", "[Socket]\nListenStream=/run/x\n"),
        ("x.service", "[Service]\nExecStart=/x\n[X-MMOS]\nStart=auto\n"),
    ]));
    play.boot();
    play.event(play.id("x.service"), Event::Executed);
    let waiter = play.ask(1);
    play.machine.request_start(play.id("x.socket"), waiter, play.now).unwrap();
    play.settle();
    assert_eq!(play.answers[&1], Err("x.service runs already, without this socket: stop it first".to_owned()));
}

#[test]
fn what_cannot_be_started_fails_its_socket_and_its_timer() {
    let mut play = Play::new(machine(&[
        ("x.socket", SOCKET),
        ("x.timer", "[Timer]\nOnActiveSec=1\n[X-MMOS]\nStart=auto\n"),
        ("x.service", "[Service]\nExecStart=/x\n[X-MMOS]\nStart=disabled\n"),
        ("none.socket", "[Socket]\nListenStream=/run/y\n[X-MMOS]\nStart=auto\n"),
    ]));
    play.boot();
    assert!(play.machine.state(play.id("none.socket")).unwrap().reason.contains("none.service, which does not exist"));
    play.event(play.id("x.socket"), Event::Incoming);
    play.pass(1_000_000);
    for name in ["x.socket", "x.timer"] {
        let state = play.machine.state(play.id(name)).unwrap();
        assert_eq!(state.phase, Phase::Failed, "{name}");
        assert_eq!(state.reason, "x.service cannot be started: disabled by unit", "{name}");
    }
}

#[test]
fn a_timer_starts_its_unit_again_and_again_with_what_that_needs() {
    let mut play = Play::new(machine(&[
        ("x.timer", "[Timer]\nOnStartupSec=4\nOnUnitActiveSec=10\nUnit=y.service\n[X-MMOS]\nStart=auto\n"),
        ("y.service", "[Unit]\nRequires=z.service\nAfter=z.service\n[Service]\nType=oneshot\nExecStart=/y\n"),
        ("z.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/z\n"),
    ]));
    play.now = Now { mono: 2_000_000, boot: 2_000_000 };
    play.machine.set_startup(1_000_000);
    play.boot();
    assert_eq!(play.machine.next_deadline(), Some(5_000_000));
    play.pass(3_000_000);
    assert_eq!((play.phase("z.service"), play.phase("y.service")), (Phase::StartMain(0), Phase::Queued));
    play.be_fair();
    assert_eq!((play.phase("z.service"), play.phase("y.service")), (Phase::Active, Phase::Done));
    for at in [15_000_000, 25_000_000] {
        assert_eq!(play.machine.next_deadline(), Some(at));
        play.pass(at - play.now.mono);
        assert_eq!(play.phase("y.service"), Phase::StartMain(0));
        play.be_fair();
    }
}

#[test]
fn a_timer_waits_for_a_unit_that_was_up_before_it() {
    let mut play = Play::new(machine(&[
        ("x.timer", "[Timer]\nOnUnitInactiveSec=10\n"),
        ("x.service", "[Service]\nExecStart=/x\n[X-MMOS]\nStart=auto\n"),
    ]));
    play.boot();
    play.event(play.id("x.service"), Event::Executed);
    let waiter = play.ask(1);
    play.machine.request_start(play.id("x.timer"), waiter, play.now).unwrap();
    play.settle();
    assert_eq!((status(&play, "x.timer"), play.answers[&1].clone()), ((Phase::Active, true), Ok(())));
    play.exit(play.id("x.service"), Role::Main, Exit::Code(0));
    assert_eq!(play.machine.next_deadline(), Some(play.now.mono + 10_000_000));
}

#[test]
fn the_next_supervisor_watches_opens_and_closes_what_is_to_be_and_hears_what_was_not_told() {
    let units = [
        ("a.socket", "[Socket]\nListenStream=/run/a\n"),
        ("a.service", SERVICE),
        ("b.socket", "[Socket]\nListenStream=/run/b\n"),
        ("b.service", SERVICE),
        ("c.socket", "[Socket]\nListenStream=/run/c\n"),
        ("c.service", SERVICE),
        ("t.timer", "[Timer]\nOnBootSec=1h\n"),
        ("t.service", SERVICE),
    ];
    let mut play = Play::new(machine(&units));
    let taken = |taken, alarm_at| {
        Some(Box::new(crate::machine::TriggerState { taken, alarm_at, ..crate::machine::TriggerState::default() }))
    };
    let up = UnitState { phase: Phase::Active, goal: Goal::Up, ..UnitState::default() };
    for (name, state) in [
        ("a.socket", UnitState { trigger: taken(false, None), ..up.clone() }),
        // Its service has come to rest, and nobody has told.
        ("b.socket", UnitState { trigger: taken(true, None), ..up.clone() }),
        // Closed, as far as was written down.
        ("c.socket", UnitState::default()),
        ("t.timer", UnitState { trigger: taken(false, Some(9_000_000)), ..up }),
    ] {
        let id = play.id(name);
        play.machine.restore(id, state);
    }
    let all = ["a.socket", "b.socket", "c.socket", "t.timer"].map(|name| play.id(name));
    play.machine.boot(play.now, &BTreeSet::from(all));
    play.settle();
    let [a, b, c, _] = all;
    let work = |id| play.sockets.iter().filter(|(other, _)| *other == id).map(|(_, work)| *work).collect::<Vec<_>>();
    assert_eq!(work(a), [SocketWork::Open, SocketWork::Watch]);
    assert_eq!(work(b), [SocketWork::Open, SocketWork::Watch]);
    assert_eq!(work(c), [SocketWork::Close]);
    assert_eq!(play.machine.next_deadline(), Some(9_000_000));
    play.pass(9_000_000);
    assert_eq!(play.phase("t.service"), Phase::StartMain(0));
}
