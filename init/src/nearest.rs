//! The nearest of some known names to one that is not known, for "did you mean": a mistyped setting must be found by
//! the person who typed it.

/// The candidate that takes the fewest single-character edits to become `name`, if it is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, candidate)| *edits <= candidate.chars().count().div_ceil(3).min(4))
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance, row by row.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut next = Vec::with_capacity(row.len());
        next.push(left);
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            let replaced = if x == *y { diagonal } else { diagonal.saturating_add(1) };
            left = replaced.min(above.saturating_add(1)).min(left.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, edits) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("root", "root", 0), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn a_typo_is_near_and_another_word_is_not() {
        let names = ["mmos.root", "mmos.rootwait", "mmos.onfail"];
        assert_eq!(nearest("mmos.rootwiat", names), Some("mmos.rootwait"));
        assert_eq!(nearest("mmos.on_fail", names), Some("mmos.onfail"));
        assert_eq!(nearest("something.else", names), None);
    }
}
