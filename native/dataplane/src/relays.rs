//! The threads that carry what TCP connections say, and take new ones: each waits for the sockets that were given to it
//! and moves what has come.
//!
//! They are no tasks of a runtime, since between the kernel's word that a socket is ready and the receiving there is
//! nothing to be scheduled: to wake a task, to have it look for what it was woken for and to note whom to wake next
//! would cost as many instructions as all the rest. What is rare (waiting for a destination, trying another one) is done
//! by the runtime's tasks.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use slab::Slab;
use socket2::Socket;
use tokio::sync::oneshot;

use crate::connecting::keep_alive;
use crate::pump::{Carries, End, Outcome, Pump, Turn, reset};

#[cfg(test)]
mod tests;

/// Told of in one call.
const MOST_EVENTS: usize = 256;
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Who takes what comes to a listening socket.
pub(crate) trait Door: Send + Sync {
    fn socket(&self) -> &Socket;

    /// Take one connection if there is one.
    fn take_one(&self, place: Place);
}

/// Where something is among `Relays`; nobody has the same place later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    of: usize,
    key: u32,
    /// Of 31 bits.
    generation: u32,
}

impl Place {
    /// What epoll is to say of one of its sockets.
    fn token(self, server: bool) -> EventData {
        let word = u64::from(self.generation) << 33 | u64::from(self.key) << 1 | u64::from(server);
        EventData::new_u64(word)
    }

    fn of_token(of: usize, token: u64) -> (Self, bool) {
        let (key, generation) = ((token >> 1) as u32, (token >> 33) as u32);
        (Self { of, key, generation }, token & 1 == 1)
    }
}

/// An open connection.
struct Relay {
    client: End,
    server: End,
    pump: Pump,
    of: Box<dyn Carries>,
}

impl Relay {
    fn ended(self, outcome: Outcome) {
        self.of.ended(self.client.socket, self.server.socket, self.pump, outcome);
    }
}

enum Entry {
    Relay(Box<Relay>),
    Door(Arc<dyn Door>),
}

/// One thread's. Events of an entry that has gone are not for the one that has its key now.
#[derive(Default)]
struct Entries {
    all: Slab<(u32, Entry)>,
    last_generation: u32,
}

impl Entries {
    fn put(&mut self, of: usize, entry: Entry) -> Place {
        self.last_generation = (self.last_generation + 1) & (u32::MAX >> 1);
        let generation = self.last_generation;
        let key = self.all.insert((generation, entry)) as u32;
        Place { of, key, generation }
    }

    fn get(&mut self, place: Place) -> Option<&mut Entry> {
        let (generation, entry) = self.all.get_mut(place.key as usize)?;
        (*generation == place.generation).then_some(entry)
    }

    fn remove(&mut self, place: Place) -> Option<Entry> {
        self.get(place)?;
        Some(self.all.remove(place.key as usize).1)
    }
}

struct Carrying {
    number: usize,
    epoll: OwnedFd,
    entries: Mutex<Entries>,
}

/// They last as long as the process.
pub struct Relays {
    threads: Vec<Arc<Carrying>>,
    next: AtomicUsize,
}

impl std::fmt::Debug for Relays {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Relays").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Relays {
    /// Errors: what epoll_create(2) and clone(2) say.
    pub fn start(threads: usize) -> io::Result<Arc<Self>> {
        let mut started = Vec::with_capacity(threads);
        for number in 0..threads {
            let carrying = Arc::new(Carrying::new(number)?);
            let own = Arc::clone(&carrying);
            let name = "kubecore-relay".into();
            std::thread::Builder::new().name(name).spawn(move || own.run())?;
            started.push(carrying);
        }
        Ok(Arc::new(Self { threads: started, next: AtomicUsize::new(0) }))
    }

    /// Carry what both sockets say. None: the kernel does not take them; both are reset.
    pub(crate) fn add(
        &self,
        client: Socket,
        server: Socket,
        pump: Pump,
        of: Box<dyn Carries>,
    ) -> Option<Place> {
        let thread = self.next();
        // That there is room is told at once, and has what is under way go on.
        let goes_on = pump.is_under_way();
        let (client, server) = (End::new(client, goes_on), End::new(server, goes_on));
        let relay = Box::new(Relay { client, server, pump, of });
        let mut entries = thread.entries.lock();
        let place = entries.put(thread.number, Entry::Relay(relay));
        let Some(Entry::Relay(relay)) = entries.get(place) else { return None };
        let flags = interest(goes_on);
        let added = epoll::add(&thread.epoll, &relay.client.socket, place.token(false), flags)
            .and_then(|()| epoll::add(&thread.epoll, &relay.server.socket, place.token(true), flags));
        if added.is_err() {
            reset(&relay.client.socket);
            reset(&relay.server.socket);
            let removed = entries.remove(place);
            drop(entries);
            drop(removed);
            return None;
        }
        Some(place)
    }

    /// As `add`, where there is no other server and nothing else to be told: until both sides have finished or one fails,
    /// or what is returned is dropped.
    pub(crate) async fn relay(self: &Arc<Self>, client: Socket, server: Socket) {
        let (over, ended) = oneshot::channel();
        let place = self.add(client, server, Pump::settled(), Box::new(Told { _over: over }));
        let _held = place.map(|place| Held { relays: Arc::clone(self), place });
        let _ = ended.await;
    }

    /// Have `door` let in who comes to its socket, which listens. Errors: what epoll_ctl(2) says.
    pub(crate) fn open(&self, door: Arc<dyn Door>) -> io::Result<Place> {
        let thread = self.next();
        let mut entries = thread.entries.lock();
        let place = entries.put(thread.number, Entry::Door(Arc::clone(&door)));
        let added = epoll::add(&thread.epoll, door.socket(), place.token(false), EventFlags::IN);
        if let Err(error) = added {
            entries.remove(place);
            return Err(error.into());
        }
        Ok(place)
    }

    /// Whether anybody is let in by a door for the time being.
    pub(crate) fn set_open(&self, place: Place, open: bool) {
        let thread = &self.threads[place.of];
        if let Some(Entry::Door(door)) = thread.entries.lock().get(place) {
            let flags = if open { EventFlags::IN } else { EventFlags::empty() };
            let _ = epoll::modify(&thread.epoll, door.socket(), place.token(false), flags);
        }
    }

    /// There is no other server any more: the connection stays where it is, and its server is asked for signs of life.
    pub(crate) fn settle(&self, place: Place) {
        if let Some(Entry::Relay(relay)) = self.threads[place.of].entries.lock().get(place) {
            relay.pump.settle();
            keep_alive(&relay.server.socket);
        }
    }

    /// A connection's sockets are closed, a door's is not listened to any more.
    pub(crate) fn remove(&self, place: Place) {
        let thread = &self.threads[place.of];
        let removed = thread.entries.lock().remove(place);
        if let Some(Entry::Door(door)) = &removed {
            let _ = epoll::delete(&thread.epoll, door.socket());
        }
    }

    fn next(&self) -> &Carrying {
        &self.threads[self.next.fetch_add(1, Relaxed) % self.threads.len()]
    }
}

fn interest(room: bool) -> EventFlags {
    let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
    if room { flags | EventFlags::OUT } else { flags }
}

impl Carrying {
    fn new(number: usize) -> io::Result<Self> {
        Ok(Self { number, epoll: epoll::create(CreateFlags::CLOEXEC)?, entries: Mutex::default() })
    }

    fn run(&self) {
        let mut goes_on = Vec::new();
        loop {
            self.round(&mut goes_on, None);
        }
    }

    /// Have a turn of all that go on and of all that are ready, one of which is waited for where there are none. False:
    /// there was none for so long.
    fn round(&self, goes_on: &mut Vec<Place>, longest: Option<&Timespec>) -> bool {
        let mut events = [MaybeUninit::<Event>::uninit(); MOST_EVENTS];
        let timeout = if goes_on.is_empty() { longest } else { Some(&AT_ONCE) };
        let Ok((ready, _)) = epoll::wait(&self.epoll, &mut events[..], timeout) else { return true };
        let going_on = std::mem::take(goes_on);
        let found = !(going_on.is_empty() && ready.is_empty());
        for place in going_on {
            self.guarded_turn(place, goes_on, |_, _| {});
        }
        for event in ready {
            let (place, of_server) = Place::of_token(self.number, event.data.u64());
            let flags = event.flags;
            self.guarded_turn(place, goes_on, |client, server| {
                if of_server { server.is_ready(flags) } else { client.is_ready(flags) }
            });
        }
        found
    }

    /// What goes wrong with one connection is not to be the end of all others.
    fn guarded_turn(&self, place: Place, goes_on: &mut Vec<Place>, note: impl FnOnce(&mut End, &mut End)) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.turn(place, goes_on, note)));
    }

    fn turn(&self, place: Place, goes_on: &mut Vec<Place>, note: impl FnOnce(&mut End, &mut End)) {
        let mut entries = self.entries.lock();
        match entries.get(place) {
            None => {}
            Some(Entry::Door(door)) => {
                let door = Arc::clone(door);
                drop(entries);
                door.take_one(place);
            }
            Some(Entry::Relay(relay)) => {
                let Relay { client, server, pump, of } = &mut **relay;
                note(client, server);
                match pump.turn(client, server, &**of) {
                    Turn::Ended(outcome) => {
                        let removed = entries.remove(place);
                        drop(entries);
                        if let Some(Entry::Relay(relay)) = removed {
                            self.end(*relay, outcome);
                        }
                    }
                    turn => {
                        if turn == Turn::GoesOn {
                            goes_on.push(place);
                        }
                        self.await_room(client, place.token(false));
                        self.await_room(server, place.token(true));
                    }
                }
            }
        }
    }

    fn end(&self, relay: Relay, outcome: Outcome) {
        if outcome != Outcome::Over {
            // They live on.
            let _ = epoll::delete(&self.epoll, &relay.client.socket);
            let _ = epoll::delete(&self.epoll, &relay.server.socket);
        }
        relay.ended(outcome);
    }

    /// Few sockets are ever full: only they are asked about. One that has room by now is told of at once.
    fn await_room(&self, end: &mut End, token: EventData) {
        if end.begins_to_wait_for_room() {
            let _ = epoll::modify(&self.epoll, &end.socket, token, interest(true));
        }
    }
}

/// Whoever waits hears of the end when this is dropped.
struct Told {
    _over: oneshot::Sender<()>,
}

impl Carries for Told {
    fn passed(&self, _: u64, _: u64) {}

    fn enter(&self, _: kubecore_core::balance::State) {}

    fn introduced(&self) -> u64 {
        0
    }

    fn ended(self: Box<Self>, _: Socket, _: Socket, _: Pump, _: Outcome) {}
}

/// Removed when this is dropped.
struct Held {
    relays: Arc<Relays>,
    place: Place,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.relays.remove(self.place);
    }
}
