//! Where a step or a check waits until the test lets it pass.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn shut() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes once it is open.
    pub(crate) fn passed(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut open = self.0.subscribe();
        let sender = Arc::clone(&self.0);
        async move {
            open.wait_for(|open| *open).await.expect("the sender is held");
            drop(sender);
        }
    }
}
