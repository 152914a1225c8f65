//! Events must not depend on where the bytes of a stream are split.

#![no_main]

#[path = "../../bench/src/client/sse.rs"]
mod sse;

use libfuzzer_sys::fuzz_target;

fn events<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, sse::TooLong> {
    let mut parser = sse::Parser::default();
    let mut events = Vec::new();
    for piece in pieces {
        parser.push(piece, |data| events.push(data.to_owned()))?;
    }
    Ok(events)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let pieces = bytes.chunks(usize::from(size).max(1));
    assert_eq!(events(pieces), events(std::iter::once(bytes)));
});
