//! The thread on which all network work runs, and the way to call into it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

use super::RegistryError;

type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// A thread with a current-thread runtime. Dropping it ends all work on it.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Option<UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (jobs, queue) = unbounded_channel();
        let thread = std::thread::Builder::new().name("registry".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, run(queue));
            // A name lookup that hangs must not hold the program up.
            runtime.shutdown_background();
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Starts `work` on the thread. The answer comes through whatever it captures.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), RegistryError> {
        let job: Job = Box::new(move || Box::pin(work()));
        let jobs = self.jobs.as_ref().ok_or(RegistryError::ThreadEnded)?;
        jobs.send(job).map_err(|_| RegistryError::ThreadEnded)
    }

    /// Runs `work` on the thread and waits for its answer.
    pub(super) fn call<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, RegistryError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.spawn(move || async move {
            // The caller waits below; it cannot have gone.
            drop(sender.send(work().await));
        })?;
        receiver.recv().map_err(|_| RegistryError::ThreadEnded)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on stderr; there is nothing to add.
            drop(thread.join());
        }
    }
}

async fn run(mut queue: UnboundedReceiver<Job>) {
    while let Some(job) = queue.recv().await {
        spawn_local(job());
    }
}
