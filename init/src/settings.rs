//! Step 2: the kernel command line and `boot.toml` made into what this boot shall do. The command line chooses among
//! what the image allows; it never weakens a check.

use std::time::Duration;

use crate::config::{BootConfig, Index, ModuleConfig, VerifyConfig};
use crate::params::{OnFail, Requests, Watch};

/// The root where nobody names one.
pub const DEFAULT_ROOT: &str = "initrd:/root.wim";
/// The wait for it where nobody names one.
pub const DEFAULT_ROOTWAIT: Duration = Duration::from_secs(10);

/// What this boot shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the root is, as it was given.
    pub root: String,
    /// How long to wait for it.
    pub rootwait: Duration,
    /// Which image of a WIM: number or name.
    pub index: Option<String>,
    /// What to do when it cannot be booted.
    pub onfail: OnFail,
    /// Profile that was asked for.
    pub profile: Option<String>,
    /// How long the system may hang.
    pub watchdog: Watch,
    /// Modules.
    pub modules: ModuleConfig,
    /// Checks.
    pub verify: VerifyConfig,
}

impl Settings {
    /// Joins both. The second value holds a warning for each request that was refused.
    pub fn new(requests: Requests, config: BootConfig) -> (Settings, Vec<String>) {
        let mut warnings = Vec::new();
        let mut onfail = requests.onfail.or(config.onfail).unwrap_or(OnFail::Reboot);
        if onfail == OnFail::Shell && !config.allow_shell {
            onfail = config.onfail.unwrap_or(OnFail::Reboot);
            warnings.push(format!(
                "mmos.onfail=shell is refused: this initramfs was built without allow_shell; {} instead",
                onfail.word()
            ));
        }
        let index = config.index.map(|index| match index {
            Index::Number(number) => number.to_string(),
            Index::Name(name) => name,
        });
        let settings = Settings {
            root: requests.root.or(config.root).unwrap_or_else(|| DEFAULT_ROOT.to_owned()),
            rootwait: requests
                .rootwait
                .or_else(|| config.rootwait.map(|s| Duration::from_secs(s.into())))
                .unwrap_or(DEFAULT_ROOTWAIT),
            index: requests.index.or(index),
            onfail,
            profile: requests.profile.or(config.profile),
            watchdog: requests.watchdog.or(config.watchdog).unwrap_or(Watch::DEFAULT),
            modules: config.modules,
            verify: config.verify,
        };
        (settings, warnings)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::new(Requests::default(), BootConfig::default()).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, params};

    fn joined(cmdline: &str, toml: &str) -> (Settings, Vec<String>) {
        Settings::new(params::parse(cmdline).0, config::parse(toml).unwrap())
    }

    #[test]
    fn nothing_said_means_the_documented_defaults() {
        let (settings, warnings) = joined("", "");
        assert_eq!(settings.root, "initrd:/root.wim");
        assert_eq!(settings.rootwait.as_secs(), 10);
        assert_eq!(settings.onfail, OnFail::Reboot);
        assert_eq!(settings.watchdog, Watch::Seconds(60));
        assert!(warnings.is_empty());
        for (name, default) in [
            ("mmos.root", "initrd:/root.wim"),
            ("mmos.rootwait", "10"),
            ("mmos.onfail", "reboot"),
            ("mmos.watchdog", "60"),
        ] {
            let row = params::TABLE.iter().find(|p| p.name == name).unwrap();
            assert_eq!(row.default.trim_matches('`'), default);
        }
    }

    #[test]
    fn the_command_line_goes_before_the_image() {
        let file = "root = \"LABEL=a\"\nrootwait = 1\nindex = 3\nonfail = \"poweroff\"\nprofile = \"A\"";
        let (settings, _) = joined("", file);
        assert_eq!((settings.root.as_str(), settings.index.as_deref()), ("LABEL=a", Some("3")));
        let (settings, _) = joined("mmos.root=/dev/vda mmos.rootwait=2 mmos.index=1 mmos.profile=B", file);
        assert_eq!((settings.root.as_str(), settings.index.as_deref()), ("/dev/vda", Some("1")));
        assert_eq!(settings.rootwait.as_secs(), 2);
        assert_eq!((settings.onfail, settings.profile.as_deref()), (OnFail::Poweroff, Some("B")));
    }

    #[test]
    fn a_shell_is_given_only_where_the_image_allows_it() {
        let (settings, warnings) = joined("mmos.onfail=shell", "onfail = \"poweroff\"");
        assert_eq!(settings.onfail, OnFail::Poweroff);
        assert!(warnings.concat().contains("allow_shell"));
        let (settings, warnings) = joined("mmos.onfail=shell", "allow_shell = true");
        assert_eq!(settings.onfail, OnFail::Shell);
        assert!(warnings.is_empty());
    }

    #[test]
    fn no_command_line_takes_a_check_away() {
        let file = "[verify]\nserial = [\"A1\"]";
        let (settings, _) = joined("mmos.verify=no mmos.root=/dev/vda mmos.onfail=shell", file);
        assert_eq!(settings.verify.serial.as_deref(), Some(&["A1".to_owned()][..]));
    }
}
