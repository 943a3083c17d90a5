//! Numbered places for things under way, with a generation each, so that an
//! event for something already gone never hits what took its place.

/// A place, and which of its holders is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) place: u16,
    pub(super) generation: u32,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// Beyond this many places, the memory is given back when the last thing is gone.
const KEPT: usize = 32;

/// At most `limit` things.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u16>,
    /// Of the next thing: counted over all places, so that places may be forgotten.
    generation: u32,
    limit: u16,
}

impl<T> Slab<T> {
    pub(super) const fn new(limit: u16) -> Self {
        Self { places: Vec::new(), free: Vec::new(), generation: 0, limit }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.limit.into()
    }

    /// Puts a thing into a free place; `None` when there is none.
    pub(super) fn insert(&mut self, value: T) -> Option<Key> {
        if self.is_full() {
            return None;
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u16::try_from(self.places.len()).ok()?;
                self.places.push(Place { generation: 0, value: None });
                place
            }
        };
        let slot = self.places.get_mut(usize::from(place))?;
        *slot = Place { generation: self.generation, value: Some(value) };
        self.generation = self.generation.wrapping_add(1);
        Some(Key { place, generation: slot.generation })
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.places.get_mut(usize::from(key.place))?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.places.get_mut(usize::from(key.place)).filter(|slot| slot.generation == key.generation)?;
        let value = slot.value.take()?;
        self.free.push(key.place);
        if self.len() == 0 && self.places.len() > KEPT {
            self.places = Vec::new();
            self.free = Vec::new();
        }
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places
            .iter()
            .zip(0_u16..)
            .filter_map(|(slot, place)| Some((Key { place, generation: slot.generation }, slot.value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_no_memory_behind() {
        let mut slab = Slab::new(1000);
        let keys: Vec<_> = (0..1000).map(|n| slab.insert(n).unwrap()).collect();
        for &key in &keys {
            slab.remove(key).unwrap();
        }
        assert_eq!(slab.places.capacity() + slab.free.capacity(), 0);
        let next = slab.insert(7).unwrap();
        assert!(keys.iter().all(|&key| key != next && slab.get_mut(key).is_none()));
    }

    #[test]
    fn a_key_never_reaches_the_next_holder() {
        let mut slab = Slab::new(2);
        let a = slab.insert('a').unwrap();
        let b = slab.insert('b').unwrap();
        assert!(slab.is_full() && slab.insert('c').is_none());
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        let c = slab.insert('c').unwrap();
        assert_eq!((c.place, slab.len()), (a.place, 2));
        assert_eq!(slab.get_mut(a), None);
        assert_eq!(slab.iter().map(|(key, value)| (key, *value)).collect::<Vec<_>>(), [(c, 'c'), (b, 'b')]);
    }
}
