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
