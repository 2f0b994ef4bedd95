//! One command of a service: its prefixes, its words, and how environment variables are put in when it is executed.
//! Rules: systemd.service(5), "Command Lines".

use super::specifier::{Specifiers, UnknownSpecifier};
use super::words::{self, WordError};

/// A command, read but not yet expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program: an absolute path, or a name to be looked for.
    pub program: String,
    /// `argv`, from `argv[0]`.
    pub arguments: Vec<String>,
    /// `-`: its failure is no failure.
    pub ignore_failure: bool,
    /// `+`: as root, and kept from nothing.
    pub privileged: bool,
    /// `!`: as root, and otherwise as the unit says.
    pub as_root: bool,
    /// Not `:`, so that `$X` stands for a variable.
    pub expand: bool,
    /// The line that it stands on.
    pub line: u32,
}

/// Why a value is not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It cannot be split into words.
    #[error(transparent)]
    Words(#[from] WordError),
    /// It names an unknown specifier.
    #[error(transparent)]
    Specifier(#[from] UnknownSpecifier),
    /// It has no program.
    #[error("no program is named")]
    NoProgram,
    /// A prefix that is not supported.
    #[error("the prefix {0:?} is not supported; - @ : + ! are")]
    Prefix(char),
    /// Prefixes that contradict each other.
    #[error("the prefixes +, ! and !! exclude each other")]
    Prefixes,
    /// A path that is not absolute.
    #[error("the program {0:?} is neither an absolute path nor a bare name")]
    RelativePath(String),
    /// A NUL byte, which no argument can hold.
    #[error("a NUL byte cannot stand in a command")]
    Nul,
}

impl Command {
    /// Reads the commands of one value: several if they are separated by ` ; `.
    pub fn parse_all(value: &str, line: u32, specifiers: &Specifiers<'_>) -> Result<Vec<Command>, CommandError> {
        if value.contains('\0') {
            return Err(CommandError::Nul);
        }
        let words = words::split(value)?;
        words
            .split(|word| word.text == ";" && !word.quoted)
            // "a ;" is one command: an empty last one is none.
            .filter(|words| !words.is_empty())
            .map(|words| Command::from_words(words, line, specifiers))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|all| if all.is_empty() { Err(CommandError::NoProgram) } else { Ok(all) })
    }

    fn from_words(words: &[words::Word], line: u32, specifiers: &Specifiers<'_>) -> Result<Command, CommandError> {
        let (first, rest) = words.split_first().ok_or(CommandError::NoProgram)?;
        let mut command = Command {
            program: String::new(),
            arguments: Vec::with_capacity(words.len()),
            ignore_failure: false,
            privileged: false,
            as_root: false,
            expand: true,
            line,
        };
        let mut own_name = false;
        let mut bangs: u32 = 0;
        let mut program = first.text.as_str();
        while let Some(prefix) = program.chars().next() {
            match prefix {
                '-' => command.ignore_failure = true,
                '@' => own_name = true,
                ':' => command.expand = false,
                '+' => command.privileged = true,
                '!' => bangs = bangs.saturating_add(1),
                '|' => return Err(CommandError::Prefix(prefix)),
                _ => break,
            }
            program = program.get(prefix.len_utf8()..).unwrap_or("");
        }
        // `!!` is `!` on kernels without ambient capabilities alone, and all that we run on have them.
        command.as_root = bangs == 1;
        if bangs > 2 || (bangs > 0 && command.privileged) {
            return Err(CommandError::Prefixes);
        }
        command.program = specifiers.resolve(program)?;
        if command.program.is_empty() || command.program.ends_with('/') {
            return Err(CommandError::NoProgram);
        }
        if command.program.contains('/') && !command.program.starts_with('/') {
            return Err(CommandError::RelativePath(command.program));
        }
        if !own_name {
            command.arguments.push(command.program.clone());
        }
        for word in rest {
            command.arguments.push(specifiers.resolve(&word.text)?);
        }
        if command.arguments.is_empty() {
            return Err(CommandError::NoProgram);
        }
        Ok(command)
    }

    /// `argv` with the variables of `environment` put in: `${X}` within a word, `$X` alone as none, one or several
    /// words, `$$` as a dollar sign. An unknown variable is empty.
    pub fn expanded(&self, environment: &[(String, String)]) -> Vec<String> {
        if !self.expand {
            return self.arguments.clone();
        }
        let mut words = self.arguments.iter();
        let mut out: Vec<String> = words.next().into_iter().cloned().collect();
        for word in words {
            match word.strip_prefix('$') {
                Some(name) if is_variable(name) => {
                    out.extend(words::of_variable(value_of(name, environment)));
                }
                _ => out.push(expanded_within(word, environment)),
            }
        }
        out
    }
}

fn expanded_within(word: &str, environment: &[(String, String)]) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            out.push_str(value_of(name, environment));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

fn value_of<'a>(name: &str, environment: &'a [(String, String)]) -> &'a str {
    // The last assignment wins.
    environment.iter().rev().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// Whether `name` may be a variable's: letters, digits and underscores, not beginning with a digit.
pub fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::super::specifier::Machine;
    use super::*;

    fn parse(value: &str) -> Result<Vec<Command>, CommandError> {
        let machine = Machine::default();
        Command::parse_all(value, 3, &Specifiers { unit: "x.service", user: None, machine: &machine })
    }

    #[test]
    fn prefixes_words_and_specifiers_are_read() {
        let commands = parse("-@/bin/sh mysh -c 'echo %p' ; :+/bin/true $X").unwrap();
        assert_eq!(commands[0].program, "/bin/sh");
        assert_eq!(commands[0].arguments, ["mysh", "-c", "echo x"]);
        assert!(commands[0].ignore_failure && commands[0].expand && !commands[0].privileged);
        assert_eq!(commands[1].arguments, ["/bin/true", "$X"]);
        assert!(!commands[1].expand && commands[1].privileged);
        assert_eq!(parse("true").unwrap()[0].program, "true");
        assert!(parse("-!/bin/sh").unwrap()[0].as_root && !parse("!!/bin/sh").unwrap()[0].as_root);
    }

    #[test]
    fn what_is_no_command_says_why() {
        assert_eq!(parse(""), Err(CommandError::NoProgram));
        assert_eq!(parse("-"), Err(CommandError::NoProgram));
        assert_eq!(parse("@/bin/sh"), Err(CommandError::NoProgram));
        assert_eq!(parse("|/bin/sh"), Err(CommandError::Prefix('|')));
        assert_eq!(parse("+!/bin/sh"), Err(CommandError::Prefixes));
        assert_eq!(parse("bin/sh"), Err(CommandError::RelativePath("bin/sh".into())));
        assert!(matches!(parse("/bin/sh 'a"), Err(CommandError::Words(_))));
        assert!(matches!(parse("/bin/date +%Q"), Err(CommandError::Specifier(_))));
    }

    #[test]
    fn variables_are_expanded_as_systemd_does() {
        let environment = [("ONE", "'one'"), ("TWO", "two two")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let command = &parse("/bin/echo $ONE $TWO ${TWO} a${ONE}b $NONE ${NONE} $$X a$ONE").unwrap()[0];
        assert_eq!(
            command.expanded(&environment),
            ["/bin/echo", "one", "two", "two", "two two", "a'one'b", "", "$X", "a$ONE"]
        );
    }
}
