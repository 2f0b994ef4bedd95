//! `%n`, `%i` and the like: systemd.unit(5), "Specifiers". Resolved when a unit is read, but for those of the user
//! that it runs as, which are read from its own `User=`.

use super::split_type;

/// What the specifiers of one unit stand for.
#[derive(Debug, Clone)]
pub struct Specifiers<'a> {
    /// The unit's name, with its type.
    pub unit: &'a str,
    /// `User=`, if it has been read.
    pub user: Option<&'a str>,
    /// This machine.
    pub machine: &'a Machine,
}

/// What specifiers say about the machine; read once.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "each is what its name says")]
pub struct Machine {
    pub hostname: String,
    pub kernel_release: String,
    pub architecture: String,
    pub boot_id: String,
    pub machine_id: String,
}

/// A specifier that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("specifier %{0} is not supported; write %% for a percent sign")]
pub struct UnknownSpecifier(pub String);

impl Machine {
    /// Asks the kernel; what it does not say stays empty.
    pub fn of_this_system(root: &std::path::Path) -> Machine {
        let uname = rustix::system::uname();
        let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
        // No /proc, or no machine ID: the specifier is empty, as on systemd without the file.
        let line = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Machine {
            hostname: text(uname.nodename()),
            kernel_release: text(uname.release()),
            architecture: text(uname.machine()),
            boot_id: line(std::path::Path::new("/proc/sys/kernel/random/boot_id")).replace('-', ""),
            machine_id: line(&root.join("etc/machine-id")),
        }
    }
}

impl Specifiers<'_> {
    /// `text` with all specifiers resolved.
    pub fn resolve(&self, text: &str) -> Result<String, UnknownSpecifier> {
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some(kind) => match self.one(kind) {
                    Some(value) => out.push_str(&value),
                    None => return Err(UnknownSpecifier(kind.to_string())),
                },
                None => return Err(UnknownSpecifier(String::new())),
            }
        }
        Ok(out)
    }

    fn one(&self, kind: char) -> Option<String> {
        let stem = split_type(self.unit).map_or(self.unit, |(stem, _)| stem);
        let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
        let last_part = |name: &str| name.rsplit('-').next().unwrap_or(name).to_owned();
        Some(match kind {
            '%' => "%".to_owned(),
            'n' => self.unit.to_owned(),
            'N' => stem.to_owned(),
            'p' => prefix.to_owned(),
            'P' => unescaped(prefix),
            'i' => instance.to_owned(),
            'I' => unescaped(instance),
            'j' => last_part(prefix),
            'J' => unescaped(&last_part(prefix)),
            'f' => format!("/{}", unescaped(if instance.is_empty() { prefix } else { instance })),
            't' => "/run".to_owned(),
            'S' => "/var/lib".to_owned(),
            'C' => "/var/cache".to_owned(),
            'L' => "/var/log".to_owned(),
            'E' => "/etc".to_owned(),
            'T' => "/tmp".to_owned(),
            'V' => "/var/tmp".to_owned(),
            'u' => self.user.unwrap_or("root").to_owned(),
            'H' => self.machine.hostname.clone(),
            'l' => self.machine.hostname.split('.').next().unwrap_or("").to_owned(),
            'v' => self.machine.kernel_release.clone(),
            'a' => self.machine.architecture.replace('_', "-"),
            'b' => self.machine.boot_id.clone(),
            'm' => self.machine.machine_id.clone(),
            _ => return None,
        })
    }
}

/// `-` back to `/`, `\xHH` back to its byte: systemd-escape(1).
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let hex = rest.strip_prefix("\\x").and_then(|h| h.get(..2));
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = rest.get(4..).unwrap_or("");
            continue;
        }
        match c {
            '-' => bytes.push(b'/'),
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = rest.get(c.len_utf8()..).unwrap_or("");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_stand_for_parts_of_the_name() {
        let machine = Machine { hostname: "line7.factory".into(), ..Machine::default() };
        let of = |unit| Specifiers { unit, user: None, machine: &machine };
        assert_eq!(
            of("a-b@c-d\\x2de.service").resolve("%n|%N|%p|%i|%I|%j|%P").unwrap(),
            "a-b@c-d\\x2de.service|a-b@c-d\\x2de|a-b|c-d\\x2de|c/d-e|b|a/b"
        );
        assert_eq!(of("x.service").resolve("100%% %u %H %l %f").unwrap(), "100% root line7.factory line7 /x");
    }

    #[test]
    fn an_unknown_specifier_is_named() {
        let machine = Machine::default();
        let of = Specifiers { unit: "x.service", user: None, machine: &machine };
        assert_eq!(of.resolve("50%Q"), Err(UnknownSpecifier("Q".into())));
        assert_eq!(of.resolve("50%"), Err(UnknownSpecifier(String::new())));
    }
}
