//! A notice as it is stored: JSON that its column holds.
//!
//! Promises: a notice that is too long loses its output first, then what is furthest from its point: a shorter notice is
//! told, a refused one is not. A digest loses lines, never the labels of a line it keeps: receivers match ends by them.

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
    let halve = |n: &mut Notice| n.list_no_more_than(n.digest.as_ref().map_or(0, |d| d.lines.len() / 2));
    while text.len() > PAYLOAD_MAX && shorter.digest.as_ref().is_some_and(|d| d.lines.len() > 1) {
        halve(&mut shorter);
        text = write(&shorter)?;
    }
    if text.len() <= PAYLOAD_MAX {
        return Ok(text);
    }
    let cuts: [fn(&mut Notice); 4] = [
        |n| n.output = None,
        |n| n.labels.clear(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_is_too_long_lists_fewer_and_keeps_their_labels() {
        let labels: std::collections::BTreeMap<_, _> =
            (0..32).map(|n| (format!("label{n}"), "🛎".repeat(255))).collect();
        let member = |n: usize| -> Notice {
            serde_json::from_value(serde_json::json!({
                "event": "trigger", "reason": "missed", "incident": "i", "dedup_key": "k", "app": "a",
                "component": n.to_string(), "labels": labels,
            }))
            .unwrap()
        };
        let members: Vec<_> = (0..60).map(member).collect();
        let stored = payload(&Notice::digest(&members, "d", 0, "srv")).unwrap();
        assert!(stored.len() <= PAYLOAD_MAX);
        let read: Notice = serde_json::from_str(&stored).unwrap();
        let digest = read.digest.unwrap();
        assert_eq!((digest.count, digest.lines.len()), (60, 1));
        assert_eq!(digest.lines[0].labels, labels);
        assert_eq!(read.remarks, ["… and 59 more"]);
    }
}
