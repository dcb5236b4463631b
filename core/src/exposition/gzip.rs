//! gzip at level 1, by the library: what it gains per byte of the page is worth more than a better ratio.

use std::io::Write;

use flate2::write::GzEncoder;
use flate2::Compression;

/// Replaces what is in `out` by the compressed page.
pub(super) fn compress(page: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut encoder = GzEncoder::new(std::mem::take(out), Compression::new(1));
    // Writing to memory does not fail.
    let _ = encoder.write_all(page);
    *out = encoder.finish().unwrap_or_default();
}
