//! Work on many threads whose results are taken in order.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Results that may wait for an earlier one, for each thread.
const AHEAD: usize = 2;

/// Does all tasks in order on so many threads, each of which has one task at a time. Tasks are drawn by one thread at a
/// time, and `sink` gets the results in the order of the tasks.
///
/// # Errors
/// The first that comes up; what was begun is ended, and nothing more is.
pub(super) fn in_order<T: Send, R: Send, E: Send>(
    threads: NonZero<usize>,
    tasks: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> Result<R, E> + Sync,
    sink: impl FnMut(R) -> Result<(), E> + Send,
) -> Result<(), E> {
    let threads = threads.get();
    let queue = Mutex::new((tasks, 0));
    let end = Mutex::new(End { waiting: BTreeMap::new(), taken: 0, fault: None, stopped: false, sink });
    let turn = Condvar::new();
    let run = || {
        let _stop = StopInPanic { end: &end, turn: &turn };
        loop {
            let mut drawn = held(&queue);
            let mut state = held(&end);
            while !state.stopped && drawn.1 >= state.taken + AHEAD * threads {
                state = turn.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped {
                return;
            }
            drop(state);
            let Some(task) = drawn.0.next() else { return };
            let place = drawn.1;
            drawn.1 += 1;
            drop(drawn);
            let result = work(task);
            held(&end).took(place, result);
            turn.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system grants no thread, the others do the work.
            if std::thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    let end = end.into_inner().unwrap_or_else(PoisonError::into_inner);
    end.fault.map_or(Ok(()), Err)
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What comes out.
struct End<R, E, S> {
    waiting: BTreeMap<usize, R>,
    taken: usize,
    fault: Option<E>,
    stopped: bool,
    sink: S,
}

impl<R, E, S: FnMut(R) -> Result<(), E>> End<R, E, S> {
    fn took(&mut self, place: usize, result: Result<R, E>) {
        match result {
            Ok(result) => self.waiting.insert(place, result),
            Err(fault) => return self.stop(fault),
        };
        while let Some(next) = self.waiting.remove(&self.taken).filter(|_| !self.stopped) {
            self.taken += 1;
            if let Err(fault) = (self.sink)(next) {
                self.stop(fault);
            }
        }
    }

    fn stop(&mut self, fault: E) {
        self.stopped = true;
        self.fault.get_or_insert(fault);
    }
}

/// Lets the other threads end when one panics.
struct StopInPanic<'a, R, E, S> {
    end: &'a Mutex<End<R, E, S>>,
    turn: &'a Condvar,
}

impl<R, E, S> Drop for StopInPanic<'_, R, E, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            held(self.end).stopped = true;
            self.turn.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> NonZero<usize> {
        NonZero::new(3).unwrap()
    }

    #[test]
    fn results_come_in_order() {
        let mut found = Vec::new();
        let work = |task: u64| {
            std::thread::sleep(std::time::Duration::from_micros(task * 37 % 500));
            Ok::<_, ()>(task)
        };
        in_order(three(), 0..200, work, |result| {
            found.push(result);
            Ok(())
        })
        .unwrap();
        assert!(found.into_iter().eq(0..200));
    }

    #[test]
    fn the_first_fault_ends_all() {
        let work = |task: u32| if task == 7 { Err("seven") } else { Ok(task) };
        assert_eq!(in_order(three(), 0.., work, |_| Ok(())), Err("seven"));
        let sink = |result: u32| if result == 9 { Err("full") } else { Ok(()) };
        assert_eq!(in_order(three(), 0.., Ok, sink), Err("full"));
    }

    #[test]
    #[should_panic(expected = "panicked")]
    fn a_panic_does_not_hang() {
        let work = |task: u32| if task == 50 { panic!("panicked") } else { Ok::<_, ()>(task) };
        // On one thread, so that it is the message itself that comes out.
        let _ended = in_order(NonZero::<usize>::MIN, 0.., work, |_| Ok(()));
    }
}
