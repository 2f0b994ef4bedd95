//! Stage 1: from the kernel's hand-over to the new root's init, step by step. Every failure ends in [`recovery`].

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use link::paths;

use crate::available::Available;
use crate::params::OnFail;
use crate::recovery::{self, Failure, Reason};
use crate::settings::Settings;
use crate::source::{locate, spec};
use crate::timeline::{Timeline, step};
use crate::uevent::Listener;
use crate::unpack::Image;
use crate::unpacker::{self, Teller};
use crate::{chain, config, early, log_panics, memory, modules, mounted, params, switch, unpack, verify};

/// Why there is no root to switch to: each error of a step, with the remedy that it knows.
macro_rules! reasons {
    ($($error:ty: $remedy:expr;)*) => {
        $(impl From<$error> for Reason {
            fn from(error: $error) -> Reason {
                let remedy: fn(&$error) -> String = $remedy;
                Reason { what: chain(&error), remedy: remedy(&error) }
            }
        })*
    };
}

reasons! {
    config::Error: |_| format!("Correct {} and build the initramfs again", paths::BOOT_CONFIG);
    spec::Error: |error| error.remedy();
    locate::Error: |error| error.remedy();
    verify::Error: |error| error.remedy().into();
    memory::TooLarge: |error| error.remedy();
    unpack::Error: |error| error.remedy().into();
    mounted::Error: |error| error.remedy();
    switch::Error: |error| error.remedy().into();
}

/// Boots. Does not return: ends as another program, or in recovery.
pub fn run() -> ! {
    log_panics();
    // Kept outside, so that a failure at any point knows how far the settings were known.
    let mut settings = Settings::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| boot(&mut settings)));
    let reason = match outcome {
        Ok(Err(reason)) => with_cause(reason),
        Ok(Ok(never)) => match never {},
        Err(payload) => Reason::of_panic(&*payload),
    };
    switch::discard_new_root();
    recovery::recover(&Failure { image: settings.root, reason }, settings.onfail)
}

/// A reason as it was found; or with what lies behind it, where the kernel has cut the initramfs short, and whatever is
/// missing there is so for that.
fn with_cause(reason: Reason) -> Reason {
    if !memory::is_full(Path::new("/")) {
        return reason;
    }
    let what = "the kernel had no room to unpack all of the initramfs, which may be a third of the RAM at most";
    Reason {
        what: format!("{what} (so {})", reason.what),
        remedy: "Give the device more RAM, or put the root on storage".into(),
    }
}

/// What cannot be.
enum Never {}

fn boot(settings: &mut Settings) -> Result<Never, Reason> {
    let mut timeline = Timeline::new();
    timeline.begin(step::EARLY);
    let warnings = early::mount_all();
    // Fails only without /dev/kmsg; then the consoles still get the line of recovery.
    let _ = link::kmsg::install("init", log::LevelFilter::Debug);
    log::info!("mmos {} stage 1", timeline.record.version);
    for warning in warnings {
        timeline.warn(warning);
    }

    timeline.begin(step::SETTINGS);
    decide(settings, &mut timeline)?;
    timeline.record.profile = settings.profile.clone();
    timeline.record.watchdog = Some(settings.watchdog.seconds());

    timeline.begin(step::MODULES);
    // Before anything is looked for: what comes later is heard.
    let events = Listener::open().map_err(|error| log::warn!("devices that come later stay unknown: {error}")).ok();
    let mut loader = modules::Loader::for_running_kernel();
    let mut warnings = loader.load_listed(&settings.modules.load);
    if settings.modules.auto {
        warnings.extend(loader.load_for_devices());
    } else {
        loader.ignore_devices();
    }
    log::info!("{} modules loaded", loader.loaded());
    for warning in warnings {
        timeline.warn(warning);
    }

    timeline.begin(step::FIND_ROOT);
    let spec: spec::RootSpec = settings.root.parse()?;
    let located = locate::locate(&spec, settings.rootwait, events.as_ref(), &mut loader)?;
    log::info!("root {} found at {}", settings.root, located.path().display());
    drop(events);

    let is_ours = matches!(spec, spec::RootSpec::Initrd(_));
    let root = unpacker::run(&mut timeline, settings.watchdog, |teller| {
        make_root(settings, located.path(), is_ours, &mut loader, teller)
    });
    let root = match root {
        Ok(root) => root,
        Err(error) => {
            if matches!(error, unpacker::Error::Stalled { .. }) {
                // To unmount or close a medium that does not answer would hold us, too; `flush` does that by a thread.
                std::mem::forget(located);
            }
            return Err(error.into());
        }
    };
    drop(loader);
    timeline.record.root = Some(root);
    drop(located);
    switch::check_init(Path::new(switch::NEW_ROOT), paths::ROOT_INIT)?;
    let targets = switch::check_targets(Path::new(switch::NEW_ROOT))?;

    timeline.begin(step::SWITCH_ROOT);
    // Written while it can still be; stage 2 fills in when this step was over.
    timeline.write(Path::new(paths::BOOT_RECORD));
    let initramfs = switch::switch(&targets)?;
    drop(targets);
    switch::free_initramfs(&initramfs);
    drop(initramfs);
    log::info!("root in place: executing {}", paths::ROOT_INIT);
    Err(switch::execute(paths::ROOT_INIT).into())
}

/// Steps 5 to 7, in the unpacker. The image at `path` `is_ours` in the initramfs.
fn make_root(
    settings: &Settings,
    path: &Path,
    is_ours: bool,
    modules: &mut modules::Loader,
    teller: &mut Teller,
) -> Result<link::boot::Root, Reason> {
    teller.step(step::VERIFY);
    verify::machine(&settings.verify, &verify::Machine::this())?;
    match mounted::Image::open(path, settings.index.as_deref())? {
        Some(image) => mount_root(settings, image, modules, teller),
        None => unpack_root(settings, path, is_ours, teller),
    }
}

/// The rest of steps 5 to 7, for an image that is unpacked.
fn unpack_root(
    settings: &Settings,
    path: &Path,
    is_ours: bool,
    teller: &mut Teller,
) -> Result<link::boot::Root, Reason> {
    let image = Image::open(path, settings.index.as_deref(), is_ours)?;
    verify::image(&settings.verify, &image.files())?;

    teller.step(step::MEMORY);
    let available = Available::read(Path::new("/proc"));
    let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let need = |workers| image.need(workers).map_err(Reason::from);
    let (workers, limits) = memory::fit(processors, available, need)?;
    switch::mount_new_root(limits)?;

    teller.step(step::UNPACK);
    let (root, notes) = image.unpack(Path::new(switch::NEW_ROOT), workers, &settings.root)?;
    for note in notes {
        teller.warn(note);
    }
    Ok(root)
}

/// The rest of steps 5 to 7, for an image that is mounted.
fn mount_root(
    settings: &Settings,
    image: mounted::Image,
    modules: &mut modules::Loader,
    teller: &mut Teller,
) -> Result<link::boot::Root, Reason> {
    image.verify(&settings.verify)?;

    teller.step(step::MEMORY);
    let limits = memory::check(memory::Kind::Mounted, image.need(), Available::read(Path::new("/proc")))?;

    teller.step(step::UNPACK);
    Ok(image.mount(switch::NEW_ROOT, limits, &settings.verify, modules, &settings.root)?)
}

/// Step 2. What the command line asks for is taken first, so that a broken `boot.toml` is reported and ended as it
/// says, but for the shell, which only a sound `boot.toml` can allow.
fn decide(settings: &mut Settings, timeline: &mut Timeline) -> Result<(), Reason> {
    let cmdline = std::fs::read("/proc/cmdline").unwrap_or_else(|error| {
        timeline.warn(format!("the kernel command line cannot be read: {error}"));
        Vec::new()
    });
    let (requests, warnings) = params::parse(&String::from_utf8_lossy(&cmdline));
    log::set_max_level(requests.level());
    for warning in warnings {
        timeline.warn(warning);
    }
    let provisional = Settings::new(requests.clone(), config::BootConfig::default()).0;
    debug_assert_ne!(provisional.onfail, OnFail::Shell);
    *settings = provisional;
    let config = config::read(Path::new(paths::BOOT_CONFIG))?;
    let (decided, warnings) = Settings::new(requests, config);
    for warning in warnings {
        timeline.warn(warning);
    }
    *settings = decided;
    log::info!("root {}, wait {} s, on failure {}", settings.root, settings.rootwait.as_secs(), settings.onfail.word());
    Ok(())
}
