//! What a thread does before it sleeps: it looks for more work for a while, and lets every other thread go
//! first.
//!
//! A request goes through several threads, and mostly only one of them has something to do at a time. If
//! each slept at once, the processors would halt and be woken again for every step, from one to the other: in
//! a virtual machine that takes some 50 µs, ten times as long as the step. A thread that lingers keeps its
//! processor awake, and whoever has something for it need not wake anybody. As it gives way each time it has
//! found nothing, threads that have work lose a few microseconds at most. `docs/performance.md` has figures.

use std::thread;
use std::time::{Duration, Instant};

/// While requests are under way, what comes back to a thread mostly comes within this: a follower's answer,
/// an entry, a client's next request. Where nothing comes back it is what a wake-up costs beyond its work
/// (an idle node takes four thousandths of a processor more), and what somebody in another scheduling group,
/// to whom one cannot give way, may have to wait: another container, say. So it is no longer than it must be.
const LINGER: Duration = Duration::from_micros(100);

/// Looks until there is something. None when nothing came within [`LINGER`]: then it is time to sleep.
pub(super) fn linger<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + LINGER;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= until {
            return found;
        }
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_what_is_found_or_when_nothing_comes() {
        let mut looks = 0;
        let found = linger(|| {
            looks += 1;
            (looks == 2).then_some("it is there at the second look")
        });
        // On a machine that is busy with others the first look may be the last one.
        assert!(found.is_some() || looks == 1);
        assert_eq!(linger(|| None::<()>), None);
    }
}
