//! What a ring keeps, and what is left of it when its writer dies at any moment.

use super::*;
use crate::log::record::{Entry, Source};
use proptest::prelude::*;

fn line(seq: u64, text: &str) -> Line {
    let entry = Entry::new(Source::Output, seq * 1000, 6, text.to_owned());
    Line { seq, cursor: seq * 2, wall: seq * 1000, entry }
}

fn numbered(from: u64, to: u64) -> Vec<Line> {
    // Not of one letter: what compresses to nothing would hide that blocks are bounded.
    (from..=to).map(|n| line(n, &format!("line {n} {:032x}", u128::from(n).wrapping_pow(11)))).collect()
}

fn all(ring: &Ring) -> Vec<u64> {
    let mut seen = Vec::new();
    let mut at = 0;
    while let Some(block) = ring.block(at).unwrap() {
        let before = seen.len();
        ring.read_block(&block, |line| seen.push(line.seq)).unwrap();
        assert_eq!(u64::try_from(seen.len() - before).unwrap(), block.lines);
        assert_eq!(seen[before], block.first_seq);
        at = block.next();
    }
    ring.read_tail(|line| seen.push(line.seq)).unwrap();
    seen
}

fn ring() -> (tempfile::TempDir, Ring) {
    let dir = tempfile::tempdir().unwrap();
    let ring = Ring::open(dir.path().join("a.service")).unwrap();
    (dir, ring)
}

fn reopen(ring: &Ring) -> Ring {
    Ring::open(ring.path().to_owned()).unwrap()
}

#[test]
fn lines_are_kept_in_order_through_blocks_and_tail_and_the_supervisors_death() {
    let (_dir, mut ring) = ring();
    for n in (1..3000).step_by(7) {
        ring.append(&numbered(n, n + 6)).unwrap();
        assert_eq!(ring.seq(), n + 6);
    }
    let last = ring.seq();
    assert_eq!(all(&ring), (1..=last).collect::<Vec<_>>());
    assert!(ring.end() > TAIL_END);
    let again = reopen(&ring);
    assert_eq!(all(&again), all(&ring));
    assert_eq!((again.seq(), again.cursor(), again.bytes()), (ring.seq(), ring.cursor(), ring.bytes()));
    // And it goes on where it was.
    let mut again = again;
    again.append(&numbered(last + 1, last + 500)).unwrap();
    assert_eq!(all(&again), (1..=last + 500).collect::<Vec<_>>());
    // Backwards, too.
    let (mut block, mut first) = (again.last_block().unwrap(), Vec::new());
    while let Some(found) = block {
        first.push(found.first_seq);
        block = again.block_before(&found).unwrap();
    }
    first.reverse();
    assert!(first.len() > 3 && first[0] == 1 && first.is_sorted(), "{first:?}");
}

#[test]
fn a_line_that_is_not_ended_is_there_for_the_next_supervisor() {
    let (_dir, mut ring) = ring();
    ring.append(&numbered(1, 3)).unwrap();
    ring.partial = b"dying wor".to_vec();
    ring.append(&[]).unwrap();
    let mut again = reopen(&ring);
    assert_eq!(again.partial, b"dying wor");
    assert_eq!(all(&again), [1, 2, 3]);
    again.partial.clear();
    again.append(&numbered(4, 4)).unwrap();
    assert_eq!(reopen(&again).partial, b"");
    assert_eq!(all(&reopen(&again)), [1, 2, 3, 4]);
    // Where there is no room for it behind the tail, the tail becomes a block.
    again.append(&numbered(5, 300)).unwrap();
    let blocks = again.end();
    let mut next = 301;
    while again.tail + 4096 < TAIL_ROOM {
        again.append(&numbered(next, next)).unwrap();
        next += 1;
    }
    again.partial = vec![b'x'; 4096];
    again.append(&[]).unwrap();
    assert!(again.end() > blocks);
    assert_eq!(reopen(&again).partial.len(), 4096);
}

#[test]
fn the_oldest_gives_way_and_its_memory_is_given_back() {
    let (_dir, mut ring) = ring();
    let file = ring.path().to_owned();
    for n in (1..40_000).step_by(100) {
        ring.append(&numbered(n, n + 99)).unwrap();
        while ring.block_bytes() > 64 * 1024 {
            assert!(ring.evict().unwrap());
        }
    }
    let kept = all(&ring);
    let first = kept[0];
    assert_eq!(kept, (first..=ring.seq()).collect::<Vec<_>>());
    assert_eq!((ring.overwritten(), ring.overwritten_to()), (first - 1, (first - 1) * 2));
    use std::os::unix::fs::MetadataExt;
    let taken = std::fs::metadata(&file).unwrap().blocks() * 512;
    assert!(taken <= ring.bytes() && taken <= 64 * 1024 + TAIL_END, "{taken} of {}", ring.bytes());
    let again = reopen(&ring);
    assert_eq!((again.overwritten(), all(&again)), (first - 1, kept));
    while ring.evict().unwrap() {}
    ring.drop_tail().unwrap();
    assert_eq!(all(&ring), [0_u64; 0]);
    assert_eq!(ring.overwritten(), ring.seq());
    assert!(ring.bytes() <= 2 * PAGE, "{}", ring.bytes());
    assert_eq!(reopen(&ring).seq(), ring.seq());
}

/// A file as it may be when its writer was killed after `bytes` of what an action writes, in the order it writes them.
fn torn(before: &[u8], after: &[u8], bytes: usize) -> Vec<u8> {
    let mut file = before.to_vec();
    file.resize(before.len().max(after.len()), 0);
    let changed = |at: &usize| after.get(*at) != file.get(*at);
    // Blocks and frames are written before the head that speaks of them.
    let order: Vec<usize> = (256..after.len()).chain(0..256).filter(changed).take(bytes).collect();
    for at in order {
        file[at] = after[at];
    }
    file
}

#[test]
fn whenever_the_writer_dies_each_line_is_there_once() {
    let (dir, mut ring) = ring();
    let read = |ring: &Ring| std::fs::read(ring.path()).unwrap();
    ring.append(&numbered(1, 400)).unwrap();
    type Action = fn(&mut Ring);
    let actions: [Action; 4] = [
        |ring| ring.append(&numbered(401, 405)).unwrap(),
        |ring| ring.seal().unwrap(),
        |ring| ring.append(&numbered(406, 406)).unwrap(),
        |ring| ring.seal().unwrap(),
    ];
    let torn_path = dir.path().join("torn");
    for action in actions {
        let (before, lines_before) = (read(&ring), all(&ring));
        action(&mut ring);
        let (after, lines_after) = (read(&ring), all(&ring));
        let changed = before.len().max(after.len());
        let mut seen_both = [false, false];
        for bytes in (0..changed).step_by(3) {
            let file = torn(&before, &after, bytes);
            std::fs::write(&torn_path, &file).unwrap();
            let found = all(&Ring::open(torn_path.clone()).unwrap());
            assert!(found == lines_before || found == lines_after, "after {bytes} bytes: {found:?}");
            seen_both[usize::from(found == lines_after)] = true;
            if file == after {
                break;
            }
        }
        assert!(seen_both[1]);
    }
}

#[test]
fn a_damaged_block_costs_no_more_than_itself_and_a_file_that_is_none_begins_anew() {
    let (dir, mut ring) = ring();
    ring.append(&numbered(1, 2000)).unwrap();
    let mut bytes = std::fs::read(ring.path()).unwrap();
    let second = ring.block(ring.block(0).unwrap().unwrap().next()).unwrap().unwrap();
    bytes[usize::try_from(second.at).unwrap() + 100] ^= 1;
    let path = dir.path().join("b");
    std::fs::write(&path, &bytes).unwrap();
    let damaged = Ring::open(path.clone()).unwrap();
    let error = damaged.read_block(&damaged.block(second.at).unwrap().unwrap(), |_| ()).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(damaged.block(second.next()).unwrap().is_some());
    // Its head unreadable: all blocks are lost, and counted, once they are to give way.
    bytes[usize::try_from(ring.start()).unwrap()] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let mut damaged = Ring::open(path.clone()).unwrap();
    assert!(damaged.block(0).is_err());
    assert!(damaged.evict().unwrap());
    assert_eq!(all(&damaged), (damaged.overwritten() + 1..=2000).collect::<Vec<_>>());
    std::fs::write(&path, b"not a log at all").unwrap();
    let mut rubbish = Ring::open(path).unwrap();
    rubbish.append(&numbered(1, 2)).unwrap();
    assert_eq!(all(&reopen(&rubbish)), [1, 2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_file_harms_its_reader(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0..40_000_usize) {
        let (_dir, mut ring) = ring();
        ring.append(&numbered(1, 900)).unwrap();
        let mut file = std::fs::read(ring.path()).unwrap();
        let at = at.min(file.len());
        let end = file.len().min(at + bytes.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        std::fs::write(ring.path(), file).unwrap();
        let mut damaged = reopen(&ring);
        let mut at = 0;
        while let Ok(Some(block)) = damaged.block(at) {
            let _ = damaged.read_block(&block, |_| ());
            at = block.next();
        }
        let _ = damaged.read_tail(|_| ());
        let _ = damaged.append(&numbered(damaged.seq() + 1, damaged.seq() + 10));
        while let Ok(true) = damaged.evict() {}
    }
}
