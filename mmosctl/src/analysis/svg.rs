//! Panels of bars over an axis of time, as SVG 1.1: no script, no font that has to be there, nothing from elsewhere.

use std::fmt::Write as _;

use super::report::short;

/// The whole picture's width, and that of its parts, in pixels.
const WIDTH: i64 = 1200;
const LABELS: i64 = 250;
const PLOT: i64 = 800;
const ROW: i64 = 20;
const BAR: i64 = 12;
const MARGIN: i64 = 20;
/// Above a panel's first row: its title, and the axis.
const HEAD: i64 = 52;
/// A label that is longer than fits is cut.
const LONGEST: usize = 34;
/// The axis has so many marks at most.
const MARKS: i64 = 10;

const INK: &str = "#1f2933";
const FAINT: &str = "#6b7785";
const GRID: &str = "#dfe4ea";

/// A piece of a bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub begin: i64,
    pub end: i64,
    pub colour: &'static str,
}

/// A bar with its name.
#[derive(Debug, Clone, Default)]
pub struct Bar {
    pub label: String,
    pub pieces: Vec<Piece>,
    /// What stands at its right.
    pub note: String,
    /// What a reader sees who points at it.
    pub hint: String,
    /// Where a mark is set: that it was ready.
    pub mark: Option<i64>,
}

/// Bars that share an axis.
#[derive(Debug, Clone)]
pub struct Panel {
    pub title: String,
    pub begin: i64,
    pub end: i64,
    pub bars: Vec<Bar>,
}

/// Draws all of it, with a legend of colours.
pub fn draw(title: &str, legend: &[(&str, &str)], panels: &[Panel]) -> String {
    let mut body = String::new();
    let mut y = MARGIN.saturating_add(18);
    text(&mut body, MARGIN, y, 18, INK, "start", title);
    y = y.saturating_add(26);
    let mut x = MARGIN;
    for (colour, word) in legend {
        let width = i64::try_from(word.chars().count()).unwrap_or(0).saturating_mul(7).saturating_add(40);
        rect(&mut body, x, y.saturating_sub(10), 14, BAR, colour);
        text(&mut body, x.saturating_add(20), y, 12, INK, "start", word);
        x = x.saturating_add(width);
    }
    for panel in panels {
        y = draw_panel(&mut body, panel, y.saturating_add(30));
    }
    let height = y.saturating_add(MARGIN);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" \
         height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Where a panel ends.
fn draw_panel(body: &mut String, panel: &Panel, top: i64) -> i64 {
    let left = MARGIN.saturating_add(LABELS);
    let rows = i64::try_from(panel.bars.len()).unwrap_or(0).saturating_mul(ROW);
    let first = top.saturating_add(HEAD);
    let bottom = first.saturating_add(rows);
    text(body, MARGIN, top.saturating_add(14), 14, INK, "start", &panel.title);
    let place = |at: i64| left.saturating_add(scaled(at, panel.begin, panel.end));
    let step = step(panel.end.saturating_sub(panel.begin));
    let mut at = next_mark(panel.begin, step);
    while at <= panel.end {
        let x = place(at);
        let from = first.saturating_sub(6);
        let _ = writeln!(body, "<line x1=\"{x}\" y1=\"{from}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"{GRID}\"/>");
        text(body, x, first.saturating_sub(12), 11, FAINT, "middle", &mark_text(at, step));
        at = at.saturating_add(step);
    }
    for (bar, n) in panel.bars.iter().zip(0_i64..) {
        let y = first.saturating_add(n.saturating_mul(ROW));
        let base = y.saturating_add(14);
        let _ = write!(body, "<g>");
        if !bar.hint.is_empty() {
            let _ = write!(body, "<title>{}</title>", escaped(&bar.hint));
        }
        text(body, left.saturating_sub(10), base, 12, INK, "end", &cut(&bar.label));
        for piece in &bar.pieces {
            let x = place(piece.begin);
            // What took next to no time is still seen.
            let width = place(piece.end).saturating_sub(x).max(2);
            rect(body, x, y.saturating_add(4), width, BAR, piece.colour);
        }
        if let Some(at) = bar.mark {
            let x = place(at);
            let (from, to) = (y.saturating_add(2), y.saturating_add(18));
            let _ = writeln!(
                body,
                "<line x1=\"{x}\" y1=\"{from}\" x2=\"{x}\" y2=\"{to}\" stroke=\"{INK}\" stroke-width=\"2\"/>"
            );
        }
        text(body, left.saturating_add(PLOT).saturating_add(12), base, 12, FAINT, "start", &bar.note);
        let _ = writeln!(body, "</g>");
    }
    bottom
}

/// Where a time is on the plot, in pixels from its left.
fn scaled(at: i64, begin: i64, end: i64) -> i64 {
    let span = i128::from(end).saturating_sub(begin.into()).max(1);
    let within = i128::from(at.clamp(begin, end.max(begin))).saturating_sub(begin.into());
    let pixels = within.saturating_mul(PLOT.into()).checked_div(span).unwrap_or(0);
    i64::try_from(pixels).unwrap_or(0)
}

/// The distance of marks: 1, 2 or 5 of a power of ten microseconds.
fn step(span: i64) -> i64 {
    let mut power = 1_i64;
    loop {
        for factor in [1, 2, 5] {
            let step = power.saturating_mul(factor);
            if step.saturating_mul(MARKS) >= span || step == i64::MAX {
                return step.max(1);
            }
        }
        power = power.saturating_mul(10);
    }
}

/// The first mark from `begin` on.
fn next_mark(begin: i64, step: i64) -> i64 {
    let below = begin.checked_rem(step).unwrap_or(0);
    if below == 0 { begin } else { begin.saturating_sub(below).saturating_add(step) }
}

/// The time at a mark: in the unit that the distance of marks asks for.
fn mark_text(at: i64, step: i64) -> String {
    match step {
        1_000_000.. => format!("{} s", at / 1_000_000),
        100_000.. => format!("{}.{} s", at / 1_000_000, at % 1_000_000 / 100_000),
        1_000.. => format!("{} ms", at / 1000),
        _ => format!("{}.{:03} ms", at / 1000, at % 1000),
    }
}

fn rect(body: &mut String, x: i64, y: i64, width: i64, height: i64, colour: &str) {
    let _ = writeln!(body, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\"/>");
}

fn text(body: &mut String, x: i64, y: i64, size: i64, colour: &str, anchor: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        body,
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

fn cut(label: &str) -> String {
    if label.chars().count() <= LONGEST {
        return label.to_owned();
    }
    label.chars().take(LONGEST.saturating_sub(1)).chain(['…']).collect()
}

/// As XML wants it; characters that XML does not know are replaced.
fn escaped(words: &str) -> String {
    let mut safe = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\t' | '\n' | '\r' => safe.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(char::REPLACEMENT_CHARACTER),
            c => safe.push(c),
        }
    }
    safe
}

/// From one time to another, as a note.
pub fn length(begin: i64, end: i64) -> String {
    short(end.saturating_sub(begin).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        for (span, expect) in [(9, 1), (11, 2), (30_000, 5000), (1_000_000, 100_000), (60_000_000, 10_000_000)] {
            assert_eq!(step(span), expect, "{span}");
        }
        assert_eq!(step(0), 1);
        assert!(step(i64::MAX) > 0);
        assert_eq!((mark_text(1_200_000, 100_000), mark_text(1_200_000, 5_000)), ("1.2 s".into(), "1200 ms".into()));
        assert_eq!(next_mark(7, 5), 10);
        assert_eq!(next_mark(10, 5), 10);
    }

    #[test]
    fn times_outside_of_the_axis_stay_on_the_plot() {
        assert_eq!((scaled(0, 10, 20), scaled(15, 10, 20), scaled(99, 10, 20)), (0, PLOT / 2, PLOT));
        assert_eq!((scaled(5, 5, 5), scaled(5, 9, 3)), (0, 0));
        assert_eq!(scaled(i64::MAX, i64::MIN, i64::MAX), PLOT);
    }

    #[test]
    fn whatever_a_unit_is_called_stays_text() {
        assert_eq!(escaped("a<b>&\"c\"\n\u{1}"), "a&lt;b&gt;&amp;&quot;c&quot; \u{fffd}");
        assert_eq!(cut(&"x".repeat(40)).chars().count(), LONGEST);
    }
}
