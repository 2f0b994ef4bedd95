//! The directories that are made for a service, as data: systemd.exec(5), `RuntimeDirectory=` and its like.

/// What a directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the directive of its own name")]
pub enum DirectoryKind {
    Runtime,
    State,
    Cache,
    Logs,
    Configuration,
}

impl DirectoryKind {
    /// All kinds, in the order of [`Directories::of`].
    pub const ALL: [DirectoryKind; 5] = [
        DirectoryKind::Runtime,
        DirectoryKind::State,
        DirectoryKind::Cache,
        DirectoryKind::Logs,
        DirectoryKind::Configuration,
    ];

    /// The folder that they are in.
    pub fn base(self) -> &'static str {
        match self {
            DirectoryKind::Runtime => "/run",
            DirectoryKind::State => "/var/lib",
            DirectoryKind::Cache => "/var/cache",
            DirectoryKind::Logs => "/var/log",
            DirectoryKind::Configuration => "/etc",
        }
    }

    /// The variable that tells the service of them.
    pub fn variable(self) -> &'static str {
        match self {
            DirectoryKind::Runtime => "RUNTIME_DIRECTORY",
            DirectoryKind::State => "STATE_DIRECTORY",
            DirectoryKind::Cache => "CACHE_DIRECTORY",
            DirectoryKind::Logs => "LOGS_DIRECTORY",
            DirectoryKind::Configuration => "CONFIGURATION_DIRECTORY",
        }
    }
}

/// When runtime directories go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preserve {
    /// Whenever the service has ended.
    #[default]
    No,
    /// When it has ended for good.
    Restart,
    /// Never.
    Yes,
}

/// The directories of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorySet {
    /// Their paths beneath the base.
    pub names: Vec<String>,
    /// Links to them beneath the base: which, and what they are called.
    pub links: Vec<(String, String)>,
    /// Their mode.
    pub mode: u32,
}

/// All directories of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directories {
    sets: [DirectorySet; 5],
    /// `RuntimeDirectoryPreserve=`.
    pub preserve: Preserve,
}

impl Default for DirectorySet {
    fn default() -> DirectorySet {
        DirectorySet { names: Vec::new(), links: Vec::new(), mode: 0o755 }
    }
}

impl Directories {
    /// Those of one kind.
    pub fn of(&self, kind: DirectoryKind) -> &DirectorySet {
        let [runtime, state, cache, logs, configuration] = &self.sets;
        match kind {
            DirectoryKind::Runtime => runtime,
            DirectoryKind::State => state,
            DirectoryKind::Cache => cache,
            DirectoryKind::Logs => logs,
            DirectoryKind::Configuration => configuration,
        }
    }

    /// Those of one kind, to be changed.
    pub fn of_mut(&mut self, kind: DirectoryKind) -> &mut DirectorySet {
        let [runtime, state, cache, logs, configuration] = &mut self.sets;
        match kind {
            DirectoryKind::Runtime => runtime,
            DirectoryKind::State => state,
            DirectoryKind::Cache => cache,
            DirectoryKind::Logs => logs,
            DirectoryKind::Configuration => configuration,
        }
    }
}
