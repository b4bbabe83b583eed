//! What a search came to, as text.

use super::Report;
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { name, states, transitions, depth, seconds, cores, messages, .. } = self;
        if let Some(violation) = &self.violation {
            writeln!(f, "{name}: {}", violation.fault)?;
            violation.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        let verdict = match (&self.violation, self.exhausted) {
            (Some(violation), _) => format!("BROKEN: {}", violation.fault.property),
            (None, true) => "holds, exhausted".to_owned(),
            (None, false) => "holds as far as it went, NOT exhausted: a limit was reached".to_owned(),
        };
        let rate = *states as f64 / seconds.max(0.001);
        write!(f, "{name}: {verdict}; {states} states, {transitions} transitions, {depth} steps deep, ")?;
        write!(f, "{seconds:.1} s ({rate:.0} states a second), {} MB, ", self.bytes / 1_000_000)?;
        writeln!(f, "{cores} cores, {messages} messages")
    }
}
