//! Whether the supervisor's loop answers. PID 1 asks it in turn; one that does not answer for too long is hung, and
//! killed, so that the next one takes its services over. Pure: the times come from the caller.

use std::time::{Duration, Instant};

use crate::params::Watch;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Ask the supervisor.
    Ask,
    /// It hangs: kill it.
    Kill,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no supervisor.
    Away,
    /// It has been asked.
    Asked { since: Instant },
    /// It has answered.
    Heard { at: Instant },
    /// It has been killed, and is not gone yet.
    Killed,
}

/// The supervisor's sign of life.
#[derive(Debug)]
pub struct Pulse {
    /// How long it may hang, and the supervisors after it; `None` for ever.
    limit: Option<Duration>,
    state: State,
    /// When any supervisor answered last; when PID 1 began, before the first.
    last: Instant,
}

impl Pulse {
    /// Nobody has been asked yet.
    pub fn new(watch: Watch, now: Instant) -> Pulse {
        let limit = match watch {
            Watch::Off => None,
            Watch::Seconds(seconds) => Some(Duration::from_secs(seconds.into())),
        };
        Pulse { limit, state: State::Away, last: now }
    }

    /// After an answer, so long until it is asked again.
    pub fn interval(limit: Duration) -> Duration {
        limit.checked_div(4).unwrap_or(limit)
    }

    /// So long it may take to answer.
    fn patience(limit: Duration) -> Duration {
        limit.checked_div(2).unwrap_or(limit)
    }

    /// A supervisor was started.
    pub fn begin(&mut self, now: Instant) -> Option<Act> {
        self.limit?;
        self.state = State::Asked { since: now };
        Some(Act::Ask)
    }

    /// The supervisor is gone.
    pub fn end(&mut self) {
        self.state = State::Away;
    }

    /// It has answered.
    pub fn heard(&mut self, now: Instant) {
        if matches!(self.state, State::Asked { .. }) {
            self.state = State::Heard { at: now };
            self.last = now;
        }
    }

    /// When there is something to be done next.
    pub fn due(&self) -> Option<Instant> {
        let limit = self.limit?;
        match self.state {
            State::Away | State::Killed => None,
            State::Asked { since } => since.checked_add(Pulse::patience(limit)),
            State::Heard { at } => at.checked_add(Pulse::interval(limit)),
        }
    }

    /// What is to be done now.
    pub fn turn(&mut self, now: Instant) -> Option<Act> {
        let limit = self.limit?;
        let late = now.checked_duration_since(self.due()?)?;
        match self.state {
            // Who was away for so long itself, since the whole machine stood still, cannot say who hangs.
            State::Asked { .. } if late > Pulse::interval(limit) => {
                self.state = State::Asked { since: now };
                None
            }
            State::Asked { .. } => {
                self.state = State::Killed;
                Some(Act::Kill)
            }
            State::Heard { .. } => {
                self.state = State::Asked { since: now };
                Some(Act::Ask)
            }
            State::Away | State::Killed => None,
        }
    }

    /// Whether a supervisor has answered within the time in which one that lives does.
    pub fn is_alive(&self, now: Instant) -> bool {
        self.limit.is_none_or(|limit| {
            let longest = Pulse::interval(limit).saturating_add(Pulse::patience(limit));
            now.saturating_duration_since(self.last) <= longest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Watch = Watch::Seconds(60);

    fn at(begin: Instant, seconds: u64) -> Instant {
        begin.checked_add(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn one_that_answers_is_asked_again_a_quarter_later() {
        let begin = Instant::now();
        let mut pulse = Pulse::new(LIMIT, begin);
        assert_eq!((pulse.due(), pulse.turn(at(begin, 1000))), (None, None), "nobody is there");
        assert_eq!(pulse.begin(begin), Some(Act::Ask));
        pulse.heard(at(begin, 1));
        assert_eq!(pulse.due(), Some(at(begin, 16)));
        assert_eq!(pulse.turn(at(begin, 15)), None);
        assert_eq!(pulse.turn(at(begin, 16)), Some(Act::Ask));
        assert_eq!(pulse.turn(at(begin, 17)), None);
        assert!(pulse.is_alive(at(begin, 46)) && !pulse.is_alive(at(begin, 47)));
    }

    #[test]
    fn one_that_does_not_answer_is_killed_once() {
        let begin = Instant::now();
        let mut pulse = Pulse::new(LIMIT, begin);
        pulse.begin(begin);
        assert_eq!(pulse.turn(at(begin, 29)), None);
        assert_eq!(pulse.turn(at(begin, 30)), Some(Act::Kill));
        // It may not go, in a system call that nothing ends: then the hardware decides.
        assert_eq!((pulse.due(), pulse.turn(at(begin, 300))), (None, None));
        // Nor does its last word count, which comes with its end.
        pulse.heard(at(begin, 50));
        assert!(!pulse.is_alive(at(begin, 50)));
        pulse.end();
        pulse.begin(at(begin, 51));
        pulse.heard(at(begin, 52));
        assert!(pulse.is_alive(at(begin, 52)));
    }

    #[test]
    fn who_slept_itself_does_not_blame_the_supervisor() {
        let begin = Instant::now();
        let mut pulse = Pulse::new(LIMIT, begin);
        pulse.begin(begin);
        assert_eq!(pulse.turn(at(begin, 3600)), None);
        assert_eq!(pulse.turn(at(begin, 3629)), None);
        assert_eq!(pulse.turn(at(begin, 3630)), Some(Act::Kill));
    }

    #[test]
    fn switched_off_nobody_is_asked_and_all_is_well() {
        let begin = Instant::now();
        let mut pulse = Pulse::new(Watch::Off, begin);
        assert_eq!(pulse.begin(begin), None);
        assert_eq!((pulse.due(), pulse.turn(at(begin, 9999))), (None, None));
        assert!(pulse.is_alive(at(begin, 9999)));
    }
}
