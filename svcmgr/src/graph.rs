//! Who needs whom, and who comes after whom: from the loaded units to a table of edges between numbers, without
//! ordering cycles. A unit of a cycle is refused, and every edge of the cycle named with the file that says it.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::load::Loaded;
use crate::unit::{Kind, Note, Reference, Unit, split_type};

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
    /// Why it cannot be started although its own file is good: it requires what there is not.
    pub impossible: Option<String>,
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
    /// `a.service After=b.service (/etc/mmos/units/a.service:3)`.
    said: (UnitId, &'static str, u32),
}

impl Graph {
    /// Connects the units of `loaded`.
    pub fn new(loaded: Loaded) -> Graph {
        let mut graph = Graph::default();
        for (number, (name, unit)) in (0_u32..).zip(loaded.units) {
            graph.names.insert(name, UnitId(number));
            graph.units.push(unit);
        }
        for (alias, name) in loaded.aliases {
            if let Some(id) = graph.names.get(&name) {
                graph.names.insert(alias, *id);
            }
        }
        graph.nodes = vec![Node::default(); graph.units.len()];
        graph.connect_requirements();
        let orderings = graph.orderings();
        graph.refuse_cycles(&orderings);
        for ordering in &orderings {
            if let Some(node) = graph.nodes.get_mut(ordering.from.index()) {
                node.after.push(ordering.to);
            }
            if let Some(node) = graph.nodes.get_mut(ordering.to.index()) {
                node.before.push(ordering.from);
            }
        }
        for node in &mut graph.nodes {
            for list in [&mut node.after, &mut node.before, &mut node.requires, &mut node.required_by, &mut node.wants]
            {
                list.sort_unstable();
                list.dedup();
            }
        }
        graph
    }

    /// All units with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (UnitId, &Unit)> {
        (0_u32..).map(UnitId).zip(&self.units)
    }

    fn id(&self, reference: &Reference) -> Option<UnitId> {
        self.names.get(&reference.name).copied()
    }

    fn connect_requirements(&mut self) {
        let mut nodes = std::mem::take(&mut self.nodes);
        let mut absent = Vec::new();
        for (id, unit) in self.iter() {
            for reference in &unit.requires {
                match self.id(reference) {
                    Some(other) => {
                        if let Some(node) = nodes.get_mut(id.index()) {
                            node.requires.push(other);
                        }
                        if let Some(node) = nodes.get_mut(other.index()) {
                            node.required_by.push(id);
                        }
                    }
                    None => {
                        if let Some(reason) = missing(unit, reference)
                            && let Some(node) = nodes.get_mut(id.index())
                        {
                            node.impossible.get_or_insert(reason);
                        }
                    }
                }
            }
            for reference in &unit.wants {
                match self.id(reference) {
                    Some(other) => {
                        if let Some(node) = nodes.get_mut(id.index()) {
                            node.wants.push(other);
                        }
                    }
                    None if reference.name.ends_with(".target") => {}
                    None => absent.push((id, reference.clone())),
                }
            }
        }
        self.nodes = nodes;
        for (id, Reference { name, line }) in absent {
            if let Some(unit) = self.units.get_mut(id.index()) {
                let text = format!("Wants={name}: there is no such unit, or none of a supported type");
                unit.notes.push(Note { path: unit.path.clone(), line, text });
            }
        }
    }

    fn orderings(&self) -> Vec<Ordering> {
        let mut orderings = Vec::new();
        for (id, unit) in self.iter() {
            for reference in &unit.after {
                if let Some(other) = self.id(reference).filter(|other| *other != id) {
                    orderings.push(Ordering { from: id, to: other, said: (id, "After", reference.line) });
                }
            }
            for reference in &unit.before {
                if let Some(other) = self.id(reference).filter(|other| *other != id) {
                    orderings.push(Ordering { from: other, to: id, said: (id, "Before", reference.line) });
                }
            }
        }
        orderings
    }

    fn refuse_cycles(&mut self, orderings: &[Ordering]) {
        let component = components(self.units.len(), orderings);
        let mut cycles: BTreeMap<usize, Vec<&Ordering>> = BTreeMap::new();
        for ordering in orderings {
            let ends = (component.get(ordering.from.index()), component.get(ordering.to.index()));
            if let (Some(a), Some(b)) = ends
                && a == b
            {
                cycles.entry(*a).or_default().push(ordering);
            }
        }
        for edges in cycles.values() {
            let mut text = String::from("ordering cycle: ");
            for (n, edge) in edges.iter().enumerate() {
                let separator = if n == 0 { "" } else { ", " };
                // Writing to a String cannot fail.
                let _ = write!(text, "{separator}{}", self.said(edge));
            }
            for edge in edges {
                for end in [edge.from, edge.to] {
                    if let Some(unit) = self.units.get_mut(end.index()) {
                        unit.refused.get_or_insert_with(|| text.clone());
                    }
                }
            }
            self.cycles.push(text);
        }
    }

    fn said(&self, edge: &Ordering) -> String {
        let (by, word, line) = edge.said;
        let other = if edge.from == by { edge.to } else { edge.from };
        let name = |id: UnitId| self.units.get(id.index()).map_or("?", |unit| unit.name.as_str());
        let path = self.units.get(by.index()).map(|unit| unit.path.display().to_string()).unwrap_or_default();
        format!("{} {word}={} ({path}:{line})", name(by), name(other))
    }
}

/// Why a unit that requires what there is not cannot start; `None` if it can: an absent target orders nothing.
fn missing(unit: &Unit, reference: &Reference) -> Option<String> {
    let at = format!("{}:{}", unit.path.display(), reference.line);
    match split_type(&reference.name).map(|(_, kind)| kind) {
        Some("target" | "slice" | "mount" | "swap" | "device") => None,
        Some("service") if reference.name.contains('@') => {
            Some(format!("requires {} ({at}): templates are not supported yet", reference.name))
        }
        Some("service") => Some(format!("requires {} ({at}), which does not exist", reference.name)),
        Some(kind) if unit.kind == Kind::Service => {
            Some(format!("requires {} ({at}): units of type {kind} are not supported yet", reference.name))
        }
        _ => None,
    }
}

/// Strongly connected components (Tarjan, without recursion: a chain of units may be long): the component's number
/// for each unit; numbers are shared by the units of one cycle alone.
fn components(count: usize, orderings: &[Ordering]) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    let mut edges: Vec<Vec<usize>> = vec![Vec::new(); count];
    for ordering in orderings {
        if let Some(list) = edges.get_mut(ordering.from.index()) {
            list.push(ordering.to.index());
        }
    }
    let get = |list: &[usize], at: usize| list.get(at).copied().unwrap_or(UNSEEN);
    let set = |list: &mut [usize], at: usize, value: usize| {
        if let Some(slot) = list.get_mut(at) {
            *slot = value;
        }
    };
    let mut index = vec![UNSEEN; count];
    let mut low = vec![UNSEEN; count];
    let mut component = vec![UNSEEN; count];
    let mut stack = Vec::new();
    let mut clock: usize = 0;
    for root in 0..count {
        if get(&index, root) != UNSEEN {
            continue;
        }
        // (unit, the next of its edges)
        let mut calls: Vec<(usize, usize)> = vec![(root, 0)];
        while let Some((v, next)) = calls.pop() {
            if next == 0 {
                set(&mut index, v, clock);
                set(&mut low, v, clock);
                clock = clock.saturating_add(1);
                stack.push(v);
            }
            match edges.get(v).and_then(|list| list.get(next)).copied() {
                Some(w) => {
                    calls.push((v, next.saturating_add(1)));
                    if get(&index, w) == UNSEEN {
                        calls.push((w, 0));
                    } else if get(&component, w) == UNSEEN {
                        let least = get(&low, v).min(get(&index, w));
                        set(&mut low, v, least);
                    }
                }
                None => {
                    if get(&low, v) == get(&index, v) {
                        while let Some(w) = stack.pop() {
                            set(&mut component, w, v);
                            if w == v {
                                break;
                            }
                        }
                    }
                    if let Some((parent, _)) = calls.last() {
                        let least = get(&low, *parent).min(get(&low, v));
                        set(&mut low, *parent, least);
                    }
                }
            }
        }
    }
    component
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
            ("b.service", "Requires=x.socket"),
            ("c.service", "Requires=sysinit.target\nWants=gone.service\nAfter=gone.service"),
        ]);
        assert_eq!(
            g.nodes[0].impossible.as_deref(),
            Some("requires gone.service (/u/a.service:2), which does not exist")
        );
        assert!(g.nodes[1].impossible.as_ref().unwrap().contains("socket are not supported yet"));
        assert_eq!(g.nodes[2].impossible, None);
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
