//! From the text of a unit file to its `Section, Key = value` entries with their line numbers: the first step of
//! reading a unit. Rules: [systemd.syntax(7)](https://www.freedesktop.org/software/systemd/man/systemd.syntax.html).

/// One assignment, continuation lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The section it stands in, without brackets.
    pub section: String,
    /// What is left of the first `=`, trimmed.
    pub key: String,
    /// What is right of it, trimmed; quotes and escapes untouched.
    pub value: String,
    /// Where it begins, from 1.
    pub line: u32,
    /// In which of the unit's files, from 0: its own, then its drop-ins.
    pub file: usize,
}

/// A line that is none of a section, an assignment, a comment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A section header without its closing bracket.
    #[error("section header {0:?} does not end in ']'")]
    OpenSection(String),
    /// An assignment before the first section.
    #[error("{0:?} stands before the first section header, such as [Unit]")]
    NoSection(String),
    /// Neither a header nor an assignment.
    #[error("{0:?} is not of the form Key=value")]
    NoAssignment(String),
}

/// Splits `text` into entries. What cannot be read is returned beside them with its line, and the rest goes on.
pub fn parse(text: &str) -> (Vec<Entry>, Vec<(u32, SyntaxError)>) {
    let mut entries = Vec::new();
    let mut errors = Vec::new();
    let mut section: Option<String> = None;
    // A logical line in the making: where it began, and what it holds so far.
    let mut open: Option<(u32, String)> = None;
    let mut number: u32 = 0;
    let mut finish = |line: u32, logical: &str| match logical_line(logical, section.as_deref()) {
        Ok(Line::Blank) => {}
        Ok(Line::Section(name)) => section = Some(name),
        Ok(Line::Entry { section, key, value }) => entries.push(Entry { section, key, value, line, file: 0 }),
        Err(error) => errors.push((line, error)),
    };
    for raw in text.trim_start_matches('\u{feff}').split('\n') {
        number = number.saturating_add(1);
        let raw = raw.strip_suffix('\r').unwrap_or(raw);
        // "Lines starting with # or ; are comments", also between the parts of a continued line.
        if raw.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let (part, goes_on) = match raw.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (raw, false),
        };
        match (&mut open, goes_on) {
            (None, false) => finish(number, part),
            (None, true) => open = Some((number, format!("{part} "))),
            (Some((_, so_far)), true) => {
                so_far.push_str(part);
                so_far.push(' ');
            }
            (Some((begun, so_far)), false) => {
                so_far.push_str(part);
                finish(*begun, so_far);
                open = None;
            }
        }
    }
    if let Some((begun, so_far)) = open {
        finish(begun, &so_far);
    }
    (entries, errors)
}

enum Line {
    Blank,
    Section(String),
    Entry { section: String, key: String, value: String },
}

fn logical_line(text: &str, section: Option<&str>) -> Result<Line, SyntaxError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Line::Blank);
    }
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.strip_suffix(']') {
            Some(name) => Ok(Line::Section(name.to_owned())),
            None => Err(SyntaxError::OpenSection(shortened(text))),
        };
    }
    let Some((key, value)) = text.split_once('=') else {
        return Err(SyntaxError::NoAssignment(shortened(text)));
    };
    let Some(section) = section else {
        return Err(SyntaxError::NoSection(shortened(text)));
    };
    Ok(Line::Entry { section: section.to_owned(), key: key.trim().to_owned(), value: value.trim().to_owned() })
}

/// Enough of a line to find it again, so that a binary file cannot fill the log.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(section: &str, key: &str, value: &str, line: u32) -> Entry {
        Entry { section: section.into(), key: key.into(), value: value.into(), line, file: 0 }
    }

    #[test]
    fn entries_carry_section_and_line_and_comments_do_not_count() {
        let (entries, errors) = parse("# c\n[Unit]\n; c\nAfter = a b\n\n[Service]\r\nExecStart=/x -a=1\r\n");
        assert_eq!(errors, []);
        assert_eq!(entries, [entry("Unit", "After", "a b", 4), entry("Service", "ExecStart", "/x -a=1", 7)]);
    }

    #[test]
    fn a_backslash_joins_lines_and_comments_between_them_vanish() {
        let (entries, errors) = parse("[S]\nA=1 \\\n# no\n  2 \\\n3\nB=4\\");
        assert_eq!(errors, []);
        assert_eq!(entries, [entry("S", "A", "1    2  3", 2), entry("S", "B", "4", 6)]);
    }

    #[test]
    fn unreadable_lines_are_named_and_the_rest_goes_on() {
        let (entries, errors) = parse("A=1\n[S\n[T]\nwhat\nB=2");
        assert_eq!(errors.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(entries, [entry("T", "B", "2", 5)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "[\\[\\]=#;\\\\\na-c \r]{0,200}") {
            let lines = text.split('\n').count();
            let (entries, errors) = parse(&text);
            prop_assert!(entries.len().saturating_add(errors.len()) <= lines);
            prop_assert!(entries.iter().all(|e| e.line >= 1 && e.line as usize <= lines));
        }
    }
}
