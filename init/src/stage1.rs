//! Stage 1: from the kernel's hand-over to the new root's init, step by step. Every failure ends in [`recovery`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use link::paths;

use crate::params::OnFail;
use crate::recovery::{self, Failure};
use crate::settings::Settings;
use crate::source::{locate, spec};
use crate::timeline::{Timeline, step};
use crate::uevent::Listener;
use crate::unpack::Image;
use crate::{chain, config, early, log_panics, memory, modules, panic_text, params, switch, unpack, verify};

/// Why there is no root to switch to.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Spec(#[from] spec::Error),
    #[error(transparent)]
    Locate(#[from] locate::Error),
    #[error(transparent)]
    Verify(#[from] verify::Error),
    #[error(transparent)]
    Memory(#[from] memory::TooLarge),
    #[error(transparent)]
    Image(#[from] unpack::Error),
    #[error(transparent)]
    Switch(#[from] switch::Error),
}

impl Error {
    fn remedy(&self) -> String {
        match self {
            Error::Config(_) => format!("Correct {} and build the initramfs again", paths::BOOT_CONFIG),
            Error::Spec(error) => error.remedy(),
            Error::Locate(error) => error.remedy(),
            Error::Verify(error) => error.remedy().into(),
            Error::Memory(error) => error.remedy(),
            Error::Image(error) => error.remedy().into(),
            Error::Switch(error) => error.remedy().into(),
        }
    }
}

/// Boots. Does not return: ends as another program, or in recovery.
pub fn run() -> ! {
    log_panics();
    // Kept outside, so that a failure at any point knows how far the settings were known.
    let mut settings = Settings::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| boot(&mut settings)));
    let (reason, remedy) = match outcome {
        Ok(Err(error)) => (chain(&error), error.remedy()),
        Ok(Ok(never)) => match never {},
        Err(payload) => (
            format!("internal error: {}", panic_text(&*payload)),
            "Keep the kernel's log and report it; another image may boot".into(),
        ),
    };
    switch::discard_new_root();
    recovery::recover(&Failure { image: settings.root, reason, remedy }, settings.onfail)
}

/// What cannot be.
enum Never {}

fn boot(settings: &mut Settings) -> Result<Never, Error> {
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
    drop((events, loader));

    timeline.begin(step::VERIFY);
    verify::machine(&settings.verify, &verify::Machine::this())?;
    let image = Image::open(located.path(), settings.index.as_deref())?;
    verify::image(&settings.verify, image.path(), image.source_bytes())?;

    timeline.begin(step::MEMORY);
    let limits = memory::check(image.need()?, memory::available(Path::new("/proc/meminfo")))?;
    switch::mount_new_root(limits)?;

    timeline.begin(step::UNPACK);
    let (root, notes) = image.unpack(Path::new(switch::NEW_ROOT), &settings.root)?;
    drop(located);
    for note in notes {
        timeline.warn(note);
    }
    timeline.record.root = Some(root);
    switch::check_init(Path::new(switch::NEW_ROOT), paths::ROOT_INIT)?;
    let targets = switch::check_targets(Path::new(switch::NEW_ROOT))?;

    timeline.begin(step::SWITCH_ROOT);
    // Written while it can still be; stage 2 fills in when this step was over.
    timeline.write(Path::new(paths::BOOT_RECORD));
    let initramfs = switch::switch(&targets)?;
    drop(targets);
    switch::free_initramfs(&initramfs);
    drop(initramfs);
    Err(switch::execute(paths::ROOT_INIT).into())
}

/// Step 2. What the command line asks for is taken first, so that a broken `boot.toml` is reported and ended as it
/// says, but for the shell, which only a sound `boot.toml` can allow.
fn decide(settings: &mut Settings, timeline: &mut Timeline) -> Result<(), Error> {
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
