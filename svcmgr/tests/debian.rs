//! Debian's own unit files, unpacked from its packages, which are fetched once and of which the units are kept in
//! `$XDG_CACHE_HOME/mmos/unit-files`: all of them are read, and it is told how many say nothing that is not supported. And its
//! manual pages: whatever they describe is in the table of directives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use svcmgr::unit::directive::{Section, find};
use svcmgr::unit::parse::parse;
use svcmgr::unit::specifier::Machine;

/// Packages of Debian 12 that bring services, some with sockets and timers, of every kind: all that were found and are smaller than 3 MB.
const PACKAGES: &str = "\
    accountsservice acpi-support acpid alsa-utils amavisd-new anacron apache2 apparmor approx apt apt-cacher-ng \
    at atftpd atop auditd autofs avahi-daemon bacula-fd beanstalkd bind9 bird2 bluez bluez-alsa-utils bolt \
    buildbot-worker chrony clamav-daemon clamav-freshclam cloud-init cockpit-ws colord connman coturn cron \
    cups-daemon dbus deluged dnsmasq earlyoom fail2ban firewalld fprintd freeradius gdm3 geoclue-2.0 gpsd \
    haproxy haveged hostapd ifupdown iio-sensor-proxy inspircd iperf3 irqbalance jetty9 kdump-tools keepalived \
    knot krb5-admin-server krb5-kdc ksmtuned ladvd libvirt-daemon-system lightdm lighttpd lirc lldpd lm-sensors \
    lvm2 lxc lxcfs mdadm memcached minidlna modemmanager mosquitto mpd multipath-tools munin-node \
    nagios-nrpe-server netfilter-persistent networkd-dispatcher nfs-common nfs-kernel-server nftables nohang \
    nscd nsd ntpsec numad oddjob open-iscsi open-vm-tools opendkim opendmarc openntpd openssh-server openvpn \
    packagekit pcscd pdns-recursor pdns-server php8.2-fpm plymouth polkitd postfix postgresql-common \
    power-profiles-daemon privoxy proftpd-core prosody qemu-guest-agent quota radvd rasdaemon redis-server \
    rinetd rng-tools5 rpcbind rsync rsyslog rtkit samba sddm ser2net shairport-sync sks slim smartmontools snmpd \
    spamassassin spamd spice-vdagent squid sssd-common strongswan-starter stunnel4 switcheroo-control sysstat \
    systemd-coredump systemd-journal-remote systemd-oomd systemd-resolved systemd-timesyncd \
    systemd-zram-generator thermald tigervnc-standalone-server tinyproxy tlp tor transmission-daemon \
    triggerhappy tuned udisks2 ufw unattended-upgrades unbound upower usbguard usbmuxd uuid-runtime varnish \
    vnstat vsftpd watchdog winbind wireguard-tools wpasupplicant xdm xrdp zabbix-agent znc zram-tools";

/// A folder for what is kept of packages.
fn cache(name: &str) -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.expect("neither XDG_CACHE_HOME nor HOME is set").join("mmos").join(name)
}

/// Fetches the packages of which nothing is kept yet, and keeps what of them matches the patterns. What could not be
/// fetched is told.
fn fetch(cache: &Path, packages: &[&str], patterns: &[&str]) {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !cache.join(package).exists()).collect();
    if missing.is_empty() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let download = |names: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "download"]).args(names).current_dir(scratch.path()).output()
    };
    match download(&missing) {
        Err(error) => return println!("apt-get cannot be run: {error}"),
        Ok(output) if output.status.success() => {}
        // One name that is not known keeps all others from being fetched.
        Ok(_) => {
            for package in &missing {
                if let Ok(output) = download(&[package])
                    && !output.status.success()
                {
                    println!("apt-get download {package}: {}", String::from_utf8_lossy(&output.stderr).trim());
                }
            }
        }
    }
    for deb in std::fs::read_dir(scratch.path()).unwrap().flatten() {
        keep(cache, &deb.path(), patterns);
    }
}

/// Keeps what of a package matches the patterns; of one without any an empty folder.
fn keep(cache: &Path, deb: &Path, patterns: &[&str]) {
    let file = deb.file_name().unwrap().to_str().unwrap();
    let package = file.split('_').next().unwrap();
    let mut files = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped()).spawn().unwrap();
    let next = cache.join(format!(".{package}.{}", std::process::id()));
    std::fs::create_dir_all(&next).unwrap();
    let tar = Command::new("tar")
        .args(["-x", "--wildcards", "--no-anchored", "-C"])
        .arg(&next)
        .args(patterns)
        .stdin(files.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(files.wait().unwrap().success(), "{file} cannot be unpacked");
    let said = String::from_utf8_lossy(&tar.stderr).into_owned();
    assert!(tar.status.success() || said.contains("Not found"), "{file}: {said}");
    // Another test may have been faster.
    if std::fs::rename(&next, cache.join(package)).is_err() {
        std::fs::remove_dir_all(&next).unwrap();
    }
}

/// All regular files beneath a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// Unit files of one type.
struct Kind {
    /// Their names' end.
    end: &'static str,
    /// So many packages have to have some.
    packages: usize,
    /// What is known not to be supported, by a decision of ours: told, and not counted against the others.
    known: Option<&'static str>,
    /// So many of the other files have to say nothing that is not supported, in percent.
    least: usize,
}

/// Reads all unit files of a type that the packages bring, tells what is said of them, and how many of them say nothing
/// that is not supported.
fn read_all(kind: &Kind) {
    let mut units = Vec::new();
    let mut packages = 0;
    let names: Vec<&str> = PACKAGES.split_whitespace().collect();
    // Once, for all types that are read.
    static FETCHED: Once = Once::new();
    FETCHED.call_once(|| fetch(&cache("unit-files"), &names, &["*.service", "*.socket", "*.timer"]));
    for folder in names.iter().map(|package| cache("unit-files").join(package)).filter(|folder| folder.exists()) {
        let mut found = Vec::new();
        files(&folder, &mut found);
        found.retain(|path| path.to_str().unwrap().contains("/systemd/system/"));
        found.retain(|path| path.to_str().unwrap().ends_with(kind.end));
        packages += usize::from(!found.is_empty());
        units.append(&mut found);
    }
    if packages < kind.packages {
        return skip::because(format!(
            "only {packages} packages with {} files could be had: apt-get needs its lists (apt-get update) and the network",
            kind.end
        ));
    }
    let machine = Machine::default();
    let (mut whole, mut known) = (0, 0);
    let mut refused = Vec::new();
    let mut reasons: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in &units {
        let file = path.file_name().unwrap().to_str().unwrap();
        // A template is read as one of its instances.
        let name = file.replace(&format!("@{}", kind.end), &format!("@instance{}", kind.end));
        let text = std::fs::read_to_string(path).unwrap();
        let unit = parse(&name, path, &text, &machine);
        whole += usize::from(unit.notes.is_empty() && unit.refused.is_none());
        if let Some(reason) = &unit.refused {
            refused.push(reason.clone());
        }
        let said: Vec<String> = unit.notes.iter().map(|note| note.text.clone()).chain(unit.refused.clone()).collect();
        let is_known = |text: &String| kind.known.is_some_and(|known| text.contains(known));
        known += usize::from(!said.is_empty() && said.iter().all(is_known));
        for text in said {
            let what = text.rsplit_once(&format!("{}:", kind.end)).map_or(text.as_str(), |(_, rest)| rest);
            let what = what.split(':').next().unwrap().trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
            reasons.entry(what).or_default().insert(file.to_owned());
        }
    }
    let mut reasons: Vec<(String, BTreeSet<String>)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, files)| std::cmp::Reverse(files.len()));
    for (what, files) in &reasons {
        println!("{:4}  {what}: {}", files.len(), files.iter().take(3).cloned().collect::<Vec<_>>().join(", "));
    }
    for reason in &refused {
        println!("refused: {reason}");
    }
    let (all, share) = (units.len(), whole * 1000 / units.len());
    println!(
        "{all} {} files of {packages} packages: {whole} say nothing that is not supported, {}.{} %; {} are refused",
        kind.end,
        share / 10,
        share % 10,
        refused.len()
    );
    if let Some(directive) = kind.known {
        println!("{known} of them for {directive} alone");
    }
    assert!(whole * 100 >= (all - known) * kind.least, "less than {} %", kind.least);
}

#[test]
fn debians_services_are_read_and_most_ask_for_nothing_that_is_not_supported() {
    read_all(&Kind { end: ".service", packages: 100, known: None, least: 90 });
}

#[test]
fn debians_sockets_are_read_and_most_ask_for_nothing_that_is_not_supported() {
    read_all(&Kind { end: ".socket", packages: 20, known: None, least: 90 });
}

#[test]
fn debians_timers_are_read_and_those_that_go_by_a_clock_alone_are_refused() {
    read_all(&Kind { end: ".timer", packages: 10, known: Some("OnCalendar="), least: 90 });
}

#[test]
fn the_table_has_every_directive_that_systemds_manual_describes() {
    fetch(&cache("units"), &["systemd"], &["*/man5/systemd.*.5.gz"]);
    let folder = cache("units").join("systemd");
    if !folder.exists() {
        return skip::because(
            "systemd's manual could not be had: apt-get needs its lists (apt-get update) and the network",
        );
    }
    let mut missing = Vec::new();
    let mut count = 0;
    for (page, sections) in [
        ("unit", [Section::Unit, Section::Install]),
        ("service", [Section::Service; 2]),
        ("exec", [Section::Service; 2]),
        ("kill", [Section::Service; 2]),
        ("resource-control", [Section::Service; 2]),
        ("socket", [Section::Socket; 2]),
        ("timer", [Section::Timer; 2]),
    ] {
        let path = folder.join(format!("usr/share/man/man5/systemd.{page}.5.gz"));
        let output = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", path.display());
        for name in described(&String::from_utf8_lossy(&output.stdout)) {
            count += 1;
            if sections.iter().all(|section| find(*section, &name).is_none()) {
                missing.push(format!("{name} of systemd.{page}(5)"));
            }
        }
    }
    assert!(count > 350, "only {count} directives were found in the manual: its form has changed");
    assert_eq!(missing, Vec::<String>::new());
}

/// The directives that a page describes: lines of nothing but names, each as `\fIName=\fR`, before an indented text.
fn described(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut heads: Vec<String> = Vec::new();
    for line in page.lines() {
        let is_head = line.starts_with("\\fI") && line.contains("=\\fR");
        if line == ".RS 4" {
            names.extend(heads.drain(..));
        } else if is_head {
            for part in line.split("\\fI").skip(1) {
                let Some((name, _)) = part.split_once('=') else { continue };
                if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()) {
                    heads.push(name.to_owned());
                }
            }
        } else {
            heads.clear();
        }
    }
    names
}
