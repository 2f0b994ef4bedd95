//! The active profile: which services it starts, and what decides a unit's start type. Between the files under
//! `/etc/mmos/profiles` and the boot.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::unit::{StartType, full_name};

/// The profile that is active unless another is asked for; it need not exist.
pub const DEFAULT: &str = "Default";
/// Stands for the active profile where one is named, and so can name none.
const RESERVED: &str = "Current";
/// "A profile's name is shorter than 64 characters", as in the reference.
const NAME_BOUND: usize = 64;
/// Matches every service that the profile does not name.
const ANY: &str = "*";

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name, which is its file's.
    pub name: String,
    /// For people.
    pub description: String,
    services: BTreeMap<String, StartType>,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not a name for a profile.
    #[error("{0:?} cannot be a profile's name: it must be 1 to 63 characters, without /, and not \"Current\"")]
    Name(String),
    /// There is no such file.
    #[error("there is no profile {name:?}: {path} does not exist")]
    Missing {
        /// The profile.
        name: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("profile {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a profile.
    #[error("profile {path} is not valid: {source}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        source: Box<toml::de::Error>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    description: String,
    #[serde(default)]
    services: BTreeMap<String, StartType>,
}

/// What the image says of itself, in `/etc/mmos/image.toml`. Keys that others need are left to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageInfo {
    /// The image's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The profile that is active unless the boot asks for another.
    pub profile: Option<String>,
}

impl ImageInfo {
    /// Reads the file at `path`; a missing one says nothing.
    ///
    /// # Errors
    /// In words, for the log.
    pub fn read(path: &Path) -> Result<ImageInfo, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| format!("{} is not valid: {error}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ImageInfo::default()),
            Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
        }
    }
}

impl Profile {
    /// A profile that leaves everything to the units.
    pub fn empty(name: &str) -> Profile {
        Profile { name: name.to_owned(), description: String::new(), services: BTreeMap::new() }
    }

    /// Reads the profile `name` from the folder `dir`. `Default` need not exist.
    pub fn read(dir: &Path, name: &str) -> Result<Profile, ProfileError> {
        let bad = name.is_empty()
            || name.chars().count() >= NAME_BOUND
            || name.eq_ignore_ascii_case(RESERVED)
            || name.starts_with('.')
            || name.contains(['/', '\0']);
        if bad {
            return Err(ProfileError::Name(name.to_owned()));
        }
        let path = dir.join(format!("{name}.toml"));
        match std::fs::read_to_string(&path) {
            Ok(text) => Profile::parse(name, &text).map_err(|source| ProfileError::Syntax { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && name == DEFAULT => Ok(Profile::empty(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ProfileError::Missing { name: name.to_owned(), path })
            }
            Err(source) => Err(ProfileError::Read { path, source }),
        }
    }

    fn parse(name: &str, text: &str) -> Result<Profile, Box<toml::de::Error>> {
        let file: File = toml::from_str(text)?;
        let services = file
            .services
            .into_iter()
            .map(|(unit, start)| if unit == ANY { (unit, start) } else { (full_name(&unit), start) })
            .collect();
        Ok(Profile { name: name.to_owned(), description: file.description, services })
    }

    /// The start type of `unit`, whose own file says `own`, and what decided it.
    pub fn start_type(&self, unit: &str, own: Option<StartType>) -> (StartType, String) {
        if let Some(start) = self.services.get(unit) {
            return (*start, format!("profile {}", self.name));
        }
        // "*" speaks of services; a target has nothing that could run.
        if let Some(start) = self.services.get(ANY)
            && unit.ends_with(".service")
        {
            return (*start, format!("profile {} (*)", self.name));
        }
        match own {
            Some(start) => (start, "unit".to_owned()),
            None => (StartType::Demand, "default".to_owned()),
        }
    }

    /// Units that the profile names.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str).filter(|name| *name != ANY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str) -> Profile {
        Profile::parse("Line7", text).unwrap()
    }

    #[test]
    fn name_before_star_before_unit_before_default() {
        let p = profile("[services]\nmemory-test = \"disabled\"\n\"*\" = \"demand\"\n");
        assert_eq!(
            p.start_type("memory-test.service", Some(StartType::Auto)),
            (StartType::Disabled, "profile Line7".into())
        );
        assert_eq!(p.start_type("b.service", Some(StartType::Auto)), (StartType::Demand, "profile Line7 (*)".into()));
        let p = profile("description = \"x\"\n");
        assert_eq!(p.start_type("b.service", Some(StartType::Auto)), (StartType::Auto, "unit".into()));
        assert_eq!(p.start_type("b.service", None), (StartType::Demand, "default".into()));
    }

    #[test]
    fn star_speaks_of_services_alone() {
        let p = profile("[services]\n\"*\" = \"auto\"\n");
        assert_eq!(p.start_type("a.service", None).0, StartType::Auto);
        assert_eq!(p.start_type("shutdown.target", None).0, StartType::Demand);
    }

    #[test]
    fn a_profile_that_cannot_be_used_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| Profile::read(dir.path(), name);
        assert_eq!(read(DEFAULT).unwrap(), Profile::empty(DEFAULT));
        assert!(matches!(read("Line7"), Err(ProfileError::Missing { .. })));
        for name in ["", "current", "../x", ".x", &"x".repeat(64)] {
            assert!(matches!(read(name), Err(ProfileError::Name(_))), "{name}");
        }
        std::fs::write(dir.path().join("Bad.toml"), "[services]\na = \"sometimes\"\n").unwrap();
        let text = read("Bad").unwrap_err().to_string();
        assert!(text.contains("Bad.toml") && text.contains("line 2"), "{text}");
        let long = "x".repeat(63);
        std::fs::write(dir.path().join(format!("{long}.toml")), "").unwrap();
        assert!(read(&long).is_ok());
    }
}
