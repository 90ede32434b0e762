//! Reads a file that holds a secret, whatever may stand in its place.
//!
//! Promises: a pipe, a socket, a device and a folder are refused and not waited for; of a file at most
//! [`MAX_BYTES`] are taken; an error names the file and never what is in it.
//!
//! Does not promise: that a file system which does not answer (a server of the network that is away) gives up.
//! [`super::watch`] sees to that.

use rustix::fs::{FileType, Mode, OFlags};
use secrecy::SecretString;
use std::io::Read;
use std::path::Path;

/// The longest text that is believed: a key, a password or a list of URLs, not a file named by mistake.
const MAX_BYTES: u64 = 8 * 1024;

/// How a file is called in a sentence.
pub(super) fn called(path: &Path) -> String {
    format!("the file {}", path.display())
}

/// What a file holds.
///
/// # Errors
/// A sentence that says why it cannot be read.
pub(crate) fn read(path: &Path) -> Result<SecretString, String> {
    let what = called(path);
    let failed = |e: &dyn std::fmt::Display| format!("cannot read {what}: {e}");
    // Opening a pipe that nobody writes to would wait for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(&std::io::Error::from(e)))?;
    let status = rustix::fs::fstat(&file).map_err(|e| failed(&std::io::Error::from(e)))?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(format!("{what} is a folder: name the file in it")),
        _ => return Err(format!("{what} is a pipe or a device: name a file")),
    }
    let mut bytes = Vec::new();
    // One more than may be there, to see whether there is.
    std::fs::File::from(file).take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{what} holds more than {MAX_BYTES} bytes: that is not a secret"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(format!("{what} is not UTF-8 text")),
    }
}
