//! What the tests about roots share: a machine that boots one, or must not.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use vm::images::{builder, command};
use vm::{Case, Ended, Image, Machine, Vm};

/// The image that is booted from everywhere: a case without files of its own, ended by the root's own command.
pub fn image() -> Image {
    Case::new("roots").boot("onfail = \"poweroff\"").build().unwrap()
}

/// Boots the machine, asks what root it runs on, and powers it off.
pub fn boots(machine: &Machine, format: &str) {
    let mut vm = machine.boot().unwrap();
    vm.must("mmosctl wait-boot").unwrap();
    let record = record(&mut vm);
    assert_eq!(record["root"]["format"], format, "{record}");
    assert_eq!(vm.must("mmosctl is-mmos; echo $?").unwrap().trim_end().lines().last(), Some("0"));
    assert_eq!(vm.power_off().unwrap(), Ended::Poweroff);
}

/// The boot record of the guest.
pub fn record(vm: &mut Vm) -> serde_json::Value {
    serde_json::from_str(&vm.must("cat /run/mmos/boot.json").unwrap()).unwrap()
}

/// Boots the machine into recovery; all of `words` must be in the line that it says. Gives back the console.
pub fn recovers(machine: &Machine, words: &[&str]) -> String {
    let mut vm = machine.boot().unwrap();
    vm.wait_for("cannot boot").unwrap();
    let line = vm.wait_for("\n").unwrap();
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
    assert_eq!(vm.wait_for_end().unwrap(), Ended::Poweroff);
    let console = vm.console.text();
    assert!(!console.contains("Kernel panic"), "{console}");
    console
}

/// Runs a line of shell on the host, in `folder`; it must succeed.
pub fn run(line: &str, folder: &Path) {
    command(Command::new("sh").args(["-ec", line]).current_dir(folder))
        .unwrap_or_else(|error| panic!("{line}: {error}"));
}

/// The root of `image`, unpacked.
pub fn unpacked(image: &Image, work: &Path) -> PathBuf {
    let tree = work.join("tree");
    fs::create_dir(&tree).unwrap();
    command(Command::new(builder()).arg("apply").arg(image.root()).arg(&tree)).unwrap();
    tree
}

/// Writes `content` into `disk` at `offset`.
pub fn write_at(disk: &Path, offset: u64, content: &Path) {
    let mut disk = File::options().write(true).create(true).truncate(false).open(disk).unwrap();
    disk.seek(SeekFrom::Start(offset)).unwrap();
    std::io::copy(&mut File::open(content).unwrap(), &mut disk).unwrap();
}
