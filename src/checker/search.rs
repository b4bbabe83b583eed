//! P9 without a look at the indexes: for each key on its own, some order of its operations must explain all
//! answers and keep to real time. The search is Wing and Gong's, with Lowe's memory of configurations; that
//! keys can be judged one by one is Herlihy and Wing's locality.
//!
//! A configuration is the set of operations placed so far and the value that they leave. Next may come any
//! operation that began before all others that are left have ended, and that has none left before it on a
//! connection on which both were sent without waiting. Three things keep the search small:
//!
//! - A configuration is not looked at when one was seen before with the same operations placed and the same
//!   value, whatever order led there, and with no open writes but those that this one has used too.
//! - What only looks, and is right now, is placed at once and nothing else: it is in nobody's way.
//! - An open write is placed only right before an answer which it makes right, alone or after other open
//!   ones. If the answer was right without, the write is better left for later: it has no end.
//!
//! What the search can not see: scans and stale reads, which the check against the log judges.

use super::Violation;
use super::history::History;
use super::register::{Register, Value, Wish};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// Steps enough for every history with some dozen concurrent clients that this was tried on: a step is one
/// configuration looked at, and takes some microseconds and some 200 bytes.
pub const DEFAULT_BUDGET_STEPS: usize = 1_000_000;

/// How many operations a violation tells of.
const MAX_SHOWN: usize = 20;

/// What the search has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order for every key.
    Linearizable {
        /// How many configurations were looked at, all keys together.
        steps: usize,
    },
    /// For some key there is none.
    Violation(NotLinearizable),
    /// The budget ran out on some key, and no other is known to be wrong. This is not a pass.
    Inconclusive {
        /// The first such key.
        key: String,
        /// How many configurations were looked at, all keys together.
        steps: usize,
    },
}

/// A key without an order that explains its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLinearizable {
    /// The key.
    pub key: String,
    /// Operations of the history: first the one that no order gets past, then those around it.
    pub operations: Vec<usize>,
    /// In words, some lines.
    pub what: String,
}

impl fmt::Display for NotLinearizable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P9: key {:?}: {}", self.key, self.what)
    }
}

impl From<NotLinearizable> for Violation {
    fn from(found: NotLinearizable) -> Violation {
        Violation::new("P9", format!("key {:?}: {}", found.key, found.what))
    }
}

/// Searches an order for each key, with so many steps each. Fails when it is no history at all.
pub fn check_by_search(history: &History, budget_steps: usize) -> Result<Verdict, Violation> {
    history.is_well_formed()?;
    let mut steps = 0;
    let mut undecided: Option<String> = None;
    for (key, register) in Register::all(history) {
        if let Some(number) = register.nonsense {
            let what =
                format!("no answer to what was asked, or not the one before: {}", history.show(number));
            return Ok(Verdict::Violation(NotLinearizable { key, operations: vec![number], what }));
        }
        let mut search = Search::new(&register, budget_steps);
        let is_found = search.run();
        steps += search.steps;
        match is_found {
            Some(true) => {}
            Some(false) => return Ok(Verdict::Violation(search.explain(history, key))),
            None => undecided = undecided.or(Some(key)),
        }
    }
    Ok(match undecided {
        None => Verdict::Linearizable { steps },
        Some(key) => Verdict::Inconclusive { key, steps },
    })
}

/// A set of small numbers that fills up from below: whole words at its beginning are only counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Placed {
    full_words: usize,
    words: Vec<u64>,
}

impl Placed {
    fn contains(&self, number: usize) -> bool {
        self.word(number / 64) >> (number % 64) & 1 == 1
    }

    /// The same with one more.
    fn with(&self, number: usize) -> Placed {
        let mut placed = self.clone();
        let Some(place) = (number / 64).checked_sub(placed.full_words) else { return placed };
        if placed.words.len() <= place {
            placed.words.resize(place + 1, 0);
        }
        placed.words[place] |= 1 << (number % 64);
        let full = placed.words.iter().take_while(|word| **word == u64::MAX).count();
        placed.words.drain(..full);
        placed.full_words += full;
        placed
    }

    /// Whether the other has all that this one has.
    fn is_within(&self, other: &Placed) -> bool {
        let words = self.full_words + self.words.len();
        (0..words).all(|place| self.word(place) & !other.word(place) == 0)
    }

    fn word(&self, place: usize) -> u64 {
        match place.checked_sub(self.full_words) {
            None => u64::MAX,
            Some(place) => self.words.get(place).copied().unwrap_or(0),
        }
    }

    /// How many there are.
    fn count(&self) -> usize {
        self.full_words * 64 + self.words.iter().map(|word| word.count_ones() as usize).sum::<usize>()
    }

    /// All below are placed.
    fn first_that_may_be_missing(&self) -> usize {
        self.full_words * 64
    }
}

#[derive(Clone, Debug)]
struct Configuration {
    calls: Placed,
    open: Placed,
    value: Value,
}

/// The search for one key.
struct Search<'a> {
    register: &'a Register<'a>,
    budget_steps: usize,
    steps: usize,
    /// Which open writes were used to get to these calls and this value: never one set within another.
    seen: HashMap<(Placed, Value), Vec<Placed>>,
    /// To be looked at, by the number of open writes used: the fewest first, so that nothing is looked at
    /// again because it could have been reached with fewer. Among equals, the most promising last.
    waiting: BTreeMap<usize, Vec<Configuration>>,
    /// How far any order has got: the earliest end of what it had not placed; whose end that is; and what the
    /// value could be there.
    furthest: Option<(u64, usize)>,
    values_there: BTreeSet<Value>,
}

impl<'a> Search<'a> {
    fn new(register: &'a Register<'a>, budget_steps: usize) -> Search<'a> {
        let start = Configuration { calls: Placed::default(), open: Placed::default(), value: Value::ABSENT };
        Search {
            register,
            budget_steps,
            steps: 0,
            seen: HashMap::new(),
            waiting: BTreeMap::from([(0, vec![start])]),
            furthest: None,
            values_there: BTreeSet::new(),
        }
    }

    /// Whether there is an order; none when the budget does not suffice to tell.
    fn run(&mut self) -> Option<bool> {
        while let Some(configuration) = self.next() {
            let candidates = self.candidates(&configuration);
            let Some(last) = candidates.iter().min_by_key(|place| self.register.calls[**place].ended) else {
                return Some(true);
            };
            if self.steps == self.budget_steps {
                return None;
            }
            self.steps += 1;
            self.note(*last, configuration.value);
            self.look_at(&configuration, &candidates);
        }
        Some(false)
    }

    /// The calls that may come next, in the order of their beginnings: none but those that are left when one
    /// of them ends, and none that is behind another of its pipeline. Empty when all are placed.
    fn candidates(&self, configuration: &Configuration) -> Vec<usize> {
        let calls = &self.register.calls;
        let (mut candidates, mut behind) = (Vec::new(), Vec::new());
        let mut least_end = u64::MAX;
        let first = configuration.calls.first_that_may_be_missing();
        for (place, call) in calls.iter().enumerate().skip(first) {
            if call.began > least_end {
                break;
            }
            if configuration.calls.contains(place) {
                continue;
            }
            least_end = least_end.min(call.ended);
            let is_left_before = |before: &usize| calls[*before].must_come_before(call);
            match candidates.iter().chain(&behind).any(is_left_before) {
                true => behind.push(place),
                false => candidates.push(place),
            }
        }
        candidates
    }

    fn note(&mut self, place: usize, value: Value) {
        let ended = self.register.calls[place].ended;
        if self.furthest.is_none_or(|(furthest, _)| furthest < ended) {
            self.furthest = Some((ended, place));
            self.values_there.clear();
        }
        if self.furthest == Some((ended, place)) {
            self.values_there.insert(value);
        }
    }

    /// Puts what can come of a configuration among the waiting.
    fn look_at(&mut self, configuration: &Configuration, candidates: &[usize]) {
        let register = self.register;
        let mut next = Vec::new();
        let mut wishes = Vec::new();
        let mut least_end = u64::MAX;
        for place in candidates {
            let call = &register.calls[*place];
            least_end = least_end.min(call.ended);
            let Some(value) = register.after(configuration.value, &call.action) else {
                wishes.extend(call.action.wish());
                continue;
            };
            let calls = configuration.calls.with(*place);
            let placed = Configuration { calls, open: configuration.open.clone(), value };
            if call.action.only_looks() {
                next = vec![placed];
                wishes.clear();
                break;
            }
            next.push(placed);
        }
        for place in self.helpers(configuration, least_end, wishes) {
            let open = configuration.open.with(place);
            let value = register.open[place].leaves;
            next.push(Configuration { calls: configuration.calls.clone(), open, value });
        }
        for configuration in next.into_iter().rev() {
            if self.is_new(&configuration) {
                let used = configuration.open.count();
                self.waiting.entry(used).or_default().push(configuration);
            }
        }
    }

    /// The next to be looked at.
    fn next(&mut self) -> Option<Configuration> {
        let mut first = self.waiting.first_entry()?;
        let next = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        next
    }

    /// Whether it was never reached with these open writes or fewer; it is remembered then.
    fn is_new(&mut self, configuration: &Configuration) -> bool {
        let used = self.seen.entry((configuration.calls.clone(), configuration.value)).or_default();
        if used.iter().any(|known| known.is_within(&configuration.open)) {
            return false;
        }
        used.retain(|known| !configuration.open.is_within(known));
        used.push(configuration.open.clone());
        true
    }

    /// The open writes that make a wish come true, or do so after other open ones. Of those that can stand in
    /// for each other the first is enough; and where any value will do, one that nobody names is the best.
    fn helpers(
        &self,
        configuration: &Configuration,
        least_end: u64,
        mut wishes: Vec<Wish<'a>>,
    ) -> Vec<usize> {
        let register = self.register;
        let available: Vec<usize> = (0..register.open.len())
            .take_while(|place| register.open[*place].began <= least_end)
            .filter(|place| !configuration.open.contains(*place))
            .collect();
        let mut helpers: Vec<usize> = Vec::new();
        let mut asked: BTreeSet<usize> = BTreeSet::new();
        let mut kinds: BTreeSet<Value> = BTreeSet::new();
        let mut turn = 0;
        while let Some(wish) = wishes.get(turn).copied() {
            turn += 1;
            let is_unnamed = |place: &&usize| register.open[**place].is_unnamed_set();
            if wish == Wish::Present
                && let Some(place) = available.iter().find(is_unnamed)
            {
                helpers.push(*place);
                continue;
            }
            for place in &available {
                let write = &register.open[*place];
                if !register.fulfils(write.leaves, wish) || !asked.insert(*place) {
                    continue;
                }
                match write.expect {
                    None if kinds.insert(write.kind) => helpers.push(*place),
                    None => {}
                    Some(expect) if register.means(configuration.value, expect) => helpers.push(*place),
                    Some(expect) => wishes.push(Wish::Meaning(expect)),
                }
            }
        }
        helpers
    }

    /// What there is to say when no order was found: the operation that none gets past, and those that have
    /// to do with it.
    fn explain(&self, history: &History, key: String) -> NotLinearizable {
        let register = self.register;
        let Some(stuck) = self.furthest.and_then(|(_, place)| register.calls.get(place)) else {
            return NotLinearizable { key, operations: Vec::new(), what: "no order was found".to_owned() };
        };
        let wish = stuck.action.wish();
        let matters = |value: Value| {
            self.values_there.contains(&value) || wish.is_some_and(|wish| register.fulfils(value, wish))
        };
        let writers = register.calls.iter().filter(|call| call.action.leaves().is_some_and(matters));
        let open_writers = register.open.iter().filter(|write| write.began <= stuck.ended);
        let open_writers = open_writers.filter(|write| matters(write.leaves));
        let beside = |began: u64, ended: u64| began <= stuck.ended && ended >= stuck.began;
        let neighbours = register.calls.iter().filter(|call| beside(call.began, call.ended));
        let mut operations = vec![stuck.number];
        let others = writers.chain(neighbours).map(|call| call.number);
        for number in others.chain(open_writers.map(|write| write.number)) {
            if !operations.contains(&number) && operations.len() < MAX_SHOWN {
                operations.push(number);
            }
        }
        let values: Vec<&str> = self.values_there.iter().map(|value| register.text(*value)).collect();
        let mut what = format!(
            "no order gets past {}, where the value may be {}; with it:",
            history.show(stuck.number),
            values.join(" or "),
        );
        for number in operations.iter().skip(1) {
            what += "\n  ";
            what += &history.show(*number);
        }
        NotLinearizable { key, operations, what }
    }
}
