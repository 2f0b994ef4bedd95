//! `[Timer]`.

use super::Reader;
use crate::unit::directive::TimerKey as K;
use crate::unit::syntax::Entry;
use crate::unit::timer::Timer;
use crate::unit::{Kind, is_valid_name, split_type};

impl Reader<'_> {
    fn timer(&mut self) -> &mut Timer {
        self.unit.timer.get_or_insert_default()
    }

    pub(super) fn obey_timer(&mut self, key: K, entry: &Entry) {
        match key {
            // systemd.timer(5): an empty one takes back all that stood before.
            K::On(_) | K::OnCalendar if entry.value.is_empty() => {
                self.timer().elapses.clear();
                self.calendar_line = 0;
            }
            K::On(base) => {
                if let Some(span) = self.span(entry) {
                    self.timer().elapses.push((base, span));
                }
            }
            K::OnCalendar => self.calendar_line = entry.line,
            K::FixedRandomDelay => {
                if let Some(yes) = self.boolean(entry) {
                    self.timer().fixed_random_delay = yes;
                }
            }
            K::RemainAfterElapse => {
                if let Some(yes) = self.boolean(entry) {
                    self.timer().remain_after_elapse = yes;
                }
            }
            K::RandomizedDelaySec => {
                if let Some(span) = self.span(entry) {
                    self.timer().randomized_delay = span;
                }
            }
            K::Unit => {
                let Some(name) = self.resolved(entry) else { return };
                if is_valid_name(&name) && !matches!(Kind::of(&name), None | Some(Kind::Timer)) {
                    self.timer().unit = Some(name);
                    self.trigger_line = entry.line;
                } else {
                    self.refuse(entry.line, format!("Unit={name} is not the name of a unit that a timer can start"));
                }
            }
        }
    }

    pub(super) fn finish_timer(&mut self) {
        let timer = self.timer();
        let (is_empty, unit) = (timer.elapses.is_empty(), timer.unit.clone());
        if is_empty && self.calendar_line > 0 {
            let text = "OnCalendar= alone is not supported: a device on the line may have no clock that is right. Use \
                        OnBootSec=, OnUnitActiveSec= or their like";
            self.refuse(self.calendar_line, text.to_owned());
        } else if is_empty {
            self.refuse(0, "there is no OnBootSec= or its like in section [Timer]".to_owned());
        }
        let stem = split_type(&self.unit.name).map_or("", |(stem, _)| stem);
        let unit = unit.unwrap_or_else(|| format!("{stem}.service"));
        self.triggers(unit);
    }
}
