//! The one default dependency: a target comes after what it pulls in.

use super::cycles::components;
use super::{Graph, Ordering, UnitId};
use crate::unit::{Kind, Relation};

impl Graph {
    /// A target is reached once what it wants or requires is up (systemd.target(5), "Default Dependencies"): as far as
    /// nobody says otherwise, and it makes no cycle.
    pub(super) fn order_targets(&self, orderings: &mut Vec<Ordering>) {
        let said = orderings.len();
        for (id, unit) in self.iter().filter(|(_, unit)| unit.kind == Kind::Target) {
            for (number, reference) in unit.references.iter().enumerate() {
                let pulls_in = [Relation::Requires, Relation::BindsTo, Relation::Requisite, Relation::Wants];
                if pulls_in.contains(&reference.relation)
                    && let Some(other) = self.id(reference).filter(|other| *other != id)
                {
                    orderings.push(Ordering { from: id, to: other, said: (id, number) });
                }
            }
        }
        if orderings.len() == said {
            return;
        }
        let component = components(self.units.len(), orderings);
        let is_cycle = |ordering: &Ordering| {
            let of = |id: UnitId| component.get(id.index());
            of(ordering.from) == of(ordering.to)
        };
        let mut number: usize = 0;
        orderings.retain(|ordering| {
            number = number.saturating_add(1);
            number <= said || !is_cycle(ordering)
        });
    }
}
