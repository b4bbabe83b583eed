//! The shapes in which real networks have been seen to break. Each says which of the directed links between
//! these nodes are cut.

use super::network::Ends;
use crate::types::NodeId;
use std::collections::BTreeSet;

/// A shape. The nodes stand in the order that chance gave them; `place` is one's number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Two sides that do not hear each other.
    Symmetric,
    /// One side hears the other, which does not hear it.
    OneWay,
    /// One node hears nobody, and everybody hears it.
    Deaf,
    /// One node hears everybody, and nobody hears it.
    Mute,
    /// Two halves, and a hub that hears both.
    Bridge,
    /// Each hears its two neighbours only: with five nodes each sees another majority.
    Ring,
    /// Each hears its neighbours only, and the ends have one.
    Chain,
    /// All hear the hub only: quorum loss of all but one.
    Star,
    /// One link is cut in both directions.
    OneLink,
    /// One node, by preference the leader, hangs on the hub only; the others hear each other.
    Hanging,
    /// Each direction of each link by itself.
    Partial,
}

const SHAPES: [Shape; 11] = [
    Shape::Symmetric,
    Shape::OneWay,
    Shape::Deaf,
    Shape::Mute,
    Shape::Bridge,
    Shape::Ring,
    Shape::Chain,
    Shape::Star,
    Shape::OneLink,
    Shape::Hanging,
    Shape::Partial,
];

impl Shape {
    pub fn draw(chance: &mut fastrand::Rng) -> Shape {
        chance.choice(&SHAPES).copied().unwrap_or(Shape::Symmetric)
    }

    /// Its name, in `sometimes.rs` too.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Symmetric => "partition: symmetric",
            Shape::OneWay => "partition: one way",
            Shape::Deaf => "partition: one hears nobody",
            Shape::Mute => "partition: nobody hears one",
            Shape::Bridge => "partition: bridge",
            Shape::Ring => "partition: ring",
            Shape::Chain => "partition: chain",
            Shape::Star => "partition: star",
            Shape::OneLink => "partition: one link",
            Shape::Hanging => "partition: one hangs on a bridge",
            Shape::Partial => "partition: partial",
        }
    }

    /// What is cut. `victim` is the node that it is about, where it is about one.
    pub fn cuts(self, ids: &[NodeId], victim: NodeId, chance: &mut fastrand::Rng) -> BTreeSet<Ends> {
        let mut order = ids.to_vec();
        chance.shuffle(&mut order);
        let side = chance.usize(1..=order.len());
        let count = order.len();
        let place = |id: NodeId| order.iter().position(|other| *other == id).unwrap_or(0);
        let is_left = |id: NodeId| place(id) < side;
        let hub = order.iter().copied().find(|id| *id != victim).unwrap_or(victim);
        let is_cut = |from: NodeId, to: NodeId, chance: &mut fastrand::Rng| match self {
            Shape::Symmetric => is_left(from) != is_left(to),
            Shape::OneWay => is_left(from) && !is_left(to),
            Shape::Deaf => to == victim,
            Shape::Mute => from == victim,
            Shape::Bridge => from != victim && to != victim && place(from) % 2 != place(to) % 2,
            Shape::Ring => {
                let (one, other) = (place(from), place(to));
                (one + 1) % count != other && (other + 1) % count != one
            }
            Shape::Chain => place(from).abs_diff(place(to)) != 1,
            Shape::Star => from != victim && to != victim,
            Shape::OneLink => [(victim, hub), (hub, victim)].contains(&(from, to)),
            Shape::Hanging => (from == victim && to != hub) || (to == victim && from != hub),
            Shape::Partial => chance.u8(0..3) == 0,
        };
        let links = ids.iter().flat_map(|from| ids.iter().map(|to| (*from, *to)));
        links.filter(|(from, to)| from != to && is_cut(*from, *to, chance)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of five nodes each hears, itself included, sorted.
    fn heard(shape: Shape) -> Vec<usize> {
        let ids: Vec<NodeId> = (1..=5).map(NodeId).collect();
        let cuts = shape.cuts(&ids, NodeId(2), &mut fastrand::Rng::with_seed(7));
        let mut heard: Vec<usize> =
            ids.iter().map(|to| ids.iter().filter(|from| !cuts.contains(&(**from, *to))).count()).collect();
        heard.sort_unstable();
        heard
    }

    #[test]
    fn each_shape_leaves_what_its_name_says() {
        assert_eq!(heard(Shape::Mute), [4, 4, 4, 4, 5]);
        assert_eq!(heard(Shape::Deaf), [1, 5, 5, 5, 5]);
        assert_eq!(heard(Shape::Ring), [3, 3, 3, 3, 3]);
        assert_eq!(heard(Shape::Chain), [2, 2, 3, 3, 3]);
        assert_eq!(heard(Shape::Star), [2, 2, 2, 2, 5]);
        assert_eq!(heard(Shape::OneLink), [4, 4, 5, 5, 5]);
        assert_eq!(heard(Shape::Hanging), [2, 4, 4, 4, 5]);
        assert_eq!(heard(Shape::Bridge).last(), Some(&5), "the bridge hears all");
        assert!(heard(Shape::Bridge).iter().filter(|count| **count < 5).count() >= 2);
    }
}
