//! From a unit file's entries to a [`Unit`], by the table of directives. Whatever is wrong becomes a note with file
//! and line, or, where the unit could not do its work, the reason why it is refused. Nothing is dropped silently.

mod exec;
mod resources;
mod sandbox;
mod scheduling;
mod service;
mod socket;
mod streams;
mod timer;
mod unit;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use link::nearest::nearest;

use super::directive::{self, ExecKey, Key, Section, Support};
use super::failure::ErrorControl;
use super::sandbox::{ProtectHome, ProtectSystem};
use super::service::{NotifyAccess, Restart, Service, ServiceType};
use super::specifier::Machine;
use super::syntax::{self, Entry};
use super::time::Span;
use super::{Kind, Note, StartLimit, Unit, split_type};

/// Reads the unit `name` from `text`, the contents of the file at `path`.
pub fn parse(name: &str, path: &Path, text: &str, machine: &Machine) -> Unit {
    parse_all(name, path, text, &[], machine)
}

/// Reads a unit with its drop-ins: their paths and contents, in the order in which they are to be read.
pub fn parse_all(name: &str, path: &Path, text: &str, drop_ins: &[(PathBuf, String)], machine: &Machine) -> Unit {
    let kind = Kind::of(name).unwrap_or(Kind::Service);
    let mut reader = Reader {
        unit: Unit {
            name: name.to_owned(),
            path: path.to_owned(),
            kind,
            description: String::new(),
            references: Vec::new(),
            aliases: Vec::new(),
            conditions: Vec::new(),
            limit: StartLimit::DEFAULT,
            failure_action: None,
            success_action: None,
            limit_action: None,
            job_action: None,
            job_timeout: Span::INFINITY,
            job_running_timeout: Span::INFINITY,
            error_control: ErrorControl::Normal,
            start: None,
            service: Service::default(),
            socket: None,
            timer: None,
            refused: None,
            notes: Vec::new(),
        },
        machine,
        files: Vec::new(),
        file: 0,
        timeout_start_given: false,
        notify_access_given: false,
        error_given: false,
        input_given: false,
        output_follows: true,
        calendar_line: 0,
        trigger_line: 0,
        permissions_start_only: false,
        type_line: 0,
        restart_line: 0,
        ready_fd_line: 0,
    };
    let mut entries = Vec::new();
    let texts =
        std::iter::once((path, text)).chain(drop_ins.iter().map(|(path, text)| (path.as_path(), text.as_str())));
    for (file, (path, text)) in texts.enumerate() {
        let (read, errors) = syntax::parse(text);
        reader.files.push(path.into());
        reader.file = file;
        for (line, error) in errors {
            reader.note(line, error.to_string());
        }
        entries.extend(read.into_iter().map(|entry| Entry { file, ..entry }));
    }
    // First, since %u in any line speaks of it.
    for entry in
        entries.iter().filter(|entry| matches!(entry.section.as_str(), "Service" | "Socket") && entry.key == "User")
    {
        reader.file = entry.file;
        reader.obey(Key::Exec(ExecKey::User), entry);
    }
    for entry in &entries {
        reader.file = entry.file;
        reader.entry(entry);
    }
    reader.file = 0;
    reader.finish()
}

struct Reader<'a> {
    unit: Unit,
    machine: &'a Machine,
    /// The unit's own file and its drop-ins, and which of them is being read.
    files: Vec<Arc<Path>>,
    file: usize,
    timeout_start_given: bool,
    notify_access_given: bool,
    error_given: bool,
    input_given: bool,
    /// What it writes goes where it reads from, where that has two directions: said so, or nothing else.
    output_follows: bool,
    /// Of a timer's `OnCalendar=`; 0 if there is none.
    calendar_line: u32,
    /// Where it is said what a socket or a timer starts; 0 if it is not.
    trigger_line: u32,
    permissions_start_only: bool,
    type_line: u32,
    restart_line: u32,
    ready_fd_line: u32,
}

impl Reader<'_> {
    fn note(&mut self, line: u32, text: String) {
        let path = self.path();
        self.unit.notes.push(Note { path, line, text });
    }

    fn path(&self) -> PathBuf {
        self.files.get(self.file).map_or_else(|| self.unit.path.clone(), |path| path.to_path_buf())
    }

    /// The unit cannot do its work. The first reason is the one that is shown; all are notes.
    fn refuse(&mut self, line: u32, text: String) {
        let note = Note { path: self.path(), line, text };
        if self.unit.refused.is_none() {
            self.unit.refused = Some(note.to_string());
        } else {
            self.unit.notes.push(note);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let Some(section) = Section::from_name(&entry.section) else {
            // "If a section name is prefixed with X-, it is ignored by systemd": systemd.unit(5).
            if !entry.section.starts_with("X-") && entry.section != "Target" {
                self.unknown_section(entry);
            }
            return;
        };
        if !section.is_of(self.unit.kind) {
            let (name, kind) = (section.name(), split_type(&self.unit.name).map_or("service", |(_, kind)| kind));
            let text = format!("{}= stands in section [{name}], which a .{kind} has not, and is ignored", entry.key);
            return self.note(entry.line, text);
        }
        let Some(row) = directive::find(section, &entry.key) else {
            if entry.key.starts_with("X-") {
                return;
            }
            return self.unknown_directive(section, entry);
        };
        match row.support {
            Support::Yes(key) => self.obey(key, entry),
            Support::Partly(key, why) => {
                self.note(entry.line, format!("{}= is obeyed in part: {why}", entry.key));
                self.obey(key, entry);
            }
            Support::Implied(_) => {}
            Support::Ignored(why) => {
                if !means_nothing(&entry.value) {
                    self.note(entry.line, format!("{}= is not supported yet and ignored: {why}", entry.key));
                }
            }
            Support::Refused(why) => {
                if !means_nothing(&entry.value) {
                    self.refuse(entry.line, format!("{}= is not supported yet: {why}", entry.key));
                }
            }
        }
    }

    fn unknown_section(&mut self, entry: &Entry) {
        let text = match nearest(&entry.section, ["Unit", "Service", "Socket", "Timer", "Install", "X-MMOS"]) {
            Some(meant) => {
                format!("{}= stands in the unknown section [{}]: did you mean [{meant}]?", entry.key, entry.section)
            }
            None => format!("{}= stands in the unknown section [{}], which is ignored", entry.key, entry.section),
        };
        self.note(entry.line, text);
    }

    fn unknown_directive(&mut self, section: Section, entry: &Entry) {
        let text = match (directive::elsewhere(section, &entry.key), nearest(&entry.key, directive::names(section))) {
            (Some(other), _) => format!(
                "{}= belongs into the section [{}], not [{}], and is ignored here",
                entry.key,
                other.name(),
                section.name()
            ),
            (None, Some(meant)) => format!("unknown directive {}=: did you mean {meant}=?", entry.key),
            (None, None) => format!("unknown directive {}= in section [{}], ignored", entry.key, section.name()),
        };
        self.note(entry.line, text);
    }

    fn obey(&mut self, key: Key, entry: &Entry) {
        match key {
            Key::Unit(key) => self.obey_unit(key, entry),
            Key::Service(key) => self.obey_service(key, entry),
            Key::Exec(key) => self.obey_exec(key, entry),
            Key::Resource(key) => self.obey_resource(key, entry),
            Key::Socket(key) => self.obey_socket(key, entry),
            Key::Timer(key) => self.obey_timer(key, entry),
            Key::Mmos(key) => self.obey_mmos(key, entry),
        }
    }

    fn finish(mut self) -> Unit {
        match self.unit.kind {
            Kind::Service => {}
            Kind::Target => return self.unit,
            Kind::Socket => {
                self.finish_socket();
                self.finish_streams();
                return self.unit;
            }
            Kind::Timer => {
                self.finish_timer();
                return self.unit;
            }
        }
        let type_line = self.type_line;
        let restart_line = self.restart_line;
        let service = &self.unit.service;
        let oneshot = service.kind == ServiceType::Oneshot;
        if service.start.is_empty() && self.unit.refused.is_none() {
            let text = match oneshot {
                // systemd.service(5): a oneshot may do with ExecStop= alone.
                true if !service.stop.is_empty() => "",
                _ => "there is no ExecStart= in section [Service]",
            };
            if !text.is_empty() {
                // A misspelt one is the usual cause, and then its line is the one to show.
                let meant = self.unit.notes.iter().find(|note| note.text.contains("did you mean ExecStart=?")).cloned();
                match meant {
                    Some(note) => self.refuse(note.line, format!("{text}; {}", note.text)),
                    None => self.refuse(0, text.to_owned()),
                }
            }
        }
        let service = &self.unit.service;
        if !oneshot && service.start.len() > 1 {
            let line = service.start.get(1).map_or(type_line, |command| command.line);
            self.refuse(line, "there is more than one ExecStart=, which only Type=oneshot may have".to_owned());
        }
        if oneshot && matches!(self.unit.service.restart, Restart::Always | Restart::OnSuccess) {
            self.refuse(restart_line, "a Type=oneshot cannot be started again after success".to_owned());
        }
        if self.unit.service.kind == ServiceType::Dbus && self.unit.service.bus_name.is_none() {
            self.refuse(type_line, "Type=dbus needs a BusName=".to_owned());
        }
        let kind = self.unit.service.kind;
        if self.unit.service.ready_fd.is_some() && !matches!(kind, ServiceType::Exec | ServiceType::Notify) {
            self.refuse(self.ready_fd_line, "ReadyFD= goes with Type=simple, exec or notify alone".to_owned());
        }
        let service = &mut self.unit.service;
        if self.permissions_start_only {
            // From before there were prefixes: User= is for ExecStart= alone.
            for list in [
                &mut service.condition,
                &mut service.start_pre,
                &mut service.start_post,
                &mut service.stop,
                &mut service.stop_post,
            ] {
                list.iter_mut().for_each(|command| command.as_root = true);
            }
        }
        if oneshot && !self.timeout_start_given {
            service.timeout_start = Span::INFINITY;
        }
        if (service.kind == ServiceType::Notify || service.watchdog.is_some() || service.store_max > 0)
            && (!self.notify_access_given || service.notify_access == NotifyAccess::None)
        {
            service.notify_access = NotifyAccess::Main;
        }
        if service.ready_fd.is_some() && service.kind == ServiceType::Exec {
            // To systemd, which does not know ReadyFD=, it is up once it is executed; to us once it has said so.
            service.kind = ServiceType::Notify;
        }
        if service.dynamic_user {
            // systemd.exec(5), `DynamicUser=`: nothing is to be left behind that outlives its number.
            let sandbox = service.sandbox.get_or_insert_default();
            sandbox.private_tmp = true;
            sandbox.no_new_privileges = true;
            sandbox.restrict_suid_sgid = true;
            sandbox.protect_system = ProtectSystem::Strict;
            if sandbox.protect_home == ProtectHome::No {
                sandbox.protect_home = ProtectHome::ReadOnly;
            }
        }
        self.finish_streams();
        self.unit
    }
}

/// Whether a value asks for nothing, so that not supporting the directive changes nothing.
fn means_nothing(value: &str) -> bool {
    value.is_empty() || values::parse_boolean(value) == Some(false)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
