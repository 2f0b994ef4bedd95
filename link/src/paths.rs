//! Where things lie on a running device. Every path that two programs share is named here and nowhere else.

/// Everything of ours that lives as long as this boot. Owned by root, mode 0755.
pub const RUN: &str = "/run/mmos";
/// The Varlink socket of `svcmgr`.
pub const CONTROL: &str = "/run/mmos/control";
/// The group of `/etc/group` whose members may look at units through that socket.
pub const CONTROL_GROUP: &str = "mmos";
/// The `sd_notify(3)` datagram socket of `svcmgr`.
pub const NOTIFY: &str = "/run/mmos/notify";
/// One file per unit: what `svcmgr` must know to take running services over after its own death.
pub const STATE: &str = "/run/mmos/state";
/// One bounded log per unit.
pub const LOGS: &str = "/run/mmos/log";
/// Cores of services, and what the kernel of the boot before said last.
pub const CRASHES: &str = "/run/mmos/crashes";
/// The [`crate::BootRecord`], written by `init`. Its presence is what `is_mmos()` asks for.
pub const BOOT_RECORD: &str = "/run/mmos/boot.json";

/// The supervisor, in the root that was unpacked.
pub const SVCMGR: &str = "/usr/lib/mmos/svcmgr";
/// Stage 2 of `init`, in the root that was unpacked. Any other init may stand there, too.
pub const ROOT_INIT: &str = "/sbin/init";
/// Name, version and default profile of the image, in the root; written by `mmos-image`.
pub const IMAGE_INFO: &str = "/etc/mmos/image.toml";
/// Profiles, one TOML file each, in the root.
pub const PROFILES: &str = "/etc/mmos/profiles";
/// What stage 1 may do, in the initramfs; written by `mmos-image`.
pub const BOOT_CONFIG: &str = "/etc/mmos/boot.toml";
