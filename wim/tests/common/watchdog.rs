//! Ends the process where one case takes too long: a hang would otherwise be a test that never says which input it was.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longer than any case takes on a machine that does other things, too.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct State {
    case: Option<(Instant, String)>,
    over: bool,
}

/// Watches the cases of one test, one at a time.
pub struct Watchdog {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Watchdog {
    pub fn new() -> Watchdog {
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let watched = Arc::clone(&shared);
        std::thread::spawn(move || {
            let (state, over) = &*watched;
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            while !state.over {
                if let Some((_, case)) = state.case.as_ref().filter(|(begun, _)| begun.elapsed() > PATIENCE) {
                    eprintln!("{case}: not done after {} s: a hang", PATIENCE.as_secs());
                    std::process::abort();
                }
                state = over.wait_timeout(state, Duration::from_secs(1)).unwrap_or_else(PoisonError::into_inner).0;
            }
        });
        Watchdog { shared }
    }

    /// Does `work`, known as `case`.
    pub fn watch<T>(&self, case: &str, work: impl FnOnce() -> T) -> T {
        self.set(|state| state.case = Some((Instant::now(), case.to_owned())));
        let result = work();
        self.set(|state| state.case = None);
        result
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.set(|state| state.over = true);
        self.shared.1.notify_all();
    }
}
