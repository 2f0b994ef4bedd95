//! stdout: whether it is a terminal that knows colours, how wide it is, and what may be written to it.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// What a piece of text is to convey, which a terminal shows by a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Busy,
    Bad,
    Faint,
    Strong,
}

impl Tone {
    /// SGR parameters of ECMA-48, the eight colours that every terminal with colours has.
    fn sgr(self) -> &'static str {
        match self {
            Tone::Plain => "0",
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "1;31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        }
    }
}

/// Where a command's answer goes.
pub struct Screen<'a> {
    out: Box<dyn Write + 'a>,
    terminal: bool,
    colour: bool,
    width: Option<usize>,
}

impl Screen<'_> {
    /// The process's stdout.
    pub fn stdout() -> Screen<'static> {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        // https://no-color.org; a terminal named dumb, or by no name, knows no colours.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
        // A serial console says 0: it does not know.
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        Screen {
            out: Box::new(stdout),
            terminal,
            colour: terminal && !plain && !dumb,
            width: width.filter(|&width| terminal && width > 0),
        }
    }

    /// Columns, where stdout is a terminal that tells.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// Writes one line made of toned pieces.
    pub fn line(&mut self, pieces: &[(Tone, &str)]) -> io::Result<()> {
        let mut line = String::new();
        for (tone, text) in pieces {
            let text = self.harmless(text);
            if self.colour && *tone != Tone::Plain {
                line.push_str(&format!("\x1b[{}m{text}\x1b[0m", tone.sgr()));
            } else {
                line.push_str(&text);
            }
        }
        line.push('\n');
        self.write(line.as_bytes())
    }

    /// Writes one line of plain text.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.line(&[(Tone::Plain, text)])
    }

    /// Writes a value as JSON: on several lines for people, on one line for `compact`.
    pub fn json(&mut self, value: &impl serde::Serialize, compact: bool) -> io::Result<()> {
        let text = if compact { serde_json::to_string(value)? } else { serde_json::to_string_pretty(value)? };
        self.write(format!("{text}\n").as_bytes())
    }

    /// What a service wrote must not steer the operator's terminal: control characters are shown as `^X`. A pipe or a
    /// file gets every byte.
    fn harmless<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.terminal || !text.chars().any(|c| c.is_control() && c != '\t') {
            return Cow::Borrowed(text);
        }
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            match u8::try_from(c) {
                Ok(byte) if byte.is_ascii_control() && byte != b'\t' => {
                    shown.push('^');
                    shown.push(char::from(byte ^ 0x40));
                }
                _ if c.is_control() && c != '\t' => shown.push(char::REPLACEMENT_CHARACTER),
                _ => shown.push(c),
            }
        }
        Cow::Owned(shown)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What `write` puts on a screen.
    pub fn shown(terminal: bool, width: Option<usize>, write: impl FnOnce(&mut Screen<'_>)) -> String {
        let mut bytes = Vec::new();
        write(&mut Screen { out: Box::new(&mut bytes), terminal, colour: terminal, width });
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn colour_is_for_terminals_only() {
        let write = |screen: &mut Screen<'_>| screen.line(&[(Tone::Plain, "a "), (Tone::Bad, "b")]).unwrap();
        assert_eq!(shown(false, None, write), "a b\n");
        assert_eq!(shown(true, None, write), "a \x1b[1;31mb\x1b[0m\n");
    }

    #[test]
    fn a_service_cannot_steer_the_terminal_and_a_pipe_gets_every_byte() {
        let write = |screen: &mut Screen<'_>| screen.say("x\x1b]0;title\x07\ty\u{9b}2J").unwrap();
        assert_eq!(shown(true, None, write), "x^[]0;title^G\ty\u{fffd}2J\n");
        assert_eq!(shown(false, None, write), "x\x1b]0;title\x07\ty\u{9b}2J\n");
    }
}
