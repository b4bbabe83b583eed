//! Golden scripts over whole clusters of the pure core: `tests/scripts/FOLDER/OUTCOME`.
//!
//! A script is one scenario. It opens with the rule and with what would go wrong without it; then come blocks
//! of commands, each followed by `---` and by what the cluster did. A changed output is committed only by
//! someone who can explain the change; `UPDATE_GOLDENFILES=1 cargo test --test golden` writes them anew.
//!
//! Each node has its own disk, which holds only what an output said. A batch is carried out as the server
//! does it: messages that may leave at once, save, the word that it is saved, the other messages, publishing.
//! After every batch the whole cluster is checked (`golden/checks.rs`): one leader a term, log matching,
//! leader completeness, committed entries on a quorum's disks and never changed, nothing said before it is
//! saved, no request twice in a log, no stale read.
//!
//! ```text
//! set up     cluster nodes=3 [log="1 1 2"] [term=2] [seed=1] [SETTING=N]
//!                               comes first: nodes 1 to 3, each with entries of these terms on disk (2*100:
//!                               a hundred of term 2); a SETTING is a limit, such as max_append_entries
//!            cluster ... joining="4 5"   besides, nodes 4 and 5, which know nothing and are no members yet
//!            node 1 [log="1 2"] [base=4@2] [term=3] [vote=2]
//!                               gives one node another disk, before anything happens
//! time       tick [1 2] [count=3]   passes, for all nodes that are up unless some are named
//!            timeout 1          passes for node 1 until its election timeout has elapsed
//!            heartbeat 1        passes for node 1 until a heartbeat is due
//!            run ticks=100      passes for all, and within each tick everything arrives
//!            elect 1            when the way there is not the subject: the others lose patience with their
//!                               leader, node 1 campaigns, everything arrives, node 1 leads
//! clients    propose 1 x=1 [y=2] [count=5] [bytes=100] [number=0]
//!                               ask node 1 to set x to 1 and y to 2, in one batch; count times; to a
//!                               value of so many bytes; again, under the number of an earlier request
//!            read 1 [x]         ask node 1 for the key x
//!            apply 1 2 [to=5]   the applications of nodes 1 and 2 apply what is committed, and answer
//!                               the clients that asked there
//! operators  change 1 [add="4 5"] [remove=3]   ask node 1 to let these nodes vote, and to let those go
//!            meet 1 peer=4      node 4 has shown node 1 its folder, by which it is told from others that had
//!                               its number: the log is to name it so before it votes
//!            transfer 1 [to=2]  asks node 1 to hand the lead over
//! snapshots  compact 1 [to=9]   the application of node 1 has a durable snapshot; the log before it goes
//!            hold_installs 3    snapshots that node 3 has wholly received wait for a word: each time
//!            install 3 [batch=true]   it is sound and durable; in one batch with what is under way to node 3
//!            refuse 3           it is damaged
//! messages   deliver [from=1] [to=2] [message=NAME] [max=1] [batch=true]
//!                               what is under way arrives, but not what comes of it; each message in a batch
//!                               of its own, or all of a node's in one
//!            stabilize          everything arrives, oldest first, until all is quiet
//!            drop, duplicate    [from= to= message= max=]  messages are lost; are sent once more
//!            hold, copy         messages, or copies of them, go into a pocket
//!            release            and go on from there, behind all that is under way
//!            send 1 2 NAME term=3 [later=true] [FIELD=...]
//!                               a message written by hand, whatever node 1 thinks, arrives at node 2 at
//!                               once, or is under way; golden/injection.rs has the fields
//! links      partition 1 2      cuts these nodes off from all others, both ways
//!            cut 1 2 [one_way=true]   nothing gets from 1 to 2 (nor back)
//!            heal               all links work again
//! crashes    crash 1 2 [after=start|now|save|send]
//!                               all but the disk is lost, now, or in the next batch right after this effect:
//!                               nothing yet, messages that do not wait, the save, messages that do
//!            restart 1          starts again from the disk
//!            hold_saves 1       saves of node 1 wait, and all that comes after them
//!            save 1 [count=1]   they are carried out; once none waits, saves wait no more
//! show       status [1], log [1], disk [1], network
//!                               nodes; their logs, with a bar after the committed part; disks; what
//!                               is under way
//! ```
//!
//! Lines of output: `n2 <- n1 AppendEntries #3` begins what came of an input; indented under it stand, in the
//! order in which they happened, notes with their reasons, `save …`, and each message sent. `(cut)` and
//! `(n3 is down)` mark messages that are lost. A command in parentheses is carried out without being shown.

#[path = "golden/checks.rs"]
mod checks;
#[path = "golden/cluster.rs"]
mod cluster;
#[path = "golden/commands.rs"]
mod commands;
#[path = "golden/disk.rs"]
mod disk;
#[path = "golden/injection.rs"]
mod injection;
#[path = "golden/members.rs"]
mod members;
#[path = "golden/network.rs"]
mod network;
#[path = "golden/node.rs"]
mod node;
#[path = "golden/show.rs"]
mod show;
#[path = "golden/snapshot.rs"]
mod snapshot;

test_each_file::test_each_path! { in "./tests/scripts" => run_script }

fn run_script(path: &std::path::Path) {
    if let Err(why) = goldenscript::run(&mut commands::Runner::default(), path) {
        panic!("{}: {why}", path.display());
    }
}
