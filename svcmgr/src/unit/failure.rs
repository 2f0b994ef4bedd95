//! What failures lead to, as data: the actions of systemd.unit(5) on the whole machine, and our own list of
//! `[X-MMOS] FailureActions=`, whose n-th action is for the n-th failure in a row.

use link::Ending;

use super::command::Command;
use super::time::Span;

/// What is done to the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndAction {
    /// How it ends.
    pub ending: Ending,
    /// At once, without stopping the services first.
    pub at_once: bool,
}

/// What is done about one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Act {
    /// The service is started again.
    Restart,
    /// `FailureCommand=` is run.
    RunCommand,
    /// The machine is started again.
    Reboot,
    /// Nothing: the service has failed.
    None,
}

/// `FailureActions=`, `FailureCommand=`, `FailureResetPeriod=`.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureActions {
    /// The n-th action and its delay; the last holds for all further failures.
    pub list: Vec<(Act, Span)>,
    /// What [`Act::RunCommand`] runs.
    pub command: Vec<Command>,
    /// Without a failure for so long, the count begins again.
    pub reset: Span,
}

/// `ErrorControl=`: what it means that the unit cannot be started during the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorControl {
    /// Nothing: the boot is as good without it.
    Ignore,
    /// It is told, and the boot goes on.
    #[default]
    Normal,
    /// The machine is started again, once its services have stopped.
    Severe,
    /// The machine is started again at once.
    Critical,
}

impl Default for FailureActions {
    fn default() -> FailureActions {
        FailureActions { list: Vec::new(), command: Vec::new(), reset: Span::INFINITY }
    }
}

impl FailureActions {
    /// What is done about the `n`-th failure in a row, from 0.
    pub fn of(&self, n: u32) -> Option<(Act, Span)> {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        self.list.get(n).or(self.list.last()).copied()
    }
}

impl EndAction {
    /// Reads `reboot`, `poweroff-force` and so on; the inner `None` is `none`, the outer one what is no action.
    pub fn parse(word: &str) -> Option<Option<EndAction>> {
        let act = |ending, at_once| Some(Some(EndAction { ending, at_once }));
        match word {
            "" | "none" => Some(None),
            "reboot" => act(Ending::Reboot, false),
            "reboot-force" | "reboot-immediate" => act(Ending::Reboot, true),
            // To a system manager they are the same: systemd.unit(5), `FailureAction=`.
            "poweroff" | "exit" => act(Ending::Poweroff, false),
            "poweroff-force" | "poweroff-immediate" | "exit-force" => act(Ending::Poweroff, true),
            "halt" => act(Ending::Halt, false),
            "halt-force" | "halt-immediate" => act(Ending::Halt, true),
            _ => None,
        }
    }

    /// The words that there are, for those who mistype one.
    pub const WORDS: [&'static str; 12] = [
        "none",
        "reboot",
        "reboot-force",
        "reboot-immediate",
        "poweroff",
        "poweroff-force",
        "poweroff-immediate",
        "exit",
        "exit-force",
        "halt",
        "halt-force",
        "halt-immediate",
    ];
}

/// Reads `restart:1s run-command reboot:1min`.
pub fn acts(text: &str) -> Result<Vec<(Act, Span)>, String> {
    let mut list = Vec::new();
    for word in text.split_whitespace() {
        let (name, delay) = word.split_once(':').map_or((word, None), |(name, delay)| (name, Some(delay)));
        let act = match name {
            "restart" => Act::Restart,
            "run-command" => Act::RunCommand,
            "reboot" => Act::Reboot,
            "none" => Act::None,
            _ => {
                let meant = link::nearest::nearest(name, ["restart", "run-command", "reboot", "none"]);
                let hint = meant.map_or("restart, run-command, reboot and none are".to_owned(), |meant| {
                    format!("did you mean {meant}?")
                });
                return Err(format!("{name} is no action: {hint}"));
            }
        };
        let delay = delay.map_or(Ok(Span::ZERO), |delay| Span::parse(delay).map_err(|error| error.to_string()))?;
        list.push((act, delay));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_action_holds_for_all_further_failures() {
        let list = acts("restart:1s restart:500ms reboot:1min").unwrap();
        let actions = FailureActions { list, ..FailureActions::default() };
        assert_eq!(actions.of(0), Some((Act::Restart, Span::seconds(1))));
        assert_eq!(actions.of(1), Some((Act::Restart, Span::millis(500))));
        assert_eq!(actions.of(2), Some((Act::Reboot, Span::seconds(60))));
        assert_eq!(actions.of(9), actions.of(2));
        assert_eq!(FailureActions::default().of(0), None);
    }

    #[test]
    fn what_is_no_action_is_named() {
        assert_eq!(acts("restrat:1s").unwrap_err(), "restrat is no action: did you mean restart?");
        assert!(acts("restart:soon").is_err());
    }

    #[test]
    fn the_ends_of_the_machine_are_known_by_name() {
        for word in EndAction::WORDS {
            assert!(EndAction::parse(word).is_some(), "{word}");
        }
        let at_once = EndAction { ending: Ending::Reboot, at_once: true };
        assert_eq!(EndAction::parse("reboot-force"), Some(Some(at_once)));
        assert_eq!(EndAction::parse("explode"), None);
    }
}
