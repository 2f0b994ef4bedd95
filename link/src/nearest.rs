//! "Did you mean …?": the known name nearest to a misspelt one. Whoever typed it has to find the mistake: a kernel
//! parameter, a directive of a unit, a unit's name.

/// The candidate nearest to `name`, if any is near enough to be what was meant. Case does not count.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    // A third of the letters wrong is a different word.
    let most = (wanted.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (edits(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, deleted, replaced, or swapped with their neighbour, to make `a` of `b`:
/// optimal string alignment.
pub fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous: Option<char> = None;
    for (i, x) in a.chars().enumerate() {
        let mut row = Vec::with_capacity(last.len());
        row.push(i.saturating_add(1));
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX);
            let next = j.saturating_add(1);
            let replaced = at(&last, j).saturating_add(usize::from(x != *y));
            let deleted = at(&last, next).saturating_add(1);
            let inserted = at(&row, j).saturating_add(1);
            let mut best = replaced.min(deleted).min(inserted);
            let neighbour = j.checked_sub(1).and_then(|k| b.get(k).map(|c| (k, *c)));
            if let (Some(p), Some((k, c))) = (previous, neighbour)
                && p == *y
                && c == x
            {
                best = best.min(at(&before, k).saturating_add(1));
            }
            row.push(best);
        }
        previous = Some(x);
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_in_characters_and_the_same_both_ways() {
        for (a, b, count) in [
            ("", "", 0),
            ("a", "", 1),
            ("abc", "", 3),
            ("root", "root", 0),
            ("ab", "ba", 1),
            ("hlelo", "hello", 1),
            ("kitten", "sitting", 3),
            ("äö", "äx", 1),
        ] {
            assert_eq!(edits(a, b), count, "{a} {b}");
            assert_eq!(edits(b, a), count, "{b} {a}");
        }
    }

    #[test]
    fn the_word_that_was_meant_is_found_and_another_word_is_not() {
        let directives = ["ExecStart", "ExecStop", "ExecStartPre", "Restart", "RestartSec"];
        for (typed, meant) in [
            ("ExecStrat", Some("ExecStart")),
            ("execstart", Some("ExecStart")),
            ("RestartSecs", Some("RestartSec")),
            ("Wallpaper", None),
        ] {
            assert_eq!(nearest(typed, directives), meant, "{typed}");
        }
        let parameters = ["mmos.root", "mmos.rootwait", "mmos.onfail"];
        for (typed, meant) in
            [("mmos.rootwiat", Some("mmos.rootwait")), ("mmos.on_fail", Some("mmos.onfail")), ("something.else", None)]
        {
            assert_eq!(nearest(typed, parameters), meant, "{typed}");
        }
    }
}
