//! "Did you mean …?": the known name nearest to a misspelt one.

/// The candidate nearest to `name`, if any is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase();
    // A third of the letters wrong is a different word.
    let most = (wanted.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap neighbours) that make `a` into `b`: optimal string alignment.
fn distance(a: &str, b: &str) -> usize {
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
                && !before.is_empty()
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
    fn the_word_that_was_meant_is_found() {
        let known = ["ExecStart", "ExecStop", "ExecStartPre", "Restart", "RestartSec"];
        assert_eq!(nearest("ExecStrat", known), Some("ExecStart"));
        assert_eq!(nearest("execstart", known), Some("ExecStart"));
        assert_eq!(nearest("RestartSecs", known), Some("RestartSec"));
        assert_eq!(nearest("Wallpaper", known), None);
    }

    #[test]
    fn a_swap_is_one_edit() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}
