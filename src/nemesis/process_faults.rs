//! What is done to processes and their disks. One fault at a time, and when it is over all nodes run.

use super::fault::{Deck, Fault};
use super::machines::Machines;
use super::proxy::{Network, Rule};
use super::run::{Run, SERVE_DEADLINE};
use super::tools::{self, Strace};
use super::{Done, HarnessFailure};
use nix::sys::signal::Signal;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// So many writes acknowledged by a new leader are enough for an old one to answer wrongly, if it does.
const WRITES_AFTER_CHANGE: u64 = 100;

/// A log has so much room when its node's disk is full.
const LOG_ROOM_BYTES: u64 = 64 * 1024;

/// The calls in which a running node is killed. At the beginning of one nothing of it has been done.
const RUNNING_CALLS: [&str; 3] = ["fdatasync", "write", "sendto"];
/// At most so many of them are done by a thread before.
const RUNNING_CALLS_BEFORE: u32 = 30;
/// The calls in which a start is killed, and how many of each its main thread makes; the first files that it
/// opens are the program's own.
const START_CALLS: [(&str, u32); 5] =
    [("openat", 12), ("write", 2), ("fdatasync", 2), ("rename", 2), ("fsync", 4)];

/// Breaks processes and disks until the time is over and each fault of the deck has come.
pub(super) fn break_processes(
    run: &Run<'_>,
    machines: &mut Machines,
    network: &Network,
    mut deck: Deck,
    chance: &mut fastrand::Rng,
) -> Done {
    loop {
        machines.rest(run, Duration::from_millis(chance.u64(300..1_500)))?;
        let is_late = !run.is_time_for_faults() && deck.was_through();
        if is_late || run.is_cut_short() {
            return Ok(());
        }
        let Some(fault) = deck.draw(chance) else {
            // Someone must look after the processes while only the network breaks.
            machines.rest(run, Duration::from_millis(500))?;
            continue;
        };
        let _turn = run.alone();
        machines.look_after(run)?;
        if run.is_cut_short() {
            return Ok(());
        }
        Breaking { run, machines, network, chance }.carry_out(fault)?;
        run.tally.saw_fault(fault);
    }
}

/// Kills a node that does not run in its start. It is a finding when nothing comes of it.
pub(super) fn kill_in_start(
    run: &Run<'_>,
    machines: &mut Machines,
    chance: &mut fastrand::Rng,
    victim: u16,
) -> Done {
    let (call, most) = *chance.choice(&START_CALLS).unwrap_or(&START_CALLS[0]);
    let mut when = chance.u32(1..=most);
    // The very first start makes fewer calls than others.
    while when > 0 {
        run.say(format_args!("kill-start  n{victim} starts, and is killed in its {call} number {when}"));
        if machines.start_and_die(run, victim, &format!("{call}:signal=KILL:when={when}"))? {
            return Ok(());
        }
        if run.is_cut_short() {
            return Ok(());
        }
        when /= 2;
    }
    run.finding(format_args!("n{victim} starts without any {call}: nobody could kill it in one"));
    Ok(())
}

struct Breaking<'a, 'b> {
    run: &'a Run<'b>,
    machines: &'a mut Machines,
    network: &'a Network,
    chance: &'a mut fastrand::Rng,
}

impl Breaking<'_, '_> {
    fn carry_out(&mut self, fault: Fault) -> Done {
        match fault {
            Fault::Kill => self.kill_some(),
            Fault::KillInCall => self.kill_in_call(),
            Fault::KillInStart => self.kill_in_starts(),
            Fault::KillAll => self.kill_all(),
            Fault::Pause => self.pause(),
            Fault::LoneReturn => self.return_alone(),
            Fault::RollingRestart => self.roll(),
            Fault::PowerLoss => self.lose_power(self.machines.ids()),
            Fault::PowerLossOfOne => {
                let victim = self.run.draw_node(self.chance);
                self.lose_power(vec![victim])
            }
            Fault::FullDisk => self.fill_disk(),
            Fault::FailedSync => self.fail_sync(),
            Fault::SlowDisk => self.slow_disk(),
            other => Err(HarnessFailure(format!("{other} is none that is done to processes"))),
        }
    }

    fn ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.chance.u64(least..=most))
    }

    /// A node first, the leader half of the time, then others: so many in all.
    fn draw(&mut self, count: usize) -> Vec<u16> {
        let first = self.run.draw_node(self.chance);
        let mut others = self.machines.ids();
        others.retain(|id| *id != first);
        self.chance.shuffle(&mut others);
        others.insert(0, first);
        others.truncate(count);
        others
    }

    fn names(&self, ids: &[u16]) -> String {
        ids.iter().map(|id| self.run.name(*id)).collect::<Vec<_>>().join(" and ")
    }

    fn kill_some(&mut self) -> Done {
        let minority = (self.machines.ids().len().saturating_sub(1) / 2).max(1);
        let count = self.chance.usize(1..=minority);
        let victims = self.draw(count);
        let down = self.ms(0, 2_500);
        self.run.say(format_args!("kill        {}, down for {} ms", self.names(&victims), down.as_millis()));
        self.machines.kill(self.run, &victims)?;
        self.machines.rest(self.run, down)?;
        self.machines.start(self.run, &victims)
    }

    /// What the node was about to do is not done; what it had done is. So an entry is written and not synced,
    /// synced and not told of, told to one peer and not to the other.
    fn kill_in_call(&mut self) -> Done {
        let victim = self.run.draw_node(self.chance);
        let call = *self.chance.choice(&RUNNING_CALLS).unwrap_or(&RUNNING_CALLS[0]);
        let when = self.chance.u32(1..=RUNNING_CALLS_BEFORE);
        self.run.say(format_args!("kill-call   {} in {call} number {when}", self.run.name(victim)));
        let pid = self.machines.process(victim)?.pid();
        let strace = Strace::attach(pid, &format!("{call}:signal=KILL:when={when}"))?;
        self.machines.take_kill(self.run, victim)?;
        drop(strace);
        self.restart_after_fault(victim)
    }

    /// One start after the other is killed before it is over. The next reads what all of them have left.
    fn kill_in_starts(&mut self) -> Done {
        let victim = self.run.draw_node(self.chance);
        let count = self.chance.usize(1..=3);
        self.run.say(format_args!("kill-start  {}, and {count} starts of it", self.run.name(victim)));
        self.machines.kill(self.run, &[victim])?;
        for _ in 0..count {
            kill_in_start(self.run, self.machines, self.chance, victim)?;
        }
        self.machines.start(self.run, &[victim])
    }

    fn kill_all(&mut self) -> Done {
        let down = self.ms(0, 1_000);
        self.run.say(format_args!("kill-all    all, down for {} ms", down.as_millis()));
        let all = self.machines.ids();
        self.machines.kill(self.run, &all)?;
        self.machines.rest(self.run, down)?;
        self.machines.start(self.run, &all)
    }

    fn pause(&mut self) -> Done {
        let victim = self.run.draw_node(self.chance);
        let length = self.ms(200, 4_000);
        self.run.say(format_args!("pause       {} for {} ms", self.run.name(victim), length.as_millis()));
        self.machines.process(victim)?.signal(Signal::SIGSTOP)?;
        self.machines.rest(self.run, length)?;
        self.machines.process(victim)?.signal(Signal::SIGCONT)
    }

    /// Row 27 of the faults. Whatever told the old leader of the new one is kept from it, but for its own
    /// sense of time.
    fn return_alone(&mut self) -> Done {
        let _links = self.run.links();
        let Some(victim) = self.run.wait_for(SERVE_DEADLINE, || self.run.leader()) else { return Ok(()) };
        self.run.say(format_args!("lone return {} pauses, and goes on cut off", self.run.name(victim)));
        self.machines.process(victim)?.signal(Signal::SIGSTOP)?;
        self.network.set_rules(|from, to| {
            let is_cut = from == victim || to == victim;
            Rule { cut_forward: is_cut, cut_backward: is_cut, ..Rule::default() }
        });
        let follows = || self.run.leader().filter(|leader| *leader != victim);
        if self.run.wait_for(SERVE_DEADLINE, follows).is_none() && !self.run.is_cut_short() {
            self.run.finding(format_args!("P11: nobody follows n{victim}, which is gone"));
        }
        self.run.must_serve(WRITES_AFTER_CHANGE, None, "the old leader is paused and cut off");
        self.machines.process(victim)?.signal(Signal::SIGCONT)?;
        let alone = self.ms(500, 1_500);
        self.machines.rest(self.run, alone)?;
        self.network.heal();
        Ok(())
    }

    fn roll(&mut self) -> Done {
        self.run.say("rolling     one node after the other");
        for id in self.machines.ids() {
            self.machines.stop(self.run, id)?;
            self.machines.start(self.run, &[id])?;
            let pause = self.ms(0, 700);
            self.machines.rest(self.run, pause)?;
            if self.run.is_cut_short() {
                break;
            }
        }
        Ok(())
    }

    fn lose_power(&mut self, ids: Vec<u16>) -> Done {
        let who = if ids.len() == 1 { self.names(&ids) } else { "all".to_owned() };
        let down = self.ms(0, 1_500);
        let slow = self.slow_some(&ids)?;
        let how = if slow.is_empty() { "" } else { ", after a second of slow syncs" };
        self.run.say(format_args!("power       {who} without power for {} ms{how}", down.as_millis()));
        if !slow.is_empty() {
            self.machines.rest(self.run, Duration::from_secs(1))?;
        }
        self.machines.lose_power(self.run, &ids)?;
        drop(slow);
        self.machines.rest(self.run, down)?;
        self.machines.start(self.run, &ids)
    }

    /// Half of the time, if it can be done: the syncs of all these nodes but one take so long that whoever
    /// answers before its sync is caught by what comes next.
    fn slow_some(&mut self, ids: &[u16]) -> Result<Vec<Strace>, HarnessFailure> {
        if self.chance.bool() || Fault::SlowDisk.hindrance(ids.len()).is_some() {
            return Ok(Vec::new());
        }
        let spared = self.run.leader().filter(|_| ids.len() > 1);
        let mut slow = Vec::new();
        for id in ids.iter().filter(|id| Some(**id) != spared) {
            let pid = self.machines.process(*id)?.pid();
            let each = self.ms(100, 400);
            slow.push(Strace::attach(pid, &format!("fdatasync:delay_enter={}", each.as_micros()))?);
        }
        Ok(slow)
    }

    /// Its file system gets full, if it has one of its own. While it is, there is no start either.
    fn fill_disk(&mut self) -> Done {
        let victim = self.run.draw_node(self.chance);
        if !self.machines.fill_disk(victim)? {
            return self.limit_files(victim);
        }
        self.run.say(format_args!("full-disk   of {}: a file takes all blocks", self.run.name(victim)));
        self.machines.take_fault(self.run, victim, &["No space left"])?;
        self.run.tally.full_file_systems.fetch_add(1, Ordering::Relaxed);
        if self.chance.bool() {
            self.run.say(format_args!("full-disk   n{victim} must refuse to start without room"));
            self.machines.must_refuse(self.run, victim, "No space left")?;
        }
        self.machines.empty_disk(victim)?;
        self.restart_after_fault(victim)
    }

    /// Its files may grow a little more and then no further, which is as near as one comes without a disk of
    /// its own.
    fn limit_files(&mut self, victim: u16) -> Done {
        // The limit is for its log, too, which must have room for the last line: no flood may fill it.
        let _links = self.run.links();
        let room_bytes = 8 * 1024 + self.chance.u64(0..2_000);
        let process = self.machines.process(victim)?;
        let (pid, log_bytes) = (process.pid().to_string(), process.log_bytes());
        let limit_bytes =
            (self.machines.newest_segment_bytes(victim) + room_bytes).max(log_bytes + LOG_ROOM_BYTES);
        self.run.say(format_args!("full-disk   {}: its files may not grow", self.run.name(victim)));
        tools::run("prlimit", &["--pid", &pid, &format!("--fsize={limit_bytes}")])?;
        self.machines.take_fault(self.run, victim, &["File too large", "No space left"])?;
        self.restart_after_fault(victim)
    }

    fn fail_sync(&mut self) -> Done {
        let victim = self.run.draw_node(self.chance);
        let when = self.chance.u32(1..=5);
        self.run.say(format_args!("failed-sync {}, the {when}th from now on", self.run.name(victim)));
        let pid = self.machines.process(victim)?.pid();
        let strace = Strace::attach(pid, &format!("fdatasync:error=EIO:when={when}+"))?;
        self.machines.take_fault(self.run, victim, &["cannot sync"])?;
        drop(strace);
        self.restart_after_fault(victim)
    }

    fn restart_after_fault(&mut self, victim: u16) -> Done {
        let down = self.ms(0, 1_000);
        self.machines.rest(self.run, down)?;
        self.machines.start(self.run, &[victim])
    }

    fn slow_disk(&mut self) -> Done {
        let victim = self.run.draw_node(self.chance);
        let (each, length) = (self.ms(30, 1_000), self.ms(2_000, 5_000));
        let (name, each_ms) = (self.run.name(victim), each.as_millis());
        self.run.say(format_args!(
            "slow-disk   {name}: each sync takes {each_ms} ms, for {} ms",
            length.as_millis()
        ));
        let pid = self.machines.process(victim)?.pid();
        let strace = Strace::attach(pid, &format!("fdatasync:delay_enter={}", each.as_micros()))?;
        self.machines.rest(self.run, length)?;
        drop(strace);
        self.machines.look_after(self.run)
    }
}
