//! The searches, by name: what each bounds, where it begins, and what it must have come across.

use super::script::Script;
use super::{Bounds, changes, rejoins};

/// A search.
pub struct Configuration {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What is bounded.
    pub bounds: Bounds,
    /// Where it begins.
    pub prefix: fn(&mut Script),
}

/// Where nothing happens.
pub(super) const NONE: Bounds = Bounds {
    nodes: 3,
    joining: 0,
    awake: 3,
    candidates: &[1, 2, 3],
    campaigns: None,
    must_recover: false,
    max_term: 1,
    max_log: 1,
    proposals: 0,
    reads: 0,
    followers_take_requests: false,
    crashes: 0,
    wiped: &[],
    wiped_join: false,
    changes: &[],
    transfers: 0,
    compactions: 0,
    heartbeats: 0,
    max_appends: 6,
    max_append_entries: 16,
    pre_votes: false,
    refusals: false,
};

/// All of them.
pub const CONFIGURATIONS: &[Configuration] = &[
    Configuration {
        name: "elections",
        about: "two terms with a crash: one leader a term (rows 1, 2, 6, 6b, 7)",
        bounds: Bounds { max_term: 2, max_log: 2, crashes: 1, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "alone",
        about: "a cluster of one, with writes and crashes: its own word counts only from disk",
        bounds: Bounds {
            nodes: 1,
            awake: 1,
            candidates: &[1],
            max_term: 3,
            max_log: 4,
            proposals: 2,
            crashes: 3,
            pre_votes: true,
            ..NONE
        },
        prefix: from_nothing,
    },
    Configuration {
        name: "pre_votes",
        about: "a term and a crash, with pre-votes and refusals (rows 6, 7)",
        bounds: Bounds { crashes: 1, pre_votes: true, refusals: true, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "writes",
        about: "two terms and a write: what is committed stays (rows 3, 5, 15, 16, 17, 19)",
        bounds: Bounds { max_term: 2, max_log: 2, proposals: 1, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "saves",
        about: "a term, a write and two crashes, saves durable, lost or torn",
        bounds: Bounds { max_log: 2, proposals: 1, crashes: 2, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "forwards",
        about: "a term and a write at any node, which passes it on",
        bounds: Bounds { max_log: 3, proposals: 1, followers_take_requests: true, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "reads",
        about: "a term and a read at any node, which passes it on",
        bounds: Bounds { max_log: 1, reads: 1, followers_take_requests: true, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "lagging_candidate",
        about: "an entry is committed, and who lacks it campaigns again and again (rows 3, 5)",
        bounds: Bounds { max_term: 3, max_log: 2, ..NONE },
        prefix: lagging_candidate,
    },
    Configuration {
        name: "figure_8",
        about: "the paper's figure 8, five nodes, from (c): an old entry comes to a majority (row 12)",
        bounds: Bounds {
            nodes: 5,
            awake: 3,
            candidates: &[3],
            max_term: 4,
            max_log: 2,
            max_appends: 4,
            max_append_entries: 1,
            crashes: 3,
            ..NONE
        },
        prefix: figure_8,
    },
    Configuration {
        name: "longer_but_older",
        about: "an entry is committed, and who lacks it has a longer log of an older term (row 5)",
        bounds: Bounds { max_term: 3, max_log: 3, proposals: 1, ..NONE },
        prefix: longer_but_older,
    },
    Configuration {
        name: "stale_tail",
        about: "a follower has more than its leader, of an older term (rows 13, 17)",
        bounds: Bounds {
            candidates: &[],
            max_term: 2,
            max_log: 2,
            proposals: 2,
            max_append_entries: 1,
            heartbeats: 1,
            ..NONE
        },
        prefix: stale_tail,
    },
    Configuration {
        name: "repeated_appends",
        about: "appends one by one and their answers, late and again (rows 15, 16, 19)",
        bounds: Bounds {
            candidates: &[],
            max_log: 3,
            proposals: 2,
            awake: 2,
            max_appends: 9,
            max_append_entries: 1,
            ..NONE
        },
        prefix: repeated_appends,
    },
    Configuration {
        name: "stale_refusals",
        about: "a follower's log goes back term by term, with refusals late and again (rows 16, 19)",
        bounds: Bounds { max_term: 3, max_log: 3, awake: 2, heartbeats: 1, ..NONE },
        prefix: stale_refusals,
    },
    Configuration {
        name: "new_leader_reads",
        about: "a read at a new leader that does not know yet what is committed (row 25)",
        bounds: Bounds { max_term: 2, max_log: 3, proposals: 1, reads: 1, ..NONE },
        prefix: new_leader_reads,
    },
    Configuration {
        name: "old_leader_reads",
        about: "a read at a leader that was replaced unheard, with old confirmations about (row 27)",
        bounds: Bounds { max_term: 2, max_log: 2, reads: 2, ..NONE },
        prefix: old_leader_reads,
    },
    Configuration {
        name: "leads_again",
        about: "a node leads, forgets at a crash what it had sent, and leads again (row 19)",
        bounds: Bounds { candidates: &[1], max_term: 2, max_log: 1, crashes: 1, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "led_before",
        about: "a leader that led an earlier term too, with what was said then about (rows 27, 60)",
        bounds: Bounds {
            candidates: &[],
            max_term: 4,
            max_log: 6,
            max_appends: 9,
            proposals: 1,
            reads: 2,
            followers_take_requests: true,
            ..NONE
        },
        prefix: led_before,
    },
    Configuration {
        name: "started_again",
        about: "a follower's earlier start wrote and read, and all that was said is about (rows 27, 60)",
        bounds: Bounds {
            awake: 2,
            candidates: &[],
            max_log: 5,
            max_appends: 9,
            proposals: 3,
            reads: 2,
            followers_take_requests: true,
            ..NONE
        },
        prefix: started_again,
    },
    Configuration {
        name: "elections_refused",
        about: "by hand: `elections` with refusals",
        bounds: Bounds { max_term: 2, max_log: 2, crashes: 1, refusals: true, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "three_terms",
        about: "by hand: three terms, logs of three",
        bounds: Bounds { max_term: 3, max_log: 3, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "writes_and_crash",
        about: "by hand: two terms, a write, a crash",
        bounds: Bounds { max_term: 2, max_log: 2, proposals: 1, crashes: 1, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "two_writes",
        about: "by hand: two terms, two writes, logs of three",
        bounds: Bounds { max_term: 2, max_log: 3, proposals: 2, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "three_terms_two_writes",
        about: "by hand: three terms, two writes, logs of three",
        bounds: Bounds { max_term: 3, max_log: 3, proposals: 2, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "one_term",
        about: "by hand: one term, two writes, two crashes, logs of three",
        bounds: Bounds { max_term: 1, max_log: 3, proposals: 2, crashes: 2, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "everything",
        about: "by hand, not to be exhausted: three terms, two writes, two crashes, logs of three",
        bounds: Bounds { max_term: 3, max_log: 3, proposals: 2, crashes: 2, ..NONE },
        prefix: from_nothing,
    },
    Configuration {
        name: "cohorts",
        about: "long logs in an older term, a newer term with short logs: always a way to a leader (row 9)",
        bounds: Bounds {
            nodes: 4,
            awake: 4,
            candidates: &[1, 2, 3, 4],
            campaigns: Some(4),
            must_recover: true,
            max_term: 9,
            max_log: 9,
            pre_votes: true,
            refusals: true,
            ..NONE
        },
        prefix: cohorts,
    },
    Configuration {
        name: "newer_or_longer",
        about: "a newer log that is shorter, an older one that is longer: always a way to a leader (row 4)",
        bounds: Bounds {
            awake: 2,
            campaigns: Some(3),
            must_recover: true,
            max_term: 9,
            max_log: 9,
            pre_votes: true,
            refusals: true,
            ..NONE
        },
        prefix: newer_or_longer,
    },
    changes::ONE_OF_THREE_LEAVES,
    changes::LEADER_LEAVES,
    changes::ONE_OF_THREE_IS_REPLACED,
    changes::TWO_OF_THREE_ARE_REPLACED,
    changes::JOINT_STEP_IN_PART,
    changes::BUG_OF_2015,
    changes::MEMBERS_AND_AN_INSTALL,
    changes::TRANSFER,
    changes::SNAPSHOT,
    changes::SNAPSHOT_OF_ANOTHER_LOG,
    changes::SNAPSHOT_LATE,
    rejoins::VOTER_WITHOUT_ITS_DATA,
    rejoins::VOTE_LOST_WITH_ITS_DATA,
    rejoins::VOTES_AGAIN,
    rejoins::VOTES_AGAIN_AND_CRASHES,
    rejoins::TWO_JOIN_AT_ONCE,
    rejoins::ASKS_AGAIN,
];

fn from_nothing(_: &mut Script) {}

/// n1 and n2 have committed 0@1, n3 has nothing.
fn lagging_candidate(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2]);
    script.expect_commit(2, 0);
    script.forget_messages();
}

/// Figure 8 with n1 as the paper's S1, n5 as S2, n2 as S3, n4 as S4 and n3 as S5: n1 left 0@1 at n5 in
/// term 1, n3 led term 2 and keeps 0@2 alone, n1 leads term 3, knows that n5 has 0@1, and is about to bring
/// it to n2; n3 campaigns for term 4 with the vote of n4, and whoever comes to n2 first makes history.
fn figure_8(script: &mut Script) {
    script.elect(1, &[1, 2, 3, 4, 5]);
    script.exchange(&[1, 5]);
    script.crash(1);
    script.lose_all();
    script.elect(3, &[2, 3, 4]);
    script.expect_last(3, 2, 0);
    script.crash(3);
    script.campaign(1);
    script.forget_messages();
    script.elect(1, &[1, 2, 5]);
    script.exchange(&[1, 5]);
    script.campaign(3);
    script.campaign(3);
    script.exchange(&[3, 4]);
    script.expect_last(1, 3, 1);
    script.expect_last(2, 0, -1);
    script.expect_commit(1, -1);
    script.expect_term(4, 4);
}

/// n3 led term 1 and has two entries that nobody else has; n1 led term 2 and has committed one with n2.
fn longer_but_older(script: &mut Script) {
    script.elect(3, &[1, 2, 3]);
    script.write(3);
    script.expect_last(3, 1, 1);
    script.lose_all();
    script.elect(1, &[1, 2]);
    script.exchange(&[1, 2]);
    script.expect_commit(1, 0);
    script.forget_messages();
}

/// n3 led term 1 and has two entries that nobody else has; n1 leads term 2, with two others.
fn stale_tail(script: &mut Script) {
    script.elect(3, &[1, 2, 3]);
    script.write(3);
    script.expect_last(3, 1, 1);
    script.forget_messages();
    script.elect(1, &[1, 2]);
    script.write(1);
    script.expect_last(1, 2, 1);
}

/// n1 leads, and knows that n2 has its first entry.
fn repeated_appends(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2]);
    script.expect_commit(1, 0);
}

/// n2 led term 1 and n1 led term 2, each with an entry of its own; now n1 leads term 3.
fn stale_refusals(script: &mut Script) {
    script.elect(2, &[1, 2, 3]);
    script.lose_all();
    script.elect(1, &[1, 3]);
    script.expect_last(1, 2, 0);
    script.forget_messages();
    script.elect(1, &[1, 3]);
    script.expect_last(1, 3, 1);
    script.expect_last(2, 1, 0);
}

/// n1 has committed a write; n2 has the entry, does not know that, and now leads.
fn new_leader_reads(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2, 3]);
    script.write(1);
    script.exchange_until_commit(1, 1, &[1, 2]);
    script.expect_commit(1, 1);
    script.expect_commit(2, 0);
    script.forget_messages();
    script.elect(2, &[2, 3]);
}

/// n1 leads, and a read was confirmed; then n2 came to lead and committed, and n1 has not heard of it.
fn old_leader_reads(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2, 3]);
    script.read(1);
    script.exchange(&[1, 2, 3]);
    script.elect(2, &[2, 3]);
    script.exchange(&[2, 3]);
    script.expect_commit(2, 1);
    script.expect_commit(1, 0);
}

/// n1 and n2 have an entry of term 1; n3 and n4 have none, and are in term 2 without a leader. Neither two
/// are a quorum: the first two must hear of the newer term, since the others cannot win.
fn cohorts(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.lose_all();
    script.campaign(3);
    script.exchange_pre_votes(&[2, 3, 4]);
    script.exchange(&[3, 4]);
    script.lose_all();
    script.heartbeat(1);
    script.exchange(&[1, 2]);
    script.expect_last(2, 1, 0);
    script.expect_term(2, 1);
    script.expect_term(4, 2);
    script.forget_messages();
}

/// n1 leads terms 1 and 3. In term 1 it confirmed a read and took a write from n2; now n2 leads term 4 and
/// has committed, and n1 has not heard of it.
fn led_before(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2, 3]);
    script.write(2);
    script.read(1);
    script.exchange(&[1, 2, 3]);
    script.expect_commit(1, 1);
    script.elect(2, &[2, 3]);
    script.exchange(&[1, 2, 3]);
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2, 3]);
    script.expect_commit(1, 3);
    script.elect(2, &[2, 3]);
    script.exchange(&[2, 3]);
    script.expect_commit(2, 4);
    script.expect_last(1, 3, 3);
}

/// n2 wrote and read through n1, its leader, and then crashed; meanwhile n1 has committed another write.
fn started_again(script: &mut Script) {
    script.elect(1, &[1, 2, 3]);
    script.exchange(&[1, 2, 3]);
    script.write(2);
    script.exchange(&[1, 2, 3]);
    script.read(2);
    script.exchange(&[1, 2, 3]);
    script.crash(2);
    script.write(1);
    script.exchange(&[1, 3]);
    script.expect_commit(1, 2);
    script.expect_last(2, 1, 1);
}

/// n2 led term 1 and has two entries, n1 led term 2 and has one. They are two of three; n3 is down.
fn newer_or_longer(script: &mut Script) {
    script.elect(2, &[1, 2, 3]);
    script.write(2);
    script.expect_last(2, 1, 1);
    script.lose_all();
    script.elect(1, &[1, 3]);
    script.expect_last(1, 2, 0);
    script.crash(1);
    script.crash(2);
    script.forget_messages();
}
