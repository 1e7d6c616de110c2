"""A simulation of the protocol: the product's scripts on a real server, all else in turns.

``python -m tests.simulation 2000`` (``make simulate N=2000``) runs so many schedules of each mode
and then hunts the mutants; ``--mode once --seed 123`` shows one schedule, line by line.

What is real
    Every script, on a Valkey server. ``Mailbox``, ``Aside``, recovery, burial, ``Reconcile``, the
    creation and the end of actors, cancelling: the product's own code. ``Port.steps`` runs it one
    round trip at a time; nothing in it is changed but where it gets its connections and the time.
What is played
    The loops around it: what ``ActorLoop`` and ``DurableLoop`` do (``worker``), what ``Supervisor``
    does (``node``), drivers, callers and who cancels, kills and reads (``clients``). A *role* is a
    generator that yields whatever it waits for. User code is a list of the calls that took effect,
    which durable actors keep with the product's own code (``kept``).
What happens
    ``world`` draws who goes on, from the seed alone, and what goes wrong: a request is lost, and
    may arrive late, when its sender has long asked again; an answer is lost; whoever waits is
    killed; somebody stands still. ``schedule`` draws what there is, lets nodes stall while their
    leases run out, be stopped and replaced, and gives the store back what it had some time before.
What must be true
    ``history`` sees each command, each result and each beginning of a call. Its checks: a call is
    accepted once, in order, without a gap; has exactly one result, which stays; runs once at most
    (``once``), or until it succeeds (``again``); begins behind its caller's earlier calls; never
    begins once it is withdrawn. An actor has one owner per epoch, epochs grow, only the owner's
    words count, and no owner that lives is released. Results are those of a sequential model; a
    durable actor's state is the list of its successes, and what those have sent is accepted once.
    After each commit it is recovered from what the store has, its journal replayed.
    A schedule that does not come to its end has lost a wake-up or an answer. At the end nothing is
    left in the store. ``campaign`` asks besides that enough went wrong, and enough went well.
Mutants
    ``mutants`` has deliberate faults in the scripts. One that no schedule finds means a missing
    check, unless it changes nothing: these were left out. A burial while calls remain: whoever
    buries has just answered all of them, and the dead accept none. A release that does not compare
    the position: what it fetched, began and takes from the line is compared, and no step moves the
    position without one of those, but setting a call aside, which any new owner undoes.

To extend it: a new step of the product is called by the role that takes it, through ``port.steps``;
a new promise is a check in ``history``, with a mutant that breaks it; a new fault belongs to
``Weather``. A mode is a name in ``schedule.MODES`` and what it changes there. A check may look at
everything, a role only at what its process could know.

What it does not prove: a store is rolled back only where no call is set aside, and no recovery is
under way in that moment. Actors whose calls overlap, reminders, functions on shared queues and
placement groups are not played.
"""
