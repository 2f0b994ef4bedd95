//! What `mmos.root=` may say, read once into a type.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Where a root image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSpec {
    /// A file of the initramfs.
    Initrd(PathBuf),
    /// A block device: with a path, a file in its file system; without, the device holds the image itself.
    Device {
        /// Which device.
        device: DeviceSpec,
        /// The file in its file system.
        path: Option<PathBuf>,
    },
}

/// Which block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceSpec {
    /// By its node in `/dev`.
    Node(PathBuf),
    /// By the name of the partition, in a GPT.
    PartLabel(String),
    /// By the unique number of the partition: a GPT's GUID, or an MBR's `12345678-01`.
    PartUuid(String),
    /// By the label of its file system.
    Label(String),
}

/// Why a text names no root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No known form.
    #[error("\"{0}\" does not say where a root image is")]
    Form(String),
    /// A path that leaves its file system, or no path.
    #[error("\"{0}\" holds a path that is not absolute, is empty, or goes through \"..\"")]
    Path(String),
}

impl Error {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        "Set mmos.root= (or root in boot.toml) to initrd:/path, /dev/name, PARTLABEL=x, PARTUUID=x or LABEL=x, each but \
         the first with or without :/path"
            .into()
    }
}

impl std::str::FromStr for RootSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("initrd:") {
            return Ok(RootSpec::Initrd(checked(path, text)?));
        }
        // The path begins at the first ":/": a label may hold a colon, or a slash, but hardly both like this.
        let (device, path) = match text.split_once(":/") {
            Some((device, path)) => (device, Some(checked(&format!("/{path}"), text)?)),
            None => (text, None),
        };
        let form = || Error::Form(text.to_owned());
        let device = match device.split_once('=') {
            Some((_, "")) => return Err(form()),
            Some(("PARTLABEL", label)) => DeviceSpec::PartLabel(label.to_owned()),
            Some(("PARTUUID", uuid)) => DeviceSpec::PartUuid(uuid.to_ascii_lowercase()),
            Some(("LABEL", label)) => DeviceSpec::Label(label.to_owned()),
            _ => match device.strip_prefix("/dev/") {
                Some(name) if !name.is_empty() => DeviceSpec::Node(checked(device, text)?),
                _ => return Err(form()),
            },
        };
        Ok(RootSpec::Device { device, path })
    }
}

fn checked(path: &str, text: &str) -> Result<PathBuf, Error> {
    let plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
    let checked = Path::new(path);
    if checked.is_absolute() && checked.file_name().is_some() && checked.components().all(plain) {
        Ok(checked.to_owned())
    } else {
        Err(Error::Path(text.to_owned()))
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Node(path) => path.display().fmt(f),
            DeviceSpec::PartLabel(label) => write!(f, "PARTLABEL={label}"),
            DeviceSpec::PartUuid(uuid) => write!(f, "PARTUUID={uuid}"),
            DeviceSpec::Label(label) => write!(f, "LABEL={label}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device(device: DeviceSpec, path: Option<&str>) -> Result<RootSpec, Error> {
        Ok(RootSpec::Device { device, path: path.map(PathBuf::from) })
    }

    #[test]
    fn each_documented_form_is_read() {
        assert_eq!("initrd:/root.wim".parse(), Ok(RootSpec::Initrd("/root.wim".into())));
        assert_eq!("/dev/vda".parse(), device(DeviceSpec::Node("/dev/vda".into()), None));
        assert_eq!("/dev/vda1:/a/b.wim".parse(), device(DeviceSpec::Node("/dev/vda1".into()), Some("/a/b.wim")));
        assert_eq!(
            "PARTLABEL=my images:/r.wim".parse(),
            device(DeviceSpec::PartLabel("my images".into()), Some("/r.wim"))
        );
        assert_eq!("PARTUUID=ABCD-01".parse(), device(DeviceSpec::PartUuid("abcd-01".into()), None));
        assert_eq!("LABEL=a=b".parse(), device(DeviceSpec::Label("a=b".into()), None));
    }

    #[test]
    fn anything_else_is_refused_with_what_was_said() {
        for text in ["", "root.wim", "/root.wim", "/dev/", "UUID=1", "PARTLABEL=", "LABEL=:/x", "http://x/y"] {
            assert_eq!(text.parse::<RootSpec>(), Err(Error::Form(text.into())), "{text}");
        }
        for text in ["initrd:", "initrd:root.wim", "initrd:/", "/dev/vda:/../x", "/dev/../x", "LABEL=a:/b/../../c"] {
            assert_eq!(text.parse::<RootSpec>(), Err(Error::Path(text.into())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_path_ever_leaves_its_file_system(text in "(initrd:|/dev/v|LABEL=x:)[/.a:]{0,12}") {
            if let Ok(RootSpec::Initrd(path) | RootSpec::Device { path: Some(path), .. }) = text.parse() {
                prop_assert!(path.is_absolute());
                prop_assert!(path.components().all(|c| c != Component::ParentDir));
            }
        }
    }
}
