//! ADD: COPY from the context, and besides archives that are unpacked, files
//! behind URLs, and git repositories.

use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FileType, Mode, OFlags};
use umiak_dockerfile::{Add, Instruction};
use umiak_images::decompress::is_archive;
use umiak_images::digest::Digest;
use umiak_images::pack::Scratch;

use super::copy::{Job, write};
use super::stage::Running;
use super::state::State;
use super::tree::{Found, Read, Tree, is, reopen};
use super::{git, remote};

/// What one source gives.
#[derive(Default)]
struct Input {
    found: Vec<(Found, bool)>,
    identity: String,
    /// Holds what was fetched.
    _held: Option<Scratch>,
}

/// ADD.
pub fn add(running: &mut Running<'_>, state: &mut State, add: &Add, instruction: &Instruction) -> Result<()> {
    let title = running.title(instruction);
    let flags = (&add.chown, &add.chmod, add.link);
    let mut job = Job::new(running, state, &add.sources, &add.target, flags)?;
    job.exclude = add.exclude.iter().map(|text| text.raw.clone()).collect();
    let checksum = add.checksum.as_ref().map(|text| running.words(state).one(text)).transpose()?;
    if checksum.is_some() && !job.sources.iter().all(|source| remote::is_url(source) || git::parse(source).is_some()) {
        bail!("checksum can't be specified for local files: it is for HTTP(S) and git sources");
    }
    let inputs: Vec<Input> = job
        .sources
        .iter()
        .map(|source| input(running, &job, add, source, checksum.as_deref()))
        .collect::<Result<_>>()?;
    let below: Vec<Digest> = if job.link { Vec::new() } else { state.layers.clone() };
    let given = inputs.iter().map(|input| input.identity.clone()).collect();
    let key = running.key(&job.step(given, false), &below);
    running.layered(state, &title, &key, |running, _, _| {
        write(running, &below, &[], |root, _| {
            let mut writer = job.writer(running, root, false)?;
            for (found, unpack) in inputs.iter().flat_map(|input| &input.found) {
                if *unpack {
                    writer.directory(&job.target)?;
                    let base = super::tree::clean(&job.target).join("/");
                    let archive = reopen(&found.fd)?;
                    remote::unpack(archive, &root.try_clone_to_owned()?, &base, writer.chown)?;
                } else {
                    writer.copy(found, &job.target, job.into)?;
                }
            }
            job.write_texts(&mut writer)
        })
    })?;
    state.history(job.history("ADD"), true);
    Ok(())
}

fn input(running: &Running<'_>, job: &Job, add: &Add, source: &str, checksum: Option<&str>) -> Result<Input> {
    if let Some(repository) = git::parse(source) {
        return of_git(running, job, add, &repository, checksum);
    }
    if remote::is_url(source) {
        return of_url(running, job, add, source, checksum);
    }
    let tree = running.build.context(running.loaded)?.tree();
    let found = tree.find(source, &job.exclude()?)?;
    let identity = tree.identity(&found)?.to_string();
    let found = found
        .into_iter()
        .map(|found| {
            let unpack = add.unpack.unwrap_or(true) && is_packed(&found)?;
            Ok((found, unpack))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Input { identity: format!("add {:?} {identity}", add.unpack), found, _held: None })
}

/// Whether a file is an archive.
fn is_packed(found: &Found) -> Result<bool> {
    if !is(&found.stat, FileType::RegularFile) {
        return Ok(false);
    }
    let file = File::from(reopen(&found.fd)?);
    is_archive(BufReader::new(file)).with_context(|| format!("read {}", super::tree::shown(&found.name)))
}

fn of_url(running: &Running<'_>, job: &Job, add: &Add, url: &str, checksum: Option<&str>) -> Result<Input> {
    let fetched = running.fetch(url, |building| remote::file(building, url, checksum))?;
    let found = find(&fetched.scratch, &fetched.name, job)?;
    let unpack = match found.first() {
        Some(found) => add.unpack.unwrap_or(false) && is_packed(found)?,
        None => false,
    };
    let identity = format!("url {} {} {unpack}", fetched.name, fetched.digest);
    Ok(Input {
        found: found.into_iter().map(|found| (found, unpack)).collect(),
        identity,
        _held: Some(fetched.scratch),
    })
}

fn of_git(
    running: &Running<'_>,
    job: &Job,
    add: &Add,
    repository: &git::Repository,
    checksum: Option<&str>,
) -> Result<Input> {
    let keep = add.keep_git_dir.unwrap_or(false);
    let (scratch, checkout) = running.fetch(&repository.url, |building| {
        let scratch = building.scratch()?;
        let by = git::NamedBy::Dockerfile { ssh: !running.build.options.ssh.is_empty() };
        let checkout = git::checkout(repository, by, &scratch.upper(), keep, &|_| {})?;
        Ok((scratch, checkout))
    })?;
    if let Some(wanted) = checksum
        && !checkout.commit.starts_with(wanted)
    {
        bail!("expected checksum to match {wanted}, got {}", checkout.commit);
    }
    let directory = repository.directory.clone().unwrap_or_default();
    let found = find(&scratch, &directory, job)?;
    let identity = format!("git {} {directory} {keep}", checkout.commit);
    Ok(Input { found: found.into_iter().map(|found| (found, false)).collect(), identity, _held: Some(scratch) })
}

/// What was fetched, in the directory that it was fetched into.
fn find(scratch: &Scratch, name: &str, job: &Job) -> Result<Vec<Found>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root: OwnedFd = rustix::fs::open(scratch.upper(), flags, Mode::empty())?;
    let tree = Tree { root: root.as_fd(), ignored: None, contents: &Read, owners: false };
    // A server's name for a file is no pattern.
    tree.find_literally(name, &job.exclude()?)
}
