//! Who is connected to which node's port for clients, counted here and not by the node: whoever opens a
//! connection enters first, and leaves when it is closed. What a node may take of its machine follows.

use super::run::lock;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a node may hold what belongs to a connection that is closed. It looks at a silent one once a
/// second, a request that is under way may last two seconds here, and a client that takes no answers is
/// given up after ten.
pub(super) const LINGERING: Duration = Duration::from_secs(15);

/// The connections to all nodes.
#[derive(Debug, Default)]
pub(super) struct Guests {
    doors: Mutex<BTreeMap<u16, Door>>,
}

#[derive(Debug, Default)]
struct Door {
    here: usize,
    /// When those left that have not been forgotten.
    left: VecDeque<Instant>,
}

/// Somebody who is connected to a node, until this is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Arc<Guests>,
    node: u16,
}

impl Guests {
    /// To be called before the connection is opened; it must be closed before the guest is dropped.
    pub fn enter(self: &Arc<Guests>, node: u16) -> Guest {
        lock(&self.doors).entry(node).or_default().here += 1;
        Guest { guests: Arc::clone(self), node }
    }

    /// How many are connected to a node.
    pub fn here(&self, node: u16) -> usize {
        lock(&self.doors).get(&node).map_or(0, |door| door.here)
    }

    /// How many are connected or left so short a time ago that the node may still be busy with it.
    pub fn here_or_lingering(&self, node: u16) -> usize {
        let mut doors = lock(&self.doors);
        let Some(door) = doors.get_mut(&node) else { return 0 };
        while door.left.front().is_some_and(|at| at.elapsed() > LINGERING) {
            door.left.pop_front();
        }
        door.here + door.left.len()
    }

    /// A node that is stopped can not see anybody off: for those the time begins anew.
    pub fn nobody_is_seen_off(&self, node: u16) {
        if let Some(door) = lock(&self.doors).get_mut(&node) {
            door.left.iter_mut().for_each(|at| *at = Instant::now());
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(door) = lock(&self.guests.doors).get_mut(&self.node) {
            door.here -= 1;
            door.left.push_back(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_left_still_counts_for_a_while() {
        let guests = Arc::new(Guests::default());
        let (one, two) = (guests.enter(1), guests.enter(1));
        drop(one);
        assert_eq!((guests.here(1), guests.here_or_lingering(1)), (1, 2));
        assert_eq!((guests.here(2), guests.here_or_lingering(2)), (0, 0));
        drop(two);
        assert_eq!((guests.here(1), guests.here_or_lingering(1)), (0, 2));
        let long_ago = Instant::now().checked_sub(LINGERING * 2).expect("a clock that has run for a while");
        lock(&guests.doors).get_mut(&1).expect("a door").left.iter_mut().for_each(|at| *at = long_ago);
        guests.nobody_is_seen_off(1);
        assert_eq!(guests.here_or_lingering(1), 2);
        lock(&guests.doors).get_mut(&1).expect("a door").left.iter_mut().for_each(|at| *at = long_ago);
        assert_eq!(guests.here_or_lingering(1), 0);
    }
}
