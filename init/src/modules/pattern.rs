//! Patterns of `modules.alias` against a device's `modalias`: the shell's `*`, `?` and `[…]`, as `fnmatch(3)` without
//! flags has them, in time proportional to the two lengths' product at worst, whatever the pattern.

/// Makes `-` and `_` the same outside brackets, as kmod does: module names are written with either.
pub fn normalise(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .map(|c| {
            match c {
                '[' => inside = true,
                ']' => inside = false,
                _ => {}
            }
            if c == '-' && !inside { '_' } else { c }
        })
        .collect()
}

/// Whether the whole of `text` matches `pattern`.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    // Where to go on when what follows the last '*' does not fit: the pattern after it, the text one further on.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern.split_first(), text.split_first()) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                again = Some((rest, text));
                pattern = rest;
                continue;
            }
            (Some((b'?', rest)), Some((_, tail))) => Some((rest, tail)),
            (Some((b'[', rest)), Some((c, tail))) => match set(rest, *c) {
                Some((true, after)) => Some((after, tail)),
                Some((false, _)) => None,
                // A '[' that nothing closes stands for itself.
                None => (*c == b'[').then_some((rest, tail)),
            },
            (Some((b'\\', rest)), Some((c, tail))) => match rest.split_first() {
                Some((escaped, after)) if escaped == c => Some((after, tail)),
                _ => None,
            },
            (Some((p, rest)), Some((c, tail))) if p == c => Some((rest, tail)),
            _ => None,
        };
        match (step, again) {
            (Some((rest, tail)), _) => (pattern, text) = (rest, tail),
            (None, Some((rest, from))) => {
                let Some((_, shorter)) = from.split_first() else { return false };
                again = Some((rest, shorter));
                (pattern, text) = (rest, shorter);
            }
            (None, None) => return false,
        }
    }
}

/// Reads a set after its `[`: whether `c` is in it, and what follows its `]`.
fn set(set: &[u8], c: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match set.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    let mut first = true;
    loop {
        let (low, after) = rest.split_first()?;
        rest = after;
        if *low == b']' && !first {
            return Some((found != negated, rest));
        }
        first = false;
        let high = match rest {
            [b'-', high, after @ ..] if *high != b']' => {
                rest = after;
                high
            }
            _ => low,
        };
        found |= (*low..=*high).contains(&c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_patterns_that_drivers_use_match() {
        for (pattern, text, expect) in [
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4", true),
            ("virtio:d00000002v*", "virtio:d00000001v00001AF4", false),
            ("pci:v*d*sv*sd*bc01sc08i02*", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", true),
            ("usb:v0BDAp81[5-9]?d*", "usb:v0BDAp8153d0000", true),
            ("usb:v0BDAp81[5-9]?d*", "usb:v0BDAp8143d0000", false),
            ("of:N*T*Cvendor,boardC*", "of:NleftT(null)Cvendor,boardCother", true),
            ("a[!b]c", "axc", true),
            ("a[^b]c", "abc", false),
            ("a[]x]c", "a]c", true),
            ("a[b", "a[b", true),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("*", "", true),
            ("?", "", false),
            ("", "", true),
            ("**a*", "bab", true),
        ] {
            assert_eq!(matches(pattern, text), expect, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(150)));
        assert!(!matches(&format!("{}b", "*a".repeat(100)), &"a".repeat(4000)));
    }

    #[test]
    fn dashes_become_underscores_outside_of_sets() {
        assert_eq!(normalise("platform:gpio-keys[0-9]-x"), "platform:gpio_keys[0-9]_x");
    }

    proptest! {
        #[test]
        fn a_text_without_wildcards_matches_itself_alone(a in "[a-z0-9:]{0,12}", b in "[a-z0-9:]{0,12}") {
            prop_assert!(matches(&a, &a));
            prop_assert_eq!(matches(&a, &b), a == b);
        }

        #[test]
        fn a_part_replaced_by_a_star_still_matches(a in "[a-z]{0,9}", b in "[a-z]{0,9}", c in "[a-z]{0,9}") {
            let pattern = format!("{}*{}", a, c);
            let text = format!("{}{}{}", a, b, c);
            prop_assert!(matches(&pattern, &text));
        }

        #[test]
        fn any_pattern_is_read_without_harm(pattern in "[\\[\\]*?!^a-c\\\\-]{0,30}", text in "[a-c\\[-]{0,30}") {
            matches(&pattern, &text);
        }
    }
}
