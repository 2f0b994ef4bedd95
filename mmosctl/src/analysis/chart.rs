//! The picture of a boot: all phases on one axis; the steps of init's first stage; the supervisor and the units. Each on
//! an axis of its own, since services take milliseconds of a boot that takes seconds.

use mmos::control::BootUnit;

use super::model::{Model, over, took};
use super::report::short;
use super::svg::{self, Bar, Panel, Piece, length};
use crate::table::Look;

const KERNEL: &str = "#8795a6";
const INIT: &str = "#5b8def";
const SUPERVISOR: &str = "#8e6ccf";
const WAITING: &str = "#c9d1da";
const STARTING: &str = "#f2a541";
const UP: &str = "#a8d8b0";
const FAILED: &str = "#d64545";

const LEGEND: [(&str, &str); 8] = [
    (KERNEL, "kernel"),
    (INIT, "init"),
    (SUPERVISOR, "supervisor"),
    (WAITING, "waits for what it comes after"),
    (STARTING, "runnable, starts"),
    ("#1f2933", "ready"),
    (UP, "up, or done"),
    (FAILED, "failed"),
];

/// The picture, as SVG.
pub fn draw(model: &Model<'_>) -> String {
    let (count, end) = (model.units.len(), model.end());
    let title = match model.boot.complete {
        true => format!("Boot of {count} units, up after {}", short(end)),
        false => format!("Boot of {count} units, not complete after {}", short(end)),
    };
    let panels: Vec<Panel> = [Some(phases(model)), steps(model), Some(units(model))].into_iter().flatten().collect();
    svg::draw(&title, &LEGEND, &panels)
}

fn phases(model: &Model<'_>) -> Panel {
    let bars = model.phases().into_iter().map(|phase| {
        let colour = match phase.name {
            "stage 1" | "stage 2" => INIT,
            "supervisor" => SUPERVISOR,
            "services" => STARTING,
            _ => KERNEL,
        };
        bar(phase.name, phase.begin, phase.end, colour)
    });
    Panel { title: "All of it, since the kernel started".into(), begin: 0, end: model.end(), bars: bars.collect() }
}

/// The steps of the first stage, where there is one.
fn steps(model: &Model<'_>) -> Option<Panel> {
    let stages = &model.boot.stages;
    let (begin, end) = (stages.first()?.begin, stages.iter().map(|stage| stage.end).max()?);
    (stages.len() > 1).then(|| Panel {
        title: "init: from the initramfs to the root".into(),
        begin,
        end,
        bars: stages.iter().map(|stage| bar(&stage.name, stage.begin, stage.end, INIT)).collect(),
    })
}

fn units(model: &Model<'_>) -> Panel {
    let own = &model.boot.supervisor;
    let end = model.end();
    let mut bars = vec![bar("reads the units", own.beganAt, own.loadedAt, SUPERVISOR)];
    if own.bootedAt > own.loadedAt {
        bars.push(bar("prepares, starts the first", own.loadedAt, own.bootedAt, SUPERVISOR));
    }
    bars.extend(model.units.iter().map(|unit| of_unit(unit, end)));
    let first = model.units.iter().map(|unit| unit.queuedAt).min().unwrap_or(own.beganAt);
    Panel { title: "The supervisor and its units".into(), begin: own.beganAt.min(first), end, bars }
}

fn bar(name: &str, begin: i64, end: i64, colour: &'static str) -> Bar {
    let note = length(begin, end);
    Bar {
        label: name.to_owned(),
        pieces: vec![Piece { begin, end, colour }],
        hint: format!("{name}: {note}, from {} to {}", short(begin), short(end)),
        note,
        mark: None,
    }
}

/// A unit: waits, is runnable, is ready, and stays up; or fails.
fn of_unit(unit: &BootUnit, end: i64) -> Bar {
    let runnable = unit.runnableAt;
    let waited_until = runnable.or(unit.endedAt).unwrap_or(end);
    let mut pieces = vec![Piece { begin: unit.queuedAt, end: waited_until, colour: WAITING }];
    if let Some(runnable) = runnable {
        let until = over(unit).unwrap_or(end);
        // One that was skipped did not fail.
        let is_bad = unit.endedAt.is_some() && Look::of(&unit.state).sign != '+';
        pieces.push(Piece { begin: runnable, end: until, colour: if is_bad { FAILED } else { STARTING } });
    }
    if let Some(ready) = unit.readyAt {
        pieces.push(Piece { begin: ready, end, colour: UP });
    }
    // A piece of no length would still be seen.
    pieces.retain(|piece| piece.end > piece.begin || piece.colour == STARTING || piece.colour == FAILED);
    let state = Look::of(&unit.state).word;
    let when = |what: &str, at: Option<i64>| at.map(|at| format!("\n{what} {}", short(at))).unwrap_or_default();
    Bar {
        label: unit.name.clone(),
        pieces,
        note: took(unit).map_or_else(|| state.to_owned(), short),
        hint: format!(
            "{} ({}), {state}\nqueued {}{}{}{}",
            unit.name,
            unit.description,
            short(unit.queuedAt),
            when("runnable", runnable),
            when("ready", unit.readyAt),
            when("ended", unit.endedAt)
        ),
        mark: unit.readyAt,
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::{boot, unit};
    use super::*;

    /// The elements of a text that is well-formed XML of our kind: names, and the text within; panics where it is not.
    fn elements(xml: &str) -> Vec<(String, String)> {
        let body = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").expect("a declaration");
        let (mut open, mut found) = (Vec::new(), Vec::new());
        for piece in body.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag that ends");
            assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "{piece}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "{piece}");
                continue;
            }
            let name = tag.split([' ', '/']).next().unwrap().to_owned();
            for part in text.split('&').skip(1) {
                assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|known| part.starts_with(known)), "{text}");
            }
            found.push((name.clone(), text.to_owned()));
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<String>::new());
        found
    }

    fn texts(xml: &str) -> Vec<String> {
        elements(xml).into_iter().filter(|(name, _)| name == "text").map(|(_, text)| text).collect()
    }

    #[test]
    fn the_picture_is_well_formed_and_shows_every_phase_step_and_unit_in_order() {
        let boot = boot();
        let xml = draw(&Model::new(&boot));
        let texts = texts(&xml);
        let mut rest = texts.iter();
        for name in [
            "kernel",
            "stage 1",
            "stage 2",
            "supervisor",
            "services",
            "early",
            "modules",
            "find-root",
            "unpack",
            "switch-root",
            "stage2",
            "reads the units",
            "a.service",
            "f.service",
            "b.service",
            "d.service",
            "c.service",
        ] {
            assert!(rest.any(|text| text == name), "{name} is missing, or out of order: {texts:?}");
        }
        assert!(!xml.contains("later.service"));
    }

    #[test]
    fn a_bar_goes_from_queued_to_runnable_to_ready() {
        let waits = unit("x", 2100, 2300, &[]);
        let bar = of_unit(&waits, 2_500_000);
        let pieces: Vec<(i64, i64, &str)> =
            bar.pieces.iter().map(|p| (p.begin / 1000, p.end / 1000, p.colour)).collect();
        assert_eq!(pieces, [(2000, 2100, WAITING), (2100, 2300, STARTING), (2300, 2500, UP)]);
        assert_eq!((bar.mark, bar.note.as_str()), (Some(2_300_000), "200.0 ms"));
    }

    #[test]
    fn what_failed_is_red_and_what_still_waits_goes_on_to_the_end() {
        let boot = boot();
        let failed = of_unit(&boot.units[4], 2_500_000);
        assert_eq!(failed.pieces.last().map(|piece| piece.colour), Some(FAILED));
        assert_eq!(failed.mark, None);
        let mut late = unit("late", 0, 0, &["x"]);
        (late.runnableAt, late.readyAt, late.state) = (None, None, mmos::control::State::queued);
        let late = of_unit(&late, 2_500_000);
        assert_eq!(late.pieces, [Piece { begin: 2_000_000, end: 2_500_000, colour: WAITING }]);
        assert_eq!(late.note, "queued");
    }

    #[test]
    fn a_boot_of_nothing_and_one_of_a_thousand_units_are_drawn_too() {
        let mut boot = boot();
        boot.units = (0..1000).map(|n| unit(&format!("u{n}"), 2001 + n, 2005 + n, &[])).collect();
        boot.upAt = 9_000_000;
        assert_eq!(texts(&draw(&Model::new(&boot))).iter().filter(|text| text.ends_with(".service")).count(), 1000);
        boot.units.clear();
        boot.stages.clear();
        boot.supervisor = mmos::control::BootSupervisor { beganAt: 0, loadedAt: 0, bootedAt: 0 };
        elements(&draw(&Model::new(&boot)));
    }
}
