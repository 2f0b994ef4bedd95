//! Cycles in the order: found by their strongly connected components, told with every edge, and refused.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Graph, Ordering};

impl Graph {
    pub(super) fn refuse_cycles(&mut self, orderings: &[Ordering]) {
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

    /// `a.service After=b.service (/etc/mmos/units/a.service:3)`.
    fn said(&self, edge: &Ordering) -> String {
        let (by, number) = edge.said;
        let Some(unit) = self.units.get(by.index()) else { return String::new() };
        let Some(reference) = unit.references.get(number) else { return String::new() };
        let other = if edge.from == by { edge.to } else { edge.from };
        let name = self.units.get(other.index()).map_or("?", |unit| unit.name.as_str());
        format!("{} {}={name} ({})", unit.name, reference.relation.word(), unit.place(reference))
    }
}

/// Strongly connected components (Tarjan, without recursion: a chain of units may be long): the component's number
/// for each unit; numbers are shared by the units of one cycle alone.
pub(super) fn components(count: usize, orderings: &[Ordering]) -> Vec<usize> {
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
