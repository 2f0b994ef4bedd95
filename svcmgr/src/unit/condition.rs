//! Conditions and assertions on the system, as data: systemd.unit(5), "Conditions and Asserts". Whether one holds is
//! looked up by [`crate::host::conditions`].

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name, behind Condition or Assert")]
pub enum ConditionKind {
    AcPower,
    Architecture,
    Capability,
    ControlGroupController,
    CpuFeature,
    Cpus,
    Credential,
    DirectoryNotEmpty,
    Environment,
    FileIsExecutable,
    FileNotEmpty,
    Firmware,
    FirstBoot,
    Group,
    Host,
    KernelCommandLine,
    KernelVersion,
    Memory,
    NeedsUpdate,
    OsRelease,
    PathExists,
    PathExistsGlob,
    PathIsDirectory,
    PathIsMountPoint,
    PathIsReadWrite,
    PathIsSymbolicLink,
    Security,
    User,
    Virtualization,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What is asked.
    pub kind: ConditionKind,
    /// About what.
    pub value: String,
    /// `!`: it is not to be so.
    pub negated: bool,
    /// `|`: of all of these, one is enough.
    pub trigger: bool,
    /// Without it the start fails; otherwise it is only left out.
    pub is_assertion: bool,
    /// The directive, as it is written.
    pub directive: &'static str,
}

impl Condition {
    /// Takes the prefixes off `value`.
    pub fn new(kind: ConditionKind, directive: &'static str, value: &str) -> Condition {
        let (rest, trigger) = value.strip_prefix('|').map_or((value, false), |rest| (rest.trim_start(), true));
        let (rest, negated) = rest.strip_prefix('!').map_or((rest, false), |rest| (rest.trim_start(), true));
        let is_assertion = directive.starts_with("Assert");
        Condition { kind, value: rest.to_owned(), negated, trigger, is_assertion, directive }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (trigger, negated) = (if self.trigger { "|" } else { "" }, if self.negated { "!" } else { "" });
        write!(f, "{}={trigger}{negated}{}", self.directive, self.value)
    }
}

/// Compares by `<`, `<=`, `=`, `!=`, `>=`, `>` in front of a value, or, without any, by `otherwise`.
pub fn compared<'a>(value: &'a str, otherwise: &'a str) -> (&'a str, &'a str) {
    for operator in ["<=", ">=", "!=", "<", ">", "="] {
        if let Some(rest) = value.strip_prefix(operator) {
            return (operator, rest.trim());
        }
    }
    (otherwise, value.trim())
}

/// Whether two things compare so.
pub fn holds(operator: &str, ordering: std::cmp::Ordering) -> bool {
    match operator {
        "<" => ordering.is_lt(),
        "<=" => ordering.is_le(),
        "=" => ordering.is_eq(),
        "!=" => ordering.is_ne(),
        ">=" => ordering.is_ge(),
        _ => ordering.is_gt(),
    }
}

/// Whether all of `conditions` hold, by what `ask` says of each: all without `|`, and one of those with it, if there are
/// any. `Err` names one that is in the way.
pub fn all<'a>(conditions: &[&'a Condition], ask: &dyn Fn(&Condition) -> bool) -> Result<(), &'a Condition> {
    let is_so = |condition: &Condition| ask(condition) != condition.negated;
    if let Some(first) = conditions.iter().find(|condition| !condition.trigger && !is_so(condition)) {
        return Err(first);
    }
    let mut triggers = conditions.iter().filter(|condition| condition.trigger).peekable();
    match triggers.peek().copied() {
        Some(first) if !triggers.any(|condition| is_so(condition)) => Err(first),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(value: &str) -> Condition {
        Condition::new(ConditionKind::PathExists, "ConditionPathExists", value)
    }

    #[test]
    fn prefixes_are_taken_off_and_shown_again() {
        let condition = path("|!/x");
        assert!(condition.trigger && condition.negated && !condition.is_assertion);
        assert_eq!(condition.to_string(), "ConditionPathExists=|!/x");
    }

    #[test]
    fn all_plain_ones_and_one_of_the_triggers_have_to_hold() {
        let there = |condition: &Condition| condition.value == "/yes";
        let check = |values: &[&str]| {
            let conditions: Vec<Condition> = values.iter().map(|value| path(value)).collect();
            all(&conditions.iter().collect::<Vec<_>>(), &there).map_err(ToString::to_string)
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["/yes", "!/no"]), Ok(()));
        assert_eq!(check(&["/yes", "/no"]), Err("ConditionPathExists=/no".into()));
        assert_eq!(check(&["|/no", "|/yes"]), Ok(()));
        assert_eq!(check(&["|/no", "|!/yes"]), Err("ConditionPathExists=|/no".into()));
        assert_eq!(check(&["/no", "|/yes"]), Err("ConditionPathExists=/no".into()));
    }

    #[test]
    fn values_are_compared_as_written() {
        assert_eq!(compared(">= 5", "="), (">=", "5"));
        assert_eq!(compared("5.10*", "glob"), ("glob", "5.10*"));
        assert!(holds("<", 1.cmp(&2)) && holds("!=", 1.cmp(&2)) && !holds(">=", 1.cmp(&2)));
    }
}
