//! Damage that no crash of ours leaves behind: the start is refused, with the file and the line.

use super::*;

/// The line that the start is refused for, or none when the node starts.
fn refused_line(disk: &MemoryDisk, what: &str) -> Option<usize> {
    match open(disk) {
        Ok(_) => None,
        Err(error @ StorageError::Damaged { .. }) => {
            let message = error.to_string();
            assert!(!error.is_disk_fault(), "{what}");
            assert!(
                !message.contains('\n') && message.contains("remove the node from the cluster"),
                "{message}"
            );
            let StorageError::Damaged { path, line, .. } = error else { unreachable!() };
            assert!(path.starts_with("memory"), "{what}: {}", path.display());
            Some(line)
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

fn line_of(file: &[u8], at: usize) -> usize {
    1 + file[..at].iter().filter(|&&byte| byte == b'\n').count()
}

#[test]
fn a_flipped_bit_before_the_last_batch_is_refused_with_its_line() {
    let outputs = with_last(&output(None, None, entries(2, 4..6, 40)));
    let disk = disk_with(&outputs);
    let file = disk.read(LOG).unwrap();
    let (start, _) = extent_of(&outputs[3]);
    for bit in 0..start * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.overwrite(LOG, flipped);
        let what = format!("bit {bit}");
        assert_eq!(refused_line(&disk, &what), Some(line_of(&file, bit / 8)), "{what}");
    }
}

#[test]
fn a_flipped_bit_in_the_last_batch_is_refused_and_not_taken_for_a_torn_tail() {
    for (shape, last) in last_outputs() {
        let disk = disk_with(&with_last(&last));
        let file = disk.read(LOG).unwrap();
        let (start, end) = extent_of(&last);
        for bit in start * 8..end * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.overwrite(LOG, flipped);
            let what = format!("{shape}: bit {bit}");
            assert_eq!(refused_line(&disk, &what), Some(line_of(&file, bit / 8)), "{what}");
        }
    }
}

/// Nor are the newlines behind it, in a log that was filled ahead, taken for what it lacks.
#[test]
fn a_flipped_bit_in_the_last_batch_of_a_filled_log_is_refused() {
    for (shape, last) in last_outputs() {
        let disk = disk_with(&with_last(&last));
        let mut file = disk.read(LOG).unwrap();
        let (start, end) = extent_of(&last);
        file.resize(end + 700, b'\n');
        for bit in start * 8..end * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.overwrite(LOG, flipped);
            let what = format!("{shape}: bit {bit}");
            assert_eq!(refused_line(&disk, &what), Some(line_of(&file, bit / 8)), "{what}");
        }
        // One byte of the last record's end that reads like filler does not make it a torn write.
        for at in [end - 2, end - 3].into_iter().filter(|at| at % 512 != 0) {
            let mut changed = file.clone();
            changed[at] = b'\n';
            disk.overwrite(LOG, changed);
            assert!(refused_line(&disk, shape).is_some(), "{shape}: byte {at}");
        }
        // Newlines behind a zero are no filler, also where they fill their sector.
        for at in [end - 1, end - 2] {
            let mut changed = file.clone();
            changed[at] = 0;
            disk.overwrite(LOG, changed);
            assert!(refused_line(&disk, shape).is_some(), "{shape}: byte {at} is zero");
        }
    }
}

#[test]
fn a_changed_byte_in_the_last_batch_is_refused_unless_its_whole_sector_reads_as_missing() {
    for (shape, last) in last_outputs() {
        let whole = disk_with(&with_last(&last));
        let file = whole.read(LOG).unwrap();
        let (start, end) = extent_of(&last);
        for sector in sectors(start, end) {
            for at in sector.clone() {
                for value in [0, b'\n', b'}', 0xff] {
                    let mut changed = file.clone();
                    changed[at] = value;
                    if changed == file {
                        continue;
                    }
                    let missing = value < b'}' && changed[sector.clone()].iter().all(|&byte| byte == value);
                    let disk = copy(&whole);
                    disk.overwrite(LOG, changed);
                    let what = format!("{shape}: byte {at} is {value}");
                    let expected = if missing { None } else { Some(line_of(&file, at)) };
                    assert_eq!(refused_line(&disk, &what), expected, "{what}");
                }
            }
        }
    }
}

#[test]
fn lost_sectors_before_the_last_batch_are_refused() {
    // Batches of one record and of several, all of some sectors, so that some sectors hold parts of two
    // batches.
    let mut outputs = earlier_outputs();
    outputs.push(output(None, None, entries(2, 4..6, 900)));
    outputs.push(output(None, None, entries(2, 6..7, 1500)));
    let start = disk_with(&outputs).read(LOG).unwrap().len();
    outputs.push(output(None, None, entries(2, 7..8, 1500)));
    let disk = disk_with(&outputs);
    let file = disk.read(LOG).unwrap();
    for filler in [0, b'\n'] {
        for sector in sectors(0, start) {
            let mut lost = file.clone();
            lost[sector.clone()].fill(filler);
            disk.overwrite(LOG, lost);
            let what = format!("{sector:?} read as {filler}");
            assert!(refused_line(&disk, &what).is_some(), "{what}");
        }
        // The sector that the last two batches share, with what the older one had of it: that part was
        // synced.
        for sector in sectors(start - start % 512, file.len()).into_iter().take(1) {
            let mut lost = file.clone();
            lost[sector.clone()].fill(filler);
            disk.overwrite(LOG, lost);
            let what = format!("the shared {sector:?} reads as {filler}");
            assert!(refused_line(&disk, &what).is_some(), "{what}");
        }
    }
}

#[test]
fn a_missing_or_repeated_line_is_refused() {
    let outputs = with_last(&output(Some(hard_state(3, None)), None, entries(3, 4..8, 40)));
    let disk = disk_with(&outputs);
    let file = disk.read(LOG).unwrap();
    let lines: Vec<&[u8]> = file.split_inclusive(|&byte| byte == b'\n').collect();
    for number in 0..lines.len() {
        let mut repeated = lines.clone();
        repeated.insert(number, lines[number]);
        disk.overwrite(LOG, repeated.concat());
        assert_eq!(refused_line(&disk, "repeated"), Some(number + 2), "line {} twice", number + 1);
        // The last line of the last batch may be missing: that is what a torn write looks like.
        if number + 1 < lines.len() {
            let mut missing = lines.clone();
            missing.remove(number);
            disk.overwrite(LOG, missing.concat());
            let line =
                refused_line(&disk, "missing").unwrap_or_else(|| panic!("line {} missing", number + 1));
            assert!(line <= number + 1, "line {} missing, refused for line {line}", number + 1);
        }
    }
}

#[test]
fn a_flipped_bit_in_a_finished_segment_is_refused_also_in_its_last_batch() {
    let disk = MemoryDisk::new();
    let small = opening_with(SegmentSizes { limit_bytes: 1500, fill_bytes: 0 });
    let (mut storage, _) = Storage::open(disk.clone(), &small).unwrap();
    with_last(&last_outputs()[4].1).iter().for_each(|output| storage.save(output).unwrap());
    let names = disk.list().unwrap();
    assert_eq!(names, ["identity.json", LOG, "log-000002-from-4.jsonl"]);
    let file = disk.read(LOG).unwrap();
    for at in 0..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 0x20;
        disk.overwrite(LOG, flipped);
        assert_eq!(refused_line(&disk, "flipped"), Some(line_of(&file, at)), "byte {at}");
    }
    for end in 0..file.len() {
        disk.overwrite(LOG, file[..end].to_vec());
        assert!(refused_line(&disk, "cut").is_some(), "cut at {end}");
    }
}

#[test]
fn a_segment_without_its_header_is_refused() {
    let disk = disk_with(&[]);
    let file = disk.read(LOG).unwrap();
    for end in 0..file.len() {
        disk.overwrite(LOG, file[..end].to_vec());
        assert_eq!(refused_line(&disk, "cut header"), Some(1), "cut at {end}");
    }
}

#[test]
fn a_segment_without_the_whole_batch_that_it_began_with_is_refused() {
    // Also where a torn write would be cut: this batch was there before the segment had its name.
    let disk = disk_with(&with_last(&output(None, None, entries(2, 4..7, 20))));
    open(&disk).unwrap();
    let second = "log-000002-from-4.jsonl";
    let file = disk.read(second).unwrap();
    assert_eq!(line_of(&file, file.len()), 5, "its header and three entries");
    for end in 0..file.len() {
        disk.overwrite(second, file[..end].to_vec());
        assert_eq!(refused_line(&disk, "cut"), Some(line_of(&file, end)), "cut at {end}");
    }
    for at in 0..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 0x20;
        disk.overwrite(second, flipped);
        assert_eq!(refused_line(&disk, "flipped"), Some(line_of(&file, at)), "byte {at}");
    }
}

#[test]
fn a_flipped_bit_in_the_identity_is_refused() {
    let disk = disk_with(&earlier_outputs());
    let file = disk.read(IDENTITY_FILE).unwrap();
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.overwrite(IDENTITY_FILE, flipped);
        assert_eq!(refused_line(&disk, "identity"), Some(1), "bit {bit}");
    }
}

/// The identity of a node that has run, with `from` replaced and the checksum of what it says then.
fn changed_identity(from: &str, to: &str) -> MemoryDisk {
    let disk = disk_with(&earlier_outputs());
    let object = record::read_checked_object(&disk.read(IDENTITY_FILE).unwrap()).unwrap();
    let text = String::from_utf8(object).unwrap();
    assert!(text.contains(from), "{text}");
    let changed = text.replacen(from, to, 1);
    disk.overwrite(IDENTITY_FILE, record::write_checked_object(changed.trim_end().as_bytes()));
    disk
}

#[test]
fn what_a_damaged_file_says_forges_no_line_and_moves_no_cursor() {
    // Found by fuzzing: a member's name went as it stood into the line for the operator, with a line break,
    // an escape of the terminal, and at any length.
    let name = format!("\"\\u001b[2J\\n{}\":1,\"boot\":1", "x".repeat(5000));
    let disk = changed_identity("\"boot\":1", &name);
    assert_eq!(refused_line(&disk, "a forged name"), Some(1));
    let message = open(&disk).unwrap_err().to_string();
    assert!(message.contains("unknown field `\\u{1b}[2J\\nxxx"), "{message}");
    assert!(!message.contains(char::is_control) && message.chars().count() < 1000, "{message}");
}

#[test]
fn a_start_counter_that_could_not_rise_is_refused() {
    // Found by fuzzing: such a node came up and panicked where it raises the counter.
    let disk = changed_identity("\"boot\":1", &format!("\"boot\":{}", u64::MAX));
    assert_eq!(refused_line(&disk, "the largest boot"), Some(1));
}

#[test]
fn a_term_that_could_not_rise_is_refused() {
    // Found by fuzzing: such a node came up and panicked in its first campaign.
    let disk = disk_with(&[output(Some(hard_state(u64::MAX, None)), None, vec![])]);
    assert_eq!(refused_line(&disk, "the largest term"), Some(2));
}
