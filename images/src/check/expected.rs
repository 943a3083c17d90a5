//! What a layer's archive makes, worked out in memory: the same rules as
//! [`crate::unpack`], without a file system. An entry costs about 200 bytes;
//! contents are hashed as they pass.

use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;
use std::ops::Bound;

use crate::digest::{Digest, Hasher};
use crate::unpack::{Entry, Kind, Limits, Segment, TarError, TarReader, UnpackError, Unpacked, clean, shown, split};

/// Symlinks that are followed in one name, as in unpacking.
const SYMLINKS: usize = 40;

/// The place of a node in [`Expected`].
pub(super) type Id = usize;

pub(super) const ROOT: Id = 0;

/// The entries of a directory.
type Children = BTreeMap<Box<[u8]>, Id>;

/// One file of the layer.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Made,
    /// Mode, owner and group; `None` for what no entry describes.
    pub(super) meta: Option<Meta>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Made {
    Directory { children: Children, opaque: bool },
    File { size: u64, content: Digest, map: Option<Box<[Segment]>> },
    Symlink(Box<[u8]>),
    Device { character: bool, major: u32, minor: u32 },
    Fifo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A directory's entry: it counts when all is in it, as in unpacking.
struct Announced {
    meta: Meta,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A layer's tree.
#[derive(Default)]
pub(super) struct Expected {
    nodes: Vec<Node>,
    announced: BTreeMap<Vec<u8>, Announced>,
}

/// Where a name leads in the tree.
enum Found {
    Directory(Id),
    Nothing,
}

impl Expected {
    /// Reads a whole archive, up to its end mark.
    pub(super) fn read<R: BufRead>(stream: R, limits: &Limits) -> Result<(Self, Unpacked), UnpackError> {
        let mut tree = Self::default();
        tree.add(Node::directory());
        let mut reader = TarReader::new(stream, limits);
        let mut done = Unpacked::default();
        while let Some(entry) = reader.next_entry()? {
            done.entries += 1;
            done.bytes += tree.apply(entry, &mut reader, limits)?;
        }
        tree.finish();
        Ok((tree, done))
    }

    pub(super) fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id)
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn children(&mut self, id: Id) -> Option<(&mut Children, &mut bool)> {
        match &mut self.nodes.get_mut(id)?.kind {
            Made::Directory { children, opaque } => Some((children, opaque)),
            _ => None,
        }
    }

    fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        match &self.node(dir)?.kind {
            Made::Directory { children, .. } => children.get(name).copied(),
            _ => None,
        }
    }

    fn is_directory(&self, id: Id) -> bool {
        self.node(id).is_some_and(|node| matches!(node.kind, Made::Directory { .. }))
    }

    fn is_whiteout(&self, id: Id) -> bool {
        self.node(id).is_some_and(|node| node.kind.is_whiteout())
    }

    fn put(&mut self, dir: Id, name: &[u8], id: Id) {
        if let Some((children, _)) = self.children(dir) {
            children.insert(name.into(), id);
        }
    }

    fn set_opaque(&mut self, dir: Id) {
        if let Some((_, opaque)) = self.children(dir) {
            *opaque = true;
        }
    }

    /// One entry; how many bytes of content it has.
    fn apply<R: BufRead>(
        &mut self,
        entry: Entry,
        data: &mut TarReader<'_, R>,
        limits: &Limits,
    ) -> Result<u64, UnpackError> {
        let path = clean(&entry.path, limits)?;
        let meta = Meta { mode: entry.mode, uid: entry.uid, gid: entry.gid };
        if path.is_empty() {
            self.announced.insert(path, Announced { meta, xattrs: entry.xattrs });
            return Ok(0);
        }
        let (parent, name) = split(&path);
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            self.whiteout(parent, hidden)?;
            return Ok(0);
        }
        let dir = self.make(parent)?;
        let mut stored = 0;
        let kind = match entry.kind {
            Kind::File { sparse } => {
                stored = data.stored();
                Made::File { size: entry.size, content: hash(data)?, map: sparse.map(Into::into) }
            }
            Kind::Directory => {
                self.directory(dir, &path);
                self.announced.insert(path, Announced { meta, xattrs: entry.xattrs });
                return Ok(0);
            }
            Kind::Symlink(target) => Made::Symlink(target.into()),
            Kind::Hardlink(target) => {
                self.hardlink(dir, &path, &clean(&target, limits)?)?;
                return Ok(0);
            }
            Kind::Char { major, minor } => Made::Device { character: true, major, minor },
            Kind::Block { major, minor } => Made::Device { character: false, major, minor },
            Kind::Fifo => Made::Fifo,
        };
        self.clear(dir, &path);
        let id = self.add(Node { kind, meta: Some(meta), xattrs: entry.xattrs });
        self.put(dir, split(&path).1, id);
        Ok(stored)
    }

    fn directory(&mut self, dir: Id, path: &[u8]) {
        let name = split(path).1;
        let there = self.child(dir, name);
        if there.is_some_and(|id| self.is_directory(id)) {
            return;
        }
        let hidden = there.is_some_and(|id| self.is_whiteout(id));
        self.clear(dir, path);
        let id = self.add(Node::directory());
        self.put(dir, name, id);
        if hidden {
            self.set_opaque(id);
        }
    }

    fn hardlink(&mut self, dir: Id, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let missing = || UnpackError::Hardlink { path: shown(path), target: shown(target) };
        let (parent, name) = split(target);
        let Found::Directory(from) = self.find(parent)? else { return Err(missing()) };
        let there = self.child(from, name).filter(|id| !self.is_whiteout(*id)).ok_or_else(missing)?;
        if self.child(dir, split(path).1) == Some(there) {
            return Ok(());
        }
        self.clear(dir, path);
        self.put(dir, split(path).1, there);
        Ok(())
    }

    fn whiteout(&mut self, parent: &[u8], hidden: &[u8]) -> Result<(), UnpackError> {
        if hidden == b".wh..opq" {
            let dir = self.make(parent)?;
            self.set_opaque(dir);
            return Ok(());
        }
        if hidden.starts_with(b".wh.") {
            return Ok(());
        }
        let dir = self.make(parent)?;
        match self.child(dir, hidden) {
            Some(there) => self.set_opaque(there),
            None => {
                let kind = Made::Device { character: true, major: 0, minor: 0 };
                let id = self.add(Node { kind, meta: None, xattrs: Vec::new() });
                self.put(dir, hidden, id);
            }
        }
        Ok(())
    }

    /// Removes what has the name, with all that is in it.
    fn clear(&mut self, dir: Id, path: &[u8]) {
        let removed = self.children(dir).and_then(|(children, _)| children.remove(split(path).1));
        if removed.is_none() {
            return;
        }
        // Other names may lead to the nodes: they stay until the whole tree goes.
        self.announced.remove(path);
        let (below, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        let range = (Bound::Included(below), Bound::Excluded(end));
        let gone: Vec<Vec<u8>> = self.announced.range(range).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.announced.remove(&name);
        }
    }

    /// The directory of a clean name, which must be there.
    fn find(&mut self, name: &[u8]) -> Result<Found, UnpackError> {
        self.walk(name, false)
    }

    /// The directory of a clean name; what is missing of it is made.
    fn make(&mut self, name: &[u8]) -> Result<Id, UnpackError> {
        match self.walk(name, true)? {
            Found::Directory(id) => Ok(id),
            Found::Nothing => Err(UnpackError::Parent { path: shown(name) }),
        }
    }

    fn walk(&mut self, name: &[u8], make: bool) -> Result<Found, UnpackError> {
        let mut left: VecDeque<Vec<u8>> = components(name).collect();
        let mut way: Vec<Id> = Vec::new();
        let mut symlinks = 0;
        while let Some(component) = left.pop_front() {
            if component == b".." {
                way.pop();
                continue;
            }
            let here = way.last().copied().unwrap_or(ROOT);
            match self.child(here, &component).map(|id| (id, self.node(id).map(|node| &node.kind))) {
                Some((id, Some(Made::Directory { .. }))) => way.push(id),
                Some((_, Some(Made::Symlink(target)))) => {
                    symlinks += 1;
                    if symlinks > SYMLINKS {
                        return Err(UnpackError::Loop { path: shown(name) });
                    }
                    let target = target.clone();
                    if target.starts_with(b"/") {
                        way.clear();
                    }
                    components(&target).rev().for_each(|component| left.push_front(component));
                }
                Some(_) => return Err(UnpackError::Parent { path: shown(name) }),
                None if make => {
                    let id = self.add(Node::directory());
                    self.put(here, &component, id);
                    way.push(id);
                }
                None => return Ok(Found::Nothing),
            }
        }
        Ok(Found::Directory(way.pop().unwrap_or(ROOT)))
    }

    /// Gives the directories what they were announced with.
    fn finish(&mut self) {
        for (path, announced) in std::mem::take(&mut self.announced).into_iter().rev() {
            let (parent, name) = split(&path);
            let Ok(Found::Directory(dir)) = self.find(parent) else { continue };
            let id = if name.is_empty() { Some(dir) } else { self.child(dir, name) };
            let Some(id) = id.filter(|id| self.is_directory(*id)) else { continue };
            if let Some(node) = self.nodes.get_mut(id) {
                (node.meta, node.xattrs) = (Some(announced.meta), announced.xattrs);
            }
        }
    }
}

impl Node {
    fn directory() -> Self {
        Self { kind: Made::Directory { children: BTreeMap::new(), opaque: false }, meta: None, xattrs: Vec::new() }
    }
}

impl Made {
    pub(super) fn is_whiteout(&self) -> bool {
        matches!(self, Self::Device { character: true, major: 0, minor: 0 })
    }
}

/// The rest of the current entry's data, of a sparse file without its holes.
fn hash<R: BufRead>(data: &mut TarReader<'_, R>) -> Result<Digest, UnpackError> {
    let mut hasher = Hasher::new();
    data.copy(data.stored(), |bytes| {
        hasher.update(bytes);
        Ok::<_, TarError>(())
    })?;
    Ok(hasher.finish())
}

fn components(name: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}
