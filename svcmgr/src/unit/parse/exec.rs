//! `[Service]`: what its processes run in.

use super::Reader;
use super::streams::base64;
use super::values::{optional, parse_boolean};
use crate::unit::command::is_variable;
use crate::unit::directive::ExecKey;
use crate::unit::directories::{Directories, DirectoryKind, Preserve};
use crate::unit::limit::Limit;
use crate::unit::service::{KeyringMode, Service};
use crate::unit::syntax::Entry;
use crate::unit::words;

impl Reader<'_> {
    pub(super) fn obey_exec(&mut self, key: ExecKey, entry: &Entry) {
        let value = entry.value.as_str();
        match key {
            ExecKey::IgnoreSigpipe => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.ignore_sigpipe = yes;
                }
            }
            ExecKey::UMask => match u32::from_str_radix(value, 8).ok().filter(|mask| *mask <= 0o777) {
                Some(mask) => self.unit.service.umask = mask,
                // With a mask that is not what was meant, files would be open to others.
                None => self.refuse(entry.line, format!("UMask={value} is not a mask, such as 0027")),
            },
            ExecKey::SupplementaryGroups => {
                let Some(value) = self.resolved(entry) else { return };
                let groups = &mut self.unit.service.supplementary_groups;
                if value.is_empty() {
                    groups.clear();
                }
                groups.extend(value.split_whitespace().map(str::to_owned));
            }
            ExecKey::Nice => {
                self.unit.service.nice = self.number(entry, -20..=19).or(self.unit.service.nice);
            }
            ExecKey::OomScoreAdjust => {
                let known = self.unit.service.oom_score_adjust;
                self.unit.service.oom_score_adjust = self.number(entry, -1000..=1000).or(known);
            }
            ExecKey::Limit(resource) => {
                self.unit.service.limits.retain(|limit| limit.resource != resource);
                match Limit::parse(resource, value) {
                    Ok(limit) => self.unit.service.limits.push(limit),
                    // An empty one takes back what stood before.
                    Err(_) if value.is_empty() => {}
                    Err(error) => self.note(entry.line, format!("{}= is ignored: {error}", entry.key)),
                }
            }
            ExecKey::Environment => self.environment(entry),
            ExecKey::EnvironmentFile => self.environment_file(entry),
            ExecKey::PassEnvironment => self.words_into(entry, |service| &mut service.pass_environment),
            ExecKey::UnsetEnvironment => self.words_into(entry, |service| &mut service.unset_environment),
            ExecKey::ExecSearchPath => {
                let Some(value) = self.resolved(entry) else { return };
                let folders = &mut self.unit.service.exec_search_path;
                if value.is_empty() {
                    folders.clear();
                }
                folders.extend(value.split(':').filter(|folder| folder.starts_with('/')).map(str::to_owned));
            }
            ExecKey::User => {
                let Some(user) = self.resolved(entry) else { return };
                self.unit.service.user = (!user.is_empty()).then_some(user);
            }
            ExecKey::Group => {
                let Some(group) = self.resolved(entry) else { return };
                self.unit.service.group = (!group.is_empty()).then_some(group);
            }
            ExecKey::DynamicUser => {
                if let Some(yes) = self.boolean(entry) {
                    self.unit.service.dynamic_user = yes;
                }
            }
            ExecKey::WorkingDirectory => {
                let Some(value) = self.resolved(entry) else { return };
                let (path, optional) = optional(&value);
                if path.is_empty() {
                    self.unit.service.working_directory = None;
                } else if path.starts_with('/') || path == "~" {
                    self.unit.service.working_directory = Some((path.to_owned(), optional));
                } else {
                    self.refuse(entry.line, format!("WorkingDirectory={path} is not an absolute path"));
                }
            }
            ExecKey::StandardInput => self.input(entry),
            ExecKey::StandardInputText => self.input_text(entry),
            ExecKey::StandardInputData => match base64(value) {
                Some(bytes) => self.input_bytes(value.is_empty(), &bytes),
                None => self.refuse(entry.line, format!("StandardInputData={value} is not base64")),
            },
            ExecKey::StandardOutput | ExecKey::StandardError => self.output(key, entry),
            ExecKey::TtyPath => {
                if let Some(tty) = self.resolved(entry) {
                    self.unit.service.tty = Some(tty);
                }
            }
            ExecKey::SyslogIdentifier => {
                let Some(name) = self.resolved(entry) else { return };
                self.unit.service.syslog_identifier = (!name.is_empty()).then_some(name);
            }
            ExecKey::SyslogLevel => {
                // As syslog(3) has them, in their order.
                const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
                match (0..).zip(LEVELS).find(|(_, level)| *level == value) {
                    Some((level, _)) => self.unit.service.syslog_level = level,
                    None => self.unknown_value(entry, &LEVELS),
                }
            }
            ExecKey::SyslogLevelPrefix => {
                if let Some(prefix) = self.boolean(entry) {
                    self.unit.service.syslog_level_prefix = prefix;
                }
            }
            ExecKey::SyslogFacility => {
                self.unit.service.syslog_facility = match FACILITIES.iter().find(|(name, _)| *name == value) {
                    Some((_, number)) => Some(*number),
                    None if value.is_empty() => None,
                    None => return self.unknown_value(entry, &FACILITIES.map(|(name, _)| name)),
                };
            }
            ExecKey::LogRateLimitIntervalSec => self.unit.service.log_interval = self.span(entry),
            ExecKey::LogRateLimitBurst => {
                let burst = self.number(entry, 0..=i32::MAX);
                self.unit.service.log_burst = burst.and_then(|burst| u32::try_from(burst).ok());
            }
            ExecKey::KeyringMode => {
                self.unit.service.keyring = match value {
                    "inherit" => KeyringMode::Inherit,
                    "private" | "" => KeyringMode::Private,
                    "shared" => KeyringMode::Shared,
                    _ => return self.unknown_value(entry, &["inherit", "private", "shared"]),
                };
            }
            ExecKey::Directory(kind) => self.directory(kind, entry),
            ExecKey::DirectoryMode(kind) => match u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777) {
                Some(mode) => self.directories().of_mut(kind).mode = mode,
                // With a mode that is not what was meant, files would be open to others.
                None => self.refuse(entry.line, format!("{}={value} is not a mode, such as 0750", entry.key)),
            },
            ExecKey::RuntimeDirectoryPreserve => {
                self.directories().preserve = match (value, parse_boolean(value)) {
                    ("restart", _) => Preserve::Restart,
                    (_, Some(true)) => Preserve::Yes,
                    (_, Some(false)) => Preserve::No,
                    (_, None) => return self.unknown_value(entry, &["no", "yes", "restart"]),
                };
            }
            ExecKey::Scheduling(key) => self.scheduling(key, entry),
            ExecKey::Sandbox(key) => self.sandbox_setting(key, entry),
            ExecKey::Switch(switch) => {
                if let Some(yes) = self.boolean(entry) {
                    *self.sandbox().switch(switch) = yes;
                }
            }
        }
    }

    fn words_into(&mut self, entry: &Entry, list: fn(&mut Service) -> &mut Vec<String>) {
        let Some(value) = self.resolved(entry) else { return };
        let Some(words) = self.words(entry, &value) else { return };
        let list = list(&mut self.unit.service);
        if words.is_empty() {
            list.clear();
        }
        list.extend(words);
    }

    fn directories(&mut self) -> &mut Directories {
        self.unit.service.directories.get_or_insert_default()
    }

    fn directory(&mut self, kind: DirectoryKind, entry: &Entry) {
        let Some(value) = self.resolved(entry) else { return };
        let Some(words) = self.words(entry, &value) else { return };
        if words.is_empty() {
            let set = self.directories().of_mut(kind);
            set.names.clear();
            set.links.clear();
        }
        for word in words {
            let (name, link) = word.split_once(':').map_or((word.as_str(), None), |(name, link)| (name, Some(link)));
            let name = name.trim_end_matches('/');
            if !is_beneath(name) || !link.is_none_or(is_beneath) {
                let text = format!("{}={word} is not a path beneath {}, without ..", entry.key, kind.base());
                self.refuse(entry.line, text);
                continue;
            }
            let set = self.directories().of_mut(kind);
            set.names.push(name.to_owned());
            set.links.extend(link.map(|link| (name.to_owned(), link.to_owned())));
        }
    }

    fn environment(&mut self, entry: &Entry) {
        if entry.value.is_empty() {
            return self.unit.service.environment.clear();
        }
        let Some(value) = self.resolved(entry) else { return };
        match words::split(&value) {
            Ok(words) => {
                for word in words {
                    match word.text.split_once('=') {
                        Some((name, value)) if is_variable(name) => {
                            self.unit.service.environment.push((name.to_owned(), value.to_owned()));
                        }
                        _ => self.note(entry.line, format!("Environment={} is not NAME=value, ignored", word.text)),
                    }
                }
            }
            Err(error) => self.note(entry.line, format!("Environment={value} is ignored: {error}")),
        }
    }

    fn environment_file(&mut self, entry: &Entry) {
        if entry.value.is_empty() {
            return self.unit.service.environment_files.clear();
        }
        let Some(value) = self.resolved(entry) else { return };
        let (path, optional) = optional(&value);
        if path.starts_with('/') {
            self.unit.service.environment_files.push((path.to_owned(), optional));
        } else {
            self.refuse(entry.line, format!("EnvironmentFile={path} is not an absolute path"));
        }
    }
}

/// syslog(3), by the names that systemd.exec(5) has.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Whether a path is relative and does not lead out of where it stands.
fn is_beneath(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
