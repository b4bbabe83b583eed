//! The real file system behind [`Disk`]: one folder, held by one process at a time.
//!
//! The folder is made with mode 0700 and its files with 0600, since they hold what clients wrote. The lock is
//! the operating system's own on the folder itself, so it ends with the process however that ends, and no
//! lock file can be left behind.

use super::disk::{Disk, OpenFile};
use super::error::{DiskFault, StorageError};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A node's data folder, locked until this is dropped or the process ends.
#[derive(Debug)]
pub struct FileDisk {
    folder: PathBuf,
    /// The open folder: carries the lock, and is what `sync_directory` syncs.
    directory: File,
    /// The file last written to. It stays open, so that a save costs one write and one sync and no lookup.
    writing: Option<(String, File)>,
}

impl FileDisk {
    /// Opens the folder, makes it if it is not there, and locks it. Fails with [`StorageError::Locked`] when
    /// another process (or another `FileDisk`) has it.
    pub fn open(folder: &Path) -> Result<FileDisk, StorageError> {
        let fault = |action, error| DiskFault { action, path: folder.to_path_buf(), error };
        make_folder(folder).map_err(|error| fault("make the folder", error))?;
        let directory = File::open(folder).map_err(|error| fault("open the folder", error))?;
        match directory.try_lock() {
            Ok(()) => Ok(FileDisk { folder: folder.to_path_buf(), directory, writing: None }),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked { folder: folder.to_path_buf() }),
            Err(TryLockError::Error(error)) => Err(fault("lock the folder", error).into()),
        }
    }

    /// Opens a folder that is there, to read what is in it and nothing else. Others may do so too, but none
    /// may write meanwhile. Fails with [`StorageError::Locked`] when another process has it.
    pub fn open_to_read(folder: &Path) -> Result<FileDisk, StorageError> {
        let fault = |action, error| DiskFault { action, path: folder.to_path_buf(), error };
        let directory = File::open(folder).map_err(|error| fault("open the folder", error))?;
        match directory.try_lock_shared() {
            Ok(()) => Ok(FileDisk { folder: folder.to_path_buf(), directory, writing: None }),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked { folder: folder.to_path_buf() }),
            Err(TryLockError::Error(error)) => Err(fault("lock the folder", error).into()),
        }
    }

    fn fault<'a>(&'a self, action: &'static str, name: &'a str) -> impl FnOnce(io::Error) -> DiskFault + 'a {
        move |error| DiskFault { action, path: self.path(name), error }
    }

    /// The file, open for writing: the one at hand, or opened now.
    fn open_to_write(&mut self, name: &str) -> io::Result<&mut File> {
        let at_hand = self.writing.take().filter(|(open, _)| open == name);
        let opened = match at_hand {
            Some(open) => open,
            None => {
                must_be_a_file(&self.folder.join(name))?;
                (name.to_string(), OpenOptions::new().write(true).open(self.folder.join(name))?)
            }
        };
        Ok(&mut self.writing.insert(opened).1)
    }
}

/// A file of the folder, open for reading.
#[derive(Debug)]
pub struct ReadableFile {
    path: PathBuf,
    file: File,
}

impl Disk for FileDisk {
    type File = ReadableFile;

    fn create(&mut self, name: &str) -> Result<(), DiskFault> {
        // With `create_new` the last part of the path is never followed when it is a symbolic link.
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(self.folder.join(name)).map_err(self.fault("create", name))?;
        self.writing = Some((name.to_string(), file));
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        let written = self.open_to_write(name).and_then(|file| file.write_all_at(bytes, offset));
        written.map_err(self.fault("write to", name))
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskFault> {
        let synced = self.open_to_write(name).and_then(|file| file.sync_data());
        synced.map_err(self.fault("sync", name))
    }

    fn sync_directory(&mut self) -> Result<(), DiskFault> {
        self.directory.sync_all().map_err(self.fault("sync the folder", ""))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskFault> {
        let renamed = fs::rename(self.folder.join(from), self.folder.join(to));
        renamed.map_err(self.fault("rename to its final name", from))?;
        self.writing = match self.writing.take() {
            Some((open, file)) if open == from => Some((to.to_string(), file)),
            // The file that had the name is gone from the folder; its handle would write to nowhere.
            Some((open, _)) if open == to => None,
            other => other,
        };
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskFault> {
        let path = self.folder.join(name);
        // A file lives on without its name while it is open, so whoever removes it does not wait until its
        // blocks are given back.
        let open = must_be_a_file(&path).and_then(|()| OpenOptions::new().write(true).open(&path));
        fs::remove_file(&path).map_err(self.fault("remove", name))?;
        self.writing = self.writing.take().filter(|(open, _)| open != name);
        if let Ok(file) = open {
            // Without a thread it is closed here.
            let _ = thread::Builder::new().name("closer".to_owned()).spawn(move || give_back(&file));
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, DiskFault> {
        let path = self.folder.join(name);
        must_be_a_file(&path).and_then(|()| fs::read(&path)).map_err(self.fault("read", name))
    }

    fn open(&self, name: &str) -> Result<ReadableFile, DiskFault> {
        let path = self.folder.join(name);
        let file = must_be_a_file(&path).and_then(|()| File::open(&path)).and_then(|file| {
            // See `give_back`: what is being given back is not there any more.
            let is_there = !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
            if is_there { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
        });
        let file = file.map_err(self.fault("open", name))?;
        Ok(ReadableFile { path, file })
    }

    fn list(&self) -> Result<Vec<String>, DiskFault> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(self.fault("list the folder", ""))? {
            let entry = entry.map_err(self.fault("list the folder", ""))?;
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    /// The lock is held until the last handle is gone.
    fn another_handle(&self) -> Result<FileDisk, DiskFault> {
        let directory = self.directory.try_clone().map_err(self.fault("open once more", ""))?;
        Ok(FileDisk { folder: self.folder.clone(), directory, writing: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.folder.clone() } else { self.folder.join(name) }
    }
}

impl ReadableFile {
    /// Opens a file that is not in a node's folder.
    pub(super) fn open(path: &Path) -> Result<ReadableFile, DiskFault> {
        let fault = |error| DiskFault { action: "open", path: path.to_path_buf(), error };
        let is_file = fs::metadata(path).map_err(fault)?.is_file();
        if !is_file {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(fault(error));
        }
        let file = File::open(path).map_err(fault)?;
        Ok(ReadableFile { path: path.to_path_buf(), file })
    }

    fn fault(&self, error: io::Error) -> DiskFault {
        DiskFault { action: "read", path: self.path.clone(), error }
    }
}

impl OpenFile for ReadableFile {
    fn size_bytes(&self) -> Result<u64, DiskFault> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|error| self.fault(error))
    }

    fn read_part(&self, offset: u64, max_bytes: usize) -> Result<Vec<u8>, DiskFault> {
        let mut bytes = vec![0; max_bytes];
        let mut filled = 0;
        while filled < max_bytes {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fault(error)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// Gives back the blocks of a removed file piece by piece. Those of a large file at once make the file system
/// write and discard so much together that a sync of another file waits for it, 50 to 120 ms for 150 MB: a
/// save of the log. A file that somebody still reads, or that has another name, keeps its bytes.
fn give_back(file: &File) {
    const PIECE_BYTES: u64 = 8 * 1024 * 1024;
    const PAUSE: Duration = Duration::from_millis(20);
    let Ok(metadata) = file.metadata() else { return };
    if metadata.nlink() > 0 || file.try_lock().is_err() {
        return;
    }
    let mut size_bytes = metadata.len();
    while size_bytes > PIECE_BYTES {
        size_bytes -= PIECE_BYTES;
        // What cannot be cut off goes when the file is closed.
        if file.set_len(size_bytes).is_err() {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Makes the folder and those above it, and puts the names of the last two on stable storage: `DATA` and
/// `node-N`, which are ours to make. They are synced also when they were there already, because the start
/// that made them may have been cut short before it did so.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .collect();
    for folder in missing.iter().rev() {
        DirBuilder::new().mode(0o700).create(folder)?;
    }
    for made in folder.ancestors().take(missing.len().max(2)) {
        match made.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above }) {
            Some(above) => sync_folder(above)?,
            None => break,
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(directory) => directory.sync_all(),
        // A folder that we may not even read is the administrator's, who made the one in it long before.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Refuses symbolic links: whoever can put one into the folder could make the node write elsewhere.
fn must_be_a_file(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.file_type().is_file() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE_BYTES: u64 = 20 * 1024 * 1024;

    /// A disk with a large file, and another handle on that, as whoever removes it has.
    fn with_large_file(folder: &Path) -> (FileDisk, File) {
        let mut disk = FileDisk::open(folder).unwrap();
        disk.create("large").unwrap();
        let file = OpenOptions::new().write(true).open(folder.join("large")).unwrap();
        file.set_len(SIZE_BYTES).unwrap();
        (disk, file)
    }

    #[test]
    fn a_removed_file_is_given_back_piece_by_piece_and_cannot_be_opened_meanwhile() {
        let temp = tempfile::tempdir().unwrap();
        let (disk, file) = with_large_file(temp.path());
        file.lock().unwrap();
        let error = disk.open("large").unwrap_err().error;
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        file.unlock().unwrap();
        fs::remove_file(temp.path().join("large")).unwrap();
        give_back(&file);
        assert!(file.metadata().unwrap().len() <= 8 * 1024 * 1024);
    }

    #[test]
    fn a_removed_file_that_is_read_or_has_another_name_keeps_its_bytes() {
        let temp = tempfile::tempdir().unwrap();
        let (mut disk, file) = with_large_file(temp.path());
        let reader = disk.open("large").unwrap();
        fs::hard_link(temp.path().join("large"), temp.path().join("copy")).unwrap();
        disk.remove("large").unwrap();
        give_back(&file);
        drop(reader);
        give_back(&file);
        assert_eq!(file.metadata().unwrap().len(), SIZE_BYTES, "it has another name");
        let reader = disk.open("copy").unwrap();
        disk.remove("copy").unwrap();
        give_back(&file);
        assert_eq!(reader.size_bytes().unwrap(), SIZE_BYTES, "it is read");
        assert_eq!(reader.read_part(SIZE_BYTES - 1, 2).unwrap(), [0]);
    }
}
