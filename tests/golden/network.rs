//! The network between the nodes of a script: messages under way in the order in which they were sent, links
//! that are cut, and a pocket for messages that shall come late.

use crate::show;
use raftkv::raft::Message;
use raftkv::types::NodeId;
use std::collections::BTreeSet;

/// What is under way.
#[derive(Default)]
pub struct Network {
    queue: Vec<Message>,
    pocket: Vec<Message>,
    cuts: BTreeSet<(NodeId, NodeId)>,
}

/// Which messages a command means; a field that is not given means any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The sender.
    pub from: Option<NodeId>,
    /// The receiver.
    pub to: Option<NodeId>,
    /// The message's name.
    pub message: Option<String>,
    /// At most so many, the oldest first.
    pub max: Option<usize>,
}

impl Filter {
    fn matches(&self, message: &Message) -> bool {
        self.from.is_none_or(|from| from == message.from)
            && self.to.is_none_or(|to| to == message.to)
            && self.message.as_deref().is_none_or(|name| name == message.body.name())
    }
}

impl Network {
    /// Puts a message on its way, or loses it when the link is cut. Says which.
    pub fn send(&mut self, message: Message) -> bool {
        let arrives = !self.is_cut(message.from, message.to);
        if arrives {
            self.queue.push(message);
        }
        arrives
    }

    /// Whether nothing gets from one node to the other.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// Cuts one direction of a link. What is under way there stays under way until the link is healed.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// All links work again.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Takes out the messages that `filter` means and that can arrive.
    pub fn take(&mut self, filter: &Filter) -> Vec<Message> {
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        for message in std::mem::take(&mut self.queue) {
            let has_room = filter.max.is_none_or(|max| taken.len() < max);
            if has_room && filter.matches(&message) && !self.is_cut(message.from, message.to) {
                taken.push(message);
            } else {
                kept.push(message);
            }
        }
        self.queue = kept;
        taken
    }

    /// Sends the messages that `filter` means once more, after everything that is under way.
    pub fn duplicate(&mut self, filter: &Filter) -> Vec<Message> {
        let copies = self.matching(filter);
        self.queue.extend(copies.iter().cloned());
        copies
    }

    /// Puts copies of the messages into the pocket.
    pub fn copy_to_pocket(&mut self, filter: &Filter) -> Vec<Message> {
        let copies = self.matching(filter);
        self.pocket.extend(copies.iter().cloned());
        copies
    }

    /// Moves the messages into the pocket.
    pub fn move_to_pocket(&mut self, filter: &Filter) -> Vec<Message> {
        let taken = self.take(filter);
        self.pocket.extend(taken.iter().cloned());
        taken
    }

    /// Lets the messages of the pocket go on, after everything that is under way.
    pub fn release(&mut self, filter: &Filter) -> Vec<Message> {
        let limit = filter.max.unwrap_or(usize::MAX);
        let mut released = Vec::new();
        let is_released = |message: &mut Message| {
            let is_meant = released.len() < limit && filter.matches(message);
            if is_meant {
                released.push(message.clone());
            }
            !is_meant
        };
        self.pocket.retain_mut(is_released);
        self.queue.extend(released.iter().cloned());
        released
    }

    /// One line a message under way.
    pub fn lines(&self) -> Vec<String> {
        self.queue.iter().map(show::message).collect()
    }

    fn matching(&self, filter: &Filter) -> Vec<Message> {
        let limit = filter.max.unwrap_or(usize::MAX);
        self.queue.iter().filter(|message| filter.matches(message)).take(limit).cloned().collect()
    }
}
