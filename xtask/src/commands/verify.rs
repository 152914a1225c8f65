//! `verify`: read every stored byte again.

use anyhow::Result;

use super::Root;
use crate::{cli::MessageFormat, output};
use store::{Store, Verified};

/// Reads the store, sets aside what is damaged and says so; whether nothing was.
pub fn run(format: MessageFormat) -> Result<bool> {
    let root = Root::find()?;
    let mut store = Store::open_read_only(&root.artifacts())?;
    let is_there = store.root().join("format").exists();
    let verified = match is_there {
        true => {
            store.make_writable()?;
            store.verify()?
        }
        false => Verified::default(),
    };
    if format == MessageFormat::Json {
        output::answer("verify", &verified)?;
        return Ok(verified.is_whole());
    }
    if !is_there {
        outln!("nothing to verify: there is no store yet")?;
        return Ok(true);
    }
    let Verified { records, contents, bytes, damaged, incomplete } = &verified;
    outln!("{records} results and {contents} contents, {bytes} bytes, match their digests")?;
    for path in damaged {
        outln!("set aside: {}", path.display())?;
    }
    if *incomplete > 0 {
        outln!("{incomplete} results lack content, and are made again by the next suite")?;
    }
    Ok(verified.is_whole())
}
