//! Units together: order, requirement, requests, and, by random play, what must always hold.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::boot::LIVES;
use super::*;
use crate::load::Loaded;
use crate::machine::{CommandRef, Exit, Goal, Process, Role, SocketWork, Verdict};
use crate::unit::ServiceType;
use crate::unit::failure::EndAction;
use crate::unit::parse::parse;

fn machine(units: &[(&str, &str)]) -> Machine {
    let mut loaded = Loaded::default();
    for (name, text) in units {
        let unit = parse(name, Path::new("/u"), text, &crate::unit::specifier::Machine::default());
        loaded.units.insert((*name).to_owned(), unit);
    }
    let graph = Graph::new(loaded);
    let starts = graph.units.iter().map(|unit| (unit.start.unwrap_or(StartType::Demand), "unit".to_owned())).collect();
    Machine::new(graph, starts)
}

/// A host in a few lines: every process that is asked for is made, and known.
struct Play {
    machine: Machine,
    now: Now,
    alive: BTreeMap<(UnitId, Role), i32>,
    awaited: BTreeSet<UnitId>,
    answers: BTreeMap<WaiterId, Result<(), String>>,
    asked: BTreeSet<WaiterId>,
    order: Vec<String>,
    booted: usize,
    stopped: usize,
    next_pid: i32,
    /// Units whose stop began, each with those that had a process then.
    stops: Vec<(UnitId, BTreeSet<UnitId>)>,
    /// What is said of the conditions of units.
    verdicts: BTreeMap<UnitId, Verdict>,
    /// Who asked for the end of the machine.
    ends: Vec<(UnitId, EndAction)>,
    /// What was done about sockets, and whose connections were to be taken.
    sockets: Vec<(UnitId, SocketWork)>,
    accepts: Vec<UnitId>,
}

impl Play {
    fn new(machine: Machine) -> Play {
        Play {
            machine,
            now: Now { mono: 1, boot: 1 },
            alive: BTreeMap::new(),
            awaited: BTreeSet::new(),
            answers: BTreeMap::new(),
            asked: BTreeSet::new(),
            order: Vec::new(),
            booted: 0,
            stopped: 0,
            next_pid: 100,
            stops: Vec::new(),
            verdicts: BTreeMap::new(),
            ends: Vec::new(),
            sockets: Vec::new(),
            accepts: Vec::new(),
        }
    }

    fn id(&self, name: &str) -> UnitId {
        self.machine.find(name).unwrap()
    }

    fn phase(&self, name: &str) -> Phase {
        self.machine.state(self.id(name)).unwrap().phase
    }

    /// Carries actions out until there are none.
    fn settle(&mut self) {
        loop {
            let actions = self.machine.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                if let Action::Unit(id, UnitAction::Signal(_) | UnitAction::Spawn(_, CommandRef::Stop(_))) = &action {
                    self.stops.push((*id, self.alive.keys().map(|(other, _)| *other).collect()));
                }
                match action {
                    Action::Unit(id, UnitAction::Spawn(role, command)) => {
                        self.next_pid = self.next_pid.saturating_add(1);
                        let old = self.alive.insert((id, role), self.next_pid);
                        assert_eq!(old, None, "a second {role:?} process for {id:?}");
                        self.order.push(format!("{}:{command:?}", self.machine.unit(id).unwrap().name));
                        let process = Process { pid: self.next_pid, born: 1 };
                        self.machine.event(id, Event::Spawned(role, process), self.now);
                    }
                    Action::Unit(id, UnitAction::AwaitEmpty | UnitAction::WatchEmpty) => {
                        self.awaited.insert(id);
                    }
                    Action::Unit(id, UnitAction::Ask) => {
                        let verdict = self.verdicts.get(&id).cloned().unwrap_or(Verdict::Go);
                        self.machine.event(id, Event::Asked(verdict), self.now);
                    }
                    Action::Unit(id, UnitAction::WatchName) => self.machine.event(id, Event::Named, self.now),
                    Action::Unit(id, UnitAction::FindMain) => {
                        self.machine.event(id, Event::NoMain, self.now);
                    }
                    Action::Unit(id, UnitAction::End(end)) | Action::End(id, end) => self.ends.push((id, end)),
                    Action::Unit(id, UnitAction::Signal(_)) => assert!(self.machine.unit(id).is_some()),
                    Action::Unit(id, UnitAction::Clean { .. }) => {
                        assert!(!self.alive.keys().any(|(other, _)| *other == id), "{id:?} still runs");
                    }
                    Action::Unit(id, UnitAction::Sockets(work)) => {
                        self.sockets.push((id, work));
                        if work == SocketWork::Open {
                            self.machine.event(id, Event::Executed, self.now);
                        }
                    }
                    Action::Unit(id, UnitAction::Accept) => self.accepts.push(id),
                    Action::Unit(_, UnitAction::Trigger) => panic!("the machine's own to do"),
                    Action::Changed(..) => {}
                    Action::Answer(waiter, result) => {
                        assert!(self.asked.contains(&waiter), "nobody asked {waiter}");
                        assert!(self.answers.insert(waiter, result).is_none(), "{waiter} is answered twice");
                    }
                    Action::BootComplete => self.booted = self.booted.saturating_add(1),
                    Action::AllStopped => self.stopped = self.stopped.saturating_add(1),
                }
            }
            let empty: Vec<UnitId> =
                self.awaited.iter().copied().filter(|id| !self.alive.keys().any(|(other, _)| other == id)).collect();
            for id in empty {
                self.awaited.remove(&id);
                self.machine.event(id, Event::Empty, self.now);
            }
        }
    }

    fn event(&mut self, id: UnitId, event: Event) {
        self.machine.event(id, event, self.now);
        self.settle();
    }

    fn pass(&mut self, micros: u64) {
        self.now.mono = self.now.mono.saturating_add(micros);
        self.now.boot = self.now.boot.saturating_add(micros);
        self.machine.tick(self.now);
        self.settle();
    }

    fn exit(&mut self, id: UnitId, role: Role, exit: Exit) {
        if self.alive.remove(&(id, role)).is_some() {
            let event = match role {
                Role::Main => Event::MainExited(exit),
                Role::Control => Event::ControlExited(exit),
            };
            self.event(id, event);
        }
    }

    /// One step of a host on which all goes well: a program is executed and gets ready, what is done or told to end
    /// ends. Of what can be done now, `choice` says what is. Whether there was anything.
    fn one_fair_step(&mut self, choice: usize) -> bool {
        self.settle();
        let mut can = Vec::new();
        for (id, role) in self.alive.keys() {
            let unit = self.machine.unit(*id).unwrap();
            let phase = self.machine.phase(*id);
            let oneshot = matches!(unit.service.kind, ServiceType::Oneshot | ServiceType::Forking);
            if *role == Role::Control
                || oneshot
                || phase.is_stopping() && !matches!(phase, Phase::StartHeld | Phase::StopHeld)
            {
                can.push((*id, *role, true));
            } else if matches!(phase, Phase::StartMain(_)) {
                can.push((*id, *role, false));
            }
        }
        match can.get(choice.checked_rem(can.len()).unwrap_or(0)) {
            Some((id, role, true)) => self.exit(*id, *role, Exit::Code(0)),
            Some((id, _, false)) => {
                self.event(*id, Event::Executed);
                self.event(*id, Event::Ready);
            }
            None => return false,
        }
        true
    }

    /// All goes well until nothing moves any more but by time.
    fn be_fair(&mut self) {
        for _ in 0..1000 {
            if !self.one_fair_step(0) {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn boot(&mut self) {
        self.machine.boot(self.now, &BTreeSet::new());
        self.settle();
    }

    fn ask(&mut self, waiter: WaiterId) -> WaiterId {
        self.asked.insert(waiter);
        waiter
    }

    /// Every process ends, and time passes, until nothing moves any more.
    fn run_out(&mut self) {
        for _ in 0..2000 {
            let running: Vec<(UnitId, Role)> = self.alive.keys().copied().collect();
            for (id, role) in running {
                let stopping = self.machine.state(id).unwrap().phase.is_stopping();
                if stopping || role == Role::Control {
                    self.exit(id, role, Exit::Code(0));
                }
            }
            match self.machine.next_deadline() {
                Some(at) => self.now.mono = self.now.mono.max(at),
                None if self.alive.is_empty() => return,
                None => return,
            }
            self.machine.tick(self.now);
            self.settle();
        }
    }
}

const A: &str = "[Service]\nExecStart=/a\n[X-MMOS]\nStart=auto\n";

#[test]
fn a_unit_waits_for_those_that_it_comes_after() {
    let mut play = Play::new(machine(&[("a.service", A), ("b.service", &format!("[Unit]\nAfter=a.service\n{A}"))]));
    play.boot();
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::StartMain(0), Phase::Queued));
    play.event(play.id("a.service"), Event::Executed);
    assert_eq!(play.phase("b.service"), Phase::StartMain(0));
    assert_eq!(play.booted, 0);
    play.event(play.id("b.service"), Event::Executed);
    // It might die at once.
    assert_eq!(play.booted, 0);
    play.pass(LIVES);
    assert_eq!(play.booted, 1);
    assert_eq!(play.machine.boot_summary().unwrap().up, 2);
}

#[test]
fn what_is_required_is_pulled_in_and_its_failure_is_passed_on_but_not_that_of_what_is_wanted() {
    let mut play = Play::new(machine(&[
        ("need.service", "[Service]\nExecStart=/x\n"),
        ("want.service", "[Service]\nExecStart=/x\n"),
        (
            "top.service",
            "[Unit]\nRequires=need.service\nWants=want.service\nAfter=need.service want.service\n[Service]\nExecStart=/x\n",
        ),
    ]));
    play.boot();
    let top = play.id("top.service");
    let waiter = play.ask(1);
    play.machine.request_start(top, waiter, play.now).unwrap();
    play.settle();
    play.exit(play.id("want.service"), Role::Main, Exit::NotExecuted("no".into()));
    assert_eq!((play.phase("want.service"), play.phase("top.service")), (Phase::Failed, Phase::Queued));
    play.exit(play.id("need.service"), Role::Main, Exit::NotExecuted("gone".into()));
    assert_eq!(play.phase("top.service"), Phase::Failed);
    assert_eq!(play.answers[&1], Err("requires need.service, which failed: gone".into()));
}

#[test]
fn a_stop_takes_along_what_requires_it_and_goes_backwards() {
    let mut play = Play::new(machine(&[
        ("a.service", A),
        ("b.service", &format!("[Unit]\nRequires=a.service\nAfter=a.service\n{A}")),
        ("c.service", A),
    ]));
    play.boot();
    for name in ["a.service", "b.service", "c.service"] {
        play.event(play.id(name), Event::Executed);
    }
    let waiter = play.ask(1);
    play.machine.request_stop(play.id("a.service"), waiter, play.now);
    play.settle();
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::StopHeld, Phase::StopTerm));
    play.exit(play.id("b.service"), Role::Main, Exit::Code(0));
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::StopTerm, Phase::Inactive));
    assert!(play.answers.is_empty());
    play.exit(play.id("a.service"), Role::Main, Exit::Code(0));
    assert_eq!(play.answers[&1], Ok(()));
    assert_eq!(play.phase("c.service"), Phase::Active);
}

#[test]
fn a_unit_that_is_starting_again_waits_for_those_after_it_to_stop() {
    let mut play = Play::new(machine(&[
        ("a.service", "[Service]\nType=notify\nExecStart=/x\nExecStop=/s\nRestart=always\n[X-MMOS]\nStart=auto\n"),
        ("b.service", &format!("[Unit]\nRequires=a.service\nAfter=a.service\n{A}")),
    ]));
    play.boot();
    play.be_fair();
    let a = play.id("a.service");
    play.exit(a, Role::Main, Exit::Code(1));
    play.exit(a, Role::Control, Exit::Code(0));
    play.pass(200_000);
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::StartMain(0), Phase::Active));
    let waiter = play.ask(1);
    play.machine.request_stop(a, waiter, play.now);
    play.settle();
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::StartHeld, Phase::StopTerm));
    // However far it gets meanwhile, it is not up.
    play.event(a, Event::Ready);
    assert_eq!(play.phase("a.service"), Phase::StartHeld);
    play.exit(play.id("b.service"), Role::Main, Exit::Code(0));
    assert_eq!(play.phase("a.service"), Phase::StopTerm);
    play.exit(a, Role::Main, Exit::Code(0));
    assert_eq!((play.phase("a.service"), play.answers[&1].clone()), (Phase::Inactive, Ok(())));
}

#[test]
fn a_service_that_never_gets_ready_does_not_hold_up_the_boot_for_ever() {
    let silent = "[Unit]\nStartLimitIntervalSec=1\n[Service]\nType=notify\nExecStart=/x\nRestart=always\nRestartSec=5\nTimeoutStartSec=5\n[X-MMOS]\nStart=auto\n";
    let mut play = Play::new(machine(&[
        ("silent.service", silent),
        ("after.service", &format!("[Unit]\nAfter=silent.service\n{A}")),
    ]));
    play.boot();
    for _ in 0..40 {
        let at = play.machine.next_deadline().unwrap();
        play.now.mono = at;
        play.machine.tick(play.now);
        play.settle();
        play.exit(play.id("silent.service"), Role::Main, Exit::Code(0));
        if play.phase("after.service") == Phase::StartMain(0) {
            play.event(play.id("after.service"), Event::Executed);
        }
    }
    play.pass(LIVES);
    assert_eq!((play.phase("after.service"), play.booted), (Phase::Active, 1));
}

/// A boot with a service that crashes and one that is not done yet.
fn crashing(crash: &str) -> Play {
    let mut play = Play::new(machine(&[
        ("crash.service", &format!("{crash}ExecStart=/x\nRestart=always\n[X-MMOS]\nStart=auto\n")),
        ("slow.service", "[Service]\nType=oneshot\nExecStart=/x\n[X-MMOS]\nStart=auto\n"),
    ]));
    play.boot();
    play.event(play.id("crash.service"), Event::Executed);
    play
}

/// It ends, and is brought back by `Restart=`.
fn crash(play: &mut Play) {
    let id = play.id("crash.service");
    play.exit(id, Role::Main, Exit::Code(1));
    if play.phase("crash.service") == Phase::Backoff {
        play.now.mono = play.machine.next_deadline().unwrap();
        play.machine.tick(play.now);
        play.settle();
        play.event(id, Event::Executed);
    }
}

#[test]
fn a_service_in_a_crash_loop_is_not_settled_until_its_limit_ends_it() {
    let mut play = crashing("[Service]\n");
    crash(&mut play);
    assert_eq!(play.phase("crash.service"), Phase::Active);
    play.exit(play.id("slow.service"), Role::Main, Exit::Code(0));
    for _ in 0..3 {
        assert_eq!((play.phase("crash.service"), play.booted), (Phase::Active, 0));
        crash(&mut play);
    }
    crash(&mut play);
    assert_eq!((play.phase("crash.service"), play.booted), (Phase::Failed, 1));
    let summary = play.machine.boot_summary().unwrap().clone();
    assert_eq!((summary.auto, summary.up, summary.failed.as_slice()), (2, 1, &["crash.service".to_owned()][..]));
    // What comes later does not change how the boot went.
    play.machine.request_start(play.id("crash.service"), 1, play.now).unwrap();
    play.asked.insert(1);
    play.be_fair();
    assert_eq!((play.phase("crash.service"), play.machine.boot_summary()), (Phase::Active, Some(&summary)));
}

#[test]
fn a_service_that_crashed_and_then_stays_up_is_settled_after_a_while() {
    let mut play = crashing("[Service]\n");
    crash(&mut play);
    play.exit(play.id("slow.service"), Role::Main, Exit::Code(0));
    let begun = play.now.mono;
    assert_eq!(play.booted, 0);
    play.now.mono = play.machine.next_deadline().unwrap();
    // Five starts within ten seconds are the limit: whatever crashes every two seconds does not reach it.
    assert_eq!(play.now.mono.saturating_sub(begun), 2_000_000);
    play.machine.tick(play.now);
    play.settle();
    assert_eq!((play.booted, play.machine.boot_summary().unwrap().up), (1, 2));
}

#[test]
fn a_crash_loop_without_a_limit_does_not_hold_up_the_boot_for_ever() {
    let mut play = crashing("[Unit]\nStartLimitIntervalSec=0\n[Service]\n");
    crash(&mut play);
    play.exit(play.id("slow.service"), Role::Main, Exit::Code(0));
    for _ in 0..5 {
        assert_eq!(play.booted, 0);
        crash(&mut play);
    }
    let summary = play.machine.boot_summary().unwrap();
    assert_eq!((play.booted, summary.up, summary.failed.as_slice()), (1, 1, &["crash.service".to_owned()][..]));
}

#[test]
fn what_the_profile_disables_is_neither_started_nor_pulled_in() {
    let mut play = Play::new(machine(&[
        ("off.service", "[Service]\nExecStart=/x\n[X-MMOS]\nStart=disabled\n"),
        ("on.service", &format!("[Unit]\nRequires=off.service\n{A}")),
    ]));
    play.boot();
    assert!(play.machine.request_start(play.id("off.service"), 1, play.now).is_err());
    assert_eq!(play.phase("off.service"), Phase::Inactive);
    assert_eq!(play.phase("on.service"), Phase::Failed);
}

#[test]
fn what_is_started_again_with_another_unit_gets_all_that_it_needs() {
    let mut play = Play::new(machine(&[
        ("a.service", A),
        ("b.service", "[Service]\nExecStart=/b\n"),
        ("c.service", &format!("[Unit]\nRequires=a.service b.service\nAfter=a.service b.service\n{A}")),
    ]));
    play.boot();
    play.be_fair();
    // It ends while nobody who requires it asks how.
    play.exit(play.id("b.service"), Role::Main, Exit::Code(1));
    assert_eq!((play.phase("b.service"), play.phase("c.service")), (Phase::Failed, Phase::Active));
    let waiter = play.ask(1);
    play.machine.request_restart(play.id("a.service"), waiter, play.now).unwrap();
    play.be_fair();
    assert_eq!(["a.service", "b.service", "c.service"].map(|name| play.phase(name)), [Phase::Active; 3]);
    assert_eq!(play.answers[&1], Ok(()));
}

#[derive(Debug, Clone)]
enum Move {
    Start(u8),
    Stop(u8),
    Restart(u8),
    Executed(u8),
    Ready(u8),
    Exit(u8, bool, u8),
    Time(u32),
    Shutdown,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let unit = 0u8..6;
    let one = prop_oneof![
        4 => unit.clone().prop_map(Move::Start),
        3 => unit.clone().prop_map(Move::Stop),
        2 => unit.clone().prop_map(Move::Restart),
        8 => unit.clone().prop_map(Move::Executed),
        4 => unit.clone().prop_map(Move::Ready),
        8 => (unit, any::<bool>(), 0u8..4).prop_map(|(u, main, how)| Move::Exit(u, main, how)),
        4 => (1u32..200_000_000).prop_map(Move::Time),
        1 => Just(Move::Shutdown),
    ];
    proptest::collection::vec(one, 0..60)
}

fn zoo() -> Machine {
    machine(&[
        ("u0.service", "[Service]\nExecStart=/x\nRestart=always\n[X-MMOS]\nStart=auto\n"),
        (
            "u1.service",
            "[Unit]\nRequires=u0.service\nAfter=u0.service\n[Service]\nType=notify\nExecStartPre=/p\nExecStart=/x\nExecStop=/s\nExecStopPost=/q\nRestart=on-failure\n[X-MMOS]\nStart=auto\n",
        ),
        (
            "u2.service",
            "[Unit]\nWants=u1.service\nAfter=u1.service\n[Service]\nType=oneshot\nExecStart=/x\nExecStart=/y\n[X-MMOS]\nStart=auto\n",
        ),
        (
            "u3.service",
            "[Unit]\nRequires=u2.service\nBefore=u4.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/x\nExecStop=/s\n",
        ),
        (
            "u4.service",
            "[Unit]\nRequires=u3.service u0.service\n[Service]\nExecStart=/x\nExecStartPost=/p\nRestart=on-abnormal\nRestartSec=2\n",
        ),
        ("u5.service", "[Service]\nType=bad\n"),
    ])
}

proptest! {
    #[test]
    fn whatever_happens_the_rules_hold(moves in moves()) {
        let mut play = Play::new(zoo());
        play.boot();
        let ids: Vec<UnitId> = (0..6).map(UnitId).collect();
        for (n, one) in (1u64..).zip(moves) {
            let id = |u: u8| ids[usize::from(u)];
            match one {
                Move::Start(u) => {
                    play.ask(n);
                    if play.machine.request_start(id(u), n, play.now).is_err() {
                        play.asked.remove(&n);
                    }
                }
                Move::Stop(u) => {
                    play.ask(n);
                    play.machine.request_stop(id(u), n, play.now);
                }
                Move::Restart(u) => {
                    play.ask(n);
                    if play.machine.request_restart(id(u), n, play.now).is_err() {
                        play.asked.remove(&n);
                    }
                }
                Move::Executed(u) => play.event(id(u), Event::Executed),
                Move::Ready(u) => play.event(id(u), Event::Ready),
                Move::Exit(u, main, how) => {
                    let exit = match how {
                        0 => Exit::Code(0),
                        1 => Exit::Code(1),
                        2 => Exit::Signal { signal: 11, core: false },
                        _ => Exit::Unknown,
                    };
                    play.exit(id(u), if main { Role::Main } else { Role::Control }, exit);
                }
                Move::Time(micros) => {
                    play.now.mono = play.now.mono.saturating_add(u64::from(micros));
                    play.machine.tick(play.now);
                }
                Move::Shutdown => play.machine.shutdown(play.now),
            }
            play.settle();
            for id in &ids {
                let state = play.machine.state(*id).unwrap();
                // What the machine believes runs is what runs.
                prop_assert_eq!(state.main.map(|p| p.pid), play.alive.get(&(*id, Role::Main)).copied());
                prop_assert_eq!(state.control.map(|p| p.pid), play.alive.get(&(*id, Role::Control)).copied());
                if state.phase.is_down() || matches!(state.phase, Phase::Queued | Phase::Backoff) {
                    prop_assert!(state.main.is_none() && state.control.is_none(), "{:?} at rest with a process", id);
                }
                if state.phase == Phase::Backoff {
                    prop_assert!(state.goal == Goal::Up && state.deadline.is_some());
                }
                if play.machine.is_ending() {
                    prop_assert!(!state.phase.is_starting() && state.phase != Phase::Queued, "{:?} starts at the end", id);
                }
            }
            prop_assert_eq!(play.machine.phase(UnitId(5)), Phase::Refused);
        }
        // In the end all is stopped, and everyone who asked has got an answer.
        play.machine.shutdown(play.now);
        play.settle();
        play.run_out();
        for id in &ids {
            prop_assert!(play.machine.phase(*id).is_down(), "{:?} is {:?}", id, play.machine.phase(*id));
        }
        prop_assert_eq!(play.stopped, 1);
        prop_assert!(play.booted <= 1);
        for waiter in &play.asked {
            prop_assert!(play.answers.contains_key(waiter), "{waiter} waits for ever");
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Ask {
    Start(u8),
    Stop(u8),
    Restart(u8),
    Fair(usize),
}

/// Requests of several clients, and time between them, with or without stops among them.
fn requests(stops: bool) -> impl Strategy<Value = Vec<Ask>> {
    let unit = 0u8..6;
    let one = prop_oneof![
        3 => unit.clone().prop_map(Ask::Start),
        if stops { 3 } else { 0 } => unit.clone().prop_map(Ask::Stop),
        3 => unit.prop_map(Ask::Restart),
        8 => any::<usize>().prop_map(Ask::Fair),
    ];
    proptest::collection::vec(one, 0..60)
}

/// Plays requests on a host on which all goes well, to the end: who asked for what.
fn play_requests(requests: &[Ask]) -> (Play, BTreeMap<WaiterId, Ask>) {
    let mut play = Play::new(zoo());
    let mut asked = BTreeMap::new();
    play.boot();
    for (n, ask) in (1u64..).zip(requests) {
        play.ask(n);
        let accepted = match *ask {
            Ask::Start(u) => play.machine.request_start(UnitId(u.into()), n, play.now).is_ok(),
            Ask::Restart(u) => play.machine.request_restart(UnitId(u.into()), n, play.now).is_ok(),
            Ask::Stop(u) => {
                play.machine.request_stop(UnitId(u.into()), n, play.now);
                true
            }
            Ask::Fair(choice) => {
                play.one_fair_step(choice);
                false
            }
        };
        if accepted {
            asked.insert(n, *ask);
        } else {
            play.asked.remove(&n);
        }
        play.settle();
    }
    play.be_fair();
    (play, asked)
}

proptest! {
    #[test]
    fn every_request_is_answered_without_anything_else_having_to_happen(requests in requests(true)) {
        let (play, asked) = play_requests(&requests);
        for (waiter, ask) in &asked {
            // That none is answered twice, the play sees to.
            prop_assert!(play.answers.contains_key(waiter), "{:?} waits for ever; {:?}", ask, play.order);
        }
        prop_assert_eq!(play.answers.len(), asked.len());
        for id in (0..5).map(UnitId) {
            let phase = play.machine.phase(id);
            prop_assert!(phase == Phase::Active || phase.is_down(), "{:?} stays {:?}", id, phase);
        }
    }

    #[test]
    fn no_start_or_restart_fails_where_nobody_stops(requests in requests(false)) {
        let (play, asked) = play_requests(&requests);
        for (waiter, ask) in &asked {
            prop_assert_eq!(play.answers.get(waiter), Some(&Ok(())), "{:?}", ask);
        }
    }
}

/// A line of services, each after the one before, that come back when they end.
fn line() -> Machine {
    let unit = |n: u32, kind: &str| {
        let after = n.checked_sub(1).map_or(String::new(), |before| format!("After=u{before}.service"));
        let text = format!(
            "[Unit]\n{after}\nStartLimitIntervalSec=0\n[Service]\nType={kind}\nExecStartPre=/p\nExecStart=/x\nRestart=always\n[X-MMOS]\nStart=auto\n"
        );
        (format!("u{n}.service"), text)
    };
    let units: Vec<(String, String)> =
        (0..5).zip(["exec", "notify", "exec", "notify", "exec"]).map(|(n, kind)| unit(n, kind)).collect();
    machine(&units.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>())
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Fair(usize),
    Crash(u32),
    Pass,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let one = prop_oneof![
        6 => any::<usize>().prop_map(Fate::Fair),
        2 => (0u32..5).prop_map(Fate::Crash),
        2 => Just(Fate::Pass),
    ];
    proptest::collection::vec(one, 0..60)
}

proptest! {
    #[test]
    fn whatever_each_is_doing_all_are_stopped_in_the_reverse_order(fates in fates()) {
        let mut play = Play::new(line());
        play.boot();
        for fate in fates {
            match fate {
                Fate::Fair(choice) => {
                    play.one_fair_step(choice);
                }
                Fate::Crash(n) => play.exit(UnitId(n), Role::Main, Exit::Code(1)),
                Fate::Pass => play.pass(150_000),
            }
        }
        play.settle();
        play.stops.clear();
        // What has ended by itself is cleared away at once, whatever the order.
        let ended: BTreeSet<UnitId> = (0..5).map(UnitId).filter(|id| play.machine.phase(*id).is_stopping()).collect();
        play.machine.shutdown(play.now);
        play.be_fair();
        play.settle();
        prop_assert_eq!(play.stopped, 1);
        for (id, alive) in play.stops.iter().filter(|(id, _)| !ended.contains(id)) {
            for later in play.machine.node(*id).before.iter() {
                prop_assert!(!alive.contains(later), "{:?} is stopped while {:?} still runs", id, later);
            }
        }
    }
}

#[test]
fn what_is_bound_to_a_unit_ends_with_it_and_what_requires_it_does_not() {
    let mut play = Play::new(machine(&[
        ("a.service", A),
        ("bound.service", &format!("[Unit]\nBindsTo=a.service\nAfter=a.service\n{A}")),
        ("needs.service", &format!("[Unit]\nRequires=a.service\nAfter=a.service\n{A}")),
    ]));
    play.boot();
    play.be_fair();
    play.exit(play.id("a.service"), Role::Main, Exit::Code(0));
    play.be_fair();
    assert_eq!(play.phase("a.service"), Phase::Done);
    assert_eq!((play.phase("bound.service"), play.phase("needs.service")), (Phase::Inactive, Phase::Active));
}

#[test]
fn a_part_is_stopped_and_started_again_with_its_whole() {
    let mut play = Play::new(machine(&[
        ("whole.service", A),
        ("part.service", &format!("[Unit]\nPartOf=whole.service\n{A}")),
        ("along.service", &format!("[Unit]\nStopPropagatedFrom=whole.service\n{A}")),
    ]));
    play.boot();
    play.be_fair();
    play.order.clear();
    let (whole, waiter) = (play.id("whole.service"), play.ask(1));
    play.machine.request_restart(whole, waiter, play.now).unwrap();
    play.be_fair();
    assert_eq!(play.order, ["part.service:Start(0)", "whole.service:Start(0)"]);
    let waiter = play.ask(2);
    play.machine.request_stop(whole, waiter, play.now);
    play.be_fair();
    for name in ["whole.service", "part.service", "along.service"] {
        assert_eq!(play.phase(name), Phase::Inactive, "{name}");
    }
}

#[test]
fn units_that_conflict_are_never_up_together() {
    let conflict = "[Unit]\nConflicts=a.service\n[Service]\nExecStart=/b\n";
    let mut play = Play::new(machine(&[("a.service", A), ("b.service", conflict)]));
    play.boot();
    play.be_fair();
    let (a, b) = (play.id("a.service"), play.id("b.service"));
    let waiter = play.ask(1);
    play.machine.request_start(b, waiter, play.now).unwrap();
    play.settle();
    // Not before the other one is gone.
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::StopTerm, Phase::Queued));
    play.be_fair();
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::Inactive, Phase::Active));
    // It counts from either side.
    let waiter = play.ask(2);
    play.machine.request_start(a, waiter, play.now).unwrap();
    play.be_fair();
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::Active, Phase::Inactive));
}

#[test]
fn a_restart_of_what_is_at_rest_makes_way_as_a_start_does() {
    let conflict = "[Unit]\nConflicts=a.service\n[Service]\nExecStart=/b\n";
    let mut play = Play::new(machine(&[("a.service", A), ("b.service", conflict)]));
    play.boot();
    play.be_fair();
    let waiter = play.ask(1);
    play.machine.request_restart(play.id("b.service"), waiter, play.now).unwrap();
    play.be_fair();
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::Inactive, Phase::Active));
}

#[test]
fn of_two_that_conflict_and_start_at_boot_one_is_told_why_it_does_not() {
    let mut play = Play::new(machine(&[("a.service", A), ("b.service", &format!("[Unit]\nConflicts=a.service\n{A}"))]));
    play.boot();
    play.be_fair();
    assert_eq!((play.phase("a.service"), play.phase("b.service")), (Phase::Active, Phase::Failed));
    let reason = &play.machine.state(play.id("b.service")).unwrap().reason;
    assert_eq!(reason, "conflicts with a.service, which is started together with it (Conflicts=)");
}

#[test]
fn what_is_requisite_has_to_be_up_already() {
    let requisite = "[Unit]\nRequisite=a.service\n[Service]\nExecStart=/b\n";
    let mut play = Play::new(machine(&[("a.service", "[Service]\nExecStart=/a\n"), ("b.service", requisite)]));
    play.boot();
    let (a, b) = (play.id("a.service"), play.id("b.service"));
    let waiter = play.ask(1);
    play.machine.request_start(b, waiter, play.now).unwrap();
    play.be_fair();
    assert_eq!(play.phase("a.service"), Phase::Inactive);
    assert_eq!(play.answers[&1], Err("needs a.service to be up already (Requisite=), and it is inactive".into()));
    for (waiter, id) in [(2, a), (3, b)] {
        let waiter = play.ask(waiter);
        play.machine.request_start(id, waiter, play.now).unwrap();
        play.be_fair();
    }
    assert_eq!(play.answers[&3], Ok(()));
}

#[test]
fn a_failure_or_success_starts_the_units_that_are_for_it() {
    let text = |more: &str| {
        format!(
            "[Unit]\nOnFailure=alarm.service\nOnSuccess=next.service\n[Service]\nType=oneshot\nExecStart=/x\n{more}"
        )
    };
    let mut play = Play::new(machine(&[
        ("work.service", &text("")),
        ("alarm.service", "[Service]\nExecStart=/x\n"),
        ("next.service", "[Service]\nExecStart=/x\n"),
    ]));
    play.boot();
    let work = play.id("work.service");
    for (waiter, code, started) in [(1, 0, "next.service"), (2, 1, "alarm.service")] {
        play.order.clear();
        let waiter = play.ask(waiter);
        play.machine.request_start(work, waiter, play.now).unwrap();
        play.settle();
        play.exit(work, Role::Main, Exit::Code(code));
        play.be_fair();
        assert_eq!(play.order, ["work.service:Start(0)", &format!("{started}:Start(0)")]);
    }
}

#[test]
fn each_failure_starts_the_unit_that_is_for_it_anew() {
    let work = "[Unit]\nOnFailure=alarm.service\n[Service]\nType=oneshot\nExecStart=/x\n";
    let mut play =
        Play::new(machine(&[("work.service", work), ("alarm.service", "[Service]\nType=oneshot\nExecStart=/x\n")]));
    play.boot();
    let (work, alarm) = (play.id("work.service"), play.id("alarm.service"));
    for waiter in 1..=3 {
        play.order.clear();
        let waiter = play.ask(waiter);
        play.machine.request_start(work, waiter, play.now).unwrap();
        play.settle();
        play.exit(work, Role::Main, Exit::Code(1));
        play.settle();
        assert_eq!(play.order, ["work.service:Start(0)", "alarm.service:Start(0)"]);
        play.exit(alarm, Role::Main, Exit::Code(0));
        play.be_fair();
        assert_eq!((play.phase("work.service"), play.phase("alarm.service")), (Phase::Failed, Phase::Done));
    }
}

#[test]
fn conditions_leave_a_unit_out_and_assertions_fail_it() {
    let asks = |more: &str| format!("[Unit]\nConditionPathExists=/x\n[Service]\nExecStart=/x\n{more}");
    let needs = "[Unit]\nRequires=a.service\nAfter=a.service\n[Service]\nExecStart=/x\n[X-MMOS]\nStart=auto\n";
    for (verdict, phase, other) in [
        (Verdict::Go, Phase::Active, Phase::Active),
        (Verdict::Skip("not so".into()), Phase::Done, Phase::Active),
        (Verdict::Fail("not so".into()), Phase::Failed, Phase::Failed),
    ] {
        let mut play = Play::new(machine(&[("a.service", &asks("")), ("b.service", needs)]));
        play.verdicts.insert(play.id("a.service"), verdict.clone());
        play.boot();
        play.be_fair();
        assert_eq!((play.phase("a.service"), play.phase("b.service")), (phase, other), "{verdict:?}");
    }
}

#[test]
fn an_idle_unit_waits_for_all_others_but_not_for_ever() {
    let idle = "[Service]\nType=idle\nExecStart=/x\n[X-MMOS]\nStart=auto\n";
    let slow = "[Service]\nType=notify\nExecStart=/x\n[X-MMOS]\nStart=auto\n";
    let mut play = Play::new(machine(&[("idle.service", idle), ("other.service", idle), ("slow.service", slow)]));
    play.boot();
    assert_eq!((play.phase("idle.service"), play.phase("other.service")), (Phase::Queued, Phase::Queued));
    let mut patient = Play::new(machine(&[("idle.service", idle), ("slow.service", slow)]));
    patient.boot();
    play.event(play.id("slow.service"), Event::Ready);
    assert_eq!((play.phase("idle.service"), play.phase("other.service")), (Phase::StartMain(0), Phase::StartMain(0)));
    patient.pass(4_900_000);
    assert_eq!(patient.phase("idle.service"), Phase::Queued);
    patient.pass(200_000);
    assert_eq!(
        (patient.phase("idle.service"), patient.phase("slow.service")),
        (Phase::StartMain(0), Phase::StartMain(0))
    );
}

#[test]
fn failures_and_error_control_may_end_the_machine() {
    use crate::unit::failure::EndAction;
    let of = |lines: &str, mmos: &str| {
        format!("[Unit]\n{lines}\n[Service]\nType=oneshot\nExecStart=/x\n[X-MMOS]\nStart=auto\n{mmos}\n")
    };
    let reboot = |at_once| EndAction { ending: link::Ending::Reboot, at_once };
    let poweroff = EndAction { ending: link::Ending::Poweroff, at_once: false };
    for (lines, mmos, code, end) in [
        ("FailureAction=reboot", "", 1, Some(reboot(false))),
        ("FailureAction=reboot", "", 0, None),
        ("SuccessAction=poweroff", "", 0, Some(poweroff)),
        ("", "ErrorControl=severe", 1, Some(reboot(false))),
        ("", "ErrorControl=critical", 1, Some(reboot(true))),
        ("", "ErrorControl=normal", 1, None),
    ] {
        let mut play = Play::new(machine(&[("a.service", &of(lines, mmos))]));
        play.boot();
        let a = play.id("a.service");
        play.exit(a, Role::Main, Exit::Code(code));
        play.be_fair();
        assert_eq!(play.ends, end.map(|end| (a, end)).into_iter().collect::<Vec<_>>(), "{lines} {mmos} {code}");
    }
    // The boot is as good without it.
    let mut play = Play::new(machine(&[("a.service", &of("", "ErrorControl=ignore"))]));
    play.boot();
    play.exit(play.id("a.service"), Role::Main, Exit::Code(1));
    play.be_fair();
    let summary = play.machine.boot_summary().unwrap();
    assert_eq!((summary.auto, summary.failed.len()), (0, 0));
}

#[path = "manager_trigger_tests.rs"]
mod triggers;
