"""The only door for consumers of the API: transport, client, reflector, informers, work queue, events."""
