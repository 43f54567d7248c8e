"""Caches on other machines: typed requests, the client and the server, and the transports between them.

- `wire`: the requests of each verb, their answers and errors, as MessagePack; messages in a stream
- `line`: the client's side of any transport, with retries where they are harmless
- `backend`: a cache on a server as a backend of this library
- `lease_requests`: the leases of a server, taken in the same trip as the lookup
- `staging`: blobs in transfer, checked by the receiver; how a server stores what clients send
- `handlers`: what a server does for each request, with access checks, and the leases it holds for clients
- `auth`: tokens, namespaces and rates of a server over http
- `ssh`: `ssh://…`: a process at the other end of a pair of pipes, which `ssh` runs there
- `stdio`: the server's end of those: `wellkept serve --stdio`
- `client`: `https://…`: requests over http
- `server`: the server's end of those: `wellkept serve`

A transport of another kind derives from `Line` on the client's side, and gives `_ask`, `_send` and
`_unheard`. On the server's side it has a `Handlers(cache)` for each cache that is served, and for each
request calls

- `handlers.stream(request, right)` if `request.parts`: the parts of the answer;
- `handlers.upload(request, owner, right)` for a `Send`: `write` for each part, then `finish` and
  `handlers.host.staged(owner, blob)`, or `drop` if it broke off;
- `handlers.answer(request, owner, right)` for any other;
- `handlers.gone(owner)` when a client will not come back, `handlers.close()` in the end.

`owner` names a client among all, `right` is `"read"`, `"write"` or `"admin"`.
"""
