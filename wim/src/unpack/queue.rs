//! The bounded queue between the thread that reads a stream and the workers: it is what bounds the memory of an
//! unpacking whose input cannot be asked to wait in any other way.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    most: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// A queue in which at most `most`, at least one, wait.
    pub(super) fn new(most: usize) -> Queue<T> {
        let state = State { waiting: VecDeque::new(), closed: false };
        Queue { state: Mutex::new(state), changed: Condvar::new(), most: most.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts it behind all others once there is room; `false` where nobody will take it any more.
    pub(super) fn push(&self, value: T) -> bool {
        let mut state = self.lock();
        while state.waiting.len() >= self.most && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        state.waiting.push_back(value);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// The first one, once there is one; `None` where there will be none.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(value) = state.waiting.pop_front() {
                drop(state);
                self.changed.notify_all();
                return Some(value);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more will come: those that wait are still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Nothing more will come, and what waits is dropped.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_put_in_comes_out_in_order_through_a_queue_of_one() {
        let queue = Queue::new(1);
        let got = std::thread::scope(|scope| {
            let taker = scope.spawn(|| std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>());
            assert!((0..1000).all(|n| queue.push(n)));
            queue.close();
            taker.join().unwrap()
        });
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
        assert!(!queue.push(1000), "it is closed");
    }

    #[test]
    fn a_stop_ends_the_wait_on_both_sides() {
        let (full, empty) = (Queue::new(1), Queue::<u32>::new(1));
        assert!(full.push(1));
        std::thread::scope(|scope| {
            let pusher = scope.spawn(|| full.push(2));
            let taker = scope.spawn(|| empty.pop());
            full.stop();
            empty.stop();
            assert!(!pusher.join().unwrap());
            assert_eq!(taker.join().unwrap(), None);
        });
        assert_eq!(full.pop(), None, "what waited is dropped");
    }
}
