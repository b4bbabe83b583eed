//! The space that is searched: what a state is, and what can happen in it.
//!
//! A state is a handful of numbers: one for each node, with everything that it has ever sent, and one for
//! the past. **The network forgets nothing**: a message once sent may arrive at any time, any number of
//! times, or never. So loss, delay, reordering, duplication and lines of long dead connections need no action
//! and no limit of their own, and a node's part of the network belongs to the node.
//!
//! ```text
//!   state = [ n1 | n2 | n3 | past ]           a number each, see `table.rs`
//!             |
//!             +-- Local { core, sent } ------ what it has sent to each node, a number a set of messages
//!                          |
//!                          +-- Core { raft, disk }      the real RaftState
//! ```
//!
//! What an event does to a node depends on that node alone, so it is worked out once (`steps`), by the real
//! core, and looked up in all the states in which the node is like this.

use super::arrivals::Arrivals;
use super::core::{Core, Ending, Event, Rules};
use super::history::{History, Spent, logs_match};
use super::seen::Seen;
use super::sets::Sets;
use super::table::{Memo, Table};
use super::{Bounds, Fault};
use crate::raft::{Body, Configuration, Message, RaftState, ReadReady, RoleName, Settings};
use crate::types::{Index, NodeId, Term};

/// A state: a number for each node, and last the past's.
pub(super) type State = Vec<u32>;

/// A node and everything that it has ever sent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Local {
    core: u32,
    /// To each node, a set of messages; see `sets.rs`.
    sent: Vec<u32>,
    /// What it had sent before it lost its data; empty if it did not.
    sent_before: Vec<u32>,
    /// Equal in nodes that differ in names alone; see `symmetry.rs`.
    pub colour: u64,
}

/// What happens, without where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Heartbeat,
    Campaign,
    Crash,
    Wipe,
    /// Of which node, and in which life of it.
    Greeting(u16, Option<u8>),
    Compact,
    /// Which of the bounds' changes.
    Change(u8),
    /// To which node.
    Transfer(u16),
    Read(u32),
    Propose(u32),
    Deliver(u32),
    DeliverLate(u32),
}

/// What happens, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub node: usize,
    pub what: What,
    /// Which of the ways in which the batch can end.
    pub ending: usize,
}

/// One way in which something that happens to a node can end, up to what it takes the other nodes to judge.
struct Outcome {
    local: u32,
    /// Which of the batch's endings this is.
    ending: usize,
    is_torn: bool,
    marks: Marks,
    reads: Vec<ReadReady>,
    seen: Seen,
}

/// What there is to judge.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Marks {
    begins_to_lead: bool,
    commits: bool,
    log_changes: bool,
}

/// The same, of a core alone.
struct CoreOutcome {
    core: u32,
    is_torn: bool,
    /// The messages, in their order.
    sent: Vec<u32>,
    /// The same: to each node, a set of them.
    adds: Vec<u32>,
    marks: Marks,
    reads: Vec<ReadReady>,
    seen: Seen,
}

/// What comes of an event at a core.
pub(super) struct CoreStep {
    outcomes: Vec<CoreOutcome>,
    /// All that comes of it is that these messages leave, to each node a set: the core stays what it is.
    pub only_sends: Option<(Vec<u32>, Seen)>,
}

/// In place of a step's number: nothing comes of it that was not there, or it leads out of the bounds.
pub(super) const NOTHING: u32 = u32::MAX;

/// The space and all that is known of it.
pub(super) struct Model {
    pub bounds: Bounds,
    rules: Rules,
    pub cores: Table<Core>,
    pub messages: Table<Message>,
    pub locals: Table<Local>,
    pub histories: Table<History>,
    pub sets: Sets,
    pub core_steps: boxcar::Vec<Result<CoreStep, Fault>>,
    core_steps_known: Memo,
    pub arrivals: boxcar::Vec<Arrivals>,
    pub arrivals_known: Memo,
    steps: boxcar::Vec<Result<Vec<Outcome>, Fault>>,
    steps_known: Memo,
    pub renamings: super::symmetry::Renamings,
}

impl Model {
    /// The space within these bounds.
    pub fn new(bounds: Bounds) -> Model {
        // Two ticks without news end the time in which a leader is held for alive, the next one campaigns.
        // After one, a learner's last answer still counts.
        let settings = Settings {
            heartbeat_ticks: 1,
            election_timeout_min_ticks: 2,
            election_timeout_max_ticks: 3,
            max_append_entries: bounds.max_append_entries,
            max_append_bytes: 1 << 20,
            max_in_flight_messages: 16,
            max_in_flight_bytes: 1 << 20,
            max_uncommitted_bytes: 1 << 20,
            max_forwarded_bytes: 1 << 20,
        };
        let starts_count = bounds.reads > 0 || bounds.followers_take_requests;
        Model {
            bounds,
            rules: Rules {
                settings,
                starts_count,
                has_lives: !bounds.wiped.is_empty(),
                wiped_join: bounds.wiped_join,
                pre_votes: bounds.pre_votes,
                refusals: bounds.refusals,
            },
            cores: Table::new(),
            messages: Table::new(),
            locals: Table::new(),
            histories: Table::new(),
            sets: Sets::new(),
            core_steps: boxcar::Vec::new(),
            core_steps_known: Memo::new(),
            arrivals: boxcar::Vec::new(),
            arrivals_known: Memo::new(),
            steps: boxcar::Vec::new(),
            steps_known: Memo::new(),
            renamings: super::symmetry::Renamings::new(),
        }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.bounds.nodes
    }

    /// All nodes new, nothing sent, no past.
    pub fn first_state(&self) -> State {
        let ids = || (0..self.nodes()).map(node_id);
        let voters = self.nodes() - self.bounds.joining;
        let configuration = |id| match node_of(id) {
            node if node < voters => Configuration::new(ids().take(voters)),
            _ => Configuration::default(),
        };
        let mut state: State = ids()
            .map(|id| Core::new(id, configuration(id), &self.rules.settings))
            .map(|core| self.local(self.cores.number(core), vec![Sets::EMPTY; self.nodes()]))
            .collect();
        state.push(self.histories.number(History::default()));
        state
    }

    /// Numbers a node that has sent this.
    pub fn local(&self, core: u32, sent: Vec<u32>) -> u32 {
        self.local_after(core, sent, Vec::new())
    }

    /// The same, of a node that had sent that before it lost its data.
    pub fn local_after(&self, core: u32, sent: Vec<u32>, sent_before: Vec<u32>) -> u32 {
        let count = sent.iter().map(|set| self.sets.get(*set).len()).sum();
        let colour = super::symmetry::colour(&self.cores.get(core).raft, count);
        self.locals.number(Local { core, sent, sent_before, colour })
    }

    /// A node of a state.
    pub fn core(&self, local: u32) -> &Core {
        self.cores.get(self.locals.get(local).core)
    }

    /// A state's past.
    pub fn history(&self, state: &[u32]) -> &History {
        self.histories.get(state[self.nodes()])
    }

    /// Calls `visit` with everything that can happen in a state and the state that comes of it, or what it
    /// breaks. What changes nothing is left out. The state must be saturated.
    pub fn successors(&self, state: &[u32], visit: &mut impl FnMut(Action, Result<(&[u32], Seen), Fault>)) {
        let mut next = state.to_vec();
        for node in (0..self.nodes()).filter(|node| self.bounds.is_awake(*node)) {
            self.own_events(state, node, &mut |what| self.all_endings(state, &mut next, node, what, visit));
            let core = self.core_number(state[node]);
            for sender in 0..self.nodes() {
                for set in self.under_way(state, sender, node) {
                    for what in &self.arrivals(core, set).events {
                        self.all_endings(state, &mut next, node, *what, visit);
                    }
                }
            }
        }
    }

    /// Whether it makes a difference that a node has not heard of a leader for a while: only to who asks for
    /// a vote, and only to a node that knows a leader.
    pub fn may_be_late(&self, local: u32, message: u32) -> bool {
        self.core_may_be_late(self.core_number(local), message)
    }

    /// The same, of a core.
    pub fn core_may_be_late(&self, core: u32, message: u32) -> bool {
        let is_vote_request = matches!(self.messages.get(message).body, Body::RequestVote(_));
        is_vote_request && self.cores.get(core).raft.leader().is_some()
    }

    /// What comes of it at a core, if anything within the bounds: the core then, and what it sends.
    pub fn outcome_of(&self, core: u32, what: What) -> Option<(u32, Vec<u32>)> {
        let step = self.core_steps.get(self.core_step(core, what) as usize)?;
        let whole = step.as_ref().ok()?.outcomes.first()?;
        Some((whole.core, whole.sent.clone()))
    }

    /// What can happen to a node without a message.
    fn own_events(&self, state: &[u32], node: usize, visit: &mut impl FnMut(What)) {
        let raft = &self.core(state[node]).raft;
        let Spent { proposals, reads, crashes, heartbeats, campaigns, changes, transfers, compactions } =
            self.history(state).spent;
        let leads = raft.role() == RoleName::Leader;
        let is_heard = leads || (self.bounds.followers_take_requests && raft.leader().is_some());
        let takes_requests = is_heard && self.core(state[node]).disk.folder.is_asking();
        let may_campaign = self.bounds.candidates.contains(&raft.id().0);
        if may_campaign && self.bounds.campaigns.is_none_or(|most| campaigns < most) {
            visit(What::Campaign);
        }
        if leads && heartbeats < self.bounds.heartbeats {
            visit(What::Heartbeat);
        }
        if crashes < self.bounds.crashes {
            visit(What::Crash);
        }
        if compactions < self.bounds.compactions {
            visit(What::Compact);
        }
        self.losses(state, node, visit);
        let wishes = (0..).take(self.bounds.changes.len());
        wishes.filter(|wish| leads && changes & (1 << wish) == 0).for_each(|wish| visit(What::Change(wish)));
        if leads && transfers < self.bounds.transfers {
            let heirs = raft.configuration().voters.iter().filter(|id| **id != raft.id());
            heirs.for_each(|heir| visit(What::Transfer(heir.0)));
        }
        if takes_requests && reads < self.bounds.reads {
            visit(self.next_read(state[node]));
        }
        if takes_requests && proposals < self.bounds.proposals {
            visit(What::Propose(u32::from(proposals) + 1));
        }
    }

    /// Each start of a node numbers its reads by itself.
    pub fn next_read(&self, local: u32) -> What {
        let newest = self.core(local).raft.newest_read();
        What::Read(u32::try_from(newest + 1).expect("a search has few reads"))
    }

    /// The same for one thing that happens to one node, whatever the bounds say of it.
    pub fn endings(
        &self,
        state: &[u32],
        node: usize,
        what: What,
        visit: &mut impl FnMut(Action, Result<(&[u32], Seen), Fault>),
    ) {
        self.all_endings(state, &mut state.to_vec(), node, what, visit);
    }

    fn all_endings(
        &self,
        state: &[u32],
        next: &mut State,
        node: usize,
        what: What,
        visit: &mut impl FnMut(Action, Result<(&[u32], Seen), Fault>),
    ) {
        let number = self.step(state[node], what);
        if number == NOTHING {
            return;
        }
        let outcomes = match &self.steps[number as usize] {
            Ok(outcomes) => outcomes,
            Err(fault) => return visit(Action { node, what, ending: 0 }, Err(fault.clone())),
        };
        let spent = self.history(state).spent;
        for outcome in outcomes {
            if outcome.is_torn && spent.crashes >= self.bounds.crashes {
                continue;
            }
            let action = Action { node, what, ending: outcome.ending };
            next.copy_from_slice(state);
            next[node] = outcome.local;
            if what == What::Wipe {
                self.cut_off(next, node);
            }
            match self.judge(state, next, action, outcome) {
                Ok((history, mut seen)) => {
                    next[self.nodes()] = history;
                    self.saturate(state, next, node, &mut seen);
                    visit(action, Ok((next, seen)));
                }
                Err(fault) => visit(action, Err(fault)),
            }
        }
    }

    /// Holds what came of an action against all nodes and the past. Gives the past that comes of it.
    fn judge(
        &self,
        state: &[u32],
        next: &[u32],
        action: Action,
        outcome: &Outcome,
    ) -> Result<(u32, Seen), Fault> {
        let Action { node, what, .. } = action;
        let (marks, mut seen) = (outcome.marks, outcome.seen);
        let nothing = Marks { begins_to_lead: false, commits: false, log_changes: false };
        let spends = match what {
            What::Deliver(_) | What::DeliverLate(_) | What::Greeting(..) => outcome.is_torn,
            What::Campaign => outcome.is_torn || self.bounds.campaigns.is_some(),
            What::Crash | What::Compact | What::Read(_) | What::Propose(_) | What::Heartbeat => true,
            What::Change(_) | What::Transfer(_) | What::Wipe => true,
        };
        let before = state[self.nodes()];
        if marks == nothing && !spends && outcome.reads.is_empty() {
            return Ok((before, seen));
        }
        let cores: Vec<&Core> = next[..self.nodes()].iter().map(|local| self.core(*local)).collect();
        let raft = &cores[node].raft;
        if marks.log_changes {
            logs_match(&cores, node)?;
        }
        if marks == (Marks { log_changes: marks.log_changes, ..nothing })
            && !spends
            && outcome.reads.is_empty()
        {
            return Ok((before, seen));
        }
        let mut history = self.histories.get(before).clone();
        let restarts = outcome.is_torn || what == What::Crash;
        history.spent.crashes += u8::from(restarts);
        let restarts = restarts || what == What::Wipe;
        match what {
            What::Heartbeat => history.spent.heartbeats += 1,
            What::Compact => history.spent.compactions += 1,
            What::Change(number) => history.spent.changes |= 1 << number,
            What::Transfer(_) => history.spent.transfers += 1,
            What::Propose(_) => history.spent.proposals += 1,
            What::Read(number) => {
                history.spent.reads += 1;
                history.read_begins(raft.id(), u64::from(number));
            }
            What::Campaign => history.spent.campaigns += u8::from(self.bounds.campaigns.is_some()),
            What::Crash | What::Wipe | What::Greeting(..) | What::Deliver(_) | What::DeliverLate(_) => {}
        }
        if restarts {
            history.restarted(raft.id());
        }
        if marks.begins_to_lead {
            seen.join(history.leads(&cores, raft)?);
        }
        if marks.commits {
            seen.join(history.commits(&cores, raft)?);
        }
        if marks.begins_to_lead || marks.commits {
            history.leaders_are_complete(&cores)?;
        }
        seen.join(history.reads_are_ready(raft, &outcome.reads)?);
        Ok((self.histories.number(history), seen))
    }

    /// The number of what happens to a node: looked up, or worked out now.
    fn step(&self, local: u32, what: What) -> u32 {
        self.steps_known.get((local, what.code()), || {
            let Local { core, .. } = self.locals.get(local);
            let core_step = self.core_step(*core, what);
            if core_step == NOTHING {
                return NOTHING;
            }
            let step = match &self.core_steps[core_step as usize] {
                Ok(CoreStep { outcomes, .. }) => {
                    let numbered = outcomes.iter().enumerate();
                    Ok(numbered
                        .filter_map(|(ending, core)| self.outcome(local, what, ending, core))
                        .collect())
                }
                Err(fault) => Err(fault.clone()),
            };
            if step.as_ref().is_ok_and(Vec::is_empty) {
                return NOTHING;
            }
            u32::try_from(self.steps.push(step)).expect("fewer than 2^32 steps fit into memory")
        })
    }

    /// The outcome for a node, if anything comes of it.
    fn outcome(&self, local: u32, what: What, ending: usize, outcome: &CoreOutcome) -> Option<Outcome> {
        let met = match what {
            What::Greeting(peer, _) => self.connected(local, NodeId(peer), outcome.core),
            _ => local,
        };
        let next = match what {
            What::Wipe => self.replaced(local, outcome.core),
            _ => self.saying(met, outcome.core, &outcome.adds),
        };
        let CoreOutcome { is_torn, marks, ref reads, seen, .. } = *outcome;
        (next != local).then(|| Outcome { local: next, ending, is_torn, marks, reads: reads.clone(), seen })
    }

    /// The number of what happens to a core: looked up, or worked out now.
    pub fn core_step(&self, core: u32, what: What) -> u32 {
        self.core_steps_known.get((core, what.code()), || {
            let step = match self.take(core, what) {
                Ok(endings) => {
                    if endings.iter().any(|ending| self.is_outside(ending)) {
                        return NOTHING;
                    }
                    let event = self.event(what);
                    let outcome = |ending| self.core_outcome(self.cores.get(core), &event, ending);
                    let outcomes: Vec<CoreOutcome> = endings.into_iter().map(outcome).collect();
                    let only_sends = match outcomes.as_slice() {
                        [only] if only.core == core && only.reads.is_empty() && !only.sent.is_empty() => {
                            Some((only.adds.clone(), only.seen))
                        }
                        [] | [_, ..] => None,
                    };
                    Ok(CoreStep { outcomes, only_sends })
                }
                Err(fault) => Err(fault),
            };
            u32::try_from(self.core_steps.push(step)).expect("fewer than 2^32 steps fit into memory")
        })
    }

    /// Lets it happen to the real core.
    pub fn take(&self, core: u32, what: What) -> Result<Vec<Ending>, Fault> {
        self.cores.get(core).take(&self.event(what), &self.rules)
    }

    /// The same, of a node.
    pub fn take_local(&self, local: u32, what: What) -> Result<Vec<Ending>, Fault> {
        self.take(self.locals.get(local).core, what)
    }

    fn event(&self, what: What) -> Event<'_> {
        match what {
            What::Heartbeat => Event::Heartbeat,
            What::Campaign => Event::Campaign,
            What::Crash => Event::Crash,
            What::Wipe => Event::Wipe,
            What::Greeting(peer, life) => Event::Greeting(NodeId(peer), life.map(u64::from)),
            What::Compact => Event::Compact,
            What::Change(number) => Event::Change(self.bounds.changes[usize::from(number)]),
            What::Transfer(heir) => Event::Transfer(NodeId(heir)),
            What::Read(number) => Event::Read(u64::from(number)),
            What::Propose(number) => Event::Propose(u64::from(number)),
            What::Deliver(number) => Event::Deliver(self.messages.get(number)),
            What::DeliverLate(number) => Event::DeliverLate(self.messages.get(number)),
        }
    }

    fn is_outside(&self, ending: &Ending) -> bool {
        let max_index = i64::try_from(self.bounds.max_log).unwrap_or(i64::MAX) - 1;
        let raft = &ending.core.raft;
        // A pre-vote for a term that may not come is in vain.
        let campaigns = raft.role() == RoleName::PreCandidate;
        let newest = if campaigns { raft.term().next() } else { raft.term() };
        // Each repeated request of a follower begins another round of confirmation: one repetition will do.
        let rounds = u64::from(self.bounds.reads) + 1;
        raft.read_rounds() > rounds
            || raft.appends_sent() > self.bounds.max_appends
            || newest > Term(self.bounds.max_term)
            || ending.last_index() > Index(max_index)
    }

    fn core_outcome(&self, before: &Core, event: &Event, ending: Ending) -> CoreOutcome {
        let mut seen = ending.seen(event);
        seen.join(ending.core.seen_of_life(before));
        let Ending { core, is_torn, sent, reads, .. } = ending;
        let leads = |raft: &RaftState| (raft.role() == RoleName::Leader).then_some(raft.term());
        let marks = Marks {
            begins_to_lead: leads(&core.raft).is_some() && leads(&core.raft) != leads(&before.raft),
            commits: core.raft.commit_index() > before.raft.commit_index(),
            log_changes: core.raft.log() != before.raft.log() || core.disk.log != before.disk.log,
        };
        let mut to_each = vec![Vec::new(); self.nodes()];
        let mut number = |message: Message| {
            let to = node_of(message.to);
            let number = self.messages.number(message);
            to_each[to].push(number);
            number
        };
        let sent = sent.into_iter().map(&mut number).collect();
        let adds = to_each.into_iter().map(|messages| self.sets.number(messages)).collect();
        CoreOutcome { core: self.cores.number(core), is_torn, sent, adds, marks, reads, seen }
    }

    /// What a node of a state has sent, to each node a set.
    pub fn sent(&self, local: u32) -> &[u32] {
        &self.locals.get(local).sent
    }

    /// What it had sent before it lost its data; nothing if it did not.
    pub fn sent_before(&self, local: u32) -> &[u32] {
        &self.locals.get(local).sent_before
    }

    /// Like this node, and `adds` sent too: to each node, a set.
    pub fn saying(&self, local: u32, core: u32, adds: &[u32]) -> u32 {
        let Local { sent, sent_before, .. } = self.locals.get(local);
        let sent = sent.iter().zip(adds).map(|(set, more)| self.sets.union(*set, *more)).collect();
        self.local_after(core, sent, sent_before.clone())
    }

    /// A node's core's number.
    pub fn core_number(&self, local: u32) -> u32 {
        self.locals.get(local).core
    }
}

impl What {
    /// Numbers below 1000 are for what is no message.
    fn code(self) -> u32 {
        match self {
            What::Heartbeat => 0,
            What::Campaign => 1,
            What::Crash => 2,
            What::Compact => 3,
            What::Wipe => 4,
            What::Change(number) => 10 + u32::from(number),
            What::Transfer(heir) => 20 + u32::from(heir),
            What::Greeting(peer, life) => 30 + u32::from(peer) + 10 * u32::from(life.unwrap_or(0)),
            What::Read(number) => 100 + number,
            What::Propose(number) => 500 + number,
            What::Deliver(number) => 1000 + 2 * number,
            What::DeliverLate(number) => 1001 + 2 * number,
        }
    }
}

/// The id of the node at this place of a state.
pub(super) fn node_id(node: usize) -> NodeId {
    NodeId(u16::try_from(node + 1).expect("a search has few nodes"))
}

/// The place of this node in a state.
pub(super) fn node_of(id: NodeId) -> usize {
    usize::from(id.0) - 1
}
