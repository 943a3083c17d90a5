//! The same for each of several things, some of them at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The results, in the order of the items. Each of at most `workers` threads takes the next item when it is through
/// with one.
pub fn each<T: Sync, R: Send>(items: &[T], workers: usize, act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(item) = items.get(index)
        {
            done.push((index, act(item)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1).min(items.len())).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_what_they_are_of() {
        let items: Vec<u64> = (0..100).collect();
        for workers in [0, 1, 7, usize::MAX] {
            assert_eq!(each(&items, workers, |item| item * 2), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
        assert!(each(&[] as &[u64], 3, |item| *item).is_empty());
    }
}
