//! A notice as it is stored: JSON that its column holds.
//!
//! Promises: a notice that is too long loses its output first, then what is furthest from its point: a shorter notice is
//! told, a refused one is not.

use super::error::{Result, StoreError};
use crate::reservation::Notice;

/// The longest payload: a TEXT column holds 65,535 bytes.
const PAYLOAD_MAX: usize = 60_000;

/// The text to store.
pub(super) fn payload(notice: &Notice) -> Result<String> {
    let write = |notice: &Notice| serde_json::to_string(notice).map_err(|e| StoreError::Data(e.to_string()));
    let mut text = write(notice)?;
    if text.len() <= PAYLOAD_MAX {
        return Ok(text);
    }
    let mut shorter = notice.clone();
    let cuts: [fn(&mut Notice); 5] = [
        |n| n.output = None,
        |n| n.labels.clear(),
        |n| n.digest.iter_mut().for_each(|d| d.lines.truncate(10)),
        |n| n.remarks.truncate(5),
        |n| n.message = n.message.chars().take(2000).collect(),
    ];
    for cut in cuts {
        cut(&mut shorter);
        text = write(&shorter)?;
        if text.len() <= PAYLOAD_MAX {
            break;
        }
    }
    Ok(text)
}
