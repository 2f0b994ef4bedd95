//! Debian's packages: fetched with `apt-get download`, unpacked and never installed, and kept in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::definition::Debian;
use super::host::{self, entries};
use super::inputs::{Inputs, text_sha256};
use super::tree::Tree;

/// Fetches the package `name`, unless the cache has one of that name, and gives back its file.
/// `refresh` asks the registry again.
pub fn package(name: &str, refresh: bool) -> anyhow::Result<PathBuf> {
    let folder = host::cache("debs")?;
    let cached = || -> anyhow::Result<Option<PathBuf>> {
        let prefix = format!("{name}_");
        let found = entries(&folder)?;
        Ok(found.into_iter().rev().find(|(file, _)| file.starts_with(&prefix) && file.ends_with(".deb")).map(|e| e.1))
    };
    if let Some(path) = cached()?.filter(|_| !refresh) {
        return Ok(path);
    }
    // Fetched beside the cache and renamed into it, so that an interrupted download is never taken for a package.
    let fetching = host::unfinished(&folder.join(name));
    std::fs::create_dir_all(&fetching)?;
    let fetched = host::run(
        Command::new("apt-get").args(["-o", "APT::Sandbox::User=root", "-qq", "download", name]).current_dir(&fetching),
    )
    .with_context(|| format!("cannot fetch the package {name} (has `apt-get update` been run?)"));
    let moved = fetched.and_then(|_| {
        for (file, path) in entries(&fetching)? {
            std::fs::rename(path, folder.join(file))?;
        }
        Ok(())
    });
    std::fs::remove_dir_all(&fetching)?;
    moved?;
    cached()?.with_context(|| format!("apt-get downloaded {name}, but no {name}_*.deb came of it"))
}

/// The newest package whose name matches the extended regular expression `pattern`: one in the cache, unless there
/// is none or `refresh` is set; then what the registry offers.
pub fn newest(pattern: &str, is_match: impl Fn(&str) -> bool, refresh: bool) -> anyhow::Result<String> {
    let version_order =
        |names: Vec<String>| -> Option<String> { names.into_iter().max_by_key(|name| version_key(name)) };
    let cached = entries(&host::cache("debs")?)?
        .into_iter()
        .filter_map(|(file, _)| Some(file.split_once('_')?.0.to_owned()))
        .filter(|name| is_match(name))
        .collect();
    if let Some(name) = version_order(cached).filter(|_| !refresh) {
        return Ok(name);
    }
    let listed = host::run(Command::new("apt-cache").args(["search", "--names-only", pattern]))?;
    let listed = listed.lines().filter_map(|line| line.split_whitespace().next());
    version_order(listed.filter(|name| is_match(name)).map(str::to_owned).collect())
        .with_context(|| format!("no package is called {pattern}: run `apt-get update`, or name another kernel"))
}

/// Numbers in a name, for comparing versions: `linux-image-6.12.9` is older than `linux-image-6.12.10`.
fn version_key(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Unpacks a `.deb` into the folder `root`, without running any script of it. Modes and, for root, owners are the
/// package's: by number, since the names are the device's and may have other numbers here.
pub fn unpack(deb: &Path, root: &Path) -> anyhow::Result<()> {
    host::pipe(
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(deb),
        Command::new("tar").args(["--extract", "--numeric-owner", "--preserve-permissions", "--directory"]).arg(root),
    )
    .with_context(|| format!("cannot unpack {}", deb.display()))
}

/// What mmdebstrap takes from this host, or leaves of its own work, and so is no part of any package. Each path with
/// all below it.
const OF_THIS_HOST: [&str; 9] = [
    "etc/resolv.conf",
    "etc/hostname",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/apt/auth.conf",
    "etc/apt/auth.conf.d",
    "var/cache/apt",
    "var/lib/apt",
    "var/log/apt",
];

/// A root made of Debian packages: a tar archive in the cache, and the list of packages with their hashes.
pub struct Root {
    pub tar: PathBuf,
    sums: PathBuf,
}

impl Root {
    /// Resolves and unpacks the packages, unless the cache has this list already.
    pub fn get(debian: &Debian, refresh: bool) -> anyhow::Result<Root> {
        let mut packages = debian.packages.clone();
        packages.sort();
        let list = packages.join(",");
        let key = text_sha256(&format!("{} {list}", debian.suite));
        let name = format!("{}-{}", debian.suite, key.get(..16).unwrap_or(&key));
        let folder = host::cache("roots")?;
        let root = Root { tar: folder.join(format!("{name}.tar")), sums: folder.join(format!("{name}.sha256")) };
        if root.tar.is_file() && root.sums.is_file() && !refresh {
            return Ok(root);
        }
        let (tar, sums) = (host::unfinished(&root.tar), host::unfinished(&root.sums));
        // /bin and its like are links into /usr before the first file is unpacked; the packages' hashes are taken
        // while apt still has them.
        let merge = "for d in bin sbin lib lib64; do mkdir -p \"$1/usr/$d\"; rmdir \"$1/$d\" 2>/dev/null || true; \
                     ln -s \"usr/$d\" \"$1/$d\"; done";
        let hash = format!("cd \"$1/var/cache/apt/archives\" && sha256sum -- *.deb > '{}'", sums.display());
        host::run(
            Command::new("mmdebstrap")
                .args(["--variant=extract", "--format=tar", &format!("--include={list}")])
                .arg(format!("--setup-hook={merge}"))
                .arg(format!("--extract-hook={hash}"))
                .arg(&debian.suite)
                .arg(&tar),
        )
        .with_context(|| format!("cannot make a Debian root of {list}"))?;
        std::fs::rename(&sums, &root.sums)?;
        std::fs::rename(&tar, &root.tar)?;
        Ok(root)
    }

    /// Notes every package with its hash.
    pub fn note(&self, inputs: &mut Inputs) -> anyhow::Result<()> {
        let sums =
            std::fs::read_to_string(&self.sums).with_context(|| format!("cannot read {}", self.sums.display()))?;
        for line in sums.lines() {
            let Some((sum, file)) = line.split_once("  ") else {
                bail!("{}: not a list of hashes: {line:?}; delete it and build again", self.sums.display());
            };
            inputs.note("package", file, sum);
        }
        Ok(())
    }

    /// Unpacks the root into `tree`, which is empty, without what this host left in it.
    pub fn unpack(&self, tree: &Tree) -> anyhow::Result<()> {
        host::run(
            Command::new("tar")
                .args(["--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file"])
                .arg(&self.tar)
                .arg("--directory")
                .arg(tree.path()),
        )?;
        OF_THIS_HOST.iter().try_for_each(|path| tree.remove(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(version_key("linux-image-6.12.9+deb12-amd64") < version_key("linux-image-6.12.10+deb12-amd64"));
    }
}
