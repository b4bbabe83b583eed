//! What an operator types: `replace 3 4 HOST:PORT HOST:PORT` into a [`Wish`]. What a wish takes to come true
//! is said in `operator.rs` and `backup.rs`.

use super::words::{Usage, Word, usage};
use crate::config;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The words of this file.
pub(super) const NAMES: [&str; 7] = ["members", "add", "remove", "replace", "transfer", "snapshot", "backup"];

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To be told who belongs to the cluster.
    Members,
    /// Nodes are to come or go.
    Change(Change),
    /// This node is to lead, or whichever is furthest of the others.
    Transfer(Option<u16>),
    /// A node is to take a snapshot.
    Snapshot,
    /// A snapshot is to be fetched into a new file.
    Backup(PathBuf),
}

/// Who comes and who goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Who comes.
    pub add: Vec<NewMember>,
    /// Who goes.
    pub remove: Vec<u16>,
}

/// A node that comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewMember {
    /// Its id.
    pub id: u16,
    /// Where other nodes connect, `HOST:PORT`.
    pub peer: String,
    /// Where clients connect.
    pub client: String,
}

/// The wish that a word and those behind it are; none when it is no word of an operator's.
pub(super) fn parse(name: &str, words: &[Word]) -> Result<Option<Wish>, Usage> {
    let wish = match (name, words) {
        ("members", []) => Wish::Members,
        ("members", _) => return Err(usage("members")),
        ("add", words) => Wish::Change(Change { add: add(words)?, remove: Vec::new() }),
        ("remove", []) => return Err(usage("remove ID, or several")),
        ("remove", words) => {
            let remove = words.iter().map(node_id).collect::<Result<_, _>>()?;
            Wish::Change(Change { add: Vec::new(), remove })
        }
        ("replace", words) => Wish::Change(replace(words)?),
        ("transfer", []) => Wish::Transfer(None),
        ("transfer", [id]) => Wish::Transfer(Some(node_id(id)?)),
        ("transfer", _) => return Err(usage("transfer, or transfer ID")),
        ("snapshot", []) => Wish::Snapshot,
        ("snapshot", _) => return Err(usage("snapshot")),
        ("backup", [file]) if !file.text.is_empty() => Wish::Backup(PathBuf::from(&file.text)),
        ("backup", _) => return Err(usage("backup FILE, a name with blanks in quotes")),
        _ => return Ok(None),
    };
    if let Wish::Change(Change { add, remove }) = &wish {
        let ids: Vec<u16> = add.iter().map(|member| member.id).chain(remove.iter().copied()).collect();
        let mut seen = BTreeSet::new();
        if let Some(twice) = ids.into_iter().find(|id| !seen.insert(*id)) {
            return Err(Usage(format!("node {twice} is named twice")));
        }
    }
    Ok(Some(wish))
}

fn add(words: &[Word]) -> Result<Vec<NewMember>, Usage> {
    let (members, rest) = words.as_chunks::<3>();
    if members.is_empty() || !rest.is_empty() {
        return Err(usage("add ID PEER CLIENT, or several such, both addresses as HOST:PORT"));
    }
    members.iter().map(|[id, peer, client]| new_member(id, peer, client)).collect()
}

fn replace(words: &[Word]) -> Result<Change, Usage> {
    let (members, rest) = words.as_chunks::<4>();
    if members.is_empty() || !rest.is_empty() {
        return Err(usage("replace OLD NEW PEER CLIENT, or several such, both addresses as HOST:PORT"));
    }
    let mut change = Change::default();
    for [old, new, peer, client] in members {
        change.remove.push(node_id(old)?);
        change.add.push(new_member(new, peer, client)?);
    }
    Ok(change)
}

fn new_member(id: &Word, peer: &Word, client: &Word) -> Result<NewMember, Usage> {
    Ok(NewMember { id: node_id(id)?, peer: address(peer)?, client: address(client)? })
}

fn node_id(word: &Word) -> Result<u16, Usage> {
    let id = word.text.parse().ok().filter(|id| *id > 0);
    id.ok_or_else(|| usage(&format!("a node's id, 1 to 65535, found {}", quoted(word))))
}

fn address(word: &Word) -> Result<String, Usage> {
    match config::split_address(&word.text) {
        Some(_) => Ok(word.text.clone()),
        None => Err(usage(&format!("HOST:PORT such as 127.0.0.1:16001, found {}", quoted(word)))),
    }
}

fn quoted(word: &Word) -> String {
    crate::wire::quote_external(&word.text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::words::{Command, Request, parse_line};

    fn wish(line: &str) -> Result<Wish, String> {
        match parse_line(line).map_err(|usage| usage.to_string())? {
            Some(Command::Ask(Request::Wish(wish))) => Ok(wish),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn member(id: u16, peer: &str, client: &str) -> NewMember {
        NewMember { id, peer: peer.to_owned(), client: client.to_owned() }
    }

    #[test]
    fn each_word_of_an_operator_makes_its_wish() {
        let change = |add: &[NewMember], remove: &[u16]| {
            Wish::Change(Change { add: add.to_vec(), remove: remove.to_vec() })
        };
        let (four, five) = (member(4, "h:1", "h:2"), member(5, "[::1]:1", "[::1]:2"));
        for (line, expected) in [
            ("members", Wish::Members),
            ("Add 4 h:1 h:2", change(std::slice::from_ref(&four), &[])),
            ("add 4 h:1 h:2 5 '[::1]:1' '[::1]:2'", change(&[four.clone(), five.clone()], &[])),
            ("remove 3", change(&[], &[3])),
            ("remove 3 2", change(&[], &[3, 2])),
            ("replace 3 4 h:1 h:2", change(std::slice::from_ref(&four), &[3])),
            ("replace 3 4 h:1 h:2 2 5 '[::1]:1' '[::1]:2'", change(&[four, five], &[3, 2])),
            ("transfer", Wish::Transfer(None)),
            ("transfer 2", Wish::Transfer(Some(2))),
            ("snapshot", Wish::Snapshot),
            ("backup '/a b/c.jsonl'", Wish::Backup(PathBuf::from("/a b/c.jsonl"))),
        ] {
            assert_eq!(wish(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn a_change_is_sent_as_the_servers_read_it() {
        let change = Change { add: vec![member(4, "h:1", "h:2")], remove: vec![3] };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(text, r#"{"add":[{"id":4,"peer":"h:1","client":"h:2"}],"remove":[3]}"#);
    }

    #[test]
    fn what_an_operator_mistypes_is_told() {
        for (line, expected) in [
            ("members all", "expected members"),
            ("add 4 h:1", "expected add ID PEER CLIENT"),
            ("add", "expected add ID PEER CLIENT"),
            ("add 0 h:1 h:2", "expected a node's id, 1 to 65535, found \"0\""),
            ("add 4 h h:2", "expected HOST:PORT such as 127.0.0.1:16001, found \"h\""),
            ("remove", "expected remove ID"),
            ("remove n3", "found \"n3\""),
            ("remove 3 3", "node 3 is named twice"),
            ("replace 3 3 h:1 h:2", "node 3 is named twice"),
            ("replace 3 4 h:1", "expected replace OLD NEW PEER CLIENT"),
            ("transfer 1 2", "expected transfer"),
            ("snapshot now", "expected snapshot"),
            ("backup", "expected backup FILE"),
            ("backup a b", "expected backup FILE"),
        ] {
            let why = wish(line).unwrap_err();
            assert!(why.contains(expected), "{line}: {why}");
        }
    }
}
