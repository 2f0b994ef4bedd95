//! What becomes of the lines that a service writes.

use super::*;
use proptest::prelude::*;

const A: UnitId = UnitId(0);

fn outputs() -> (tempfile::TempDir, Outputs) {
    let dir = tempfile::tempdir().unwrap();
    let mut outputs = Outputs::new(dir.path());
    outputs.pipe(A, "a.service", false).unwrap();
    (dir, outputs)
}

fn say(outputs: &mut Outputs, text: &str) {
    let (writer, _) = outputs.pipe(A, "a.service", false).unwrap();
    rustix::io::write(writer, text.as_bytes()).unwrap();
    // More at once than is read at once.
    while outputs.drain(A, 7, false) {}
}

fn all(outputs: &Outputs, lines: usize) -> Vec<Line> {
    let mut tail = outputs.tail(A, "a.service", lines);
    let mut out = Vec::new();
    loop {
        let next = outputs.next_lines(A, &mut tail);
        if next.is_empty() {
            return out;
        }
        out.extend(next);
    }
}

#[test]
fn lines_get_number_time_and_priority() {
    let (_dir, mut outputs) = outputs();
    say(&mut outputs, "one\n<3>two\nthr");
    say(&mut outputs, "ee\r\n");
    let lines: Vec<_> = all(&outputs, 0).into_iter().map(|l| (l.seq, l.time, l.priority, l.text)).collect();
    let line = |seq, priority, text: &str| (seq, 7, priority, text.to_owned());
    assert_eq!(lines, [line(1, 6, "one"), line(2, 3, "two"), line(3, 6, "three")]);
    assert_eq!(all(&outputs, 1)[0].text, "three");
}

#[test]
fn a_line_without_an_end_is_kept_when_its_writer_is_gone() {
    let (_dir, mut outputs) = outputs();
    say(&mut outputs, "dying wor");
    assert_eq!(all(&outputs, 0), []);
    outputs.drain(A, 8, true);
    assert_eq!(all(&outputs, 0)[0].text, "dying wor");
}

#[test]
fn a_log_is_bounded_and_keeps_the_newest() {
    let (dir, mut outputs) = outputs();
    for n in 0..3000 {
        say(&mut outputs, &format!("line {n} {}\n", "x".repeat(100)));
    }
    let size: u64 = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(size <= FILE_LIMIT.saturating_mul(2), "{size}");
    let lines = all(&outputs, 0);
    assert!(lines.last().unwrap().text.starts_with("line 2999 "));
    assert!(lines.windows(2).all(|pair| pair[0].seq.checked_add(1) == Some(pair[1].seq)));
    assert!(lines.len() > 400, "{}", lines.len());
}

#[test]
fn a_follower_sees_every_line_across_a_turn_of_the_files() {
    let (_dir, mut outputs) = outputs();
    let mut tail = outputs.tail(A, "a.service", 0);
    let mut seen = Vec::new();
    for n in 0..2000 {
        say(&mut outputs, &format!("{n} {}\n", "x".repeat(100)));
        seen.extend(outputs.next_lines(A, &mut tail).into_iter().map(|line| line.seq));
    }
    assert_eq!(seen, (1..=2000).collect::<Vec<u64>>());
}

#[test]
fn counting_goes_on_after_the_supervisor_died() {
    let (dir, mut outputs) = outputs();
    say(&mut outputs, "one\ntwo\n");
    drop(outputs);
    let mut next = Outputs::new(dir.path());
    say(&mut next, "three\n");
    // Right after the files were turned over, the last number stands in the old one.
    fs::rename(dir.path().join("a.service"), dir.path().join("a.service.old")).unwrap();
    let mut third = Outputs::new(dir.path());
    say(&mut third, "four\n");
    assert_eq!(all(&third, 0).into_iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn who_reads_is_told_how_many_lines_are_lost() {
    let (_dir, mut outputs) = outputs();
    say(&mut outputs, "first\n");
    let mut tail = outputs.tail(A, "a.service", 0);
    assert_eq!(outputs.next_lines(A, &mut tail).len(), 1);
    // The follower does not read while the files are turned over many times.
    for n in 2..=5000 {
        say(&mut outputs, &format!("{n} {}\n", "x".repeat(100)));
    }
    let mut seen = Vec::new();
    loop {
        let next = outputs.next_lines(A, &mut tail);
        if next.is_empty() {
            break;
        }
        seen.extend(next);
    }
    let losses: Vec<&Line> = seen.iter().filter(|line| line.text.contains("lines lost")).collect();
    let [loss] = losses.as_slice() else { panic!("{losses:?}") };
    let shown = u64::try_from(seen.len().checked_sub(1).unwrap()).unwrap();
    let lost = 4999_u64.checked_sub(shown).unwrap();
    assert_eq!(loss.text, format!("[{lost} lines lost: the log keeps the newest alone]"));
    assert_eq!(loss.priority, 4);
    // Who asks for all that is kept sees it too, and who asks for the last lines does not.
    assert!(all(&outputs, 0)[0].text.contains("lines lost"));
    assert!(all(&outputs, 5).iter().all(|line| line.text.ends_with('x')));
}

proptest! {
    #[test]
    fn nothing_is_lost_however_it_is_cut(pieces in proptest::collection::vec("[a-z\n]{0,50}", 0..20)) {
        let mut partial = Vec::new();
        let mut out = String::new();
        for piece in &pieces {
            partial.extend_from_slice(piece.as_bytes());
            split(&mut partial, false, |line| { out.push_str(&String::from_utf8_lossy(line)); out.push('\n'); });
        }
        out.push_str(&String::from_utf8_lossy(&partial));
        prop_assert_eq!(out, pieces.concat());
    }
}
