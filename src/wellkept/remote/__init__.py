"""Caches on other machines: a wire of typed messages, its two ends, and what carries it.

What goes over it, and is the same whatever carries it::

    wire      values as bytes: None, bool, int, float, text, bytes, lists, mappings; never a pickle
    fields    the fields of a request, checked
    errors    what a server's trouble is called on the wire, and what it is here
    queries   a `Query` as such values

The server's end::

    desk      one verb after the other, for whoever has the right to it
    hosting   blobs of the place, read and written in parts; those on their way in are staged
    holding   leases of the place, held for clients as long as their hearts beat

The client's end::

    place     what a cache needs of a place, in few round trips
    shelves   its calls, values and notes, each as the store that it is
    locks     its leases, taken with the look that found nothing
    spool     a blob on its way here
    trust     which values from elsewhere may be decoded how

What carries it between two processes::

    frames    messages in a stream of bytes
    stdio     the server's end of such a stream: `wellkept serve --stdio`
    channel   the client's end of one, shared by all threads
    line      the channel that there is, made when it is needed and again when it broke
    ssh       `ssh://…`: a line whose channel is the system's `ssh`

What carries it over http::

    web         the application: who is let in, and what is answered
    asked       a request that was let in, and how one is refused
    webblobs    blobs: ranges of them out, and in once
    parts       answers in parts
    namespaces  the caches that are served, by name
    tokens      who may do what in which of them
    rates       how often somebody may ask
    metrics     what is counted, as Prometheus reads it
    describing  all of it as OpenAPI, and as a page
    listening   the application on a port, with deadlines for clients
    digests     a message that was damaged on its way is told
    requests    the client's end, in the place of a line
    http        `https://…`: a place whose line that is

A transport of another kind needs two things. On the client's side an object in the place of `line`,
which `RemotePlace(line, trusts)` holds:

- `ask(verb, fields, sink=None, *, wait=True)` returns the answer of one request; an answer in parts
  goes to `sink`, part by part. With `wait=False` nobody needs the answer.
- `send(fields, content)` uploads a blob: `fields` has its `name` and `size`.
- `where` names the server in messages, without secrets; `close()` lets go.

On the server's side, a `Desk(cache)` for each cache that is served, and for each request

- `desk.streams(verb)`: then `desk.stream(verb, fields, right)` gives the parts of the answer;
- verb `blob.put`: `blob = desk.upload(fields, owner, right)`, `blob.write(part)` for each part, then
  `blob.finish()` and `desk.host.staged(owner, blob)`, or `blob.drop()` if it broke off;
- any other verb: `desk.answer(verb, fields, owner, right)`;
- `desk.gone(owner)` when a client will not come back, `desk.close()` in the end.

`owner` names a client among all, `right` is `"read"`, `"write"` or `"admin"`. Values go through
`wire.pack` and `wire.unpack`; an exception goes as `errors.told(error)`, and comes as
`errors.raised(said, where)`.
"""
