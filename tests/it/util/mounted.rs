//! A folder as a kubelet mounts a Secret: `name -> ..data/name`, `..data -> ..2026_N`, and a new version put in its
//! place by exchanging the one link `..data` (Kubernetes, `pkg/volume/util/atomic_writer.go`).
//!
//! Promises: whoever opens a file finds one version or the next, whole; what is no longer in the Secret is no longer
//! there.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The folder.
pub struct Mounted {
    folder: PathBuf,
    version: u32,
    names: BTreeSet<String>,
    /// Of its own: gone when this is dropped.
    own: Option<tempfile::TempDir>,
}

impl Mounted {
    /// A Secret with these files, in a folder that goes with the value.
    pub fn new(files: &[(impl AsRef<str>, impl AsRef<[u8]>)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut mounted = Self::at(folder.path(), files);
        mounted.own = Some(folder);
        mounted
    }

    /// The same here, in a folder of somebody else's.
    pub fn at(folder: &Path, files: &[(impl AsRef<str>, impl AsRef<[u8]>)]) -> Self {
        std::fs::create_dir_all(folder).expect("the folder can be made");
        let mut mounted = Self { folder: folder.to_owned(), version: 0, names: BTreeSet::new(), own: None };
        mounted.swap(files);
        mounted
    }

    /// Where a file of it is, for a configuration.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("the folder's name is text").to_owned()
    }

    /// The Secret has these files now, and no others.
    pub fn swap(&mut self, files: &[(impl AsRef<str>, impl AsRef<[u8]>)]) {
        let old = self.folder.join(format!("..2026_{}", self.version));
        self.version += 1;
        let version = format!("..2026_{}", self.version);
        std::fs::create_dir(self.folder.join(&version)).unwrap();
        for (name, text) in files {
            std::fs::write(self.folder.join(&version).join(name.as_ref()), text).unwrap();
        }
        symlink(&version, self.folder.join("..data_tmp")).unwrap();
        std::fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        let names: BTreeSet<String> = files.iter().map(|(name, _)| name.as_ref().to_owned()).collect();
        for name in names.difference(&self.names) {
            symlink(Path::new("..data").join(name), self.folder.join(name)).unwrap();
        }
        for name in self.names.difference(&names) {
            std::fs::remove_file(self.folder.join(name)).unwrap();
        }
        self.names = names;
        let _ = std::fs::remove_dir_all(old);
    }
}
