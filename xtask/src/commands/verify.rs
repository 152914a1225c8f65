//! `verify`: read every stored byte again.

use anyhow::Result;

use super::Root;
use store::{Store, Verified};

/// Reads the store, sets aside what is damaged and says so; whether nothing was.
pub fn run() -> Result<bool> {
    let root = Root::find()?;
    let mut store = Store::open_read_only(&root.artifacts())?;
    if !store.root().join("format").exists() {
        outln!("nothing to verify: there is no store yet")?;
        return Ok(true);
    }
    store.make_writable()?;
    let Verified { records, contents, bytes, damaged, incomplete } = store.verify()?;
    outln!("{records} results and {contents} contents, {bytes} bytes, match their digests")?;
    for path in &damaged {
        outln!("set aside: {}", path.display())?;
    }
    if incomplete > 0 {
        outln!("{incomplete} results lack content, and are made again by the next suite")?;
    }
    Ok(damaged.is_empty() && incomplete == 0)
}
