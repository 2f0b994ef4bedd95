//! Pipable WIMs: read from a file like any other, and unpacked while they arrive.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod common;

use std::error::Error as _;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{assert_same, contents, put, rich_tree, run, snapshot, unpack};
use sha1::{Digest, Sha1};
use wim::capture::{CaptureOptions, Compression, capture};
use wim::{Report, UnpackOptions, WimError};

const FORMATS: [Compression; 4] = [Compression::None, Compression::Xpress, Compression::Lzx, Compression::Lzms];

fn options(compression: Compression) -> CaptureOptions<'static> {
    CaptureOptions { compression, pipable: true, name: Some("root"), ..CaptureOptions::default() }
}

/// Gives bytes in pieces whose sizes change all the time.
struct Odd<R>(R, usize);

impl<R: Read> Read for Odd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = (self.1 * 7 + 3) % 4099;
        let most = buffer.len().min(self.1.max(1));
        self.0.read(&mut buffer[..most])
    }
}

fn unpack_stream(
    stream: impl Read + Send + 'static,
    index: Option<&str>,
    target: &Path,
    workers: usize,
) -> Result<Report, wim::Error> {
    fs::create_dir_all(target).unwrap();
    let options = UnpackOptions { workers: workers.try_into().ok(), ..UnpackOptions::default() };
    wim::root::open_stream(Box::new(stream), "standard input", index)?.unpack(target, &options)
}

fn unpack_pipe(pipe: impl Into<OwnedFd>, target: &Path, workers: usize) -> Result<Report, wim::Error> {
    fs::create_dir_all(target).unwrap();
    let options = UnpackOptions { workers: workers.try_into().ok(), ..UnpackOptions::default() };
    wim::root::open_pipe(pipe.into(), "standard input", None)?.unpack(target, &options)
}

fn cause(error: &wim::Error) -> &WimError {
    error.source().and_then(|source| source.downcast_ref()).unwrap_or_else(|| panic!("{error:?}"))
}

#[test]
fn a_pipable_file_is_read_like_any_other_and_by_wimlib() {
    let work = tempfile::tempdir().unwrap();
    let (tree, ours, theirs) = (work.path().join("tree"), work.path().join("ours.wim"), work.path().join("theirs.wim"));
    rich_tree(&tree);
    for compression in FORMATS {
        capture(&tree, &ours, &options(compression)).unwrap();
        let compress = format!("--compress={compression}");
        let by_wimlib: [&OsStr; 7] = [
            "capture".as_ref(),
            tree.as_ref(),
            theirs.as_ref(),
            "--pipable".as_ref(),
            "--unix-data".as_ref(),
            "--norpfix".as_ref(),
            compress.as_ref(),
        ];
        let images = if run("wimlib-imagex", &by_wimlib).is_some() { vec![&ours, &theirs] } else { vec![&ours] };
        for (image, workers) in images.into_iter().flat_map(|image| [(image, 1), (image, 3)]) {
            let out = tempfile::tempdir_in(work.path()).unwrap();
            unpack(image, out.path(), workers).unwrap();
            assert_same(&tree, out.path(), &format!("{compression}, {}, {workers} workers", image.display()));
        }
        assert_eq!(wim::root::open(&ours, None).unwrap().source_bytes(), fs::metadata(&ours).unwrap().len());
        let out = tempfile::tempdir_in(work.path()).unwrap();
        run("wimlib-imagex", &["apply".as_ref(), ours.as_ref(), out.path().as_ref(), "--unix-data".as_ref()]);
        assert_same(&tree, out.path(), &format!("{compression}, by wimlib"));
        let _ = fs::remove_file(&theirs);
    }
}

/// The end of a device is not that of the image, and where the image ends, only going through it tells.
#[test]
fn a_pipable_image_ends_where_its_last_header_does_however_long_the_device_is() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    rich_tree(&tree);
    for compression in FORMATS {
        capture(&tree, &image, &options(compression)).unwrap();
        let bytes = fs::read(&image).unwrap();
        // What was on the device before: zeros; or another image, whose header is at the very end.
        for behind in [
            vec![0; 100_000],
            [&bytes[..], &bytes[..bytes.len() - 208], &{
                let mut header = bytes[bytes.len() - 208..].to_vec();
                header[0x18] ^= 1;
                header
            }]
            .concat(),
        ] {
            let device = put(&work.path().join("device"), &[&bytes[..], &behind].concat());
            assert_eq!(wim::root::open(&device, None).unwrap().source_bytes(), bytes.len() as u64);
            let out = tempfile::tempdir_in(work.path()).unwrap();
            unpack(&device, out.path(), 2).unwrap();
            assert_same(&tree, out.path(), &format!("{compression} on a device"));
        }
    }
}

#[test]
fn a_stream_in_pieces_of_any_size_gives_the_tree() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    rich_tree(&tree);
    for compression in FORMATS {
        capture(&tree, &image, &options(compression)).unwrap();
        for workers in [1, 2, 5] {
            let out = tempfile::tempdir_in(work.path()).unwrap();
            let stream = Odd(File::open(&image).unwrap(), workers);
            let report = unpack_stream(stream, None, out.path(), workers).unwrap();
            assert_same(&tree, out.path(), &format!("{compression}, {workers} workers"));
            let of_file = unpack(&image, &work.path().join("file"), 1).unwrap();
            assert_eq!((report.entries, report.bytes), (of_file.entries, of_file.bytes));
            if common::is_root() {
                assert_eq!(report.notes, Vec::<String>::new());
            }
            fs::remove_dir_all(work.path().join("file")).unwrap();
        }
    }
}

#[test]
fn what_wimlib_sends_through_a_pipe_is_unpacked_while_it_comes() {
    let work = tempfile::tempdir().unwrap();
    let tree = work.path().join("tree");
    rich_tree(&tree);
    for compression in FORMATS {
        let compress = format!("--compress={compression}");
        let sender = Command::new("wimlib-imagex")
            .arg("capture")
            .arg(&tree)
            .args(["-", "--pipable", "--unix-data", "--norpfix", &compress])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut sender) = sender else {
            skip::because("wimlib-imagex is not installed, so nothing is sent");
            return;
        };
        let out = tempfile::tempdir_in(work.path()).unwrap();
        unpack_pipe(sender.stdout.take().unwrap(), out.path(), 2).unwrap();
        assert!(sender.wait().unwrap().success(), "it could send all");
        assert_same(&tree, out.path(), &format!("{compression} from wimlib"));
    }
}

#[test]
fn a_socket_that_stays_open_is_not_waited_for() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    rich_tree(&tree);
    capture(&tree, &image, &options(Compression::Lzx)).unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            ours.write_all(&fs::read(&image).unwrap()).unwrap();
            ours
        });
        let out = work.path().join("out");
        unpack_pipe(theirs, &out, 2).unwrap();
        assert_same(&tree, &out, "from a socket");
        drop(sender.join().unwrap());
    });
}

/// What a worker finds is told though the reader waits for bytes that never come.
#[test]
fn an_error_is_told_while_the_sender_stalls() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir(&tree).unwrap();
    // Together more than a job: the first file goes to a worker when the second one is to be read.
    for (seed, name) in [(1, "first"), (2, "second")] {
        fs::write(tree.join(name), contents(seed, 300_000 + seed as usize)).unwrap();
    }
    capture(&tree, &image, &options(Compression::None)).unwrap();
    let sound = fs::read(&image).unwrap();
    let mut places = [300_001, 300_002].map(|size| blob_of(&sound, size) + 40);
    places.sort_unstable();
    let mut bytes = sound.clone();
    bytes[places[0] + 1000] ^= 1;
    // The second file never comes to its end.
    let sent = &bytes[..places[1] + 200_000];
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let senders: [(OwnedFd, Box<dyn Write + Send>); 2] =
        [(theirs.into(), Box::new(ours)), (reader.into(), Box::new(writer))];
    for (fd, mut sender) in senders {
        let out = tempfile::tempdir_in(work.path()).unwrap();
        let (told, outcome) = std::sync::mpsc::channel();
        let target = out.path().to_owned();
        // Not joined: without the error it waits for ever.
        std::thread::spawn(move || {
            let root = wim::root::open_pipe(fd, "standard input", None).unwrap();
            told.send(root.unpack(&target, &UnpackOptions::default())).unwrap();
        });
        // Nobody takes the rest where the error comes first.
        let _ = sender.write_all(sent);
        let outcome = outcome.recv_timeout(std::time::Duration::from_secs(60)).expect("it is told within a minute");
        let error = outcome.expect_err("damaged contents");
        assert!(matches!(cause(&error), WimError::Hash { .. }), "the worker's own error: {error:?}");
        drop(sender);
    }
}

#[test]
fn an_image_of_several_is_chosen_and_the_contents_of_the_others_are_passed_over() {
    let work = tempfile::tempdir().unwrap();
    let (one, two, image) = (work.path().join("one"), work.path().join("two"), work.path().join("both.wim"));
    rich_tree(&one);
    fs::create_dir(&two).unwrap();
    fs::write(two.join("alone"), contents(9, 2_000_000)).unwrap();
    fs::copy(one.join("usr/lib/size-300000"), two.join("in both")).unwrap();
    let plain = work.path().join("plain.wim");
    capture(&one, &plain, &CaptureOptions { name: Some("one"), ..CaptureOptions::default() }).unwrap();
    let append: [&OsStr; 5] = ["append".as_ref(), two.as_ref(), plain.as_ref(), "two".as_ref(), "--unix-data".as_ref()];
    let export: [&OsStr; 5] = ["export".as_ref(), plain.as_ref(), "all".as_ref(), image.as_ref(), "--pipable".as_ref()];
    if run("wimlib-imagex", &append).is_none() || run("wimlib-imagex", &export).is_none() {
        return;
    }
    for (index, tree) in [(None, &one), (Some("1"), &one), (Some("two"), &two), (Some("2"), &two)] {
        let out = tempfile::tempdir_in(work.path()).unwrap();
        unpack_stream(File::open(&image).unwrap(), index, out.path(), 2).unwrap();
        assert_same(tree, out.path(), &format!("image {index:?}"));
    }
    let error = unpack_stream(File::open(&image).unwrap(), Some("three"), &work.path().join("x"), 1).unwrap_err();
    assert!(cause(&error).to_string().contains("it has: 1 (\"one\"), 2 (\"two\")"), "{error:?}");
}

#[test]
fn what_cannot_be_streamed_says_what_to_do() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir(&tree).unwrap();
    let refused = |bytes: Vec<u8>| {
        let error = wim::root::open_stream(Box::new(Cursor::new(bytes)), "standard input", None).unwrap_err();
        format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
    };
    capture(&tree, &image, &CaptureOptions::default()).unwrap();
    let text = refused(fs::read(&image).unwrap());
    assert!(text.contains("not pipable") && text.contains("export IN.wim all OUT.wim --pipable"), "{text}");
    let text = refused(b"\x28\xb5\x2f\xfd and so on".to_vec());
    assert!(text.contains("put the archive into a file"), "{text}");
    assert!(refused(b"This is no image".to_vec()).contains("standard input is no root image"));
    assert!(refused(Vec::new()).contains("nothing: it is empty"));
    let large = CaptureOptions { chunk_size: Some(8 << 20), ..options(Compression::Lzms) };
    capture(&tree, &image, &large).unwrap();
    let text = refused(fs::read(&image).unwrap());
    assert!(text.contains("chunks of 8388608 bytes") && text.contains("4 MiB"), "{text}");
    let error = capture(&tree, &image, &CaptureOptions { solid: true, ..options(Compression::Lzms) }).unwrap_err();
    assert!(error.to_string().contains("a solid image cannot be pipable"), "{error}");
}

/// A tree with contents in several chunks, a link, a hard link, equal files; and its pipable image.
fn small_image(work: &Path, compression: Compression) -> (PathBuf, Vec<u8>) {
    let (tree, image) = (work.join("tree"), work.join("root.wim"));
    fs::create_dir_all(tree.join("d/e")).unwrap();
    fs::write(tree.join("d/large"), contents(1, 14_000)).unwrap();
    fs::write(tree.join("d/small"), contents(2, 700)).unwrap();
    fs::write(tree.join("d/equal"), contents(2, 700)).unwrap();
    fs::hard_link(tree.join("d/small"), tree.join("hard")).unwrap();
    std::os::unix::fs::symlink("d/small", tree.join("link")).unwrap();
    let chunk_size = (compression == Compression::Xpress).then_some(4096);
    capture(&tree, &image, &CaptureOptions { chunk_size, ..options(compression) }).unwrap();
    let bytes = fs::read(image).unwrap();
    (tree, bytes)
}

/// By stream and from a file: a success must be the tree, and an error must say something.
fn judge(work: &Path, tree: &Path, bytes: &[u8], what: &str) -> [Result<Report, wim::Error>; 2] {
    let image = put(&work.join("image"), bytes);
    [true, false].map(|streamed| {
        let out = tempfile::tempdir_in(work).unwrap();
        let target = out.path().join("target");
        let result = if streamed {
            unpack_stream(Odd(Cursor::new(bytes.to_vec()), 1), None, &target, 2)
        } else {
            unpack(&image, &target, 2)
        };
        if result.is_ok() {
            assert_eq!(snapshot(tree), snapshot(&target), "{what}: another tree");
        }
        assert!(fs::read_dir(out.path()).unwrap().count() <= 1, "{what}: something is beside the target");
        result
    })
}

fn field(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
}

#[test]
fn a_stream_that_ends_early_is_refused_until_all_contents_have_come() {
    for compression in [Compression::None, Compression::Xpress] {
        let work = common::fast_dir();
        let (tree, bytes) = small_image(work.path(), compression);
        // The blob table comes behind the contents, with 40 bytes before it.
        let contents_end = field(&bytes, bytes.len() - 208 + 0x38) - 40;
        // Behind the last contents there may be their chunk table: 3 entries of the largest file at most.
        let mut late = 0;
        for len in (0..bytes.len()).filter(|len| *len < 300 || len % 13 == 0 || *len + 60 > contents_end) {
            let [streamed, of_file] = judge(work.path(), &tree, &bytes[..len], &format!("{len} bytes"));
            match streamed {
                Ok(report) => {
                    assert!(len + 12 >= contents_end, "{len} of {contents_end} bytes were enough");
                    assert!(report.notes.iter().any(|note| note.contains("ended before")), "{:?}", report.notes);
                    late += 1;
                }
                Err(error) => {
                    assert!(len < contents_end, "{len}: {error:?}");
                    if len >= 8 {
                        assert!(cause(&error).to_string().contains("cut short"), "{len}: {error:?}");
                    }
                }
            }
            assert!(of_file.is_err(), "{len}: a file without its last header");
        }
        assert!(late > 100, "{late}");
    }
}

#[test]
fn every_flipped_byte_of_a_stream_is_an_error_or_changes_nothing() {
    for compression in [Compression::None, Compression::Xpress, Compression::Lzx] {
        let work = common::fast_dir();
        let (tree, bytes) = small_image(work.path(), compression);
        for result in judge(work.path(), &tree, &bytes, "as captured") {
            result.unwrap();
        }
        let mut refused = [0, 0];
        for at in (0..bytes.len()).filter(|at| *at < 300 || at % 7 == 0 || *at > bytes.len() - 300) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let results = judge(work.path(), &tree, &bytes, &format!("{compression}, byte {at}"));
            refused = [0, 1].map(|n| refused[n] + usize::from(results[n].is_err()));
        }
        assert!(refused[0] > 300 && refused[1] > 200, "only {refused:?} flips were noticed");
    }
}

/// Offset of the 40 bytes before the contents of this size.
fn blob_of(bytes: &[u8], size: u64) -> usize {
    let mut wanted = 0x2b9b_9ba2_443d_b9d8_u64.to_le_bytes().to_vec();
    wanted.extend(size.to_le_bytes());
    bytes.windows(16).position(|window| window == wanted).expect("the contents are there")
}

#[test]
fn contents_beyond_the_claim_are_refused_before_they_are_written() {
    let work = common::fast_dir();
    let (_, bytes) = small_image(work.path(), Compression::None);
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let at = bytes.windows(22).position(|window| window == utf16("TOTALBYTES>")).unwrap() + 22;
    let mut lying = bytes.clone();
    lying[at..at + 10].copy_from_slice(&utf16("00900"));
    // The XML data, and the hash before it.
    let size = field(&lying, 208 + 8);
    let hash = Sha1::digest(&lying[248..248 + size]);
    lying[208 + 16..208 + 36].copy_from_slice(&hash);
    let out = work.path().join("out");
    let error = unpack_stream(Cursor::new(lying), None, &out, 2).unwrap_err();
    assert!(matches!(cause(&error), WimError::Claim { .. }), "{error:?}");
    let written: u64 = snapshot(&out).values().map(|facts| facts.contents.len() as u64).sum();
    assert!(written <= 900, "{written} bytes were written");

    // A size of terabytes: beyond the claim, too, and nothing is reserved for it.
    let mut bomb = bytes;
    let at = blob_of(&bomb, 14_000);
    bomb[at + 8..at + 16].copy_from_slice(&(1_u64 << 45).to_le_bytes());
    let error = unpack_stream(Cursor::new(bomb), None, &work.path().join("bomb"), 2).unwrap_err();
    assert!(matches!(cause(&error), WimError::Claim { .. }), "{error:?}");
}

#[test]
fn a_wrong_hash_in_a_stream_names_the_file_and_is_no_success() {
    let work = common::fast_dir();
    let (_, mut bytes) = small_image(work.path(), Compression::None);
    let at = blob_of(&bytes, 14_000);
    bytes[at + 40 + 5000] ^= 1;
    let error = unpack_stream(Cursor::new(bytes), None, &work.path().join("out"), 2).unwrap_err();
    let said = cause(&error).to_string();
    assert!(said.contains("d/large") && said.contains("SHA-1"), "{said}");
}

/// Other workers wait for the part that cannot be had, and the reader for room in the queue: all of them end.
#[test]
fn damage_anywhere_in_large_contents_ends_the_reader_and_all_workers() {
    let work = common::fast_dir();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("first"), contents(5, 6 << 20)).unwrap();
    fs::write(tree.join("second"), contents(6, 6 << 20)).unwrap();
    for compression in [Compression::None, Compression::Xpress] {
        capture(&tree, &image, &options(compression)).unwrap();
        let bytes = fs::read(&image).unwrap();
        let begin = blob_of(&bytes, 6 << 20);
        for n in 0..12 {
            let mut bytes = bytes.clone();
            // Chunks are damaged as a whole, but for the lengths before them, which the reader itself needs.
            let at = begin + (bytes.len() - begin - 2000) * n / 12;
            let mut chunk = begin + 44;
            if compression == Compression::Xpress {
                while chunk < at {
                    let len = u32::from_le_bytes(bytes[chunk - 4..chunk].try_into().unwrap()) as usize;
                    // Its chunk table comes behind the last chunk, and a stream has no use for that.
                    if chunk + len > bytes.len() / 2 - 20_000 {
                        break;
                    }
                    chunk += len + 4;
                }
            } else {
                chunk = at + 44;
            }
            bytes[chunk..chunk + 100].iter_mut().for_each(|byte| *byte ^= 0x55);
            let out = tempfile::tempdir_in(work.path()).unwrap();
            let result = unpack_stream(Cursor::new(bytes), None, out.path(), n % 5 + 1);
            let error = result.err().unwrap_or_else(|| panic!("{compression} {n}: not noticed at {chunk}"));
            let found = matches!(cause(&error), WimError::Hash { .. } | WimError::Decompress { .. });
            assert!(found, "{compression} {n}: {error:?}");
        }
    }
}

#[test]
fn contents_that_never_come_are_an_error_though_the_stream_is_whole() {
    let work = common::fast_dir();
    let (_, mut bytes) = small_image(work.path(), Compression::None);
    // Contents of this hash are nobody's.
    let at = blob_of(&bytes, 14_000);
    bytes[at + 16] ^= 1;
    let error = unpack_stream(Cursor::new(bytes), None, &work.path().join("out"), 2).unwrap_err();
    assert!(matches!(cause(&error), WimError::MissingBlob { file } if file.contains("d/large")), "{error:?}");
}

#[test]
fn the_parts_of_a_pipable_set_may_be_sent_one_after_another() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image, first) = (work.path().join("tree"), work.path().join("root.wim"), work.path().join("root.swm"));
    rich_tree(&tree);
    capture(&tree, &image, &options(Compression::Xpress)).unwrap();
    let Some(parts) = common::split(&image, &first, "0.2") else { return };
    let parts: Vec<Vec<u8>> = parts.iter().map(|part| fs::read(part).unwrap()).collect();
    assert!(parts.len() > 2 && parts.iter().all(|part| part.starts_with(b"WLPWM")), "{} parts", parts.len());
    let streamed = |parts: &[&[u8]], name: &str| {
        unpack_stream(Odd(Cursor::new(parts.concat()), 1), None, &work.path().join(name), 2)
    };
    let all: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    assert_eq!(streamed(&all, "all").unwrap().notes, Vec::<String>::new());
    assert_same(&tree, &work.path().join("all"), "parts through a pipe");
    unpack(&first, &work.path().join("files"), 2).unwrap();
    assert_same(&tree, &work.path().join("files"), "a pipable set in files");

    let error = streamed(&all[..all.len() - 1], "missing").unwrap_err();
    assert!(matches!(cause(&error), WimError::StreamEnded { .. }), "{error:?}");
    let error = streamed(&[&all[..1], &all[2..]].concat(), "gap").unwrap_err();
    assert!(cause(&error).to_string().contains("part 3 comes after part 1; send them in order"), "{error:?}");
    let error = streamed(&all[1..], "second first").unwrap_err();
    assert!(cause(&error).to_string().contains("send all parts, the first one first"), "{error:?}");
}

/// What a stream's need says is an upper bound, and near to what a file's says exactly.
#[test]
fn the_need_of_a_stream_is_enough_and_not_much_more() {
    let work = tempfile::tempdir().unwrap();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    rich_tree(&tree);
    capture(&tree, &image, &options(Compression::Lzx)).unwrap();
    let exact = wim::root::open(&image, None).unwrap().need().unwrap();
    let stream = Box::new(File::open(&image).unwrap());
    let most = wim::root::open_stream(stream, "a stream", None).unwrap().need().unwrap();
    assert_eq!(most.inodes, exact.inodes);
    assert!(exact.bytes <= most.bytes && most.bytes < exact.bytes + 40 * 4096, "{exact:?} {most:?}");
    assert!(most.working < 32 << 20, "{most:?}");
}

const CHILD: &str = "MMOS_TEST_UNPACK_STDIN_TO";

/// Run by the test below in a process of its own: unpacks standard input and says how much memory it took.
#[test]
fn as_a_child_it_unpacks_standard_input() {
    let Some(target) = std::env::var_os(CHILD) else { return };
    let root = wim::root::open_stream(Box::new(std::io::stdin()), "standard input", None).unwrap();
    let said = root.need().unwrap().working;
    root.unpack(Path::new(&target), &UnpackOptions { workers: 4.try_into().ok(), ..Default::default() }).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("peak {kib} need {}", said / 1024);
}

#[test]
fn a_stream_of_a_large_file_takes_less_than_32_mib_of_memory() {
    let work = common::fast_dir();
    let (tree, image) = (work.path().join("tree"), work.path().join("root.wim"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("small"), contents(4, 100)).unwrap();
    let large_chunks = CaptureOptions { chunk_size: Some(4 << 20), ..options(Compression::Lzms) };
    for (options, size) in [
        (options(Compression::None), 100 << 20),
        (options(Compression::Xpress), 100 << 20),
        // Slow to make; and what counts are its chunks, the largest that are taken.
        (large_chunks, 20 << 20),
    ] {
        let compression = options.compression;
        fs::write(tree.join("large"), contents(3, 1 << 20).repeat(size >> 20)).unwrap();
        capture(&tree, &image, &options).unwrap();
        let out = work.path().join("out");
        fs::create_dir(&out).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "as_a_child_it_unpacks_standard_input", "--nocapture"])
            .env(CHILD, &out)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::copy(&mut File::open(&image).unwrap(), &mut child.stdin.take().unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let peak = text.lines().find_map(|line| line.split_once("peak ")).expect("the child said it").1;
        let kib: u64 = peak.split(' ').next().unwrap().parse().unwrap();
        println!("{compression}: {peak}");
        assert!(kib < 32 << 10, "{compression}: {kib} KiB at the peak");
        assert_same(&tree, &out, "a large file");
        fs::remove_dir_all(&out).unwrap();
    }
}
