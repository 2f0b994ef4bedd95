//! What is kept of all lines, in how much memory, and what is told of the rest.

use super::*;
use crate::log::reader::{Next, Query, Reader};

fn say(store: &mut Store, unit: &str, text: &str) {
    let id = store.ring(unit);
    store.append(id, vec![Entry::new(Source::Output, 7, 6, text.to_owned())]);
}

fn texts(store: &Store, unit: &str) -> Vec<String> {
    let mut reader = Reader::new(Query { units: vec![unit.to_owned()], lines: 10_000, ..Query::default() });
    let mut texts = Vec::new();
    loop {
        match reader.next(store) {
            Next::Line(_, line) => texts.push(line.entry.text),
            Next::Pause => {}
            Next::End | Next::Over => return texts,
        }
    }
}

fn noise(n: u64) -> String {
    (0..8_u64).map(|part| format!("{:016x}", (n * 8 + part).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
}

fn taken(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512).sum()
}

#[test]
fn all_logs_together_are_bounded_and_a_quiet_unit_does_not_pay_for_a_loud_one() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { unit: 128 << 10, all: 512 << 10 };
    let mut store = Store::open(dir.path(), bounds);
    for n in 0..150 {
        say(&mut store, "quiet.service", &noise(n));
    }
    let quiet = texts(&store, "quiet.service");
    assert_eq!(quiet.len(), 150);
    for n in 0..30_000 {
        say(&mut store, &format!("loud-{}.service", n % 10), &noise(n));
    }
    assert!(store.bytes() <= bounds.all, "{}", store.bytes());
    assert!(taken(dir.path()) <= bounds.all, "{}", taken(dir.path()));
    assert_eq!(texts(&store, "quiet.service"), quiet);
    // What is left is shared evenly.
    let kept: Vec<usize> = (0..10).map(|n| texts(&store, &format!("loud-{n}.service")).len()).collect();
    let (least, most) = (kept.iter().min().unwrap(), kept.iter().max().unwrap());
    assert!(*least > 100 && *most < least * 3, "{kept:?}");
    let lost = store.lost("loud-3.service");
    assert_eq!((lost.overwritten + u64::try_from(kept[3]).unwrap(), lost.dropped), (3000, 0));
}

#[test]
fn more_units_than_there_is_room_for_keep_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Bounds { unit: 64 << 10, all: 64 << 10 });
    for n in 0..5000 {
        say(&mut store, &format!("unit-{}.service", n % 100), &noise(n));
    }
    // A page for each is the least.
    assert!(store.bytes() <= 100 * 4096 + (64 << 10), "{}", store.bytes());
    assert_eq!(texts(&store, "unit-99.service").last(), Some(&noise(4999)));
    let lost: u64 = (0..100).map(|n| store.lost(&format!("unit-{n}.service")).overwritten).sum();
    let kept: usize = (0..100).map(|n| texts(&store, &format!("unit-{n}.service")).len()).sum();
    assert_eq!(usize::try_from(lost).unwrap() + kept, 5000);
    assert!(kept > 1000, "{kept}");
}

#[test]
fn counting_goes_on_after_the_supervisor_died() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { unit: 64 << 10, all: 1 << 20 };
    let mut store = Store::open(dir.path(), bounds);
    say(&mut store, "a.service", "one");
    say(&mut store, "b.service", "two");
    let cursor = store.cursor();
    drop(store);
    let mut store = Store::open(dir.path(), bounds);
    assert!(store.cursor() >= cursor);
    say(&mut store, "a.service", "three");
    assert_eq!(texts(&store, "a.service"), ["one", "three"]);
    assert_eq!(store.find("a.service").unwrap().seq(), 2);
    // Even if all that had the last cursors has given way, or their file is gone.
    let cursor = store.cursor();
    fs::remove_file(dir.path().join("b.service")).unwrap();
    assert!(Store::open(dir.path(), bounds).cursor() >= cursor);
    fs::remove_file(dir.path().join(".cursor")).unwrap();
    assert!(Store::open(dir.path(), bounds).cursor() >= cursor);
}

#[test]
fn what_is_not_kept_is_counted_and_told_once_for_many() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { unit: 64 << 10, all: 1 << 20 };
    let mut store = Store::open(dir.path(), bounds);
    let id = store.ring("a.service");
    assert_eq!(store.next_deadline(), None);
    store.lose(id, Loss::Rate, 3, 1000);
    store.lose(id, Loss::Rate, 4, 2000);
    store.lose(id, Loss::Cut, 100, 2000);
    assert_eq!(store.lost("a.service").dropped, 7);
    store.tick(3000);
    assert_eq!(texts(&store, "a.service"), [""; 0]);
    let due = store.next_deadline().unwrap();
    store.tick(due + 1000);
    let said = texts(&store, "a.service");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("[7 lines dropped: more than one unit"), "{said:?}");
    assert!(said[1].starts_with("[100 bytes cut off"), "{said:?}");
    drop(store);
    assert_eq!(Store::open(dir.path(), bounds).lost("a.service"), Lost { overwritten: 0, dropped: 7 });
}

#[test]
fn a_line_that_is_too_long_becomes_several() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Bounds { unit: 64 << 10, all: 1 << 20 });
    say(&mut store, "a.service", &"é".repeat(5000));
    let said = texts(&store, "a.service");
    assert_eq!(said.iter().map(String::len).collect::<Vec<_>>(), [4096, 4096, 1808]);
    assert_eq!(said.concat(), "é".repeat(5000));
}

#[test]
fn whatever_a_sender_says_of_itself_the_rings_stay_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Bounds { unit: 64 << 10, all: 1 << 20 });
    let id = store.ring("a.service");
    for n in 0..50_usize {
        let mut entry = Entry::new(Source::Journal, 7, 6, "x".repeat(LINE_LIMIT));
        entry.identifier = "é".repeat(n * 1000);
        entry.fields = (0..n).map(|field| (format!("FIELD{field}"), "v".repeat(field * 100))).collect();
        store.append(id, vec![entry]);
    }
    assert_eq!(texts(&store, "a.service"), vec!["x".repeat(LINE_LIMIT); 50]);
    assert_eq!(store.lost("a.service"), Lost::default());
}

#[test]
fn where_there_is_no_room_lines_are_counted_and_the_log_goes_on_later() {
    if !rustix::process::geteuid().is_root() {
        skip::because("only root can mount a small tmpfs to fill");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let size = c"size=256k";
    let target = dir.path();
    let flags = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("tmpfs", target, "tmpfs", flags, size) {
        skip::because(format_args!("a tmpfs cannot be mounted: {error}"));
        return;
    }
    let mut store = Store::open(target, Bounds { unit: 128 << 10, all: 1 << 20 });
    say(&mut store, "a.service", "first");
    let filler = target.join(".filler");
    let mut file = File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    for n in 0..1000 {
        say(&mut store, "a.service", &noise(n));
    }
    let dropped = store.lost("a.service").dropped;
    let during = texts(&store, "a.service").len();
    drop(file);
    fs::remove_file(filler).unwrap();
    store.tick(u64::MAX);
    say(&mut store, "a.service", "last");
    let said = texts(&store, "a.service");
    let lost = store.lost("a.service");
    drop(store);
    rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(dropped > 0);
    assert_eq!(lost.dropped, dropped);
    assert_eq!(u64::try_from(during).unwrap() + lost.overwritten + dropped, 1001);
    assert_eq!(said.last().unwrap(), "last");
    assert!(said.contains(&format!("[{dropped} lines dropped: no room in the log's file system]")), "{said:?}");
}
