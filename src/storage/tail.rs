//! Tells a torn tail from damage.
//!
//! A batch is one write at the end of what counts of the last segment, then one sync. A crash in between
//! leaves any of its sectors unwritten: behind the end of the file, or reading as zeros, or as the newlines
//! that a segment is filled with ahead of time. That is a torn tail. It was never acknowledged, since nothing
//! is before the sync, and it is dropped as a whole: then a batch is on disk or it never happened, and nobody
//! has to ask what half of one means. (Keeping its intact first records would be right too, since they are in
//! the order in which separate saves would have made them durable, but it would leave states on disk that no
//! save ever asked for.)
//!
//! All else is damage: bytes may be in that batch, or in one before it, that others rely on. So the tail is
//! torn only if every record in it that is not intact lacks bytes in whole sectors, or is the last that a
//! failed write came to, cut anywhere, and if no other batch follows. One thing cannot be told from a lost
//! sector: a byte that stands alone in one, at the beginning or the end of a batch, and was changed to what
//! a sector may be filled with. No single flipped bit does that.
//!
//! ```text
//!   ...batch 6 | batch 7: records, the last batch begun ..................... end of file
//!              |---live---|--filler--|----------live----------|--filler--|--live--|
//!               ^ intact   ^ a record  ^ the end of a record that began in the filler, then intact ones
//!                            cut here    of batch 7 only, then one that is cut by the next filler
//! ```

use super::record::{Flaw, NoHead, read_head, read_record};
use serde::de::IgnoredAny;
use std::ops::Range;

/// What a disk writes at once or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// Judges what follows the last complete batch of the last segment: bytes from `start` on, of which no
/// complete batch could be read. `Ok` when they are a torn write of the batch with this number; otherwise,
/// what is damaged.
pub(super) fn judge_tail(file: &[u8], start: usize, batch: u64) -> Result<(), Flaw> {
    let mut live = live_stretches(file, start);
    if let Some(last) = live.last_mut() {
        last.end = last.start + content(&file[last.clone()]).len();
    }
    let last_live_byte = live.last().map_or(start, |stretch| stretch.end);
    let mut previous_left: Option<u64> = None;
    for stretch in live {
        let mut at = stretch.start;
        // Until the first intact record it is unknown how many were lost with the filler before.
        let mut after_hole = at > start;
        if after_hole && previous_left != Some(0) && read_record(file, at).is_err() {
            at = end_of_line(file, &stretch);
        }
        while at < stretch.end {
            if previous_left == Some(0) {
                return Err(Flaw::new(
                    at,
                    format!("nothing after the last record of batch {batch}, found more"),
                ));
            }
            match read_record(file, at) {
                Ok(record) => {
                    let follows = match previous_left {
                        Some(left) if after_hole => record.head.left < left,
                        Some(left) => record.head.left == left - 1,
                        None => true,
                    };
                    check_place(at, batch, record.head.batch, follows)?;
                    previous_left = Some(record.head.left);
                    at += record.head.len;
                    after_hole = false;
                }
                Err(flaw) => {
                    if !lacks_bytes(file, at, stretch.end, batch, last_live_byte) {
                        return Err(flaw);
                    }
                    at = stretch.end;
                }
            }
        }
    }
    Ok(())
}

/// These bytes without the newlines that a file is filled with, but for the one that a record ends with.
pub(super) fn content(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != b'\n').map_or(0, |last| last + 2);
    &bytes[..end.min(bytes.len())]
}

/// An intact record of another batch, or out of order within this one, shows that the tail is no single
/// write.
fn check_place(at: usize, batch: u64, found: u64, follows: bool) -> Result<(), Flaw> {
    if found != batch {
        Err(Flaw::new(
            at,
            format!("a record of batch {batch}, which is not complete, found one of batch {found}"),
        ))
    } else if !follows {
        Err(Flaw::new(at, format!("the next record of batch {batch}, found one that is not the next")))
    } else {
        Ok(())
    }
}

/// Whether the record at `at`, which is not intact, is so because bytes of it are missing from `end` on,
/// where filler or the end of the file begins. A record that has all its bytes is damaged in some other way.
fn lacks_bytes(file: &[u8], at: usize, end: usize, batch: u64, last_live_byte: usize) -> bool {
    // A write that failed in the middle may have ended anywhere in a sector, and what the segment was filled
    // with goes on behind it.
    let (fragment, end, within_sector) = match file[at..end].strip_suffix(b"\n") {
        Some(cut) if end == last_live_byte => (cut, end - 1, true),
        Some(_) | None => (&file[at..end], end, false),
    };
    if fragment.contains(&b'\n') {
        return false;
    }
    // One live byte looks like filler: a record's own newline, when it falls alone into the last sector.
    let newline_follows = file.get(end) == Some(&b'\n');
    if newline_follows && serde_json::from_slice::<IgnoredAny>(fragment).is_ok() {
        return false;
    }
    match read_head(fragment) {
        Ok(head) => {
            let record_end = at.saturating_add(head.len);
            // A last record that lacks two bytes, with newlines in their place: a write may have failed just
            // there, or one byte of a whole record has been changed to a newline. It is not for us to guess.
            let brace_changed =
                within_sector && head.left == 0 && record_end == end + 2 && file.get(end + 1) == Some(&b'\n');
            let all_there = record_end <= end + usize::from(newline_follows) || brace_changed;
            // A batch's last record with more behind it: there is a later batch, so this one was complete
            // once.
            let followed = head.left == 0 && record_end < last_live_byte;
            !all_there && !followed && head.batch == batch
        }
        Err(NoHead::Cut) => true,
        Err(NoHead::Malformed) => false,
    }
}

/// Where the line ends that a stretch begins with, or the stretch itself if that comes first.
fn end_of_line(file: &[u8], stretch: &Range<usize>) -> usize {
    match file[stretch.clone()].iter().position(|&byte| byte == b'\n') {
        Some(newline) => stretch.start + newline + 1,
        None => stretch.end,
    }
}

/// The parts from `start` on that are not filler, by the sector; the first and the last sector count only as
/// far as they belong to the tail.
fn live_stretches(file: &[u8], start: usize) -> Vec<Range<usize>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    let mut sector_start = start;
    while sector_start < file.len() {
        let sector_end = ((sector_start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(file.len());
        let sector = &file[sector_start..sector_end];
        if !is_filler(sector) {
            match stretches.last_mut() {
                Some(stretch) if stretch.end == sector_start => stretch.end = sector_end,
                Some(_) | None => stretches.push(sector_start..sector_end),
            }
        }
        sector_start = sector_end;
    }
    stretches
}

/// Zeros follow newlines where a write that got lost was to make a filled file longer. Newlines never follow
/// zeros: then what stands there is not what any write leaves.
fn is_filler(sector: &[u8]) -> bool {
    let newlines = sector.iter().take_while(|&&byte| byte == b'\n').count();
    sector.iter().skip(newlines).all(|&byte| byte == 0)
}
