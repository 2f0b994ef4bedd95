//! The block devices that are there, from `/sys/class/block`, with what tells one from another.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::gpt;
use super::spec::DeviceSpec;
use super::superblock::{FileSystem, probe};

/// How long a device may take to answer before it is gone on without it. A disk that dies may never do.
const ANSWER: Duration = Duration::from_secs(4);
/// A reading thread's stack; the reads themselves are on the heap.
const STACK: usize = 256 << 10;
/// Bytes of the list of devices that the one line of recovery has room for.
const ROOM: usize = 500;

/// One block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockDevice {
    /// As the kernel calls it: `vda1`.
    pub name: String,
    /// Size in bytes; 0 for a drive without a medium.
    pub bytes: u64,
    /// The disk that it is a part of, and its number there.
    pub part_of: Option<(String, u32)>,
    /// Name of the partition.
    pub part_label: Option<String>,
    /// Unique number of the partition, in lower case.
    pub part_uuid: Option<String>,
    /// The file system on it, where it was looked at and one is known.
    pub file_system: Option<FileSystem>,
}

/// Where the kernel shows devices: `/sys/class/block` and `/dev`, or folders like them in a test.
#[derive(Debug, Clone)]
pub struct Places {
    /// `/sys/class/block`
    pub class: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// Devices that have not answered yet. They are not asked again until they have.
    silent: Arc<Mutex<BTreeSet<String>>>,
}

impl Default for Places {
    fn default() -> Self {
        Places::at("/sys/class/block", "/dev")
    }
}

impl Places {
    /// With the kernel's list of devices in `class`, and the nodes in `dev`.
    pub fn at(class: impl Into<PathBuf>, dev: impl Into<PathBuf>) -> Self {
        Places { class: class.into(), dev: dev.into(), silent: Arc::default() }
    }

    /// Whether a device was asked and has not answered yet.
    pub fn is_waiting(&self) -> bool {
        !self.silent.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Reads from each of the devices `names`, all at once and each in a thread of its own, so that one that does not
    /// answer holds neither us nor the others.
    fn read_each<T: Send + 'static>(
        &self,
        names: Vec<String>,
        patience: Duration,
        read: fn(&Places, &str) -> T,
    ) -> Vec<(String, T)> {
        let silent = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = Instant::now();
        let (done, answers) = channel();
        for name in names {
            if !silent().insert(name.clone()) {
                continue;
            }
            let (places, done, device) = (self.clone(), done.clone(), name.clone());
            let work = move || {
                let answer = read(&places, &device);
                places.silent.lock().unwrap_or_else(PoisonError::into_inner).remove(&device);
                let _ = done.send((device, answer));
            };
            if let Err(error) = std::thread::Builder::new().stack_size(STACK).spawn(work) {
                log::warn!("{name} is not read: {error}");
                silent().remove(&name);
            }
        }
        drop(done);
        let mut read = Vec::new();
        loop {
            match answers.recv_timeout(patience.saturating_sub(begin.elapsed())) {
                Ok(answer) => read.push(answer),
                Err(RecvTimeoutError::Disconnected) => return read,
                Err(RecvTimeoutError::Timeout) => {
                    let names: Vec<String> = silent().iter().cloned().collect();
                    log::warn!("no answer within {} s, going on without: {}", patience.as_secs(), names.join(", "));
                    return read;
                }
            }
        }
    }

    /// All block devices with a size, by name. Loop and RAM disks that hold nothing have none.
    pub fn list(&self) -> Vec<BlockDevice> {
        let mut devices: Vec<BlockDevice> = std::fs::read_dir(&self.class)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| self.describe(entry.file_name().to_str()?))
            .filter(|device| device.bytes > 0)
            .collect();
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        devices
    }

    /// The node of a device. The kernel writes '!' for a '/' in a name.
    pub fn node(&self, name: &str) -> PathBuf {
        self.dev.join(name.replace('!', "/"))
    }

    fn describe(&self, name: &str) -> Option<BlockDevice> {
        let folder = self.class.join(name);
        let sectors: u64 = read_number(&folder.join("size"))?;
        let mut device = BlockDevice {
            name: name.to_owned(),
            // In units of 512 bytes, whatever the disk's own sectors are (Documentation/ABI/stable/sysfs-block).
            bytes: sectors.saturating_mul(512),
            ..BlockDevice::default()
        };
        let uevent = std::fs::read_to_string(folder.join("uevent")).unwrap_or_default();
        for (key, value) in uevent.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "PARTNAME" => device.part_label = Some(value.to_owned()),
                "PARTUUID" => device.part_uuid = Some(value.to_ascii_lowercase()),
                _ => {}
            }
        }
        if let Some(number) = read_number(&folder.join("partition")).and_then(|n| u32::try_from(n).ok()) {
            // The entry of the class is a link into the folder of the disk.
            let disk = std::fs::canonicalize(&folder).ok()?;
            let disk = disk.parent()?.file_name()?.to_str()?.to_owned();
            device.part_of = Some((disk, number));
        }
        Some(device)
    }

    /// Fills in what the kernel did not say about partitions, from the tables on the disks.
    pub fn read_tables(&self, devices: &mut [BlockDevice]) {
        let mut disks: Vec<String> = devices
            .iter()
            .filter(|device| device.part_uuid.is_none())
            .filter_map(|device| Some(device.part_of.as_ref()?.0.clone()))
            .collect();
        disks.dedup();
        for (disk, partitions) in self.read_each(disks, ANSWER, Places::read_table) {
            for device in devices.iter_mut() {
                let Some((_, number)) = device.part_of.as_ref().filter(|(of, _)| *of == disk) else { continue };
                if let Some(partition) = partitions.iter().find(|p| p.number == *number) {
                    device.part_uuid.get_or_insert_with(|| partition.uuid.clone());
                    // The kernel writes '!' for what is not ASCII; the table has it as it was given.
                    if !partition.name.is_empty() {
                        device.part_label = Some(partition.name.clone());
                    }
                }
            }
        }
    }

    fn read_table(&self, disk: &str) -> Vec<gpt::Partition> {
        let folder = self.class.join(disk);
        let sector = read_number(&folder.join("queue/logical_block_size")).unwrap_or(512);
        let length = read_number(&folder.join("size")).unwrap_or(0).saturating_mul(512);
        File::open(self.node(disk)).and_then(|mut file| gpt::read(&mut file, sector, length)).unwrap_or_else(|error| {
            log::debug!("{disk}: its partition table cannot be read: {error}");
            Vec::new()
        })
    }

    /// Looks at what is on each device. Reads from all of them, so only where it is asked for.
    pub fn read_superblocks(&self, devices: &mut [BlockDevice]) {
        let names = devices.iter().map(|device| device.name.clone()).collect();
        for (name, found) in self.read_each(names, ANSWER, Places::read_superblock) {
            if let Some(device) = devices.iter_mut().find(|device| device.name == name) {
                device.file_system = found;
            }
        }
    }

    fn read_superblock(&self, name: &str) -> Option<FileSystem> {
        File::open(self.node(name)).and_then(|mut file| probe(&mut file)).unwrap_or_else(|error| {
            log::debug!("{name} cannot be read: {error}");
            None
        })
    }

    /// The device that `spec` names. Of several the first by name, so that each boot takes the same.
    pub fn find(&self, spec: &DeviceSpec) -> Option<BlockDevice> {
        let mut devices = self.list();
        let find = |devices: &[BlockDevice]| devices.iter().find(|device| self.is(device, spec)).cloned();
        if let Some(device) = find(&devices) {
            return Some(device);
        }
        match spec {
            DeviceSpec::Node(_) => None,
            DeviceSpec::PartLabel(_) | DeviceSpec::PartUuid(_) => {
                self.read_tables(&mut devices);
                find(&devices)
            }
            DeviceSpec::Label(_) => {
                self.read_superblocks(&mut devices);
                find(&devices)
            }
        }
    }

    fn is(&self, device: &BlockDevice, spec: &DeviceSpec) -> bool {
        match spec {
            DeviceSpec::Node(path) => self.node(&device.name) == *path,
            DeviceSpec::PartLabel(label) => device.part_label.as_ref() == Some(label),
            DeviceSpec::PartUuid(uuid) => device.part_uuid.as_ref() == Some(uuid),
            DeviceSpec::Label(label) => device.file_system.as_ref().is_some_and(|fs| fs.label == *label),
        }
    }

    /// All devices with all that is known of each, for the person whose root was not found: in one line as far as
    /// there is room in it, and where there is not, each of them in the kernel's log.
    pub fn inventory(&self) -> String {
        let mut devices = self.list();
        self.read_tables(&mut devices);
        self.read_superblocks(&mut devices);
        let devices: Vec<String> = devices.iter().map(BlockDevice::to_string).collect();
        let (line, whole) = summary(&devices);
        if !whole {
            for device in &devices {
                log::error!("there is {device}");
            }
        }
        line
    }
}

/// The devices in one line, and whether it holds all of them.
fn summary(devices: &[String]) -> (String, bool) {
    if devices.is_empty() {
        return ("no block device is there".into(), true);
    }
    let mut line = String::from("there are: ");
    for (place, device) in devices.iter().enumerate() {
        let after = line.len().saturating_add(device.len());
        if after > ROOM {
            let left = devices.len().saturating_sub(place);
            line.push_str(&format!("and {left} more, which the kernel's log names"));
            return (line, false);
        }
        line.push_str(device);
        if place.saturating_add(1) < devices.len() {
            line.push_str("; ");
        }
    }
    (line, true)
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/dev/{} ({} MiB", self.name.replace('!', "/"), self.bytes >> 20)?;
        for (key, value) in [("PARTLABEL", &self.part_label), ("PARTUUID", &self.part_uuid)] {
            if let Some(value) = value {
                write!(f, ", {key}={value}")?;
            }
        }
        if let Some(found) = &self.file_system {
            write!(f, ", {}", found.kind.drivers().first().unwrap_or(&"?"))?;
            if !found.label.is_empty() {
                write!(f, " LABEL={}", found.label)?;
            }
        }
        f.write_str(")")
    }
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A `/sys/class/block` with one disk of two partitions, and a card reader without a card.
    struct Fixture {
        _folder: tempfile::TempDir,
        places: Places,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let (class, dev, disk) = (folder.path().join("class"), folder.path().join("dev"), folder.path().join("d/vda"));
        for path in [&class, &dev, &disk] {
            std::fs::create_dir_all(path).unwrap();
        }
        let image = dev.join("vda");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let output = Command::new("/sbin/sgdisk")
            .args(["-n", "1:0:+4M", "-c", "1:retail", "-n", "2:0:+8M", "-c", "2:images"])
            .args(["-u", "2:0FC63DAF-8483-4772-8E79-3D69D8477DE4"])
            .arg(&image)
            .output()
            .unwrap();
        assert!(output.status.success());
        std::fs::write(disk.join("size"), "32768\n").unwrap();
        std::fs::write(disk.join("uevent"), "MAJOR=254\nDEVTYPE=disk\n").unwrap();
        for (part, number, sectors, label) in [("vda1", "1", "8192", "retail"), ("vda2", "2", "16384", "images")] {
            let path = disk.join(part);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("size"), sectors).unwrap();
            std::fs::write(path.join("partition"), number).unwrap();
            std::fs::write(path.join("uevent"), format!("DEVTYPE=partition\nPARTNAME={label}\n")).unwrap();
            std::os::unix::fs::symlink(&path, class.join(part)).unwrap();
        }
        let empty = class.join("sda");
        std::fs::create_dir(&empty).unwrap();
        std::fs::write(empty.join("size"), "0\n").unwrap();
        std::os::unix::fs::symlink(&disk, class.join("vda")).unwrap();
        File::create(dev.join("vda1")).unwrap().set_len(4 << 20).unwrap();
        let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-L", "data"]).arg(dev.join("vda1")).output().unwrap();
        assert!(made.status.success());
        Fixture { places: Places::at(class, dev), _folder: folder }
    }

    #[test]
    fn a_partition_is_found_by_each_of_its_names() {
        let f = fixture();
        for (spec, expect) in [
            (DeviceSpec::PartLabel("images".into()), "vda2"),
            (DeviceSpec::PartUuid("0fc63daf-8483-4772-8e79-3d69d8477de4".into()), "vda2"),
            (DeviceSpec::Label("data".into()), "vda1"),
            (DeviceSpec::Node(f.places.dev.join("vda")), "vda"),
        ] {
            assert_eq!(f.places.find(&spec).map(|device| device.name), Some(expect.into()), "{spec}");
        }
        for spec in [DeviceSpec::PartLabel("nonesuch".into()), DeviceSpec::Node(f.places.dev.join("sda"))] {
            assert_eq!(f.places.find(&spec), None, "{spec}");
        }
    }

    #[test]
    fn the_inventory_names_all_that_could_have_been_meant() {
        let text = fixture().places.inventory();
        for part in ["/dev/vda ", "PARTLABEL=retail", "ext4 LABEL=data", "PARTLABEL=images", "4772-8e79-3d69d8477de4"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("sda"), "{text}");
    }

    #[test]
    fn a_device_without_block_devices_says_so() {
        let places = Places::at("/nonexistent", "/nonexistent");
        assert_eq!(places.inventory(), "no block device is there");
    }

    #[test]
    fn a_device_that_does_not_answer_holds_neither_us_nor_the_others() {
        let folder = tempfile::tempdir().unwrap();
        // To open a fifo takes until someone writes to it: as long as the test wants.
        let fifo = folder.path().join("sda");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        std::fs::write(folder.path().join("vda"), "x").unwrap();
        let places = Places::at("/nonexistent", folder.path());
        let names = || vec!["sda".to_owned(), "vda".to_owned()];
        let read = |places: &Places, name: &str| File::open(places.node(name)).is_ok();
        let begin = Instant::now();
        assert_eq!(places.read_each(names(), Duration::from_secs(1), read), [("vda".to_owned(), true)]);
        assert!(begin.elapsed() < Duration::from_secs(20) && places.is_waiting());
        // Not asked again while it is silent, so that threads do not pile up; and so there is nothing to wait for.
        let long = Duration::from_secs(3600);
        assert_eq!(places.read_each(names(), long, read), [("vda".to_owned(), true)]);
        drop(std::fs::OpenOptions::new().write(true).open(&fifo).unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        while places.is_waiting() {
            assert!(Instant::now() < deadline, "it has answered, and is still waited for");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_long_list_leaves_room_in_the_line_and_says_where_the_rest_is() {
        let devices: Vec<String> = (0..40).map(|n| format!("/dev/sda{n} (100 MiB, PARTLABEL=part{n})")).collect();
        let (line, whole) = summary(&devices);
        assert!(!whole && line.len() < ROOM + 100, "{line}");
        assert!(line.contains("PARTLABEL=part3)") && line.contains("more, which the kernel's log names"), "{line}");
        assert_eq!(summary(&devices[..2]), (format!("there are: {}; {}", devices[0], devices[1]), true));
    }
}
