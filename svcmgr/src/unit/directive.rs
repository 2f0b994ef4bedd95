//! The one table of directives: what this supervisor does with each that systemd knows, in a file per section and man
//! page. The parser, the warnings and the documentation follow from it.

mod docs;
mod exec;
mod keys;
mod others;
mod resources;
mod service;
mod socket;
mod unit;

pub use docs::{REGION, markdown};
pub use keys::{
    ExecKey, Key, MmosKey, ResourceKey, SandboxKey, SchedulingKey, ServiceKey, SocketKey, Switch, TimerKey, UnitKey,
};

use super::Kind;

/// A section of a unit file that has a meaning to systemd, or to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `[Unit]`.
    Unit,
    /// `[Service]`.
    Service,
    /// `[Install]`.
    Install,
    /// `[Socket]`.
    Socket,
    /// `[Timer]`.
    Timer,
    /// `[X-MMOS]`: our own; systemd ignores sections that begin with `X-`.
    Mmos,
}

/// What becomes of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Obeyed.
    Yes(Key),
    /// Obeyed in part. Warned about; the text says what is missing.
    Partly(Key, &'static str),
    /// Not obeyed, and nothing is lost by that on this system; the text says why. Not warned about.
    Implied(&'static str),
    /// Not obeyed: the service runs without it. Warned about; the text says what that means.
    Ignored(&'static str),
    /// Not obeyed, and without it the service would be another one: a unit that sets it is refused.
    Refused(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Directive {
    /// How it is written.
    pub name: &'static str,
    /// What becomes of it.
    pub support: Support,
}

/// The directives that one man page describes for one section, by name.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Where they stand.
    pub section: Section,
    /// Who describes them.
    pub source: &'static str,
    /// The directives.
    pub rows: &'static [Directive],
}

static PAGES: [Page; 9] = [
    Page { section: Section::Unit, source: "systemd.unit(5)", rows: unit::UNIT },
    Page { section: Section::Service, source: "systemd.service(5)", rows: service::SERVICE },
    Page { section: Section::Service, source: "systemd.exec(5)", rows: exec::EXEC },
    Page { section: Section::Service, source: "systemd.kill(5)", rows: service::KILL },
    Page { section: Section::Service, source: "systemd.resource-control(5)", rows: resources::RESOURCES },
    Page { section: Section::Install, source: "systemd.unit(5)", rows: unit::INSTALL },
    Page { section: Section::Socket, source: "systemd.socket(5)", rows: socket::SOCKET },
    Page { section: Section::Timer, source: "systemd.timer(5)", rows: others::TIMER },
    Page { section: Section::Mmos, source: "our own", rows: others::MMOS },
];

impl Section {
    const ALL: [Section; 6] =
        [Section::Unit, Section::Service, Section::Install, Section::Socket, Section::Timer, Section::Mmos];

    /// The section of this name.
    pub fn from_name(name: &str) -> Option<Section> {
        Section::ALL.into_iter().find(|section| section.name() == name)
    }

    /// Whether units of this kind have it.
    pub fn is_of(self, kind: Kind) -> bool {
        match self {
            Section::Unit | Section::Install | Section::Mmos => true,
            Section::Service => kind == Kind::Service,
            Section::Socket => kind == Kind::Socket,
            Section::Timer => kind == Kind::Timer,
        }
    }

    /// Its name, without brackets.
    pub fn name(self) -> &'static str {
        match self {
            Section::Unit => "Unit",
            Section::Service => "Service",
            Section::Install => "Install",
            Section::Socket => "Socket",
            Section::Timer => "Timer",
            Section::Mmos => "X-MMOS",
        }
    }
}

impl Page {
    /// Whether its directives stand in a section: also those of a service's processes, where another unit has commands.
    fn is_of(&self, section: Section) -> bool {
        let is_context = matches!(self.source, "systemd.exec(5)" | "systemd.kill(5)" | "systemd.resource-control(5)");
        self.section == section || (section == Section::Socket && is_context)
    }
}

/// The row of a directive.
pub fn find(section: Section, name: &str) -> Option<&'static Directive> {
    PAGES.iter().filter(|page| page.is_of(section)).find_map(|page| {
        let at = page.rows.binary_search_by(|row| row.name.cmp(name)).ok()?;
        page.rows.get(at)
    })
}

/// Another section where a directive of this name belongs.
pub fn elsewhere(section: Section, name: &str) -> Option<Section> {
    Section::ALL.into_iter().find(|other| *other != section && find(*other, name).is_some())
}

/// All names of a section, to look for the one that was meant.
pub fn names(section: Section) -> impl Iterator<Item = &'static str> {
    PAGES.iter().filter(move |page| page.is_of(section)).flat_map(|page| page.rows).map(|row| row.name)
}

/// The whole table.
pub fn pages() -> &'static [Page] {
    &PAGES
}

const fn row(name: &'static str, support: Support) -> Directive {
    Directive { name, support }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_sorted_and_names_each_directive_once() {
        for page in pages() {
            for pair in page.rows.windows(2) {
                let [a, b] = pair else { panic!() };
                assert!(a.name < b.name, "{} does not belong before {}", a.name, b.name);
            }
        }
        for section in Section::ALL {
            let mut seen = BTreeSet::new();
            assert_eq!(names(section).find(|name| !seen.insert(*name)), None, "twice in [{}]", section.name());
        }
    }

    #[test]
    fn a_directive_is_found_in_its_own_section_alone() {
        let key = Key::Service(ServiceKey::ExecStart);
        assert_eq!(find(Section::Service, "ExecStart").unwrap().support, Support::Yes(key));
        assert!(find(Section::Unit, "ExecStart").is_none());
        assert!(find(Section::Service, "ExecStrat").is_none());
        assert_eq!(elsewhere(Section::Unit, "ExecStart"), Some(Section::Service));
    }
}
