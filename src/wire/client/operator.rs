//! What an operator asks for, on the same port and in the same lines as everybody else: who belongs to the
//! cluster, changes of that, handing the lead over, snapshots. Rare lines, so they are read the plain way.

use crate::json::shown;
use crate::raft::{MAX_VOTERS, MemberChange};
use crate::types::{EntryId, Member, NodeId};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The longest address, `HOST:PORT` with the longest name that DNS has.
const MAX_ADDRESS_BYTES: usize = 253 + 1 + 5;

/// The ops of this file.
pub(super) const OPS: [&str; 5] = ["members", "change", "transfer", "snapshot", "snapshot_lines"];

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorOp {
    /// To be told who belongs to the cluster.
    Members,
    /// Nodes are to come or go.
    Change(MemberChange),
    /// The lead is to be handed over, to this node or whichever is furthest.
    Transfer(Option<NodeId>),
    /// A snapshot is to be taken, now.
    Snapshot,
    /// Some lines of a snapshot's file.
    SnapshotLines {
        /// Which snapshot; none for the node's newest.
        snapshot: Option<EntryId>,
        /// The byte of the file at which they begin.
        offset: u64,
    },
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum OperatorLine {
    Members {
        #[serde(rename = "id")]
        _id: Option<IgnoredAny>,
    },
    Change {
        #[serde(rename = "id")]
        _id: Option<IgnoredAny>,
        #[serde(default)]
        add: Vec<NewMember>,
        #[serde(default)]
        remove: Vec<NodeId>,
    },
    Transfer {
        #[serde(rename = "id")]
        _id: Option<IgnoredAny>,
        to: Option<NodeId>,
    },
    Snapshot {
        #[serde(rename = "id")]
        _id: Option<IgnoredAny>,
    },
    SnapshotLines {
        #[serde(rename = "id")]
        _id: Option<IgnoredAny>,
        snapshot: Option<EntryId>,
        offset: u64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMember {
    id: NodeId,
    peer: String,
    client: String,
}

/// Reads an operator's line; the error says what is wrong with it.
pub(super) fn read(text: &str) -> Result<OperatorOp, String> {
    let line = serde_json::from_str(text).map_err(|error| shown(&error.to_string()).to_string())?;
    match line {
        OperatorLine::Members { _id: _ } => Ok(OperatorOp::Members),
        OperatorLine::Change { _id: _, add, remove } => change(add, remove).map(OperatorOp::Change),
        OperatorLine::Transfer { _id: _, to } => {
            to.map_or(Ok(()), check_id)?;
            Ok(OperatorOp::Transfer(to))
        }
        OperatorLine::Snapshot { _id: _ } => Ok(OperatorOp::Snapshot),
        OperatorLine::SnapshotLines { _id: _, snapshot, offset } => {
            Ok(OperatorOp::SnapshotLines { snapshot, offset })
        }
    }
}

fn change(add: Vec<NewMember>, remove: Vec<NodeId>) -> Result<MemberChange, String> {
    if add.len() > MAX_VOTERS || remove.len() > MAX_VOTERS {
        return Err(format!("a change names at most {MAX_VOTERS} nodes that come, and as many that go"));
    }
    let mut change = MemberChange::default();
    for NewMember { id, peer, client } in add {
        check_id(id)?;
        for (name, address) in [("peer", &peer), ("client", &client)] {
            check_address(address).map_err(|why| format!("`{name}` of node {}: {why}", id.0))?;
        }
        if change.add.insert(id, Member::at(peer, client)).is_some() {
            return Err(format!("node {} is to be added twice", id.0));
        }
    }
    for id in remove {
        check_id(id)?;
        if change.add.contains_key(&id) || !change.remove.insert(id) {
            return Err(format!("node {} is named twice", id.0));
        }
    }
    Ok(change)
}

fn check_id(id: NodeId) -> Result<(), String> {
    if id.0 == 0 { Err("a node's id is from 1 to 65535".to_owned()) } else { Ok(()) }
}

/// `HOST:PORT`; whether there is such a host, whoever connects finds out.
fn check_address(address: &str) -> Result<(), String> {
    let is_plain = address.len() <= MAX_ADDRESS_BYTES && address.bytes().all(|byte| byte.is_ascii_graphic());
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty() && is_plain);
    match port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0) {
        Some(_) => Ok(()),
        None => Err(format!("expected HOST:PORT, found {}", shown(address))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Index, Term};

    fn problem(text: &str) -> String {
        read(text).expect_err(text)
    }

    #[test]
    fn what_operators_ask_for_is_read() {
        assert_eq!(read(r#"{"op":"members","id":7}"#), Ok(OperatorOp::Members));
        assert_eq!(read(r#"{"op":"snapshot"}"#), Ok(OperatorOp::Snapshot));
        let newest = OperatorOp::SnapshotLines { snapshot: None, offset: 0 };
        assert_eq!(read(r#"{"op":"snapshot_lines","offset":0}"#), Ok(newest));
        let named = r#"{"op":"snapshot_lines","snapshot":{"term":3,"index":41},"offset":700}"#;
        let snapshot = Some(EntryId::new(Term(3), Index(41)));
        assert_eq!(read(named), Ok(OperatorOp::SnapshotLines { snapshot, offset: 700 }));
        assert_eq!(read(r#"{"op":"transfer"}"#), Ok(OperatorOp::Transfer(None)));
        assert_eq!(read(r#"{"op":"transfer","to":2}"#), Ok(OperatorOp::Transfer(Some(NodeId(2)))));
        let line = r#"{"op":"change","add":[{"id":4,"peer":"h:1","client":"[::1]:2"}],"remove":[3]}"#;
        let member = Member::at("h:1", "[::1]:2");
        let expected = MemberChange { add: [(NodeId(4), member)].into(), remove: [NodeId(3)].into() };
        assert_eq!(read(line), Ok(OperatorOp::Change(expected)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(problem(r#"{"op":"members","key":"x"}"#).contains("unknown field `key`"));
        assert!(problem(r#"{"op":"snapshot_lines"}"#).contains("missing field `offset`"));
        assert!(problem(r#"{"op":"snapshot_lines","offset":-1}"#).contains("invalid value"));
        assert!(problem(r#"{"op":"transfer","to":0}"#).contains("1 to 65535"));
        assert!(problem(r#"{"op":"transfer","to":"n2"}"#).contains("invalid type"));
        let add = |id: u16, peer: &str| {
            format!(
                r#"{{"op":"change","add":[{{"id":{id},"peer":"{peer}","client":"h:2"}}],"remove":[3,3]}}"#
            )
        };
        assert!(problem(&add(4, "h:1")).contains("node 3 is named twice"));
        for address in ["h", ":1", "h:0", "h:65536", "h:x", "a b:1", &"h".repeat(300)] {
            let why = problem(&add(4, address));
            assert!(why.contains("`peer` of node 4: expected HOST:PORT"), "{address}: {why}");
        }
        let many = (1..=10).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
        assert!(problem(&format!(r#"{{"op":"change","remove":[{many}]}}"#)).contains("at most 9"));
    }
}
