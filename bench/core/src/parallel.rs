//! The same function over many items on all of the machine's cores; what comes of it does not depend
//! on how many there are.

use std::{num::NonZero, thread};

/// What `f` says of each item, in their order.
///
/// # Panics
/// When `f` does.
pub fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let of_thread = |offset| items.iter().skip(offset).step_by(threads).map(&f).collect();
    let parts: Vec<Vec<R>> = thread::scope(|scope| {
        let of_thread = &of_thread;
        let workers: Vec<_> =
            (0..threads).map(|offset| scope.spawn(move || of_thread(offset))).collect();
        workers.into_iter().map(|worker| worker.join().expect("the function panics")).collect()
    });
    let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
    (0..items.len()).filter_map(|at| parts[at % threads].next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_keeps_its_place() {
        for count in [0, 1, 2, 3, 100] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(map(&items, |n| n * n), items.iter().map(|n| n * n).collect::<Vec<_>>());
        }
    }
}
