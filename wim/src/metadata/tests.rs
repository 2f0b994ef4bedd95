//! Metadata written by hand: what Linux cannot have, cycles, overlaps, depth, lengths that lie.

use super::*;
use proptest::prelude::*;

/// Metadata written by hand: directory lists one after another, each ended.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

struct Line<'a> {
    name: &'a [u16],
    attributes: u32,
    children: u64,
    link_group: u64,
    hash: u8,
    short: &'a str,
    /// Names of further streams.
    streams: &'a [&'a str],
}

const FILE: Line<'static> =
    Line { name: &[], attributes: 0x80, children: 0, link_group: 0, hash: 1, short: "", streams: &[] };
const DIRECTORY: Line<'static> = Line { attributes: ATTRIBUTE_DIRECTORY, hash: 0, ..FILE };

impl Writer {
    fn new() -> Writer {
        Writer { bytes: vec![8, 0, 0, 0, 0, 0, 0, 0] }
    }

    fn line(&mut self, line: &Line<'_>) {
        let begin = self.bytes.len();
        let name: Vec<u8> = line.name.iter().flat_map(|u| u.to_le_bytes()).collect();
        let short: Vec<u8> = line.short.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let with_nul = |name: &[u8]| if name.is_empty() { 0 } else { name.len() + 2 };
        let short_at = DENTRY_LEN + with_nul(&name);
        let len = (short_at + with_nul(&short)).next_multiple_of(8);
        self.bytes.resize(begin + len, 0);
        let mut put = |at: usize, value: &[u8]| self.bytes[begin + at..][..value.len()].copy_from_slice(value);
        put(0, &(len as u64).to_le_bytes());
        put(8, &line.attributes.to_le_bytes());
        put(16, &line.children.to_le_bytes());
        put(64, &[line.hash; 20]);
        put(88, &line.link_group.to_le_bytes());
        put(96, &u16::try_from(line.streams.len()).unwrap().to_le_bytes());
        put(98, &u16::try_from(short.len()).unwrap().to_le_bytes());
        put(100, &u16::try_from(name.len()).unwrap().to_le_bytes());
        put(DENTRY_LEN, &name);
        put(short_at, &short);
        for stream in line.streams {
            let begin = self.bytes.len();
            let name: Vec<u8> = stream.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let len = (STREAM_LEN + with_nul(&name)).next_multiple_of(8);
            self.bytes.resize(begin + len, 0);
            let mut put = |at: usize, value: &[u8]| self.bytes[begin + at..][..value.len()].copy_from_slice(value);
            put(0, &(len as u64).to_le_bytes());
            put(16, &[9; 20]);
            put(36, &u16::try_from(name.len()).unwrap().to_le_bytes());
            put(STREAM_LEN, &name);
        }
    }

    fn end(&mut self) {
        self.bytes.extend([0; 8]);
    }

    fn here(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn units(name: &str) -> Vec<u16> {
    name.encode_utf16().collect()
}

/// A root with these lines in it; `children` of a line counts from the start of the root's list.
fn root_with(lines: &[Line<'_>]) -> Result<Tree, WimError> {
    let mut writer = Writer::new();
    writer.line(&DIRECTORY);
    writer.end();
    let list = writer.here();
    writer.bytes[8 + 16..8 + 24].copy_from_slice(&list.to_le_bytes());
    for line in lines {
        writer.line(line);
    }
    writer.end();
    parse(&writer.bytes)
}

/// Where the root's list begins in [`root_with`].
const LIST: u64 = 8 + 104 + 8;

fn why(result: Result<Tree, WimError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn names_that_linux_cannot_have_are_refused() {
    for name in [".", "..", "a/b", "a\0b", "", &"n".repeat(256)] {
        let error = why(root_with(&[Line { name: &units(name), ..FILE }]));
        assert!(error.starts_with("entry "), "{name:?}: {error}");
    }
    let twice = units("same");
    let error = why(root_with(&[Line { name: &twice, ..FILE }, Line { name: &twice, ..FILE }]));
    assert!(error.contains("entry /same: the directory has this name twice"), "{error}");
}

#[test]
fn cycles_are_refused() {
    let error = why(root_with(&[Line { name: &units("d"), children: LIST, ..DIRECTORY }]));
    assert!(error.contains("the tree has a cycle"), "{error}");
}

#[test]
fn lists_that_overlap_end_before_they_multiply() {
    let mut writer = Writer::new();
    writer.line(&DIRECTORY);
    writer.end();
    writer.bytes[24..32].copy_from_slice(&LIST.to_le_bytes());
    // Every directory's list begins at the entry behind its own.
    for n in 0..2000_u32 {
        let name = units(&format!("{n:04}"));
        let next = writer.here() + 112;
        writer.line(&Line { name: &name, children: next, ..DIRECTORY });
    }
    writer.end();
    let error = why(parse(&writer.bytes));
    assert!(error.contains("entries overlap") || error.contains("longer than Linux"), "{error}");
}

/// Entries one inside the other, whose lengths all reach over one large item of attributes at the end.
#[test]
fn entries_that_share_their_attributes_are_refused() {
    const COUNT: usize = 400;
    const VALUES: usize = 16;
    let mut item = Vec::new();
    for n in 0..VALUES {
        item.extend([0xff, 0xff, 8, 0]);
        item.extend(format!("user.{n:03}\0").bytes());
        item.resize(item.len() + 0xffff, 1);
    }
    let mut writer = Writer::new();
    writer.line(&DIRECTORY);
    writer.end();
    writer.bytes[24..32].copy_from_slice(&LIST.to_le_bytes());
    // Each directory's list is the next entry, so that each is read once.
    let begins: Vec<usize> = (0..COUNT)
        .map(|n| {
            let begin = writer.bytes.len();
            let name = units(&format!("{n:06}"));
            writer.line(&Line { name: &name, children: begin as u64 + 128, ..DIRECTORY });
            // An item of no meaning here that ends where the next entry's items begin.
            writer.bytes.resize(begin + 128, 0);
            writer.bytes[begin + 120..begin + 128].copy_from_slice(&[9, 0, 0, 0, 120, 0, 0, 0]);
            begin
        })
        .collect();
    let last = writer.bytes.len();
    writer.bytes.resize(last + 120, 0);
    writer.bytes.extend(TAG_XATTRS.to_le_bytes());
    writer.bytes.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
    writer.bytes.extend(&item);
    writer.bytes.resize(writer.bytes.len().next_multiple_of(8), 0);
    let end = writer.bytes.len();
    for begin in &begins {
        writer.bytes[*begin..begin + 8].copy_from_slice(&((end - begin) as u64).to_le_bytes());
    }
    writer.end();
    // Sound by itself: one of them is read, attributes and all.
    let outermost = &begins[COUNT - 1];
    let mut parser = Parser { bytes: &writer.bytes, tree: Tree::default(), links: HashMap::new(), untaken: end as u64 };
    assert_eq!(parser.dentry(*outermost as u64).unwrap().unwrap().xattrs.len(), VALUES);
    let error = why(parse(&writer.bytes));
    assert!(error.contains("entries overlap"), "{error}");
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    let mut writer = Writer::new();
    writer.line(&DIRECTORY);
    writer.end();
    writer.bytes[24..32].copy_from_slice(&LIST.to_le_bytes());
    let name = units(&"n".repeat(200));
    for _ in 0..30 {
        let next = writer.here() + 504 + 8;
        writer.line(&Line { name: &name, children: next, ..DIRECTORY });
        writer.end();
    }
    let error = why(parse(&writer.bytes));
    assert!(error.contains("longer than Linux can open"), "{error}");
}

#[test]
fn a_link_group_with_different_contents_is_not_one_file() {
    let (a, b, c) = (units("a"), units("b"), units("c"));
    let line = |name, hash| Line { name, link_group: 5, hash, ..FILE };
    let tree = root_with(&[line(&a, 1), line(&b, 2), line(&c, 1)]).unwrap();
    let names = |n: usize| tree.inodes[n].names.clone();
    assert_eq!((tree.inodes.len(), names(1), names(2)), (3, vec![1, 3], vec![2]));
}

/// As DISM makes them: no UNIX data, attributes, short names, and streams that browsers and Explorer leave.
#[test]
fn what_windows_says_becomes_modes_by_rule_and_the_rest_is_counted() {
    const HIDDEN_SYSTEM_ARCHIVE: u32 = 0x2 | 0x4 | 0x20;
    let names = ["Program Files", "read only", "setup.exe", "desktop.ini", "junction"].map(units);
    let [folder, read_only, plain, hidden, junction] = &names;
    let tree = root_with(&[
        Line { name: folder, attributes: ATTRIBUTE_DIRECTORY | ATTRIBUTE_READONLY, short: "PROGRA~1", ..DIRECTORY },
        Line { name: read_only, attributes: ATTRIBUTE_READONLY, short: "READON~1", ..FILE },
        Line { name: plain, streams: &["Zone.Identifier"], hash: 2, ..FILE },
        Line { name: hidden, attributes: HIDDEN_SYSTEM_ARCHIVE, streams: &["a", "b"], hash: 3, ..FILE },
        // A reparse tag of no meaning here, where the link group stands otherwise: its plain contents are taken.
        Line { name: junction, attributes: ATTRIBUTE_REPARSE | 0x20, link_group: 0x8000_0017, hash: 4, ..FILE },
    ])
    .unwrap();
    let modes: Vec<(String, u32)> =
        tree.inodes.iter().skip(1).map(|i| (String::from_utf8(tree.path(i.names[0])).unwrap(), i.meta.mode)).collect();
    let expected = [0o755, 0o444, 0o644, 0o644, 0o644];
    assert_eq!(modes.iter().map(|(_, mode)| *mode).collect::<Vec<_>>(), expected, "{modes:?}");
    assert!(tree.inodes.iter().all(|i| i.mode_by_rule && (i.meta.uid, i.meta.gid) == (0, 0)));
    assert_eq!(tree.inodes[3].hash, [2; 20], "the unnamed stream is the file's contents");
    let counted: Vec<(&str, u64)> = tree.left_out.iter().map(|(what, n)| (*what, *n)).collect();
    assert_eq!(
        counted,
        [
            ("named data streams, which Linux does not have", 3),
            ("reparse points that are no links; their plain contents were taken", 1),
            ("short (8.3) names, which Linux does not need", 2),
        ]
    );
}

#[test]
fn a_short_name_is_no_room_for_lies() {
    let long = units("long name");
    let mut writer = Writer::new();
    writer.line(&Line { name: &long, short: "LONGNA~1", ..FILE });
    let sound = parse_dentry(&writer.bytes[8..], &writer.bytes, 8, writer.here());
    assert!(sound.unwrap().unwrap().has_short_name);
    for (at, value) in [(98, 17_u16), (98, u16::MAX), (100, u16::MAX)] {
        let mut bytes = writer.bytes.clone();
        bytes[8 + at..8 + at + 2].copy_from_slice(&value.to_le_bytes());
        let parsed = parse_dentry(&bytes[8..], &bytes, 8, writer.here());
        assert!(parsed.is_none_or(|result| result.is_err()), "{at} {value}");
    }
}

#[test]
fn files_alone_are_sparse() {
    let (a, b, c) = (units("a"), units("b"), units("c"));
    let sparse_directory = Line { name: &c, attributes: ATTRIBUTE_DIRECTORY | ATTRIBUTE_SPARSE, ..DIRECTORY };
    let sparse_file = Line { name: &a, attributes: ATTRIBUTE_SPARSE, ..FILE };
    let tree = root_with(&[sparse_file, Line { name: &b, ..FILE }, sparse_directory]).unwrap();
    assert_eq!(tree.inodes.iter().map(|i| i.sparse).collect::<Vec<_>>(), [false, true, false, false]);
}

#[test]
fn lengths_that_lie_are_refused() {
    let good = {
        let mut writer = Writer::new();
        writer.line(&DIRECTORY);
        writer.end();
        writer.bytes
    };
    assert_eq!(parse(&good).unwrap().names.len(), 1);
    for (at, value) in [(0, u64::MAX), (0, 1 << 40), (8, u64::MAX), (8, 1 << 50), (8, 50), (24, u64::MAX)] {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        parse(&bytes).unwrap_err();
    }
    for len in 0..good.len() - 8 {
        parse(&good[..len]).unwrap_err();
    }
}

proptest! {
    #[test]
    fn rubbish_is_refused_or_read(head in 0_u8..2, mut bytes in proptest::collection::vec(any::<u8>(), 0..600),
                                  small in proptest::collection::vec((0_usize..600, 0_u8..32), 0..200)) {
        for (at, value) in small {
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
        }
        if head == 1 && bytes.len() > 32 {
            bytes[..16].copy_from_slice(&[8, 0, 0, 0, 0, 0, 0, 0, 112, 0, 0, 0, 0, 0, 0, 0]);
            bytes[16..20].copy_from_slice(&ATTRIBUTE_DIRECTORY.to_le_bytes());
        }
        let _ = parse(&bytes);
    }
}
