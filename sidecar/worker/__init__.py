"""The worker: takes entries from the queue in the database, asks the sidecar, and writes the answers back.

settings   what it runs with
service    the sidecar, as the worker calls it
answers    from texts to results: equal texts once, a bad text found by halving
breaker    waits together while the service is at fault
lane       one connection going round: claim, read, ask, complete
run        the process: lanes, control messages, signals
cli        the command line

It keeps no state of its own: whatever dies, the database knows what is left to do.
"""
