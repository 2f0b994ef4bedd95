//! The partition table, for the name and the unique number of a partition where the kernel's uevent does not tell
//! them (PARTUUID there: since 6.10). UEFI specification 2.10, 5.3; checksums are checked, the backup is used where
//! the primary is damaged, and every number is bounded, since a table is outside data.

use std::io::{self, Read, Seek};

use super::superblock::read_at;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Its unique number, in lower case: a GUID, or `12345678-01` in an MBR.
    pub uuid: String,
    /// Its name; an MBR has none.
    pub name: String,
}

/// Entries in a table at most; the specification's usual number is 128.
const MAX_ENTRIES: u32 = 1024;
/// Size of an entry at most; it is 128 and may grow by powers of two.
const MAX_ENTRY: u32 = 4096;

/// The partitions of a disk with sectors of `sector` bytes and `length` bytes in all; none where it has no table.
pub fn read(disk: &mut (impl Read + Seek), sector: u64, length: u64) -> io::Result<Vec<Partition>> {
    let last = length.checked_div(sector).and_then(|sectors| sectors.checked_sub(1));
    for header_at in [Some(1), last].into_iter().flatten() {
        if let Some(partitions) = gpt(disk, sector, header_at)? {
            return Ok(partitions);
        }
    }
    Ok(mbr(&read_at(disk, 0, 512)?))
}

fn gpt(disk: &mut (impl Read + Seek), sector: u64, lba: u64) -> io::Result<Option<Vec<Partition>>> {
    let Some(offset) = lba.checked_mul(sector) else { return Ok(None) };
    let header = read_at(disk, offset, sector)?;
    let Some(table) = Table::parse(&header, lba) else { return Ok(None) };
    let Some(offset) = table.entries_lba.checked_mul(sector) else { return Ok(None) };
    let size = u64::from(table.entries).saturating_mul(table.entry_size.into());
    let bytes = read_at(disk, offset, size)?;
    if u64::try_from(bytes.len()).ok() != Some(size) || crc32(&bytes) != table.entries_crc {
        return Ok(None);
    }
    let entry_size = usize::try_from(table.entry_size).unwrap_or(usize::MAX);
    Ok(Some(bytes.chunks_exact(entry_size).zip(1..).filter_map(|(entry, number)| partition(entry, number)).collect()))
}

struct Table {
    entries_lba: u64,
    entries: u32,
    entry_size: u32,
    entries_crc: u32,
}

impl Table {
    /// Reads the header (5.3.2): it must carry the signature, its own place and its own checksum.
    fn parse(sector: &[u8], lba: u64) -> Option<Table> {
        let size = usize::try_from(u32_at(sector, 12)?).ok()?;
        let mut header = sector.get(..size).filter(|_| (92..=4096).contains(&size))?.to_vec();
        let crc = u32_at(&header, 16)?;
        header.get_mut(16..20)?.fill(0);
        if header.get(..8)? != b"EFI PART" || crc32(&header) != crc || u64_at(&header, 24)? != lba {
            return None;
        }
        let table = Table {
            entries_lba: u64_at(&header, 72)?,
            entries: u32_at(&header, 80)?,
            entry_size: u32_at(&header, 84)?,
            entries_crc: u32_at(&header, 88)?,
        };
        (table.entries <= MAX_ENTRIES && (128..=MAX_ENTRY).contains(&table.entry_size)).then_some(table)
    }
}

/// Reads an entry (5.3.3); `None` where it is unused.
fn partition(entry: &[u8], number: u32) -> Option<Partition> {
    if entry.get(..16)?.iter().all(|byte| *byte == 0) {
        return None;
    }
    let units: Vec<u16> = entry
        .get(56..128)?
        .chunks_exact(2)
        .filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)))
        .take_while(|unit| *unit != 0)
        .collect();
    Some(Partition { number, uuid: guid(entry.get(16..32)?)?, name: String::from_utf16_lossy(&units) })
}

/// A GUID as text: the first three fields are little-endian (appendix A).
fn guid(bytes: &[u8]) -> Option<String> {
    let a = u32_at(bytes, 0)?;
    let b = u16::from_le_bytes(bytes.get(4..6)?.try_into().ok()?);
    let c = u16::from_le_bytes(bytes.get(6..8)?.try_into().ok()?);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(format!("{a:08x}-{b:04x}-{c:04x}-{}-{}", hex(bytes.get(8..10)?), hex(bytes.get(10..16)?)))
}

/// The four primary partitions of an MBR, numbered as the kernel does (`block/partitions/msdos.c`). Logical ones have
/// to be told by the kernel.
fn mbr(sector: &[u8]) -> Vec<Partition> {
    let (Some([0x55, 0xaa]), Some(disk), Some(entries)) =
        (sector.get(510..512), u32_at(sector, 440), sector.get(446..510))
    else {
        return Vec::new();
    };
    let used = |entry: &[u8]| entry.get(4).is_some_and(|kind| ![0, 0xee].contains(kind));
    entries
        .chunks_exact(16)
        .zip(1_u32..)
        .filter(|(entry, _)| disk != 0 && used(entry))
        .map(|(_, number)| Partition { number, uuid: format!("{disk:08x}-{number:02x}"), name: String::new() })
        .collect()
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..)?.get(..4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..)?.get(..8)?.try_into().ok()?))
}

/// CRC-32 of IEEE 802.3, bit by bit: a table has 16 KiB, once in a boot.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xedb8_8320 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;
    use std::process::Command;

    const LENGTH: u64 = 16 << 20;

    fn disk() -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LENGTH).unwrap();
        let output = Command::new("/sbin/sgdisk")
            .args(["-n", "1:0:+4M", "-c", "1:retail", "-n", "3:0:+4M", "-c", "3:mmos ïmages"])
            .args(["-u", "3:0FC63DAF-8483-4772-8E79-3D69D8477DE4"])
            .arg(file.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(file.path()).unwrap()
    }

    fn parsed(disk: &[u8]) -> Vec<Partition> {
        read(&mut Cursor::new(disk), 512, disk.len() as u64).unwrap()
    }

    #[test]
    fn what_sgdisk_writes_is_read() {
        let partitions = parsed(&disk());
        assert_eq!(partitions.len(), 2);
        assert_eq!((partitions[0].number, partitions[0].name.as_str()), (1, "retail"));
        assert_eq!(
            partitions[1],
            Partition { number: 3, uuid: "0fc63daf-8483-4772-8e79-3d69d8477de4".into(), name: "mmos ïmages".into() }
        );
    }

    #[test]
    fn the_backup_is_used_where_the_primary_is_damaged() {
        let good = disk();
        for damaged in [512 + 40, 1024 + 60] {
            let mut disk = good.clone();
            disk[damaged] ^= 1;
            assert_eq!(parsed(&disk), parsed(&good));
            let end = disk.len() - 10;
            disk[end - 500] ^= 1;
            assert_eq!(parsed(&disk), []);
        }
    }

    #[test]
    fn an_mbr_gives_its_disk_number_and_the_partition() {
        let mut sector = vec![0; 1024];
        sector[440..444].copy_from_slice(&0x1234_abcd_u32.to_le_bytes());
        sector[446 + 16 + 4] = 0x83;
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(parsed(&sector), [Partition { number: 2, uuid: "1234abcd-02".into(), name: String::new() }]);
    }

    #[test]
    fn the_checksum_is_the_standard_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_table_is_read_without_harm(
            changes in proptest::collection::vec((0_usize..2048, any::<u8>()), 1..40),
            sector in prop_oneof![Just(0_u64), Just(1), Just(512), Just(4096)],
        ) {
            let mut disk = vec![0; 64 * 1024];
            disk[512..520].copy_from_slice(b"EFI PART");
            for (at, byte) in changes {
                disk[at] = byte;
            }
            let _ = read(&mut Cursor::new(&disk), sector, disk.len() as u64);
        }
    }
}
