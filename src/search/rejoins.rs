//! The searches in which a node loses all that it had on disk and comes back with `--rejoin`.

use super::configurations::{Configuration, NONE};
use super::script::Script;
use super::{Bounds, Change};

/// A leader and two followers, one of which loses its data.
const THREE: Bounds = Bounds { wiped: &[2], max_term: 2, max_log: 6, max_appends: 9, ..NONE };

pub const VOTER_WITHOUT_ITS_DATA: Configuration = Configuration {
    name: "voter_without_its_data",
    about: "n2 loses its data, maybe with its vote, and comes back, while n3 campaigns (row 38)",
    bounds: Bounds { candidates: &[3], heartbeats: 1, max_appends: 7, ..THREE },
    prefix: committed_without_the_third,
};

pub const VOTE_LOST_WITH_ITS_DATA: Configuration = Configuration {
    name: "vote_lost_with_its_data",
    about: "n2 voted for n3, which has not heard of it, and lost its data; n1 leads, and campaigns (row 38)",
    bounds: Bounds { candidates: &[1], heartbeats: 1, proposals: 1, ..THREE },
    prefix: voted_before,
};

pub const VOTES_AGAIN: Configuration = Configuration {
    name: "votes_again",
    about: "n2 lost its data and has caught up: it becomes a voter, and n2 and n3 campaign (row 38)",
    bounds: Bounds { candidates: &[2, 3], heartbeats: 4, max_log: 9, max_appends: 14, ..THREE },
    prefix: about_to_vote_again,
};

pub const VOTES_AGAIN_AND_CRASHES: Configuration = Configuration {
    name: "votes_again_and_crashes",
    about: "the same up to the joint step, with a crash (row 38)",
    bounds: Bounds { heartbeats: 3, crashes: 1, ..VOTES_AGAIN.bounds },
    prefix: about_to_vote_again,
};

pub const TWO_JOIN_AT_ONCE: Configuration = Configuration {
    name: "two_join_at_once",
    about: "n2 and n3 are new, and the log's beginning has voters of their numbers (rows 37, 38)",
    bounds: Bounds {
        joining: 2,
        wiped: &[2, 3],
        wiped_join: true,
        candidates: &[2, 3],
        changes: &[
            Change { add: &[2, 3], remove: &[] },
            Change { add: &[], remove: &[2, 3] },
            Change { add: &[2, 3], remove: &[] },
        ],
        heartbeats: 5,
        max_append_entries: 4,
        max_log: 8,
        max_appends: 12,
        ..THREE
    },
    prefix: two_have_left,
};

pub const ASKS_AGAIN: Configuration = Configuration {
    name: "asks_again",
    about: "n2 wrote, lost its data, and writes through another leader (rows 38, 60)",
    bounds: Bounds {
        candidates: &[],
        heartbeats: 3,
        proposals: 2,
        followers_take_requests: true,
        max_log: 9,
        max_appends: 14,
        ..THREE
    },
    prefix: wrote_before,
};

/// n1 leads, and n1 and n2 have its first entry, which is committed; n3 has nothing.
fn committed_without_the_third(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2]);
    script.expect_commit(1, 0);
    script.expect_last(3, 0, -1);
}

/// n1 leads, and all have its first entry. n3 campaigns, n2 has voted for it, and has lost its data since.
fn voted_before(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2, 3]);
    script.expect_commit(3, 0);
    script.forget_messages();
    script.campaign(3);
    script.ask_for_votes(&[2, 3]);
    script.expect_term(2, 2);
    script.wipe(2);
}

/// n2 has lost its data, and n1 has removed it and added it again. It is named, and has the log.
fn about_to_vote_again(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2]);
    script.expect_commit(1, 0);
    comes_back(script);
    script.expect_last(2, 1, 4);
    script.forget_messages();
}

/// n1 leads and lets n2 in again, which has lost its data.
fn comes_back(script: &mut Script) {
    script.wipe(2);
    script.greet(2, 1);
    script.exchange(&[1, 3]);
    script.heartbeat(1);
    script.exchange(&[1, 3]);
    script.greet(2, 1);
    script.exchange(&[1, 2, 3]);
    script.heartbeat(1);
    script.exchange(&[1, 2, 3]);
}

/// n1 was alone, then with n2 and n3, and is alone again. The others' folders were emptied, and an operator
/// adds them once more: they have got as much of the log as says that they are voters.
fn two_have_left(script: &mut Script) {
    script.campaign(1);
    script.change(1, 0);
    script.exchange(&[1, 2, 3]);
    script.heartbeat(1);
    script.exchange(&[1, 2, 3]);
    script.heartbeat(1);
    script.exchange(&[1, 2, 3]);
    script.expect_commit(2, 3);
    script.change(1, 1);
    script.exchange(&[1, 2, 3]);
    script.heartbeat(1);
    script.exchange(&[1, 2, 3]);
    script.expect_commit(1, 5);
    script.wipe(2);
    script.wipe(3);
    script.forget_messages();
    for (peer, node) in [(2, 1), (3, 1), (2, 3), (3, 2)] {
        script.greet(peer, node);
    }
    script.change(1, 2);
    script.exchange_until_commit(2, 3, &[1, 2]);
    script.exchange_until_commit(3, 3, &[1, 3]);
    script.expect_last(2, 1, 3);
    script.expect_last(3, 1, 3);
    script.forget_messages();
}

/// n2 wrote through n1, and lost its data. n1 has let it in again, and n3 leads now.
fn wrote_before(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2, 3]);
    script.write(2);
    script.exchange(&[1, 2, 3]);
    script.expect_commit(2, 1);
    comes_back(script);
    script.crash(1);
    script.elect(3, &[1, 3]);
    script.exchange(&[1, 3]);
    script.expect_commit(2, 5);
    script.expect_commit(3, 6);
}
