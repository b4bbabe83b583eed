//! Who ends, who goes on, and who is told what, decided by hand-made words of other nodes.

use super::*;
use crate::types::Term;

const HEARTBEAT_TICKS: u64 = 5;
const ME: NodeId = NodeId(1);

/// Node 1 of so many, which has applied so many entries, each with its index as its hash.
fn node_1(nodes: u16, applied: i64) -> (Divergence, Configuration) {
    let mut divergence = Divergence::new(Index::NONE, 5);
    divergence.applied(Index(applied - 1), (0..applied).map(right).collect());
    (divergence, Configuration::new((1..=nodes).map(NodeId)))
}

fn right(index: i64) -> u64 {
    u64::try_from(index).expect("an index") + 100
}

fn state(last_applied: i64, applied_hash: u64) -> AppliedState {
    AppliedState { last_applied: Index(last_applied), applied_hash }
}

fn agree(divergence: &mut Divergence, node: u16, index: i64) {
    divergence.hear(NodeId(node), state(index, right(index)));
}

fn differ(divergence: &mut Divergence, node: u16, index: i64) {
    divergence.hear(NodeId(node), state(index, 7));
}

/// Whether node 1 ends under this leader: at once, after a while, or not.
fn end_under(leader: u16, divergence: &mut Divergence, configuration: &Configuration) -> &'static str {
    let leader = Some(NodeId(leader));
    let mut is_over = |now_tick| divergence.verdict(ME, leader, configuration, now_tick).is_some();
    let patience_ticks = PATIENCE_HEARTBEATS * HEARTBEAT_TICKS;
    if is_over(1_000) {
        return "at once";
    }
    assert!(!is_over(1_000 + patience_ticks - 1), "its patience is not over yet");
    if is_over(1_000 + patience_ticks) { "after a while" } else { "never" }
}

#[test]
fn a_follower_that_differs_from_its_leader_and_another_ends() {
    let (mut divergence, configuration) = node_1(3, 10);
    assert_eq!(end_under(2, &mut divergence, &configuration), "never");
    agree(&mut divergence, 2, 4);
    differ(&mut divergence, 2, 6);
    differ(&mut divergence, 3, 5);
    assert_eq!(end_under(2, &mut divergence, &configuration), "at once");
    let verdict = divergence.verdict(ME, Some(NodeId(2)), &configuration, 2_000).expect("it ends");
    let found = divergence.describe(ME, &verdict, |index| Some(EntryId::new(Term(3), index)));
    assert_eq!(
        found.to_string(),
        "n1 has diverged: after the entry at index 5 its applied_hash is 0000000000000069, and \
         0000000000000007 on [n2, n3]; \
         they last agreed after entry 4@3, and the store of n1 cannot be trusted"
    );
}

#[test]
fn whoever_agrees_with_a_majority_goes_on() {
    for leader in [1, 2, 3] {
        let (mut divergence, configuration) = node_1(3, 10);
        differ(&mut divergence, 2, 6);
        agree(&mut divergence, 3, 6);
        assert_eq!(end_under(leader, &mut divergence, &configuration), "never", "under {leader}");
        let (mut divergence, configuration) = node_1(5, 10);
        differ(&mut divergence, 2, 6);
        differ(&mut divergence, 3, 6);
        agree(&mut divergence, 4, 6);
        agree(&mut divergence, 5, 6);
        assert_eq!(end_under(leader, &mut divergence, &configuration), "never", "under {leader} of five");
    }
}

#[test]
fn a_leader_that_differs_from_a_majority_ends() {
    let (mut divergence, configuration) = node_1(5, 10);
    differ(&mut divergence, 2, 6);
    differ(&mut divergence, 3, 6);
    assert_ne!(end_under(1, &mut divergence, &configuration), "at once", "two of five are none");
    differ(&mut divergence, 4, 6);
    assert_eq!(end_under(1, &mut divergence, &configuration), "at once");
}

#[test]
fn without_a_majority_whoever_differs_ends_after_a_while() {
    for leader in [1, 2] {
        let (mut divergence, configuration) = node_1(2, 10);
        differ(&mut divergence, 2, 9);
        assert_eq!(end_under(leader, &mut divergence, &configuration), "after a while", "one against one");
        let verdict =
            divergence.verdict(ME, Some(NodeId(leader)), &configuration, u64::MAX).expect("it ends");
        let text = divergence.describe(ME, &verdict, |_| None).to_string();
        assert!(
            text.ends_with("they were never seen to agree, and no majority tells whose store can be trusted")
        );
        let (mut divergence, configuration) = node_1(3, 10);
        differ(&mut divergence, 2, 9);
        assert_eq!(end_under(leader, &mut divergence, &configuration), "after a while", "the third is down");
        let (mut divergence, configuration) = node_1(4, 10);
        differ(&mut divergence, 3, 9);
        differ(&mut divergence, 4, 9);
        agree(&mut divergence, 2, 9);
        assert_eq!(end_under(leader, &mut divergence, &configuration), "after a while", "two against two");
    }
}

#[test]
fn a_change_of_leaders_gives_the_others_time_to_be_heard() {
    // The leader was the one that went wrong, and has ended. Who agrees is heard of under the next one.
    let (mut divergence, configuration) = node_1(3, 10);
    differ(&mut divergence, 2, 9);
    let mut is_over = |leader: Option<u16>, now_tick| {
        divergence.verdict(ME, leader.map(NodeId), &configuration, now_tick).is_some()
    };
    assert!(!is_over(Some(2), 0));
    assert!(!is_over(Some(2), 49));
    assert!(!is_over(None, 50), "nobody leads");
    assert!(!is_over(Some(3), 90));
    assert!(!is_over(Some(3), 139));
    assert!(is_over(Some(3), 140));
}

#[test]
fn what_this_node_has_not_applied_yet_is_compared_when_it_has() {
    let (mut divergence, configuration) = node_1(2, 10);
    // A leader that is always ahead: the first word stays until it can be compared.
    differ(&mut divergence, 2, 12);
    differ(&mut divergence, 2, 20);
    assert_eq!(end_under(2, &mut divergence, &configuration), "never");
    divergence.applied(Index(11), (10..12).map(right).collect());
    assert_eq!(end_under(2, &mut divergence, &configuration), "never");
    divergence.applied(Index(12), vec![right(12)]);
    assert_eq!(end_under(2, &mut divergence, &configuration), "after a while");
}

#[test]
fn a_node_that_started_anew_and_is_right_now_is_forgiven() {
    let (mut divergence, configuration) = node_1(2, 10);
    differ(&mut divergence, 2, 6);
    agree(&mut divergence, 2, 5);
    assert_eq!(end_under(2, &mut divergence, &configuration), "after a while", "an old word comes late");
    agree(&mut divergence, 2, 7);
    assert_eq!(end_under(2, &mut divergence, &configuration), "never");
}

#[test]
fn the_newest_ten_thousand_hashes_are_kept() {
    let (mut divergence, configuration) = node_1(2, MAX_HASHES as i64 + 3);
    differ(&mut divergence, 2, 2);
    assert_eq!(end_under(2, &mut divergence, &configuration), "never", "its hash is forgotten");
    differ(&mut divergence, 2, 3);
    assert_eq!(end_under(2, &mut divergence, &configuration), "after a while");
    assert_eq!(divergence.own.newest.len(), MAX_HASHES);
}

#[test]
fn a_peer_is_told_once_a_heartbeat_and_by_the_leader_of_all_others() {
    let (mut divergence, _) = node_1(3, 10);
    agree(&mut divergence, 2, 8);
    agree(&mut divergence, 3, 9);
    let own = (ME, state(9, right(9)));
    let told = divergence.tell(ME, NodeId(2), true, 0);
    assert_eq!(told, BTreeMap::from([own, (NodeId(3), state(9, right(9)))]), "not of itself");
    assert_eq!(divergence.tell(ME, NodeId(2), true, 4), BTreeMap::new(), "not so soon");
    assert_eq!(divergence.tell(ME, NodeId(3), false, 4), BTreeMap::from([own]), "a follower, of itself");
    assert_eq!(divergence.tell(ME, NodeId(2), true, 5).len(), 2);
    let mut fresh = Divergence::new(Index::NONE, 5);
    assert_eq!(fresh.tell(ME, NodeId(2), true, 0), BTreeMap::new(), "it has applied nothing");
}
