//! `/etc/mmos/boot.toml` of the initramfs: what the maker of the image decided, and what a command line cannot undo.
//! Absent means the defaults. A file that is there and broken stops the boot: read as "defaults", a typing error would
//! switch its own checks off.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::params::{OnFail, Watch};

/// Everything that the file may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootConfig {
    /// Where the root image is, where the command line does not say.
    pub root: Option<String>,
    /// Seconds to wait for it.
    pub rootwait: Option<u16>,
    /// What to do when it cannot be booted.
    pub onfail: Option<OnFail>,
    /// Which image of a WIM.
    pub index: Option<Index>,
    /// Which profile.
    pub profile: Option<String>,
    /// How long the system may hang.
    pub watchdog: Option<Watch>,
    /// Whether `onfail = "shell"` may be asked for at all.
    pub allow_shell: bool,
    /// Which modules to load.
    pub modules: ModuleConfig,
    /// What must hold before anything is unpacked.
    pub verify: VerifyConfig,
}

/// An image of a WIM: its number, or its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Index {
    /// Counted from 1.
    Number(u32),
    /// As the WIM's own description calls it.
    Name(String),
}

/// `[modules]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModuleConfig {
    /// Loaded in this order, each with what it depends on: `"name"`, or `"name key=value …"` with options.
    pub load: Vec<String>,
    /// Whether modules are then loaded for the devices that are there.
    pub auto: bool,
}

impl Default for ModuleConfig {
    fn default() -> Self {
        ModuleConfig { load: Vec::new(), auto: true }
    }
}

/// `[verify]`: each entry that is there must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyConfig {
    /// SHA-256 of the root image, in hexadecimal.
    pub sha256: Option<Sha256Hex>,
    /// Platform IDs, `Manufacturer.Family.Product` or with `.Version`; one match is enough.
    pub platform: Option<Vec<String>>,
    /// Serial numbers; one match is enough.
    pub serial: Option<Vec<String>>,
}

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Sha256Hex(String);

impl Sha256Hex {
    /// The digits, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Sha256Hex(text.to_ascii_lowercase()))
        } else {
            Err("sha256 takes 64 hexadecimal digits, as sha256sum prints them")
        }
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is there, and cannot be read.
    #[error("{} of the initramfs cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, or says something that is not known.
    #[error("{} of the initramfs is not valid: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong there.
        reason: String,
    },
}

/// Reads the file at `path`; absent, it says nothing.
pub fn read(path: &Path) -> Result<BootConfig, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|reason| Error::Invalid { path: path.to_owned(), reason }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BootConfig::default()),
        Err(source) => Err(Error::Unreadable { path: path.to_owned(), source }),
    }
}

/// Reads the text of the file; the error is one line that names line and column.
pub fn parse(text: &str) -> Result<BootConfig, String> {
    let config: BootConfig = toml::from_str(text).map_err(|error| {
        let message = error.message().replace('\n', " ");
        match error.span().and_then(|span| text.get(..span.start)) {
            Some(before) => {
                let line = before.matches('\n').count().saturating_add(1);
                let column = before.chars().rev().take_while(|c| *c != '\n').count().saturating_add(1);
                format!("line {line}, column {column}: {message}")
            }
            None => message,
        }
    })?;
    check(&config)?;
    Ok(config)
}

/// What the types cannot say.
fn check(config: &BootConfig) -> Result<(), String> {
    for (name, list) in [("platform", &config.verify.platform), ("serial", &config.verify.serial)] {
        // An empty list would be read by one person as "any" and by another as "none".
        if list.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("[verify] {name} is an empty list: name at least one, or leave it out"));
        }
    }
    for id in config.verify.platform.iter().flatten() {
        if id.split('.').filter(|part| !part.is_empty()).count() < 3 {
            return Err(format!(
                "[verify] platform {id:?} is not Manufacturer.Family.Product or Manufacturer.Family.Product.Version"
            ));
        }
    }
    if let Some(profile) = &config.profile {
        crate::params::check_profile(profile).map_err(|wanted| format!("profile = {profile:?}: it takes {wanted}"))?;
    }
    if let Some(seconds) = config.rootwait.filter(|seconds| u64::from(*seconds) > crate::params::MAX_ROOTWAIT) {
        return Err(format!("rootwait = {seconds}: it takes a whole number of seconds from 0 to 3600"));
    }
    if config.onfail == Some(OnFail::Shell) && !config.allow_shell {
        return Err("onfail = \"shell\" needs allow_shell = true".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_file_means_the_defaults() {
        let config = read(Path::new("/nonexistent/boot.toml")).unwrap();
        assert_eq!(config, BootConfig::default());
        assert!(config.modules.auto && !config.allow_shell);
    }

    #[test]
    fn a_whole_file_is_read() {
        let config = parse(
            r#"
            root = "PARTLABEL=images:/root.wim"
            rootwait = 30
            onfail = "shell"
            index = 2
            profile = "Line-1"
            watchdog = 30
            allow_shell = true
            [modules]
            load = ["virtio_blk", "usbcore autosuspend=-1"]
            auto = false
            [verify]
            sha256 = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
            platform = ["Contoso.Phone.One", "Contoso.Phone.One.2"]
            serial = ["A1"]
            "#,
        )
        .unwrap();
        assert_eq!(config.rootwait, Some(30));
        assert_eq!(config.onfail, Some(OnFail::Shell));
        assert_eq!(config.watchdog, Some(Watch::Seconds(30)));
        assert_eq!(parse("watchdog = \"off\"").unwrap().watchdog, Some(Watch::Off));
        assert_eq!(config.index, Some(Index::Number(2)));
        assert_eq!(parse("index = \"factory\"").unwrap().index, Some(Index::Name("factory".into())));
        assert!(config.verify.sha256.unwrap().as_str().starts_with("e3b0c442"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expect) in [
            ("root = \"x\"\nrotwait = 3\n", "line 2, column 1"),
            ("\n\nroot = 3", "line 3"),
            ("[verify]\nsha256 = \"abc\"", "64 hexadecimal digits"),
            ("[verify]\nplatform = []", "empty list"),
            ("[verify]\nplatform = [\"a.b\"]", "Manufacturer.Family.Product"),
            ("[verify]\nsignature = \"x\"", "signature"),
            ("onfail = \"shell\"", "allow_shell"),
            ("onfail = \"panic\"", "panic"),
            ("profile = \"Current\"", "Current"),
            ("rootwait = -1", "-1"),
            ("rootwait = 3601", "from 0 to 3600"),
            ("watchdog = 3", "watchdog = 3: it takes off, or"),
            ("watchdog = \"on\"", "from 4 to 3600"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(expect), "{text:?}: {reason}");
            assert!(!reason.contains('\n'), "{reason}");
        }
        assert_eq!(parse("rootwait = 3600").unwrap().rootwait, Some(3600));
    }
}
