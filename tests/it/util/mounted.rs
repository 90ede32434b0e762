//! A folder as a kubelet mounts a Secret: `name -> ..data/name`, `..data -> ..2026_N`, and a new version put in its
//! place by exchanging the one link `..data` (Kubernetes, `pkg/volume/util/atomic_writer.go`).
//!
//! Promises: whoever opens a file finds one version or the next, whole; what is no longer in the Secret is no longer
//! there.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The folder. It is gone when this is dropped.
pub struct Mounted {
    folder: tempfile::TempDir,
    version: u32,
    names: BTreeSet<String>,
}

impl Mounted {
    /// A Secret with these files.
    pub fn new(files: &[(&str, impl AsRef<[u8]>)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut mounted = Self { folder, version: 0, names: BTreeSet::new() };
        mounted.swap(files);
        mounted
    }

    /// Where a file of it is, for a configuration.
    pub fn path(&self, name: &str) -> String {
        self.at(name).to_str().expect("the folder's name is text").to_owned()
    }

    /// The Secret has these files now, and no others.
    pub fn swap(&mut self, files: &[(&str, impl AsRef<[u8]>)]) {
        let old = self.at(&format!("..2026_{}", self.version));
        self.version += 1;
        let version = format!("..2026_{}", self.version);
        std::fs::create_dir(self.at(&version)).unwrap();
        for (name, text) in files {
            std::fs::write(self.at(&version).join(name), text).unwrap();
        }
        symlink(&version, self.at("..data_tmp")).unwrap();
        std::fs::rename(self.at("..data_tmp"), self.at("..data")).unwrap();
        let names: BTreeSet<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        for name in names.difference(&self.names) {
            symlink(Path::new("..data").join(name), self.at(name)).unwrap();
        }
        for name in self.names.difference(&names) {
            std::fs::remove_file(self.at(name)).unwrap();
        }
        self.names = names;
        let _ = std::fs::remove_dir_all(old);
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
