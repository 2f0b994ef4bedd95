//! Which lines a reader gets, and in which order.

use super::*;
use crate::log::store::{Bounds, KERNEL};

fn store() -> (tempfile::TempDir, Store) {
    bounded(Bounds { unit: 64 << 10, all: 1 << 20 })
}

fn bounded(bounds: Bounds) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), bounds);
    (dir, store)
}

fn say(store: &mut Store, unit: &str, time: u64, priority: u8, text: &str) {
    let id = store.ring(unit);
    store.append(id, vec![Entry::new(Source::Output, time, priority, text.to_owned())]);
}

fn long(n: u64) -> String {
    format!("{n} {:0100x}", u128::from(n).wrapping_pow(7))
}

/// All there is now, with no more than a few steps at a time.
fn read(reader: &mut Reader, store: &Store) -> Vec<Line> {
    let mut lines = Vec::new();
    loop {
        match reader.next(store) {
            Next::Line(_, line) => lines.push(line),
            Next::Pause => {}
            Next::End | Next::Over => return lines,
        }
    }
}

fn texts(query: Query, store: &Store) -> Vec<String> {
    read(&mut Reader::new(query), store).into_iter().map(|line| line.entry.text).collect()
}

fn numbers(texts: &[String]) -> Vec<u64> {
    texts.iter().filter_map(|text| text.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn lines_of_all_units_come_in_one_order_and_can_be_chosen() {
    let (_dir, mut store) = store();
    for n in 0..1000 {
        let unit = ["a.service", "b.service", KERNEL][usize::try_from(n % 3).unwrap()];
        say(&mut store, unit, n, u8::try_from(n % 8).unwrap(), &n.to_string());
    }
    let all = |query| numbers(&texts(query, &store));
    assert_eq!(all(Query::default()), (0..1000).collect::<Vec<_>>());
    let a = Query { units: vec!["a.service".into()], ..Query::default() };
    assert_eq!(all(a.clone()), (0..1000).step_by(3).collect::<Vec<_>>());
    let both = Query { units: vec!["b.service".into(), KERNEL.into()], ..Query::default() };
    assert_eq!(all(both), (0..1000).filter(|n| n % 3 != 0).collect::<Vec<_>>());
    let urgent = Query { priority: 3, since: 100, until: 200, ..Query::default() };
    assert_eq!(all(urgent), (100..=200).filter(|n| n % 8 <= 3).collect::<Vec<_>>());
    assert_eq!(all(Query { lines: 5, ..Query::default() }), [995, 996, 997, 998, 999]);
    assert_eq!(all(Query { lines: 2, priority: 0, ..a.clone() }), [960, 984]);
    assert_eq!(all(Query { lines: 2, until: 500, ..a }), [495, 498]);
    assert_eq!(all(Query { lines: 10, since: 997, ..Query::default() }), [997, 998, 999]);
    assert_eq!(all(Query { units: vec!["none.service".into()], ..Query::default() }), [0_u64; 0]);
}

#[test]
fn a_follower_sees_every_line_across_blocks_and_goes_on_after_a_cursor() {
    let (_dir, mut store) = store();
    let follow = Query { follow: true, ..Query::default() };
    let mut reader = Reader::new(follow.clone());
    let mut seen = Vec::new();
    for n in 1..=3000 {
        say(&mut store, if n % 10 == 0 { "slow.service" } else { "a.service" }, n, 6, &long(n));
        if n % 7 == 0 {
            seen.extend(read(&mut reader, &store));
        }
    }
    seen.extend(read(&mut reader, &store));
    let all: Vec<String> = seen.iter().map(|line| line.entry.text.clone()).collect();
    assert_eq!(numbers(&all), (1..=3000).collect::<Vec<_>>());
    let cursor = seen[2899].cursor;
    let rest = texts(Query { after: Some(cursor), ..follow }, &store);
    assert_eq!(numbers(&rest), (2901..=3000).collect::<Vec<_>>());
}

#[test]
fn who_reads_is_told_how_many_lines_are_lost() {
    let (_dir, mut store) = store();
    say(&mut store, "quiet.service", 0, 6, "here");
    say(&mut store, "a.service", 0, 6, "0 first");
    let mut reader = Reader::new(Query { follow: true, ..Query::default() });
    let first = read(&mut reader, &store);
    assert_eq!(first.len(), 2);
    for n in 1..=20_000 {
        say(&mut store, "a.service", n, 6, &long(n));
    }
    let seen = read(&mut reader, &store);
    let losses: Vec<&Line> = seen.iter().filter(|line| line.entry.source == Source::Supervisor).collect();
    let [loss] = losses.as_slice() else { panic!("{losses:?}") };
    let lost = 20_001 - u64::try_from(seen.len()).unwrap();
    assert_eq!(loss.entry.text, format!("[{lost} lines lost: the log keeps the newest alone]"));
    assert_eq!((loss.entry.priority, loss.seq), (4, lost + 1));
    // All that were given way, the one that had been read among them.
    assert_eq!(store.lost("a.service").overwritten, lost + 1);
    // Who asks for all that is kept sees it too; who asks for the last lines, or for more urgent ones, does not.
    let lost_in = |query| texts(query, &store).iter().filter(|text| text.contains("lost")).count();
    assert_eq!(lost_in(Query::default()), 1);
    assert_eq!(lost_in(Query { lines: 5, ..Query::default() }), 0);
    assert_eq!(lost_in(Query { priority: 3, ..Query::default() }), 0);
    // And so does who goes on where it was cut off; how many lie between is not known then.
    let rest = texts(Query { after: Some(first[1].cursor), ..Query::default() }, &store);
    assert_eq!(rest[0], "[lines lost: the log keeps the newest alone]");
    assert_eq!(numbers(&rest).len(), seen.len() - 1);
    // Nothing was lost of the one that said little.
    assert_eq!(texts(Query { units: vec!["quiet.service".into()], ..Query::default() }, &store), ["here"]);
}

#[test]
fn a_reader_of_little_in_much_stops_now_and_then() {
    let (_dir, mut store) = bounded(Bounds { unit: 4 << 20, all: 8 << 20 });
    say(&mut store, "quiet.service", 0, 2, "here");
    for n in 1..=20_000 {
        say(&mut store, "a.service", n, 6, &long(n));
    }
    for query in [Query { priority: 2, ..Query::default() }, Query { priority: 2, lines: 1, ..Query::default() }] {
        let mut reader = Reader::new(query);
        let (mut pauses, mut lines) = (0, Vec::new());
        loop {
            match reader.next(&store) {
                Next::Line(_, line) => lines.push(line.entry.text),
                Next::Pause => pauses += 1,
                Next::End | Next::Over => break,
            }
        }
        assert_eq!(lines, ["here"]);
        assert!(pauses > 2, "{pauses}");
    }
    // Where one unit alone is asked for, what others said is passed over.
    let mut reader = Reader::new(Query { units: vec!["quiet.service".into()], ..Query::default() });
    assert!(matches!(reader.next(&store), Next::Line(..)));
    assert_eq!(reader.next(&store), Next::End);
}

#[test]
fn a_reader_of_the_past_is_over_and_a_follower_never() {
    let (_dir, mut store) = store();
    for n in 1..=10 {
        say(&mut store, "a.service", n * 10, 6, &n.to_string());
    }
    let mut reader = Reader::new(Query { until: 50, ..Query::default() });
    for n in 1..=5_u64 {
        assert!(matches!(reader.next(&store), Next::Line(_, line) if line.entry.text == n.to_string()));
    }
    assert_eq!(reader.next(&store), Next::Over);
    let mut reader = Reader::new(Query::default());
    assert_eq!(read(&mut reader, &store).len(), 10);
    assert_eq!(reader.next(&store), Next::End);
}
