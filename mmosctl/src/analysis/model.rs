//! What belongs to the boot, its phases, and which unit waited for which. Times are microseconds since the kernel
//! started.

use mmos::control::{BootTimes, BootUnit};

/// The step of init that is its second stage; `init::timeline`.
const STAGE2: &str = "stage2";

/// A boot.
#[derive(Debug)]
pub struct Model<'a> {
    /// What the supervisor told.
    pub boot: &'a BootTimes,
    /// The units that were started in it, in the order in which they could be.
    pub units: Vec<&'a BootUnit>,
}

/// A part of the boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    pub name: &'static str,
    pub begin: i64,
    pub end: i64,
}

impl Phase {
    pub fn took(&self) -> i64 {
        self.end.saturating_sub(self.begin)
    }
}

impl<'a> Model<'a> {
    pub fn new(boot: &'a BootTimes) -> Model<'a> {
        // What is asked for later has nothing to do with the boot.
        let belongs = |unit: &&BootUnit| !boot.complete || boot.upAt == 0 || unit.queuedAt <= boot.upAt;
        let mut units: Vec<&BootUnit> = boot.units.iter().filter(belongs).collect();
        units.sort_by_key(|unit| (unit.runnableAt.unwrap_or(unit.queuedAt), unit.queuedAt, unit.name.as_str()));
        Model { boot, units }
    }

    /// A unit that was started in this boot.
    pub fn find(&self, name: &str) -> Option<&'a BootUnit> {
        self.units.iter().copied().find(|unit| unit.name == name)
    }

    /// When the last unit was ready, or had failed; what is known last, while one is on its way.
    pub fn end(&self) -> i64 {
        let known = |unit: &&BootUnit| over(unit).or(unit.runnableAt).unwrap_or(unit.queuedAt);
        let own = &self.boot.supervisor;
        let stages = self.boot.stages.iter().map(|stage| stage.end);
        let all = self.units.iter().map(known).chain(stages).chain([own.beganAt, own.loadedAt, own.bootedAt]);
        all.max().unwrap_or(0)
    }

    /// The phases that there are, each from the end of the one before.
    pub fn phases(&self) -> Vec<Phase> {
        let (own, stages) = (&self.boot.supervisor, &self.boot.stages);
        let second = stages.iter().find(|stage| stage.name == STAGE2);
        let first = stages.iter().find(|stage| stage.name != STAGE2);
        let runnable = self.units.iter().filter_map(|unit| unit.runnableAt).min();
        let ends = [
            // Without our init it is not known when the kernel was done.
            ("kernel", stages.first().map(|stage| stage.begin)),
            ("stage 1", first.and(second).map(|stage| stage.begin)),
            ("stage 2", Some(own.beganAt)),
            ("supervisor", Some(runnable.unwrap_or(own.bootedAt).max(own.loadedAt))),
            ("services", Some(self.end())),
        ];
        let mut begin = 0;
        let mut phases = Vec::new();
        for (name, end) in ends {
            let Some(end) = end else { continue };
            let name = if stages.is_empty() && name == "stage 2" { "before the supervisor" } else { name };
            let end = end.max(begin);
            phases.push(Phase { name, begin, end });
            begin = end;
        }
        phases
    }

    /// The unit that was over last.
    pub fn last(&self) -> Option<&'a BootUnit> {
        self.units.iter().copied().filter(|unit| over(unit).is_some()).max_by_key(|unit| over(unit))
    }

    /// A unit, the one that it waited for last, the one that this waited for, and so on.
    pub fn chain(&self, unit: &'a BootUnit) -> Vec<&'a BootUnit> {
        let mut chain = vec![unit];
        while let Some(before) = chain.last().and_then(|unit| self.awaited(unit)) {
            // Clocks and cycles apart, what comes before is never in it; whatever comes over the socket, this ends.
            if chain.iter().any(|known| known.name == before.name) {
                break;
            }
            chain.push(before);
        }
        chain
    }

    /// What a unit waited for longest.
    fn awaited(&self, unit: &BootUnit) -> Option<&'a BootUnit> {
        let runnable = unit.runnableAt.or(unit.endedAt)?;
        let waited = |other: &&BootUnit| over(other).is_some_and(|at| at > unit.queuedAt && at <= runnable);
        unit.after.iter().filter_map(|name| self.find(name)).filter(waited).max_by_key(|other| over(other))
    }
}

/// When nobody waited for a unit any longer: it was ready, or it had ended.
pub fn over(unit: &BootUnit) -> Option<i64> {
    unit.readyAt.or(unit.endedAt)
}

/// How long a unit took from when it waited for nothing.
pub fn took(unit: &BootUnit) -> Option<i64> {
    over(unit)?.checked_sub(unit.runnableAt?).filter(|took| *took >= 0)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
pub mod tests {
    use super::*;
    use mmos::control::{BootStage, BootSupervisor, StartType, State};

    /// A unit that was to be started at 2000 ms.
    pub fn unit(name: &str, runnable: i64, ready: i64, after: &[&str]) -> BootUnit {
        BootUnit {
            name: format!("{name}.service"),
            description: format!("{name} & \"others\" <here>"),
            start: StartType::auto,
            state: State::active,
            reason: String::new(),
            queuedAt: 2_000_000,
            runnableAt: Some(runnable * 1000),
            readyAt: Some(ready * 1000),
            endedAt: None,
            after: after.iter().map(|name| format!("{name}.service")).collect(),
        }
    }

    /// A made-up boot: b and d wait for a, c for b, and f fails.
    pub fn boot() -> BootTimes {
        let steps = [("early", 1000), ("modules", 1010), ("find-root", 1200), ("unpack", 1250), ("switch-root", 1900)];
        let mut stages: Vec<BootStage> = Vec::new();
        for (name, begin) in steps.into_iter().chain([("stage2", 1910)]) {
            if let Some(last) = stages.last_mut() {
                last.end = begin * 1000;
            }
            stages.push(BootStage { name: name.into(), begin: begin * 1000, end: 1_915_000 });
        }
        let mut failed = unit("f", 2001, 0, &[]);
        (failed.readyAt, failed.endedAt) = (None, Some(2_050_000));
        (failed.state, failed.reason) = (State::failed, "exit code 1".into());
        let mut later = unit("later", 9000, 9001, &[]);
        later.queuedAt = 9_000_000;
        BootTimes {
            complete: true,
            upAt: 2_500_000,
            stages,
            supervisor: BootSupervisor { beganAt: 1_920_000, loadedAt: 1_990_000, bootedAt: 2_010_000 },
            units: vec![
                unit("c", 2300, 2500, &["b", "d"]),
                unit("b", 2100, 2300, &["a"]),
                unit("a", 2001, 2100, &[]),
                unit("d", 2100, 2150, &["a"]),
                failed,
                later,
            ],
        }
    }

    fn names(units: &[&BootUnit]) -> Vec<String> {
        units.iter().map(|unit| unit.name.trim_end_matches(".service").to_owned()).collect()
    }

    #[test]
    fn units_stand_in_the_order_in_which_they_could_start_and_later_ones_are_left_out() {
        assert_eq!(names(&Model::new(&boot()).units), ["a", "f", "b", "d", "c"]);
    }

    #[test]
    fn phases_follow_each_other_from_the_kernels_start_to_the_last_unit() {
        let boot = boot();
        let phases = Model::new(&boot).phases();
        let all: Vec<(&str, i64, i64)> = phases.iter().map(|p| (p.name, p.begin / 1000, p.end / 1000)).collect();
        assert_eq!(
            all,
            [
                ("kernel", 0, 1000),
                ("stage 1", 1000, 1910),
                ("stage 2", 1910, 1920),
                ("supervisor", 1920, 2001),
                ("services", 2001, 2500)
            ]
        );
    }

    #[test]
    fn without_our_init_what_came_before_the_supervisor_is_one_phase() {
        let boot = BootTimes { stages: Vec::new(), ..boot() };
        let phases = Model::new(&boot).phases();
        assert_eq!(phases[0], Phase { name: "before the supervisor", begin: 0, end: 1_920_000 });
        assert_eq!(phases.len(), 3);
    }

    #[test]
    fn the_chain_is_of_those_that_were_waited_for_longest() {
        let boot = boot();
        let model = Model::new(&boot);
        assert_eq!(names(&model.chain(model.last().unwrap())), ["c", "b", "a"]);
        assert_eq!(names(&model.chain(model.find("d.service").unwrap())), ["d", "a"]);
        // What was ready before a unit was to be started was not waited for.
        let mut boot = boot.clone();
        boot.units[1].queuedAt = 2_100_000;
        let model = Model::new(&boot);
        assert_eq!(names(&model.chain(model.find("b.service").unwrap())), ["b"]);
    }

    #[test]
    fn a_chain_that_bites_its_tail_ends() {
        let boot = BootTimes { units: vec![unit("x", 2100, 2100, &["y"]), unit("y", 2100, 2100, &["x"])], ..boot() };
        let model = Model::new(&boot);
        assert_eq!(names(&model.chain(model.find("x.service").unwrap())), ["x", "y"]);
    }
}
