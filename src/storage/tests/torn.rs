//! A last write that a crash cut short, in every way that a disk may leave it: it never happened.

use super::*;

#[test]
fn a_last_batch_cut_at_any_byte_never_happened() {
    for (shape, last) in last_outputs() {
        let whole = disk_with(&with_last(&last));
        let file = whole.read(LOG).unwrap();
        let (start, end) = extent_of(&last);
        for cut in start..end {
            let disk = copy(&whole);
            disk.overwrite(LOG, file[..cut].to_vec());
            let (_, recovered) = open(&copy(&disk)).unwrap();
            assert_eq!(recovered.torn.is_some(), cut > start, "{shape} cut at {cut}");
            goes_on_from(&disk, &Model::of(&earlier_outputs()), &format!("{shape} cut at {cut}"));
        }
        goes_on_from(&whole, &Model::of(&with_last(&last)), shape);
    }
}

#[test]
fn a_last_batch_that_lacks_any_of_its_sectors_never_happened() {
    for (shape, last) in last_outputs() {
        let whole = disk_with(&with_last(&last));
        let file = whole.read(LOG).unwrap();
        let (start, end) = extent_of(&last);
        let sectors = sectors(start, end);
        for filler in [0, b'\n'] {
            // Every subset of the sectors, as long as there are few of them; otherwise each one and its
            // successor.
            let subsets: Vec<usize> = match sectors.len() {
                few if few <= 8 => (1..1 << few).collect(),
                many => (0..many).flat_map(|sector| [1 << sector, 0b11 << sector]).collect(),
            };
            for subset in subsets {
                let mut torn = file.clone();
                for (_, sector) in
                    sectors.iter().enumerate().filter(|(number, _)| subset & (1 << number) != 0)
                {
                    torn[sector.clone()].fill(filler);
                }
                if torn == file {
                    continue;
                }
                let what = format!("{shape}, sectors {subset:b} read as {filler}");
                let disk = copy(&whole);
                disk.overwrite(LOG, torn);
                goes_on_from(&disk, &Model::of(&earlier_outputs()), &what);
            }
        }
    }
}

/// The same in a log that was filled ahead: what a lost sector had before is there again, and behind the
/// batch its last sector goes on with newlines.
#[test]
fn a_last_batch_that_lacks_any_of_its_sectors_in_a_filled_log_never_happened() {
    for (shape, last) in last_outputs() {
        let (start, end) = extent_of(&last);
        let batch = disk_with(&with_last(&last)).read(LOG).unwrap()[start..].to_vec();
        // The filler ends inside the batch, with it, in its last sector, and in a later one.
        for filled_to in [start + 1, start + (end - start) / 2, end, end + 1, end + 300, end + 1500] {
            let before = [disk_with(&earlier_outputs()).read(LOG).unwrap(), vec![b'\n'; filled_to - start]];
            let before = before.concat();
            let mut after = before.clone();
            after.resize(filled_to.max(end), 0);
            after[start..end].copy_from_slice(&batch);
            let mut filled = before.clone();
            filled.resize(after.len(), 0);
            let sectors = sectors(start, end);
            let subsets: Vec<usize> = match sectors.len() {
                few if few <= 6 => (0..1 << few).collect(),
                many => (0..many).flat_map(|sector| [1 << sector, 0b11 << sector]).collect(),
            };
            // Or zeros are: but not of a sector that has something of an earlier batch.
            let mut zeros = filled.clone();
            zeros[start.next_multiple_of(512).min(after.len())..].fill(0);
            for (subset, lost) in subsets.iter().flat_map(|subset| [(*subset, &filled), (*subset, &zeros)]) {
                let mut torn = after.clone();
                for (number, sector) in sectors.iter().enumerate() {
                    if subset & (1 << number) != 0 {
                        let range = sector.start..sector.end.next_multiple_of(512).min(after.len());
                        torn[range.clone()].copy_from_slice(&lost[range]);
                    }
                }
                let what =
                    format!("{shape}, filled to {filled_to} of {start}..{end}, sectors {subset:b} lost");
                // A newline alone in its sector that comes back as a newline is not lost.
                let is_whole = torn == after;
                let disk = disk_with(&earlier_outputs());
                disk.overwrite(LOG, torn);
                let outputs = if is_whole { with_last(&last) } else { earlier_outputs() };
                goes_on_from(&disk, &Model::of(&outputs), &what);
            }
        }
    }
}

/// A write that failed in the middle, anywhere, in a log that was filled ahead.
#[test]
fn a_last_batch_cut_at_any_byte_of_a_filled_log_never_happened() {
    for (shape, last) in last_outputs() {
        let file = disk_with(&with_last(&last)).read(LOG).unwrap();
        let (start, end) = extent_of(&last);
        for (cut, filler) in (start..=end).flat_map(|cut| [1, 2, 700].map(|filler| (cut, filler))) {
            let disk = disk_with(&earlier_outputs());
            disk.overwrite(LOG, [&file[..cut], &vec![b'\n'; filler]].concat());
            let what = format!("{shape} of {start}..{end} cut at {cut}, {filler} newlines behind");
            // What lacks only its newline has it again. And what lacks two bytes is the same as a whole batch
            // of which one byte was changed: only in a sector of their own they are missing for certain.
            if cut == end - 2 && filler > 1 && cut % 512 != 0 {
                assert!(matches!(open(&disk), Err(StorageError::Damaged { .. })), "{what}");
                continue;
            }
            let outputs = if cut + 1 >= end { with_last(&last) } else { earlier_outputs() };
            goes_on_from(&disk, &Model::of(&outputs), &what);
        }
    }
}

/// A new node whose segments are filled by so many bytes.
fn filled_ahead(fill_bytes: u64) -> (MemoryDisk, Storage<MemoryDisk>) {
    let disk = MemoryDisk::new();
    let sizes = SegmentSizes { limit_bytes: 1 << 20, fill_bytes };
    let (mut storage, _) = Storage::open(disk.clone(), &opening_with(sizes)).unwrap();
    storage.raise_boot().unwrap();
    (disk, storage)
}

#[test]
fn what_a_log_is_filled_with_is_no_torn_write() {
    let (disk, mut storage) = filled_ahead(600);
    let outputs = with_last(&output(None, None, entries(2, 4..5, 30)));
    outputs.iter().for_each(|output| storage.save(output).unwrap());
    let counted = usize::try_from(storage.log_bytes()).unwrap();
    let file = disk.read(LOG).unwrap();
    assert!(file.len() > counted + 100 && file[counted..].iter().all(|&byte| byte == b'\n'));
    let (_, recovered) = open(&copy(&disk)).unwrap();
    assert_eq!(recovered.torn, None);
    goes_on_from(&disk, &Model::of(&outputs), "a filled log");
}

#[test]
fn small_segments_have_no_empty_lines() {
    let (disk, mut storage) = filled_ahead(2000);
    let sizes: Vec<(u64, usize)> = (0..20)
        .map(|index| {
            let counted = storage.log_bytes();
            let term = (index == 0).then(|| hard_state(1, None));
            storage.save(&output(term, None, entries(1, index..index + 1, 200))).unwrap();
            (counted, disk.read(LOG).unwrap().len() - usize::try_from(storage.log_bytes()).unwrap())
        })
        .collect();
    for (counted, filler) in &sizes {
        assert!((*counted >= 2000) == (*filler > 0) && *filler <= 2000, "{sizes:?}");
    }
    assert!(sizes.iter().any(|(_, filler)| *filler == 0) && sizes.iter().any(|(_, filler)| *filler > 0));
}

#[test]
fn a_last_batch_with_lost_sectors_and_a_short_file_never_happened() {
    let last = output(Some(hard_state(3, None)), Some(2), entries(3, 2..6, 450));
    let whole = disk_with(&with_last(&last));
    let (start, end) = extent_of(&last);
    for cut in (start + 1..end).step_by(7) {
        for sector in sectors(start, cut) {
            let mut torn = whole.read(LOG).unwrap()[..cut].to_vec();
            torn[sector.clone()].fill(0);
            let disk = copy(&whole);
            disk.overwrite(LOG, torn);
            goes_on_from(
                &disk,
                &Model::of(&earlier_outputs()),
                &format!("cut at {cut}, zeros at {sector:?}"),
            );
        }
    }
}

#[test]
fn filler_after_a_complete_batch_is_skipped() {
    for filler in [0, b'\n'] {
        let disk = disk_with(&earlier_outputs());
        let mut file = disk.read(LOG).unwrap();
        file.extend([filler; 5000]);
        disk.overwrite(LOG, file);
        goes_on_from(&disk, &Model::of(&earlier_outputs()), &format!("filled ahead with {filler}"));
    }
}

#[test]
fn a_batch_torn_right_after_a_torn_one_was_cut_never_happened_either() {
    let last = output(None, None, entries(2, 4..6, 700));
    let disk = disk_with(&with_last(&last));
    let (start, _) = extent_of(&last);
    disk.overwrite(LOG, disk.read(LOG).unwrap()[..start + 600].to_vec());
    let (mut storage, _) = open(&disk).unwrap();
    storage.save(&last).unwrap();
    // Its first lines are its header and, written anew, the batch before the torn one.
    let second = "log-000002-from-4.jsonl";
    let file = disk.read(second).unwrap();
    disk.overwrite(second, file[..file.len() - 1].to_vec());
    let (_, recovered) = open(&copy(&disk)).unwrap();
    assert!(
        recovered.torn.is_some_and(|message| message.contains("memory/log-000002-from-4.jsonl, line 3:"))
    );
    goes_on_from(&disk, &Model::of(&earlier_outputs()), "torn twice");
    assert!(disk.list().unwrap().contains(&"log-000003-from-4.jsonl".to_string()));
}

#[test]
fn an_overwritten_suffix_never_comes_back() {
    let mut outputs = earlier_outputs();
    outputs.push(output(Some(hard_state(3, None)), Some(1), entries(3, 1..2, 5)));
    let truncated = Model::of(&outputs);
    assert_eq!(truncated.entries.len(), 2);
    outputs.push(output(None, None, entries(3, 2..5, 200)));
    let whole = disk_with(&outputs);
    let file = whole.read(LOG).unwrap();
    let start = disk_with(&outputs[..4]).read(LOG).unwrap().len();
    for cut in start..file.len() {
        let disk = copy(&whole);
        disk.overwrite(LOG, file[..cut].to_vec());
        goes_on_from(&disk, &truncated, &format!("cut at {cut}"));
    }
}
