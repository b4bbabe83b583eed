//! The searches in which members change, logs begin after a snapshot, or the lead is handed over.
//!
//! Each begins where a change is about to be made, or is under way: from nothing it would take long logs to
//! get there. `tests/bugs` says which of the mistakes that can be made here each of them finds.

use super::configurations::{Configuration, NONE};
use super::script::Script;
use super::{Bounds, Change};

/// A leader and two followers with its first entry; then one of them, or the leader, leaves.
const THREE: Bounds = Bounds { max_term: 2, max_log: 4, max_appends: 8, ..NONE };

pub const ONE_OF_THREE_LEAVES: Configuration = Configuration {
    name: "one_of_three_leaves",
    about: "n3 is removed, and both followers may campaign: joint majorities",
    bounds: Bounds {
        changes: &[Change { add: &[], remove: &[3] }],
        candidates: &[2, 3],
        heartbeats: 1,
        ..THREE
    },
    prefix: three_with_a_leader,
};

pub const LEADER_LEAVES: Configuration = Configuration {
    name: "leader_leaves",
    about: "the leader removes itself: it does not count itself, steps down, and names an heir",
    bounds: Bounds {
        changes: &[Change { add: &[], remove: &[1] }],
        candidates: &[2],
        heartbeats: 2,
        ..THREE
    },
    prefix: leader_is_leaving,
};

pub const ONE_OF_THREE_IS_REPLACED: Configuration = Configuration {
    name: "one_of_three_is_replaced",
    about: "n4 has caught up, and a write, and is to take the place of n3 (row 37)",
    bounds: Bounds {
        nodes: 4,
        awake: 4,
        joining: 1,
        candidates: &[2],
        changes: &[Change { add: &[4], remove: &[3] }],
        heartbeats: 1,
        max_log: 5,
        max_appends: 7,
        ..THREE
    },
    prefix: one_has_caught_up,
};

pub const TWO_OF_THREE_ARE_REPLACED: Configuration = Configuration {
    name: "two_of_three_are_replaced",
    about: "n4 and n5 have caught up and are to take the places of n2 and n3, in one change",
    bounds: Bounds {
        nodes: 5,
        awake: 4,
        joining: 2,
        candidates: &[2],
        changes: &[Change { add: &[4, 5], remove: &[2, 3] }],
        heartbeats: 1,
        max_log: 3,
        ..THREE
    },
    prefix: two_have_caught_up,
};

pub const JOINT_STEP_IN_PART: Configuration = Configuration {
    name: "joint_step_in_part",
    about: "the same, and the joint step is only at n1 and n4 yet: no last step before it is committed",
    bounds: Bounds { heartbeats: 2, max_log: 4, ..TWO_OF_THREE_ARE_REPLACED.bounds },
    prefix: joint_step_in_part,
};

pub const BUG_OF_2015: Configuration = Configuration {
    name: "bug_of_2015",
    about: "two leaders, each with a change of its own, the later one new in its term (row 35)",
    bounds: Bounds {
        nodes: 4,
        awake: 4,
        candidates: &[1],
        changes: &[Change { add: &[], remove: &[2] }, Change { add: &[], remove: &[1] }],
        max_term: 3,
        max_appends: 4,
        ..THREE
    },
    prefix: bug_of_2015,
};

pub const MEMBERS_AND_AN_INSTALL: Configuration = Configuration {
    name: "members_and_an_install",
    about: "a snapshot comes to who has uncommitted members, and the cluster has moved on (row 36)",
    bounds: Bounds {
        nodes: 5,
        awake: 5,
        joining: 2,
        candidates: &[3],
        changes: &[Change { add: &[], remove: &[1] }, Change { add: &[4, 5], remove: &[1, 2] }],
        max_term: 3,
        max_log: 6,
        max_appends: 20,
        ..THREE
    },
    prefix: members_and_an_install,
};

pub const TRANSFER: Configuration = Configuration {
    name: "transfer",
    about: "the lead is handed over, to anybody, with a write and other campaigns meanwhile (row 51)",
    bounds: Bounds { transfers: 1, proposals: 1, max_log: 3, ..THREE },
    prefix: three_with_a_leader,
};

pub const SNAPSHOT: Configuration = Configuration {
    name: "snapshot",
    about: "a leader's log begins after a snapshot, and n3 has nothing; a crash (rows 24, 30, 33)",
    bounds: Bounds { candidates: &[2, 3], crashes: 1, heartbeats: 1, max_log: 4, ..THREE },
    prefix: snapshot,
};

pub const SNAPSHOT_OF_ANOTHER_LOG: Configuration = Configuration {
    name: "snapshot_of_another_log",
    about: "the same, and n3 has entries of an older term that contradict the snapshot (row 31)",
    bounds: Bounds { candidates: &[2, 3], heartbeats: 1, max_term: 3, max_log: 5, ..THREE },
    prefix: snapshot_of_another_log,
};

pub const SNAPSHOT_LATE: Configuration = Configuration {
    name: "snapshot_late",
    about: "a snapshot comes to who meanwhile has what it covers, and more (rows 24, 30)",
    bounds: Bounds { candidates: &[2], max_appends: 12, ..THREE },
    prefix: snapshot_late,
};

/// n1 leads, and all have its first entry and know that it is committed.
fn three_with_a_leader(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2, 3]);
    script.expect_commit(3, 0);
    script.forget_messages();
}

/// The same, and n1 has committed the first step of its own leaving.
fn leader_is_leaving(script: &mut Script) {
    three_with_a_leader(script);
    script.change(1, 0);
    script.exchange(&[1, 2, 3]);
    script.expect_commit(3, 1);
    script.forget_messages();
}

/// n1 leads, as above; n4 is a learner, and has a write that the other voters lack.
fn one_has_caught_up(script: &mut Script) {
    three_with_a_leader(script);
    script.change(1, 0);
    script.exchange(&[1, 2, 3, 4]);
    script.write(1);
    script.exchange(&[1, 4]);
    script.expect_last(4, 1, 2);
    script.expect_commit(1, 1);
    script.forget_messages();
}

/// The same with n4 and n5.
fn two_have_caught_up(script: &mut Script) {
    three_with_a_leader(script);
    script.change(1, 0);
    script.exchange(&[1, 2, 3, 4, 5]);
    script.expect_commit(5, 1);
    script.forget_messages();
}

/// The same; n1 has appended the joint step, and n4 has it too.
fn joint_step_in_part(script: &mut Script) {
    two_have_caught_up(script);
    script.heartbeat(1);
    script.exchange(&[1, 4]);
    script.expect_last(4, 1, 2);
    script.expect_commit(1, 1);
    script.forget_messages();
}

/// n1 led term 1, and has a change in its log that nobody else has, without n2; n2 leads term 2, and has
/// committed nothing of its own. It is about to be asked to remove n1, and n1 to campaign.
fn bug_of_2015(script: &mut Script) {
    script.elect(1, &[1, 2, 3, 4]);
    script.exchange(&[1, 2, 3, 4]);
    script.change(1, 0);
    script.expect_last(1, 1, 1);
    script.forget_messages();
    script.elect(2, &[2, 3, 4]);
    script.expect_last(2, 2, 1);
    script.expect_commit(2, 0);
}

/// n3 led term 1, and wanted n1 to leave: that entry nobody else has. n1 leads term 2, and has brought the
/// cluster to n3, n4 and n5; of the last step n2 knows nothing yet. What n3 lacks is gone, but for a snapshot
/// that ends with the step before, and is on its way.
fn members_and_an_install(script: &mut Script) {
    script.elect(3, &[1, 2, 3]);
    script.exchange(&[1, 2, 3]);
    script.change(3, 0);
    script.expect_last(3, 1, 1);
    script.forget_messages();
    script.elect(1, &[1, 2]);
    script.exchange(&[1, 2]);
    script.change(1, 1);
    script.exchange(&[1, 2, 4, 5]);
    script.heartbeat(1);
    script.exchange(&[1, 2, 4, 5]);
    script.expect_commit(1, 3);
    script.compact(1);
    script.forget_messages();
    script.heartbeat(1);
    script.exchange(&[1, 4, 5]);
    script.expect_commit(1, 4);
    script.expect_last(2, 2, 3);
    script.expect_last(3, 1, 1);
}

/// n1 leads, has committed a write with n2, and has a snapshot of that; n3 has nothing.
fn snapshot(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.write(1);
    script.exchange(&[1, 2]);
    script.expect_commit(1, 1);
    script.compact(1);
    script.forget_messages();
    script.heartbeat(1);
    script.expect_last(3, 0, -1);
}

/// n3 led term 1 and has three entries that nobody else has; n1 leads term 2, has committed a write with n2,
/// and has a snapshot of that.
fn snapshot_of_another_log(script: &mut Script) {
    script.elect(3, &[1, 2, 3]);
    script.write(3);
    script.write(3);
    script.expect_last(3, 1, 2);
    script.forget_messages();
    script.elect(1, &[1, 2]);
    script.write(1);
    script.exchange(&[1, 2]);
    script.expect_commit(1, 1);
    script.compact(1);
    script.forget_messages();
    script.heartbeat(1);
    script.expect_last(3, 1, 2);
}

/// n1 leads, and has written twice. The first is committed, and gone from its log, which begins after a
/// snapshot; n3 is still to get both, and n2 the second.
fn snapshot_late(script: &mut Script) {
    three_with_a_leader(script);
    script.write(1);
    script.write(1);
    script.exchange_until_commit(1, 1, &[1, 2]);
    script.compact(1);
    script.heartbeat(1);
    script.expect_last(1, 1, 2);
    script.expect_last(3, 1, 0);
}
