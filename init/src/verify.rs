//! Step 5: what the initramfs demands of the machine and of the image, before a byte of it is unpacked. Each demand
//! that fails says what was wanted and what was found.
//!
//! The chain of signatures will be one more demand here, beside the pinned hash: [`image`] is called with the opened
//! source, before anything else reads it as a whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::VerifyConfig;

/// Which demand failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another machine than the image is for.
    #[error("this machine is not one that the image is for: wanted {wanted}, found {found}")]
    Platform {
        /// The IDs in `boot.toml`.
        wanted: String,
        /// What the machine calls itself.
        found: String,
    },
    /// Another device than the image is for.
    #[error("this device is not one that the image is for: wanted serial number {wanted}, found {found}")]
    Serial {
        /// The numbers in `boot.toml`.
        wanted: String,
        /// What the device calls itself.
        found: String,
    },
    /// Another image than the pinned one.
    #[error("the image is not the one that was pinned: wanted SHA-256 {wanted}, found {found} over {bytes} bytes")]
    Hash {
        /// The hash in `boot.toml`.
        wanted: String,
        /// That of the image.
        found: String,
        /// How many bytes of it were hashed.
        bytes: u64,
    },
    /// The image could not be read to its end.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Error::Platform { .. } | Error::Serial { .. } => {
                "Use an image that was built for this device, or name the device under [verify] in its boot.toml"
            }
            Error::Hash { .. } => "Write the image again, or build the initramfs for this image",
            Error::Read { .. } => "Check the medium, and write the image again",
        }
    }
}

/// What a machine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Manufacturer, family, product, version; an empty text where there is none.
    pub platform: [String; 4],
    /// Serial number; empty where there is none.
    pub serial: String,
}

impl Machine {
    /// Asks the firmware: SMBIOS where there is one, else the device tree. From a device tree, the manufacturer is the
    /// vendor of the board's `compatible` ("vendor,board"), the product its board, the family the last entry (the
    /// SoC) without vendor, the version its `model`.
    pub fn read(smbios: &Path, device_tree: &Path) -> Machine {
        let text = |folder: &Path, name: &str| {
            let bytes = std::fs::read(folder.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim().to_owned()
        };
        if smbios.is_dir() {
            let dmi = |name| text(smbios, name);
            return Machine {
                platform: ["sys_vendor", "product_family", "product_name", "product_version"].map(dmi),
                serial: dmi("product_serial"),
            };
        }
        let compatible = text(device_tree, "compatible");
        let mut entries = compatible.split('\0');
        let (vendor, board) = entries.next().and_then(|entry| entry.split_once(',')).unwrap_or_default();
        let soc = compatible.rsplit('\0').next().and_then(|entry| entry.split_once(',')).unwrap_or_default().1;
        Machine {
            platform: [vendor.to_owned(), soc.to_owned(), board.to_owned(), text(device_tree, "model")],
            serial: text(device_tree, "serial-number"),
        }
    }

    /// The machine we run on.
    pub fn this() -> Machine {
        Machine::read(Path::new("/sys/class/dmi/id"), Path::new("/proc/device-tree"))
    }

    fn id(&self, parts: usize) -> String {
        self.platform.iter().take(parts).map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

/// Whether `machine` is one that the image is for.
pub fn machine(config: &VerifyConfig, machine: &Machine) -> Result<(), Error> {
    if let Some(wanted) = &config.platform {
        // Compared as whole texts, since a part may itself hold a dot.
        let (three, four) = (machine.id(3), machine.id(4));
        if !wanted.iter().any(|id| *id == three || *id == four) {
            return Err(Error::Platform { wanted: either(wanted), found: format!("{four:?}") });
        }
    }
    if let Some(wanted) = &config.serial {
        // A device without a number must not match an empty one.
        if machine.serial.is_empty() || !wanted.contains(&machine.serial) {
            return Err(Error::Serial { wanted: either(wanted), found: format!("{:?}", machine.serial) });
        }
    }
    Ok(())
}

/// Whether the image that lies in `files`, in as many bytes at the start of each as stand beside it, is the pinned one:
/// the hash is over all of them, one after another, as `cat x.swm x2.swm | sha256sum` gives it.
///
/// An image on a device is read again to be unpacked. This shows a wrong or damaged image, not a device that gives
/// other bytes the second time.
pub fn image(config: &VerifyConfig, files: &[(PathBuf, u64)]) -> Result<(), Error> {
    let Some(mut pin) = Pin::of(config) else { return Ok(()) };
    for (path, bytes) in files {
        pass(path, *bytes, &mut pin).map_err(|source| Error::Read { path: path.clone(), source })?;
    }
    pin.check()
}

fn pass(path: &Path, bytes: u64, pin: &mut Pin) -> io::Result<()> {
    let mut source = File::open(path)?.take(bytes);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => pin.add(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The pinned hash, over bytes that pass by: for an image that is copied before it is used, so that what was checked
/// is what is used.
pub struct Pin {
    wanted: String,
    hasher: Sha256,
    bytes: u64,
}

impl Pin {
    /// The one that `config` demands, if it demands one.
    pub fn of(config: &VerifyConfig) -> Option<Pin> {
        let wanted = config.sha256.as_ref()?.as_str().to_owned();
        Some(Pin { wanted, hasher: Sha256::new(), bytes: 0 })
    }

    /// The next bytes of the image.
    pub fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }

    /// Whether all of them together are the pinned image.
    ///
    /// # Errors
    /// Where they are not.
    pub fn check(self) -> Result<(), Error> {
        let found: String = self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found == self.wanted {
            log::info!("the image is the pinned one (SHA-256 {found})");
            return Ok(());
        }
        Err(Error::Hash { wanted: self.wanted, found, bytes: self.bytes })
    }
}

fn either(wanted: &[String]) -> String {
    wanted.iter().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn contoso() -> Machine {
        Machine { platform: ["Contoso", "Phone", "One", "2.1"].map(str::to_owned), serial: "A1".into() }
    }

    fn demands(text: &str) -> VerifyConfig {
        config::parse(&format!("[verify]\n{text}")).unwrap().verify
    }

    #[test]
    fn three_or_four_parts_of_one_platform_id_are_enough() {
        for (ids, expect) in [
            ("[\"Contoso.Phone.One\"]", true),
            ("[\"Contoso.Phone.One.2.1\"]", true),
            ("[\"Other.Phone.One\", \"Contoso.Phone.One\"]", true),
            ("[\"Contoso.Phone.One.3\"]", false),
            ("[\"Contoso.Phone.Two\"]", false),
            ("[\"contoso.phone.one\"]", false),
        ] {
            assert_eq!(machine(&demands(&format!("platform = {ids}")), &contoso()).is_ok(), expect, "{ids}");
        }
    }

    #[test]
    fn a_mismatch_says_what_was_wanted_and_what_was_found() {
        let error = machine(&demands("platform = [\"A.B.C\", \"D.E.F\"]"), &contoso()).unwrap_err().to_string();
        assert!(error.contains("\"A.B.C\" or \"D.E.F\"") && error.contains("Contoso.Phone.One.2.1"), "{error}");
        let error = machine(&demands("serial = [\"B2\"]"), &contoso()).unwrap_err().to_string();
        assert!(error.contains("\"B2\"") && error.contains("\"A1\""), "{error}");
    }

    #[test]
    fn a_serial_number_must_be_there_and_match() {
        assert!(machine(&demands("serial = [\"B2\", \"A1\"]"), &contoso()).is_ok());
        let nameless = Machine { serial: String::new(), ..contoso() };
        assert!(machine(&demands("serial = [\"\"]"), &nameless).is_err());
    }

    #[test]
    fn nothing_demanded_is_nothing_checked() {
        assert!(machine(&VerifyConfig::default(), &Machine::default()).is_ok());
        assert!(image(&VerifyConfig::default(), &[("/nonexistent".into(), 1)]).is_ok());
    }

    #[test]
    fn the_pinned_hash_covers_exactly_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device");
        std::fs::write(&path, b"abc and what else the device holds").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let pinned = demands(&format!("sha256 = \"{abc}\""));
        assert!(image(&pinned, &[(path.clone(), 3)]).is_ok());
        let error = image(&pinned, &[(path.clone(), 4)]).unwrap_err();
        assert!(error.to_string().contains(abc) && error.to_string().contains("over 4 bytes"), "{error}");
        // An image in two files: pinned by both, in this order.
        let second = folder.path().join("second");
        std::fs::write(&second, b"c").unwrap();
        assert!(image(&pinned, &[(path.clone(), 2), (second.clone(), 1)]).is_ok());
        assert!(image(&pinned, &[(second, 1), (path, 2)]).is_err());
    }

    #[test]
    fn smbios_goes_before_the_device_tree() {
        let folder = tempfile::tempdir().unwrap();
        let (dmi, tree) = (folder.path().join("dmi"), folder.path().join("tree"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("compatible"), "acme,widget\0brcm,bcm2711\0").unwrap();
        std::fs::write(tree.join("model"), "Acme Widget Rev 1\0").unwrap();
        std::fs::write(tree.join("serial-number"), "1000abcd\0").unwrap();
        let machine = Machine::read(&dmi, &tree);
        assert_eq!(machine.id(3), "acme.bcm2711.widget");
        assert_eq!((machine.platform[3].as_str(), machine.serial.as_str()), ("Acme Widget Rev 1", "1000abcd"));
        std::fs::create_dir(&dmi).unwrap();
        std::fs::write(dmi.join("sys_vendor"), "Contoso \n").unwrap();
        assert_eq!(Machine::read(&dmi, &tree).id(4), "Contoso...");
    }
}
