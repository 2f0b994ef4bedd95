//! Who needs whom, and who comes after whom: from the loaded units to a table of edges between numbers, without
//! ordering cycles. A unit of a cycle is refused, and every edge of the cycle named with the file that says it.

mod cycles;
mod targets;

use std::collections::BTreeMap;

use crate::load::Loaded;
use crate::unit::{Kind, Note, Reference, Relation, Unit, split_type};

/// A unit's number: its place in all tables of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub u32);

impl UnitId {
    /// As an index.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The edges of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Units that it is started after.
    pub after: Vec<UnitId>,
    /// Units that are started after it.
    pub before: Vec<UnitId>,
    /// Units without which it fails.
    pub requires: Vec<UnitId>,
    /// Units that fail without it.
    pub required_by: Vec<UnitId>,
    /// Units that are started with it.
    pub wants: Vec<UnitId>,
    rare: Option<Box<Rare>>,
}

/// Edges that most units do not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rare {
    /// Units that must be up already.
    pub requisite: Vec<UnitId>,
    /// Units that are stopped once it has ended.
    pub bound_by: Vec<UnitId>,
    /// Units that are stopped and started again with it.
    pub parts: Vec<UnitId>,
    /// Units that are stopped with it.
    pub stops: Vec<UnitId>,
    /// Units that are never up together with it.
    pub conflicts: Vec<UnitId>,
    /// Units that are started once it has failed.
    pub on_failure: Vec<UnitId>,
    /// Units that are started once it has ended with success.
    pub on_success: Vec<UnitId>,
    /// Units that it starts, as a socket or a timer does.
    pub triggers: Vec<UnitId>,
    /// The sockets and timers that start it.
    pub triggered_by: Vec<UnitId>,
    /// Why it cannot be started although its own file is good: it requires what there is not.
    pub impossible: Option<String>,
}

impl Node {
    /// One without edges.
    pub const NONE: Node = Node {
        after: Vec::new(),
        before: Vec::new(),
        requires: Vec::new(),
        required_by: Vec::new(),
        wants: Vec::new(),
        rare: None,
    };

    /// The edges that most units do not have.
    pub fn rare(&self) -> &Rare {
        static NONE: Rare = Rare {
            requisite: Vec::new(),
            bound_by: Vec::new(),
            parts: Vec::new(),
            stops: Vec::new(),
            conflicts: Vec::new(),
            on_failure: Vec::new(),
            on_success: Vec::new(),
            triggers: Vec::new(),
            triggered_by: Vec::new(),
            impossible: None,
        };
        self.rare.as_deref().unwrap_or(&NONE)
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn lists(&mut self) -> impl Iterator<Item = &mut Vec<UnitId>> {
        let own = [&mut self.after, &mut self.before, &mut self.requires, &mut self.required_by, &mut self.wants];
        own.into_iter().chain(self.rare.as_deref_mut().into_iter().flat_map(Rare::lists))
    }
}

impl Rare {
    fn lists(&mut self) -> [&mut Vec<UnitId>; 9] {
        [
            &mut self.requisite,
            &mut self.bound_by,
            &mut self.parts,
            &mut self.stops,
            &mut self.conflicts,
            &mut self.on_failure,
            &mut self.on_success,
            &mut self.triggers,
            &mut self.triggered_by,
        ]
    }
}

/// Units and their edges, by number.
#[derive(Debug, Default)]
pub struct Graph {
    /// The units, by name.
    pub units: Vec<Unit>,
    /// Their edges.
    pub nodes: Vec<Node>,
    /// All names, and the other names that units have.
    pub names: BTreeMap<String, UnitId>,
    /// One text for each cycle that was found.
    pub cycles: Vec<String>,
}

/// An ordering edge, `from` being started after `to`, and which line says so.
struct Ordering {
    from: UnitId,
    to: UnitId,
    /// The unit that says so, and by which of its references.
    said: (UnitId, usize),
}

impl Graph {
    /// Connects the units of `loaded`.
    pub fn new(loaded: Loaded) -> Graph {
        let mut graph = Graph { units: Vec::with_capacity(loaded.units.len()), ..Graph::default() };
        for (number, (name, mut unit)) in (0_u32..).zip(loaded.units) {
            unit.shrink();
            graph.names.insert(name, UnitId(number));
            graph.units.push(unit);
        }
        for (alias, name) in loaded.aliases {
            if let Some(id) = graph.names.get(&name) {
                graph.names.insert(alias, *id);
            }
        }
        graph.build();
        graph
    }

    /// Adds a unit, such as an instance that was asked for, with its edges; the numbers of the others stay.
    pub fn add(&mut self, mut unit: Unit) -> UnitId {
        unit.shrink();
        let id = UnitId(u32::try_from(self.units.len()).unwrap_or(u32::MAX));
        self.names.insert(unit.name.clone(), id);
        self.units.push(unit);
        self.build();
        id
    }

    fn build(&mut self) {
        self.nodes = vec![Node::default(); self.units.len()];
        self.cycles.clear();
        self.connect();
        let mut orderings = self.orderings();
        self.refuse_cycles(&orderings);
        self.order_targets(&mut orderings);
        for ordering in &orderings {
            if let Some(node) = self.nodes.get_mut(ordering.from.index()) {
                node.after.push(ordering.to);
            }
            if let Some(node) = self.nodes.get_mut(ordering.to.index()) {
                node.before.push(ordering.from);
            }
        }
        for node in &mut self.nodes {
            for list in node.lists() {
                list.sort_unstable();
                list.dedup();
                list.shrink_to_fit();
            }
        }
    }

    /// All units with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (UnitId, &Unit)> {
        (0_u32..).map(UnitId).zip(&self.units)
    }

    fn id(&self, reference: &Reference) -> Option<UnitId> {
        self.names.get(&reference.name).copied()
    }

    fn connect(&mut self) {
        let mut nodes = std::mem::take(&mut self.nodes);
        let mut absent = Vec::new();
        for (id, unit) in self.iter() {
            for reference in &unit.references {
                match self.id(reference) {
                    Some(other) if other != id => join(&mut nodes, id, reference.relation, other),
                    Some(_) => {}
                    None => match missing(unit, reference) {
                        Missing::Nothing => {}
                        Missing::Note => absent.push((id, reference.clone())),
                        Missing::Impossible(reason) => {
                            if let Some(node) = nodes.get_mut(id.index()) {
                                node.rare_mut().impossible.get_or_insert(reason);
                            }
                        }
                    },
                }
            }
        }
        self.nodes = nodes;
        for (id, reference) in absent {
            if let Some(unit) = self.units.get_mut(id.index()) {
                let path = reference.file.as_deref().unwrap_or(&unit.path).to_owned();
                let (word, name) = (reference.relation.word(), &reference.name);
                let text = format!("{word}={name}: there is no such unit, or none of a supported type");
                let note = Note { path, line: reference.line, text };
                // Connected again, once another unit was added.
                if !unit.notes.contains(&note) {
                    unit.notes.push(note);
                }
            }
        }
    }

    fn orderings(&self) -> Vec<Ordering> {
        let mut orderings = Vec::new();
        for (id, unit) in self.iter() {
            for (number, reference) in unit.references.iter().enumerate() {
                let Some(other) = self.id(reference).filter(|other| *other != id) else { continue };
                match reference.relation {
                    Relation::After => orderings.push(Ordering { from: id, to: other, said: (id, number) }),
                    Relation::Before => orderings.push(Ordering { from: other, to: id, said: (id, number) }),
                    _ => {}
                }
            }
        }
        orderings
    }
}

/// Puts an edge into the nodes at both of its ends.
fn join(nodes: &mut [Node], id: UnitId, relation: Relation, other: UnitId) {
    let mut put = |at: UnitId, list: fn(&mut Node) -> &mut Vec<UnitId>, what: UnitId| {
        if let Some(node) = nodes.get_mut(at.index()) {
            list(node).push(what);
        }
    };
    match relation {
        Relation::Requires => {
            put(id, |node| &mut node.requires, other);
            put(other, |node| &mut node.required_by, id);
        }
        Relation::BindsTo => {
            put(id, |node| &mut node.requires, other);
            put(other, |node| &mut node.required_by, id);
            put(other, |node| &mut node.rare_mut().bound_by, id);
        }
        Relation::Requisite => put(id, |node| &mut node.rare_mut().requisite, other),
        Relation::Wants => put(id, |node| &mut node.wants, other),
        Relation::PartOf => put(other, |node| &mut node.rare_mut().parts, id),
        Relation::StopPropagatedFrom => put(other, |node| &mut node.rare_mut().stops, id),
        Relation::PropagatesStopTo => put(id, |node| &mut node.rare_mut().stops, other),
        Relation::Conflicts => {
            put(id, |node| &mut node.rare_mut().conflicts, other);
            put(other, |node| &mut node.rare_mut().conflicts, id);
        }
        Relation::OnFailure => put(id, |node| &mut node.rare_mut().on_failure, other),
        Relation::OnSuccess => put(id, |node| &mut node.rare_mut().on_success, other),
        Relation::Triggers => {
            put(id, |node| &mut node.rare_mut().triggers, other);
            put(other, |node| &mut node.rare_mut().triggered_by, id);
        }
        // After cycles have been refused; and what a service gets of sockets that start another.
        Relation::Before | Relation::After | Relation::TriggeredBy => {}
    }
}

/// What it means that a unit names one that there is not.
enum Missing {
    Nothing,
    Note,
    Impossible(String),
}

fn missing(unit: &Unit, reference: &Reference) -> Missing {
    let name = &reference.name;
    let kind = split_type(name).map_or("", |(_, kind)| kind);
    // An absent target orders nothing, and what these stand for is there before the supervisor.
    let harmless = matches!(kind, "target" | "slice" | "mount" | "swap" | "device");
    match reference.relation {
        Relation::Requires | Relation::BindsTo | Relation::Requisite if harmless => Missing::Nothing,
        Relation::Triggers => Missing::Impossible(match (unit.place(reference), reference.line) {
            (_, 0) => format!(
                "starts {name}, which does not exist: write one, or name another by {}",
                match unit.kind {
                    Kind::Timer => "Unit=",
                    _ => "Service=",
                }
            ),
            (at, _) => format!("starts {name} ({at}), which does not exist"),
        }),
        Relation::Requires | Relation::BindsTo | Relation::Requisite => {
            let at = unit.place(reference);
            let word = if reference.relation == Relation::Requisite { "needs" } else { "requires" };
            match kind {
                "service" | "socket" | "timer" => {
                    Missing::Impossible(format!("{word} {name} ({at}), which does not exist"))
                }
                _ if unit.kind == Kind::Target => Missing::Nothing,
                _ => Missing::Impossible(format!("{word} {name} ({at}): units of type {kind} are not supported yet")),
            }
        }
        Relation::Wants | Relation::OnFailure | Relation::OnSuccess if kind != "target" => Missing::Note,
        _ => Missing::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::parse::parse;
    use crate::unit::specifier::Machine;
    use proptest::prelude::*;
    use std::path::Path;

    fn graph(units: &[(&str, &str)]) -> Graph {
        let mut loaded = Loaded::default();
        for (name, lines) in units {
            let text = format!("[Unit]\n{lines}\n[Service]\nExecStart=/bin/true\n");
            let path = format!("/u/{name}");
            loaded.units.insert((*name).to_owned(), parse(name, Path::new(&path), &text, &Machine::default()));
        }
        Graph::new(loaded)
    }

    fn refused(graph: &Graph) -> Vec<&str> {
        graph.units.iter().filter(|unit| unit.refused.is_some()).map(|unit| unit.name.as_str()).collect()
    }

    #[test]
    fn edges_run_both_ways() {
        let g = graph(&[
            ("a.service", "After=b.service\nRequires=b.service"),
            ("b.service", "Before=c.service"),
            ("c.service", ""),
        ]);
        let [a, b, c] = [0, 1, 2].map(UnitId);
        assert_eq!(g.nodes[0], Node { after: vec![b], requires: vec![b], ..Node::default() });
        assert_eq!(g.nodes[1], Node { before: vec![a, c], required_by: vec![a], ..Node::default() });
        assert_eq!(g.nodes[2].after, [b]);
        assert!(g.cycles.is_empty());
    }

    #[test]
    fn a_target_comes_after_what_it_pulls_in_unless_the_units_say_otherwise() {
        let g = graph(&[
            ("a.target", "Wants=b.service c.service\nRequires=d.service\nAfter=e.service"),
            ("b.service", ""),
            ("c.service", "After=a.target"),
            ("d.service", "After=f.service"),
            ("e.service", ""),
            ("f.service", ""),
            ("g.target", "Wants=h.target"),
            ("h.target", "Wants=g.target"),
        ]);
        let [a, b, d, e] = [0, 1, 3, 4].map(UnitId);
        assert_eq!(g.nodes[0].after, [b, d, e]);
        assert_eq!(g.nodes[2].after, [a]);
        assert!(g.nodes[6].after.is_empty() && g.nodes[7].after.is_empty());
        assert!(g.cycles.is_empty() && refused(&g).is_empty());
    }

    #[test]
    fn every_edge_of_a_cycle_is_named_and_units_outside_are_left_alone() {
        let g = graph(&[
            ("a.service", "After=b.service"),
            ("b.service", "After=c.service"),
            ("c.service", "Description=c\nBefore=b.service\nAfter=a.service"),
            ("d.service", "After=a.service"),
            ("e.service", ""),
        ]);
        assert_eq!(refused(&g), ["a.service", "b.service", "c.service"]);
        assert_eq!(g.cycles.len(), 1);
        for edge in [
            "a.service After=b.service (/u/a.service:2)",
            "b.service After=c.service (/u/b.service:2)",
            "c.service Before=b.service (/u/c.service:3)",
            "c.service After=a.service (/u/c.service:4)",
        ] {
            assert!(g.cycles[0].contains(edge), "{edge} not in {}", g.cycles[0]);
        }
        assert_eq!(g.units[0].refused.as_ref().unwrap(), &g.cycles[0]);
    }

    #[test]
    fn two_cycles_are_two_reports() {
        let g = graph(&[
            ("a.service", "After=b.service"),
            ("b.service", "After=a.service"),
            ("c.service", "Before=d.service"),
            ("d.service", "Before=c.service After=b.service"),
        ]);
        assert_eq!(g.cycles.len(), 2, "{:?}", g.cycles);
    }

    #[test]
    fn requiring_what_there_is_not_is_impossible_but_a_target_may_be_absent() {
        let g = graph(&[
            ("a.service", "Requires=gone.service"),
            ("b.service", "Requires=x.path"),
            ("c.service", "Requires=sysinit.target\nWants=gone.service\nAfter=gone.service"),
        ]);
        assert_eq!(
            g.nodes[0].rare().impossible.as_deref(),
            Some("requires gone.service (/u/a.service:2), which does not exist")
        );
        assert!(g.nodes[1].rare().impossible.as_ref().unwrap().contains("path are not supported yet"));
        assert_eq!(g.nodes[2].rare().impossible, None);
    }

    proptest! {
        #[test]
        fn what_is_left_after_refusing_cycles_has_an_order(edges in proptest::collection::vec((0u32..12, 0u32..12), 0..30)) {
            let units: Vec<(String, String)> = (0..12)
                .map(|n| {
                    let after: Vec<String> =
                        edges.iter().filter(|(a, b)| *a == n && a != b).map(|(_, b)| format!("u{b}.service")).collect();
                    (format!("u{n}.service"), format!("After={}", after.join(" ")))
                })
                .collect();
            let g = graph(&units.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>());
            // Kahn: take away units without predecessors for as long as there are any.
            let mut left: Vec<usize> = (0..12).filter(|n| g.units[*n].refused.is_none()).collect();
            while let Some(at) = left.iter().position(|n| !g.nodes[*n].after.iter().any(|a| left.contains(&a.index()))) {
                left.remove(at);
            }
            prop_assert!(left.is_empty(), "no order for {left:?}");
        }
    }
}
