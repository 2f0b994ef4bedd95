//! The kernel parameters `mmos.*`: one table from which parsing, the warning about an unknown name, and the user's
//! documentation come. The command line asks; [`crate::settings`] decides what it may have.

use std::time::Duration;

use log::LevelFilter;

/// What to do when no root can be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFail {
    /// Switch the power off.
    Poweroff,
    /// Start again after ten seconds.
    Reboot,
    /// A shell on the console, where the initramfs allows it.
    Shell,
}

impl OnFail {
    /// The word for it, as it stands on a command line.
    pub fn word(self) -> &'static str {
        match self {
            OnFail::Poweroff => "poweroff",
            OnFail::Reboot => "reboot",
            OnFail::Shell => "shell",
        }
    }
}

/// How long PID 1 and the supervisor may hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "WatchText")]
pub enum Watch {
    /// For ever: nothing is watched.
    Off,
    /// So many seconds.
    Seconds(u16),
}

/// The shortest time that a busy machine keeps, and the longest that anyone waits for.
const WATCH_RANGE: std::ops::RangeInclusive<u16> = 4..=3600;
const WATCH_WANTED: &str = "off, or a whole number of seconds from 4 to 3600";

impl Watch {
    /// Where nobody says anything.
    pub const DEFAULT: Watch = Watch::Seconds(60);

    /// In seconds, 0 for off, as the boot record has it.
    pub fn seconds(self) -> u16 {
        match self {
            Watch::Off => 0,
            Watch::Seconds(seconds) => seconds,
        }
    }

    /// The reverse of [`Watch::seconds`].
    pub fn from_seconds(seconds: u16) -> Watch {
        if seconds == 0 { Watch::Off } else { Watch::Seconds(seconds) }
    }
}

impl std::str::FromStr for Watch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Watch, &'static str> {
        if text == "off" {
            return Ok(Watch::Off);
        }
        let seconds = text.parse().ok().filter(|seconds| WATCH_RANGE.contains(seconds));
        seconds.map(Watch::Seconds).ok_or(WATCH_WANTED)
    }
}

/// A number, or a word, as `boot.toml` has it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum WatchText {
    Number(i64),
    Word(String),
}

impl TryFrom<WatchText> for Watch {
    type Error = String;

    fn try_from(text: WatchText) -> Result<Watch, String> {
        let text = match text {
            WatchText::Number(number) => number.to_string(),
            WatchText::Word(word) => word,
        };
        text.parse().map_err(|wanted| format!("watchdog = {text}: it takes {wanted}"))
    }
}

/// What the kernel command line asks for; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// `mmos.root=`, unparsed.
    pub root: Option<String>,
    /// `mmos.rootwait=`
    pub rootwait: Option<Duration>,
    /// `mmos.index=`
    pub index: Option<String>,
    /// `mmos.onfail=`
    pub onfail: Option<OnFail>,
    /// `mmos.profile=`
    pub profile: Option<String>,
    /// `mmos.watchdog=`
    pub watchdog: Option<Watch>,
    /// `mmos.loglevel=`
    pub loglevel: Option<LevelFilter>,
}

impl Requests {
    /// The least important message that is logged.
    pub fn level(&self) -> LevelFilter {
        self.loglevel.unwrap_or(LevelFilter::Debug)
    }
}

/// One kernel parameter.
pub struct Parameter {
    /// Its whole name.
    pub name: &'static str,
    /// The values that it takes, for people.
    pub values: &'static str,
    /// What holds where it is not given.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
    apply: fn(&mut Requests, &str) -> Result<(), &'static str>,
}

/// The longest wait that is taken; more is a typing error, and would look like a hang.
pub const MAX_ROOTWAIT: u64 = 3600;

/// Every parameter there is.
pub const TABLE: &[Parameter] = &[
    Parameter {
        name: "mmos.root",
        values: "`initrd:/path`, `/dev/name[:/path]`, `PARTLABEL=x[:/path]`, `PARTUUID=x[:/path]`, `LABEL=x[:/path]`",
        default: "`initrd:/root.wim`",
        meaning: "Where the root image is: a file of the initramfs, a block device that holds the image itself, or a \
                  file in the file system of a block device",
        apply: |requests, value| {
            requests.root = Some(value.to_owned());
            Ok(())
        },
    },
    Parameter {
        name: "mmos.rootwait",
        values: "seconds, 0 to 3600",
        default: "10",
        meaning: "How long to wait for the device that holds the root image",
        apply: |requests, value| match value.parse() {
            Ok(seconds) if seconds <= MAX_ROOTWAIT => {
                requests.rootwait = Some(Duration::from_secs(seconds));
                Ok(())
            }
            _ => Err("a whole number of seconds from 0 to 3600"),
        },
    },
    Parameter {
        name: "mmos.index",
        values: "number from 1, or name",
        default: "the image's own default",
        meaning: "Which image of a WIM with several to boot",
        apply: |requests, value| {
            requests.index = Some(value.to_owned());
            Ok(())
        },
    },
    Parameter {
        name: "mmos.onfail",
        values: "`reboot`, `poweroff`, `shell`",
        default: "`reboot`",
        meaning: "What to do when the root cannot be booted. `reboot` waits 10 s, so that the reason can be read; \
                  `shell` only where the initramfs was built with `allow_shell`",
        apply: |requests, value| {
            let all = [OnFail::Reboot, OnFail::Poweroff, OnFail::Shell];
            requests.onfail = Some(all.into_iter().find(|o| o.word() == value).ok_or("reboot, poweroff or shell")?);
            Ok(())
        },
    },
    Parameter {
        name: "mmos.profile",
        values: "name of a profile",
        default: "the image's own profile",
        meaning: "Which manufacturing profile decides what is started",
        apply: |requests, value| {
            requests.profile = Some(check_profile(value)?.to_owned());
            Ok(())
        },
    },
    Parameter {
        name: "mmos.watchdog",
        values: "`off`, or seconds, 4 to 3600",
        default: "60",
        meaning: "How long the system may hang. A supervisor that does not answer for half of it is killed and started \
                  anew, no service with it; `/dev/watchdog`, where there is one, resets a machine whose PID 1 or \
                  supervisor has not come back within it; and what unpacks the root and has done nothing for so long is \
                  given up. `off` leaves all of them alone",
        apply: |requests, value| {
            requests.watchdog = Some(value.parse()?);
            Ok(())
        },
    },
    Parameter {
        name: "mmos.loglevel",
        values: "`error`, `warn`, `info`, `debug`",
        default: "`debug`",
        meaning: "The least important message of `init` that still goes to the kernel's log. What of that is shown \
                  on the console is set by the kernel's own `loglevel=` (6 shows the steps of the boot)",
        apply: |requests, value| {
            requests.loglevel = Some(value.parse().map_err(|_| "error, warn, info or debug")?);
            Ok(())
        },
    },
];

/// A profile's name: shorter than 64 characters, not `Current`, and a plain file name, since a file is called so.
pub fn check_profile(name: &str) -> Result<&str, &'static str> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !name.starts_with('.');
    if plain && !name.is_empty() && name.len() < 64 && name != "Current" {
        Ok(name)
    } else {
        Err("a profile's name: 1 to 63 letters, digits, '-', '_' or '.', and not \"Current\"")
    }
}

/// Takes what is ours from a kernel command line. The second value holds a warning for each `mmos.*` word that is
/// unknown or malformed; such a word changes nothing. Of a parameter given twice, the last one counts.
pub fn parse(cmdline: &str) -> (Requests, Vec<String>) {
    let mut requests = Requests::default();
    let mut warnings = Vec::new();
    for (name, value) in words(cmdline) {
        // As the kernel does in parameqn(): '-' and '_' are the same in a name.
        let name = name.replace('-', "_");
        if !name.starts_with("mmos.") {
            continue;
        }
        let Some(parameter) = TABLE.iter().find(|p| p.name == name) else {
            let hint = link::nearest::nearest(&name, TABLE.iter().map(|p| p.name))
                .map(|near| format!(" (did you mean {near}?)"))
                .unwrap_or_default();
            warnings.push(format!("kernel parameter {name} is not known{hint}, and does nothing"));
            continue;
        };
        let value = value.unwrap_or_default();
        let outcome = if value.is_empty() { Err(parameter.values) } else { (parameter.apply)(&mut requests, &value) };
        if let Err(wanted) = outcome {
            warnings.push(format!("{name}={value:?} is ignored: it takes {wanted}"));
        }
    }
    (requests, warnings)
}

/// Splits a command line as the kernel's `next_arg()` does (`lib/cmdline.c`): white space separates, except between
/// double quotes; quotes around a whole word or a whole value are taken off, others stay. `--` ends the part that is
/// the kernel's.
pub fn words(cmdline: &str) -> Vec<(String, Option<String>)> {
    let mut words = Vec::new();
    let mut rest = cmdline.trim_start_matches(is_space);
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest
            .char_indices()
            .find(|(_, c)| {
                quoted ^= *c == '"';
                !quoted && is_space(*c)
            })
            .map_or(rest.len(), |(at, _)| at);
        let (word, next) = rest.split_at(end);
        rest = next.trim_start_matches(is_space);
        if word == "--" {
            break;
        }
        words.push(split_value(word));
    }
    words
}

fn split_value(word: &str) -> (String, Option<String>) {
    let (word, whole) = match word.strip_prefix('"') {
        Some(inner) => (inner.strip_suffix('"').unwrap_or(inner), true),
        None => (word, false),
    };
    match word.split_once('=') {
        // A word that begins with '=' has no name; the kernel takes it for a name as a whole.
        Some((name, value)) if !name.is_empty() => {
            let value = match value.strip_prefix('"') {
                Some(inner) if !whole => inner.strip_suffix('"').unwrap_or(inner),
                _ => value,
            };
            (name.to_owned(), Some(value.to_owned()))
        }
        _ => (word.to_owned(), None),
    }
}

/// `isspace()` of the kernel's C locale.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// The table as Markdown, for the README.
pub fn markdown() -> String {
    let mut text = String::from("| parameter | values | default | meaning |\n|---|---|---|---|\n");
    for p in TABLE {
        text.push_str(&format!("| `{}=` | {} | {} | {} |\n", p.name, p.values, p.default, p.meaning));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_parameter_is_taken() {
        let (requests, warnings) = parse(
            "quiet mmos.root=PARTLABEL=images:/root.wim mmos.rootwait=3 mmos.index=2 mmos.onfail=poweroff \
             mmos.profile=Calibration mmos.watchdog=30 mmos.loglevel=warn console=ttyS0\n",
        );
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(
            requests,
            Requests {
                root: Some("PARTLABEL=images:/root.wim".into()),
                rootwait: Some(Duration::from_secs(3)),
                index: Some("2".into()),
                onfail: Some(OnFail::Poweroff),
                profile: Some("Calibration".into()),
                watchdog: Some(Watch::Seconds(30)),
                loglevel: Some(LevelFilter::Warn),
            }
        );
    }

    #[test]
    fn quotes_are_read_as_the_kernel_reads_them() {
        let given = "a \"b c=d e\" mmos.root=\"PARTLABEL=two words:/r\"\tx=\"open f=\"g\"h =i j= -- mmos.index=3";
        let expect = [
            ("a", None),
            ("b c", Some("d e")),
            ("mmos.root", Some("PARTLABEL=two words:/r")),
            ("x", Some("open f=\"g\"h =i j= -- mmos.index=3")),
        ];
        let expect: Vec<_> = expect.map(|(n, v)| (n.to_owned(), v.map(str::to_owned))).into();
        assert_eq!(words(given), expect);
        assert_eq!(words("=i j= -- k"), [("=i".to_owned(), None), ("j".to_owned(), Some(String::new()))]);
    }

    #[test]
    fn an_unknown_name_is_reported_with_the_nearest_one() {
        let (requests, warnings) = parse("mmos.rotwait=5 mmos.zzzzzzzzzzz systemd.unit=x");
        assert_eq!(requests, Requests::default());
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("did you mean mmos.rootwait?"), "{warnings:?}");
    }

    #[test]
    fn a_bad_value_changes_nothing_and_says_what_is_taken() {
        let (requests, warnings) = parse(
            "mmos.rootwait=soon mmos.rootwait=-1 mmos.rootwait=99999999 mmos.onfail=panic mmos.root= mmos.index \
             mmos.profile=Current mmos.profile=../../etc mmos.watchdog=3 mmos.watchdog=on mmos.loglevel=loud",
        );
        assert_eq!(requests, Requests::default());
        assert_eq!(warnings.len(), 11, "{warnings:#?}");
        assert!(warnings[3].contains("reboot, poweroff or shell"), "{warnings:?}");
    }

    #[test]
    fn dash_and_underscore_are_the_same_and_the_last_one_counts() {
        let (requests, _) = parse("mmos.index=1 mmos.index=base");
        assert_eq!(requests.index.as_deref(), Some("base"));
    }

    #[test]
    fn the_markdown_table_names_each_parameter_in_a_row_of_its_own() {
        let text = markdown();
        assert_eq!(text.lines().count(), TABLE.len() + 2);
        for p in TABLE {
            assert!(text.contains(&format!("| `{}=` |", p.name)));
        }
        assert!(text.lines().all(|line| line.matches('|').count() == 5));
    }

    proptest! {
        #[test]
        fn any_command_line_is_read_without_harm(cmdline in "[ -~\\t\\n\"=é]{0,200}") {
            parse(&cmdline);
        }

        #[test]
        fn a_quoted_value_is_given_whole(value in "[ -!#-~]{1,40}") {
            prop_assert_eq!(words(&format!("a=1 b=\"{value}\" c")), [
                ("a".to_owned(), Some("1".to_owned())),
                ("b".to_owned(), Some(value)),
                ("c".to_owned(), None),
            ]);
        }
    }
}
