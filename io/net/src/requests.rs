//! Questions that take their time: HTTP requests to trackers, and names.

use tokio::task::AbortHandle;
use torr_node::{LookUp, TrackerRequest};

use crate::host::Host;
use crate::http::{HttpLimits, Purpose};
use crate::shard::Shard;

impl<H: Host> Shard<H> {
    /// Asks a tracker. How many requests are under way at once, in all and to one host, the client sees to.
    pub(crate) fn start_http(&mut self, request: TrackerRequest, url: String) {
        let (me, http) = (self.me(), self.http.clone());
        let task = self.tasks.spawn_local(async move {
            let reply = http
                .get(&url, Purpose::Tracker, &HttpLimits::default())
                .await;
            let reply = reply.map_err(|error| error.to_string());
            if let Some(shard) = me.upgrade() {
                shard.borrow_mut().turn(|shard, now| {
                    shard.requests.remove(&LookUp::Tracker(request));
                    shard.node.handle_http(now, request, reply);
                });
            }
        });
        self.under_way(LookUp::Tracker(request), task);
    }

    /// Looks a name up; how many look-ups are under way at once, the client sees to.
    pub(crate) fn start_resolve(&mut self, request: LookUp, host: String, port: u16) {
        let (me, http) = (self.me(), self.http.clone());
        let task = self.tasks.spawn_local(async move {
            let addrs = http.resolve(&host, port).await;
            let addrs = addrs.map_err(|error| error.to_string());
            if let Some(shard) = me.upgrade() {
                shard.borrow_mut().turn(|shard, now| {
                    shard.requests.remove(&request);
                    shard.node.handle_resolved(now, request, addrs);
                });
            }
        });
        self.under_way(request, task);
    }

    fn under_way(&mut self, request: LookUp, task: AbortHandle) {
        let before = self.requests.insert(request, task);
        debug_assert!(before.is_none(), "a request was used twice");
    }

    pub(crate) fn cancel(&mut self, request: TrackerRequest) {
        if let Some(task) = self.requests.remove(&LookUp::Tracker(request)) {
            task.abort();
        }
    }
}
